package subscription_test

import (
	"context"
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/subscription"
)

// bubble runs a test in virtual time with a server and a client in memory.
func bubble(t *testing.T, test func(t *testing.T, srv *eventstoretest.Server, c *eventstore.Client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		srv := eventstoretest.Run(t, eventstoretest.InMemory())
		test(t, srv, srv.Client(t))
	})
}

// write appends events n with the data "n" for each number from first on.
func write(t *testing.T, c *eventstore.Client, stream string, first, count int) {
	t.Helper()
	events := make([]eventstore.EventData, count)
	for i := range events {
		events[i] = eventstore.EventData{Type: "numbered", Data: fmt.Appendf(nil, "%d", first+i)}
	}
	_, err := c.Append(t.Context(), stream, eventstore.ExpectedVersion(first-1), events)
	require.NoError(t, err)
}

// want takes the events with these numbers, in order.
func want(t *testing.T, s *subscription.Subscription, first, count int) {
	t.Helper()
	for i := first; i < first+count; i++ {
		e, err := s.Recv(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, i, e.Event.Number)
		require.Equal(t, fmt.Sprint(i), string(e.Event.Data))
		require.Equal(t, eventstore.After(int64(i)), s.Checkpoint())
	}
}

// silent says that nothing more comes for a second.
func silent(t *testing.T, s *subscription.Subscription) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	e, err := s.Recv(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded, "%v", e)
}

// notices collects what a subscription tells, in words.
type notices []string

func (n *notices) add(notice subscription.Notice) { *n = append(*n, notice.Kind.String()) }

func TestFromAnyPlaceToLive(t *testing.T) {
	tests := []struct {
		name  string
		from  eventstore.From
		first int
	}{
		{"start", eventstore.Start, 0},
		{"at the first", eventstore.At(0), 0},
		{"after the first", eventstore.After(0), 1},
		{"at", eventstore.At(5), 5},
		{"after the last", eventstore.After(9), 10},
		{"end", eventstore.End, 10},
		{"at one that is to come", eventstore.At(12), 12},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
				write(t, c, "s", 0, 10)
				var told notices
				s, err := subscription.Open(t.Context(), c, subscription.Config{Stream: "s", From: tt.from, PageSize: 3, OnNotice: told.add})
				require.NoError(t, err)
				defer func() { require.NoError(t, s.Close()) }()
				if tt.first < 10 {
					want(t, s, tt.first, 10-tt.first)
				}
				silent(t, s)
				require.Equal(t, notices{"CaughtUp"}, told)
				require.True(t, s.Stats().Live)
				write(t, c, "s", 10, 5)
				want(t, s, max(tt.first, 10), 15-max(tt.first, 10))
				silent(t, s)
				require.Equal(t, notices{"CaughtUp"}, told, "once per transition")
			})
		})
	}
}

// Events that are written while the subscription reads pages come once, whether by a page or pushed.
func TestWritesDuringTheCatchUpComeOnce(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, "s", 0, 100)
		s, err := subscription.Open(t.Context(), c, subscription.Config{Stream: "s", PageSize: 7})
		require.NoError(t, err)
		defer func() { require.NoError(t, s.Close()) }()
		for i := range 100 {
			want(t, s, i, 1)
			write(t, c, "s", 100+i, 1)
		}
		want(t, s, 100, 100)
		silent(t, s)
	})
}

