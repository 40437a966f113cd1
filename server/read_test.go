package server

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"testing"
	"testing/synctest"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/messages"
)

func upTo(first, last int64) (numbers []int64) {
	for n := first; n <= last; n++ {
		numbers = append(numbers, n)
	}
	return numbers
}

func downTo(first, last int64) (numbers []int64) {
	for n := first; n >= last; n-- {
		numbers = append(numbers, n)
	}
	return numbers
}

// TestReadStreamPages has the examples of 4.8 and of the recordings: ten events 0 to 9, and the same below a $tb.
func TestReadStreamPages(t *testing.T) {
	const largest = math.MaxInt64
	n := run(t)
	p := n.peer(t)
	for _, stream := range []string{"ten", "tb4", "tb10", "tb50"} {
		p.appended(stream, expectNoStream, "abcdefghij")
	}
	p.metadata("tb4", `{"$tb":4}`)
	p.metadata("tb10", `{"$tb":10}`)
	p.metadata("tb50", `{"$tb":50}`)
	tests := []struct {
		stream   string
		backward bool
		from     int64
		count    int32
		numbers  []int64
		next     int64
		end      bool
	}{
		{"ten", false, 0, 4, upTo(0, 3), 4, false},
		{"ten", false, 4, 4, upTo(4, 7), 8, false},
		{"ten", false, 8, 4, upTo(8, 9), 10, true},
		{"ten", false, 8, 2, upTo(8, 9), 10, true},
		{"ten", false, 0, 1, upTo(0, 0), 1, false},
		{"ten", false, 9, 1, upTo(9, 9), 10, true},
		{"ten", false, 0, 4096, upTo(0, 9), 10, true},
		{"ten", false, 10, 5, nil, 10, true},
		{"ten", false, 11, 5, nil, 10, true},
		{"ten", false, 20, 5, nil, 10, true},
		{"ten", false, 1<<31 - 1, 10, nil, 10, true},
		{"ten", false, largest, 5, nil, 0, false},
		{"ten", false, largest - 1, 1, nil, 10, true},
		{"ten", false, largest, 1, nil, 10, true},

		{"ten", true, -1, 3, downTo(9, 7), 6, false},
		{"ten", true, 6, 4, downTo(6, 3), 2, false},
		{"ten", true, 2, 4, downTo(2, 0), -1, true},
		{"ten", true, 9, 10, downTo(9, 0), -1, true},
		{"ten", true, 9, 9, downTo(9, 1), 0, false},
		{"ten", true, 0, 1, downTo(0, 0), -1, true},
		{"ten", true, 0, 5, downTo(0, 0), -1, true},
		{"ten", true, 3, 4, downTo(3, 0), -1, true},
		{"ten", true, 3, 3, downTo(3, 1), 0, false},
		{"ten", true, 12, 5, downTo(9, 8), 7, false},
		{"ten", true, 20, 3, nil, 9, false},
		{"ten", true, 10, 1, nil, 9, false},
		{"ten", true, largest, 5, nil, 9, false},
		{"ten", true, largest, 4096, nil, 9, false},
		{"ten", true, -1, 4096, downTo(9, 0), -1, true},

		{"tb4", false, 0, 3, nil, 4, false},
		{"tb4", false, 0, 4, nil, 4, false},
		{"tb4", false, 0, 5, upTo(4, 4), 5, false},
		{"tb4", false, 0, 20, upTo(4, 9), 10, true},
		{"tb4", false, 3, 1, nil, 4, false},
		{"tb4", false, 4, 1, upTo(4, 4), 5, false},
		{"tb4", true, -1, 20, downTo(9, 4), -1, true},
		{"tb4", true, 5, 2, downTo(5, 4), -1, true},
		{"tb4", true, 5, 1, downTo(5, 5), 4, false},
		{"tb4", true, 4, 1, downTo(4, 4), -1, true},
		{"tb4", true, 3, 2, nil, -1, true},
		{"tb4", true, 5, 3, downTo(5, 4), -1, true},

		{"tb10", false, 0, 5, nil, 10, false},
		{"tb10", false, 10, 5, nil, 10, true},
		{"tb10", true, -1, 5, nil, -1, true},

		{"tb50", false, 0, 5, nil, 50, false},
		{"tb50", false, 0, 100, nil, 10, true},
		{"tb50", false, 50, 5, nil, 10, true},
		{"tb50", false, 49, 1, nil, 50, false},
		{"tb50", true, -1, 5, nil, -1, true},
		{"tb50", true, 60, 5, nil, 9, false},
		{"tb50", true, 49, 5, nil, -1, true},
	}
	for _, test := range tests {
		got := p.page(messages.StreamRead{Stream: test.stream, From: test.from, Count: test.count, Backward: test.backward})
		want := page{numbers: test.numbers, next: test.next, last: 9, end: test.end}
		require.Equal(t, want, got, "%s backward %t from %d count %d", test.stream, test.backward, test.from, test.count)
	}
}

