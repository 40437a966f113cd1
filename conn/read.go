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
	for {
		f, err := r.Next()
		if err == nil {
			c.dispatch(f)
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
	w := c.waiter(id)
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
	n, err := h.c.nc.Read(b)
	if n > 0 {
		h.c.received.Add(int64(n))
		h.c.heard.Store(int64(h.c.now()))
	}
	return n, err
}

func (c *Conn) dispatch(f messages.Frame) {
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
	w := c.waiter(f.ID)
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

// waiter finds whom a frame is for; unless it is an exchange, this was its one answer.
func (c *Conn) waiter(id messages.ID) Waiter {
	c.mu.Lock()
	defer c.mu.Unlock()
	k, ours := c.table.ticket(id)
	if !ours {
		return nil
	}
	e := c.table.waiting[k]
	if e == nil {
		return nil
	}
	w := e.waiter
	if e.mode != exchange {
		c.table.remove(e)
	}
	return w
}
