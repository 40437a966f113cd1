package conn

import (
	"log/slog"
	"time"

	"github.com/goeventstore/eventstore/messages"
)

// clock asks a silent peer for a heartbeat, ends the connection when that is not answered, and tells the calls whose time
// is up. Heartbeat states: listening (bytes came within the interval), asked (a request is out since `asked`).
// listening -> asked after HeartbeatInterval without a byte; asked -> listening by any byte; asked -> end after
// HeartbeatTimeout without one.
//
// It sleeps no longer than the time limit of a call, so that whatever is sent while it sleeps is not yet due when it wakes,
// and deadlines are met exactly without anybody waking it.
func (c *Conn) clock() {
	var asked time.Duration // when the pending heartbeat was sent; 0: none is
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
			wake = now + min(c.cfg.HeartbeatTimeout, c.cfg.Timeout)/4
			timer.Reset(wake - now)
			continue
		}
		heard := time.Duration(c.heard.Load())
		switch {
		case asked > 0 && heard >= asked:
			asked = 0
		case asked > 0 && now >= asked+c.cfg.HeartbeatTimeout:
			c.lost(ErrHeartbeatTimeout)
			return
		}
		if asked == 0 && now >= heard+c.cfg.HeartbeatInterval {
			asked = now
			c.askForLife()
		}
		next := heard + c.cfg.HeartbeatInterval
		if asked > 0 {
			next = asked + c.cfg.HeartbeatTimeout
		}
		wake = min(next, now+c.cfg.Timeout, c.expire(now))
		timer.Reset(wake - now)
	}
}

func (c *Conn) askForLife() {
	id := c.table.id(c.NextTicket())
	c.asked.Store(int64(c.now()))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out.urgent(messages.HeartbeatRequest, id)
}

// expire tells the calls whose deadline has come and returns the next deadline.
func (c *Conn) expire(now time.Duration) time.Duration {
	for {
		c.mu.Lock()
		w := c.table.expired(now)
		next := now + c.cfg.Timeout
		if c.table.first != nil {
			next = c.table.first.deadline
		}
		c.mu.Unlock()
		if w == nil {
			return next
		}
		w.End(ErrTimeout)
	}
}
