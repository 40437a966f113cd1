package subscription_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/server"
	"github.com/goeventstore/eventstore/subscription"
)

// eachFilterer runs a test with a server that picks events itself, and with one that has the client do it.
func eachFilterer(t *testing.T, test func(t *testing.T, srv *eventstoretest.Server, c *eventstore.Client)) {
	t.Helper()
	for name, filtered := range map[string]bool{"the server picks": true, "the client picks": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := server.Config{Dialect: server.Dialect{Filtered: filtered}}
				srv := eventstoretest.Run(t, eventstoretest.InMemory(), eventstoretest.WithServer(cfg))
				test(t, srv, srv.Client(t))
			})
		})
	}
}

// name tells which event it is.
func name(e eventstore.ResolvedEvent) string {
	return fmt.Sprintf("%d@%s", e.Original().Number, e.Original().Stream)
}

// take takes so many events of $all, whose places grow, and the checkpoint with them.
func take(t *testing.T, s *subscription.Subscription, count int) (names []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for range count {
		before := s.Checkpoint()
		e, err := s.Recv(ctx)
		require.NoError(t, err)
		require.True(t, e.All)
		c, err := eventstore.AtPosition(e.Position).Compare(before)
		require.NoError(t, err)
		require.GreaterOrEqual(t, c, 0, "%v after %v", e.Position, before)
		require.Equal(t, e.Checkpoint(), s.Checkpoint())
		names = append(names, name(e))
	}
	return names
}

// logged is everything there is, or what a filter picks of it.
func logged(t *testing.T, c *eventstore.Client, opts ...eventstore.ReadOption) (events []eventstore.ResolvedEvent) {
	t.Helper()
	for e, err := range c.ReadAll(t.Context(), eventstore.Start, opts...) {
		require.NoError(t, err)
		events = append(events, e)
	}
	return events
}

func names(events []eventstore.ResolvedEvent) (names []string) {
	for _, e := range events {
		names = append(names, name(e))
	}
	return names
}

func TestEverythingFromAnyPlaceToLive(t *testing.T) {
	bubble(t, func(t *testing.T, srv *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, "a", 0, 5)
		write(t, c, "b", 0, 5)
		_, err := c.HardDelete(t.Context(), "b", eventstore.Any)
		require.NoError(t, err)
		write(t, c, "c", 0, 5)
		there := logged(t, c)
		middle := len(there) - 6
		for name, tt := range map[string]struct {
			from  eventstore.From
			first int
		}{
			"start": {eventstore.Start, 0},
			"at":    {eventstore.AtPosition(there[middle].Position), middle},
			"after": {there[middle].Checkpoint(), middle + 1},
			"last":  {there[len(there)-1].Checkpoint(), len(there)},
			"end":   {from: eventstore.End},
		} {
			var told notices
			s, err := subscription.Open(t.Context(), c, subscription.Config{Stream: eventstore.All, From: tt.from, PageSize: 4, OnNotice: told.add})
			require.NoError(t, err)
			if !tt.from.IsEnd() {
				want := logged(t, c)[tt.first:]
				require.Equal(t, names(want), take(t, s, len(want)), name)
			}
			silent(t, s)
			require.Equal(t, notices{"CaughtUp"}, told, name)
			before := len(logged(t, c))
			for i := range 10 { // live, and over a loss
				_, err := c.Append(t.Context(), "d", eventstore.Any, make([]eventstore.EventData, 0))
				require.NoError(t, err)
				_, err = c.Append(t.Context(), "d", eventstore.Any, []eventstore.EventData{{Type: "t"}})
				require.NoError(t, err)
				if i == 4 {
					srv.Cut()
				}
			}
			require.Equal(t, names(logged(t, c)[before:]), take(t, s, 10), name)
			silent(t, s)
			require.NoError(t, s.Close())
		}
	})
}

// What others write while the pages are read comes once, by a page or pushed.
func TestEverythingWhileMuchIsWritten(t *testing.T) {
	bubble(t, func(t *testing.T, srv *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, "a", 0, 50)
		s, err := subscription.Open(t.Context(), c, subscription.Config{Stream: eventstore.All, PageSize: 7, Buffer: 20})
		require.NoError(t, err)
		defer func() { require.NoError(t, s.Close()) }()
		var got []string
		for i := range 100 {
			got = append(got, take(t, s, 1)...)
			write(t, c, "b", i, 1)
			if i%17 == 0 {
				srv.Cut()
			}
		}
		all := names(logged(t, c))
		require.Equal(t, all, append(got, take(t, s, len(all)-len(got))...))
		silent(t, s)
	})
}

