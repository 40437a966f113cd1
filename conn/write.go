package conn

import (
	"fmt"
	"runtime"

	"github.com/goeventstore/eventstore/messages"
)

const (
	writePart  = 256 << 10 // heartbeats get a turn after about this many bytes
	keepBuffer = 1 << 20   // a larger buffer is given back after use
)

// outbox is what waits to be written. Callers append under the connection's lock; the write loop swaps the whole
// buffer for its own empty one and writes it at once, so that many calls share a write.
type outbox struct {
	frames []byte
	marks  []int         // ends of frames, about writePart apart: where heartbeats may come between
	first  []byte        // heartbeats, which overtake
	wake   chan struct{} // room for one: callers put one in when there is work, the write loop takes it
}

func (o *outbox) append(id messages.ID, credentials []byte, r messages.Request) error {
	b, err := messages.AppendFrame(o.frames, id, credentials, r)
	o.frames = b
	if err != nil {
		return err
	}
	mark := 0
	if n := len(o.marks); n > 0 {
		mark = o.marks[n-1]
	}
	if len(b)-mark >= writePart {
		o.marks = append(o.marks, len(b))
	}
	o.signal()
	return nil
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

// writeLoop writes what the outbox gathers. A peer that does not read makes Write wait; if it is silent too, the clock
// closes the socket under it.
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
		frames, c.out.frames = c.out.frames, frames[:0]
		marks, c.out.marks = c.out.marks, marks[:0]
		c.mu.Unlock()
		start := 0
		for i := 0; i <= len(marks); i++ {
			end := len(frames)
			if i < len(marks) {
				end = marks[i]
			}
			c.mu.Lock()
			first, c.out.first = c.out.first, first[:0]
			c.mu.Unlock()
			if !c.write(first) || !c.write(frames[start:end]) {
				return
			}
			start = end
		}
		if cap(frames) > keepBuffer {
			frames = nil
		}
	}
}

func (c *Conn) write(b []byte) bool {
	if len(b) == 0 {
		return true
	}
	n, err := c.nc.Write(b)
	c.sent.Add(int64(n))
	if err != nil {
		c.lost(fmt.Errorf("write: %w", err))
		return false
	}
	return true
}