func TestReadStreamParameters(t *testing.T) {
	p := run(t).peer(t)
	p.appended("s", expectNoStream, "ab")
	p.appended("soft", expectNoStream, "ab")
	p.delete("soft", expectAny, false)
	p.appended("hard", expectNoStream, "ab")
	p.delete("hard", expectAny, true)
	failed := func(text string) page {
		return page{result: messages.ReadStreamError, next: -1, last: -1, end: true, text: text}
	}
	for _, stream := range []string{"s", "soft", "hard", "none"} {
		require.Equal(t, failed(textNegativeFrom), p.forward(stream, -1, 5), stream)
		require.Equal(t, failed(textNegativeFrom), p.forward(stream, -1, 0), stream)
		for _, backward := range []bool{false, true} {
			read := func(count int32) page {
				return p.page(messages.StreamRead{Stream: stream, Count: count, Backward: backward})
			}
			require.Equal(t, failed(textMaxCount), read(0), stream)
			require.Equal(t, failed(textMaxCount), read(-5), stream)
			require.Equal(t, failed(textReadTooBig), read(4097), stream)
			require.Equal(t, failed(textReadTooBig), read(math.MaxInt32), stream)
		}
	}
	// The size is checked before the rights, all else after them.
	denied := page{result: messages.ReadStreamAccessDenied, next: -1, last: -1, end: true}
	require.Equal(t, failed(textReadTooBig), p.forward("$x", 0, 4097))
	require.Equal(t, denied, p.forward("$x", 0, 0))
	require.Equal(t, denied, p.forward("$x", -1, 1))
	require.Equal(t, denied, p.forward("$all", 0, 1))
	for _, m := range []messages.StreamRead{
		{Stream: "s", From: -2, Count: 1},
		{Stream: "s", From: -2, Count: 1, Backward: true},
		{Stream: "s", From: math.MinInt64, Count: 1},
		{From: 0, Count: 1},
		{From: -1, Count: 1, Backward: true},
	} {
		a := p.call(&m)
		require.Equal(t, messages.BadRequest, a.command)
		require.Equal(t, fmt.Sprintf("Could not unwrap network package for command %s.\n", m.Command()), string(a.body))
	}
}

func TestReadEvent(t *testing.T) {
	p := run(t).peer(t)
	p.appended("s", expectNoStream, "abc")
	p.appended("soft", expectNoStream, "ab")
	p.delete("soft", expectAny, false)
	p.appended("back", expectNoStream, "ab")
	p.delete("back", expectAny, false)
	p.appended("back", expectAny, "c")
	p.appended("hard", expectNoStream, "a")
	p.metadata("hard", `{"a":1}`)
	p.delete("hard", expectAny, true)
	p.appended("hidden", expectNoStream, "abc")
	p.metadata("hidden", `{"$tb":7}`)
	p.metadata("s", `{"a":1}`)
	p.metadata("s", `{"a":2}`)
	p.appended("bare", expectNoStream, "a")
	const success, notFound, noStream, deleted = messages.ReadEventSuccess, messages.ReadEventNotFound, messages.ReadEventNoStream, messages.ReadEventStreamDeleted
	const none = -99
	tests := []struct {
		stream string
		number int64
		result messages.ReadEventResult
		found  int64
	}{
		{"s", 0, success, 0},
		{"s", 2, success, 2},
		{"s", -1, success, 2},
		{"s", 3, notFound, none},
		{"s", math.MaxInt64, notFound, none},
		{"none", 0, noStream, none},
		{"none", -1, noStream, none},
		{"soft", 0, noStream, none},
		{"soft", -1, noStream, none},
		{"soft", 9, noStream, none},
		{"$$soft", -1, success, 0},
		{"back", 0, notFound, none},
		{"back", 1, notFound, none},
		{"back", 2, success, 2},
		{"back", -1, success, 2},
		{"$$back", -1, success, 1},
		{"hard", 0, deleted, none},
		{"hard", -1, deleted, none},
		{"hard", math.MaxInt64, deleted, none},
		{"$$hard", 0, deleted, none},
		{"$$hard", -1, deleted, none},
		{"hidden", 2, notFound, none},
		{"hidden", -1, notFound, none},
		{"hidden", 7, notFound, none},
		{"$$s", -1, success, 1},
		{"$$s", 0, success, none},
		{"$$s", 5, success, none},
		{"$$bare", -1, success, none},
		{"$$bare", 0, success, none},
		{"$$none", -1, noStream, none},
	}
	for _, test := range tests {
		m := p.readEvent(test.stream, test.number)
		require.Equal(t, test.result, m.Result, "%s %d", test.stream, test.number)
		require.Equal(t, test.found != none, m.Event.HasEvent, "%s %d", test.stream, test.number)
		if m.Event.HasEvent {
			require.Equal(t, test.found, m.Event.Event.Number, "%s %d", test.stream, test.number)
		}
	}
	for body, request := range map[string]*messages.EventRead{
		"\x08\x01\x12\x00": {Stream: "s", Number: 3},
		"\x08\x02\x12\x00": {Stream: "none"},
		"\x08\x03\x12\x00": {Stream: "hard"},
		"\x08\x05\x12\x00": {Stream: "$x"},
		"\x08\x00\x12\x00": {Stream: "$$bare"},
	} {
		require.Equal(t, body, string(p.call(request).body))
	}
	// Any name that starts with $ and has a stream behind its first two characters is taken for a metastream.
	require.Equal(t, "\x08\x00\x12\x00", string(p.call(&messages.EventRead{Stream: "$qbare"}, "admin", "changeit").body))
	for _, request := range []*messages.EventRead{{Stream: "s", Number: -2}, {Stream: "s", Number: math.MinInt64}, {}} {
		require.Equal(t, messages.BadRequest, p.call(request).command)
	}
}

