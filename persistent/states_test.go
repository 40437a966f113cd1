package persistent_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/scripted"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/persistent"
)

// What the server may answer to the first joining, and what Join makes of it.
func TestJoinIsRefused(t *testing.T) {
	tests := map[string]struct {
		answer func(p *scripted.Peer, id messages.ID)
		want   error
	}{
		"no access":         {func(p *scripted.Peer, id messages.ID) { drop(p, id, 1) }, eventstore.ErrAccessDenied},
		"no group":          {func(p *scripted.Peer, id messages.ID) { drop(p, id, 2) }, persistent.ErrGroupNotFound},
		"no place":          {func(p *scripted.Peer, id messages.ID) { drop(p, id, 4) }, persistent.ErrTooManySubscribers},
		"an unknown reason": {func(p *scripted.Peer, id messages.ID) { drop(p, id, 9) }, eventstore.ErrProtocol},
		"a broken drop": {func(p *scripted.Peer, id messages.ID) {
			p.Send(messages.SubscriptionDropped, id, "\x08")
		}, eventstore.ErrProtocol},
		"bad credentials": {func(p *scripted.Peer, id messages.ID) {
			p.Send(messages.NotAuthenticated, id, "no")
		}, eventstore.ErrNotAuthenticated},
		"a broken confirmation": {func(p *scripted.Peer, id messages.ID) {
			p.Send(messages.PersistentSubscriptionConfirmation, id, "\x0a\x05")
		}, eventstore.ErrProtocol},
		"a message before the confirmation": {func(p *scripted.Peer, id messages.ID) { deliver(p, id, 0, 1) }, eventstore.ErrProtocol},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			played(t, func(p *scripted.Peer) {
				tt.answer(p, p.Want(messages.ConnectToPersistentSubscription).ID)
				attend(p)
			}, func(t *testing.T, c *eventstore.Client) {
				_, err := persistent.Join(t.Context(), c, persistent.Config{Stream: stream, Group: group})
				require.ErrorIs(t, err, tt.want)
				require.ErrorContains(t, err, `join "orders::billing"`)
			})
		})
	}
}

// What the server may send to a member, who sees it come or finds all of it. The next joining succeeds, where there is one.
func TestWhatEndsAMembership(t *testing.T) {
	tests := map[string]struct {
		send func(p *scripted.Peer, id messages.ID)
		want error // nil: it joins again
	}{
		"a drop without a reason": {func(p *scripted.Peer, id messages.ID) { drop(p, id, 0) }, nil},
		"a deleted group":         {func(p *scripted.Peer, id messages.ID) { drop(p, id, 3) }, nil}, // no server sends it
		"no access":               {func(p *scripted.Peer, id messages.ID) { drop(p, id, 1) }, eventstore.ErrAccessDenied},
		"no group":                {func(p *scripted.Peer, id messages.ID) { drop(p, id, 2) }, persistent.ErrGroupNotFound},
		"another's message": {func(p *scripted.Peer, id messages.ID) {
			p.Send(messages.StreamEventAppeared, id, "")
		}, eventstore.ErrProtocol},
		"a broken message": {func(p *scripted.Peer, id messages.ID) {
			p.Send(messages.PersistentSubscriptionStreamEventAppeared, id, "\x0a\x05")
		}, eventstore.ErrProtocol},
		"a message without a record": {func(p *scripted.Peer, id messages.ID) {
			p.Send(messages.PersistentSubscriptionStreamEventAppeared, id, "\x0a\x00")
		}, eventstore.ErrProtocol},
		"refused credentials": {func(p *scripted.Peer, id messages.ID) {
			time.Sleep(time.Second) // it ends the exchange at once, with what it holds
			p.Send(messages.NotAuthenticated, id, "no")
		}, eventstore.ErrNotAuthenticated},
	}
	run := func(name string, send func(p *scripted.Peer, id messages.ID), want error, late bool) {
		t.Run(fmt.Sprintf("%s, late %t", name, late), func(t *testing.T) {
			played(t, func(p *scripted.Peer) {
				first := joining(t, p)
				deliver(p, first, 0, 1)
				confirm(p, first) // a second one says nothing new
				deliver(p, first, 0, 2)
				send(p, first)
				if want == nil {
					second := joining(t, p)
					if second == first {
						t.Error("the correlation id is the old one")
					}
					deliver(p, second, 1, 1)
				}
				attend(p)
			}, func(t *testing.T, c *eventstore.Client) {
				var told notices
				g := join(t, c, persistent.Config{OnNotice: told.add})
				if late {
					synctest.Wait()
				}
				old := take(t, g, 1, 2)
				m, err := g.Recv(t.Context())
				if want == nil {
					require.NoError(t, err)
					require.Equal(t, 1, m.Retries)
					require.Equal(t, notices{"Joined", "Lost", "Rejoined"}, told)
				} else {
					require.ErrorIs(t, err, want)
					require.Equal(t, notices{"Joined"}, told)
					for range 2 { // for ever
						_, again := g.Recv(t.Context())
						require.Equal(t, err, again)
					}
				}
				require.ErrorIs(t, g.Ack(t.Context(), old...), persistent.ErrStale)
				require.ErrorIs(t, g.Nack(t.Context(), persistent.Park, "", old...), persistent.ErrStale)
				require.ErrorIs(t, g.RetryAfter(t.Context(), time.Second, "", old...), persistent.ErrStale)
				require.EqualValues(t, 6, g.Stats().Stale)
				closed(t, g)
			})
		})
	}
	for name, tt := range tests {
		run(name, tt.send, tt.want, false)
		run(name, tt.send, tt.want, true)
	}
}

