package conformance_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/subscription"
)

// followed is a subscription and what it has told: events by their numbers, and the kinds of notices, in their order.
type followed struct {
	*subscription.Subscription
	told []string
	stop context.CancelFunc // of a Recv that waits for CaughtUp
}

func followStream(t *testing.T, client *eventstore.Client, cfg subscription.Config) *followed {
	t.Helper()
	f := &followed{stop: func() {}}
	cfg.OnNotice = func(n subscription.Notice) {
		f.told = append(f.told, n.Kind.String())
		if n.Kind == subscription.CaughtUp {
			f.stop()
		}
	}
	f.Subscription = openSubscription(t, client, cfg)
	return f
}

// untilLive takes what there is until CaughtUp.
func (f *followed) untilLive(t *testing.T) {
	t.Helper()
	var ctx context.Context
	ctx, f.stop = context.WithCancel(within(t))
	for !f.Stats().Live {
		if _, err := f.take(ctx); err != nil {
			require.ErrorIs(t, err, context.Canceled)
		}
	}
	f.stop = func() {}
}

// until takes what comes, up to an event with this number.
func (f *followed) until(t *testing.T, number int64) {
	t.Helper()
	for ctx := within(t); ; {
		n, err := f.take(ctx)
		require.NoError(t, err, f.told)
		if n == number {
			return
		}
	}
}

func (f *followed) take(ctx context.Context) (int64, error) {
	e, err := f.Recv(ctx)
	if err != nil {
		return 0, err
	}
	n := e.Original().Number
	f.told = append(f.told, fmt.Sprint(n))
	return n, nil
}

// TestStatesOfAFollowedStream: each state that a stream may be in when it is followed, and be brought to meanwhile. What is told is
// told once, and in order with the events.
func TestStatesOfAFollowedStream(t *testing.T) {
	srv := serve(t)
	client := srv.Client(t)
	type step func(ctx context.Context, stream string) error
	write := func(first, n int) step {
		return func(ctx context.Context, stream string) error {
			_, err := client.Append(ctx, stream, eventstore.Any, numbered(first, n))
			return err
		}
	}
	softDelete := func(ctx context.Context, stream string) error {
		_, err := client.Delete(ctx, stream, eventstore.Any)
		return err
	}
	cut := func(context.Context, string) error { srv.Cut(); return nil }
	set := func(m eventstore.StreamMetadata) step {
		return func(ctx context.Context, stream string) error {
			_, err := client.SetMetadata(ctx, stream, eventstore.Any, m)
			return err
		}
	}
	tests := []struct {
		name   string
		before []step
		from   eventstore.From
		first  []string // what is told until it is live
		then   []step
		last   int64 // the event that is waited for in the end
		second []string
	}{
		{
			"never written, then written", nil, eventstore.Start,
			[]string{"NoStream", "CaughtUp"},
			[]step{write(0, 2)},
			1,
			[]string{"0", "1"},
		},
		{
			"never written, then written and cut off", nil, eventstore.Start,
			[]string{"NoStream", "CaughtUp"},
			[]step{cut, write(0, 2)},
			1,
			[]string{"FellBehind", "Resubscribed", "0", "1"},
		},
		{
			"soft-deleted, then written",
			[]step{write(0, 3), softDelete},
			eventstore.Start,
			[]string{"SoftDeleted", "CaughtUp"},
			[]step{write(3, 2)},
			4,
			[]string{"Recreated", "3", "4"},
		},
		{
			"soft-deleted, and the line is cut before it is written",
			[]step{write(0, 3), softDelete},
			eventstore.After(0),
			[]string{"SoftDeleted", "CaughtUp"},
			[]step{cut, write(3, 2)},
			4,
			[]string{"FellBehind", "Resubscribed", "Recreated", "3", "4"},
		},
		{
			"soft-deleted while followed",
			[]step{write(0, 3)},
			eventstore.Start,
			[]string{"0", "1", "2", "CaughtUp"},
			[]step{softDelete, write(3, 1)},
			3,
			[]string{"3"},
		},
		{
			"recreated before",
			[]step{write(0, 3), softDelete, write(3, 2)},
			eventstore.Start,
			[]string{"3", "4", "CaughtUp"},
			[]step{write(5, 1)},
			5,
			[]string{"5"},
		},
		{
			"truncated before",
			[]step{write(0, 6), set(eventstore.StreamMetadata{TruncateBefore: 4})},
			eventstore.Start,
			[]string{"4", "5", "CaughtUp"},
			[]step{write(6, 1)},
			6,
			[]string{"6"},
		},
		{
			"truncated to its end",
			[]step{write(0, 6), set(eventstore.StreamMetadata{TruncateBefore: 6})},
			eventstore.After(1),
			[]string{"CaughtUp"},
			[]step{write(6, 1)},
			6,
			[]string{"6"},
		},
		{
			"with a maximal count",
			[]step{set(eventstore.StreamMetadata{MaxCount: 2}), write(0, 6)},
			eventstore.Start,
			[]string{"4", "5", "CaughtUp"},
			[]step{write(6, 3)},
			8,
			[]string{"6", "7", "8"},
		},
		{
			"behind an event that it never had",
			[]step{write(0, 2)},
			eventstore.After(7),
			[]string{"Beyond", "CaughtUp"},
			[]step{write(2, 8)},
			9,
			[]string{"8", "9"},
		},
		{
			"at an event that is to come",
			[]step{write(0, 2)},
			eventstore.At(3),
			[]string{"CaughtUp"},
			[]step{write(2, 3)},
			4,
			[]string{"3", "4"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx := within(t)
			stream := newStream("state")
			for _, do := range tt.before {
				require.NoError(t, do(ctx, stream))
			}
			undeleted(t, client, stream, tt.before != nil && tt.first[0] == "3")
			f := followStream(t, client, subscription.Config{Stream: stream, From: tt.from, PageSize: 2})
			f.untilLive(t)
			require.Equal(t, tt.first, f.told)
			f.told = nil
			for _, do := range tt.then {
				require.NoError(t, do(ctx, stream))
			}
			f.until(t, tt.last)
			for len(f.told) > len(tt.second) && f.told[len(f.told)-1] == "CaughtUp" {
				f.told = f.told[:len(f.told)-1]
			}
			require.Equal(t, tt.second, f.told)
			require.Equal(t, eventstore.After(tt.last), f.Checkpoint())
			f.untilLive(t)
		})
	}
}