// A transaction has its events at the place where it was committed, behind others that were written meanwhile.
func TestATransactionInEverything(t *testing.T) {
	bubble(t, func(t *testing.T, srv *eventstoretest.Server, c *eventstore.Client) {
		s, err := subscription.Open(t.Context(), c, subscription.Config{Stream: eventstore.All, From: eventstore.End, PageSize: 2})
		require.NoError(t, err)
		defer func() { require.NoError(t, s.Close()) }()
		tx, err := c.StartTransaction(t.Context(), "t", eventstore.Any)
		require.NoError(t, err)
		events := []eventstore.EventData{{Type: "t"}, {Type: "t"}, {Type: "t"}}
		require.NoError(t, tx.Write(t.Context(), events))
		write(t, c, "s", 0, 1)
		require.Equal(t, []string{"0@s"}, take(t, s, 1))
		_, err = tx.Commit(t.Context())
		require.NoError(t, err)
		require.Equal(t, []string{"0@t"}, take(t, s, 1))
		inside := s.Checkpoint()
		srv.Cut()
		require.Equal(t, []string{"1@t", "2@t"}, take(t, s, 2))
		silent(t, s)
		var told notices
		again, err := subscription.Open(t.Context(), c, subscription.Config{Stream: eventstore.All, From: inside, OnNotice: told.add})
		require.NoError(t, err)
		defer func() { require.NoError(t, again.Close()) }()
		require.Equal(t, []string{"1@t", "2@t"}, take(t, again, 2))
		silent(t, again)
		require.Equal(t, notices{"CaughtUp"}, told)
	})
}

// fill writes events to a stream that a filter does not want.
func fill(t *testing.T, c *eventstore.Client, count int) {
	t.Helper()
	events := make([]eventstore.EventData, count)
	for i := range events {
		events[i].Type = "noise"
	}
	_, err := c.Append(t.Context(), "noise", eventstore.Any, events)
	require.NoError(t, err)
}

func TestFilteredEverything(t *testing.T) {
	eachFilterer(t, func(t *testing.T, srv *eventstoretest.Server, c *eventstore.Client) {
		filters := []eventstore.Filter{
			eventstore.StreamPrefix("order-", "bill-"), eventstore.EventTypePrefix("numbered"),
			eventstore.StreamRegexp("^bill"), eventstore.EventTypeRegexp("ber"), eventstore.ExcludeSystemEvents(),
		}
		streams := []string{"order-1", "bill-1", "other", "order-2"}
		numbers := map[string]int{}
		more := func(rounds int) {
			for i := range rounds {
				stream := streams[i%len(streams)]
				write(t, c, stream, numbers[stream], 1)
				numbers[stream]++
				fill(t, c, 30)
			}
		}
		more(20)
		var subs []*subscription.Subscription
		for _, f := range filters {
			s, err := subscription.Open(t.Context(), c, subscription.Config{Stream: eventstore.All, Filter: &f, PageSize: 100})
			require.NoError(t, err)
			defer func() { require.NoError(t, s.Close()) }()
			subs = append(subs, s)
		}
		had := make([]int, len(filters))
		for round := range 4 {
			for i, f := range filters {
				all := names(logged(t, c, f))
				require.Equal(t, all[had[i]:], take(t, subs[i], len(all)-had[i]), "round %d, filter %d", round, i)
				had[i] = len(all)
				silent(t, subs[i])
			}
			more(15)
			if round == 1 {
				srv.Cut()
			}
		}
	})
}

// Nothing is wanted, neither of what is there nor of what comes: who goes on at the checkpoint has little to pass again.
func TestTheCheckpointMovesWhileNothingMatches(t *testing.T) {
	eachFilterer(t, func(t *testing.T, srv *eventstoretest.Server, c *eventstore.Client) {
		fill(t, c, 1000)
		f := eventstore.StreamPrefix("order-")
		var told notices
		s, err := subscription.Open(t.Context(), c, subscription.Config{Stream: eventstore.All, Filter: &f, PageSize: 100, OnNotice: told.add})
		require.NoError(t, err)
		defer func() { require.NoError(t, s.Close()) }()
		passes := func() {
			t.Helper()
			silent(t, s)
			var at int
			all := logged(t, c)
			for i, e := range all {
				if c, err := eventstore.AtPosition(e.Position).Compare(s.Checkpoint()); err == nil && c < 0 {
					at = i + 1
				}
			}
			require.Less(t, len(all)-at, 100, "events behind the checkpoint %v", s.Checkpoint())
		}
		passes()
		for range 7 {
			fill(t, c, 50)
			passes()
		}
		srv.Cut()
		fill(t, c, 500)
		passes()
		// And from there on it goes on, without a gap.
		at := s.Checkpoint()
		write(t, c, "order-1", 0, 1)
		again, err := subscription.Open(t.Context(), c, subscription.Config{Stream: eventstore.All, Filter: &f, From: at, OnNotice: told.add})
		require.NoError(t, err)
		defer func() { require.NoError(t, again.Close()) }()
		require.Equal(t, []string{"0@order-1"}, take(t, again, 1))
		require.Equal(t, []string{"0@order-1"}, take(t, s, 1))
		silent(t, again)
		require.NotContains(t, told, "Beyond")
	})
}

