package eventstore_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/scripted"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// play runs a test in virtual time against a scripted server. Waits between attempts are exactly 100 ms.
func play(t *testing.T, serve func(p *scripted.Peer), test func(t *testing.T, c *eventstore.Client), opts ...eventstore.Option) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		network := scripted.Listen(t, scripted.Identified(serve))
		opts = append([]eventstore.Option{
			eventstore.WithDialer(network.Dial),
			eventstore.WithBackoff(func() backoff.BackOff { return backoff.NewConstantBackOff(100 * time.Millisecond) }),
		}, opts...)
		c, err := eventstore.Connect(t.Context(), "tcp://"+scripted.Addr, opts...)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, c.Close()) })
		test(t, c)
		synctest.Wait() // what the script says that nobody waits for
	})
}

// alive answers heartbeats and hands everything else to f, until the client ends the connection or f returns false.
func alive(p *scripted.Peer, f func(messages.Frame) bool) {
	for {
		frame, err := p.Reader.Next()
		if err != nil {
			return
		}
		if frame.Command == messages.HeartbeatRequest {
			b, _ := messages.AppendFrame(nil, frame.ID, nil, messages.Raw(messages.HeartbeatResponse, nil))
			if _, err := p.Conn.Write(b); err != nil {
				return // the client has gone meanwhile: it does not wait for this answer
			}
		} else if !f(frame) {
			return
		}
	}
}

func stored(p *scripted.Peer, id messages.ID) {
	p.SendRequest(id, &messages.AppendCompleted{HasPosition: true, Prepare: 100, Commit: 100, HasCurrent: true})
}

func eventIDs(t *testing.T, f messages.Frame) (ids []string) {
	t.Helper()
	var m messages.Append
	require.NoError(t, m.Decode(f.Body, nil))
	for _, e := range m.Events {
		ids = append(ids, e.ID.String())
	}
	return ids
}

// The connection goes after the append was sent and before it was answered: it is sent again, with the same event ids and
// another correlation id.
func TestAnAppendIsSentAgainWithTheSameIds(t *testing.T) {
	var ids [][]string
	var correlation []messages.ID
	play(t, func(p *scripted.Peer) {
		f := p.Want(messages.WriteEvents)
		ids, correlation = append(ids, eventIDs(t, f)), append(correlation, f.ID)
		if p.Number == 1 {
			return // cut
		}
		stored(p, f.ID)
		scripted.Drain(p)
	}, func(t *testing.T, c *eventstore.Client) {
		_, err := c.Append(t.Context(), "s", eventstore.NoStream, numbered(2))
		require.NoError(t, err)
		require.Len(t, ids, 2)
		require.Equal(t, ids[0], ids[1])
		require.NotEqual(t, correlation[0], correlation[1])
	})
}

// A resent append that is answered by a refusal may have been applied by its first attempt.
func TestARefusedResentAppendMayHaveBeenApplied(t *testing.T) {
	for result, is := range map[messages.OperationResult]error{
		messages.StreamDeleted: eventstore.ErrStreamDeleted,
		messages.AccessDenied:  eventstore.ErrAccessDenied,
	} {
		t.Run(result.String(), func(t *testing.T) {
			play(t, func(p *scripted.Peer) {
				f := p.Want(messages.WriteEvents)
				if p.Number > 1 {
					p.SendRequest(f.ID, &messages.AppendCompleted{Result: result})
					scripted.Drain(p)
				}
			}, func(t *testing.T, c *eventstore.Client) {
				_, err := c.Append(t.Context(), "s", eventstore.NoStream, numbered(1))
				require.ErrorIs(t, err, is)
				require.True(t, eventstore.MaybeApplied(err))
				require.ErrorContains(t, err, "attempt 2, may have been applied")
			})
		})
	}
}

