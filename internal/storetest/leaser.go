package storetest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/listener"
)

// The times of leases are real: short where they are to run out, and long where they are not.
const (
	short = 200 * time.Millisecond
	long  = time.Hour
)

// LeaserStore is what Leaser tests.
type LeaserStore interface {
	listener.Store
	listener.Leaser
}

// Leaser tests the leases of an empty store. other is the store as another process sees it.
func Leaser(t *testing.T, s, other LeaserStore) {
	t.Helper()
	acquire := func(t *testing.T, from LeaserStore, name string, ttl time.Duration) listener.Lease {
		t.Helper()
		l, err := from.Acquire(t.Context(), name, t.Name(), ttl)
		require.NoError(t, err)
		return l
	}
	// waits acquires in a goroutine of its own.
	waits := func(ctx context.Context, name string) <-chan listener.Lease {
		got := make(chan listener.Lease, 1) // closed without one when it failed
		go func() {
			defer close(got)
			if l, err := other.Acquire(ctx, name, "the one who waits", short); err == nil {
				got <- l
			}
		}()
		return got
	}

	t.Run("it is a store of its name", func(t *testing.T) {
		l := acquire(t, s, "leased", long)
		_, err := l.Load(t.Context(), "leased")
		require.ErrorIs(t, err, listener.ErrNoCheckpoint)
		_, err = s.Load(t.Context(), "leased")
		require.ErrorIs(t, err, listener.ErrNoCheckpoint, "a lease is none")
		for _, at := range places {
			require.NoError(t, l.Save(t.Context(), "leased", at))
			for _, from := range []listener.Store{l, s, other} {
				got, err := from.Load(t.Context(), "leased")
				require.NoError(t, err)
				require.Equal(t, at, got)
			}
			require.NoError(t, l.Renew(t.Context()))
		}
		require.NoError(t, other.Save(t.Context(), "leased", eventstore.After(3)), "who moves the checkpoint needs no lease")
		got, err := l.Load(t.Context(), "leased")
		require.NoError(t, err)
		require.Equal(t, eventstore.After(3), got)
		require.NoError(t, l.Renew(t.Context()), "and takes none")
		require.NoError(t, l.Save(t.Context(), "leased", eventstore.After(4)))

		_, err = l.Load(t.Context(), "another")
		require.ErrorIs(t, err, eventstore.ErrArgument)
		require.ErrorIs(t, l.Save(t.Context(), "another", eventstore.After(1)), eventstore.ErrArgument)
		require.NoError(t, acquire(t, other, "another", long).Release(t.Context()), "names have leases of their own")
		require.NoError(t, l.Release(t.Context()))
		got, err = s.Load(t.Context(), "leased")
		require.NoError(t, err)
		require.Equal(t, eventstore.After(4), got)
	})
	t.Run("a released one is had at once", func(t *testing.T) {
		l := acquire(t, s, "released", long)
		require.NoError(t, l.Save(t.Context(), "released", eventstore.After(1)))
		got := waits(t.Context(), "released")
		select {
		case <-got:
			t.Fatal("it was had by two")
		case <-time.After(2 * short): // the time of who waits is no matter
		}
		require.NoError(t, l.Release(t.Context()))
		next := <-got
		require.NotNil(t, next)
		at, err := next.Load(t.Context(), "released")
		require.NoError(t, err)
		require.Equal(t, eventstore.After(1), at)
		refused(t, l, "released")
		require.NoError(t, next.Save(t.Context(), "released", eventstore.After(2)))
	})
	t.Run("a silent one runs out, and is refused for ever", func(t *testing.T) {
		began := time.Now()
		l := acquire(t, s, "silent", short)
		require.NoError(t, l.Save(t.Context(), "silent", eventstore.After(1)))
		next := acquire(t, other, "silent", long)
		require.Greater(t, time.Since(began), short-2*time.Millisecond) // stores may count in milliseconds
		refused(t, l, "silent")
		at, err := next.Load(t.Context(), "silent")
		require.NoError(t, err)
		require.Equal(t, eventstore.After(1), at)
		require.NoError(t, next.Save(t.Context(), "silent", eventstore.After(5)))
		refused(t, l, "silent")
		require.NoError(t, next.Release(t.Context()))
		refused(t, l, "silent")
		at, err = s.Load(t.Context(), "silent")
		require.NoError(t, err)
		require.Equal(t, eventstore.After(5), at)
	})
	t.Run("a renewed one does not run out", func(t *testing.T) {
		renewed := time.Now()
		l := acquire(t, s, "renewed", short)
		got := waits(t.Context(), "renewed")
		end := time.After(3 * short)
		for tick := time.NewTicker(short / 5); ; {
			select {
			case <-end:
				require.NoError(t, l.Release(t.Context()))
				require.NotNil(t, <-got)
				return
			case <-tick.C:
			}
			asked := time.Now()
			if err := l.Renew(t.Context()); err != nil {
				require.ErrorIs(t, err, listener.ErrFenced)
				require.GreaterOrEqual(t, time.Since(renewed), short, "it had been renewed")
				t.Logf("this machine stood still for %v", time.Since(renewed))
				return
			}
			renewed = asked
		}
	})
	t.Run("to wait ends with the context", func(t *testing.T) {
		l := acquire(t, s, "waited", long)
		ctx, cancel := context.WithTimeout(t.Context(), short)
		defer cancel()
		_, err := other.Acquire(ctx, "waited", "b", long)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.NoError(t, l.Renew(t.Context()))
	})
	t.Run("many in turns", func(t *testing.T) {
		const each = 5
		var all sync.WaitGroup
		for i := range 4 {
			from := []LeaserStore{s, other}[i%2]
			all.Go(func() {
				for done := 0; done < each; {
					l, err := from.Acquire(t.Context(), "turns", "many", short)
					if err != nil {
						t.Errorf("acquire: %v", err)
						return
					}
					at, err := l.Load(t.Context(), "turns")
					if err != nil && !errors.Is(err, listener.ErrNoCheckpoint) {
						t.Errorf("load: %v", err)
						return
					}
					n, _ := at.Number()
					err = l.Save(t.Context(), "turns", eventstore.At(n+1))
					if err == nil {
						done++
						err = l.Release(t.Context())
					}
					if err != nil && !errors.Is(err, listener.ErrFenced) { // on a slow machine it runs out
						t.Errorf("save and release: %v", err)
						return
					}
				}
			})
		}
		all.Wait()
		at, err := s.Load(t.Context(), "turns")
		require.NoError(t, err)
		require.Equal(t, eventstore.At(4*each), at)
	})
}

