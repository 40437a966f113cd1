package conformance_test

import (
	"context"
	"errors"
	"testing"
	"time"

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

// TestListenerPauseAndPatch: a listener is paused, patched meanwhile, and goes on where it was.
func TestListenerPauseAndPatch(t *testing.T) {
	ctx := within(t)
	srv := serve(t)
	client := srv.Client(t)
	stream := newStream("listener")
	_, err := client.Append(ctx, stream, eventstore.NoStream, numbered(0, 5))
	require.NoError(t, err)
	handled := make(chan int64, 20)
	l, err := listener.New(client, listener.Config{Stream: stream}, func(_ context.Context, e eventstore.ResolvedEvent) error {
		handled <- e.Event.Number
		return nil
	})
	require.NoError(t, err)
	ran := make(chan error, 1)
	go func() { ran <- l.Run(ctx) }()
	want := func(first, count int) {
		t.Helper()
		for n := first; n < first+count; n++ {
			select {
			case got := <-handled:
				require.EqualValues(t, n, got)
			case <-ctx.Done():
				require.Fail(t, "no more comes", "%d of %d", n, first+count)
			}
		}
	}
	want(0, 5)
	at, err := l.Pause(ctx)
	require.NoError(t, err)
	require.Equal(t, eventstore.After(4), at)
	_, err = client.Append(ctx, stream, 4, numbered(5, 5))
	require.NoError(t, err)
	require.NoError(t, client.TruncateBefore(ctx, stream, 2))
	var patched []int64
	at, err = l.Patch(ctx, eventstore.Start, eventstore.After(6), func(_ context.Context, e eventstore.ResolvedEvent) error {
		patched = append(patched, e.Event.Number)
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, eventstore.After(6), at)
	require.Equal(t, []int64{2, 3, 4, 5, 6}, patched)
	require.Empty(t, handled)
	require.NoError(t, l.Resume(ctx))
	want(5, 5)
	l.Stop()
	require.NoError(t, <-ran)
}

// TestListenerParks: what it gives up on is kept as a link, once, is listed, and is replayed and gone then.
func TestListenerParks(t *testing.T) {
	ctx := within(t)
	srv := serve(t)
	client := srv.Client(t)
	stream, parked := newStream("listener"), newStream("parked")
	_, err := client.Append(ctx, stream, eventstore.NoStream, numbered(0, 5))
	require.NoError(t, err)
	broken := true
	var handled []int64
	var l *listener.Listener
	cfg := listener.Config{Stream: stream, OnFailure: listener.RetryThenPark(1, parked), OnCaughtUp: func(context.Context) { l.Stop() }}
	handler := func(_ context.Context, e eventstore.ResolvedEvent) error {
		if broken && e.Event.Number%2 == 1 {
			return errors.New("no more")
		}
		handled = append(handled, e.Event.Number)
		return nil
	}
	for range 2 { // with stores of their own: as if the first had not saved its checkpoint
		l, err = listener.New(client, cfg, handler)
		require.NoError(t, err)
		require.NoError(t, l.Run(ctx))
	}
	require.Equal(t, []int64{0, 2, 4, 0, 2, 4}, handled)
	var kept []int64
	for f, err := range listener.Failed(ctx, client, parked) {
		require.NoError(t, err)
		require.Equal(t, "no more", f.Error)
		require.Equal(t, stream, f.Event.Event.Stream)
		kept = append(kept, f.Event.Event.Number)
	}
	require.Equal(t, []int64{1, 3}, kept)
	broken, handled = false, nil
	n, err := l.ReplayFailed(ctx)
	require.NoError(t, err)
	require.Equal(t, 2, n)
	require.Equal(t, []int64{1, 3}, handled)
	for range listener.Failed(ctx, client, parked) {
		require.Fail(t, "what was replayed is gone")
	}
}

// TestListenerBeyondTheEnd: a listener says that its checkpoint is behind an event that the server does not have, and no other one is.
func TestListenerBeyondTheEnd(t *testing.T) {
	ctx := within(t)
	srv := serve(t)
	client := srv.Client(t)
	stream := newStream("listener")
	_, err := client.Append(ctx, stream, eventstore.NoStream, numbered(0, 5))
	require.NoError(t, err)
	all, err := client.ReadAllSlice(ctx, eventstore.End, 1, eventstore.Backward())
	require.NoError(t, err)
	far, _ := all.Events[0].Checkpoint().Position()
	far = eventstore.Position{Commit: far.Commit + 1<<40, Prepare: far.Prepare + 1<<40}
	for name, c := range map[string]struct {
		stream string
		at     eventstore.From
		beyond bool
	}{
		"behind the last":     {stream, eventstore.After(4), false},
		"behind no event":     {stream, eventstore.After(5), true},
		"no stream":           {newStream("none"), eventstore.After(0), true},
		"behind the last one": {eventstore.All, all.Events[0].Checkpoint(), false},
		"behind all":          {eventstore.All, eventstore.AfterPosition(far), true},
	} {
		t.Run(name, func(t *testing.T) {
			store := listener.MemoryStore()
			require.NoError(t, store.Save(ctx, c.stream, c.at))
			caughtUp := make(chan struct{}, 100) // more than there may be
			l, err := listener.New(client, listener.Config{
				Stream: c.stream, Store: store, OnCaughtUp: func(context.Context) { caughtUp <- struct{}{} },
			}, func(context.Context, eventstore.ResolvedEvent) error { return nil })
			require.NoError(t, err)
			ran := make(chan error, 1)
			go func() { ran <- l.Run(ctx) }()
			if c.beyond {
				require.Eventually(t, func() bool { return errors.Is(l.Status().LastError, listener.ErrBeyondEnd) }, hang, time.Millisecond)
			} else {
				select {
				case <-caughtUp:
				case <-ctx.Done():
				}
				require.NoError(t, ctx.Err())
				require.NoError(t, l.Status().LastError)
			}
			l.Stop()
			require.NoError(t, <-ran)
		})
	}
}
