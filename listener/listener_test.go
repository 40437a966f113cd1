package listener_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/listener"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/subscription"
)

func bubble(t *testing.T, test func(t *testing.T, srv *eventstoretest.Server, c *eventstore.Client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		srv := eventstoretest.Run(t, eventstoretest.InMemory())
		test(t, srv, srv.Client(t))
	})
}

func write(t *testing.T, c *eventstore.Client, first, count int) {
	t.Helper()
	events := make([]eventstore.EventData, count)
	for i := range events {
		events[i] = eventstore.EventData{Type: "numbered", Data: fmt.Appendf(nil, "%d", first+i)}
	}
	_, err := c.Append(t.Context(), "s", eventstore.ExpectedVersion(first-1), events)
	require.NoError(t, err)
}

// seen is a handler that keeps the numbers it got.
type seen struct {
	mu      sync.Mutex
	numbers []int64
}

func (s *seen) handle(_ context.Context, e eventstore.ResolvedEvent) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.numbers = append(s.numbers, e.Event.Number)
	return nil
}

func (s *seen) want(t *testing.T, first, count int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []int64
	for i := range count {
		all = append(all, int64(first+i))
	}
	require.Equal(t, all, s.numbers)
}

// start runs a listener and returns a function that stops it and gives Run's error.
func start(t *testing.T, l *listener.Listener) (stop func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- l.Run(t.Context()) }()
	synctest.Wait()
	return func() error {
		l.Stop()
		return <-done
	}
}

func constant() backoff.BackOff { return backoff.NewConstantBackOff(time.Second) }

func TestEveryRunGoesOnWhereTheLastOneStopped(t *testing.T) {
	stores := map[string]func(t *testing.T) listener.Store{
		"memory": func(*testing.T) listener.Store { return listener.MemoryStore() },
		"file":   func(t *testing.T) listener.Store { t.Helper(); return listener.FileStore(t.TempDir()) },
	}
	for name, store := range stores {
		t.Run(name, func(t *testing.T) {
			store := store(t)
			bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
				write(t, c, 0, 10)
				for run := range 3 {
					var got seen
					l, err := listener.New(c, listener.Config{Name: "l", Stream: "s", Store: store}, got.handle)
					require.NoError(t, err)
					stop := start(t, l)
					write(t, c, 10*run+10, 10)
					synctest.Wait()
					require.NoError(t, stop())
					if run == 0 {
						got.want(t, 0, 20)
					} else {
						got.want(t, 10*run+10, 10)
					}
					at, err := store.Load(t.Context(), "l")
					require.NoError(t, err)
					require.Equal(t, eventstore.After(int64(10*run+19)), at)
					require.Equal(t, at, l.Status().Checkpoint)
					require.Equal(t, listener.Stopped, l.Status().State)
				}
			})
		})
	}
}

func TestCaughtUpIsTold(t *testing.T) {
	bubble(t, func(t *testing.T, srv *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 10)
		var got seen
		caughtUp, told := 0, []subscription.Kind(nil)
		l, err := listener.New(c, listener.Config{
			Stream:     "s",
			OnCaughtUp: func(context.Context) { caughtUp++; got.want(t, 0, 10) },
			OnNotice:   func(n subscription.Notice) { told = append(told, n.Kind) },
		}, got.handle)
		require.NoError(t, err)
		stop := start(t, l)
		require.Equal(t, 1, caughtUp)
		srv.Cut()
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, 2, caughtUp, "again after a loss")
		require.NoError(t, stop())
		require.Equal(t, []subscription.Kind{subscription.CaughtUp, subscription.FellBehind, subscription.Resubscribed, subscription.CaughtUp}, told)
	})
}

// counting is a store that counts its saves and fails on demand.
type counting struct {
	listener.Store

	mu    sync.Mutex // guards what follows
	saved []eventstore.From
	times []time.Time
	fail  error
}

func (s *counting) failWith(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = err
}

func (s *counting) places() []eventstore.From {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.saved)
}

func (s *counting) Save(ctx context.Context, name string, at eventstore.From) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	s.saved, s.times = append(s.saved, at), append(s.times, time.Now())
	return s.Store.Save(ctx, name, at)
}

