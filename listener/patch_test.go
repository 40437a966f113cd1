package listener_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/listener"
)

func TestPatchesOfEachRange(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 10)
		require.NoError(t, c.TruncateBefore(t.Context(), "s", 3))
		var got seen
		store := listener.MemoryStore()
		l, err := listener.New(c, listener.Config{Name: "l", Stream: "s", Store: store}, got.handle)
		require.NoError(t, err)
		stop := start(t, l)
		got.want(t, 3, 7)
		for name, c := range map[string]struct {
			from, until  eventstore.From
			first, count int
			at           eventstore.From
		}{
			"all":                     {eventstore.Start, eventstore.End, 3, 7, eventstore.After(9)},
			"up to an event":          {eventstore.Start, eventstore.After(5), 3, 3, eventstore.After(5)},
			"before an event":         {eventstore.At(4), eventstore.At(6), 4, 2, eventstore.At(6)},
			"behind an event":         {eventstore.After(4), eventstore.After(5), 5, 1, eventstore.After(5)},
			"up to one that is gone":  {eventstore.Start, eventstore.After(1), 0, 0, eventstore.After(1)},
			"beyond the end":          {eventstore.At(8), eventstore.After(99), 8, 2, eventstore.After(9)},
			"nothing":                 {eventstore.After(5), eventstore.After(5), 0, 0, eventstore.After(5)},
			"backward":                {eventstore.After(5), eventstore.After(3), 0, 0, eventstore.After(5)},
			"from the end":            {eventstore.End, eventstore.End, 0, 0, eventstore.End},
			"to the listener's place": {eventstore.Start, l.Status().Checkpoint, 3, 7, eventstore.After(9)},
		} {
			var patched seen
			at, err := l.Patch(t.Context(), c.from, c.until, patched.handle)
			require.NoError(t, err, name)
			require.Equal(t, c.at, at, name)
			patched.want(t, c.first, c.count)
		}
		_, err = l.Patch(t.Context(), eventstore.At(3), eventstore.AfterPosition(eventstore.Position{}), got.handle)
		require.ErrorIs(t, err, eventstore.ErrArgument)
		_, err = l.Patch(t.Context(), eventstore.Start, eventstore.End, nil)
		require.ErrorIs(t, err, eventstore.ErrArgument)
		require.Equal(t, eventstore.After(9), l.Status().Checkpoint)
		require.EqualValues(t, 7, l.Status().Handled)
		synctest.Wait()
		require.Equal(t, listener.Following, l.Status().State)
		require.NoError(t, stop())
	})
}

// A live listener is held while it is patched, a paused one stays paused, and one that does not run is patched all the same.
func TestPatchesHoldTheListener(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 10)
		var got seen
		l, err := listener.New(c, listener.Config{Stream: "s"}, got.handle)
		require.NoError(t, err)
		patch := func(state listener.State) {
			t.Helper()
			var patched seen
			at, err := l.Patch(t.Context(), eventstore.Start, eventstore.After(4), func(ctx context.Context, e eventstore.ResolvedEvent) error {
				if e.Event.Number == 2 {
					before := got.numbers
					write(t, c, len(before), 1) //nolint:contextcheck // the test writes, not the handler
					time.Sleep(time.Minute)
					require.Equal(t, state, l.Status().State)
					require.Len(t, got.numbers, len(before), "never two handlers at once")
				}
				return patched.handle(ctx, e)
			})
			require.NoError(t, err)
			require.Equal(t, eventstore.After(4), at)
			patched.want(t, 0, 5)
			synctest.Wait()
		}
		got.numbers = make([]int64, 10)
		patch(listener.Idle)
		got.numbers = nil
		stop := start(t, l)
		got.want(t, 0, 11)
		patch(listener.Paused)
		got.want(t, 0, 12)
		_, err = l.Pause(t.Context())
		require.NoError(t, err)
		patch(listener.Paused)
		got.want(t, 0, 12)
		require.Equal(t, listener.Paused, l.Status().State)
		require.NoError(t, l.Resume(t.Context()))
		synctest.Wait()
		got.want(t, 0, 13)
		require.NoError(t, stop())
	})
}

