package persistent_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/scripted"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/persistent"
)

// What a handler returns decides what becomes of its message.
func TestRunAnswers(t *testing.T) {
	played(t, func(p *scripted.Peer) {
		id := joining(t, p)
		deliver(p, id, 0, 0)
		wantAcks(t, p, id, 0)
		deliver(p, id, 0, 1)
		wantNaks(t, p, id, messages.NakRetry, "broken", 1)
		deliver(p, id, 0, 2)
		wantNaks(t, p, id, messages.NakPark, "why", 2)
		deliver(p, id, 0, 3)
		wantNaks(t, p, id, messages.NakRetry, "the handler panicked: oh", 3)
		deliver(p, id, 0, 4)
		wantNaks(t, p, id, messages.NakSkip, "", 4)
		deliver(p, id, 0, 5)
		start := time.Now()
		wantNaks(t, p, id, messages.NakRetry, "slowly", 5)
		if d := time.Since(start); d != 3*time.Second {
			t.Errorf("retried after %v", d)
		}
		deliver(p, id, 0, 6)
		attend(p)
	}, func(t *testing.T, c *eventstore.Client) {
		var failures []error
		g := join(t, c, persistent.Config{OnNotice: func(n persistent.Notice) {
			if n.Kind == persistent.Failed {
				failures = append(failures, n.Err)
			}
		}})
		ctx, cancel := context.WithCancel(t.Context())
		require.NoError(t, g.Run(ctx, 1, func(_ context.Context, m *persistent.Message) error {
			switch m.Event.Number {
			case 1:
				return errors.New("broken")
			case 2:
				return fmt.Errorf("around it: %w", &persistent.NackError{Action: persistent.Park, Reason: "why"})
			case 3:
				panic("oh")
			case 4:
				return &persistent.NackError{Action: persistent.Skip}
			case 5:
				return &persistent.NackError{Reason: "slowly", Delay: 3 * time.Second}
			case 6:
				cancel()
			}
			return nil
		}))
		require.Len(t, failures, 2)
		var panicked *persistent.PanicError
		require.ErrorAs(t, failures[1], &panicked)
		require.Equal(t, "oh", panicked.Value)
		require.Contains(t, string(panicked.Stack), "run_test.go")
		require.Zero(t, g.Stats().Queued, "what was acknowledged last is sent")
		closed(t, g)
	})
}

func TestRunDelaysRetries(t *testing.T) {
	played(t, func(p *scripted.Peer) {
		id := joining(t, p)
		start := time.Now()
		deliver(p, id, 0, 0)
		wantNaks(t, p, id, messages.NakRetry, "broken", 0)
		if d := time.Since(start); d != 2*time.Second {
			t.Errorf("retried after %v", d)
		}
		deliver(p, id, 1, 0)
		attend(p)
	}, func(t *testing.T, c *eventstore.Client) {
		g := join(t, c, persistent.Config{RetryDelay: 2 * time.Second})
		require.NoError(t, g.Run(t.Context(), 1, func(_ context.Context, m *persistent.Message) error {
			if m.Retries == 0 {
				return errors.New("broken")
			}
			return g.Close() //nolint:contextcheck // it ends Run
		}))
	})
}

// Several at a time, each message once, and no more of them than workers.
func TestRunHasWorkers(t *testing.T) {
	played(t, func(p *scripted.Peer) {
		id := joining(t, p)
		deliver(p, id, 0, count(0, 12)...)
		attend(p)
	}, func(t *testing.T, c *eventstore.Client) {
		g := join(t, c, persistent.Config{Window: 12})
		var mu sync.Mutex
		busy, most := 0, 0
		start := time.Now()
		seen := map[int64]int{}
		ctx, cancel := context.WithCancel(t.Context())
		require.NoError(t, g.Run(ctx, 4, func(_ context.Context, m *persistent.Message) error {
			mu.Lock()
			seen[m.Event.Number]++
			busy++
			most = max(most, busy)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			defer mu.Unlock()
			busy--
			if len(seen) == 12 {
				cancel()
			}
			return nil
		}))
		require.Len(t, seen, 12)
		require.Equal(t, 4, most)
		require.Equal(t, 3*time.Second, time.Since(start))
		require.EqualValues(t, 12, g.Stats().Acked)
		closed(t, g)
	})
}

// Workers that all hang cannot see that the window is full.
func TestRunTellsThatWorkersHang(t *testing.T) {
	played(t, func(p *scripted.Peer) {
		deliver(p, joining(t, p), 0, count(0, 4)...)
		attend(p)
	}, func(t *testing.T, c *eventstore.Client) {
		var mu sync.Mutex
		var told notices
		g := join(t, c, persistent.Config{Window: 4, StallAfter: 10 * time.Second, OnNotice: func(n persistent.Notice) {
			mu.Lock()
			defer mu.Unlock()
			told.add(n)
		}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.NoError(t, g.Run(ctx, 2, func(ctx context.Context, _ *persistent.Message) error {
			<-ctx.Done()
			return ctx.Err()
		}))
		require.Equal(t, "WindowFull", told[1])
		closed(t, g)
	})
}

func TestRunEnds(t *testing.T) {
	delivering := func(p *scripted.Peer) {
		deliver(p, joining(t, p), 0, 0, 1)
		attend(p)
	}
	t.Run("with the membership", func(t *testing.T) {
		played(t, func(p *scripted.Peer) {
			drop(p, joining(t, p), 2)
			attend(p)
		}, func(t *testing.T, c *eventstore.Client) {
			g := join(t, c, persistent.Config{})
			require.ErrorIs(t, g.Run(t.Context(), 3, func(context.Context, *persistent.Message) error { return nil }), persistent.ErrGroupNotFound)
			closed(t, g)
		})
	})
	t.Run("with the client", func(t *testing.T) {
		played(t, delivering, func(t *testing.T, c *eventstore.Client) {
			g := join(t, c, persistent.Config{})
			time.AfterFunc(time.Second, func() { _ = c.Close() })
			require.ErrorIs(t, g.Run(t.Context(), 3, func(context.Context, *persistent.Message) error { return nil }), eventstore.ErrClosed)
			closed(t, g)
		})
	})
	t.Run("with Close", func(t *testing.T) {
		played(t, delivering, func(t *testing.T, c *eventstore.Client) {
			g := join(t, c, persistent.Config{})
			time.AfterFunc(time.Second, func() { _ = g.Close() })
			require.NoError(t, g.Run(t.Context(), 3, func(context.Context, *persistent.Message) error { return nil }))
		})
	})
	t.Run("with a handler that ends its goroutine", func(t *testing.T) {
		played(t, delivering, func(t *testing.T, c *eventstore.Client) {
			g := join(t, c, persistent.Config{})
			err := g.Run(t.Context(), 2, func(context.Context, *persistent.Message) error {
				runtime.Goexit()
				return nil
			})
			require.ErrorContains(t, err, "ended its goroutine")
			closed(t, g)
		})
	})
	t.Run("before it begins", func(t *testing.T) {
		played(t, delivering, func(t *testing.T, c *eventstore.Client) {
			g := join(t, c, persistent.Config{})
			require.ErrorIs(t, g.Run(t.Context(), 0, func(context.Context, *persistent.Message) error { return nil }), eventstore.ErrArgument)
			require.ErrorIs(t, g.Run(t.Context(), 1, nil), eventstore.ErrArgument)
			synctest.Wait()
			closed(t, g)
		})
	})
}