// 20 calls are lost with their connection: the next one gets them in the order in which they were made.
func TestLostCallsAreSentAgainInTheirOrder(t *testing.T) {
	const calls = 20
	var again []string
	play(t, func(p *scripted.Peer) {
		for range calls {
			f := p.Want(messages.ReadEvent)
			if p.Number == 1 {
				continue
			}
			var m messages.EventRead
			require.NoError(t, m.Decode(f.Body, nil))
			again = append(again, m.Stream)
			p.SendRequest(f.ID, messages.Raw(messages.ReadEventCompleted, messages.AppendEventRead(nil, messages.ReadEventNotFound, nil, nil, "")))
		}
		if p.Number > 1 {
			scripted.Drain(p)
		}
	}, func(t *testing.T, c *eventstore.Client) {
		var want []string
		var group sync.WaitGroup
		for i := range calls {
			stream := fmt.Sprintf("s-%d", i)
			want = append(want, stream)
			group.Go(func() {
				_, err := c.ReadEvent(t.Context(), stream, eventstore.Start)
				require.ErrorIs(t, err, eventstore.ErrEventNotFound)
			})
			synctest.Wait() // it is on the wire
		}
		group.Wait()
		require.Equal(t, want, again)
	})
}

func TestNotHandledIsWaitedFor(t *testing.T) {
	reasons := []pb.NotHandled_NotHandledReason{
		pb.NotHandled_NotReady, pb.NotHandled_TooBusy, pb.NotHandled_NotLeader, pb.NotHandled_IsReadOnly,
	}
	play(t, func(p *scripted.Peer) {
		alive(p, func(f messages.Frame) bool {
			if len(reasons) > 0 {
				p.SendRequest(f.ID, messages.Of(messages.NotHandled, &pb.NotHandled{Reason: &reasons[0]}))
				reasons = reasons[1:]
				return true
			}
			stored(p, f.ID)
			return true
		})
	}, func(t *testing.T, c *eventstore.Client) {
		start := time.Now()
		_, err := c.Append(t.Context(), "s", eventstore.Any, numbered(1))
		require.NoError(t, err)
		require.Equal(t, 400*time.Millisecond, time.Since(start))
	})
}

// A server that never gets ready: the call ends with its context, to the instant, and says what it waited for. Nothing was applied.
func TestACallEndsWithItsContextWhateverTheServerSays(t *testing.T) {
	play(t, func(p *scripted.Peer) {
		alive(p, func(f messages.Frame) bool {
			p.SendRequest(f.ID, messages.Of(messages.NotHandled, &pb.NotHandled{}))
			return true
		})
	}, func(t *testing.T, c *eventstore.Client) {
		ctx, cancel := context.WithTimeout(t.Context(), 1050*time.Millisecond)
		defer cancel()
		start := time.Now()
		_, err := c.Append(ctx, "s", eventstore.Any, numbered(1))
		require.Equal(t, 1050*time.Millisecond, time.Since(start))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, eventstore.ErrNotReady)
		require.False(t, eventstore.MaybeApplied(err))
	})
}

// A server that is alive and answers nothing: each attempt lasts 7 s, and the write may have been applied.
func TestASilentServerIsAskedAgainAfterEachTimeout(t *testing.T) {
	var asked []time.Duration
	var start time.Time
	play(t, func(p *scripted.Peer) {
		alive(p, func(messages.Frame) bool {
			asked = append(asked, time.Since(start))
			return true
		})
	}, func(t *testing.T, c *eventstore.Client) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		start = time.Now()
		_, err := c.Append(ctx, "s", eventstore.Any, numbered(1))
		require.Equal(t, 20*time.Second, time.Since(start))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.True(t, eventstore.MaybeApplied(err))
		require.Equal(t, []time.Duration{0, 7 * time.Second, 14 * time.Second}, asked)
	})
}

