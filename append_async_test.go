package eventstore_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/memnet"
	"github.com/goeventstore/eventstore/internal/scripted"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/server"
)

// Appends that nobody waits for go out in the order of the calls, are all stored, and each gives its place back.
func TestAppendsThatNobodyWaitsFor(t *testing.T) {
	const n = 2000
	c := embedded(t, eventstore.WithMaxInFlight(16))
	ctx := t.Context()
	pending := make([]*eventstore.PendingWrite, n)
	for i := range pending {
		pending[i] = c.AppendAsync(ctx, "s", eventstore.ExpectedVersion(i-1), numbered(1))
	}
	require.NoError(t, c.Ping(ctx))
	for i, p := range pending {
		for range 2 { // the outcome stays the same
			result, err := p.Wait(ctx)
			require.NoError(t, err)
			require.EqualValues(t, i, result.Last)
		}
	}
	_, err := c.AppendAsync(ctx, "s", 7, numbered(1)).Wait(ctx)
	require.ErrorIs(t, err, eventstore.ErrWrongVersion)
	_, err = c.AppendAsync(ctx, "", eventstore.Any, numbered(1)).Wait(ctx)
	require.ErrorIs(t, err, eventstore.ErrArgument)
}

// A lost connection is healed under it; what a resent append is then refused with is read back when somebody waits.
func TestAPendingWriteSurvivesItsConnection(t *testing.T) {
	ids := []uuid.UUID{uuid.New(), uuid.New()}
	events := []eventstore.EventData{{ID: ids[0], Type: "t"}, {ID: ids[1], Type: "t"}}
	play(t, func(p *scripted.Peer) {
		f := p.Want(messages.WriteEvents)
		if p.Number == 1 {
			return // cut
		}
		p.SendRequest(f.ID, &messages.AppendCompleted{Result: messages.WrongExpectedVersion, HasCurrent: true, CurrentVersion: 1})
		holding(p, p.Want(messages.ReadStreamEventsForward), 0, ids)
		scripted.Drain(p)
	}, func(t *testing.T, c *eventstore.Client) {
		result, err := c.AppendAsync(t.Context(), "s", eventstore.NoStream, events).Wait(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 1, result.Last)
	})
}

// The context of Wait ends the wait, that of the append the append.
func TestTheTwoContextsOfAPendingWrite(t *testing.T) {
	silent := make(chan messages.ID, 10)
	play(t, func(p *scripted.Peer) {
		alive(p, func(f messages.Frame) bool {
			if f.Command == messages.WriteEvents {
				silent <- f.ID
				if f.Body[2] == 'b' { // the stream's name
					time.Sleep(2 * time.Second)
					stored(p, f.ID)
				}
			}
			return true
		})
	}, func(t *testing.T, c *eventstore.Client) {
		ctx, cancel := context.WithCancelCause(t.Context())
		p := c.AppendAsync(ctx, "a", eventstore.Any, numbered(1))
		<-silent
		begun := time.Now()
		short, end := context.WithTimeout(t.Context(), time.Second)
		defer end()
		_, err := p.Wait(short)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.True(t, eventstore.MaybeApplied(err))
		require.Equal(t, time.Second, time.Since(begun))
		why := errors.New("no longer wanted")
		cancel(why)
		_, err = p.Wait(t.Context())
		require.ErrorIs(t, err, why)
		require.True(t, eventstore.MaybeApplied(err))
		require.Equal(t, time.Second, time.Since(begun))

		p = c.AppendAsync(t.Context(), "b", eventstore.Any, numbered(1))
		_, err = p.Wait(short)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		_, err = p.Wait(t.Context())
		require.NoError(t, err, "it went on")
	})
}

// While there is no connection, the end of its context takes a pending append out of the queue, also when nobody waits for
// it: its place is free again.
func TestAQueuedAppendGivesItsPlaceBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &line{Network: memnet.New()}
		srv, err := server.Start(server.Config{Listen: l.Listen})
		require.NoError(t, err)
		c, err := eventstore.Connect(t.Context(), srv.URL(), eventstore.WithDialer(l.Dial), eventstore.WithMaxInFlight(1))
		require.NoError(t, err)
		require.NoError(t, srv.Close())
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		first := c.AppendAsync(ctx, "s", eventstore.Any, numbered(1))
		begun := time.Now()
		longer, cancelLonger := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancelLonger()
		second := c.AppendAsync(longer, "s", eventstore.Any, numbered(1))
		require.Equal(t, time.Minute, time.Since(begun), "it had to wait for the place")
		_, err = second.Wait(t.Context())
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.False(t, eventstore.MaybeApplied(err))
		require.Equal(t, 2*time.Minute, time.Since(begun))
		_, err = first.Wait(t.Context())
		require.ErrorIs(t, err, context.DeadlineExceeded)

		third := c.AppendAsync(t.Context(), "s", eventstore.Any, numbered(1))
		require.NoError(t, c.Close())
		_, err = third.Wait(t.Context())
		require.ErrorIs(t, err, eventstore.ErrClosed)
	})
}

// Shutdown waits for what is under way, whether somebody waits for it or not.
func TestShutdownWaitsForPendingWrites(t *testing.T) {
	play(t, func(p *scripted.Peer) {
		alive(p, func(f messages.Frame) bool {
			time.Sleep(3 * time.Second)
			stored(p, f.ID)
			return true
		})
	}, func(t *testing.T, c *eventstore.Client) {
		begun := time.Now()
		p := c.AppendAsync(t.Context(), "s", eventstore.Any, numbered(1))
		require.NoError(t, c.Shutdown(t.Context()))
		require.Equal(t, 3*time.Second, time.Since(begun))
		_, err := p.Wait(t.Context())
		require.NoError(t, err)
		_, err = c.AppendAsync(t.Context(), "s", eventstore.Any, numbered(1)).Wait(t.Context())
		require.ErrorIs(t, err, eventstore.ErrClosed)
	})
}
