package eventstore_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/scripted"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

var (
	subscribe = messages.Raw(messages.SubscribeToStream, nil)
	window    = eventstore.Window{Frames: 100, Bytes: 1 << 20}
)

func push(p *scripted.Peer, id messages.ID, from, to int) {
	for i := from; i < to; i++ {
		p.Send(messages.StreamEventAppeared, id, fmt.Sprint(i))
	}
}

func recv(t *testing.T, x *eventstore.Exchange, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		r, err := x.Recv(t.Context())
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint(i), string(r.Body))
	}
}

func TestAnExchangeDeliversInOrderAndThenTheCause(t *testing.T) {
	play(t, func(p *scripted.Peer) {
		if p.Number == 1 {
			push(p, p.Want(messages.SubscribeToStream).ID, 0, 50)
		} else {
			scripted.Drain(p)
		}
	}, func(t *testing.T, c *eventstore.Client) {
		x, err := c.Open(t.Context(), subscribe, window)
		require.NoError(t, err)
		require.Equal(t, scripted.Addr, x.Addr())
		synctest.Wait()
		require.ErrorIs(t, x.Err(), eventstore.ErrConnectionLost)
		require.Equal(t, 50, x.Held())
		recv(t, x, 0, 50)
		for range 2 {
			_, err = x.Recv(t.Context())
			require.ErrorIs(t, err, eventstore.ErrConnectionLost)
		}
		require.ErrorIs(t, x.Send(t.Context(), subscribe), eventstore.ErrConnectionLost)
		require.NoError(t, x.Close())
		require.ErrorIs(t, x.Err(), eventstore.ErrConnectionLost, "the first cause stays")
	})
}

// RecvMany takes what is there, in the order of Recv, and no more than there is room for.
func TestRecvManyTakesWhatIsThere(t *testing.T) {
	play(t, func(p *scripted.Peer) {
		if p.Number > 1 {
			scripted.Drain(p) // the client may be gone already
			return
		}
		id := p.Want(messages.SubscribeToStream).ID
		push(p, id, 0, 10)
		time.Sleep(time.Second)
		push(p, id, 10, 11)
		time.Sleep(time.Second)
	}, func(t *testing.T, c *eventstore.Client) {
		x, err := c.Open(t.Context(), subscribe, window)
		require.NoError(t, err)
		synctest.Wait()
		recv(t, x, 0, 1)
		into := make([]messages.Reply, 5)
		next := 1
		for _, want := range []int{5, 4, 1} { // the last one is waited for
			n, err := x.RecvMany(t.Context(), into)
			require.NoError(t, err)
			require.Equal(t, want, n)
			for _, r := range into[:n] {
				require.Equal(t, fmt.Sprint(next), string(r.Body))
				next++
			}
			require.Equal(t, max(10-next, 0), x.Held())
		}
		_, err = x.RecvMany(t.Context(), into)
		require.ErrorIs(t, err, eventstore.ErrConnectionLost)
	})
}

// What arrived before the window was full is delivered; the server is told to stop; the connection lives.
func TestAnExchangeThatIsNotReadOverflows(t *testing.T) {
	tests := map[string]eventstore.Window{
		"by frames": {Frames: 10, Bytes: 1 << 20},
		"by bytes":  {Frames: 1000, Bytes: 10},
	}
	for name, window := range tests {
		t.Run(name, func(t *testing.T) {
			unsubscribed := false
			play(t, func(p *scripted.Peer) {
				id := p.Want(messages.SubscribeToStream).ID
				push(p, id, 0, 20)
				alive(p, func(f messages.Frame) bool {
					if f.Command == messages.UnsubscribeFromStream {
						unsubscribed = f.ID == id
					} else {
						p.Send(messages.Pong, f.ID, "")
					}
					return true
				})
			}, func(t *testing.T, c *eventstore.Client) {
				x, err := c.Open(t.Context(), subscribe, window)
				require.NoError(t, err)
				synctest.Wait()
				require.ErrorIs(t, x.Err(), eventstore.ErrOverflow)
				recv(t, x, 0, 10)
				_, err = x.Recv(t.Context())
				require.ErrorIs(t, err, eventstore.ErrOverflow)
				require.True(t, unsubscribed)
				require.NoError(t, c.Ping(t.Context()))
			})
		})
	}
}