func TestCheckpointsAreSavedByCountAndByTime(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		store := &counting{Store: listener.MemoryStore()}
		var got seen
		l, err := listener.New(c, listener.Config{Stream: "s", Store: store, SaveEvery: 10, SaveAfter: 3 * time.Second}, got.handle)
		require.NoError(t, err)
		stop := start(t, l)
		write(t, c, 0, 25)
		synctest.Wait()
		require.Equal(t, []eventstore.From{eventstore.After(9), eventstore.After(19)}, store.places())
		began := time.Now()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		require.Equal(t, eventstore.After(24), store.places()[2])
		require.Equal(t, 3*time.Second, store.times[2].Sub(began))
		require.Len(t, store.places(), 3, "nothing new, nothing saved")
		require.NoError(t, stop())
		require.Len(t, store.places(), 3)
	})
}

func TestASaveThatFailsIsTriedAgainAndSaid(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		full := errors.New("disk full")
		store := &counting{Store: listener.MemoryStore()}
		store.failWith(full)
		var got seen
		l, err := listener.New(c, listener.Config{Stream: "s", Store: store, SaveEvery: 10}, got.handle)
		require.NoError(t, err)
		stop := start(t, l)
		write(t, c, 0, 10)
		synctest.Wait()
		require.ErrorIs(t, l.Status().LastError, full)
		got.want(t, 0, 10)
		store.failWith(nil)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Equal(t, []eventstore.From{eventstore.After(9)}, store.places())
		store.failWith(full)
		write(t, c, 10, 1)
		synctest.Wait()
		err = stop()
		require.ErrorIs(t, err, full)
		require.ErrorContains(t, err, `listener "s": save the checkpoint after 10`)
	})
}

func TestAFailingHandlerIsCalledAgain(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 3)
		broken := errors.New("broken")
		var got seen
		fails := 3
		var at []time.Duration
		began := time.Now()
		l, err := listener.New(c, listener.Config{Stream: "s", Backoff: constant}, func(ctx context.Context, e eventstore.ResolvedEvent) error {
			if e.Event.Number == 1 && fails > 0 {
				at = append(at, time.Since(began))
				if fails--; fails == 1 {
					panic(broken)
				}
				return broken
			}
			return got.handle(ctx, e)
		})
		require.NoError(t, err)
		stop := start(t, l)
		status := l.Status()
		require.Equal(t, listener.Retrying, status.State)
		require.ErrorIs(t, status.LastError, broken)
		require.Equal(t, eventstore.After(0), status.Checkpoint, "never ahead of unfinished work")
		time.Sleep(10 * time.Second)
		synctest.Wait()
		got.want(t, 0, 3)
		require.Equal(t, []time.Duration{0, time.Second, 2 * time.Second}, at)
		status = l.Status()
		require.Equal(t, listener.Following, status.State)
		require.EqualValues(t, 3, status.Failures)
		require.EqualValues(t, 3, status.Handled)
		require.NoError(t, status.LastError)
		require.NoError(t, stop())
	})
}

func TestRetryThenStop(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 5)
		store := listener.MemoryStore()
		cfg := listener.Config{Name: "l", Stream: "s", Store: store, Backoff: constant, OnFailure: listener.RetryThenStop(3)}
		l, err := listener.New(c, cfg, func(_ context.Context, e eventstore.ResolvedEvent) error {
			if e.Event.Number == 2 {
				panic("no more")
			}
			return nil
		})
		require.NoError(t, err)
		began := time.Now()
		err = l.Run(t.Context())
		require.Equal(t, 2*time.Second, time.Since(began))
		var failed *listener.HandlerError
		require.ErrorAs(t, err, &failed)
		require.Equal(t, 3, failed.Attempts)
		require.EqualValues(t, 2, failed.Number)
		var panicked *listener.PanicError
		require.ErrorAs(t, err, &panicked)
		require.Equal(t, "no more", panicked.Value)
		require.Contains(t, string(panicked.Stack), "TestRetryThenStop")
		require.EqualError(t, err, `listener "l": handle event 2@s, 3 attempts: the handler panicked: no more`)

		var got seen
		l, err = listener.New(c, cfg, got.handle)
		require.NoError(t, err)
		stop := start(t, l)
		got.want(t, 2, 3)
		require.NoError(t, stop())
	})
}

func TestStopFromInsideTheHandlerCountsItsEvent(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 5)
		store := listener.MemoryStore()
		var l *listener.Listener
		l, err := listener.New(c, listener.Config{Name: "l", Stream: "s", Store: store}, func(_ context.Context, e eventstore.ResolvedEvent) error {
			if e.Event.Number == 2 {
				l.Stop()
			}
			return nil
		})
		require.NoError(t, err)
		require.NoError(t, l.Run(t.Context()))
		at, err := store.Load(t.Context(), "l")
		require.NoError(t, err)
		require.Equal(t, eventstore.After(2), at)
	})
}

