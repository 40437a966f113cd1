//go:build !race

package eventstore_test

import (
	"bytes"
	"context"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/scripted"
	"github.com/goeventstore/eventstore/messages"
)

// canned answers every write with a success and every read of a page with the same page, without allocating.
func canned(t *testing.T, page []byte) *eventstore.Client {
	t.Helper()
	stored, err := messages.AppendFrame(nil, messages.ID{}, nil, &messages.AppendCompleted{HasPosition: true, HasCurrent: true})
	require.NoError(t, err)
	read, err := messages.AppendFrame(nil, messages.ID{}, nil, messages.Raw(messages.ReadStreamEventsForwardCompleted, page))
	require.NoError(t, err)
	network := scripted.Listen(t, scripted.Identified(func(p *scripted.Peer) {
		for {
			f, err := p.Reader.Next()
			if err != nil {
				return
			}
			answer := stored
			if f.Command == messages.ReadStreamEventsForward {
				answer = read
			}
			copy(answer[6:], f.ID[:])
			if _, err := p.Conn.Write(answer); err != nil {
				return
			}
		}
	}))
	c, err := eventstore.Connect(t.Context(), "tcp://"+scripted.Addr, eventstore.WithDialer(network.Dial), eventstore.WithCredentials("admin", "changeit"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

// mallocs is how many allocations one call of f costs, averaged over n calls of it.
func mallocs(n int, f func()) float64 {
	for range 100 {
		f() // pools and buffers grow
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range n {
		f()
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / float64(n)
}

// An append with given ids costs no allocation; one whose ids are made costs none either.
func TestAllocAppend(t *testing.T) {
	c := canned(t, nil)
	events := []eventstore.EventData{{Type: "happened", Data: bytes.Repeat([]byte("x"), 256)}}
	ctx := context.Background()
	got := mallocs(20_000, func() {
		if _, err := c.Append(ctx, "stream", eventstore.Any, events); err != nil {
			t.Fatal(err)
		}
	})
	require.Less(t, got, 0.05, "allocations of an append of one event")
}

// A pending write is one allocation, for what the caller holds.
func TestAllocAppendAsync(t *testing.T) {
	c := canned(t, nil)
	events := []eventstore.EventData{{Type: "happened", Data: bytes.Repeat([]byte("x"), 256)}}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	got := mallocs(20_000, func() {
		if _, err := c.AppendAsync(ctx, "stream", eventstore.Any, events).Wait(ctx); err != nil {
			t.Fatal(err)
		}
	})
	require.Less(t, got, 1.05, "allocations of an append of one event")
}

// A page of 500 events costs a handful of allocations, whatever its events hold: at most 0.01 an event and a few a page.
func TestAllocReadPage(t *testing.T) {
	var page []byte
	record := messages.EventRecord{Stream: "stream", Type: "happened", Data: bytes.Repeat([]byte("x"), 256)}
	for i := range 500 {
		record.Number = int64(i)
		page = messages.AppendIndexed(page, 1, record.AppendTo(nil), nil)
	}
	page = (&messages.StreamPage{Next: 500, Last: 499, EndOfStream: true}).AppendTo(page)
	c := canned(t, page)
	ctx := context.Background()
	got := mallocs(2_000, func() {
		slice, err := c.ReadSlice(ctx, "stream", eventstore.Start, 500)
		if err != nil || len(slice.Events) != 500 {
			t.Fatal(len(slice.Events), err)
		}
	})
	t.Logf("%.2f allocations a page", got)
	require.Less(t, got/500, 0.02, "allocations of an event that is read")
}