// undeleted waits until a stream that was written to after a soft delete can be read.
func undeleted(t *testing.T, client *eventstore.Client, stream string, wait bool) {
	t.Helper()
	if !wait {
		return
	}
	require.Eventually(t, func() bool {
		there, err := client.StreamExists(t.Context(), stream)
		return there && err == nil
	}, hang, time.Millisecond)
}

// TestAFollowedStreamThatAges: what is too old is passed over, and what comes is not.
func TestAFollowedStreamThatAges(t *testing.T) {
	ctx := within(t)
	client := serve(t).Client(t)
	stream := newStream("ages")
	_, err := client.SetMetadata(ctx, stream, eventstore.Any, eventstore.StreamMetadata{MaxAge: time.Second})
	require.NoError(t, err)
	_, err = client.Append(ctx, stream, eventstore.Any, numbered(0, 5))
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		page, err := client.ReadSlice(ctx, stream, eventstore.Start, 10)
		return err == nil && len(page.Events) == 0
	}, hang, 10*time.Millisecond)
	f := followStream(t, client, subscription.Config{Stream: stream, PageSize: 2})
	f.untilLive(t)
	require.Equal(t, []string{"CaughtUp"}, f.told)
	require.Equal(t, eventstore.After(4), f.Checkpoint())
	_, err = client.Append(ctx, stream, eventstore.Any, numbered(5, 1))
	require.NoError(t, err)
	f.until(t, 5)
	require.Equal(t, []string{"CaughtUp", "5"}, f.told)
}