func TestStreamsThatAreNotThere(t *testing.T) {
	t.Run("never written", func(t *testing.T) {
		bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
			var told notices
			s, err := subscription.Open(t.Context(), c, subscription.Config{Stream: "s", OnNotice: told.add})
			require.NoError(t, err)
			defer func() { require.NoError(t, s.Close()) }()
			silent(t, s)
			require.Equal(t, notices{"NoStream", "CaughtUp"}, told)
			write(t, c, "s", 0, 3)
			want(t, s, 0, 3)
		})
	})
	t.Run("softly deleted", func(t *testing.T) {
		bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
			write(t, c, "s", 0, 3)
			_, err := c.Delete(t.Context(), "s", eventstore.Any)
			require.NoError(t, err)
			var told notices
			s, err := subscription.Open(t.Context(), c, subscription.Config{Stream: "s", OnNotice: told.add})
			require.NoError(t, err)
			defer func() { require.NoError(t, s.Close()) }()
			silent(t, s)
			require.Equal(t, notices{"SoftDeleted", "CaughtUp"}, told)
			write(t, c, "s", 3, 2) // brought back: the numbers go on
			want(t, s, 3, 2)
			silent(t, s)
			require.Equal(t, notices{"SoftDeleted", "CaughtUp", "Recreated"}, told)
		})
	})
	t.Run("softly deleted and written again", func(t *testing.T) {
		bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
			write(t, c, "s", 0, 20)
			_, err := c.Delete(t.Context(), "s", eventstore.Any)
			require.NoError(t, err)
			write(t, c, "s", 20, 2)
			s, err := subscription.Open(t.Context(), c, subscription.Config{Stream: "s", PageSize: 3})
			require.NoError(t, err)
			defer func() { require.NoError(t, s.Close()) }()
			want(t, s, 20, 2)
			silent(t, s)
		})
	})
	t.Run("deleted for ever", func(t *testing.T) {
		bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
			write(t, c, "s", 0, 3)
			_, err := c.HardDelete(t.Context(), "s", eventstore.Any)
			require.NoError(t, err)
			_, err = subscription.Open(t.Context(), c, subscription.Config{Stream: "s"})
			require.ErrorIs(t, err, eventstore.ErrStreamDeleted)
		})
	})
	t.Run("deleted for ever while followed", func(t *testing.T) {
		bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
			s, err := subscription.Open(t.Context(), c, subscription.Config{Stream: "s"})
			require.NoError(t, err)
			defer func() { require.NoError(t, s.Close()) }()
			write(t, c, "s", 0, 3)
			_, err = c.HardDelete(t.Context(), "s", eventstore.Any)
			require.NoError(t, err)
			want(t, s, 0, 3)
			for range 2 {
				_, err = s.Recv(t.Context())
				require.ErrorIs(t, err, eventstore.ErrStreamDeleted)
			}
		})
	})
}

// The connection is cut in every phase; every event comes once and in order, and the notices take turns.
func TestEveryCutIsHealed(t *testing.T) {
	bubble(t, func(t *testing.T, srv *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, "s", 0, 50)
		var told notices
		s, err := subscription.Open(t.Context(), c, subscription.Config{Stream: "s", PageSize: 10, OnNotice: told.add})
		require.NoError(t, err)
		defer func() { require.NoError(t, s.Close()) }()
		srv.Cut() // before the first page
		want(t, s, 0, 15)
		srv.Cut() // between pages
		want(t, s, 15, 35)
		srv.Cut() // before it is live
		silent(t, s)
		require.Equal(t, "CaughtUp", told[len(told)-1])
		srv.Cut() // live
		write(t, c, "s", 50, 5)
		want(t, s, 50, 5)
		silent(t, s)
		live := false
		for _, n := range told {
			switch n {
			case "CaughtUp":
				require.False(t, live, told)
				live = true
			case "FellBehind":
				require.True(t, live, told)
				live = false
			}
		}
		require.True(t, live, told)
		require.Equal(t, notices{"CaughtUp", "FellBehind", "Resubscribed", "CaughtUp"}, told[len(told)-4:])
		require.Positive(t, s.Stats().Resubscriptions)
	})
}

// A consumer that stands still while much is written: the window overflows, it reads what it missed, and is live again.
func TestASlowConsumerLosesNothing(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		var told notices
		s, err := subscription.Open(t.Context(), c, subscription.Config{Stream: "s", Buffer: 10, PageSize: 20, OnNotice: told.add})
		require.NoError(t, err)
		defer func() { require.NoError(t, s.Close()) }()
		silent(t, s)
		for i := range 50 {
			write(t, c, "s", i*4, 4)
		}
		synctest.Wait()
		require.LessOrEqual(t, s.Stats().Buffered, 10)
		want(t, s, 0, 200)
		silent(t, s)
		require.Equal(t, notices{"NoStream", "CaughtUp", "FellBehind", "Resubscribed", "CaughtUp"}, told)
		write(t, c, "s", 200, 1)
		want(t, s, 200, 1)
	})
}

// The same frame twice is never delivered twice; a confirmation that came twice once ended the subscription, as an answer
// that nobody expected.
func TestDuplicatedFramesAreSkipped(t *testing.T) {
	bubble(t, func(t *testing.T, srv *eventstoretest.Server, c *eventstore.Client) {
		srv.Intercept(func(f *eventstoretest.Frame) eventstoretest.Fault {
			if f.Command == messages.StreamEventAppeared || f.Command == messages.SubscriptionConfirmation {
				return eventstoretest.Duplicate
			}
			return eventstoretest.Pass
		})
		s, err := subscription.Open(t.Context(), c, subscription.Config{Stream: "s"})
		require.NoError(t, err)
		defer func() { require.NoError(t, s.Close()) }()
		write(t, c, "s", 0, 10)
		want(t, s, 0, 10)
		silent(t, s)
	})
}