// TestReadYourWrites: what was answered is there.
func TestReadYourWrites(t *testing.T) {
	n := run(t)
	w, r := n.peer(t), n.peer(t)
	for i := range int64(200) {
		w.append("s", i-1, string(rune('a'+i%26)))
		require.Equal(t, i, r.readEvent("s", -1).Event.Event.Number)
	}
}

// large writes six events to the stream s, of which four fit a frame.
func (p *peer) large() {
	p.t.Helper()
	for range 6 {
		a := p.call(&messages.Append{Stream: "s", Expected: expectAny, Events: []messages.NewEvent{
			{ID: uuid.New(), Type: "t", Data: bytes.Repeat([]byte("x"), 15<<20)},
		}})
		require.Equal(p.t, messages.WriteEventsCompleted, a.command)
	}
}

// oversize asks for a page that is larger than a frame, and returns its body.
func (p *peer) oversize(m messages.Request, credentials ...string) []byte {
	p.t.Helper()
	id := p.send(m, credentials...)
	head := make([]byte, 22)
	_, err := io.ReadFull(p.conn, head)
	require.NoError(p.t, err)
	length := binary.LittleEndian.Uint32(head)
	require.Greater(p.t, length, uint32(messages.MaxFrame))
	require.Equal(p.t, m.Command()+1, messages.Command(head[4]))
	require.Equal(p.t, id[:], head[6:])
	body := make([]byte, length-18)
	_, err = io.ReadFull(p.conn, body)
	require.NoError(p.t, err)
	return body
}

// TestPageOverAFrame: a page that no frame can carry is sent all the same, and ends with the event that is too much. In virtual time:
// no heartbeat comes in between.
func TestPageOverAFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := run(t)
		p := n.peer(t)
		p.large()
		require.Len(t, p.forward("s", 0, 4).numbers, 4)
		for _, test := range []struct {
			ask     messages.StreamRead
			numbers []int64
			next    int64
			end     bool
		}{
			{messages.StreamRead{From: 0, Count: 9}, []int64{0, 1, 2, 3, 4}, 5, false},
			{messages.StreamRead{From: 1, Count: 9, ResolveLinks: true}, []int64{1, 2, 3, 4, 5}, 6, true},
			{messages.StreamRead{From: -1, Count: 9, Backward: true}, []int64{5, 4, 3, 2, 1}, 0, false},
		} {
			test.ask.Stream = "s"
			var got messages.StreamPage
			require.NoError(t, got.Decode(p.oversize(&test.ask)))
			var numbers []int64
			require.NoError(t, got.Each(nil, func(e *messages.ResolvedEvent) bool {
				numbers = append(numbers, e.Event.Number)
				return true
			}))
			require.Equal(t, test.numbers, numbers)
			require.Equal(t, test.next, got.Next)
			require.Equal(t, test.end, got.EndOfStream)
			require.Empty(t, got.Error)
		}
		p.quiet()
	})
}