// The connection dies at each place; the second one delivers what the first did not get an ack for.
func TestTheConnectionDiesAnywhere(t *testing.T) {
	tests := map[string]struct {
		first  func(t *testing.T, p *scripted.Peer) // plays the first connection and closes it
		second []int
		use    func(t *testing.T, g *persistent.Group) // what is done meanwhile
		unsent int
	}{
		"before the answer": {func(_ *testing.T, p *scripted.Peer) {
			p.Want(messages.ConnectToPersistentSubscription)
		}, []int{1, 2}, nil, 0},
		"behind the confirmation": {func(t *testing.T, p *scripted.Peer) { joining(t, p) }, []int{1, 2}, nil, 0},
		"in a message": {func(t *testing.T, p *scripted.Peer) {
			b, _ := messages.AppendFrame(nil, joining(t, p), nil, messages.Raw(messages.PersistentSubscriptionStreamEventAppeared,
				messages.AppendPersistentEvent(nil, record(1), nil, 0)))
			_, _ = p.Conn.Write(b[:len(b)-3])
		}, []int{1, 2}, nil, 0},
		"behind a message that nobody took": {func(t *testing.T, p *scripted.Peer) {
			deliver(p, joining(t, p), 0, 1, 2)
		}, []int{1, 2}, func(*testing.T, *persistent.Group) { synctest.Wait() }, 0},
		"before the ack is sent": {func(t *testing.T, p *scripted.Peer) {
			deliver(p, joining(t, p), 0, 1, 2)
			_, _ = p.Reader.Next() // the client says nothing, and is waited for
		}, []int{1, 2}, func(t *testing.T, g *persistent.Group) {
			t.Helper()
			require.NoError(t, g.Ack(t.Context(), take(t, g, 1)...))
			time.Sleep(7 * time.Millisecond)
		}, 1},
		"before the ack is sent, with another message ready": {func(t *testing.T, p *scripted.Peer) {
			deliver(p, joining(t, p), 0, 1, 2)
			_, _ = p.Reader.Next()
		}, []int{1, 2}, func(t *testing.T, g *persistent.Group) {
			t.Helper()
			synctest.Wait()
			require.NoError(t, g.Ack(t.Context(), take(t, g, 1)...))
			require.Equal(t, 1, g.Stats().Buffered)
			time.Sleep(7 * time.Millisecond)
		}, 1},
		"behind the ack": {func(t *testing.T, p *scripted.Peer) {
			id := joining(t, p)
			deliver(p, id, 0, 1, 2)
			wantAcks(t, p, id, 1)
		}, []int{2}, func(t *testing.T, g *persistent.Group) {
			t.Helper()
			require.NoError(t, g.Ack(t.Context(), take(t, g, 1)...))
			time.Sleep(time.Second)
		}, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			played(t, func(p *scripted.Peer) {
				if p.Number == 1 {
					if strings.HasPrefix(name, "before the ack is sent") {
						time.AfterFunc(5*time.Millisecond, func() { _ = p.Conn.Close() })
					}
					tt.first(t, p)
					return
				}
				id := joining(t, p)
				deliver(p, id, 0, tt.second...)
				wantAcks(t, p, id, tt.second...)
				attend(p)
			}, func(t *testing.T, c *eventstore.Client) {
				unsent := 0
				g := join(t, c, persistent.Config{OnNotice: func(n persistent.Notice) { unsent += n.Unsent }})
				if tt.use != nil {
					tt.use(t, g)
				}
				require.NoError(t, g.Ack(t.Context(), take(t, g, tt.second...)...))
				require.Equal(t, tt.unsent, unsent)
				require.EqualValues(t, tt.unsent, g.Stats().Stale)
				closed(t, g)
			})
		})
	}
}