// TestAHardDeleteIsTheEnd: in each phase, behind the events that were there, and it stays so.
func TestAHardDeleteIsTheEnd(t *testing.T) {
	ctx := within(t)
	srv := serve(t)
	client := srv.Client(t)
	hardDelete := func(t *testing.T, stream string) {
		t.Helper()
		_, err := client.HardDelete(ctx, stream, eventstore.Any)
		require.NoError(t, err)
	}
	ended := func(t *testing.T, f *followed) {
		t.Helper()
		told := len(f.told)
		for range 3 {
			_, err := f.Recv(ctx)
			require.ErrorIs(t, err, eventstore.ErrStreamDeleted)
		}
		require.Len(t, f.told, told, "nothing more is told")
	}
	for _, written := range []int{0, 4} {
		stream := newStream("hard")
		if written > 0 {
			_, err := client.Append(ctx, stream, eventstore.NoStream, numbered(0, written))
			require.NoError(t, err)
		}
		reads := followStream(t, client, subscription.Config{Stream: stream, PageSize: 1})
		live := followStream(t, client, subscription.Config{Stream: stream})
		live.untilLive(t)
		lost := followStream(t, client, subscription.Config{Stream: stream})
		lost.untilLive(t)
		if written > 0 {
			_, err := reads.take(ctx)
			require.NoError(t, err)
		}
		hardDelete(t, stream)
		ended(t, live)
		if written > 0 {
			ended(t, reads) // the page behind the first event is that of a deleted stream
		} else {
			_, err := reads.Recv(ctx)
			require.ErrorIs(t, err, eventstore.ErrStreamDeleted)
		}
		srv.Cut()
		_, err := lost.Recv(ctx)
		require.ErrorIs(t, err, eventstore.ErrStreamDeleted)
		_, err = subscription.Open(ctx, client, subscription.Config{Stream: stream})
		require.ErrorIs(t, err, eventstore.ErrStreamDeleted)
	}
}

// TestFollowedLinks: resolved, as they are, and those that lead nowhere.
func TestFollowedLinks(t *testing.T) {
	ctx := within(t)
	srv := serve(t)
	client := srv.Client(t)
	target, links := newStream("target"), newStream("links")
	_, err := client.Append(ctx, target, eventstore.NoStream, numbered(0, 3))
	require.NoError(t, err)
	add := func(to ...int) {
		var events []eventstore.EventData
		for _, n := range to {
			events = append(events, eventstore.EventData{Type: "$>", Data: fmt.Appendf(nil, "%d@%s", n, target)})
		}
		_, err := client.Append(ctx, links, eventstore.Any, events)
		require.NoError(t, err)
	}
	add(2, 9, 0)
	resolved := openSubscription(t, client, subscription.Config{Stream: links, PageSize: 2})
	raw := openSubscription(t, client, subscription.Config{Stream: links, RawLinks: true, PageSize: 2})
	for i, to := range []int64{2, 9, 0, 1, 9, 2} {
		if i == 3 {
			add(1, 9)
		}
		if i == 5 {
			srv.Cut()
			add(2)
		}
		e, err := resolved.Recv(ctx)
		require.NoError(t, err)
		require.NotNil(t, e.Link)
		require.EqualValues(t, i, e.Link.Number)
		if to == 9 {
			require.Nil(t, e.Event)
		} else {
			require.Equal(t, []any{target, to}, []any{e.Event.Stream, e.Event.Number})
		}
		require.Equal(t, eventstore.After(int64(i)), resolved.Checkpoint())
		e, err = raw.Recv(ctx)
		require.NoError(t, err)
		require.Nil(t, e.Link)
		require.Equal(t, fmt.Sprintf("%d@%s", to, target), string(e.Event.Data))
	}
}

