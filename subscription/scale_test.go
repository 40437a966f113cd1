package subscription_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/scripted"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
	"github.com/goeventstore/eventstore/server"
	"github.com/goeventstore/eventstore/subscription"
)

// heap is how much is in use, of what is not garbage.
func heap() uint64 {
	runtime.GC()
	runtime.GC() // what a pool held through the first
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// endless is a server whose stream, and $all, has so many events of 200 bytes, and pushes more when those are read. What was
// pushed is there to be read, when a window has overflowed.
func endless(history, live int64) func(p *scripted.Peer) {
	record := messages.EventRecord{Stream: "s", ID: uuid.New(), Type: "t", Data: make([]byte, 200)}
	var page, one []byte
	event := func(number int64) []byte {
		record.Number = number
		binary.BigEndian.PutUint64(record.Data, uint64(number))
		one = record.AppendTo(one[:0])
		return one
	}
	written := history
	position := func(number int64) int64 { return 100 * (number + 1) }
	return scripted.Identified(func(p *scripted.Peer) {
		var id messages.ID
		for {
			f, err := p.Reader.Next()
			if err != nil {
				return
			}
			var next int64
			page = page[:0]
			switch f.Command {
			case messages.SubscribeToStream:
				id = f.ID
				p.SendRequest(f.ID, messages.Of(messages.SubscriptionConfirmation, &pb.SubscriptionConfirmation{
					LastCommitPosition: proto.Int64(position(written - 1)), LastEventNumber: proto.Int64(written - 1),
				}))
				continue
			case messages.ReadStreamEventsForward:
				var m messages.StreamRead
				if m.Decode(f.Body, nil) != nil {
					return
				}
				for next = m.From; next < min(m.From+int64(m.Count), written); next++ {
					page = messages.AppendIndexed(page, 1, event(next), nil)
				}
				end := messages.StreamPage{Next: next, Last: written - 1, EndOfStream: next == written}
				p.SendRequest(f.ID, messages.Raw(messages.ReadStreamEventsForwardCompleted, end.AppendTo(page)))
			case messages.ReadAllEventsForward:
				var m messages.AllRead
				if m.Decode(f.Body) != nil {
					return
				}
				first := max(0, (m.Commit+99)/100-1)
				end := messages.AllPage{Commit: m.Commit, Prepare: m.Prepare}
				page = end.AppendHead(page)
				for next = first; next < min(first+int64(m.Count), written); next++ {
					page = messages.AppendResolved(page, 3, event(next), nil, position(next), position(next))
				}
				end.NextCommit = position(next)
				p.SendRequest(f.ID, messages.Raw(messages.ReadAllEventsForwardCompleted, end.AppendTo(page)))
				if first < written {
					continue // the end is an empty page
				}
			case messages.UnsubscribeFromStream:
				return
			default:
				continue
			}
			if next < written {
				continue
			}
			var frames []byte
			for ; written < history+live; written++ {
				n := written
				start := len(frames)
				frames = messages.AppendFrameStart(frames, messages.StreamEventAppeared, id, nil)
				frames = messages.AppendAppeared(frames, event(n), nil, position(n), position(n))
				if frames, err = messages.EndFrame(frames, start); err != nil {
					return
				}
				if len(frames) > 64<<10 || n == history+live-1 {
					if _, err := p.Conn.Write(frames); err != nil {
						return
					}
					frames = frames[:0]
				}
			}
		}
	})
}

// Much more than fits a heap that does not grow: what a subscription holds depends on its window and its page, not on how much it has
// delivered. EVENTS says how many.
func TestTheHeapStaysFlat(t *testing.T) {
	events := int64(200_000) // 90 MB
	if n := os.Getenv("EVENTS"); n != "" {
		var err error
		events, err = strconv.ParseInt(n, 10, 64)
		require.NoError(t, err, "EVENTS")
	}
	history := events * 2 / 3
	live := events - history
	for _, stream := range []string{"s", eventstore.All} {
		for _, borrowed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s borrowed %t", stream, borrowed), func(t *testing.T) {
				network := scripted.Listen(t, endless(history, live))
				c, err := eventstore.Connect(t.Context(), "tcp://"+scripted.Addr, eventstore.WithDialer(network.Dial))
				require.NoError(t, err)
				defer func() { require.NoError(t, c.Close()) }()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute+time.Duration(events)*100*time.Microsecond)
				defer cancel()
				s, err := subscription.Open(ctx, c, subscription.Config{Stream: stream, Borrowed: borrowed, Buffer: 1 << 20})
				require.NoError(t, err)
				defer func() { require.NoError(t, s.Close()) }()
				var least, most uint64
				for n := range events {
					e, err := s.Recv(ctx)
					require.NoError(t, err)
					if e.Event.Number != n || binary.BigEndian.Uint64(e.Event.Data) != uint64(n) {
						require.Equal(t, n, e.Event.Number)
					}
					if n%(events/8) == events/16 {
						if most = max(most, heap()); least == 0 {
							least = most
						}
					}
				}
				t.Logf("%d events of 200 bytes: the heap was %d KiB after the first %d, and %d KiB at most", events, least>>10, events/16, most>>10)
				// The window's 8 MiB, swapped and in either being copied when it grows by a quarter, and a page.
				require.Less(t, most, least+40<<20)
			})
		}
	}
}

