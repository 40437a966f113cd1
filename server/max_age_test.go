package server

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/internal/memnet"
	"github.com/goeventstore/eventstore/messages"
)

// clock is a clock that stands still until it is set.
type clock struct{ at atomic.Int64 }

func (c *clock) now() time.Time { return time.Unix(0, c.at.Load()) }

func (c *clock) add(d time.Duration) { c.at.Add(int64(d)) }

// runWithClock starts a server whose clock the test owns.
func runWithClock(t *testing.T) (*peer, *clock) {
	t.Helper()
	c := new(clock)
	c.at.Store(time.Date(2020, 1, 2, 3, 4, 5, 678_900_000, time.UTC).UnixNano())
	network := memnet.New()
	s, err := Start(Config{Listen: network.Listen, Now: c.now, DB: folder(t)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return (&node{Server: s, network: network}).peer(t), c
}

// TestMaxAge: ten events, one a second, of which $maxAge hides the first four.
func TestMaxAge(t *testing.T) {
	p, c := runWithClock(t)
	for _, letter := range "abcdefghij" {
		p.appended("s", expectAny, string(letter))
		c.add(time.Second)
	}
	p.metadata("s", `{"$maxAge":6}`)
	good := func(next int64, end bool, numbers ...int64) page {
		return page{numbers: numbers, next: next, last: 9, end: end}
	}
	require.Equal(t, good(3, false), p.forward("s", 0, 3), "all of the page are too old")
	require.Equal(t, good(4, false), p.forward("s", 3, 1))
	require.Equal(t, good(5, false, 4), p.forward("s", 2, 3))
	require.Equal(t, good(6, false, 4, 5), p.forward("s", 4, 2))
	require.Equal(t, good(10, true, 4, 5, 6, 7, 8, 9), p.forward("s", 0, 100))
	require.Equal(t, good(10, true), p.forward("s", 20, 5))
	require.Equal(t, good(6, false, 9, 8, 7), p.backward("s", -1, 3))
	require.Equal(t, good(3, false, 5, 4), p.backward("s", 5, 2))
	require.Equal(t, good(-1, true, 5, 4), p.backward("s", 5, 3), "the page lacks its last event")
	require.Equal(t, good(-1, true), p.backward("s", 3, 2))
	require.Equal(t, good(-1, true), p.backward("s", 3, 9))
	require.Equal(t, good(9, false), p.backward("s", 20, 3))
	require.Equal(t, messages.ReadEventNotFound, p.readEvent("s", 3).Result)
	require.Equal(t, messages.ReadEventSuccess, p.readEvent("s", 4).Result)
	require.EqualValues(t, 9, p.readEvent("s", -1).Event.Event.Number)
	p.link("link", "3@s")
	p.link("link", "4@s")
	m := p.call(&messages.EventRead{Stream: "link", Number: 0, ResolveLinks: true})
	var old messages.EventReadCompleted
	require.NoError(t, old.Decode(m.body, nil))
	require.False(t, old.Event.HasEvent)
	require.True(t, old.Event.HasLink)

	// To the tick: what was created when the age ends is still there.
	p.metadata("s", `{"$maxAge":1}`)
	require.Equal(t, good(10, true, 9), p.forward("s", 9, 1))
	c.add(100 * time.Nanosecond)
	require.Equal(t, good(10, true), p.forward("s", 9, 1))
	require.Equal(t, messages.ReadEventNotFound, p.readEvent("s", -1).Result, "the last one as well")
	require.Equal(t, good(-1, true), p.backward("s", -1, 5))

	// What cannot be read is there all the same for whoever writes.
	require.Equal(t, wrong(9), p.outcome("s", 8, "new"))
	require.EqualValues(t, 9, p.appended("s", 8, "j").First, "written before")
	require.EqualValues(t, 10, p.appended("s", 9, "k").First)

	// With the other limits.
	p.metadata("s", `{"$maxAge":4,"$maxCount":2,"$tb":8}`)
	require.Equal(t, page{numbers: upTo(9, 10), next: 11, last: 10, end: true}, p.forward("s", 0, 20))
	require.Equal(t, page{next: 9, last: 10}, p.forward("s", 0, 9))
}

// TestMaxAgeBeforeTime: a real server fails to count back behind the year 1.
func TestMaxAgeBeforeTime(t *testing.T) {
	p, _ := runWithClock(t)
	p.appended("s", expectNoStream, "abc")
	p.metadata("s", `{"$maxAge":63000000000,"$tb":1}`)
	require.Equal(t, page{numbers: upTo(1, 2), next: 3, last: 2, end: true}, p.forward("s", 0, 9))
	for _, age := range []string{"64000000000", "922337203685"} {
		p.metadata("s", `{"$maxAge":`+age+`,"$tb":1}`)
		failed := page{result: messages.ReadStreamError, next: -1, last: -1, end: true, text: textBeforeTime}
		require.Equal(t, failed, p.forward("s", 0, 9))
		require.Equal(t, failed, p.backward("s", -1, 9))
		require.Equal(t, page{next: 1, last: 2}, p.forward("s", 0, 1), "nothing had to be looked at")
		require.Equal(t, messages.ReadEventError, p.readEvent("s", 1).Result)
		require.Equal(t, textBeforeTime, p.readEvent("s", -1).Error)
		require.Equal(t, messages.ReadEventNotFound, p.readEvent("s", 0).Result)
	}
	p.link("link", "1@s")
	require.Len(t, p.page(messages.StreamRead{Stream: "link", Count: 1, ResolveLinks: true}).numbers, 1)
}

// TestMaxAgeWhenTheClockWasSetBack: events that are too old between others are an error on a real server.
func TestMaxAgeWhenTheClockWasSetBack(t *testing.T) {
	p, c := runWithClock(t)
	c.add(time.Minute)
	p.appended("s", expectNoStream, "a")
	c.add(-time.Minute)
	p.appended("s", expectAny, "b")
	c.add(time.Minute)
	p.appended("s", expectAny, "c")
	p.metadata("s", `{"$maxAge":30}`)
	failed := page{result: messages.ReadStreamError, next: -1, last: -1, end: true, text: "The events between 0 and 2 of the stream 's' are too old."}
	require.Equal(t, failed, p.forward("s", 0, 9))
	failed.text = "The events between 2 and 0 of the stream 's' are too old."
	require.Equal(t, failed, p.backward("s", -1, 9))
	require.Equal(t, page{numbers: upTo(0, 0), next: 1, last: 2}, p.forward("s", 0, 2))
	require.Equal(t, page{numbers: upTo(2, 2), next: 3, last: 2, end: true}, p.forward("s", 1, 5))
}
