package conformance_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

func TestReadEvent(t *testing.T) {
	ctx := within(t)
	srv := serve(t)
	client := srv.Client(t)
	stream := newStream("event")
	_, err := client.Append(ctx, stream, eventstore.NoStream, numbered(0, 3))
	require.NoError(t, err)
	for from, want := range map[eventstore.From]int{
		eventstore.Start: 0, eventstore.At(0): 0, eventstore.At(1): 1, eventstore.After(1): 2, eventstore.End: 2,
	} {
		e, err := client.ReadEvent(ctx, stream, from)
		require.NoError(t, err, "%s", from)
		isNumbered(t, want, e)
	}
	for _, from := range []eventstore.From{eventstore.At(3), eventstore.After(2), eventstore.At(1<<31 + 5), eventstore.At(messages.DeletedNumber - 1)} {
		_, err := client.ReadEvent(ctx, stream, from)
		require.ErrorIs(t, err, eventstore.ErrEventNotFound, "%s", from)
	}
	p := dialPeer(t, srv)
	for s, want := range map[state]error{
		missing: eventstore.ErrStreamNotFound, softDeleted: eventstore.ErrStreamNotFound, hardDeleted: eventstore.ErrStreamDeleted,
	} {
		stream := p.in(s)
		for _, from := range []eventstore.From{eventstore.Start, eventstore.At(7), eventstore.End} {
			_, err := client.ReadEvent(ctx, stream, from)
			require.ErrorIs(t, err, want, "%s %s", s, from)
		}
	}
}

// TestReadEventRaw: what is not found comes with an event that is there and empty; numbers below -1 are refused.
func TestReadEventRaw(t *testing.T) {
	srv := serve(t)
	p := dialPeer(t, srv)
	for s, want := range map[state]messages.ReadEventResult{
		existing: messages.ReadEventNotFound, missing: messages.ReadEventNoStream,
		softDeleted: messages.ReadEventNoStream, hardDeleted: messages.ReadEventStreamDeleted,
	} {
		m := p.readEvent(p.in(s), 5)
		require.Equal(t, want, m.GetResult(), s)
		require.NotNil(t, m.Event, s)
		require.Nil(t, m.Event.Event, s)
		require.Nil(t, m.Error, s)
	}
	stream := p.in(existing)
	for _, number := range []int64{-2, -3, -1 << 63} {
		p.refused(p.call(&messages.EventRead{Stream: stream, Number: number}), "ReadEvent")
	}
	p.refused(p.call(&messages.EventRead{Stream: "", Number: 0}), "ReadEvent")
	// The metadata of a stream that has none is a success without an event; and any name counts as that of metadata whose
	// third character is where the name of a stream begins.
	read := func(name string) *pb.ReadEventCompleted {
		var m pb.ReadEventCompleted
		p.call(&messages.EventRead{Stream: name, Number: -1}, p.admin()...).into(t, messages.ReadEventCompleted, &m)
		require.Nil(t, m.GetEvent().GetEvent(), name)
		return &m
	}
	for name, want := range map[string]messages.ReadEventResult{
		"$$" + stream: messages.ReadEventSuccess, "$x" + stream: messages.ReadEventSuccess, "$\u00e9" + stream: messages.ReadEventSuccess,
		"$" + stream: messages.ReadEventNoStream, "$xx" + stream: messages.ReadEventNoStream, "$\U0001f600" + stream: messages.ReadEventNoStream,
		"$x" + p.in(softDeleted): messages.ReadEventSuccess, "$x" + p.in(hardDeleted): messages.ReadEventNoStream,
		"$x" + p.in(metadataOnly): messages.ReadEventNoStream, "$x" + p.in(missing): messages.ReadEventNoStream,
		"$": messages.ReadEventError,
	} {
		require.Equal(t, want, read(name).GetResult(), name)
	}
	require.NotEmpty(t, read("$").GetError())
}

