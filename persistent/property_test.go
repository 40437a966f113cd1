package persistent_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/faultnet"
	"github.com/goeventstore/eventstore/persistent"
)

// Members come, work, fail, hang and lose their connections, and the group is updated under them: every event is handled at
// least once, none is acknowledged that was not handled, and the server is never told anything that it did not ask for. SEED
// repeats one run.
func TestNothingIsLost(t *testing.T) {
	for seed := range faultnet.Seeds(t, 20) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { lossless(t, rand.New(rand.NewPCG(seed, 7))) })
		})
	}
}

func lossless(t *testing.T, r *rand.Rand) {
	t.Helper()
	const events = 150
	const timeout = 5 * time.Second
	f := newFakeGroup(t, events, timeout)
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	var mu sync.Mutex
	handled := map[int64]string{} // what a handler made of it last, with which it may be done
	tries := map[int64]int{}
	random := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return r.IntN(n)
	}
	handler := func(g *persistent.Group, window int) func(context.Context, *persistent.Message) error {
		return func(_ context.Context, m *persistent.Message) error {
			if in := g.Stats().InFlight; in > window {
				t.Errorf("%d in flight, with a window of %d", in, window)
			}
			number := m.Event.Number
			finish := func(how string, err error) error {
				mu.Lock()
				defer mu.Unlock()
				handled[number] += how + " "
				tries[number]++
				return err
			}
			switch random(12) {
			case 0:
				return finish("failed", errors.New("failed"))
			case 1:
				return finish("Park", &persistent.NackError{Action: persistent.Park})
			case 2:
				return finish("Skip", &persistent.NackError{Action: persistent.Skip})
			case 3:
				return finish("later", &persistent.NackError{Delay: time.Duration(random(6000)) * time.Millisecond})
			case 4:
				_ = finish("panicked", nil)
				panic("on purpose")
			case 5:
				if random(3) == 0 {
					time.Sleep(time.Duration(random(2)) * timeout * 3 / 2) // hangs beyond the time-out
				}
			case 6, 7:
				time.Sleep(time.Duration(random(300)) * time.Millisecond)
			}
			return finish("acked", nil)
		}
	}
	var crew sync.WaitGroup
	for range 1 + random(3) {
		c, err := eventstore.Connect(ctx, "tcp://server:1113", eventstore.WithDialer(f.network.Dial))
		require.NoError(t, err)
		window := 1 + random(20)
		cfg := persistent.Config{
			Stream: stream, Group: group, Window: window, AckEvery: random(window) + 1, MessageTimeout: timeout,
			AckAfter: time.Duration(random(500)+1) * time.Millisecond, RetryDelay: time.Duration(random(1000)) * time.Millisecond,
			OnNotice: func(persistent.Notice) {},
		}
		lifetime := time.Duration(random(60)+5) * time.Second
		workers := 1 + random(4)
		crew.Go(func() { // one that leaves and comes again
			defer func() { _ = c.Close() }()
			for ctx.Err() == nil {
				g, err := persistent.Join(ctx, c, cfg)
				if err != nil {
					if ctx.Err() == nil {
						t.Error(err)
					}
					return
				}
				life, end := context.WithTimeout(ctx, lifetime)
				if err := g.Run(life, workers, handler(g, window)); err != nil {
					t.Error(err)
				}
				end()
				_ = g.Close() //nolint:contextcheck // its error says that acks may be lost
				if s := g.Stats(); s.InFlight+s.Queued+s.Buffered != 0 || s.Joined {
					t.Errorf("behind Close: %+v", s)
				}
			}
		})
	}
	for !f.finished(events) && ctx.Err() == nil {
		time.Sleep(time.Duration(random(3000)) * time.Millisecond)
		if random(2) == 0 {
			f.fault(random)
		}
	}
	cancelled := ctx.Err()
	cancel()
	crew.Wait()
	require.NoError(t, cancelled, "not everything was done: %v", f)
	for n := range int64(events) {
		require.Contains(t, handled[n], f.done[int(n)], "event %d", n)
	}
}
