package conformance_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// A step of a story: a write of the named events to the stream, and what becomes of it. Stream 1 is another one.
type step struct {
	stream      int
	expected    int64
	events      string // names: the same name is the same id; "a/x" is event a with other data
	outcome     string
	first, last int64
}

// The outcomes of a step.
const (
	stored = "stored"
	known  = "recognized"
	no     = "wrong version"
)

// TestIdempotency tells what a server does about events that it has seen before: protocol 4.3, "Consequences checked",
// but for the one that is never answered.
func TestIdempotency(t *testing.T) {
	srv := serve(t)
	for name, story := range map[string][]step{
		"the same exact version": {
			{0, -1, "a b", stored, 0, 1},
			{0, -1, "a b", known, 0, 1},
			{0, 1, "c d", stored, 2, 3},
			{0, 1, "c d", known, 2, 3},
			{0, -1, "a b", known, 0, 1},
		},
		"Any": {
			{0, -2, "a b", stored, 0, 1},
			{0, -2, "a b", known, 0, 1},
		},
		"StreamExists": {
			{0, -1, "a", stored, 0, 0},
			{0, -4, "b c", stored, 1, 2},
			{0, -4, "b c", known, 1, 2},
		},
		"Any, then NoStream": {
			{0, -2, "a", stored, 0, 0},
			{0, -1, "a", known, 0, 0},
			{0, 5, "a", no, 0, 0},
		},
		"an old one and a new one with Any": {
			{0, -2, "a", stored, 0, 0},
			{0, -2, "a b", no, 0, 0},
		},
		"a new one and an old one with Any": {
			{0, -2, "a", stored, 0, 0},
			{0, -2, "b a", stored, 1, 2},
		},
		"old ones that are not adjacent, with Any": {
			{0, -1, "a b c", stored, 0, 2},
			{0, -2, "a c", known, 0, 2},
		},
		"other ids": {
			{0, -1, "a", stored, 0, 0},
			{0, -1, "b", no, 0, 0},
			{0, -1, "a/x", known, 0, 0},
		},
		"other data": {
			{0, -1, "a b", stored, 0, 1},
			{0, -1, "a/x b/y", known, 0, 1},
			{0, -2, "a/x b/y", known, 0, 1},
		},
		"one id twice in a batch": {
			{0, -2, "x x", stored, 0, 1},
			{0, -2, "x x", known, 0, 0},
		},
		"an id of another stream, with Any": {
			{1, -2, "a", stored, 0, 0},
			{0, -2, "a", stored, 0, 0},
			{0, -2, "a", stored, 1, 1}, // the server remembers the first stream of an id only
			{1, -2, "a", known, 0, 0},
		},
		"an id of another stream, with an exact version": {
			{1, -1, "a", stored, 0, 0},
			{0, -1, "a", stored, 0, 0},
			{0, -1, "a", known, 0, 0},
		},
		"the current version": {
			{0, -1, "a b", stored, 0, 1},
			{0, 1, "a b", stored, 2, 3}, // nobody looks at the ids
		},
		"less than the whole batch": {
			{0, -1, "a b", stored, 0, 1},
			{0, -1, "a", known, 0, 0},
			{0, -1, "b", no, 0, 0},
			{0, 0, "b", known, 1, 1},
			{0, -2, "b", known, 1, 1},
			{0, -1, "b a", no, 0, 0},
		},
		"more than is there": {
			{0, -1, "a b", stored, 0, 1},
			{0, -1, "a b c", no, 0, 0},
			{0, -1, "a c", no, 0, 0},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := dialPeer(t, srv)
			streams := [2]string{newStream("idempotent"), newStream("another")}
			last := [2]int64{-1, -1}
			for i, s := range story {
				m := p.append(streams[s.stream], s.expected, strings.Fields(s.events)...)
				switch s.outcome {
				case stored:
					written(t, m, s.first, s.last)
					last[s.stream] = s.last
				case known:
					recognized(t, m, s.first, s.last)
				case no:
					wrong(t, m, last[s.stream])
				}
				require.Equal(t, last[s.stream], p.forward(streams[s.stream], 0, 10).last, "after step %d", i)
			}
		})
	}
}

// TestIdempotencyOfADeletedStream: what was stored before a soft delete is recognized, and the stream stays deleted.
func TestIdempotencyOfADeletedStream(t *testing.T) {
	srv := serve(t)
	p := dialPeer(t, srv)
	stream := newStream("deleted")
	written(t, p.append(stream, -1, "a"), 0, 0)
	require.Equal(t, messages.Success, p.delete(stream, 0, false).GetResult())
	recognized(t, p.append(stream, -1, "a"), 0, 0)
	recognized(t, p.append(stream, -2, "a"), 0, 0)
	require.Equal(t, page{result: messages.ReadStreamNoStream, next: -1, last: 0, end: true}, p.forward(stream, 0, 10))
}

// TestACopyInFlight: the second of two writes with the same events in one segment is not decided, and times out. A real
// server may have committed the first one by then, and recognizes the second; 3.9.4 always has.
func TestACopyInFlight(t *testing.T) {
	srv := serve(t)
	for _, expected := range []int64{-1, -2} {
		t.Run(fmt.Sprint(expected), func(t *testing.T) {
			t.Parallel()
			p := dialPeer(t, srv)
			for attempt := 0; !p.copyTimesOut(expected); attempt++ {
				if attempt == 50 {
					require.False(t, srv.Embedded(), "the embedded server decides both together")
					return
				}
			}
		})
	}
}

// copyTimesOut writes to a new stream twice in one segment, and reports whether the second write timed out.
func (p *peer) copyTimesOut(expected int64) bool {
	p.t.Helper()
	stream := newStream("copy")
	r := &messages.Append{
		Stream: stream, Expected: expected, Events: p.named(uuid.NewString(), uuid.NewString()), RequireLeader: true,
	}
	one, two, other := p.id(), p.id(), p.id()
	began := time.Now()
	p.write(slices.Concat(p.frame(one, r), p.frame(two, r), p.frame(other, ping(""))))
	var m pb.WriteEventsCompleted
	p.reply(one).into(p.t, messages.WriteEventsCompleted, &m)
	written(p.t, &m, 0, 1)
	require.Equal(p.t, messages.Pong, p.reply(other).command)
	p.reply(two).into(p.t, messages.WriteEventsCompleted, &m)
	timedOut := m.GetResult() == messages.CommitTimeout
	if timedOut {
		failed(p.t, &m, "Commit phase timeout.", -1)
		require.Greater(p.t, time.Since(began), 1900*time.Millisecond)
	} else {
		recognized(p.t, &m, 0, 1)
	}
	require.Len(p.t, p.forward(stream, 0, 9).numbers, 2)
	p.call(r).into(p.t, messages.WriteEventsCompleted, &m)
	recognized(p.t, &m, 0, 1)
	return timedOut
}