// ten are the pages of a stream of ten events: the examples of protocol 4.8, and what surrounds them.
var ten = []struct {
	backward   bool
	from       int64
	count      int32
	numbers    []int64
	next       int64
	end        bool
	beyondCall bool // the client has no way to say it
}{
	{false, 0, 4, []int64{0, 1, 2, 3}, 4, false, false},
	{false, 4, 4, []int64{4, 5, 6, 7}, 8, false, false},
	{false, 8, 2, []int64{8, 9}, 10, true, false},
	{false, 8, 4, []int64{8, 9}, 10, true, false},
	{false, 9, 1, []int64{9}, 10, true, false},
	{false, 10, 5, nil, 10, true, false},
	{false, 20, 5, nil, 10, true, false},
	{false, 0, 4096, []int64{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, 10, true, false},
	{false, messages.DeletedNumber - 1, 1, nil, 10, true, false},
	{false, messages.DeletedNumber, 5, nil, 0, false, true}, // the end overflows
	{true, -1, 3, []int64{9, 8, 7}, 6, false, false},
	{true, 6, 4, []int64{6, 5, 4, 3}, 2, false, false},
	{true, 2, 4, []int64{2, 1, 0}, -1, true, false},
	{true, 9, 10, []int64{9, 8, 7, 6, 5, 4, 3, 2, 1, 0}, -1, true, false},
	{true, 9, 9, []int64{9, 8, 7, 6, 5, 4, 3, 2, 1}, 0, false, false},
	{true, 0, 1, []int64{0}, -1, true, false},
	{true, 0, 5, []int64{0}, -1, true, false},
	{true, 12, 5, []int64{9, 8}, 7, false, false},
	{true, 20, 3, nil, 9, false, false},
}

func TestPages(t *testing.T) {
	ctx := within(t)
	srv := serve(t)
	p := dialPeer(t, srv)
	client := srv.Client(t)
	stream := newStream("ten")
	_, err := client.Append(ctx, stream, eventstore.NoStream, numbered(0, 10))
	require.NoError(t, err)
	for _, c := range ten {
		t.Run(fmt.Sprintf("backward=%t,%d,%d", c.backward, c.from, c.count), func(t *testing.T) {
			want := page{result: messages.ReadStreamSuccess, numbers: c.numbers, next: c.next, last: 9, end: c.end}
			require.Equal(t, want, p.page(c.backward, stream, c.from, c.count))
			if c.beyondCall {
				return
			}
			from, opts := eventstore.At(max(c.from, 0)), []eventstore.ReadOption(nil)
			if c.from < 0 {
				from = eventstore.End
			}
			if c.backward {
				opts = append(opts, eventstore.Backward())
			}
			slice, err := client.ReadSlice(ctx, stream, from, int(c.count), opts...)
			require.NoError(t, err)
			var numbers []int64
			for _, e := range slice.Events {
				isNumbered(t, int(e.Event.Number), e)
				numbers = append(numbers, e.Event.Number)
			}
			require.Equal(t, c.numbers, numbers)
			require.Equal(t, []any{stream, c.next, int64(9), c.end}, []any{slice.Stream, slice.Next, slice.Last, slice.EndOfStream})
		})
	}
}

// TestTruncatedPages: an empty page need not be the end.
func TestTruncatedPages(t *testing.T) {
	ctx := within(t)
	srv := serve(t)
	p := dialPeer(t, srv)
	client := srv.Client(t)
	stream := newStream("truncated")
	_, err := client.Append(ctx, stream, eventstore.NoStream, numbered(0, 10))
	require.NoError(t, err)
	require.Equal(t, messages.Success, p.metadata(stream, `{"$tb":4}`).GetResult())
	good := func(next int64, end bool, numbers ...int64) page {
		return page{result: messages.ReadStreamSuccess, numbers: numbers, next: next, last: 9, end: end}
	}
	require.Equal(t, good(4, false), p.forward(stream, 0, 4))
	require.Equal(t, good(5, false, 4), p.forward(stream, 0, 5))
	require.Equal(t, good(10, true, 4, 5, 6, 7, 8, 9), p.forward(stream, 0, 100))
	require.Equal(t, good(-1, true), p.backward(stream, 3, 4))
	require.Equal(t, good(-1, true, 5, 4), p.backward(stream, 5, 4))
	var read []int64
	for e, err := range client.ReadStream(ctx, stream, eventstore.Start, eventstore.PageSize(2)) {
		require.NoError(t, err)
		read = append(read, e.Event.Number)
	}
	require.Equal(t, []int64{4, 5, 6, 7, 8, 9}, read)
	_, err = client.ReadEvent(ctx, stream, eventstore.At(3))
	require.ErrorIs(t, err, eventstore.ErrEventNotFound)

	require.Equal(t, messages.Success, p.metadata(stream, `{"$tb":50}`).GetResult())
	require.Equal(t, good(50, false), p.forward(stream, 0, 5))
	require.Equal(t, good(10, true), p.forward(stream, 50, 5))
	for e, err := range client.ReadStream(ctx, stream, eventstore.Start, eventstore.PageSize(2)) {
		require.NoError(t, err)
		require.Fail(t, "an event that is truncated away", "%d", e.Event.Number)
	}
}

func TestPagesOfWhatIsNotThere(t *testing.T) {
	ctx := within(t)
	srv := serve(t)
	p := dialPeer(t, srv)
	client := srv.Client(t)
	for s, want := range map[state]struct {
		page page
		err  error
	}{
		missing:     {page{result: messages.ReadStreamNoStream, next: -1, last: -1, end: true}, eventstore.ErrStreamNotFound},
		softDeleted: {page{result: messages.ReadStreamNoStream, next: -1, last: 2, end: true}, eventstore.ErrStreamNotFound},
		hardDeleted: {page{result: messages.ReadStreamStreamDeleted, next: -1, last: messages.DeletedNumber, end: true}, eventstore.ErrStreamDeleted},
	} {
		stream := p.in(s)
		for _, from := range []int64{0, 5} {
			require.Equal(t, want.page, p.forward(stream, from, 3), s)
			require.Equal(t, want.page, p.backward(stream, from, 3), s)
			_, err := client.ReadSlice(ctx, stream, eventstore.At(from), 3)
			require.ErrorIs(t, err, want.err)
		}
		require.Equal(t, want.page, p.backward(stream, -1, 3), s)
		read := 0
		for _, err := range client.ReadStream(ctx, stream, eventstore.End, eventstore.Backward()) {
			require.ErrorIs(t, err, want.err)
			read++
		}
		require.Equal(t, 1, read, "the error, once")
	}
}

func TestPagesThatAreNone(t *testing.T) {
	srv := serve(t)
	p := dialPeer(t, srv)
	for _, stream := range []string{p.in(existing), p.in(missing)} {
		for _, backward := range []bool{false, true} {
			for count, text := range map[int32]string{
				4097: "Read size too big, should be less than 4096 items", 1<<31 - 1: "Read size too big, should be less than 4096 items",
				0: "maxCount should be positive.\n", -1: "maxCount should be positive.\n",
			} {
				got := p.page(backward, stream, 0, count)
				require.Contains(t, got.text, text)
				got.text = ""
				require.Equal(t, page{result: messages.ReadStreamError, next: -1, last: -1, end: true}, got)
			}
		}
		got := p.forward(stream, -1, 3)
		require.Contains(t, got.text, "fromEventNumber should be non negative")
		require.Equal(t, messages.ReadStreamError, got.result)
		for _, from := range []int64{-2, -1 << 63} {
			p.refused(p.call(&messages.StreamRead{Stream: stream, From: from, Count: 3}), "ReadStreamEventsForward")
			p.refused(p.call(&messages.StreamRead{Stream: stream, From: from, Count: 3, Backward: true}), "ReadStreamEventsBackward")
		}
	}
	p.refused(p.call(&messages.StreamRead{Stream: "", From: 0, Count: 3}), "ReadStreamEventsForward")
}

// TestPagingIsTheWhole: however it is cut, it is the same stream.
func TestPagingIsTheWhole(t *testing.T) {
	ctx := within(t)
	srv := serve(t)
	client := srv.Client(t)
	stream := newStream("whole")
	const n = 123
	for at := 0; at < n; {
		size := min(1+at%7, n-at)
		_, err := client.Append(ctx, stream, eventstore.ExpectedVersion(at-1), numbered(at, size))
		require.NoError(t, err)
		at += size
	}
	for _, size := range []int{1, 2, 7, 10, 122, 123, 124, eventstore.MaxPageSize} {
		want := 0
		for e, err := range client.ReadStream(ctx, stream, eventstore.Start, eventstore.PageSize(size)) {
			require.NoError(t, err)
			isNumbered(t, want, e)
			want++
		}
		require.Equal(t, n, want, "pages of %d", size)
		for e, err := range client.ReadStream(ctx, stream, eventstore.End, eventstore.Backward(), eventstore.PageSize(size)) {
			require.NoError(t, err)
			want--
			isNumbered(t, want, e)
		}
		require.Zero(t, want, "pages of %d", size)
		for e, err := range client.ReadStream(ctx, stream, eventstore.After(99), eventstore.PageSize(size), eventstore.Limit(11)) {
			require.NoError(t, err)
			isNumbered(t, 100+want, e)
			want++
		}
		require.Equal(t, 11, want, "pages of %d", size)
	}
}

// TestReadYourWrites: what was answered is there, also for another connection.
func TestReadYourWrites(t *testing.T) {
	ctx := within(t)
	srv := serve(t)
	client, other := srv.Client(t), srv.Client(t)
	stream := newStream("own")
	for i := range 100 {
		_, err := client.Append(ctx, stream, eventstore.ExpectedVersion(i-1), numbered(i, 1))
		require.NoError(t, err)
		for _, c := range []*eventstore.Client{client, other} {
			e, err := c.ReadEvent(ctx, stream, eventstore.End)
			require.NoError(t, err)
			isNumbered(t, i, e)
		}
	}
}
