package eventstore_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/scripted"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// Every command of the protocol that a client sends goes through Call or Open as it is, and its answer comes back as it is. Only
// heartbeats are the connection's own.
func TestEveryCommand(t *testing.T) {
	exchange := messages.Command(0) // answered by whatever comes
	none := messages.Command(0xFF)  // never answered
	answers := map[messages.Command]messages.Command{
		messages.Ping:                            messages.Pong,
		messages.WriteEvents:                     messages.WriteEventsCompleted,
		messages.TransactionStart:                messages.TransactionStartCompleted,
		messages.TransactionWrite:                messages.TransactionWriteCompleted,
		messages.TransactionCommit:               messages.TransactionCommitCompleted,
		messages.DeleteStream:                    messages.DeleteStreamCompleted,
		messages.ReadEvent:                       messages.ReadEventCompleted,
		messages.ReadStreamEventsForward:         messages.ReadStreamEventsForwardCompleted,
		messages.ReadStreamEventsBackward:        messages.ReadStreamEventsBackwardCompleted,
		messages.ReadAllEventsForward:            messages.ReadAllEventsForwardCompleted,
		messages.ReadAllEventsBackward:           messages.ReadAllEventsBackwardCompleted,
		messages.FilteredReadAllEventsForward:    messages.FilteredReadAllEventsForwardCompleted,
		messages.FilteredReadAllEventsBackward:   messages.FilteredReadAllEventsBackwardCompleted,
		messages.SubscribeToStream:               exchange,
		messages.FilteredSubscribeToStream:       exchange,
		messages.ConnectToPersistentSubscription: exchange,
		messages.UnsubscribeFromStream:           none,
		messages.PersistentSubscriptionAckEvents: none,
		messages.PersistentSubscriptionNakEvents: none,
		messages.CreatePersistentSubscription:    messages.CreatePersistentSubscriptionCompleted,
		messages.DeletePersistentSubscription:    messages.DeletePersistentSubscriptionCompleted,
		messages.UpdatePersistentSubscription:    messages.UpdatePersistentSubscriptionCompleted,
		messages.ScavengeDatabase:                messages.ScavengeDatabaseCompleted,
		messages.Authenticate:                    messages.Authenticated,
		messages.IdentifyClient:                  messages.ClientIdentified,
	}
	for command, answer := range answers {
		t.Run(command.String(), func(t *testing.T) {
			got := make(chan messages.Frame, 2)
			play(t, func(p *scripted.Peer) {
				opened := false
				for {
					f, err := p.Reader.Next()
					if err != nil {
						return
					}
					if string(f.Body) != "body" { // a heartbeat of the connection's own, or the end of the exchange
						continue
					}
					f.Body = append([]byte(nil), f.Body...)
					got <- f
					switch answer {
					case exchange: // has one answer: that to what is sent next would meet the end of the connection
						if !opened {
							p.Send(messages.SubscriptionConfirmation, f.ID, "answer")
						}
						opened = true
					case none:
					default:
						p.Send(answer, f.ID, "answer")
					}
				}
			}, func(t *testing.T, c *eventstore.Client) {
				request := messages.Raw(command, []byte("body"))
				switch answer {
				case exchange:
					x, err := c.Open(t.Context(), request, eventstore.Window{Frames: 1, Bytes: 100})
					require.NoError(t, err)
					reply, err := x.Recv(t.Context())
					require.NoError(t, err)
					require.Equal(t, "answer", string(reply.Body))
					require.NoError(t, x.Send(t.Context(), request))
					require.Equal(t, command, (<-got).Command)
					require.NoError(t, x.Close())
				case none:
					_, err := c.Call(t.Context(), request)
					require.ErrorIs(t, err, eventstore.ErrTimeout, "nothing answers it: it belongs into an exchange")
					require.True(t, eventstore.MaybeApplied(err))
				default:
					reply, err := c.Call(t.Context(), request)
					require.NoError(t, err)
					require.Equal(t, answer, reply.Command)
					require.Equal(t, "answer", string(reply.Body))
				}
				f := <-got
				require.Equal(t, command, f.Command)
				require.Equal(t, "body", string(f.Body))
			}, eventstore.WithTimeout(time.Second))
		})
	}
}

// The two kinds of answers to a scavenge: at its end, up to 4.x, and at once, from 5.0 on.
func TestScavengeAnswers(t *testing.T) {
	for name, test := range map[string]struct {
		answer proto.Message
		want   eventstore.ScavengeResult
		err    error
	}{
		"finished": {
			&pb.ScavengeDatabaseCompleted{Result: pb.ScavengeDatabaseCompleted_Success.Enum(), TotalTimeMs: proto.Int32(1500), TotalSpaceSaved: proto.Int64(7)},
			eventstore.ScavengeResult{Took: 1500 * time.Millisecond, Saved: 7},
			nil,
		},
		"in progress": {
			&pb.ScavengeDatabaseCompleted{Result: pb.ScavengeDatabaseCompleted_InProgress.Enum(), Error: proto.String("Scavenge already in progress."), TotalTimeMs: proto.Int32(0), TotalSpaceSaved: proto.Int64(0)},
			eventstore.ScavengeResult{},
			eventstore.ErrScavengeInProgress,
		},
		"denied": {
			&pb.ScavengeDatabaseCompleted{Result: pb.ScavengeDatabaseCompleted_Failed.Enum(), Error: proto.String("Access denied."), TotalTimeMs: proto.Int32(6), TotalSpaceSaved: proto.Int64(0)},
			eventstore.ScavengeResult{},
			eventstore.ErrAccessDenied,
		},
		"started": {
			&pb.ScavengeDatabaseResponse{Result: pb.ScavengeDatabaseResponse_Started.Enum(), ScavengeId: proto.String("id")},
			eventstore.ScavengeResult{ID: "id"},
			nil,
		},
		"started, zeros left out": {&pb.ScavengeDatabaseResponse{ScavengeId: proto.String("id")}, eventstore.ScavengeResult{ID: "id"}, nil},
		"one runs":                {&pb.ScavengeDatabaseResponse{Result: pb.ScavengeDatabaseResponse_InProgress.Enum()}, eventstore.ScavengeResult{}, eventstore.ErrScavengeInProgress},
		"unauthorized":            {&pb.ScavengeDatabaseResponse{Result: pb.ScavengeDatabaseResponse_Unauthorized.Enum()}, eventstore.ScavengeResult{}, eventstore.ErrAccessDenied},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(p *scripted.Peer) {
				alive(p, func(f messages.Frame) bool {
					time.Sleep(time.Hour) // far longer than an attempt of any other call
					p.SendRequest(f.ID, messages.Of(messages.ScavengeDatabaseCompleted, test.answer))
					return true
				})
			}, func(t *testing.T, c *eventstore.Client) {
				result, err := c.Scavenge(t.Context())
				require.ErrorIs(t, err, test.err)
				require.Equal(t, test.want, result)
			}, eventstore.WithHeartbeat(2*time.Hour, time.Hour))
		})
	}
}