// The events of one stream are picked by the client, by what is delivered.
func TestAFilterOnAStream(t *testing.T) {
	eachFilterer(t, func(t *testing.T, srv *eventstoretest.Server, c *eventstore.Client) {
		types := []string{"paid", "sent", "paid-back", "lost"}
		add := func(first, count int) {
			for i := first; i < first+count; i++ {
				_, err := c.Append(t.Context(), "target", eventstore.ExpectedVersion(i-1), []eventstore.EventData{{Type: types[i%4]}})
				require.NoError(t, err)
				to := fmt.Sprintf("%d@target", i)
				_, err = c.Append(t.Context(), "links", eventstore.ExpectedVersion(i-1), []eventstore.EventData{{Type: "$>", Data: []byte(to)}})
				require.NoError(t, err)
			}
		}
		add(0, 10)
		f := eventstore.EventTypePrefix("paid")
		for _, stream := range []string{"target", "links"} {
			s, err := subscription.Open(t.Context(), c, subscription.Config{Stream: stream, Filter: &f, PageSize: 3})
			require.NoError(t, err)
			wants := func(first, count int) {
				t.Helper()
				for i := first; i < first+count; i++ {
					if strings.HasPrefix(types[i%4], "paid") {
						e, err := s.Recv(t.Context())
						require.NoError(t, err)
						require.EqualValues(t, i, e.Original().Number)
					}
				}
				silent(t, s)
				require.Equal(t, eventstore.After(int64(first+count-1)), s.Checkpoint(), "behind what is not wanted, too")
			}
			e, err := c.LastEvent(t.Context(), stream)
			require.NoError(t, err)
			last := e.Original().Number
			wants(0, int(last)+1)
			add(int(last)+1, 10)
			wants(int(last)+1, 10)
			srv.Cut()
			add(int(last)+11, 4)
			wants(int(last)+11, 4)
			require.NoError(t, s.Close())
		}
		// Links as they are: it is the link that is delivered.
		s, err := subscription.Open(t.Context(), c, subscription.Config{Stream: "links", Filter: &f, RawLinks: true})
		require.NoError(t, err)
		silent(t, s)
		require.NoError(t, s.Close())
	})
}

func TestFiltersThatAreNone(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		regexp := eventstore.StreamRegexp("(")
		for _, stream := range []string{"s", eventstore.All} {
			for _, f := range []*eventstore.Filter{{}, &regexp} {
				_, err := subscription.Open(t.Context(), c, subscription.Config{Stream: stream, Filter: f})
				require.ErrorIs(t, err, eventstore.ErrArgument)
			}
		}
	})
}

func TestReadingEverythingNeedsRights(t *testing.T) {
	bubble(t, func(t *testing.T, srv *eventstoretest.Server, _ *eventstore.Client) {
		c := srv.Client(t, eventstore.WithCredentials("", ""))
		_, err := subscription.Open(t.Context(), c, subscription.Config{Stream: eventstore.All})
		require.ErrorIs(t, err, eventstore.ErrAccessDenied)
		s, err := subscription.Open(t.Context(), c, subscription.Config{
			Stream: eventstore.All, Call: []eventstore.CallOption{eventstore.As("admin", "changeit")},
		})
		require.NoError(t, err)
		require.NotEmpty(t, take(t, s, 1))
		require.NoError(t, s.Close())
	})
}

// Lent events are what owned ones are, as long as they are valid.
func TestLentEvents(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, "s", 0, 10)
		_, err := c.Append(t.Context(), "s", eventstore.Any, []eventstore.EventData{{Type: "$>", Data: []byte("3@s"), Metadata: []byte("m")}})
		require.NoError(t, err)
		for _, stream := range []string{"s", eventstore.All} {
			owned, err := subscription.Open(t.Context(), c, subscription.Config{Stream: stream})
			require.NoError(t, err)
			lent, err := subscription.Open(t.Context(), c, subscription.Config{Stream: stream, Borrowed: true})
			require.NoError(t, err)
			same := func(count int) {
				t.Helper()
				var all []eventstore.ResolvedEvent
				for range count {
					e, err := owned.Recv(t.Context())
					require.NoError(t, err)
					l, err := lent.Recv(t.Context())
					require.NoError(t, err)
					require.Equal(t, e, l)
					all = append(all, e)
				}
				require.Len(t, slices.Compact(names(all)), count, "each owned one is still itself")
			}
			there, comes := 11, 5
			if stream == eventstore.All {
				there, comes = len(logged(t, c)), 10
			}
			same(there)
			silent(t, owned)
			silent(t, lent)
			for range 5 {
				_, err = c.Append(t.Context(), "other", eventstore.Any, []eventstore.EventData{{Type: "t", Data: []byte("x")}})
				require.NoError(t, err)
				_, err = c.Append(t.Context(), "s", eventstore.Any, []eventstore.EventData{{Type: "$>", Data: []byte("3@s"), Metadata: []byte("m")}})
				require.NoError(t, err)
			}
			same(comes)
			require.NoError(t, owned.Close())
			require.NoError(t, lent.Close())
		}
	})
}
