package conformance_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/listener"
)

// TestListener: over several runs every event is handled, in order, each run going on where the one before it stopped.
func TestListener(t *testing.T) {
	srv := serve(t)
	client := srv.Client(t)
	for name, store := range map[string]func(*testing.T) func() listener.Store{
		"memory": func(*testing.T) func() listener.Store {
			s := listener.MemoryStore()
			return func() listener.Store { return s }
		},
		"file": func(t *testing.T) func() listener.Store {
			t.Helper()
			dir := t.TempDir()
			return func() listener.Store { return listener.FileStore(dir) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := within(t)
			open := store(t)
			stream := newStream("listener")
			handled := 0
			for run := range 3 {
				_, err := client.Append(ctx, stream, eventstore.ExpectedVersion(run*10-1), numbered(run*10, 10))
				require.NoError(t, err)
				until := 10*run + 5 // in the middle of what is there, and the last run to the end
				if run == 2 {
					until = 30
				}
				var l *listener.Listener
				l, err = listener.New(client, listener.Config{Stream: stream, Store: open(), SaveEvery: 3},
					func(_ context.Context, e eventstore.ResolvedEvent) error {
						isNumbered(t, handled, e)
						if handled++; handled == until {
							l.Stop()
						}
						return nil
					})
				require.NoError(t, err)
				require.NoError(t, l.Run(ctx))
				require.Equal(t, until, handled)
				at, err := open().Load(ctx, stream)
				require.NoError(t, err)
				require.Equal(t, eventstore.After(int64(until-1)), at)
			}
		})
	}
}

// TestListenerCatchesUp: what is written while it runs is handled too, and a handler that fails gets its event again.
func TestListenerCatchesUp(t *testing.T) {
	ctx := within(t)
	srv := serve(t)
	client, writer := srv.Client(t), srv.Client(t)
	stream := newStream("listener")
	_, err := writer.Append(ctx, stream, eventstore.NoStream, numbered(0, 5))
	require.NoError(t, err)
	handled, failures := 0, 0
	var numbers []int64
	var l *listener.Listener
	caughtUp := make(chan struct{}, 1) // the first time; later ones are not of interest
	l, err = listener.New(client, listener.Config{Stream: stream, OnCaughtUp: func(context.Context) {
		select {
		case caughtUp <- struct{}{}:
		default:
		}
	}}, func(_ context.Context, e eventstore.ResolvedEvent) error {
		if handled == 3 && failures == 0 {
			failures++
			return errors.New("once")
		}
		numbers = append(numbers, e.Event.Number)
		if handled++; handled == 8 {
			l.Stop()
		}
		return nil
	})
	require.NoError(t, err)
	ran := make(chan error, 1)
	go func() { ran <- l.Run(ctx) }()
	select {
	case <-caughtUp:
	case err := <-ran:
		require.NoError(t, err)
		require.Fail(t, "it ended before it caught up")
	}
	_, err = writer.Append(ctx, stream, 4, numbered(5, 3))
	require.NoError(t, err)
	require.NoError(t, <-ran)
	require.Equal(t, []int64{0, 1, 2, 3, 4, 5, 6, 7}, numbers)
	require.Equal(t, 1, failures)
	require.Equal(t, listener.Stopped, l.Status().State)
}
