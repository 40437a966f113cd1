package eventstore_test

import (
	"context"
	"fmt"
	"iter"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/scripted"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
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

// gaps is a stream that has the numbers below last, but for those that a real server would skip.
type gaps struct {
	last    int64
	missing func(number int64) bool
	asked   [][2]int64 // places and numbers of events, in the order of the requests
}

// page is the answer to a request.
func (g *gaps) page(p *scripted.Peer, id messages.ID, from, count int64) {
	for from <= g.last && g.missing(from) {
		from++
	}
	var body []byte
	for ; count > 0 && from <= g.last; count-- {
		r := messages.EventRecord{Stream: "stream", Type: "numbered", Number: from, Data: fmt.Append(nil, from)}
		body = messages.AppendIndexed(body, 1, r.AppendTo(nil), nil)
		for from++; from <= g.last && g.missing(from); {
			from++
		}
	}
	body = (&messages.StreamPage{Next: from, Last: g.last, EndOfStream: from > g.last}).AppendTo(body)
	p.SendRequest(id, messages.Raw(messages.ReadStreamEventsForwardCompleted, body))
}

// hear notes a request.
func (g *gaps) hear(f messages.Frame) (from, count int64) {
	var m messages.StreamRead
	_ = m.Decode(f.Body, nil)
	g.asked = append(g.asked, [2]int64{m.From, int64(m.Count)})
	return m.From, int64(m.Count)
}

// A long sequence has several pages under way: from its fifth page on the server gets requests before it has answered those
// before, and answers them the other way round. None is made in vain.
func TestALongSequenceKeepsPagesUnderWay(t *testing.T) {
	for name, tt := range map[string]struct {
		options []eventstore.ReadOption
		events  int
		asked   [][2]int64
	}{
		"owned":    {events: 100, asked: [][2]int64{{80, 10}, {90, 10}}},
		"borrowed": {options: []eventstore.ReadOption{eventstore.Borrowed()}, events: 100, asked: [][2]int64{{80, 10}, {90, 10}}},
		"limited":  {options: []eventstore.ReadOption{eventstore.Limit(85)}, events: 85, asked: [][2]int64{{80, 5}}},
	} {
		t.Run(name, func(t *testing.T) {
			stream := gaps{last: 99, missing: func(int64) bool { return false }}
			var held []messages.ID
			play(t, func(p *scripted.Peer) {
				alive(p, func(f messages.Frame) bool {
					from, count := stream.hear(f)
					if len(stream.asked) <= 20 && (from == 50 || from == 60 || from == 80 && count == 10) {
						held = append(held, f.ID)
						return true
					}
					stream.page(p, f.ID, from, count)
					for ; len(held) > 0; held = held[:len(held)-1] {
						from -= 10
						stream.page(p, held[len(held)-1], from, 10)
					}
					return true
				})
			}, func(t *testing.T, c *eventstore.Client) {
				n := 0
				for e, err := range c.ReadStream(t.Context(), "stream", eventstore.Start, append(tt.options, eventstore.PageSize(10))...) {
					require.NoError(t, err)
					require.EqualValues(t, n, e.Event.Number)
					require.Equal(t, fmt.Sprint(n), string(e.Event.Data))
					n++
				}
				require.Equal(t, tt.events, n)
				want := [][2]int64{{0, 10}, {10, 10}, {20, 10}, {30, 10}, {40, 10}, {50, 10}, {60, 10}, {70, 10}}
				require.Equal(t, append(want, tt.asked...), stream.asked, "nothing twice: no attempt timed out")

				left := c.ReadStream(t.Context(), "stream", eventstore.Start, append(tt.options, eventstore.PageSize(10))...)
				for e, err := range left {
					require.NoError(t, err)
					if e.Event.Number == 63 { // with pages ahead
						break
					}
				}
				synctest.Wait() // the server answers them all the same
				require.NoError(t, c.Shutdown(t.Context()), "they hold no places")
			})
		})
	}
}

// Where pages do not begin where they were guessed to, what came is dropped, and the sequence guesses no more.
func TestAWrongGuessIsTheLast(t *testing.T) {
	stream := gaps{last: 999, missing: func(n int64) bool { return n%100 >= 60 }}
	play(t, func(p *scripted.Peer) {
		alive(p, func(f messages.Frame) bool {
			from, count := stream.hear(f)
			stream.page(p, f.ID, from, count)
			return true
		})
	}, func(t *testing.T, c *eventstore.Client) {
		next := int64(0)
		for e, err := range c.ReadStream(t.Context(), "stream", eventstore.Start, eventstore.PageSize(10)) {
			require.NoError(t, err)
			require.Equal(t, next, e.Event.Number)
			if next++; next%100 == 60 {
				next += 40
			}
		}
		require.EqualValues(t, 1000, next)
		var places []int64
		for _, a := range stream.asked {
			places = append(places, a[0])
		}
		require.Equal(t, []int64{0, 10, 20, 30, 40, 50, 60, 70, 100, 110}, places[:10])
		require.Len(t, places, 62, "of 60 pages")
	})
}

// Pages ahead end with the context as every call does, in the step that would hand out the events of the next.
func TestAPageAheadEndsWithItsContext(t *testing.T) {
	c := numberedStream(t, 40)
	for _, last := range []int{3, 13} { // page 2, and page 3 is ahead; page 7, and more are
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		n := 0
		var failed error
		for e, err := range c.ReadStream(ctx, "stream", eventstore.Start, eventstore.PageSize(2)) {
			if failed = err; err != nil {
				break
			}
			require.EqualValues(t, n, e.Event.Number)
			if n++; e.Event.Number == int64(last) {
				cancel()
			}
		}
		require.Equal(t, last+1, n)
		require.ErrorIs(t, failed, context.Canceled)
	}
}

// Events are decoded when they are asked for. One that is malformed is the operation's error, behind those before it; a slice is
// whole or not at all.
func TestAMalformedEventEndsASequence(t *testing.T) {
	good := (&messages.EventRecord{Stream: "stream", Type: "numbered"}).AppendTo(nil)
	bad := []byte{3<<3 | 2, 1, 'x'} // an event id of one byte
	play(t, func(p *scripted.Peer) {
		alive(p, func(f messages.Frame) bool {
			var body []byte
			if f.Command == messages.ReadAllEventsForward {
				page := messages.AllPage{NextCommit: 9, NextPrepare: 9}
				body = messages.AppendResolved(page.AppendHead(nil), 3, good, nil, 1, 1)
				body = page.AppendTo(messages.AppendResolved(body, 3, bad, nil, 2, 2))
			} else {
				body = messages.AppendIndexed(messages.AppendIndexed(nil, 1, good, nil), 1, bad, nil)
				body = (&messages.StreamPage{EndOfStream: true}).AppendTo(body)
			}
			p.SendRequest(f.ID, messages.Raw(f.Command+1, body))
			return true
		})
	}, func(t *testing.T, c *eventstore.Client) {
		malformed := func(err error) {
			t.Helper()
			require.ErrorIs(t, err, eventstore.ErrProtocol)
			var op *eventstore.OpError
			require.ErrorAs(t, err, &op)
			require.Equal(t, "read", op.Op)
			require.Equal(t, scripted.Addr, op.Addr)
		}
		for _, read := range []iter.Seq2[eventstore.ResolvedEvent, error]{
			c.ReadStream(t.Context(), "stream", eventstore.Start),
			c.ReadStream(t.Context(), "stream", eventstore.Start, eventstore.Borrowed()),
			c.ReadAll(t.Context(), eventstore.Start),
			c.ReadAll(t.Context(), eventstore.Start, eventstore.Borrowed()),
		} {
			steps := 0
			for e, err := range read {
				if steps++; steps == 1 {
					require.NoError(t, err)
					require.Equal(t, "stream", e.Event.Stream)
					continue
				}
				malformed(err)
			}
			require.Equal(t, 2, steps)
		}
		slice, err := c.ReadSlice(t.Context(), "stream", eventstore.Start, 2)
		malformed(err)
		require.Empty(t, slice.Events)
		all, err := c.ReadAllSlice(t.Context(), eventstore.Start, 2)
		malformed(err)
		require.Empty(t, all.Events)
	})
}

// A slice behind a record asks for one event more, which is the record. When that is gone, the one more is left for the next
// slice, also when the server says that nothing is behind it.
func TestASliceBehindARecordThatIsGone(t *testing.T) {
	play(t, func(p *scripted.Peer) {
		alive(p, func(f messages.Frame) bool {
			var m pb.FilteredReadAllEvents
			require.NoError(t, (messages.Reply{Body: f.Body}).Unmarshal(&m))
			page := messages.AllPage{NextCommit: 9, NextPrepare: 9}
			body := page.AppendHead(nil)
			from := max(m.GetCommitPosition(), 6)
			for at := from; at < min(from+int64(m.GetMaxCount()), 9); at++ {
				r := messages.EventRecord{Stream: "stream", Type: "numbered", Number: at}
				body = messages.AppendResolved(body, 3, r.AppendTo(nil), nil, at, at)
			}
			p.SendRequest(f.ID, messages.Raw(f.Command+1, append(page.AppendTo(body), 6<<3, 1)))
			return true
		})
	}, func(t *testing.T, c *eventstore.Client) {
		var numbers []int64
		for from, end := eventstore.AfterPosition(eventstore.Position{Commit: 5, Prepare: 5}), false; !end; {
			slice, err := c.ReadAllSlice(t.Context(), from, 2, eventstore.StreamPrefix("s"))
			require.NoError(t, err)
			for _, e := range slice.Events {
				numbers = append(numbers, e.Event.Number)
			}
			from, end = slice.Next, slice.End
		}
		require.Equal(t, []int64{6, 7, 8}, numbers)
	})
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
