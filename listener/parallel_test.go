package listener_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/internal/faultnet"
	"github.com/goeventstore/eventstore/listener"
	"github.com/goeventstore/eventstore/subscription"
)

// keyed counts by key what a handler does, and how much of it at once.
type keyed struct {
	mu      sync.Mutex
	handled map[string][]int64
	now     map[string]int
	all     int
	most    int
}

func newKeyed() *keyed { return &keyed{handled: map[string][]int64{}, now: map[string]int{}} }

// by has the events of every n-th number share a key.
func by(n int64) func(eventstore.ResolvedEvent) string {
	return func(e eventstore.ResolvedEvent) string { return strconv.FormatInt(e.Event.Number%n, 10) }
}

// handle wraps a handler.
func (k *keyed) handle(key func(eventstore.ResolvedEvent) string, h listener.Handler) listener.Handler {
	return func(ctx context.Context, e eventstore.ResolvedEvent) error {
		name := key(e)
		k.mu.Lock()
		k.now[name]++
		k.all++
		k.most = max(k.most, k.all)
		together := k.now[name]
		k.mu.Unlock()
		defer func() {
			k.mu.Lock()
			defer k.mu.Unlock()
			k.now[name]--
			k.all--
		}()
		if together > 1 {
			return fmt.Errorf("%d events of key %s at once", together, name)
		}
		if err := h(ctx, e); err != nil {
			return err
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		k.handled[name] = append(k.handled[name], e.Event.Number)
		return nil
	}
}

// want checks that each key had its events in order, once each.
func (k *keyed) want(t *testing.T, keys, count int) {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	want := map[string][]int64{}
	for i := range count {
		name := strconv.Itoa(i % keys)
		want[name] = append(want[name], int64(i))
	}
	require.Equal(t, want, k.handled)
}

func sleepy(d time.Duration) listener.Handler {
	return func(context.Context, eventstore.ResolvedEvent) error { time.Sleep(d); return nil }
}

func TestKeysAreHandledAtOnceAndInOrder(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 100)
		k := newKeyed()
		store := listener.MemoryStore()
		var caughtUp atomic.Int64 // ns
		began := time.Now()
		l, err := listener.New(c, listener.Config{
			Name: "l", Stream: "s", Store: store, Parallel: 4, Key: by(10),
			OnCaughtUp: func(context.Context) { caughtUp.Store(int64(time.Since(began))); k.want(t, 10, 100) },
		}, k.handle(by(10), sleepy(time.Second)))
		require.NoError(t, err)
		stop := start(t, l)
		time.Sleep(time.Minute)
		synctest.Wait()
		k.want(t, 10, 100)
		require.Equal(t, 4, k.most)
		require.InDelta(t, 26*time.Second, caughtUp.Load(), float64(2*time.Second), "when all before it was handled, and that at once")
		status := l.Status()
		require.EqualValues(t, 100, status.Handled)
		require.Equal(t, eventstore.After(99), status.Checkpoint)
		at, err := store.Load(t.Context(), "l")
		require.NoError(t, err)
		require.Equal(t, eventstore.After(99), at)
		require.NoError(t, stop())
	})
}

// One event stands in the way: others go on, up to a bound, and the checkpoint stays before it.
func TestTheCheckpointIsNeverAheadOfUnfinishedWork(t *testing.T) {
	bubble(t, func(t *testing.T, srv *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 1000)
		k := newKeyed()
		free := make(chan struct{})
		store := &counting{Store: listener.MemoryStore()}
		var told []subscription.Kind
		l, err := listener.New(c, listener.Config{
			Name: "l", Stream: "s", Store: store, Parallel: 2, Key: by(10), SaveEvery: 1,
			OnNotice: func(n subscription.Notice) { told = append(told, n.Kind) },
		}, k.handle(by(10), func(_ context.Context, e eventstore.ResolvedEvent) error {
			if e.Event.Number == 7 {
				<-free
			}
			return nil
		}))
		require.NoError(t, err)
		stop := start(t, l)
		require.Equal(t, eventstore.After(6), l.Status().Checkpoint)
		places := store.places()
		require.Equal(t, eventstore.After(6), places[len(places)-1])
		require.EqualValues(t, 7+128-13, l.Status().Handled, "128 from number 7 on, without those of its key")
		srv.Cut()
		time.Sleep(time.Minute)
		require.Equal(t, eventstore.After(6), l.Status().Checkpoint)
		close(free)
		time.Sleep(time.Minute)
		synctest.Wait()
		k.want(t, 10, 1000)
		require.Equal(t, eventstore.After(999), l.Status().Checkpoint)
		require.Equal(t, []subscription.Kind{subscription.CaughtUp}, told[len(told)-1:])
		require.NoError(t, stop())
	})
}

