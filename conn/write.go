package conn

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/goeventstore/eventstore/messages"
)

const (
	writePart  = 256 << 10 // heartbeats and reads get a turn after about this many bytes
	writeChunk = 64 << 10  // written at a time, so that a slow peer is seen to take something
	keepBuffer = 1 << 20   // a larger buffer is given back after use
)

// ErrStuck says that the server takes nothing of what is sent to it.
var ErrStuck = errors.New("the server does not read what is sent to it")

// outbox is what waits to be written. Callers append under the connection's lock; the write loop swaps the whole
// buffer for its own empty one and writes it at once, so that many calls share a write.
type outbox struct {
	frames []byte
	marks  []int         // ends of frames, about writePart apart: where others may come between
	first  []byte        // heartbeats and reads, which overtake
	asks   bool          // first has a HeartbeatRequest
	rest   []byte        // what Flush could not write of frames
	spare  []byte        // room for frames while Flush writes
	busy   bool          // the write loop is writing, for who knows how long, or Flush is; else one of them comes at once for what is there
	since  time.Duration // when the first call with a time limit came to what waits for it; 0: none did
	total  int64         // bytes of all frames that did not overtake
	wake   chan struct{} // room for one: callers put one in when there is work, the write loop takes it
}

// overtakes reports a request that changes nothing, so that it may go before others: a reader does not wait for all that
// bulk writers have in the line. A Ping stays in it: its answer says that what was sent before has come.
func overtakes(c messages.Command) bool {
	switch c {
	case messages.ReadEvent, messages.ReadStreamEventsForward, messages.ReadStreamEventsBackward,
		messages.ReadAllEventsForward, messages.ReadAllEventsBackward,
		messages.FilteredReadAllEventsForward, messages.FilteredReadAllEventsBackward:
		return true
	}
	return false
}

// append returns the size of the frame. Whoever calls it has it written: signal, or Flush.
func (o *outbox) append(id messages.ID, credentials []byte, r messages.Request) (size int64, err error) {
	if overtakes(r.Command()) {
		before := len(o.first)
		o.first, err = messages.AppendFrame(o.first, id, credentials, r)
		return int64(len(o.first) - before), err
	}
	before := len(o.frames)
	b, err := messages.AppendFrame(o.frames, id, credentials, r)
	o.frames = b
	if err != nil {
		return 0, err
	}
	mark := 0
	if n := len(o.marks); n > 0 {
		mark = o.marks[n-1]
	}
	if len(b)-mark >= writePart {
		o.marks = append(o.marks, len(b))
	}
	size = int64(len(b) - before)
	o.total += size
	return size, nil
}

func (o *outbox) urgent(c messages.Command, id messages.ID) {
	start := len(o.first)
	o.first, _ = messages.EndFrame(messages.AppendFrameStart(o.first, c, id, nil), start) // an empty body is never too large
	o.signal()
}

func (o *outbox) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// writeLoop writes what the outbox gathers. A peer that does not read makes Write wait; the clock then closes the socket
// under it.
func (c *Conn) writeLoop() {
	var frames, first []byte
	var marks []int
	for {
		select {
		case <-c.out.wake:
		case <-c.stop:
			return
		}
		runtime.Gosched() // let callers that are about to append do so: the largest single gain in throughput
		c.mu.Lock()
		if c.out.busy { // Flush signals when it leaves something
			c.mu.Unlock()
			continue
		}
		rest := c.out.rest
		c.out.rest = nil
		frames, c.out.frames = c.out.frames, frames[:0]
		marks, c.out.marks = c.out.marks, marks[:0]
		c.out.busy, c.out.since = true, 0
		c.mu.Unlock()
		if !c.write(rest, &c.written) {
			return
		}
		start := 0
		for i := 0; i <= len(marks); i++ {
			end := len(frames)
			if i < len(marks) {
				end = marks[i]
			}
			c.mu.Lock()
			first, c.out.first = c.out.first, first[:0]
			asks := c.out.asks
			c.out.asks = false
			c.mu.Unlock()
			if !c.write(first, nil) {
				return
			}
			if asks {
				c.beat.Store(int64(c.now()))
			}
			if !c.write(frames[start:end], &c.written) {
				return
			}
			start = end
		}
		if cap(frames) > keepBuffer {
			frames = nil
		}
		if cap(first) > keepBuffer {
			first = nil
		}
		c.mu.Lock()
		c.out.busy = false
		c.mu.Unlock()
	}
}

// Flush has written what was queued: at once, as far as the socket takes it without waiting, so that nobody has to wake up for a
// few small frames. What is left, what is more than a little, and everything while somebody is writing, is for the write loop.
func (c *Conn) Flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := &c.out
	if c.direct == nil || o.busy || len(o.rest) > 0 || len(o.first) > 0 || len(o.frames) > writeChunk {
		o.signal()
		return
	}
	frames := o.frames
	o.frames, o.spare = o.spare, nil
	o.busy, o.since = true, 0
	c.mu.Unlock()
	n := c.direct.write(frames)
	c.sent.Add(int64(n))
	c.written.Add(int64(n))
	c.mu.Lock()
	o.busy = false
	if n < len(frames) {
		o.rest = frames[n:]
	} else {
		o.spare = frames[:0]
	}
	if len(o.rest)+len(o.first)+len(o.frames) > 0 {
		o.signal()
	}
}

// write writes b, and tells the clock how it gets on.
func (c *Conn) write(b []byte, written *atomic.Int64) bool {
	for len(b) > 0 {
		n := min(len(b), writeChunk)
		c.writing.Store(int64(c.now()))
		took, err := c.nc.Write(b[:n])
		c.sent.Add(int64(took))
		if err != nil {
			c.lost(fmt.Errorf("write: %w", err))
			return false
		}
		b = b[n:]
		if written != nil {
			written.Add(int64(n))
		}
		if n == writeChunk {
			c.bulk.Store(int64(c.now()))
		}
		c.writing.Store(0)
	}
	return true
}
