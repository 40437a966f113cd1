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
	"github.com/goeventstore/eventstore/messages"
)

func TestPauseAndResume(t *testing.T) {
	bubble(t, func(t *testing.T, srv *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 5)
		store := listener.MemoryStore()
		var got seen
		l, err := listener.New(c, listener.Config{Name: "l", Stream: "s", Store: store}, got.handle)
		require.NoError(t, err)
		unsubscribed := 0
		srv.Intercept(func(f *eventstoretest.Frame) eventstoretest.Fault {
			if f.Command == messages.UnsubscribeFromStream {
				unsubscribed++
			}
			return eventstoretest.Pass
		})
		stop := start(t, l)
		for n := 5; n < 20; n += 5 {
			at, err := l.Pause(t.Context())
			require.NoError(t, err)
			require.Equal(t, eventstore.After(int64(n-1)), at)
			saved, err := store.Load(t.Context(), "l")
			require.NoError(t, err)
			require.Equal(t, at, saved)
			synctest.Wait()
			require.Equal(t, listener.Paused, l.Status().State)
			require.Equal(t, n/5, unsubscribed, "the server pushes nothing meanwhile")
			write(t, c, n, 5)
			time.Sleep(time.Hour)
			synctest.Wait()
			got.want(t, 0, n)
			require.NoError(t, l.Resume(t.Context()))
			require.Equal(t, listener.Following, l.Status().State)
			synctest.Wait()
			got.want(t, 0, n+5)
		}
		require.NoError(t, l.Resume(t.Context()), "of one that is not paused")
		require.NoError(t, stop())
	})
}

// What ends is a context that was cancelled by the pause, and one whose deadline has come: neither is an error.
func TestADeadlineDuringAPauseIsTheEndOfRun(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 1)
		l, err := listener.New(c, listener.Config{Name: "l", Stream: "s"}, func(ctx context.Context, _ eventstore.ResolvedEvent) error {
			<-ctx.Done()
			return ctx.Err()
		})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		paused := make(chan error, 1)
		time.AfterFunc(time.Second, func() {
			_, err := l.Pause(t.Context())
			paused <- err
		})
		require.NoError(t, l.Run(ctx))
		require.NoError(t, <-paused)
	})
}

// Nothing but the place moves, in a transaction that another process holds up until Run's deadline has come and gone.
func TestADeadlineDuringATransactionIsTheEndOfRun(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		s := newLedger()
		filter := eventstore.EventTypePrefix("never")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		ended := make(chan error, 1)
		l := newTx(t, c, s, record, func(cfg *listener.Config) { cfg.Filter = &filter })
		go func() { ended <- l.Run(ctx) }()
		synctest.Wait()
		s.with(t, func() {
			write(t, c, 0, 1)
			require.NoError(t, <-ended)
		})
	})
}

// The handler's context does not end, and Pause waits for it: with no more of the batch or the transaction begun than that event.
func TestPauseWaitsForTheEventUnderWay(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 10)
		s := newLedger()
		slow := func(ctx context.Context, p *page, e eventstore.ResolvedEvent) error {
			if e.Event.Number == 3 {
				time.Sleep(time.Minute)
			}
			return errors.Join(ctx.Err(), record(ctx, p, e))
		}
		l := newTx(t, c, s, slow)
		stop := start(t, l)
		began := time.Now()
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := l.Pause(short)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(began))
		at, err := l.Pause(t.Context())
		require.NoError(t, err)
		require.Equal(t, time.Minute, time.Since(began))
		require.Equal(t, eventstore.After(3), at)
		s.want(t, 0, 4)
		require.NoError(t, l.Resume(t.Context()))
		synctest.Wait()
		s.want(t, 0, 10)
		require.NoError(t, stop())
	})
}

// A handler that fails again and again is not waited for.
func TestPauseEndsTheWaitForAnotherAttempt(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 3)
		var got seen
		broken := errors.New("broken")
		l, err := listener.New(c, listener.Config{Stream: "s", Backoff: constant}, func(ctx context.Context, e eventstore.ResolvedEvent) error {
			if e.Event.Number == 1 && broken != nil {
				return broken
			}
			return got.handle(ctx, e)
		})
		require.NoError(t, err)
		stop := start(t, l)
		began := time.Now()
		at, err := l.Pause(t.Context())
		require.NoError(t, err)
		require.Zero(t, time.Since(began))
		require.Equal(t, eventstore.After(0), at)
		broken = nil
		require.NoError(t, l.Resume(t.Context()))
		synctest.Wait()
		got.want(t, 0, 3)
		require.NoError(t, stop())
	})
}

func TestPauseAndStopFromInsideTheHandler(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 10)
		s := newLedger()
		var l *listener.Listener
		l = newTx(t, c, s, func(ctx context.Context, p *page, e eventstore.ResolvedEvent) error {
			switch e.Event.Number {
			case 3:
				at, err := l.Pause(ctx)
				require.NoError(t, err)
				require.Equal(t, eventstore.Start, at, "nothing of the transaction is committed")
				_, err = l.Patch(ctx, eventstore.Start, eventstore.End, new(seen).handle)
				require.ErrorIs(t, err, eventstore.ErrArgument)
				require.ErrorContains(t, err, "wait for itself")
			case 5:
				_, err := l.Pause(ctx)
				require.NoError(t, err)
				require.NoError(t, l.Resume(ctx), "it has changed its mind")
			case 7:
				l.Stop()
			}
			return record(ctx, p, e)
		})
		done := make(chan error, 1)
		go func() { done <- l.Run(t.Context()) }()
		synctest.Wait()
		require.Equal(t, listener.Paused, l.Status().State)
		s.want(t, 0, 4)
		require.NoError(t, l.Resume(t.Context()))
		require.NoError(t, <-done)
		s.want(t, 0, 8)
	})
}

