//go:build !race

package listener

import (
	"context"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
)

// An event costs no allocation, however many consumers it goes to and whatever their policies are, once their buffers are warm:
// they share it.
func TestAllocFanout(t *testing.T) {
	const consumers, events = 30, 10_000
	f := &Fanout{room: make(chan struct{}, 1), consumers: map[string][]*Consumer{}}
	var all []*Consumer
	for i := range consumers {
		opts := AttachOptions{OnOverflow: Overflow(i % 3), Buffer: 64}
		if i%2 == 0 {
			opts.Stream = "s"
		}
		all = append(all, f.Attach(opts))
	}
	hurried := f.Attach(AttachOptions{OnOverflow: DropOldest, Buffer: 10}) // nobody takes from it: it drops
	ctx := context.Background()
	e := eventstore.ResolvedEvent{Event: &eventstore.Event{Stream: "s", Data: make([]byte, 256)}}
	n := int64(0)
	batch := func() {
		for range 64 {
			e.Event.Number = n
			n++
			if err := f.deliver(ctx, &e); err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range all {
			for range 64 {
				if _, err := c.Recv(ctx); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	batch() // the buffers grow
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range events / 64 {
		batch()
	}
	runtime.ReadMemStats(&after)
	require.Less(t, float64(after.Mallocs-before.Mallocs)/events, 0.01, "allocations of an event that goes to %d consumers", consumers)
	require.Equal(t, n-10, hurried.Stats().Dropped)
	require.Equal(t, n, all[0].Stats().Delivered)
}

// What Recv returns when it had to wait costs nothing either.
func TestAllocFanoutRecvThatWaits(t *testing.T) {
	const events = 10_000
	f := &Fanout{room: make(chan struct{}, 1), consumers: map[string][]*Consumer{}}
	c := f.Attach(AttachOptions{Buffer: 1}) // each of the two waits for the other
	ctx := t.Context()
	e := eventstore.ResolvedEvent{Event: &eventstore.Event{Stream: "s"}}
	done := make(chan error, 1) // of the one that hands out
	go func() {
		for range events + 100 {
			if err := f.deliver(ctx, &e); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	take := func(n int) {
		for range n {
			if _, err := c.Recv(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	take(100)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	take(events)
	runtime.ReadMemStats(&after)
	require.NoError(t, <-done)
	require.Less(t, float64(after.Mallocs-before.Mallocs)/events, 0.01, "allocations of an event")
}

// BenchmarkFanout is the cost of an event for each of its consumers, to be put into their buffers and taken.
func BenchmarkFanout(b *testing.B) {
	const consumers, batch = 100, 64
	f := &Fanout{room: make(chan struct{}, 1), consumers: map[string][]*Consumer{}}
	var all []*Consumer
	for range consumers {
		all = append(all, f.Attach(AttachOptions{Buffer: batch}))
	}
	ctx := context.Background()
	e := eventstore.ResolvedEvent{Event: &eventstore.Event{Stream: "s"}}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%(consumers*batch) != 0 {
			continue // an operation is one event for one consumer
		}
		for range batch {
			if err := f.deliver(ctx, &e); err != nil {
				b.Fatal(err)
			}
		}
		for _, c := range all {
			for range batch {
				if _, err := c.Recv(ctx); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
}