// A server may not have noticed yet that the old connection is gone.
func TestAPlaceInTheGroupIsWaitedFor(t *testing.T) {
	played(t, func(p *scripted.Peer) {
		if p.Number == 1 {
			joining(t, p)
			return
		}
		for range 10 {
			drop(p, asked(t, p), 4)
		}
		deliver(p, joining(t, p), 0, 1)
		attend(p)
	}, func(t *testing.T, c *eventstore.Client) {
		var told notices
		g := join(t, c, persistent.Config{OnNotice: told.add})
		take(t, g, 1)
		require.Equal(t, notices{"Joined", "Lost", "NotJoined", "Rejoined"}, told)
		closed(t, g)
	})
}

// A server that does not answer is told of, once.
func TestNoConfirmationIsTold(t *testing.T) {
	played(t, func(p *scripted.Peer) {
		if p.Number == 1 {
			joining(t, p)
			return
		}
		scripted.Drain(p)
	}, func(t *testing.T, c *eventstore.Client) {
		var told notices
		g := join(t, c, persistent.Config{OnNotice: told.add, StallAfter: 10 * time.Second})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := g.Recv(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, notices{"Joined", "Lost", "NotJoined"}, told)
		closed(t, g)
	})
}

// A server that does not keep to the window: what is too much is given up by joining again.
func TestMoreThanTheWindow(t *testing.T) {
	played(t, func(p *scripted.Peer) {
		first := joining(t, p)
		for n := range 30 {
			deliver(p, first, 0, n)
		}
		p.Want(messages.UnsubscribeFromStream)
		deliver(p, joining(t, p), 1, 0)
		attend(p)
	}, func(t *testing.T, c *eventstore.Client) {
		var lost error
		g := join(t, c, persistent.Config{Window: 4, OnNotice: func(n persistent.Notice) {
			if n.Kind == persistent.Lost {
				lost = n.Err
			}
		}})
		synctest.Wait()
		require.Equal(t, 1, take(t, g, 0)[0].Retries)
		require.ErrorIs(t, lost, eventstore.ErrOverflow)
		closed(t, g)
	})
}

func TestRecvEndsWithItsContext(t *testing.T) {
	played(t, func(p *scripted.Peer) {
		id := joining(t, p)
		time.Sleep(time.Minute)
		deliver(p, id, 0, 1)
		attend(p)
	}, func(t *testing.T, c *eventstore.Client) {
		g := join(t, c, persistent.Config{})
		silent(t, g, 10*time.Second)
		waits := make(chan error)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { // has the turn
			_, err := g.Recv(ctx)
			waits <- err
		}()
		synctest.Wait()
		silent(t, g, 10*time.Second) // waits for it
		cancel()
		require.ErrorIs(t, <-waits, context.Canceled)
		take(t, g, 1)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := g.Recv(ended)
		require.ErrorIs(t, err, context.Canceled)
		closed(t, g)
	})
}