// The answer to an attempt that timed out comes late: it is nobody's, and the next attempt's counts.
func TestALateAnswerIsNobodys(t *testing.T) {
	play(t, func(p *scripted.Peer) {
		var first messages.ID
		alive(p, func(f messages.Frame) bool {
			if first == (messages.ID{}) {
				first = f.ID
				return true
			}
			p.SendRequest(first, &messages.AppendCompleted{Result: messages.WrongExpectedVersion})
			stored(p, f.ID)
			stored(p, f.ID) // twice
			return true
		})
	}, func(t *testing.T, c *eventstore.Client) {
		_, err := c.Append(t.Context(), "s", eventstore.Any, numbered(1))
		require.NoError(t, err)
	})
}

func TestTimeoutResultsAreSentAgain(t *testing.T) {
	results := []messages.OperationResult{messages.PrepareTimeout, messages.CommitTimeout, messages.ForwardTimeout}
	play(t, func(p *scripted.Peer) {
		alive(p, func(f messages.Frame) bool {
			if len(results) == 0 {
				stored(p, f.ID)
				return true
			}
			p.SendRequest(f.ID, &messages.AppendCompleted{Result: results[0]})
			results = results[1:]
			return true
		})
	}, func(t *testing.T, c *eventstore.Client) {
		_, err := c.Append(t.Context(), "s", eventstore.Any, numbered(1))
		require.NoError(t, err)
		require.Empty(t, results)
	})
}

func TestMaxAttempts(t *testing.T) {
	play(t, func(p *scripted.Peer) {
		if p.Number > 3 {
			scripted.Drain(p) // the client may be gone already
			return
		}
		p.Want(messages.WriteEvents) // and cut
	}, func(t *testing.T, c *eventstore.Client) {
		_, err := c.Append(t.Context(), "s", eventstore.Any, numbered(1))
		require.ErrorIs(t, err, eventstore.ErrRetriesExhausted)
		require.ErrorIs(t, err, eventstore.ErrConnectionLost)
		require.True(t, eventstore.MaybeApplied(err))
		var op *eventstore.OpError
		require.ErrorAs(t, err, &op)
		require.Equal(t, 3, op.Attempts)
	}, eventstore.WithMaxAttempts(3))
}

// What may not be repeated is not sent again, and the error says that it may have been applied.
func TestACallThatMayNotBeRepeatedFailsWithItsConnection(t *testing.T) {
	for _, command := range []messages.Command{messages.TransactionWrite, messages.CreatePersistentSubscription, 0x7F} {
		t.Run(command.String(), func(t *testing.T) {
			sent := 0
			play(t, func(p *scripted.Peer) {
				if p.Number > 1 {
					scripted.Drain(p)
					return
				}
				p.Want(command)
				sent++
			}, func(t *testing.T, c *eventstore.Client) {
				_, err := c.Call(t.Context(), messages.Raw(command, nil))
				require.ErrorIs(t, err, eventstore.ErrConnectionLost)
				require.True(t, eventstore.MaybeApplied(err))
				require.True(t, eventstore.Retryable(err))
				require.Equal(t, 1, sent)
			})
		})
	}
}

func TestADeleteLooksBeforeItIsSentAgain(t *testing.T) {
	tests := []struct {
		name    string
		hard    bool
		found   messages.ReadEventResult
		deletes int
	}{
		{"soft, it is gone", false, messages.ReadEventNoStream, 1},
		{"soft, it is gone for ever", false, messages.ReadEventStreamDeleted, 1},
		{"soft, it is there", false, messages.ReadEventNotFound, 2},
		{"hard, it is gone for ever", true, messages.ReadEventStreamDeleted, 1},
		{"hard, it is softly gone", true, messages.ReadEventNoStream, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			deletes := 0
			play(t, func(p *scripted.Peer) {
				alive(p, func(f messages.Frame) bool {
					switch f.Command {
					case messages.DeleteStream:
						if deletes++; deletes == 1 {
							return false // cut
						}
						p.SendRequest(f.ID, messages.Of(messages.DeleteStreamCompleted, &pb.DeleteStreamCompleted{CommitPosition: proto.Int64(7)}))
					case messages.ReadEvent:
						p.SendRequest(f.ID, messages.Raw(messages.ReadEventCompleted, messages.AppendEventRead(nil, tt.found, nil, nil, "")))
					}
					return true
				})
			}, func(t *testing.T, c *eventstore.Client) {
				remove := c.Delete
				if tt.hard {
					remove = c.HardDelete
				}
				_, err := remove(t.Context(), "s", eventstore.Any)
				require.NoError(t, err)
				require.Equal(t, tt.deletes, deletes)
			})
		})
	}
}

