package listener_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/listener"
	"github.com/goeventstore/eventstore/messages"
)

func failures(t *testing.T, c *eventstore.Client, stream string) []listener.Failure {
	t.Helper()
	var all []listener.Failure
	for f, err := range listener.Failed(t.Context(), c, stream) {
		require.NoError(t, err)
		all = append(all, f)
	}
	return all
}

// poison fails on some numbers while it is on.
type poison struct {
	seen
	on      bool
	numbers map[int64]bool
}

func (p *poison) handle(ctx context.Context, e eventstore.ResolvedEvent) error {
	if p.on && p.numbers[e.Event.Number] {
		return errors.New("no more")
	}
	return p.seen.handle(ctx, e)
}

func TestGivenUpEventsAreKeptListedAndReplayed(t *testing.T) {
	for name, c := range map[string]struct {
		policy listener.Policy
		stream string
	}{
		"skip": {listener.RetryThenSkip(3), listener.SkippedStream("l")},
		"park": {listener.RetryThenPark(3, "parked"), "parked"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, _ *eventstoretest.Server, client *eventstore.Client) {
				write(t, client, 0, 10)
				require.Empty(t, failures(t, client, c.stream))
				h := &poison{on: true, numbers: map[int64]bool{2: true, 5: true, 6: true}}
				store := listener.MemoryStore()
				l, err := listener.New(client, listener.Config{Name: "l", Stream: "s", Store: store, Backoff: constant, OnFailure: c.policy}, h.handle)
				require.NoError(t, err)
				n, err := l.ReplayFailed(t.Context())
				require.NoError(t, err)
				require.Zero(t, n)
				began := time.Now()
				stop := start(t, l)
				time.Sleep(time.Minute)
				synctest.Wait()
				require.Equal(t, []int64{0, 1, 3, 4, 7, 8, 9}, h.seen.numbers)
				status := l.Status()
				require.EqualValues(t, 7, status.Handled)
				require.EqualValues(t, 3, status.GivenUp)
				require.EqualValues(t, 9, status.Failures)
				require.Equal(t, eventstore.After(9), status.Checkpoint)
				require.Equal(t, listener.Following, status.State)

				kept := failures(t, client, c.stream)
				require.Len(t, kept, 3)
				for i, want := range []int64{2, 5, 6} {
					f := kept[i]
					require.Equal(t, want, f.Event.Event.Number)
					require.Equal(t, "s", f.Event.Event.Stream)
					require.Equal(t, listener.Failure{Event: f.Event, Listener: "l", Stream: "s", Number: want, Attempts: 3, Error: "no more"}, f)
					require.EqualValues(t, i, f.Event.Link.Number)
				}
				require.WithinDuration(t, began.Add(2*time.Second), kept[0].Event.Link.Created, time.Millisecond)

				n, err = l.ReplayFailed(t.Context())
				require.NoError(t, err)
				require.Zero(t, n, "they fail again")
				kept = failures(t, client, c.stream)
				require.Len(t, kept, 3)
				require.Equal(t, 6, kept[0].Attempts)
				require.Equal(t, "s", kept[0].Stream)
				require.EqualValues(t, 2, kept[0].Number)
				require.EqualValues(t, 2, kept[0].Event.Event.Number)
				require.EqualValues(t, 3, kept[0].Event.Link.Number, "behind the others")

				h.on, h.seen.numbers = false, nil
				write(t, client, 10, 1)
				synctest.Wait()
				n, err = l.ReplayFailed(t.Context())
				require.NoError(t, err)
				require.Equal(t, 3, n)
				require.Equal(t, []int64{10, 2, 5, 6}, h.seen.numbers)
				require.Empty(t, failures(t, client, c.stream))
				require.Equal(t, eventstore.After(10), l.Status().Checkpoint, "replays leave it alone")
				write(t, client, 11, 1)
				synctest.Wait()
				require.EqualValues(t, 11, h.seen.numbers[4])

				// Everything again: what was replayed fails anew and is kept anew.
				require.NoError(t, stop())
				require.NoError(t, store.Save(t.Context(), "l", eventstore.Start))
				h.on = true
				stop = start(t, l)
				time.Sleep(time.Minute)
				require.Len(t, failures(t, client, c.stream), 3)
				require.NoError(t, stop())
			})
		})
	}
}

// The run ends before the checkpoint is saved, and the next one gives up on the same event: it is kept once.
func TestKeepingAnEventTwiceKeepsItOnce(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 3)
		full := errors.New("disk full")
		for range 3 {
			h := &poison{on: true, numbers: map[int64]bool{1: true}}
			store := &counting{Store: listener.MemoryStore(), fail: full}
			l, err := listener.New(c, listener.Config{Name: "l", Stream: "s", Store: store, OnFailure: listener.RetryThenPark(1, "parked")}, h.handle)
			require.NoError(t, err)
			require.ErrorIs(t, start(t, l)(), full)
			require.Equal(t, []int64{0, 2}, h.seen.numbers)
			require.Len(t, failures(t, c, "parked"), 1)
		}
	})
}

// The stream to park in cannot be written: the listener stands before the event, and does not call the handler any more.
func TestAnEventThatCannotBeKeptIsNotPassed(t *testing.T) {
	bubble(t, func(t *testing.T, srv *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 3)
		h, calls := &poison{on: true, numbers: map[int64]bool{1: true}}, 0
		l, err := listener.New(c, listener.Config{Stream: "s", Backoff: constant, OnFailure: listener.RetryThenPark(2, "parked")},
			func(ctx context.Context, e eventstore.ResolvedEvent) error { calls++; return h.handle(ctx, e) })
		require.NoError(t, err)
		remove := srv.Intercept(func(f *eventstoretest.Frame) eventstoretest.Fault {
			if f.Command == messages.WriteEvents {
				return eventstoretest.Answer(messages.BadRequest, []byte("the disk is full"))
			}
			return eventstoretest.Pass
		})
		stop := start(t, l)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, 3, calls)
		require.Equal(t, eventstore.After(0), l.Status().Checkpoint)
		require.ErrorContains(t, l.Status().LastError, "the disk is full")
		require.Equal(t, listener.Retrying, l.Status().State)
		remove()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Equal(t, 4, calls)
		require.Len(t, failures(t, c, "parked"), 1)
		require.NoError(t, stop())
	})
}

