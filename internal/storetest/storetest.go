// Package storetest holds the tests that every store of checkpoints passes.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/listener"
)

var places = []eventstore.From{
	eventstore.After(0), eventstore.After(41), eventstore.At(0), eventstore.Start,
	eventstore.AfterPosition(eventstore.Position{Commit: 7, Prepare: 5}),
}

// Store tests an empty store.
func Store(t *testing.T, s listener.Store) {
	t.Helper()
	t.Run("load and save", func(t *testing.T) {
		ctx := t.Context()
		_, err := s.Load(ctx, "a")
		require.ErrorIs(t, err, listener.ErrNoCheckpoint)
		for _, at := range places {
			require.NoError(t, s.Save(ctx, "a", at))
			got, err := s.Load(ctx, "a")
			require.NoError(t, err)
			require.Equal(t, at, got)
		}
		for _, name := range []string{
			"a/b", "../a", "..", ".", " ", "A", "A ", "ä ö%", "a%2Fb", "a:b*?", ".a", "con", strings.Repeat("long", 100), "A\x00", "\xff",
		} {
			_, err := s.Load(ctx, name)
			if errors.Is(err, eventstore.ErrArgument) && (!utf8.ValidString(name) || strings.Contains(name, "\x00")) {
				require.ErrorIs(t, s.Save(ctx, name, eventstore.After(1)), eventstore.ErrArgument, name)
				continue // not every store can keep such a name; it says so instead of changing it
			}
			require.ErrorIs(t, err, listener.ErrNoCheckpoint, name)
			require.NoError(t, s.Save(ctx, name, eventstore.After(1)), name)
			got, err := s.Load(ctx, name)
			require.NoError(t, err, name)
			require.Equal(t, eventstore.After(1), got, name)
			require.NoError(t, s.Save(ctx, name, eventstore.After(2)), name)
		}
		got, err := s.Load(ctx, "a")
		require.NoError(t, err)
		require.Equal(t, places[len(places)-1], got, "names do not meet")
	})
	t.Run("many at once", func(t *testing.T) {
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				name := fmt.Sprintf("many-%d", i%4)
				for n := range 10 {
					if err := s.Save(t.Context(), name, eventstore.After(int64(n))); err != nil {
						t.Errorf("save %s: %v", name, err)
					}
					if _, err := s.Load(t.Context(), name); err != nil {
						t.Errorf("load %s: %v", name, err)
					}
				}
			})
		}
		all.Wait()
		for i := range 4 {
			at, err := s.Load(t.Context(), fmt.Sprintf("many-%d", i))
			require.NoError(t, err)
			require.Equal(t, eventstore.After(9), at)
		}
	})
}

// Effects are what the handlers of a test change: values by key, empty when there is none.
type Effects[T any] struct {
	Put func(tx T, key, value string) error
	Get func(tx T, key string) string
}

// TxStore tests an empty store with transactions.
func TxStore[T any](t *testing.T, s listener.TxStore[T], effects Effects[T]) {
	t.Helper()
	Store(t, s)
	const name = "tx"
	// look returns the checkpoint, as a transaction sees it and as Load gives it, and the value of "k".
	look := func(t *testing.T) (at eventstore.From, value string) {
		t.Helper()
		changedNothing := errors.New("changed nothing")
		err := s.InTx(t.Context(), name, func(tx T, in eventstore.From) (eventstore.From, error) {
			at, value = in, effects.Get(tx, "k")
			return in, changedNothing
		})
		require.ErrorIs(t, err, changedNothing)
		if at.IsStart() {
			return at, value
		}
		loaded, err := s.Load(t.Context(), name)
		require.NoError(t, err)
		require.Equal(t, at, loaded)
		return at, value
	}
	put := func(ctx context.Context, value string, next eventstore.From, then func() error) error {
		return s.InTx(ctx, name, func(tx T, _ eventstore.From) (eventstore.From, error) {
			if err := effects.Put(tx, "k", value); err != nil {
				return next, err
			}
			return next, then()
		})
	}
	well := func() error { return nil }

	t.Run("without a checkpoint it is zero", func(t *testing.T) {
		at, _ := look(t)
		require.Equal(t, eventstore.From{}, at)
		_, err := s.Load(t.Context(), name)
		require.ErrorIs(t, err, listener.ErrNoCheckpoint, "looking made none")
	})
	t.Run("effects and checkpoint are committed together", func(t *testing.T) {
		for i, next := range places {
			require.NoError(t, put(t.Context(), fmt.Sprint(i), next, well))
			at, value := look(t)
			require.Equal(t, next, at)
			require.Equal(t, fmt.Sprint(i), value)
		}
		require.NoError(t, s.Save(t.Context(), name, eventstore.After(5)))
		at, _ := look(t)
		require.Equal(t, eventstore.After(5), at, "Save and InTx have one checkpoint")
	})
	t.Run("an error rolls back", func(t *testing.T) {
		broken := errors.New("broken")
		require.ErrorIs(t, put(t.Context(), "lost", eventstore.After(6), func() error { return broken }), broken)
		at, value := look(t)
		require.Equal(t, eventstore.After(5), at)
		require.NotEqual(t, "lost", value)
	})
	t.Run("a panic rolls back", func(t *testing.T) {
		require.PanicsWithValue(t, "broken", func() {
			_ = put(t.Context(), "lost", eventstore.After(6), func() error { panic("broken") })
		})
		at, value := look(t)
		require.Equal(t, eventstore.After(5), at)
		require.NotEqual(t, "lost", value)
	})
	t.Run("an ended context begins nothing", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := put(ctx, "lost", eventstore.After(6), func() error { t.Error("it was called"); return nil })
		require.ErrorIs(t, err, context.Canceled)
	})
	t.Run("one at a time", func(t *testing.T) {
		require.NoError(t, put(t.Context(), "", eventstore.After(0), well))
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for range 10 {
					err := s.InTx(t.Context(), name, func(tx T, at eventstore.From) (eventstore.From, error) {
						n, _ := at.Number()
						return eventstore.After(n + 1), effects.Put(tx, "k", effects.Get(tx, "k")+".")
					})
					if err != nil {
						t.Errorf("in a transaction: %v", err)
					}
				}
			})
		}
		all.Wait()
		at, value := look(t)
		require.Equal(t, eventstore.After(80), at)
		require.Len(t, value, 80)
	})
}
