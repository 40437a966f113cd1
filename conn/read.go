package conn

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/goeventstore/eventstore/messages"
)

// readBuffer is what one read of the socket can bring at most before a large frame makes it grow.
const readBuffer = 128 << 10

// readLoop cuts frames until the connection ends, then tells everybody who still waits. It is the only goroutine that
// delivers answers and ends, which keeps them in order; the clock tells those whose time is up, and has them off the
// table before.
func (c *Conn) readLoop() {
	r := messages.NewReader(hearing{c}, readBuffer)
	var came arrivals
	for {
		came.n = 0
		err := r.ReadTo(&came.frames[0])
		for err == nil {
			came.n++
			if came.n == atOnce || !r.Ready() {
				break
			}
			err = r.ReadTo(&came.frames[came.n])
		}
		c.dispatch(&came)
		if err == nil {
			continue
		}
		w := c.refused(r)
		if w == nil {
			c.lost(readCause(err))
			break
		}
		c.lost(fmt.Errorf("the answer to another request is larger than a frame: %s", err.Error()))
		w.End(fmt.Errorf("%w: %s: %w", ErrAnswerTooLarge, c.cfg.Addr, err))
		break
	}
	c.mu.Lock()
	cause, waiters := c.cause, c.table.takeAll()
	c.mu.Unlock()
	for _, w := range waiters {
		w.End(cause)
	}
}

// refused finds whom an answer is for that the reader refused for its size: what it asks for again is to be less. The header
// is waited for, but not for long.
func (c *Conn) refused(r *messages.Reader) Waiter {
	_ = c.nc.SetReadDeadline(time.Now().Add(c.cfg.HeartbeatTimeout)) // of a closed socket: then there is nothing to read
	id, ok := r.Refused()
	if !ok {
		return nil
	}
	c.mu.Lock()
	w, _ := c.waiter(&messages.Frame{ID: id})
	c.mu.Unlock()
	if k, ours := c.table.ticket(id); ours {
		c.Forget(k) // an exchange
	}
	return w
}

func readCause(err error) error {
	switch {
	case errors.Is(err, io.EOF):
		return fmt.Errorf("the server closed it: %w", err)
	case errors.Is(err, net.ErrClosed):
		return errors.New("closed on this side")
	}
	return err
}

// hearing notes when bytes came: any byte is a sign of life, whole frame or not.
type hearing struct{ c *Conn }

func (h hearing) Read(b []byte) (int, error) {
	h.c.turns.Add(1)
	n, err := h.c.nc.Read(b)
	h.c.turns.Add(1)
	if n > 0 {
		h.c.received.Add(int64(n))
		h.c.heard.Store(int64(h.c.now()))
	}
	return n, err
}

// atOnce is how many frames are looked up under one lock, and told together, at most.
const atOnce = 64

// arrivals are frames that came with one read.
type arrivals struct {
	frames  [atOnce]messages.Frame
	n       int            // how many
	waiters [atOnce]Waiter // of frames in a row
}

// dispatch hands each frame to its waiter, in their order.
func (c *Conn) dispatch(came *arrivals) {
	for rest := came.frames[:came.n]; len(rest) > 0; {
		known, run := c.lookUp(rest, came.waiters[:])
		if run != nil {
			run.Replies(rest[:known])
			came.waiters[0] = nil
			rest = rest[known:]
			continue
		}
		for i := range known {
			c.deliver(&rest[i], came.waiters[i])
		}
		clear(came.waiters[:known])
		rest = rest[known:]
	}
}

// lookUp finds whom frames are for, and returns for how many; unless it is an exchange, this was its one answer. It stops at
// the first frame of an exchange, which may be forgotten by then: nothing is looked up for long. When the very first frame is an
// exchange's that takes Many, so are the known ones.
func (c *Conn) lookUp(frames []messages.Frame, waiters []Waiter) (known int, run Many) {
	c.lock()
	defer c.mu.Unlock()
	for i := range frames {
		w, more := c.waiter(&frames[i])
		if more && i > 0 {
			return i, nil // an exchange stays in the table
		}
		waiters[i] = w
		if more {
			if run, ok := w.(Many); ok {
				return runOf(frames), run
			}
			return 1, nil
		}
	}
	return len(frames), nil
}

// runOf is how many frames have the first one's correlation id, and are no heartbeats.
func runOf(frames []messages.Frame) int {
	n := 1
	for n < len(frames) && frames[n].ID == frames[0].ID &&
		frames[n].Command != messages.HeartbeatRequest && frames[n].Command != messages.HeartbeatResponse {
		n++
	}
	return n
}

// waiter finds whom a frame is for, with mu held, and whether it waits for more.
func (c *Conn) waiter(f *messages.Frame) (w Waiter, more bool) {
	k, ours := c.table.ticket(f.ID)
	if !ours || f.Command == messages.HeartbeatRequest || f.Command == messages.HeartbeatResponse {
		return nil, false
	}
	e := c.table.find(k)
	if e == nil {
		return nil, false
	}
	w, more = e.waiter, e.mode == exchange
	if !more {
		c.table.remove(e)
	}
	return w, more
}

func (c *Conn) deliver(f *messages.Frame, w Waiter) {
	switch f.Command {
	case messages.HeartbeatRequest:
		c.mu.Lock()
		c.out.urgent(messages.HeartbeatResponse, f.ID)
		c.mu.Unlock()
		return
	case messages.HeartbeatResponse:
		if asked := c.asked.Swap(0); asked > 0 {
			c.answered(c.now() - time.Duration(asked))
		}
		return
	case messages.BadRequest:
		if f.ID == (messages.ID{}) {
			c.lost(fmt.Errorf("the server refused what it got: %q", f.Body))
			return
		}
	}
	if w == nil {
		c.late.Add(1)
		c.log.Debug("a frame that nobody waits for", slog.String("addr", c.cfg.Addr), slog.String("command", f.Command.String()))
		if c.cfg.OnLate != nil {
			c.cfg.OnLate(f.Command, len(f.Body))
		}
		return
	}
	w.Reply(f.Command, f.Body)
}

// answered notes how long a heartbeat took.
func (c *Conn) answered(roundTrip time.Duration) {
	c.roundTrip.Store(int64(roundTrip))
	if c.cfg.OnHeartbeat != nil {
		c.cfg.OnHeartbeat(roundTrip)
	}
}