func TestAFrameOverTheWindowIsHeldAlone(t *testing.T) {
	play(t, func(p *scripted.Peer) {
		id := p.Want(messages.SubscribeToStream).ID
		for i := 1; i <= 3; i++ {
			p.Send(messages.StreamEventAppeared, id, fmt.Sprintf("a frame of more than 10 bytes, %d", i))
			if i < 3 {
				p.Want(messages.Ping) // until it was taken
			}
		}
		scripted.Drain(p)
	}, func(t *testing.T, c *eventstore.Client) {
		x, err := c.Open(t.Context(), subscribe, eventstore.Window{Frames: 10, Bytes: 10})
		require.NoError(t, err)
		for i := 1; i <= 3; i++ {
			r, err := x.Recv(t.Context())
			require.NoError(t, err)
			require.Contains(t, string(r.Body), fmt.Sprint(i))
			require.NoError(t, x.Send(t.Context(), messages.Raw(messages.Ping, nil)))
		}
	})
}

func TestOpenFollowsNotHandledAndLosses(t *testing.T) {
	play(t, func(p *scripted.Peer) {
		id := p.Want(messages.SubscribeToStream).ID
		switch p.Number {
		case 1: // lost before the first answer
		case 2:
			p.SendRequest(id, messages.Of(messages.NotHandled, &pb.NotHandled{}))
			for p.Next().Command != messages.SubscribeToStream { // the first attempt's farewell
				continue
			}
			alive(p, func(messages.Frame) bool { return false }) // silent for 7 s, and then cut
		default:
			push(p, id, 0, 1)
			scripted.Drain(p)
		}
	}, func(t *testing.T, c *eventstore.Client) {
		x, err := c.Open(t.Context(), subscribe, window)
		require.NoError(t, err)
		recv(t, x, 0, 1)
	})
}

func TestOpenOfWhatMayNotBeRepeated(t *testing.T) {
	play(t, func(p *scripted.Peer) {
		if p.Number > 1 {
			scripted.Drain(p) // the client may be gone already
			return
		}
		p.Next()
	}, func(t *testing.T, c *eventstore.Client) {
		_, err := c.Open(t.Context(), messages.Raw(messages.CreatePersistentSubscription, nil), window)
		require.ErrorIs(t, err, eventstore.ErrConnectionLost)
		require.True(t, eventstore.MaybeApplied(err))
		_, err = c.Open(t.Context(), subscribe, eventstore.Window{})
		require.ErrorIs(t, err, eventstore.ErrArgument)
	})
}

func TestARefusalIsTheFirstRecv(t *testing.T) {
	answers := []struct {
		command messages.Command
		is      error
	}{{messages.NotAuthenticated, eventstore.ErrNotAuthenticated}, {messages.BadRequest, nil}}
	for _, a := range answers {
		t.Run(a.command.String(), func(t *testing.T) {
			play(t, func(p *scripted.Peer) {
				p.Send(a.command, p.Want(messages.SubscribeToStream).ID, "no")
				scripted.Drain(p)
			}, func(t *testing.T, c *eventstore.Client) {
				x, err := c.Open(t.Context(), subscribe, window)
				require.NoError(t, err)
				_, err = x.Recv(t.Context())
				if a.is != nil {
					require.ErrorIs(t, err, a.is)
				} else {
					var refused *eventstore.ServerError
					require.ErrorAs(t, err, &refused)
					require.Equal(t, "no", refused.Message)
				}
			})
		})
	}
}

func TestRecvEndsWithItsContextAndTheExchangeDoesNot(t *testing.T) {
	play(t, func(p *scripted.Peer) {
		id := p.Want(messages.SubscribeToStream).ID
		push(p, id, 0, 1)
		time.Sleep(2 * time.Second)
		push(p, id, 1, 2)
		scripted.Drain(p)
	}, func(t *testing.T, c *eventstore.Client) {
		x, err := c.Open(t.Context(), subscribe, window)
		require.NoError(t, err)
		recv(t, x, 0, 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		_, err = x.Recv(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(start))
		recv(t, x, 1, 2)
		require.NoError(t, x.Close())
		_, err = x.Recv(t.Context())
		require.ErrorIs(t, err, eventstore.ErrClosed)
	})
}
