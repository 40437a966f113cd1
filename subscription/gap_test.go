package subscription_test

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/scripted"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
	"github.com/goeventstore/eventstore/subscription"
)

// What a real 4.1.4 does between a commit and what is seen of it. Each sequence once lost event 5.
func TestNoEventFallsBetweenConfirmationAndPush(t *testing.T) {
	record := messages.EventRecord{Stream: "s", Number: 5, Type: "t"}
	last := messages.StreamPage{Next: 6, Last: 5, EndOfStream: true}
	page := last.AppendTo(messages.AppendIndexed(nil, 1, record.AppendTo(nil), nil))
	hidden := messages.StreamPage{Result: messages.ReadStreamNoStream, Next: -1, Last: 5, EndOfStream: true}
	tests := map[string]struct {
		confirmed int64
		pages     [][]byte
	}{
		// The server takes the last number first and the log position second, and pushes only what is behind the position:
		// an event committed in between is neither confirmed nor pushed.
		"committed while it was confirmed": {4, [][]byte{page}},
		// The event that undeletes a stream is committed before the metadata that lifts the soft delete.
		"undeleting the stream": {5, [][]byte{hidden.AppendTo(nil), page}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				network := scripted.Listen(t, scripted.Identified(func(p *scripted.Peer) {
					p.SendRequest(p.Want(messages.SubscribeToStream).ID, messages.Of(messages.SubscriptionConfirmation, &pb.SubscriptionConfirmation{
						LastCommitPosition: proto.Int64(100), LastEventNumber: &tt.confirmed,
					}))
					for _, page := range tt.pages {
						p.SendRequest(p.Want(messages.ReadStreamEventsForward).ID, messages.Raw(messages.ReadStreamEventsForwardCompleted, page))
					}
					scripted.Drain(p)
				}))
				c, err := eventstore.Connect(t.Context(), "tcp://"+scripted.Addr, eventstore.WithDialer(network.Dial))
				require.NoError(t, err)
				defer func() { require.NoError(t, c.Close()) }()
				s, err := subscription.Open(t.Context(), c, subscription.Config{Stream: "s", From: eventstore.After(4)})
				require.NoError(t, err)
				defer func() { require.NoError(t, s.Close()) }()
				e, err := s.Recv(t.Context())
				require.NoError(t, err)
				require.EqualValues(t, 5, e.Event.Number)
			})
		})
	}
}
