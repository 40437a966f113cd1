package conformance_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
)

// ownEvents are the events of a sequence that are in one of the streams, in their order.
func ownEvents(ctx context.Context, t *testing.T, streams []string, c *eventstore.Client, from eventstore.From, opts ...eventstore.ReadOption) (events []eventstore.ResolvedEvent) {
	t.Helper()
	last := eventstore.Position{Commit: -1}
	for e, err := range c.ReadAll(ctx, from, opts...) {
		require.NoError(t, err)
		require.True(t, e.All)
		if last.Commit >= 0 {
			require.NotZero(t, e.Position.Compare(last), "an event comes twice")
		}
		last = e.Position
		if slices.Contains(streams, e.Original().Stream) {
			events = append(events, e.Clone())
		}
	}
	return events
}

func TestClientReadAll(t *testing.T) {
	ctx := within(t)
	client := serve(t).Client(t)
	streams := []string{newStream("all-a"), newStream("all-b")}
	begin, err := client.ReadAllSlice(ctx, eventstore.End, 1, eventstore.Backward())
	require.NoError(t, err)
	start := eventstore.Start
	if len(begin.Events) > 0 {
		start = begin.Events[0].Checkpoint()
	}
	for n := range 10 {
		_, err := client.Append(ctx, streams[n%2], eventstore.Any, numbered(n, 1))
		require.NoError(t, err)
	}
	all := ownEvents(ctx, t, streams, client, start)
	require.Len(t, all, 10)
	for n, e := range all {
		require.Equal(t, streams[n%2], e.Event.Stream)
		require.EqualValues(t, n/2, e.Event.Number)
	}
	reversed := slices.Clone(all)
	slices.Reverse(reversed)

	t.Run("page sizes", func(t *testing.T) {
		for _, size := range []int{1, 3, 4096} {
			require.Equal(t, all, ownEvents(ctx, t, streams, client, start, eventstore.PageSize(size)))
			require.Equal(t, all, ownEvents(ctx, t, streams, client, start, eventstore.PageSize(size), eventstore.Borrowed()))
		}
	})
	t.Run("places", func(t *testing.T) {
		for n, e := range all {
			at, after := eventstore.AtPosition(e.Position), e.Checkpoint()
			require.Equal(t, all[n:], ownEvents(ctx, t, streams, client, at))
			require.Equal(t, append([]eventstore.ResolvedEvent(nil), all[n+1:]...), ownEvents(ctx, t, streams, client, after))
			back := len(all) - 1 - n
			// Others write too, or have before us: links that nobody may resolve among them.
			got := ownEvents(ctx, t, streams, client, at, eventstore.Backward(), eventstore.Limit(1000), eventstore.RawLinks())
			require.Equal(t, reversed[back:], got)
			page, err := client.ReadAllSlice(ctx, after, 1, eventstore.Backward())
			require.NoError(t, err)
			if n > 0 && len(page.Events) > 0 {
				require.Negative(t, page.Events[0].Position.Compare(e.Position))
			}
			page, err = client.ReadAllSlice(ctx, after, 1)
			require.NoError(t, err)
			require.LessOrEqual(t, len(page.Events), 1)
			if len(page.Events) > 0 {
				require.Positive(t, page.Events[0].Position.Compare(e.Position))
			}
		}
	})
	t.Run("filters", func(t *testing.T) {
		for name, f := range map[string]eventstore.Filter{
			"prefix":  eventstore.StreamPrefix("no such stream", streams[0]),
			"pattern": eventstore.StreamRegexp("^" + streams[0] + "$"),
		} {
			var got []string
			for e, err := range client.ReadAll(ctx, start, f, eventstore.PageSize(3)) {
				require.NoError(t, err, name)
				got = append(got, e.Event.Stream+string(e.Event.Data))
			}
			require.Equal(t, strings.Split(streams[0]+strings.Join([]string{"0", "2", "4", "6", "8"}, " "+streams[0]), " "), got, name)
		}
		n := 0
		for e, err := range client.ReadAll(ctx, eventstore.End, eventstore.EventTypePrefix("numbered"),
			eventstore.Backward(), eventstore.Limit(7), eventstore.RawLinks()) {
			require.NoError(t, err)
			require.Equal(t, "numbered", e.Event.Type)
			n++
		}
		require.Equal(t, 7, n)
		for e, err := range client.ReadAll(ctx, start, eventstore.ExcludeSystemEvents()) {
			require.NoError(t, err)
			require.NotEqual(t, byte('$'), e.Original().Type[0])
		}
	})
	t.Run("without rights", func(t *testing.T) {
		_, err := client.ReadAllSlice(ctx, eventstore.Start, 1, eventstore.As("ops", "changeit"))
		require.ErrorIs(t, err, eventstore.ErrAccessDenied)
	})
}

// The events of a transaction have the position of its commit and their own.
func TestClientReadAllOfATransaction(t *testing.T) {
	ctx := within(t)
	client := serve(t).Client(t)
	stream := newStream("all-transaction")
	tx, err := client.StartTransaction(ctx, stream, eventstore.NoStream)
	require.NoError(t, err)
	require.NoError(t, tx.Write(ctx, numbered(0, 2)))
	between, err := client.Append(ctx, newStream("between"), eventstore.NoStream, numbered(0, 1))
	require.NoError(t, err)
	require.NoError(t, tx.Write(ctx, numbered(2, 1)))
	_, err = tx.Commit(ctx)
	require.NoError(t, err)
	all := ownEvents(ctx, t, []string{stream}, client, eventstore.AtPosition(between.Position))
	require.Len(t, all, 3)
	for n, e := range all {
		require.EqualValues(t, n, e.Event.Number)
		require.Equal(t, all[0].Position.Commit, e.Position.Commit)
		require.Less(t, e.Position.Prepare, e.Position.Commit)
		// Every place in it is a place to go on from.
		require.Equal(t, append([]eventstore.ResolvedEvent(nil), all[n+1:]...), ownEvents(ctx, t, []string{stream}, client, e.Checkpoint()))
		require.Equal(t, all[n:], ownEvents(ctx, t, []string{stream}, client, eventstore.AtPosition(e.Position)))
		page, err := client.ReadAllSlice(ctx, e.Checkpoint(), 1, eventstore.Backward())
		require.NoError(t, err)
		require.Len(t, page.Events, 1)
		if n > 0 {
			require.Equal(t, all[n-1], page.Events[0])
		}
	}
}
