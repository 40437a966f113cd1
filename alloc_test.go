//go:build !race

package eventstore_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/scripted"
	"github.com/goeventstore/eventstore/messages"
)

// canned answers every write with a success and every read of a page with the same page, without allocating. With a
// place for it in the page, the next number is put there: 500 behind where the page was asked for, in 5 bytes.
func canned(t *testing.T, page []byte, next ...int) *eventstore.Client {
	t.Helper()
	const head = 4 + 18 // of a frame
	stored, err := messages.AppendFrame(nil, messages.ID{}, nil, &messages.AppendCompleted{HasPosition: true, HasCurrent: true})
	require.NoError(t, err)
	read, err := messages.AppendFrame(nil, messages.ID{}, nil, messages.Raw(messages.ReadStreamEventsForwardCompleted, page))
	require.NoError(t, err)
	names := new(messages.Names)
	network := scripted.Listen(t, scripted.Identified(func(p *scripted.Peer) {
		for {
			f, err := p.Reader.Next()
			if err != nil {
				return
			}
			answer := stored
			if f.Command == messages.ReadStreamEventsForward {
				answer = read
				for _, place := range next {
					request := messages.StreamRead{}
					if request.Decode(f.Body, names) != nil {
						return
					}
					binary.PutUvarint(answer[head+place:], uint64(request.From)+500)
				}
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
	ctx := t.Context()
	got := mallocs(20_000, func() {
		if _, err := c.AppendAsync(ctx, "stream", eventstore.Any, events).Wait(ctx); err != nil {
			t.Fatal(err)
		}
	})
	require.Less(t, got, 1.05, "allocations of an append of one event")
}

// A page of 500 events costs a handful of allocations, whatever its events hold.
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
	require.Less(t, got, 5.0, "allocations of a page: 0.01 of an event that is read")
}

// Pages that are lent cost nothing, whether they are asked for one by one or ahead: nothing for a page, and less for an event.
func TestAllocReadBorrowed(t *testing.T) {
	var page []byte
	record := messages.EventRecord{Stream: "stream", Type: "happened", Data: bytes.Repeat([]byte("x"), 256)}
	for i := range 500 {
		record.Number = int64(i)
		page = messages.AppendIndexed(page, 1, record.AppendTo(nil), nil)
	}
	const first = 1 << 28 // numbers from here on take 5 bytes
	place := len(page) + len("\x10\x00\x18")
	c := canned(t, (&messages.StreamPage{Next: first, Last: first << 5}).AppendTo(page), place)
	ctx := context.Background()
	const pages = 50
	got := mallocs(20, func() {
		n := 0
		for e, err := range c.ReadStream(ctx, "stream", eventstore.At(first), eventstore.Borrowed(), eventstore.Limit(500*pages)) {
			if err != nil {
				t.Fatal(err)
			}
			n += len(e.Event.Data) / 256
		}
		require.Equal(t, 500*pages, n)
	})
	require.Less(t, got/pages, 0.5, "allocations of a page")
	t.Logf("%.1f allocations a page", got/pages)
}
