package subscription_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

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

// A page of everything that ends before what was confirmed is looked at once more: it may be of another node, which has not come as
// far. Had it gone on to what is pushed at once, event 5 would have been lost. Behind an empty transaction the page stays what it is.
func TestAPageOfANodeThatIsBehind(t *testing.T) {
	record := messages.EventRecord{Stream: "s", Number: 5, Type: "t"}
	behind := messages.AllPage{NextCommit: 100}
	there := messages.AllPage{NextCommit: 201}
	event := messages.AppendResolved(nil, 3, record.AppendTo(nil), nil, 200, 200)
	for name, late := range map[string]bool{"another node": true, "an empty transaction": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				network := scripted.Listen(t, scripted.Identified(func(p *scripted.Peer) {
					p.SendRequest(p.Want(messages.SubscribeToStream).ID, messages.Of(messages.SubscriptionConfirmation, &pb.SubscriptionConfirmation{
						LastCommitPosition: proto.Int64(200),
					}))
					for pages := 0; ; {
						f, err := p.Reader.Next()
						switch {
						case err != nil:
							return
						case f.Command == messages.HeartbeatRequest:
							p.Send(messages.HeartbeatResponse, f.ID, "")
						case f.Command == messages.ReadAllEventsForward:
							body := behind.AppendTo(behind.AppendHead(nil))
							if pages++; late && pages == 2 {
								body = there.AppendTo(append(there.AppendHead(nil), event...))
							} else if pages > 2 {
								body = there.AppendTo(there.AppendHead(nil))
							}
							p.SendRequest(f.ID, messages.Raw(messages.ReadAllEventsForwardCompleted, body))
						}
					}
				}))
				c, err := eventstore.Connect(t.Context(), "tcp://"+scripted.Addr, eventstore.WithDialer(network.Dial))
				require.NoError(t, err)
				defer func() { require.NoError(t, c.Close()) }()
				var told notices
				s, err := subscription.Open(t.Context(), c, subscription.Config{
					Stream: eventstore.All, From: eventstore.AfterPosition(eventstore.Position{Commit: 100, Prepare: 100}), OnNotice: told.add,
				})
				require.NoError(t, err)
				defer func() { require.NoError(t, s.Close()) }()
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				e, err := s.Recv(ctx)
				if late {
					require.NoError(t, err)
					require.EqualValues(t, 5, e.Event.Number)
				} else {
					require.ErrorIs(t, err, context.DeadlineExceeded)
					require.Equal(t, notices{"CaughtUp"}, told)
				}
			})
		})
	}
}