// An event of a key fails for a while, without a worker being busy with it; notices wait for it.
func TestOtherKeysGoOnWhileOneFails(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 100)
		k := newKeyed()
		broken := errors.New("broken")
		began := time.Now()
		var caughtUp atomic.Int64 // ns
		l, err := listener.New(c, listener.Config{
			Stream: "s", Parallel: 2, Key: by(10), Backoff: constant,
			OnCaughtUp: func(context.Context) { caughtUp.Store(int64(time.Since(began))) },
		}, k.handle(by(10), func(_ context.Context, e eventstore.ResolvedEvent) error {
			if time.Since(began) >= 5*time.Second {
				return nil
			}
			switch e.Event.Number {
			case 3, 4:
				return broken
			case 5:
				panic(broken)
			}
			return nil
		}))
		require.NoError(t, err)
		stop := start(t, l)
		status := l.Status()
		require.EqualValues(t, 70, status.Handled)
		require.EqualValues(t, 3, status.Failures)
		require.Equal(t, listener.Retrying, status.State)
		require.ErrorIs(t, status.LastError, broken)
		require.Equal(t, eventstore.After(2), status.Checkpoint)
		require.Zero(t, caughtUp.Load())
		time.Sleep(time.Minute)
		synctest.Wait()
		k.want(t, 10, 100)
		require.EqualValues(t, 5*time.Second, caughtUp.Load())
		status = l.Status()
		require.EqualValues(t, 15, status.Failures)
		require.Equal(t, listener.Following, status.State)
		require.NoError(t, status.LastError)
		require.NoError(t, stop())
	})
}

func TestPoliciesOfKeys(t *testing.T) {
	for name, c := range map[string]struct {
		policy  listener.Policy
		handled int
		kept    string
	}{
		"stop": {policy: listener.RetryThenStop(3), handled: 98},
		"skip": {policy: listener.RetryThenSkip(3), handled: 99, kept: listener.SkippedStream("l")},
		"park": {policy: listener.RetryThenPark(3, "parked"), handled: 99, kept: "parked"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, _ *eventstoretest.Server, client *eventstore.Client) {
				write(t, client, 0, 100)
				k := newKeyed()
				store := listener.MemoryStore()
				l, err := listener.New(client, listener.Config{
					Name: "l", Stream: "s", Store: store, Parallel: 4, Key: by(33), Backoff: constant, OnFailure: c.policy,
				}, k.handle(by(33), func(_ context.Context, e eventstore.ResolvedEvent) error {
					if e.Event.Number == 40 {
						return errors.New("no more")
					}
					return nil
				}))
				require.NoError(t, err)
				done := make(chan error, 1)
				go func() { done <- l.Run(t.Context()) }()
				time.Sleep(time.Minute)
				synctest.Wait()
				if c.kept == "" {
					var failed *listener.HandlerError
					require.ErrorAs(t, <-done, &failed)
					require.EqualValues(t, 40, failed.Number)
					require.Equal(t, 3, failed.Attempts)
					at, err := store.Load(t.Context(), "l")
					require.NoError(t, err)
					require.Equal(t, eventstore.After(39), at)
				} else {
					require.Equal(t, eventstore.After(99), l.Status().Checkpoint)
					l.Stop()
					require.NoError(t, <-done)
					kept := failures(t, client, c.kept)
					require.Len(t, kept, 1)
					require.EqualValues(t, 40, kept[0].Event.Event.Number)
					require.EqualValues(t, 1, l.Status().GivenUp)
				}
				require.EqualValues(t, c.handled, l.Status().Handled)
			})
		})
	}
}