// A patch is cut short, by its context or the failure policy, and goes on from the place that it returned.
func TestAPatchIsResumed(t *testing.T) {
	bubble(t, func(t *testing.T, srv *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 1200)
		var got, patched seen
		l, err := listener.New(c, listener.Config{Stream: "s", Backoff: constant, OnFailure: listener.RetryThenStop(3)}, got.handle)
		require.NoError(t, err)
		stop := start(t, l)
		broken := errors.New("broken")
		ctx, cancel := context.WithCancel(t.Context())
		fails := map[int64]int{100: 2, 600: 3}
		handler := func(ctx context.Context, e eventstore.ResolvedEvent) error {
			n := e.Event.Number
			if fails[n]--; fails[n] >= 0 {
				return broken
			}
			if n == 300 {
				cancel()
				return nil
			}
			if n == 301 && ctx.Err() != nil {
				return ctx.Err()
			}
			if n == 900 {
				srv.Cut()
			}
			return patched.handle(ctx, e)
		}
		at, err := l.Patch(ctx, eventstore.At(50), eventstore.After(1000), handler)
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorContains(t, err, `listener "s": patch: `)
		require.Equal(t, eventstore.After(300), at)
		patched.numbers = append(patched.numbers, 300)
		at, err = l.Patch(t.Context(), at, eventstore.After(1000), handler)
		var failed *listener.HandlerError
		require.ErrorAs(t, err, &failed)
		require.EqualValues(t, 600, failed.Number)
		require.Equal(t, eventstore.After(599), at)
		at, err = l.Patch(t.Context(), at, eventstore.After(1000), handler)
		require.NoError(t, err)
		require.Equal(t, eventstore.After(1000), at)
		patched.want(t, 50, 951)
		synctest.Wait()
		got.want(t, 0, 1200)
		require.NoError(t, stop())
	})
}

// Patches take turns, and one that waits for a handler ends with its context.
func TestPatchesTakeTurns(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 3)
		l, err := listener.New(c, listener.Config{Stream: "s"}, func(context.Context, eventstore.ResolvedEvent) error {
			time.Sleep(time.Minute)
			return nil
		})
		require.NoError(t, err)
		stop := start(t, l)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		at, err := l.Patch(ctx, eventstore.At(1), eventstore.End, new(seen).handle)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, eventstore.At(1), at)
		now := 0
		done := make(chan error, 2)
		for range 2 {
			go func() {
				_, err := l.Patch(t.Context(), eventstore.Start, eventstore.End, func(ctx context.Context, _ eventstore.ResolvedEvent) error {
					now++
					defer func() { now-- }()
					time.Sleep(time.Second)
					if _, err := l.Patch(ctx, eventstore.Start, eventstore.End, new(seen).handle); !errors.Is(err, eventstore.ErrArgument) {
						return errors.New("a patch inside a patch")
					}
					if now > 1 {
						return errors.New("two patches at once")
					}
					return nil
				})
				done <- err
			}()
		}
		require.NoError(t, <-done)
		require.NoError(t, <-done)
		require.NoError(t, stop())
	})
}

// A patch goes on without what the policy gives up on, and keeps it.
func TestAPatchSkips(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 5)
		h := &poison{on: true, numbers: map[int64]bool{3: true}}
		l, err := listener.New(c, listener.Config{Name: "l", Stream: "s", Backoff: constant, OnFailure: listener.RetryThenSkip(2)}, new(seen).handle)
		require.NoError(t, err)
		at, err := l.Patch(t.Context(), eventstore.Start, eventstore.End, h.handle)
		require.NoError(t, err)
		require.Equal(t, eventstore.After(4), at)
		require.Equal(t, []int64{0, 1, 2, 4}, h.seen.numbers)
		kept := failures(t, c, listener.SkippedStream("l"))
		require.Len(t, kept, 1)
		require.Equal(t, 2, kept[0].Attempts)
	})
}

func TestAPatchOfWhatIsNotThere(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		l, err := listener.New(c, listener.Config{Stream: "s"}, new(seen).handle)
		require.NoError(t, err)
		for _, until := range []eventstore.From{eventstore.End, eventstore.After(7)} {
			at, err := l.Patch(t.Context(), eventstore.Start, until, new(seen).handle)
			require.NoError(t, err)
			require.Equal(t, eventstore.Start, at)
		}
		write(t, c, 0, 1)
		_, err = c.HardDelete(t.Context(), "s", eventstore.Any)
		require.NoError(t, err)
		_, err = l.Patch(t.Context(), eventstore.Start, eventstore.End, new(seen).handle)
		require.ErrorIs(t, err, eventstore.ErrStreamDeleted)
	})
}