// The context ends while the handler works: an event that it gave up on comes again, one that it finished does not.
func TestTheEndOfTheContextLosesNothing(t *testing.T) {
	for name, finishes := range map[string]bool{"interrupted": false, "finished": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
				write(t, c, 0, 5)
				store := listener.MemoryStore()
				l, err := listener.New(c, listener.Config{Name: "l", Stream: "s", Store: store}, func(ctx context.Context, e eventstore.ResolvedEvent) error {
					if e.Event.Number == 2 {
						<-ctx.Done()
						if !finishes {
							return ctx.Err()
						}
					}
					return nil
				})
				require.NoError(t, err)
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				require.NoError(t, l.Run(ctx))
				at, err := store.Load(t.Context(), "l")
				require.NoError(t, err)
				if finishes {
					require.Equal(t, eventstore.After(2), at)
				} else {
					require.Equal(t, eventstore.After(1), at)
				}
			})
		})
	}
}

// From now on is from the first run's beginning, also when that run saw nothing.
func TestFromEndIsRememberedAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 5)
		store := listener.MemoryStore()
		var got seen
		cfg := listener.Config{Name: "l", Stream: "s", Store: store, From: eventstore.End}
		l, err := listener.New(c, cfg, got.handle)
		require.NoError(t, err)
		require.NoError(t, start(t, l)())
		write(t, c, 5, 2)
		l, err = listener.New(c, cfg, got.handle)
		require.NoError(t, err)
		require.NoError(t, start(t, l)())
		got.want(t, 5, 2)
	})
}

// The connection dies again and again while events are handled: in order, none missed, and in one run none twice.
func TestCutsLoseAndRepeatNothing(t *testing.T) {
	bubble(t, func(t *testing.T, srv *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 100)
		var got seen
		l, err := listener.New(c, listener.Config{Stream: "s"}, func(ctx context.Context, e eventstore.ResolvedEvent) error {
			if e.Event.Number%30 == 29 {
				srv.Cut()
			}
			return got.handle(ctx, e)
		})
		require.NoError(t, err)
		stop := start(t, l)
		for i := range 10 {
			write(t, c, 100+10*i, 10)
			srv.Cut()
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		got.want(t, 0, 200)
		require.NoError(t, stop())
	})
}

func TestTheEndOfTheStreamEndsTheRun(t *testing.T) {
	bubble(t, func(t *testing.T, srv *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 5)
		var got seen
		store := listener.MemoryStore()
		l, err := listener.New(c, listener.Config{Name: "l", Stream: "s", Store: store}, got.handle)
		require.NoError(t, err)
		done := make(chan error, 1)
		go func() { done <- l.Run(t.Context()) }()
		synctest.Wait()
		_, err = c.HardDelete(t.Context(), "s", eventstore.Any)
		require.NoError(t, err)
		require.ErrorIs(t, <-done, eventstore.ErrStreamDeleted)
		at, err := store.Load(t.Context(), "l")
		require.NoError(t, err)
		require.Equal(t, eventstore.After(4), at)
		require.ErrorIs(t, l.Status().LastError, eventstore.ErrStreamDeleted)

		srv.Intercept(func(f *eventstoretest.Frame) eventstoretest.Fault {
			if f.Command == messages.SubscribeToStream {
				return eventstoretest.Answer(messages.SubscriptionDropped, []byte{0x08, 0x01})
			}
			return eventstoretest.Pass
		})
		require.ErrorIs(t, l.Run(t.Context()), eventstore.ErrAccessDenied)
	})
}

func TestOneRunAtATime(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		var got seen
		l, err := listener.New(c, listener.Config{Stream: "s"}, got.handle)
		require.NoError(t, err)
		l.Stop() // of nothing
		stop := start(t, l)
		require.ErrorContains(t, l.Run(t.Context()), "running already")
		require.NoError(t, stop())
		require.NoError(t, start(t, l)(), "it may run again")
	})
}

func TestBadConfigurationsAreRefused(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		var got seen
		for says, cfg := range map[string]listener.Config{
			"name is empty": {},
			"SaveEvery":     {Stream: "s", SaveEvery: -1},
			"SaveAfter":     {Stream: "s", SaveAfter: -1},
		} {
			_, err := listener.New(c, cfg, got.handle)
			require.ErrorIs(t, err, eventstore.ErrArgument)
			require.ErrorContains(t, err, says)
		}
		_, err := listener.New(nil, listener.Config{Stream: "s"}, got.handle)
		require.ErrorContains(t, err, "no client")
		_, err = listener.New(c, listener.Config{Stream: "s"}, nil)
		require.ErrorContains(t, err, "no handler")
	})
}