// Poison in a transaction: the others of its batch get through, once, and the replay is exactly once too: what was replayed and not
// taken out of the stream is not replayed again.
func TestATransactionGoesOnWithoutAPoisonEvent(t *testing.T) {
	bubble(t, func(t *testing.T, srv *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 10)
		s := newLedger()
		on := true
		l := newTx(t, c, s, func(ctx context.Context, p *page, e eventstore.ResolvedEvent) error {
			if err := record(ctx, p, e); err != nil || !on || e.Event.Number%4 != 3 {
				return err
			}
			return errors.New("no more")
		}, func(cfg *listener.Config) { cfg.OnFailure = listener.RetryThenSkip(2) })
		stop := start(t, l)
		time.Sleep(time.Minute)
		synctest.Wait()
		want := []int64{0, 1, 2, 4, 5, 6, 8, 9}
		s.with(t, func() {
			require.Equal(t, want, s.page.applied)
			require.Equal(t, eventstore.After(9), s.page.places["l"])
		})
		require.EqualValues(t, 8, l.Status().Handled)
		require.EqualValues(t, 2, l.Status().GivenUp)
		require.Len(t, failures(t, c, listener.SkippedStream("l")), 2)

		on = false
		remove := srv.Intercept(func(f *eventstoretest.Frame) eventstoretest.Fault {
			if f.Command == messages.WriteEvents {
				return eventstoretest.Answer(messages.BadRequest, []byte("the disk is full"))
			}
			return eventstoretest.Pass
		})
		n, err := l.ReplayFailed(t.Context())
		require.ErrorContains(t, err, "the disk is full")
		require.Equal(t, 2, n)
		require.Len(t, failures(t, c, listener.SkippedStream("l")), 2)
		remove()
		n, err = l.ReplayFailed(t.Context())
		require.NoError(t, err)
		require.Zero(t, n)
		require.Empty(t, failures(t, c, listener.SkippedStream("l")))
		s.with(t, func() { require.Equal(t, append(want, 3, 7), s.page.applied) })
		require.NoError(t, stop())
	})
}

// Two listeners park in one stream: each replays its own, and what the other keeps stays.
func TestAStreamOfFailuresMayBeShared(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 6)
		_, err := c.Append(t.Context(), "parked", eventstore.NoStream, []eventstore.EventData{{Type: "a remark"}})
		require.NoError(t, err)
		listeners, handlers := map[string]*listener.Listener{}, map[string]*poison{}
		for _, name := range []string{"b", "a"} {
			handlers[name] = &poison{on: true, numbers: map[string]map[int64]bool{"a": {1: true, 4: true}, "b": {2: true}}[name]}
			l, err := listener.New(c, listener.Config{
				Name: name, Stream: "s", OnFailure: listener.RetryThenPark(1, "parked"), Backoff: constant,
			}, handlers[name].handle)
			require.NoError(t, err)
			require.NoError(t, start(t, l)())
			listeners[name] = l
		}
		require.Len(t, failures(t, c, "parked"), 3)
		for i, step := range []struct {
			name     string
			replayed []int64
			left     int
		}{
			{"a", []int64{1, 4}, 3}, // the other's is in front of them
			{"a", nil, 3},
			{"b", []int64{2}, 2},
			{"b", nil, 2},
			{"a", nil, 0},
		} {
			h := handlers[step.name]
			h.on, h.seen.numbers = false, nil
			n, err := listeners[step.name].ReplayFailed(t.Context())
			require.NoError(t, err)
			require.Len(t, step.replayed, n, i)
			require.Equal(t, step.replayed, h.seen.numbers, i)
			require.Len(t, failures(t, c, "parked"), step.left, i)
		}
	})
}

func TestALongErrorIsCut(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 1)
		l, err := listener.New(c, listener.Config{Stream: "s", OnFailure: listener.RetryThenPark(1, "parked")},
			func(context.Context, eventstore.ResolvedEvent) error { panic(strings.Repeat("ä", 1<<20) + "\xff") })
		require.NoError(t, err)
		require.NoError(t, start(t, l)())
		kept := failures(t, c, "parked")
		require.Len(t, kept, 1)
		require.True(t, strings.HasPrefix(kept[0].Error, "the handler panicked: ää"))
		require.Less(t, len(kept[0].Error), 10_000)
	})
}

func TestBadPoliciesAreRefused(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		var got seen
		for says, cfg := range map[string]listener.Config{
			"stream to park in is empty":     {Stream: "s", OnFailure: listener.RetryThenPark(1, "")},
			"in the stream that is followed": {Stream: "s", OnFailure: listener.RetryThenPark(1, "s")},
			"Parallel is negative":           {Stream: "s", Parallel: -1},
		} {
			_, err := listener.New(c, cfg, got.handle)
			require.ErrorIs(t, err, eventstore.ErrArgument)
			require.ErrorContains(t, err, says)
		}
		l, err := listener.New(c, listener.Config{Stream: "s"}, got.handle)
		require.NoError(t, err)
		_, err = l.ReplayFailed(t.Context())
		require.ErrorIs(t, err, eventstore.ErrArgument)
	})
}
