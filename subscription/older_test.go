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

// A server before 3.9.4 does not know IdentifyClient, and has 2147483647 where later ones have the largest 64-bit number.
func TestHardDeletesOfAnOlderServer(t *testing.T) {
	tests := map[string]func(p *scripted.Peer, id messages.ID){
		"before": func(p *scripted.Peer, id messages.ID) {
			p.SendRequest(id, messages.Of(messages.SubscriptionConfirmation, &pb.SubscriptionConfirmation{
				LastCommitPosition: proto.Int64(1), LastEventNumber: proto.Int64(messages.DeletedNumber32),
			}))
		},
		"while followed": func(p *scripted.Peer, id messages.ID) {
			p.SendRequest(id, messages.Of(messages.SubscriptionConfirmation, &pb.SubscriptionConfirmation{
				LastCommitPosition: proto.Int64(1), LastEventNumber: proto.Int64(4),
			}))
			nothing := messages.StreamPage{Next: 5, Last: 4, EndOfStream: true}
			p.SendRequest(p.Want(messages.ReadStreamEventsForward).ID, messages.Raw(messages.ReadStreamEventsForwardCompleted, nothing.AppendTo(nil)))
			tombstone := messages.EventRecord{Stream: "s", Number: messages.DeletedNumber32, Type: "$streamDeleted"}
			p.SendRequest(id, messages.Raw(messages.StreamEventAppeared, messages.AppendAppeared(nil, tombstone.AppendTo(nil), nil, 2, 2)))
		},
	}
	for name, deleted := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				network := scripted.Listen(t, func(p *scripted.Peer) {
					p.Send(messages.BadRequest, p.Want(messages.IdentifyClient).ID, "Could not unwrap network package for command 245.\n")
					deleted(p, p.Want(messages.SubscribeToStream).ID)
					scripted.Drain(p)
				})
				c, err := eventstore.Connect(t.Context(), "tcp://"+scripted.Addr, eventstore.WithDialer(network.Dial))
				require.NoError(t, err)
				defer func() { require.NoError(t, c.Close()) }()
				s, err := subscription.Open(t.Context(), c, subscription.Config{Stream: "s", From: eventstore.After(4)})
				if err == nil {
					_, err = s.Recv(t.Context())
				}
				require.ErrorIs(t, err, eventstore.ErrStreamDeleted)
			})
		})
	}
}