// refused checks that a lease that was lost changes nothing.
func refused(t *testing.T, l listener.Lease, name string) {
	t.Helper()
	require.ErrorIs(t, l.Save(t.Context(), name, eventstore.After(99)), listener.ErrFenced)
	require.ErrorIs(t, l.Renew(t.Context()), listener.ErrFenced)
	require.ErrorIs(t, l.Release(t.Context()), listener.ErrFenced)
}

// TxLeaserStore is what TxLeaser tests.
type TxLeaserStore[T any] interface {
	listener.TxStore[T]
	listener.Leaser
}

// TxLeaser tests the leases of an empty store with transactions.
func TxLeaser[T any](t *testing.T, s, other TxLeaserStore[T], effects Effects[T]) {
	t.Helper()
	Leaser(t, s, other)
	acquire := func(t *testing.T, from TxLeaserStore[T], name string, ttl time.Duration) (listener.Lease, listener.TxStore[T]) {
		t.Helper()
		l, err := from.Acquire(t.Context(), name, t.Name(), ttl)
		require.NoError(t, err)
		tx, ok := l.(listener.TxStore[T])
		require.True(t, ok, "%T makes no such transactions", l)
		return l, tx
	}
	put := func(ctx context.Context, to listener.TxStore[T], name, value string, next eventstore.From) error {
		return to.InTx(ctx, name, func(tx T, _ eventstore.From) (eventstore.From, error) {
			return next, effects.Put(tx, name, value)
		})
	}
	value := func(t *testing.T, name string) (value string) {
		t.Helper()
		looked := errors.New("looked")
		err := s.InTx(t.Context(), name, func(tx T, at eventstore.From) (eventstore.From, error) {
			value = effects.Get(tx, name)
			return at, looked
		})
		require.ErrorIs(t, err, looked)
		return value
	}

	t.Run("its transactions are refused when it is lost", func(t *testing.T) {
		l, tx := acquire(t, s, "tx lost", short)
		require.NoError(t, put(t.Context(), tx, "tx lost", "a", eventstore.After(1)))
		require.ErrorIs(t, put(t.Context(), tx, "another", "a", eventstore.After(1)), eventstore.ErrArgument)
		next, nextTx := acquire(t, other, "tx lost", long)
		require.ErrorIs(t, put(t.Context(), tx, "tx lost", "lost", eventstore.After(2)), listener.ErrFenced)
		require.Equal(t, "a", value(t, "tx lost"))
		require.NoError(t, nextTx.InTx(t.Context(), "tx lost", func(x T, at eventstore.From) (eventstore.From, error) {
			require.Equal(t, eventstore.After(1), at)
			return eventstore.After(2), effects.Put(x, "tx lost", "b")
		}))
		refused(t, l, "tx lost")
		require.NoError(t, next.Release(t.Context()))
		require.Equal(t, "b", value(t, "tx lost"))
	})
	t.Run("a transaction under way is in nobody's turn", func(t *testing.T) {
		l, tx := acquire(t, s, "tx long", short)
		var next listener.Lease
		var acquired, committing time.Time
		got := make(chan error, 1) // behind next and acquired
		err := tx.InTx(t.Context(), "tx long", func(x T, _ eventstore.From) (eventstore.From, error) {
			go func() {
				var err error
				next, err = other.Acquire(t.Context(), "tx long", "the one who waits", long)
				acquired = time.Now()
				got <- err
			}()
			for end := time.After(2 * short); ; {
				select {
				case <-end:
					committing = time.Now()
					return eventstore.After(1), effects.Put(x, "tx long", "a")
				case err := <-got:
					t.Errorf("it was acquired in the middle of a transaction: %v", err)
					return eventstore.After(1), errors.New("over")
				case <-time.After(short / 5):
				}
				effects.Get(x, "tx long") // a database may end a transaction that is left alone
				if err := l.Renew(t.Context()); err != nil {
					t.Errorf("its own transaction is in the way of its renewal: %v", err)
				}
			}
		})
		require.NoError(t, err)
		require.NoError(t, <-got)
		require.GreaterOrEqual(t, acquired.Sub(committing), short-short/10, "the transaction renewed it")
		at, err := next.Load(t.Context(), "tx long")
		require.NoError(t, err)
		require.Equal(t, eventstore.After(1), at)
		refused(t, l, "tx long")
	})
}
