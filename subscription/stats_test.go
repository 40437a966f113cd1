package subscription_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/subscription"
)

// The lag of each phase is what Stats says that it is.
func TestTheLag(t *testing.T) {
	bubble(t, func(t *testing.T, srv *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, "s", 0, 100)
		require.NoError(t, c.TruncateBefore(t.Context(), "s", 10))
		s, err := subscription.Open(t.Context(), c, subscription.Config{Stream: "s", PageSize: 20})
		require.NoError(t, err)
		defer func() { require.NoError(t, s.Close()) }()
		lag := func(want int64, end eventstore.From, live bool) {
			t.Helper()
			synctest.Wait()
			stats := s.Stats()
			require.Equal(t, want, stats.Lag)
			require.Equal(t, end, stats.End)
			require.Equal(t, live, stats.Live)
		}
		lag(100, eventstore.After(99), false)
		want(t, s, 10, 5)
		lag(85, eventstore.After(99), false)
		require.Equal(t, 5, s.Stats().Buffered)
		write(t, c, "s", 100, 10)
		synctest.Wait()
		lag(85, eventstore.After(99), false)
		want(t, s, 15, 20) // the next page tells of those that were written
		lag(75, eventstore.After(109), false)
		want(t, s, 35, 70)
		lag(5+10, eventstore.After(109), false) // of the last page, and those that were pushed since the confirmation
		want(t, s, 105, 5)
		silent(t, s)
		lag(0, eventstore.After(109), true)
		write(t, c, "s", 110, 7)
		lag(7, eventstore.After(109), true)
		want(t, s, 110, 3)
		lag(4, eventstore.After(112), true)
		srv.Cut()
		want(t, s, 113, 4)
		silent(t, s)
		srv.Refuse()
		srv.Cut()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, err = s.Recv(ctx)
		require.ErrorIs(t, err, ctx.Err())
		lag(0, eventstore.After(116), false)
		srv.Accept()
	})
}

// Of $all the lag is known while it is pushed.
func TestTheLagOfEverything(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, "s", 0, 100)
		all := logged(t, c)
		last := all[len(all)-1].Checkpoint()
		s, err := subscription.Open(t.Context(), c, subscription.Config{Stream: eventstore.All, PageSize: 20})
		require.NoError(t, err)
		defer func() { require.NoError(t, s.Close()) }()
		take(t, s, 5)
		require.EqualValues(t, -1, s.Stats().Lag)
		require.Equal(t, last, s.Stats().End)
		take(t, s, len(all)-5)
		silent(t, s)
		require.Zero(t, s.Stats().Lag)
		write(t, c, "s", 100, 3)
		synctest.Wait()
		require.EqualValues(t, 3, s.Stats().Lag)
		take(t, s, 3)
		require.Zero(t, s.Stats().Lag)
		require.Equal(t, s.Checkpoint(), s.Stats().End)
	})
}

// A server that has nothing to say is heard all the same, by its heartbeats and its answers to the client's.
func TestLastHeard(t *testing.T) {
	bubble(t, func(t *testing.T, srv *eventstoretest.Server, c *eventstore.Client) {
		s, err := subscription.Open(t.Context(), c, subscription.Config{Stream: "s"})
		require.NoError(t, err)
		defer func() { require.NoError(t, s.Close()) }()
		for range 100 {
			silent(t, s)
			require.Less(t, time.Since(s.Stats().Heard), 3500*time.Millisecond)
		}
		srv.Pause() // nothing comes any more, and nobody ends the line
		before := s.Stats().Heard
		time.Sleep(3 * time.Second)
		require.Equal(t, before, s.Stats().Heard)
		require.Greater(t, time.Since(s.Stats().Heard), 3*time.Second-1)
		srv.Resume()
	})
}
