package eventstore

import (
	"context"
	"iter"
	"time"

	"github.com/goeventstore/eventstore/conn"
)

// Stats are the figures of a client since it was connected.
type Stats struct {
	InFlight      int64         // operations that have a place in flight, waiting ones among them
	InFlightBytes int64         // of the appends among them
	Queued        int64         // calls that wait: for a place, for room or for a connection
	Sent          int64         // bytes, over all connections, inside of TLS
	Received      int64         // bytes, likewise
	Reconnects    int64         // connections after the first
	LateFrames    int64         // answers that nobody waited for any more
	RoundTrip     time.Duration // of the last heartbeat, or of the handshake when there was none; 0 while not connected
	_             struct{}
}

// traffic is what connections have carried.
type traffic struct{ sent, received, late int64 }

func (t *traffic) add(cn *conn.Conn) {
	sent, received := cn.Bytes()
	t.sent += sent
	t.received += received
	t.late += cn.LateFrames()
}

// Stats returns the figures of this moment.
func (c *Client) Stats() Stats {
	c.mu.Lock()
	t := c.past
	cn := c.live.Load()
	c.mu.Unlock()
	s := Stats{
		InFlight:      c.limit.taken.Load(),
		InFlightBytes: c.room.taken.Load(),
		Queued:        c.waiting.n.Load(),
		Reconnects:    c.reconnects.Load(),
	}
	if cn != nil {
		t.add(cn)
		s.RoundTrip = cn.RoundTrip()
	}
	s.Sent, s.Received, s.LateFrames = t.sent, t.received, t.late
	return s
}

// Watch yields the state of this moment and then each change, until ctx ends or after Closed. Who is slow misses states in
// between, never the last.
func (c *Client) Watch(ctx context.Context) iter.Seq[State] {
	return func(yield func(State) bool) {
		for {
			c.mu.Lock()
			state, changed := c.state, c.changed
			c.mu.Unlock()
			if ctx.Err() != nil || !yield(state) || state.Phase == Closed {
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}
}