// TestFollowedWithItsOwnCredentials: each call that a subscription makes has them, also after a loss.
func TestFollowedWithItsOwnCredentials(t *testing.T) {
	ctx := within(t)
	srv := serve(t)
	anonymous, admin := srv.Client(t, eventstore.WithCredentials("", "")), srv.Client(t)
	stream := newStream("own")
	_, err := admin.SetMetadata(ctx, stream, eventstore.Any, eventstore.StreamMetadata{ACL: &eventstore.ACL{Read: []string{"ops"}}})
	require.NoError(t, err)
	_, err = admin.Append(ctx, stream, eventstore.NoStream, numbered(0, 5))
	require.NoError(t, err)
	_, err = subscription.Open(ctx, anonymous, subscription.Config{Stream: stream})
	require.ErrorIs(t, err, eventstore.ErrAccessDenied)
	for _, name := range []string{stream, eventstore.All} {
		user := "ops"
		if name == eventstore.All {
			user = "admin"
		}
		f := eventstore.StreamPrefix(stream)
		sub := openSubscription(t, anonymous, subscription.Config{
			Stream: name, Filter: &f, RawLinks: true, PageSize: 2, Call: []eventstore.CallOption{eventstore.As(user, "changeit")},
		})
		page, err := admin.LastEvent(ctx, stream)
		require.NoError(t, err)
		last := page.Event.Number
		for i := range last + 4 {
			if i == 2 {
				srv.Cut()
			}
			if i > last {
				_, err = admin.Append(ctx, stream, eventstore.Any, numbered(int(i), 1))
				require.NoError(t, err)
			}
			e, err := sub.Recv(ctx)
			require.NoError(t, err)
			isNumbered(t, int(i), e)
		}
	}
}

// TestAccessThatIsTaken: who may not read any more hears of it when it has to read again, and that is the end.
func TestAccessThatIsTaken(t *testing.T) {
	ctx := within(t)
	srv := serve(t)
	client, admin := srv.Client(t, eventstore.WithCredentials("", "")), srv.Client(t)
	stream := newStream("taken")
	_, err := admin.SetMetadata(ctx, stream, eventstore.Any, eventstore.StreamMetadata{ACL: &eventstore.ACL{Read: []string{"$all"}}})
	require.NoError(t, err)
	f := followStream(t, client, subscription.Config{Stream: stream, Call: []eventstore.CallOption{eventstore.As("ops", "changeit")}})
	f.untilLive(t)
	_, err = admin.SetMetadata(ctx, stream, eventstore.Any, eventstore.StreamMetadata{ACL: &eventstore.ACL{Read: []string{"admin"}}})
	require.NoError(t, err)
	srv.Cut()
	for range 2 {
		_, err = f.Recv(ctx)
		require.ErrorIs(t, err, eventstore.ErrAccessDenied)
	}
	require.Equal(t, []string{"NoStream", "CaughtUp", "FellBehind"}, f.told)
}

// TestFollowEverything: the events of some streams among all that others write to the server, from each place, over a cut, with and
// without a filter: all are the same, and in one order.
func TestFollowEverything(t *testing.T) {
	ctx := within(t)
	srv := serve(t)
	client := srv.Client(t)
	prefix := newStream("everything")
	streams := []string{prefix + "-a", prefix + "-b", prefix + "-c"}
	written := 0
	write := func(count int) {
		for range count {
			_, err := client.Append(ctx, streams[written%3], eventstore.ExpectedVersion(written/3-1), numbered(written/3, 1))
			require.NoError(t, err)
			_, err = client.Append(ctx, newStream("noise"), eventstore.Any, numbered(0, 3))
			require.NoError(t, err)
			written++
		}
	}
	newest, err := client.ReadAllSlice(ctx, eventstore.End, 1, eventstore.Backward())
	require.NoError(t, err)
	begin := eventstore.Start
	if len(newest.Events) > 0 {
		begin = newest.Events[0].Checkpoint()
	}
	write(10)
	f, pattern := eventstore.StreamPrefix(prefix), eventstore.StreamRegexp("^"+prefix)
	subs := map[string]*subscription.Subscription{
		"all":      openSubscription(t, client, subscription.Config{Stream: eventstore.All, From: begin, PageSize: 7}),
		"filtered": openSubscription(t, client, subscription.Config{Stream: eventstore.All, From: begin, Filter: &f, PageSize: 7}),
		"pattern":  openSubscription(t, client, subscription.Config{Stream: eventstore.All, From: begin, Filter: &pattern, Borrowed: true}),
	}
	for round := range 4 {
		for name, sub := range subs {
			for n := written - 10; n < written; n++ {
				var e eventstore.ResolvedEvent
				for e.Event == nil || !f.Match(e.Original()) { // the server may have projections, whose links lead here too
					before := sub.Checkpoint()
					e, err = sub.Recv(ctx)
					require.NoError(t, err)
					require.True(t, e.All)
					c, err := eventstore.AtPosition(e.Position).Compare(before)
					require.NoError(t, err)
					require.GreaterOrEqual(t, c, 0, "%s: %v after %v", name, e.Position, before)
				}
				require.Equal(t, streams[n%3], e.Event.Stream, "%s, round %d", name, round)
				isNumbered(t, n/3, e)
			}
		}
		if round == 1 {
			srv.Cut()
		}
		write(10)
	}
}