// A server that never decides about a delete, or answers what is no answer: the client looks, and does not ask again and again
// without a pause, or not at all.
func TestADeleteThatIsNeverDecidedDoesNotSpin(t *testing.T) {
	answers := map[string]struct {
		answer  messages.Request
		is      error
		deletes int
	}{
		"CommitTimeout": {messages.Of(messages.DeleteStreamCompleted, &pb.DeleteStreamCompleted{Result: pb.OperationResult_CommitTimeout.Enum()}), eventstore.ErrTimeout, 10},
		"garbage":       {messages.Raw(messages.DeleteStreamCompleted, []byte{0xff}), eventstore.ErrProtocol, 1},
		"another kind":  {messages.Raw(messages.Pong, nil), eventstore.ErrProtocol, 1},
	}
	for name, a := range answers {
		t.Run(name, func(t *testing.T) {
			deletes := 0
			play(t, func(p *scripted.Peer) {
				alive(p, func(f messages.Frame) bool {
					if f.Command == messages.DeleteStream {
						deletes++
						p.SendRequest(f.ID, a.answer)
					} else {
						p.SendRequest(f.ID, messages.Raw(messages.ReadEventCompleted, messages.AppendEventRead(nil, messages.ReadEventNotFound, nil, nil, "")))
					}
					return true
				})
			}, func(t *testing.T, c *eventstore.Client) {
				ctx, cancel := context.WithTimeout(t.Context(), 950*time.Millisecond)
				defer cancel()
				_, err := c.Delete(ctx, "s", eventstore.Any)
				require.ErrorIs(t, err, a.is)
				require.True(t, eventstore.MaybeApplied(err))
				require.Equal(t, a.deletes, deletes)
			})
		})
	}
}

// The server is gone for a minute: calls made meanwhile wait, each to its own deadline or until the server is back.
func TestCallsWaitWhileThereIsNoServer(t *testing.T) {
	play(t, func(p *scripted.Peer) {
		if p.Number == 1 {
			return
		}
		alive(p, func(f messages.Frame) bool {
			p.Send(messages.Pong, f.ID, "")
			return true
		})
	}, func(t *testing.T, c *eventstore.Client) {
		synctest.Wait()
		require.Equal(t, eventstore.Reconnecting, c.State().Phase)
		require.ErrorIs(t, c.State().Err, eventstore.ErrConnectionLost)
		require.NoError(t, c.Ping(t.Context()))
		require.Equal(t, eventstore.Connected, c.State().Phase)
	})
}

func TestShutdownLetsCallsFinish(t *testing.T) {
	play(t, func(p *scripted.Peer) {
		f := p.Want(messages.WriteEvents)
		time.Sleep(time.Second)
		stored(p, f.ID)
		scripted.Drain(p)
	}, func(t *testing.T, c *eventstore.Client) {
		var group sync.WaitGroup
		group.Go(func() {
			_, err := c.Append(t.Context(), "s", eventstore.Any, numbered(1))
			require.NoError(t, err)
		})
		synctest.Wait()
		start := time.Now()
		require.NoError(t, c.Shutdown(t.Context()))
		require.Equal(t, time.Second, time.Since(start))
		group.Wait()
		require.ErrorIs(t, c.Ping(t.Context()), eventstore.ErrClosed)
	})
}