// Pause finishes what was taken; Stop what is being handled.
func TestPauseAndStopWithKeys(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 1000)
		k := newKeyed()
		store := listener.MemoryStore()
		l, err := listener.New(c, listener.Config{Name: "l", Stream: "s", Store: store, Parallel: 2, Key: by(10)}, k.handle(by(10), sleepy(time.Second)))
		require.NoError(t, err)
		stop := start(t, l)
		time.Sleep(500 * time.Millisecond)
		at, err := l.Pause(t.Context())
		require.NoError(t, err)
		require.Equal(t, eventstore.After(127), at)
		k.want(t, 10, 128)
		saved, err := store.Load(t.Context(), "l")
		require.NoError(t, err)
		require.Equal(t, at, saved)
		require.NoError(t, l.Resume(t.Context()))
		time.Sleep(1500 * time.Millisecond)
		require.NoError(t, stop())
		k.want(t, 10, 132)
		at, err = store.Load(t.Context(), "l")
		require.NoError(t, err)
		require.Equal(t, eventstore.After(131), at)
	})
}

// An event that fails is not waited for by Pause, and comes again, with those behind it.
func TestPauseDoesNotWaitForAFailingKey(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 20)
		var mu sync.Mutex
		broken, calls := true, map[int64]int{}
		l, err := listener.New(c, listener.Config{Stream: "s", Parallel: 2, Key: by(2), Backoff: constant}, func(_ context.Context, e eventstore.ResolvedEvent) error {
			mu.Lock()
			defer mu.Unlock()
			if broken && e.Event.Number == 5 {
				return errors.New("broken")
			}
			calls[e.Event.Number]++
			return nil
		})
		require.NoError(t, err)
		stop := start(t, l)
		began := time.Now()
		at, err := l.Pause(t.Context())
		require.NoError(t, err)
		require.Zero(t, time.Since(began))
		require.Equal(t, eventstore.After(4), at)
		mu.Lock()
		broken = false
		mu.Unlock()
		require.NoError(t, l.Resume(t.Context()))
		synctest.Wait()
		require.NoError(t, stop())
		for n := range int64(20) {
			want := 1
			if n > 5 && n%2 == 0 {
				want = 2 // it was handled beyond the checkpoint
			}
			require.Equal(t, want, calls[n], n)
		}
	})
}

func TestKeysAreHandledToTheEndOfTheStream(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		k := newKeyed()
		fails := 2
		l, err := listener.New(c, listener.Config{Stream: "s", Parallel: 2, Key: by(3), Backoff: constant}, k.handle(by(3), func(_ context.Context, e eventstore.ResolvedEvent) error {
			time.Sleep(time.Second)
			if e.Event.Number == 4 {
				if fails--; fails >= 0 {
					return errors.New("broken")
				}
			}
			return nil
		}))
		require.NoError(t, err)
		done := make(chan error, 1)
		go func() { done <- l.Run(t.Context()) }()
		synctest.Wait()
		write(t, c, 0, 20)
		_, err = c.HardDelete(t.Context(), "s", eventstore.Any)
		require.NoError(t, err)
		require.ErrorIs(t, <-done, eventstore.ErrStreamDeleted)
		k.want(t, 3, 20)
	})
}

func TestAKeyThatPanicsEndsTheRun(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 3)
		var got seen
		l, err := listener.New(c, listener.Config{Stream: "s", Parallel: 2, Key: func(eventstore.ResolvedEvent) string { panic("no key") }}, got.handle)
		require.NoError(t, err)
		var panicked *listener.PanicError
		require.ErrorAs(t, l.Run(t.Context()), &panicked)
		require.Equal(t, "no key", panicked.Value)
	})
}