// The server drops the subscription without a reason, as one that shuts down does: it is opened again.
func TestADropWithoutAReasonIsHealed(t *testing.T) {
	bubble(t, func(t *testing.T, srv *eventstoretest.Server, c *eventstore.Client) {
		dropped := false
		srv.Intercept(func(f *eventstoretest.Frame) eventstoretest.Fault {
			if f.Command == messages.StreamEventAppeared && !dropped {
				dropped = true
				return eventstoretest.Replace(messages.SubscriptionDropped, nil)
			}
			return eventstoretest.Pass
		})
		s, err := subscription.Open(t.Context(), c, subscription.Config{Stream: "s"})
		require.NoError(t, err)
		defer func() { require.NoError(t, s.Close()) }()
		write(t, c, "s", 0, 10)
		want(t, s, 0, 10)
		require.True(t, dropped)
	})
}

func TestDeniedAccessEndsIt(t *testing.T) {
	bubble(t, func(t *testing.T, srv *eventstoretest.Server, c *eventstore.Client) {
		srv.Intercept(func(f *eventstoretest.Frame) eventstoretest.Fault {
			if f.Command == messages.SubscriptionConfirmation {
				return eventstoretest.Replace(messages.SubscriptionDropped, []byte{0x08, 0x01})
			}
			return eventstoretest.Pass
		})
		_, err := subscription.Open(t.Context(), c, subscription.Config{Stream: "s"})
		require.ErrorIs(t, err, eventstore.ErrAccessDenied)
		require.ErrorContains(t, err, `subscribe "s"`)
	})
}

func TestWrongPasswordsAreRefusedByOpen(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		_, err := subscription.Open(t.Context(), c, subscription.Config{Stream: "s", Call: []eventstore.CallOption{eventstore.As("admin", "no")}})
		require.ErrorIs(t, err, eventstore.ErrNotAuthenticated)
	})
}

func TestCloseEndsAWaitingRecv(t *testing.T) {
	phases := map[string]func(srv *eventstoretest.Server){
		"live":         func(*eventstoretest.Server) {},
		"reconnecting": func(srv *eventstoretest.Server) { srv.Pause(); srv.Cut() },
	}
	for name, prepare := range phases {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, srv *eventstoretest.Server, c *eventstore.Client) {
				s, err := subscription.Open(t.Context(), c, subscription.Config{Stream: "s"})
				require.NoError(t, err)
				silent(t, s)
				prepare(srv)
				done := make(chan error)
				go func() {
					_, err := s.Recv(context.Background())
					done <- err
				}()
				synctest.Wait()
				require.NoError(t, s.Close())
				require.ErrorIs(t, <-done, eventstore.ErrClosed)
				_, err = s.Recv(t.Context())
				require.ErrorIs(t, err, eventstore.ErrClosed)
				srv.Resume()
			})
		})
	}
}

func TestAClosedClientEndsIt(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		s, err := subscription.Open(t.Context(), c, subscription.Config{Stream: "s"})
		require.NoError(t, err)
		silent(t, s)
		require.NoError(t, c.Close())
		_, err = s.Recv(t.Context())
		require.ErrorIs(t, err, eventstore.ErrClosed)
	})
}

func TestEventsEndWithTheReason(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, "s", 0, 5)
		s, err := subscription.Open(t.Context(), c, subscription.Config{Stream: "s"})
		require.NoError(t, err)
		defer func() { require.NoError(t, s.Close()) }()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		n := 0
		for e, err := range s.Events(ctx) {
			if n == 5 {
				require.ErrorIs(t, err, context.DeadlineExceeded)
				n++
				continue
			}
			require.NoError(t, err)
			require.EqualValues(t, n, e.Event.Number)
			n++
		}
		require.Equal(t, 6, n)
		write(t, c, "s", 5, 1)
		want(t, s, 5, 1) // the context's end was not the subscription's
	})
}

func TestBadConfigurationsAreRefused(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		for says, cfg := range map[string]subscription.Config{
			"name is empty":        {},
			"event numbers are of": {Stream: eventstore.All, From: eventstore.At(0)},
			"positions are of":     {Stream: "s", From: eventstore.AtPosition(eventstore.Position{})},
			"not negative":         {Stream: "s", From: eventstore.At(-1)},
			"a buffer of -1":       {Stream: "s", Buffer: -1},
			"pages of 5000":        {Stream: "s", PageSize: 5000},
			"pages of -1 events":   {Stream: "s", PageSize: -1},
		} {
			_, err := subscription.Open(t.Context(), c, cfg)
			require.ErrorIs(t, err, eventstore.ErrArgument)
			require.ErrorContains(t, err, says)
		}
		s, err := subscription.Open(t.Context(), c, subscription.Config{Stream: "s", From: eventstore.After(math.MaxInt64)})
		require.NoError(t, err)
		require.NoError(t, s.Close())
	})
}
