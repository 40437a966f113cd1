// Package contend is the part of a contender that is the same for all: it reads what is to be done, warms up, measures
// the time, the CPU and the allocations of the process, and reports them. It is a module of its own without
// dependencies, so that a contender that uses it keeps the dependencies that it was released with.
package contend

import (
	"encoding/binary"
	"sync/atomic"
	"time"
)

// Task is what a contender is to do, read from its standard input as JSON.
type Task struct {
	Contender      string
	Addr           string // host:port
	User, Password string
	Stream         string

	// What is done: the messages of a group are acknowledged, or a stream is read, or, without either, events are appended.
	Group    string // of the stream: messages are taken and acknowledged
	Read     bool
	Owned    bool // of a read: the events may be kept
	Async    bool // of appends: one caller with InFlight pending ones, else InFlight blocking callers
	InFlight int  // of a group: the window
	Size     int  // bytes of an event's data
	Events   int  // of the stream, to be read, or delivered, again and again
	Page     int  // events of a page

	Warm, Run time.Duration // without the first, with the second on the clock
	Count     int64         // if not 0: no clock, so many appends, messages, or passes over the stream
	Most      int64         // if not 0: no more than this by the clock, of which a fifth to warm up
	Profile   string        // if not "": a file for a CPU profile of what is measured
}

// EventType is the type of the events of all loads.
const EventType = "happened"

// ID is the id of the event with a number, in the streams that are read.
func ID(number int64) (id [16]byte) {
	binary.BigEndian.PutUint32(id[:], uint32(number)+1)
	return id
}

// Result is what a contender has done, printed on its standard output as JSON. An operation is an append or an event.
type Result struct {
	Warm    int64 // operations before those that are measured
	Ops     int64
	Elapsed time.Duration
	Cost    Cost
	P50     time.Duration // of one append, if one is in flight
}

// Cost is what a process has used so far, or between two looks.
type Cost struct {
	CPU           time.Duration // user and system
	Allocs, Bytes uint64
}

// Load is a contender that is connected. Run works until turn says no more and returns how many operations are done, all
// of them answered and checked.
type Load interface {
	Run(turn *Turn) (ops int64, err error)
	Close() error
}

// Turn says when it is enough, and takes the times of single appends.
type Turn struct {
	over  atomic.Bool
	count bool // left counts
	left  atomic.Int64
	times []time.Duration // of appends one at a time
}

// newTurn makes a turn of at most so many steps, or with 0 of any number.
func newTurn(most int64) *Turn {
	t := &Turn{count: most > 0}
	t.left.Store(most)
	return t
}

// Next reports whether to make one more append, take one more message, or pass over the stream. It is safe for concurrent use.
func (t *Turn) Next() bool {
	return !t.over.Load() && (!t.count || t.left.Add(-1) >= 0)
}

// Took notes how long one append took, for loads with one in flight. What does not fit any more is left out.
func (t *Turn) Took(d time.Duration) {
	if len(t.times) < cap(t.times) {
		t.times = append(t.times, d)
	}
}

// Data makes the data of the event with a number.
func Data(number int64, size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = 'x'
	}
	binary.LittleEndian.PutUint64(b, uint64(number))
	return b
}

// Check reports whether an event that was read is the one with this number, with the data that Data makes.
func Check(want, number int64, data []byte, size int) bool {
	return number == want && len(data) == size && binary.LittleEndian.Uint64(data) == uint64(want)
}