// The default key is the stream of the event, also of one that is gone.
func TestTheDefaultKeyIsTheStream(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		for _, stream := range []string{"a-1", "a-2"} {
			_, err := c.Append(t.Context(), stream, eventstore.NoStream, []eventstore.EventData{{Type: "x"}, {Type: "x"}})
			require.NoError(t, err)
		}
		var links []eventstore.EventData
		for _, to := range []string{"0@a-1", "0@a-2", "5@a-2", "1@a-2", "1@a-1"} {
			links = append(links, eventstore.EventData{Type: "$>", Data: []byte(to)})
		}
		_, err := c.Append(t.Context(), "s", eventstore.NoStream, links)
		require.NoError(t, err)
		var mu sync.Mutex
		times := map[int64]time.Duration{}
		began := time.Now()
		l, err := listener.New(c, listener.Config{Stream: "s", Parallel: 10}, func(_ context.Context, e eventstore.ResolvedEvent) error {
			time.Sleep(time.Second)
			mu.Lock()
			defer mu.Unlock()
			times[e.Link.Number] = time.Since(began)
			return nil
		})
		require.NoError(t, err)
		stop := start(t, l)
		time.Sleep(time.Minute)
		require.NoError(t, stop())
		require.Equal(t, map[int64]time.Duration{
			0: time.Second, 1: time.Second, 2: 2 * time.Second, 3: 3 * time.Second, 4: 2 * time.Second,
		}, times)
	})
}

// Handlers fail, panic and take their time, connections break, the listener pauses and runs anew: each key has its events in
// order and without a gap, and no run begins behind an event that was not handled.
func TestKeysUnderFire(t *testing.T) {
	for seed := range faultnet.Seeds(t, 20) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			bubble(t, func(t *testing.T, srv *eventstoretest.Server, c *eventstore.Client) {
				const events = 400
				random := rand.New(rand.NewPCG(seed, 2))
				var mu sync.Mutex // guards what follows, and random
				calm := false
				keys := int64(1 + random.IntN(20))
				latest := map[string]int64{} // by key
				handled := map[int64]bool{}
				handler := func(ctx context.Context, e eventstore.ResolvedEvent) error {
					mu.Lock()
					what, key := random.IntN(30), by(keys)(e)
					if calm {
						what = 29
					}
					mu.Unlock()
					switch what {
					case 0:
						panic("a bad day")
					case 1:
						return errors.New("a bad day")
					case 2, 3, 4:
						time.Sleep(time.Duration(what) * time.Millisecond)
						if ctx.Err() != nil {
							return ctx.Err()
						}
					}
					mu.Lock()
					defer mu.Unlock()
					if last, ok := latest[key]; ok && e.Event.Number > last+keys {
						return fmt.Errorf("key %s: %d comes behind %d", key, e.Event.Number, last)
					}
					latest[key] = e.Event.Number
					handled[e.Event.Number] = true
					return nil
				}
				store := &counting{Store: listener.MemoryStore()}
				cfg := listener.Config{
					Name: "l", Stream: "s", Store: store, Parallel: 2 + random.IntN(6), Key: by(keys), SaveEvery: 1 + random.IntN(20),
					Backoff: constant, OnFailure: listener.RetryThenStop(20),
				}
				check := func() {
					mu.Lock()
					defer mu.Unlock()
					for _, at := range store.places() {
						n, _ := at.Number()
						for i := range n + 1 {
							require.True(t, handled[i], "checkpoint %v and not %d", at, i)
						}
					}
				}
				begin := func() (*listener.Listener, func() error) {
					l, err := listener.New(c, cfg, handler)
					require.NoError(t, err)
					return l, start(t, l)
				}
				l, stop := begin()
				for written := 0; written < events; {
					mu.Lock()
					what, n := random.IntN(8), 1+random.IntN(40)
					mu.Unlock()
					switch what {
					case 0:
						srv.Cut()
					case 1:
						require.NoError(t, stop())
						check()
						l, stop = begin()
					case 2:
						_, err := l.Pause(t.Context())
						require.NoError(t, err)
						check()
						require.NoError(t, l.Resume(t.Context()))
					case 3:
						time.Sleep(time.Duration(n) * 20 * time.Millisecond)
					default:
						n = min(n, events-written)
						write(t, c, written, n)
						written += n
					}
				}
				mu.Lock()
				calm = true
				mu.Unlock()
				time.Sleep(5 * time.Minute)
				synctest.Wait()
				require.Len(t, handled, events)
				require.Equal(t, eventstore.After(events-1), l.Status().Checkpoint)
				require.NoError(t, stop())
				check()
				require.True(t, slices.IsSortedFunc(store.places(), func(a, b eventstore.From) int {
					c, err := a.Compare(b)
					require.NoError(t, err)
					return c
				}))
			})
		})
	}
}
