package eventstore_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/scripted"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/server"
)

// numberedStream is a client of a server that has a stream of n events, each with its number as data.
func numberedStream(t *testing.T, n int, opts ...eventstore.Option) *eventstore.Client {
	t.Helper()
	srv, err := server.Start(server.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = srv.Close() })
	c, err := eventstore.Connect(t.Context(), srv.URL(), append(opts, eventstore.WithCredentials("admin", "changeit"))...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	events := make([]eventstore.EventData, n)
	for i := range events {
		events[i] = eventstore.EventData{Type: "numbered", Data: fmt.Append(nil, i)}
	}
	_, err = c.Append(t.Context(), "stream", eventstore.NoStream, events)
	require.NoError(t, err)
	return c
}

// A page that was asked for ahead takes no place in flight from what the loop itself does, and the pages in memory that is
// lent do not overwrite each other.
func TestAPageAheadIsInNobodysWay(t *testing.T) {
	const n = 23
	for _, options := range [][]eventstore.ReadOption{
		{eventstore.PageSize(2)},
		{eventstore.PageSize(2), eventstore.Borrowed()},
		{eventstore.PageSize(2), eventstore.Borrowed(), eventstore.Limit(n)},
		{eventstore.PageSize(500)},
	} {
		c := numberedStream(t, n, eventstore.WithMaxInFlight(1))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		next := 0
		for e, err := range c.ReadStream(ctx, "stream", eventstore.Start, options...) {
			require.NoError(t, err)
			_, err = c.Append(ctx, "other", eventstore.Any, []eventstore.EventData{{Type: "seen"}})
			require.NoError(t, err)
			require.EqualValues(t, next, e.Event.Number)
			require.Equal(t, fmt.Sprint(next), string(e.Event.Data))
			next++
		}
		require.Equal(t, n, next)
		for e, err := range c.ReadStream(ctx, "stream", eventstore.Start, options...) {
			require.NoError(t, err)
			if e.Event.Number == 7 { // with a page ahead that nobody takes
				break
			}
		}
		require.NoError(t, c.Shutdown(ctx))
	}
}

// A reader who stops within the first page has asked for nothing in vain.
func TestWhoReadsOnePageAsksForOne(t *testing.T) {
	var asked atomic.Int64
	network := scripted.Listen(t, scripted.Identified(func(p *scripted.Peer) {
		for {
			f, err := p.Reader.Next()
			if err != nil {
				return
			}
			var request messages.StreamRead
			if request.Decode(f.Body, nil) != nil {
				return
			}
			asked.Add(1)
			var page []byte
			for i := range int64(request.Count) {
				r := messages.EventRecord{Stream: "stream", Type: "numbered", Number: request.From + i}
				page = messages.AppendIndexed(page, 1, r.AppendTo(nil), nil)
			}
			page = (&messages.StreamPage{Next: request.From + int64(request.Count), Last: 1 << 40}).AppendTo(page)
			answer, err := messages.AppendFrame(nil, f.ID, nil, messages.Raw(messages.ReadStreamEventsForwardCompleted, page))
			if err == nil {
				_, err = p.Conn.Write(answer)
			}
			if err != nil {
				return
			}
		}
	}))
	c, err := eventstore.Connect(t.Context(), "tcp://"+scripted.Addr, eventstore.WithDialer(network.Dial))
	require.NoError(t, err)
	defer func() { _ = c.Close() }()
	for _, r := range []struct{ last, requests int64 }{{last: 9, requests: 1}, {last: 10, requests: 3}, {last: 39, requests: 5}} {
		asked.Store(0)
		for e, err := range c.ReadStream(t.Context(), "stream", eventstore.Start, eventstore.PageSize(10)) {
			require.NoError(t, err)
			if e.Event.Number == r.last {
				break
			}
		}
		require.NoError(t, c.Close(), "what is on its way is not waited for")
		require.LessOrEqual(t, asked.Load(), r.requests)
		c, err = eventstore.Connect(t.Context(), "tcp://"+scripted.Addr, eventstore.WithDialer(network.Dial))
		require.NoError(t, err)
	}
}

// A page ahead ends with the context as every call does, in the step that would hand out its events.
func TestAPageAheadEndsWithItsContext(t *testing.T) {
	c := numberedStream(t, 10)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var got []int64
	var failed error
	for e, err := range c.ReadStream(ctx, "stream", eventstore.Start, eventstore.PageSize(2)) {
		if failed = err; err != nil {
			break
		}
		got = append(got, e.Event.Number)
		if e.Event.Number == 3 { // page 2, and page 3 is ahead
			cancel()
		}
	}
	require.Equal(t, []int64{0, 1, 2, 3}, got)
	require.ErrorIs(t, failed, context.Canceled)
}

// The event at which a loop was left stays what it is, whatever is read afterwards.
func TestTheEventALoopWasLeftAtIsNotOverwritten(t *testing.T) {
	c := numberedStream(t, 10)
	for range 10 {
		var left eventstore.ResolvedEvent
		for e, err := range c.ReadStream(t.Context(), "stream", eventstore.Start, eventstore.Borrowed()) {
			require.NoError(t, err)
			if left = e; e.Event.Number == 3 {
				break
			}
		}
		for e, err := range c.ReadStream(t.Context(), "stream", eventstore.At(5), eventstore.Borrowed()) {
			require.NoError(t, err)
			require.NotSame(t, left.Event, e.Event)
		}
		require.Equal(t, "3", string(left.Event.Data))
		require.EqualValues(t, 3, left.Event.Number)
	}
}