// TestTheCheckpointOfAFilter: it moves while nothing matches, so that the next subscription has little to pass, and misses nothing.
func TestTheCheckpointOfAFilter(t *testing.T) {
	ctx := within(t)
	srv := serve(t)
	client := srv.Client(t)
	stream := newStream("rare")
	f := eventstore.StreamPrefix(stream)
	sub := followStream(t, client, subscription.Config{Stream: eventstore.All, From: eventstore.End, Filter: &f})
	sub.untilLive(t)
	from, _ := sub.Checkpoint().Position()
	var last eventstore.WriteResult
	for range 3 {
		var err error
		last, err = client.Append(ctx, newStream("noise"), eventstore.Any, numbered(0, 100))
		require.NoError(t, err)
	}
	wait, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		_, err := sub.Recv(wait)
		done <- err
	}()
	require.Eventually(t, func() bool {
		p, _ := sub.Checkpoint().Position()
		return p.Compare(from) > 0
	}, hang, time.Millisecond)
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	require.Positive(t, last.Position.Compare(from))
	again := followStream(t, client, subscription.Config{Stream: eventstore.All, From: sub.Checkpoint(), Filter: &f})
	_, err := client.Append(ctx, stream, eventstore.NoStream, numbered(0, 1))
	require.NoError(t, err)
	again.until(t, 0)
	sub.until(t, 0)
	require.NotContains(t, again.told, "Beyond")
}

// TestATransactionIsFollowed: its events come where it was committed, and a place between two of them is one to go on from.
func TestATransactionIsFollowed(t *testing.T) {
	ctx := within(t)
	srv := serve(t)
	client := srv.Client(t)
	stream := newStream("transaction")
	f := eventstore.StreamPrefix(stream)
	sub := openSubscription(t, client, subscription.Config{Stream: eventstore.All, From: eventstore.End, Filter: &f})
	tx, err := client.StartTransaction(ctx, stream, eventstore.NoStream)
	require.NoError(t, err)
	require.NoError(t, tx.Write(ctx, numbered(0, 3)))
	_, err = client.Append(ctx, stream+"-between", eventstore.NoStream, numbered(0, 1))
	require.NoError(t, err)
	_, err = tx.Commit(ctx)
	require.NoError(t, err)
	e, err := sub.Recv(ctx)
	require.NoError(t, err)
	require.Equal(t, stream+"-between", e.Event.Stream)
	for i := range 3 {
		e, err := sub.Recv(ctx)
		require.NoError(t, err)
		isNumbered(t, i, e)
		again := openSubscription(t, client, subscription.Config{Stream: eventstore.All, From: e.Checkpoint(), Filter: &f})
		for j := i + 1; j < 3; j++ {
			e, err := again.Recv(ctx)
			require.NoError(t, err)
			isNumbered(t, j, e)
		}
		srv.Cut()
	}
}

// TestEverythingIsDenied: who has no rights is told so, by Open.
func TestEverythingIsDenied(t *testing.T) {
	ctx := within(t)
	client := serve(t).Client(t, eventstore.WithCredentials("", ""))
	f := eventstore.StreamPrefix("a")
	for _, filter := range []*eventstore.Filter{nil, &f} {
		_, err := subscription.Open(ctx, client, subscription.Config{Stream: eventstore.All, Filter: filter})
		require.ErrorIs(t, err, eventstore.ErrAccessDenied)
	}
}