func TestMessagesEndWithTheReason(t *testing.T) {
	played(t, func(p *scripted.Peer) {
		id := joining(t, p)
		deliver(p, id, 0, 0, 1, 2)
		drop(p, id, 2)
		attend(p)
	}, func(t *testing.T, c *eventstore.Client) {
		g := join(t, c, persistent.Config{})
		n := 0
		for m, err := range g.Messages(t.Context()) {
			if n == 3 {
				require.ErrorIs(t, err, persistent.ErrGroupNotFound)
				n++
				continue
			}
			require.NoError(t, err)
			require.EqualValues(t, n, m.Event.Number)
			n++
		}
		require.Equal(t, 4, n)
		closed(t, g)
	})
}

func TestCloseEndsAWaitingRecv(t *testing.T) {
	for name, play := range map[string]func(t *testing.T, p *scripted.Peer){
		"joined": func(t *testing.T, p *scripted.Peer) { joining(t, p); attend(p) },
		"joining again": func(t *testing.T, p *scripted.Peer) {
			if p.Number == 1 {
				joining(t, p)
				return
			}
			scripted.Drain(p)
		},
	} {
		t.Run(name, func(t *testing.T) {
			played(t, func(p *scripted.Peer) { play(t, p) }, func(t *testing.T, c *eventstore.Client) {
				g := join(t, c, persistent.Config{})
				done := make(chan error)
				for range 3 {
					go func() {
						_, err := g.Recv(context.Background())
						done <- err
					}()
				}
				time.Sleep(time.Second)
				closed(t, g)
				for range 3 {
					require.ErrorIs(t, <-done, eventstore.ErrClosed)
				}
			})
		})
	}
}

// Close waits for the server to take the last acks, but not for ever.
func TestCloseSaysWhenAcksMayBeLost(t *testing.T) {
	t.Run("no answer", func(t *testing.T) {
		played(t, func(p *scripted.Peer) {
			id := joining(t, p)
			deliver(p, id, 0, 1)
			wantAcks(t, p, id, 1)
			p.Want(messages.UnsubscribeFromStream)
			scripted.Drain(p)
		}, func(t *testing.T, c *eventstore.Client) {
			g := join(t, c, persistent.Config{AckAfter: time.Second})
			require.NoError(t, g.Ack(t.Context(), take(t, g, 1)...))
			start := time.Now()
			err := g.Close()
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.ErrorContains(t, err, "the last acks may be lost")
			require.Equal(t, 2*time.Second, time.Since(start))
			require.NoError(t, g.Close())
		})
	})
	t.Run("the connection dies", func(t *testing.T) {
		played(t, func(p *scripted.Peer) {
			if p.Number > 1 {
				attend(p) // pings are answered, but not behind the acks
				return
			}
			id := joining(t, p)
			deliver(p, id, 0, 1)
			p.Want(messages.PersistentSubscriptionAckEvents)
		}, func(t *testing.T, c *eventstore.Client) {
			g := join(t, c, persistent.Config{AckAfter: time.Second})
			require.NoError(t, g.Ack(t.Context(), take(t, g, 1)...))
			require.ErrorIs(t, g.Close(), eventstore.ErrConnectionLost)
		})
	})
	t.Run("nothing to lose", func(t *testing.T) {
		played(t, func(p *scripted.Peer) {
			deliver(p, joining(t, p), 0, 1)
			scripted.Drain(p)
		}, func(t *testing.T, c *eventstore.Client) {
			g := join(t, c, persistent.Config{})
			take(t, g, 1)
			start := time.Now()
			closed(t, g)
			require.Zero(t, time.Since(start))
		})
	})
}

func TestAClosedClientEndsIt(t *testing.T) {
	played(t, func(p *scripted.Peer) {
		deliver(p, joining(t, p), 0, 1)
		attend(p)
	}, func(t *testing.T, c *eventstore.Client) {
		g := join(t, c, persistent.Config{})
		m := take(t, g, 1)
		require.NoError(t, c.Close())
		require.ErrorIs(t, g.Ack(t.Context(), m...), eventstore.ErrClosed)
		_, err := g.Recv(t.Context())
		require.ErrorIs(t, err, eventstore.ErrClosed)
		closed(t, g)
	})
}
