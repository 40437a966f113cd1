package eventstore_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/memnet"
	"github.com/goeventstore/eventstore/internal/scripted"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
	"github.com/goeventstore/eventstore/persistent"
	"github.com/goeventstore/eventstore/subscription"
)

// openers are who opens exchanges, until ctx ends.
var openers = map[string]func(ctx context.Context, c *eventstore.Client) error{
	"an exchange": func(ctx context.Context, c *eventstore.Client) error {
		for {
			x, err := c.Open(ctx, subscribe, window)
			for err == nil {
				_, err = x.Recv(ctx)
			}
			if x == nil || !errors.Is(err, eventstore.ErrConnectionLost) {
				return err
			}
		}
	},
	"a subscription": func(ctx context.Context, c *eventstore.Client) error {
		s, err := subscription.Open(ctx, c, subscription.Config{Stream: "s"})
		if err == nil {
			_, err = s.Recv(ctx)
		}
		return err
	},
	"a member": func(ctx context.Context, c *eventstore.Client) error {
		g, err := persistent.Join(ctx, c, persistent.Config{Stream: "s", Group: "g"})
		if err == nil {
			_, err = g.Recv(ctx)
			_ = g.Close()
		}
		return err
	},
}

// opening plays a server with an empty stream, and has opened answer who opens an exchange; with false the connection ends.
func opening(p *scripted.Peer, opened func(f messages.Frame) bool) {
	alive(p, func(f messages.Frame) bool {
		switch f.Command {
		case messages.SubscribeToStream, messages.ConnectToPersistentSubscription:
			return opened(f)
		case messages.ReadStreamEventsForward:
			p.SendRequest(f.ID, messages.Of(messages.ReadStreamEventsForwardCompleted, &pb.ReadStreamEventsCompleted{
				Result: pb.ReadStreamEventsCompleted_NoStream.Enum(), NextEventNumber: proto.Int64(-1), LastEventNumber: proto.Int64(-1),
				IsEndOfStream: proto.Bool(true), LastCommitPosition: proto.Int64(0),
			}))
		case messages.Ping:
			p.Send(messages.Pong, f.ID, "")
		}
		return true
	})
}

// confirmed is the answer that opens an exchange.
func confirmed(p *scripted.Peer, f messages.Frame) {
	if f.Command == messages.SubscribeToStream {
		p.SendRequest(f.ID, messages.Of(messages.SubscriptionConfirmation, &pb.SubscriptionConfirmation{
			LastCommitPosition: proto.Int64(0), LastEventNumber: proto.Int64(-1),
		}))
		return
	}
	p.SendRequest(f.ID, messages.Of(messages.PersistentSubscriptionConfirmation, &pb.PersistentSubscriptionConfirmation{
		LastCommitPosition: proto.Int64(0), SubscriptionId: proto.String("s::g"),
	}))
}

// Whatever a server does to who opens an exchange, for ever, it is asked again no faster than the backoff, and no less: a pause that
// ends with the connection does not make a loop.
func TestOpeningIsNoHotLoop(t *testing.T) {
	refused := func(p *scripted.Peer, id messages.ID, reason pb.NotHandled_NotHandledReason) {
		var info []byte
		if reason == pb.NotHandled_NotLeader { // each names the other
			to := map[string]string{scripted.Addr: "second", "second:1113": "server"}[p.Conn.LocalAddr().String()]
			info, _ = proto.Marshal(&pb.LeaderInfo{ExternalTcpAddress: &to, ExternalTcpPort: proto.Int32(1113), HttpAddress: &to, HttpPort: proto.Int32(2113)})
		}
		p.SendRequest(id, messages.Of(messages.NotHandled, &pb.NotHandled{Reason: &reason, AdditionalInfo: info}))
	}
	for name, opened := range map[string]func(p *scripted.Peer, f messages.Frame) (stays bool){
		"not ready":             func(p *scripted.Peer, f messages.Frame) bool { refused(p, f.ID, pb.NotHandled_NotReady); return true },
		"too busy":              func(p *scripted.Peer, f messages.Frame) bool { refused(p, f.ID, pb.NotHandled_TooBusy); return true },
		"not the leader":        func(p *scripted.Peer, f messages.Frame) bool { refused(p, f.ID, pb.NotHandled_NotLeader); return true },
		"lost":                  func(*scripted.Peer, messages.Frame) bool { return false },
		"not ready, and lost":   func(p *scripted.Peer, f messages.Frame) bool { refused(p, f.ID, pb.NotHandled_NotReady); return false },
		"not leading, and lost": func(p *scripted.Peer, f messages.Frame) bool { refused(p, f.ID, pb.NotHandled_NotLeader); return false },
		"confirmed, and lost":   func(p *scripted.Peer, f messages.Frame) bool { confirmed(p, f); return false },
		"dropped, but for the first": func(p *scripted.Peer, f messages.Frame) bool {
			if p.Number == 1 {
				confirmed(p, f)
				return false
			}
			p.Send(messages.SubscriptionDropped, f.ID, "")
			return true
		},
		"confirmed, and dropped": func(p *scripted.Peer, f messages.Frame) bool {
			confirmed(p, f)
			p.Send(messages.SubscriptionDropped, f.ID, "")
			return true
		},
	} {
		for who, open := range openers {
			t.Run(who+", "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var opens, dials [2]int
					network := memnet.New()
					for i, addr := range []string{scripted.Addr, "second:1113"} {
						scripted.ListenOn(t, network, addr, scripted.Identified(func(p *scripted.Peer) {
							dials[i]++
							opening(p, func(f messages.Frame) bool {
								if opens[i]++; opens[i] > 200 {
									return true // or a loop would leave virtual time no moment to go on
								}
								return opened(p, f)
							})
						}))
					}
					c, err := eventstore.Connect(t.Context(), "tcp://"+scripted.Addr, eventstore.WithDialer(network.Dial),
						eventstore.WithBackoff(func() backoff.BackOff { return backoff.NewConstantBackOff(time.Second) }))
					require.NoError(t, err)
					defer func() { require.NoError(t, c.Close()) }()
					ctx, cancel := context.WithTimeout(t.Context(), 119500*time.Millisecond)
					defer cancel()
					require.ErrorIs(t, open(ctx, c), context.DeadlineExceeded)
					t.Logf("%d times, over %d connections", opens, dials)
					for i := range opens {
						require.LessOrEqual(t, opens[i], 120)
					}
				})
			})
		}
	}
}

// A quiet stream's subscriptions and members are dropped now and then, as with each change of the leader: their waits do not add up over
// the days. They once began anew with an event only.
func TestWhoIsSeldomDroppedIsSoonBack(t *testing.T) {
	for _, who := range []string{"a subscription", "a member"} {
		t.Run(who, func(t *testing.T) {
			var dropped time.Time
			longest, opens := time.Duration(0), 0
			play(t, func(p *scripted.Peer) {
				opening(p, func(f messages.Frame) bool {
					confirmed(p, f)
					if opens++; opens > 1 {
						longest = max(longest, time.Since(dropped))
					}
					time.AfterFunc(15*time.Second, func() {
						dropped = time.Now()
						p.Send(messages.SubscriptionDropped, f.ID, "")
					})
					return true
				})
			}, func(t *testing.T, c *eventstore.Client) {
				ctx, cancel := context.WithTimeout(t.Context(), 155*time.Second)
				defer cancel()
				require.ErrorIs(t, openers[who](ctx, c), context.DeadlineExceeded)
				require.Equal(t, 11, opens)
				require.LessOrEqual(t, longest, 75*time.Millisecond, "the first interval with its jitter")
			})
		})
	}
}
