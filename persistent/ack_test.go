package persistent_test

import (
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

// count is first, first+1, ...
func count(first, n int) (all []int) {
	for i := range n {
		all = append(all, first+i)
	}
	return all
}

func TestAcksGoTogether(t *testing.T) {
	// Each case acknowledges events one after the other, and the server wants them in these frames.
	tests := map[string]struct {
		cfg    persistent.Config
		sends  int // events, first
		use    func(t *testing.T, g *persistent.Group)
		frames [][]int
		within time.Duration // until the last frame, in virtual time
	}{
		"by count": {persistent.Config{Window: 100, AckEvery: 3, AckAfter: time.Second}, 7, func(t *testing.T, g *persistent.Group) {
			t.Helper()
			for _, m := range take(t, g, count(0, 7)...) {
				require.NoError(t, g.Ack(t.Context(), m))
			}
		}, [][]int{{0, 1, 2}, {3, 4, 5}, {6}}, time.Second},
		"by count, the default": {persistent.Config{Window: 4, AckAfter: time.Second}, 4, func(t *testing.T, g *persistent.Group) {
			t.Helper()
			for _, m := range take(t, g, count(0, 4)...) {
				require.NoError(t, g.Ack(t.Context(), m))
			}
		}, [][]int{{0, 1}, {2, 3}}, 0},
		"by time": {persistent.Config{Window: 100, AckAfter: time.Second}, 2, func(t *testing.T, g *persistent.Group) {
			t.Helper()
			require.NoError(t, g.Ack(t.Context(), take(t, g, 0)...))
			time.Sleep(500 * time.Millisecond)
			require.NoError(t, g.Ack(t.Context(), take(t, g, 1)...))
			require.Equal(t, 2, g.Stats().Queued)
		}, [][]int{{0, 1}}, time.Second},
		"when the window is used up and Recv waits": {persistent.Config{Window: 4, AckEvery: 4, AckAfter: 20 * time.Second}, 4, func(t *testing.T, g *persistent.Group) {
			t.Helper()
			all := take(t, g, count(0, 4)...)
			require.NoError(t, g.Ack(t.Context(), all[:2]...))
			synctest.Wait()
			require.Equal(t, 2, g.Stats().Queued)
			silent(t, g, time.Second)
			require.Zero(t, g.Stats().Queued)
			require.Equal(t, 2, g.Stats().InFlight)
		}, [][]int{{0, 1}}, 0},
		"while Recv waits with a window that is used up": {persistent.Config{Window: 4, AckEvery: 4, AckAfter: 20 * time.Second}, 4, func(t *testing.T, g *persistent.Group) {
			t.Helper()
			all := take(t, g, count(0, 4)...)
			time.AfterFunc(time.Second, func() { _ = g.Ack(t.Context(), all[2]) })
			silent(t, g, 2*time.Second)
			require.Zero(t, g.Stats().Queued)
			require.Equal(t, 3, g.Stats().InFlight)
		}, [][]int{{2}}, time.Second},
		"with Close": {persistent.Config{Window: 100, AckAfter: 20 * time.Second}, 2, func(t *testing.T, g *persistent.Group) {
			t.Helper()
			require.NoError(t, g.Ack(t.Context(), take(t, g, 0, 1)...))
			require.NoError(t, g.Close())
		}, [][]int{{0, 1}}, 0},
		"no more than 2,000 in a frame": {persistent.Config{Window: 10_000, AckEvery: 10_000}, 4500, func(t *testing.T, g *persistent.Group) {
			t.Helper()
			require.NoError(t, g.Ack(t.Context(), take(t, g, count(0, 4500)...)...))
		}, [][]int{count(0, 2000), count(2000, 2000), count(4000, 500)}, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			played(t, func(p *scripted.Peer) {
				id := joining(t, p)
				start := time.Now()
				deliver(p, id, 0, count(0, tt.sends)...)
				for _, frame := range tt.frames {
					wantAcks(t, p, id, frame...)
				}
				if d := time.Since(start); d > tt.within {
					t.Errorf("the last frame came after %v", d)
				}
				attend(p)
			}, func(t *testing.T, c *eventstore.Client) {
				g := join(t, c, tt.cfg)
				tt.use(t, g)
				time.Sleep(2 * time.Second)
				closed(t, g)
				require.Zero(t, g.Stats().Queued)
				require.Zero(t, g.Stats().Stale)
			})
		})
	}
}