// A listener that is paused before it runs begins idle, and stays so over a stop.
func TestAListenerMayBeginPaused(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 5)
		store := listener.MemoryStore()
		var got seen
		l, err := listener.New(c, listener.Config{Name: "l", Stream: "s", Store: store, From: eventstore.At(1)}, got.handle)
		require.NoError(t, err)
		at, err := l.Pause(t.Context())
		require.NoError(t, err)
		require.Equal(t, eventstore.At(1), at)
		require.NoError(t, store.Save(t.Context(), "l", eventstore.After(1)))
		at, err = l.Pause(t.Context())
		require.NoError(t, err)
		require.Equal(t, eventstore.After(1), at)
		for range 2 {
			stop := start(t, l)
			require.Equal(t, listener.Paused, l.Status().State)
			require.NoError(t, stop())
		}
		got.want(t, 0, 0)
		require.NoError(t, l.Resume(t.Context()))
		stop := start(t, l)
		got.want(t, 2, 3)
		require.NoError(t, stop())
	})
}

func TestPauseTellsThatTheCheckpointIsNotSaved(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 5)
		full := errors.New("disk full")
		store := &counting{Store: listener.MemoryStore(), fail: full}
		var got seen
		l, err := listener.New(c, listener.Config{Stream: "s", Store: store}, got.handle)
		require.NoError(t, err)
		stop := start(t, l)
		_, err = l.Pause(t.Context())
		require.ErrorIs(t, err, full)
		require.ErrorIs(t, l.Status().LastError, full)
		store.failWith(nil)
		got.numbers = nil
		require.NoError(t, l.Resume(t.Context()))
		synctest.Wait()
		got.want(t, 0, 5)
		_, err = l.Pause(t.Context())
		require.NoError(t, err)
		require.NoError(t, stop())
	})
}

func TestResumeTellsThatTheRunHasEnded(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 5)
		var got seen
		l, err := listener.New(c, listener.Config{Stream: "s"}, got.handle)
		require.NoError(t, err)
		stop := start(t, l)
		_, err = l.Pause(t.Context())
		require.NoError(t, err)
		_, err = c.HardDelete(t.Context(), "s", eventstore.Any)
		require.NoError(t, err)
		require.ErrorIs(t, l.Resume(t.Context()), eventstore.ErrStreamDeleted)
		require.ErrorIs(t, stop(), eventstore.ErrStreamDeleted)
	})
}

func TestOnInitComesFirst(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 5)
		broken := errors.New("no table")
		store := listener.MemoryStore()
		inits := 0
		var got seen
		init := func(ctx context.Context) error {
			if inits++; inits == 1 {
				panic("no table")
			}
			if inits == 2 {
				return broken
			}
			return store.Save(ctx, "l", eventstore.After(2))
		}
		l, err := listener.New(c, listener.Config{Name: "l", Stream: "s", Store: store, OnInit: init}, got.handle)
		require.NoError(t, err)
		require.EqualError(t, l.Run(t.Context()), `listener "l": OnInit: the handler panicked: no table`)
		require.ErrorIs(t, l.Run(t.Context()), broken)
		got.want(t, 0, 0)
		require.NoError(t, start(t, l)())
		got.want(t, 3, 2)
		require.Equal(t, 3, inits)
	})
}

func TestTheRateIsOfTheLastSeconds(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		var got seen
		l, err := listener.New(c, listener.Config{Stream: "s"}, got.handle)
		require.NoError(t, err)
		require.Zero(t, l.Status().Rate)
		stop := start(t, l)
		for i := range 60 {
			write(t, c, 20*i, 20)
			time.Sleep(time.Second)
		}
		synctest.Wait()
		require.InDelta(t, 20, l.Status().Rate, 1)
		time.Sleep(time.Minute)
		require.Less(t, l.Status().Rate, 1.0)
		require.NoError(t, stop())
	})
}

func TestTheLagIsWhatIsNotHandled(t *testing.T) {
	for _, parallel := range []int{1, 3} {
		bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
			write(t, c, 0, 20)
			l, err := listener.New(c, listener.Config{Stream: "s", Parallel: parallel, Key: by(1)}, sleepy(time.Second))
			require.NoError(t, err)
			require.EqualValues(t, -1, l.Status().Lag)
			stop := start(t, l)
			time.Sleep(5500 * time.Millisecond)
			require.EqualValues(t, 15, l.Status().Lag)
			time.Sleep(time.Minute)
			require.Zero(t, l.Status().Lag)
			require.Less(t, time.Since(l.Status().Heard), 5*time.Second)
			write(t, c, 20, 3)
			synctest.Wait()
			require.EqualValues(t, 3, l.Status().Lag)
			_, err = l.Pause(t.Context())
			require.NoError(t, err)
			require.EqualValues(t, -1, l.Status().Lag)
			require.Zero(t, l.Status().Heard)
			require.NoError(t, stop())
		})
	}
}
