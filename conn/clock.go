package conn

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/goeventstore/eventstore/messages"
)

// clock asks a silent peer for a heartbeat, ends the connection when that is not answered, and tells the calls whose time
// is up. Heartbeat states: listening (bytes came within the interval), asked (a request is queued since `asked`).
// listening -> asked after HeartbeatInterval without a byte; asked -> listening by any byte; asked -> end when that is
// overdue. A peer is silent when the read loop waited for it all the time: what comes while that serves lies in the socket.
//
// It also ends the connection when the peer takes nothing of what is written for the time of a call, alive or not.
//
// It sleeps no longer than the time limit of a call, so that whatever is sent while it sleeps is not yet due when it wakes,
// and deadlines are met exactly without anybody waking it.
func (c *Conn) clock() {
	var asked time.Duration  // when the pending heartbeat was sent; 0: none is
	var served time.Duration // when the read loop was last seen at something else than waiting
	var seen uint64          // its turn then
	timer := time.NewTimer(0)
	defer timer.Stop()
	wake := c.now()
	for {
		select {
		case <-timer.C:
		case <-c.stop:
			return
		}
		now := c.now()
		// A wake-up this late means that the process stood still, not that the server was silent: its answers may lie
		// in the socket. Let the read loop have a look before anybody is blamed.
		if pause := now - wake; pause > c.cfg.HeartbeatTimeout/2 {
			c.log.Warn("the process stood still", slog.Duration("for", pause))
			asked = 0
			c.heard.Store(int64(now))
			if writing := c.writing.Load(); writing > 0 {
				c.writing.CompareAndSwap(writing, int64(now))
			}
			wake = now + min(c.cfg.HeartbeatTimeout, c.cfg.Timeout)/4
			timer.Reset(wake - now)
			continue
		}
		if turn := c.turns.Load(); turn != seen || turn%2 == 0 {
			served, seen = now, turn
		}
		heard := time.Duration(c.heard.Load())
		switch {
		case asked > 0 && heard >= asked:
			asked = 0
		case asked > 0 && now >= c.overdue(now, asked, heard, served):
			c.lost(ErrHeartbeatTimeout)
			return
		}
		writing := time.Duration(c.writing.Load())
		if writing > 0 && now >= writing+c.patience() {
			c.lost(fmt.Errorf("%w: nothing for %v, and %d bytes wait", ErrStuck, now-writing, c.unwritten()))
			return
		}
		if asked == 0 && now >= heard+c.cfg.HeartbeatInterval {
			asked = now
			c.askForLife()
		}
		next := heard + c.cfg.HeartbeatInterval
		if asked > 0 {
			next = max(c.overdue(now, asked, heard, served), asked+c.cfg.HeartbeatTimeout)
		}
		if writing > 0 {
			next = min(next, writing+c.patience())
		}
		wake = min(next, now+c.cfg.Timeout, c.expire(now))
		timer.Reset(wake - now)
	}
}

// patience is how long the peer may take over what is written to it.
func (c *Conn) patience() time.Duration { return max(c.cfg.Timeout, c.cfg.HeartbeatTimeout) }

// overdue is when the peer must have shown life that was asked for one. A request that stands behind others and is not written
// yet says nothing about the peer, and one that was sent a lot since it was last heard may be busy with that, as the
// network's buffers may be.
func (c *Conn) overdue(now, asked, heard, served time.Duration) time.Duration {
	sent := time.Duration(c.beat.Load())
	if sent < asked {
		return now + c.cfg.HeartbeatTimeout
	}
	at := max(sent, served) + c.cfg.HeartbeatTimeout
	if bulk := time.Duration(c.bulk.Load()); bulk > heard {
		at = max(at, bulk+c.patience())
	}
	return at
}

func (c *Conn) unwritten() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.total - c.written.Load()
}

func (c *Conn) askForLife() {
	id := c.table.id(c.NextTicket())
	c.asked.Store(int64(c.now()))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out.asks = true
	c.out.urgent(messages.HeartbeatRequest, id)
}

// expire tells the calls whose deadline has come and returns the next deadline.
func (c *Conn) expire(now time.Duration) time.Duration {
	for {
		c.mu.Lock()
		due, next := c.table.due(now, now+c.cfg.Timeout)
		c.mu.Unlock()
		if len(due) == 0 {
			return next
		}
		for _, k := range due {
			c.mu.Lock()
			w, cause := c.table.expire(k, now, c.cfg.Timeout, c.written.Load(), c.received.Load())
			c.mu.Unlock()
			if w == nil {
				continue
			}
			unsent, still := cause.(*UnsentError) //nolint:errorlint // as expire made it
			if !still || !w.(Patient).Unsent(k, unsent) && c.Forget(k) {
				w.End(cause)
			}
		}
	}
}
