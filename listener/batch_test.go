package listener_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/listener"
)

// batches is a handler that keeps the numbers of each batch.
type batches struct {
	mu  sync.Mutex
	all [][]int64
}

func (b *batches) handle(_ context.Context, batch []eventstore.ResolvedEvent) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all = append(b.all, numbers(batch))
	return nil
}

func numbers(batch []eventstore.ResolvedEvent) []int64 {
	var all []int64
	for _, e := range batch {
		all = append(all, e.Event.Number)
	}
	return all
}

func (b *batches) sizes() []int {
	b.mu.Lock()
	defer b.mu.Unlock()
	var sizes []int
	for _, batch := range b.all {
		sizes = append(sizes, len(batch))
	}
	return sizes
}

func (b *batches) want(t *testing.T, count int) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []int64
	for i := range count {
		all = append(all, int64(i))
	}
	require.Equal(t, all, slices.Concat(b.all...))
}

func TestBatchesBySizeAndTime(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 25)
		store := &counting{Store: listener.MemoryStore()}
		var got batches
		var at []time.Duration
		began, caughtUp := time.Now(), 0
		cfg := listener.Config{Stream: "s", Store: store, SaveEvery: 10, SaveAfter: 2500 * time.Millisecond, OnCaughtUp: func(context.Context) {
			caughtUp++
			got.want(t, 25)
		}}
		l, err := listener.NewBatch(c, cfg, func(ctx context.Context, batch []eventstore.ResolvedEvent) error {
			at = append(at, time.Since(began))
			return got.handle(ctx, batch)
		})
		require.NoError(t, err)
		stop := start(t, l)
		require.Equal(t, []int{10, 10, 5}, got.sizes(), "what was there waits for nothing")
		require.Equal(t, 1, caughtUp)
		for i := range 4 {
			write(t, c, 25+i, 1)
			time.Sleep(time.Second)
			synctest.Wait()
		}
		write(t, c, 29, 13)
		synctest.Wait()
		require.Equal(t, []int{10, 10, 5, 3, 10}, got.sizes())
		time.Sleep(3 * time.Second)
		synctest.Wait()
		require.Equal(t, []int{10, 10, 5, 3, 10, 4}, got.sizes())
		require.Equal(t, []time.Duration{0, 0, 0, 2500 * time.Millisecond, 4 * time.Second, 6500 * time.Millisecond}, at)
		got.want(t, 42)
		require.Equal(t, []eventstore.From{
			eventstore.After(9), eventstore.After(19), eventstore.After(24), eventstore.After(27), eventstore.After(37), eventstore.After(41),
		}, store.places(), "behind each batch")
		require.EqualValues(t, 42, l.Status().Handled)
		require.NoError(t, stop())
	})
}

// The batch comes again one by one, so that the policy is about the event at fault and the others get through.
func TestABatchThatFailsComesOneByOne(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 6)
		store := listener.MemoryStore()
		var calls batches
		l, err := listener.NewBatch(c, listener.Config{Name: "l", Stream: "s", Store: store, Backoff: constant, OnFailure: listener.RetryThenStop(3)},
			func(ctx context.Context, batch []eventstore.ResolvedEvent) error {
				require.NoError(t, calls.handle(ctx, batch))
				if slices.Contains(numbers(batch), 3) {
					panic("no more")
				}
				return nil
			})
		require.NoError(t, err)
		began := time.Now()
		var failed *listener.HandlerError
		require.ErrorAs(t, l.Run(t.Context()), &failed)
		require.Equal(t, 2*time.Second, time.Since(began))
		require.EqualValues(t, 3, failed.Number)
		require.Equal(t, 3, failed.Attempts)
		require.Equal(t, [][]int64{{0, 1, 2, 3, 4, 5}, {0}, {1}, {2}, {3}, {3}, {3}}, calls.all)
		at, err := store.Load(t.Context(), "l")
		require.NoError(t, err)
		require.Equal(t, eventstore.After(2), at)
		require.EqualValues(t, 3, l.Status().Handled)
	})
}

func TestABatchWhoseFailurePassesIsHandledOnce(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 6)
		var got batches
		fails := 4
		l, err := listener.NewBatch(c, listener.Config{Stream: "s", Backoff: constant}, func(ctx context.Context, batch []eventstore.ResolvedEvent) error {
			if fails--; fails >= 0 {
				return errors.New("the database is away")
			}
			return got.handle(ctx, batch)
		})
		require.NoError(t, err)
		stop := start(t, l)
		require.Equal(t, listener.Retrying, l.Status().State)
		time.Sleep(time.Minute)
		synctest.Wait()
		got.want(t, 6)
		require.Equal(t, listener.Following, l.Status().State)
		require.EqualValues(t, 4, l.Status().Failures)
		require.NoError(t, stop())
	})
}

// What was gathered and not handled comes again in the next run.
func TestTheEndLosesNoBatch(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		store := listener.MemoryStore()
		var got batches
		run := func() *listener.Listener {
			l, err := listener.NewBatch(c, listener.Config{Name: "l", Stream: "s", Store: store, SaveEvery: 10, SaveAfter: time.Minute}, got.handle)
			require.NoError(t, err)
			return l
		}
		l := run()
		stop := start(t, l)
		write(t, c, 0, 13)
		synctest.Wait()
		require.Equal(t, []int{10}, got.sizes())
		_, err := l.Pause(t.Context())
		require.NoError(t, err)
		write(t, c, 13, 1)
		require.NoError(t, l.Resume(t.Context()))
		synctest.Wait()
		require.Equal(t, []int{10, 4}, got.sizes(), "it catches up")
		write(t, c, 14, 5)
		require.NoError(t, stop())
		require.NoError(t, start(t, run())())
		got.want(t, 19)
	})
}

func TestBadBatchConfigurationsAreRefused(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		var got batches
		for says, make := range map[string]func() (*listener.Listener, error){
			"no handler": func() (*listener.Listener, error) { return listener.NewBatch(c, listener.Config{Stream: "s"}, nil) },
			"no client": func() (*listener.Listener, error) {
				return listener.NewBatch(nil, listener.Config{Stream: "s"}, got.handle)
			},
			"Parallel is for New": func() (*listener.Listener, error) {
				return listener.NewBatch(c, listener.Config{Stream: "s", Parallel: 2}, got.handle)
			},
			"take turns": func() (*listener.Listener, error) {
				return listener.NewTx(c, listener.Config{Stream: "s", Parallel: 2}, newLedger(), record)
			},
		} {
			_, err := make()
			require.ErrorIs(t, err, eventstore.ErrArgument)
			require.ErrorContains(t, err, says)
		}
	})
}