// The id of an ack is that of the original: the link's, also without a target, and the parked link's of a replayed message.
func TestAcksGoByTheOriginal(t *testing.T) {
	target := messages.EventRecord{Stream: "t", Number: 9, ID: eventID(9), Type: "t"}
	link := func(n int, stream string) []byte {
		r := messages.EventRecord{Stream: stream, Number: int64(n), ID: eventID(n), Type: "$>", Data: []byte("9@t")}
		return r.AppendTo(nil)
	}
	played(t, func(p *scripted.Peer) {
		id := joining(t, p)
		for _, body := range [][]byte{
			messages.AppendPersistentEvent(nil, target.AppendTo(nil), link(1, stream), 0),
			messages.AppendPersistentEvent(nil, nil, link(2, stream), 0),
			messages.AppendPersistentEvent(nil, target.AppendTo(nil), link(3, "$persistentsubscription-orders::billing-parked"), 0),
			messages.AppendPersistentEvent(nil, link(4, stream), nil, 0), // raw links
		} {
			p.SendRequest(id, messages.Raw(messages.PersistentSubscriptionStreamEventAppeared, body))
		}
		wantAcks(t, p, id, 1, 2, 3, 4)
		attend(p)
	}, func(t *testing.T, c *eventstore.Client) {
		g := join(t, c, persistent.Config{})
		all := take(t, g, 1, 2, 3, 4)
		require.Equal(t, eventID(9), all[0].Event.ID)
		require.Nil(t, all[1].Event)
		require.NoError(t, g.Ack(t.Context(), all...))
		time.Sleep(time.Second)
		closed(t, g)
	})
}

func TestNacks(t *testing.T) {
	long := strings.Repeat("ä", 3000) // 6,000 bytes
	played(t, func(p *scripted.Peer) {
		id := joining(t, p)
		deliver(p, id, 0, count(0, 6)...)
		wantNaks(t, p, id, messages.NakPark, "why", 0, 1)
		wantNaks(t, p, id, messages.NakRetry, "", 2)
		wantNaks(t, p, id, messages.NakSkip, long[:4096], 3)
		wantNaks(t, p, id, messages.NakStop, "a", 4)
		attend(p)
	}, func(t *testing.T, c *eventstore.Client) {
		g := join(t, c, persistent.Config{})
		all := take(t, g, count(0, 6)...)
		require.NoError(t, g.Nack(t.Context(), persistent.Park, "why", all[:2]...))
		require.NoError(t, g.Nack(t.Context(), persistent.Retry, "", all[2]))
		require.NoError(t, g.Nack(t.Context(), persistent.Skip, long, all[3]))
		require.NoError(t, g.Nack(t.Context(), persistent.Stop, "a\xff", all[4]))
		require.ErrorIs(t, g.Nack(t.Context(), 0, "", all[5]), eventstore.ErrArgument)
		require.ErrorIs(t, g.Nack(t.Context(), 5, "", all[5]), eventstore.ErrArgument)
		require.NoError(t, g.Nack(t.Context(), persistent.Park, ""), "nothing to say")
		require.Equal(t, 1, g.Stats().InFlight)
		require.EqualValues(t, 5, g.Stats().Nacked)
		closed(t, g)
	})
}

func TestAnswersAreGivenOnce(t *testing.T) {
	played(t, func(p *scripted.Peer) {
		id := joining(t, p)
		deliver(p, id, 0, 0, 1, 2)
		if f := p.Next(); f.Command == messages.ConnectToPersistentSubscription { // the other member
			confirm(p, f.ID)
		}
		wantNaks(t, p, id, messages.NakSkip, "", 1)
		wantAcks(t, p, id, 0, 2)
		attend(p)
	}, func(t *testing.T, c *eventstore.Client) {
		g, other := join(t, c, persistent.Config{AckAfter: time.Second}), join(t, c, persistent.Config{})
		all := take(t, g, 0, 1, 2)
		require.NoError(t, g.Ack(t.Context(), all[0]))
		require.NoError(t, g.Nack(t.Context(), persistent.Skip, "", all[1]))
		err := g.Ack(t.Context(), all...) // the third is taken
		var stale *persistent.StaleError
		require.ErrorAs(t, err, &stale)
		require.Equal(t, all[:2], stale.Messages)
		require.ErrorContains(t, err, "no longer this member's: 2 of this call")
		require.ErrorIs(t, other.Ack(t.Context(), all...), eventstore.ErrArgument)
		require.ErrorIs(t, g.Ack(t.Context(), nil), eventstore.ErrArgument)
		require.NoError(t, g.Ack(t.Context()))
		time.Sleep(time.Second)
		closed(t, g)
		closed(t, other)
	})
}