func TestShutdownEndsWithItsContextAndClosesAllTheSame(t *testing.T) {
	play(t, scripted.Drain, func(t *testing.T, c *eventstore.Client) {
		var group sync.WaitGroup
		group.Go(func() {
			_, err := c.Append(t.Context(), "s", eventstore.Any, numbered(1))
			require.ErrorIs(t, err, eventstore.ErrClosed)
			require.True(t, eventstore.MaybeApplied(err))
		})
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, c.Shutdown(ctx), context.DeadlineExceeded)
		group.Wait()
	})
}

// Close settles calls wherever they are: sent, waiting for a connection, or waiting for their time.
func TestCloseSettlesEveryCall(t *testing.T) {
	places := map[string]func(p *scripted.Peer){
		"sent":               scripted.Drain,
		"without connection": func(p *scripted.Peer) { p.Want(messages.ReadEvent) },
		"waiting for a pause": func(p *scripted.Peer) {
			alive(p, func(f messages.Frame) bool {
				p.SendRequest(f.ID, messages.Of(messages.NotHandled, &pb.NotHandled{}))
				return true
			})
		},
	}
	for name, serve := range places {
		t.Run(name, func(t *testing.T) {
			play(t, serve, func(t *testing.T, c *eventstore.Client) {
				var group sync.WaitGroup
				for range 10 {
					group.Go(func() {
						_, err := c.ReadEvent(t.Context(), "s", eventstore.Start)
						require.ErrorIs(t, err, eventstore.ErrClosed)
					})
				}
				synctest.Wait()
				require.NoError(t, c.Close())
				group.Wait()
			})
		})
	}
}

func TestCallsOverTheLimitWaitInLine(t *testing.T) {
	var order []string
	play(t, func(p *scripted.Peer) {
		alive(p, func(f messages.Frame) bool {
			time.Sleep(time.Second)
			order = append(order, string(f.Body))
			p.Send(messages.Pong, f.ID, "")
			return true
		})
	}, func(t *testing.T, c *eventstore.Client) {
		var group sync.WaitGroup
		for i := range 5 {
			group.Go(func() {
				_, err := c.Call(t.Context(), messages.Raw(messages.Ping, fmt.Appendf(nil, "%d", i)))
				require.NoError(t, err)
			})
			synctest.Wait()
		}
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		_, err := c.Call(ctx, messages.Raw(messages.WriteEvents, nil))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.False(t, eventstore.MaybeApplied(err), "it was never sent")
		group.Wait()
		require.Equal(t, []string{"0", "1", "2", "3", "4"}, order)
	}, eventstore.WithMaxInFlight(1))
}

func TestAnswersThatAreNone(t *testing.T) {
	tests := map[string]messages.Request{
		"of another kind":     messages.Raw(messages.ReadEventCompleted, nil),
		"not decodable":       messages.Raw(messages.ReadStreamEventsForwardCompleted, []byte{0xff}),
		"more than was asked": messages.Raw(messages.ReadStreamEventsForwardCompleted, []byte{0x0a, 0, 0x0a, 0, 0x0a, 0}),
		"of an unknown kind":  messages.Raw(messages.ReadStreamEventsForwardCompleted, []byte{0x10, 9}),
		"leading nowhere":     messages.Raw(messages.ReadStreamEventsForwardCompleted, (&messages.StreamPage{Next: 0}).AppendTo(nil)),
	}
	for name, answer := range tests {
		t.Run(name, func(t *testing.T) {
			play(t, func(p *scripted.Peer) {
				alive(p, func(f messages.Frame) bool {
					p.SendRequest(f.ID, answer)
					return true
				})
			}, func(t *testing.T, c *eventstore.Client) {
				for _, err := range c.ReadStream(t.Context(), "s", eventstore.Start, eventstore.PageSize(2)) {
					require.ErrorIs(t, err, eventstore.ErrProtocol)
					require.False(t, eventstore.Retryable(err))
					return
				}
				t.Fatal("no error")
			})
		})
	}
}