// Thousands of subscriptions on one client: none has a goroutine, each gets what is its, and what they hold is bounded.
func TestThousandsOfSubscriptionsOnOneClient(t *testing.T) {
	const many, streams, each = 5000, 250, 10
	srv, err := server.Start(server.Config{HTTP: server.Off})
	require.NoError(t, err)
	defer func() { require.NoError(t, srv.Close()) }()
	c, err := eventstore.Connect(t.Context(), srv.URL(), eventstore.WithCredentials("admin", "changeit"))
	require.NoError(t, err)
	defer func() { require.NoError(t, c.Close()) }()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	goroutines, before := runtime.NumGoroutine(), heap()
	subs := make([]*subscription.Subscription, many)
	for i := range subs {
		subs[i], err = subscription.Open(ctx, c, subscription.Config{Stream: fmt.Sprintf("s-%d", i%streams), Buffer: each})
		require.NoError(t, err)
		defer func() { require.NoError(t, subs[i].Close()) }()
	}
	opened := heap()
	for first := 0; first < 2*each; first += each { // what is read, and what is pushed then
		for i := range streams {
			events := make([]eventstore.EventData, each)
			for n := range events {
				events[n] = eventstore.EventData{Type: "t", Data: fmt.Appendf(nil, "%d of %d", first+n, i)}
			}
			_, err := c.Append(ctx, fmt.Sprintf("s-%d", i), eventstore.ExpectedVersion(first-1), events)
			require.NoError(t, err)
		}
		for i, s := range subs {
			for n := range each {
				e, err := s.Recv(ctx)
				require.NoError(t, err)
				require.Equal(t, fmt.Sprintf("%d of %d", first+n, i%streams), string(e.Event.Data))
			}
		}
	}
	require.LessOrEqual(t, runtime.NumGoroutine(), goroutines, "no subscription has one")
	delivered := heap()
	perOpen, perAll := (opened-before)/many, (delivered-before)/many
	t.Logf("%d subscriptions hold %d bytes each when they are open, and %d when each has had %d events, the server's side among them", many, perOpen, perAll, 2*each)
	require.Less(t, perOpen, uint64(8<<10))
	require.Less(t, perAll, uint64(24<<10))
}

// A bulk writer, a long catch-up and a consumer that stands still are in nobody's way: who follows one stream on the same client gets
// each event soon.
func TestOneSubscriptionDoesNotStarveAnother(t *testing.T) {
	srv, err := server.Start(server.Config{HTTP: server.Off})
	require.NoError(t, err)
	defer func() { require.NoError(t, srv.Close()) }()
	c, err := eventstore.Connect(t.Context(), srv.URL(), eventstore.WithCredentials("admin", "changeit"))
	require.NoError(t, err)
	defer func() { require.NoError(t, c.Close()) }()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	bulk := make([]eventstore.EventData, 500)
	for i := range bulk {
		bulk[i] = eventstore.EventData{Type: "t", Data: make([]byte, 1000)}
	}
	for range 20 {
		_, err := c.Append(ctx, "history", eventstore.Any, bulk)
		require.NoError(t, err)
	}
	still, err := subscription.Open(ctx, c, subscription.Config{Stream: "bulk", Buffer: 10})
	require.NoError(t, err)
	defer func() { require.NoError(t, still.Close()) }()
	s, err := subscription.Open(ctx, c, subscription.Config{Stream: "mine", From: eventstore.End})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()

	loads, stop := context.WithCancel(ctx)
	ended := make(chan struct{}, 2) // one of each
	var written, read atomic.Int64
	go func() { // a bulk writer
		defer func() { ended <- struct{}{} }()
		for loads.Err() == nil {
			if _, err := c.Append(loads, "bulk", eventstore.Any, bulk); err == nil {
				written.Add(1)
			}
		}
	}()
	go func() { // one catch-up after the other
		defer func() { ended <- struct{}{} }()
		for loads.Err() == nil {
			behind, err := subscription.Open(loads, c, subscription.Config{Stream: "history", PageSize: 4096})
			if err != nil {
				continue
			}
			for range 10_000 {
				if _, err := behind.Recv(loads); err == nil {
					read.Add(1)
				}
			}
			_ = behind.Close()
		}
	}()
	events := 0
	var worst time.Duration
	for ; events < 30 || written.Load() == 0 || read.Load() == 0; events++ {
		began := time.Now()
		_, err := c.Append(ctx, "mine", eventstore.ExpectedVersion(events-1), []eventstore.EventData{{Type: "t"}})
		require.NoError(t, err)
		e, err := s.Recv(ctx)
		require.NoError(t, err)
		require.EqualValues(t, events, e.Event.Number)
		worst = max(worst, time.Since(began))
	}
	stop()
	<-ended
	<-ended
	t.Logf("the slowest of %d events came %v after its append was begun, beside %d bulk writes and %d events of catch-ups", events, worst, written.Load(), read.Load())
	require.LessOrEqual(t, still.Stats().Buffered, 10)
	require.Less(t, worst, 5*time.Second)
}