func TestRetryAfter(t *testing.T) {
	t.Run("in time", func(t *testing.T) {
		played(t, func(p *scripted.Peer) {
			id := joining(t, p)
			start := time.Now()
			deliver(p, id, 0, 0, 1, 2)
			wantNaks(t, p, id, messages.NakRetry, "now", 2)
			for i, at := range []time.Duration{5 * time.Second, 27 * time.Second} { // the second goes before the server's time-out
				wantNaks(t, p, id, messages.NakRetry, "later", i)
				if d := time.Since(start); d != at {
					t.Errorf("nak %d came after %v", i, d)
				}
			}
			attend(p)
		}, func(t *testing.T, c *eventstore.Client) {
			g := join(t, c, persistent.Config{})
			all := take(t, g, 0, 1, 2)
			require.ErrorIs(t, g.RetryAfter(t.Context(), 30*time.Second, "", all[2]), eventstore.ErrArgument)
			require.ErrorIs(t, g.RetryAfter(t.Context(), -1, "", all[2]), eventstore.ErrArgument)
			require.NoError(t, g.RetryAfter(t.Context(), 0, "now", all[2]))
			require.NoError(t, g.RetryAfter(t.Context(), 5*time.Second, "later", all[0]))
			require.ErrorIs(t, g.Ack(t.Context(), all[0]), persistent.ErrStale)
			require.Equal(t, 2, g.Stats().InFlight, "it keeps its place")
			time.Sleep(20 * time.Second)
			require.NoError(t, g.RetryAfter(t.Context(), 20*time.Second, "later", all[1]))
			time.Sleep(20 * time.Second)
			require.Zero(t, g.Stats().InFlight)
			closed(t, g)
		})
	})
	t.Run("at once with Close", func(t *testing.T) {
		played(t, func(p *scripted.Peer) {
			id := joining(t, p)
			deliver(p, id, 0, 0)
			wantNaks(t, p, id, messages.NakRetry, "later", 0)
			attend(p)
		}, func(t *testing.T, c *eventstore.Client) {
			g := join(t, c, persistent.Config{})
			require.NoError(t, g.RetryAfter(t.Context(), 5*time.Second, "later", take(t, g, 0)...))
			closed(t, g)
		})
	})
	t.Run("not on another connection", func(t *testing.T) {
		played(t, func(p *scripted.Peer) {
			id := joining(t, p)
			if p.Number == 1 {
				deliver(p, id, 0, 0)
				time.Sleep(time.Second)
				return
			}
			deliver(p, id, 1, 0)
			wantAcks(t, p, id, 0) // and no nak before it
			attend(p)
		}, func(t *testing.T, c *eventstore.Client) {
			g := join(t, c, persistent.Config{})
			require.NoError(t, g.RetryAfter(t.Context(), 3*time.Second, "later", take(t, g, 0)...))
			m := take(t, g, 0)
			time.Sleep(5 * time.Second)
			require.NoError(t, g.Ack(t.Context(), m...))
			time.Sleep(time.Second)
			closed(t, g)
		})
	})
}

// A window of messages that nobody answers is told of, once until something moves.
func TestAFullWindowIsTold(t *testing.T) {
	played(t, func(p *scripted.Peer) {
		id := joining(t, p)
		deliver(p, id, 0, 0, 1, 2)
		wantAcks(t, p, id, 0)
		deliver(p, id, 0, 3)
		wantAcks(t, p, id, 1)
		attend(p)
	}, func(t *testing.T, c *eventstore.Client) {
		var told notices
		g := join(t, c, persistent.Config{Window: 3, OnNotice: func(n persistent.Notice) {
			told.add(n)
			if n.Kind == persistent.WindowFull {
				require.Equal(t, 3, n.InFlight)
			}
		}})
		all := take(t, g, 0, 1, 2)
		silent(t, g, 29*time.Second)
		require.Equal(t, notices{"Joined"}, told)
		silent(t, g, 10*time.Minute)
		require.Equal(t, notices{"Joined", "WindowFull"}, told)
		require.NoError(t, g.Ack(t.Context(), all[0]))
		take(t, g, 3)
		silent(t, g, time.Minute)
		require.Equal(t, notices{"Joined", "WindowFull", "WindowFull"}, told)
		require.NoError(t, g.Ack(t.Context(), all[1]))
		silent(t, g, 10*time.Minute)
		require.Len(t, told, 3, "there is room now")
		closed(t, g)
	})
}

// What the server took back because its time was up does not count for ever.
func TestTimedOutMessagesDoNotFillTheWindow(t *testing.T) {
	played(t, func(p *scripted.Peer) {
		id := joining(t, p)
		for retries := range int32(5) {
			deliver(p, id, retries, 0, 1)
			time.Sleep(30 * time.Second)
		}
		wantAcks(t, p, id, 0, 1)
		attend(p)
	}, func(t *testing.T, c *eventstore.Client) {
		g := join(t, c, persistent.Config{Window: 2, AckEvery: 2})
		var all []*persistent.Message
		for retries := range 5 {
			all = take(t, g, 0, 1)
			require.Equal(t, retries, all[1].Retries)
			require.Equal(t, 2, g.Stats().InFlight)
		}
		require.NoError(t, g.Ack(t.Context(), all...))
		time.Sleep(time.Minute)
		require.Zero(t, g.Stats().InFlight)
		closed(t, g)
	})
}
