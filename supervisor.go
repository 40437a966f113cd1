package eventstore

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/goeventstore/eventstore/conn"
	"github.com/goeventstore/eventstore/internal/pause"
)

// steady is how long a connection must have lived for its loss to be taken as a single accident: the next one is dialled at
// once and the waits begin anew. A server that accepts and cuts in a loop is waited for instead.
const steady = time.Second

// calm is how long nobody must have hinted for the waits between moves to begin anew.
const calm = 10 * time.Second

// supervise owns the connection: it waits for its end, dials the next and publishes it, until ctx ends. In between it follows
// hints about where the leader is, never faster than the backoff.
func (c *Client) supervise(ctx context.Context, cn *conn.Conn) {
	waits, moves := c.backoff(), c.backoff()
	since := time.Now()
	hints, rest := c.hints, time.NewTimer(0) // one of hints and rest is waited for
	var rested time.Time
	<-rest.C
	defer rest.Stop()
	for cn != nil {
		select {
		case <-cn.Done(): // by now every call that waited on it has been queued or settled
		case <-ctx.Done():
			cn.Close()
			return
		case <-rest.C:
			hints = c.hints
			continue
		case hint := <-hints:
			if time.Since(rested) >= calm {
				moves = c.backoff()
			}
			if next := c.move(ctx, cn, hint); next != nil {
				cn, since = next, time.Now()
			}
			wait := c.interval(moves)
			hints, rested = nil, time.Now().Add(wait)
			rest.Reset(wait)
			continue
		}
		c.withdraw(cn, cn.Err())
		if time.Since(since) >= steady {
			waits = c.backoff()
		} else if c.pause(ctx, waits) != nil {
			return
		}
		cn = c.reconnect(ctx, waits)
		since = time.Now()
	}
}

// interval is the next of waits, which begin anew when they have ended.
func (c *Client) interval(waits backoff.BackOff) time.Duration {
	d := waits.NextBackOff()
	if d == backoff.Stop {
		waits.Reset()
		return steady
	}
	return d
}

// reconnect dials until it succeeds and publishes the connection; nil when ctx ended first.
func (c *Client) reconnect(ctx context.Context, waits backoff.BackOff) *conn.Conn {
	for {
		cn, _, err := c.dialNext(ctx)
		if err == nil {
			c.welcome(ctx, cn)
			c.reconnects.Add(1)
			c.publish(cn)
			return cn
		}
		if ctx.Err() != nil {
			return nil
		}
		c.withdraw(nil, err)
		if c.pause(ctx, waits) != nil {
			return nil
		}
	}
}

// publish sends what waits, in the order of the calls, and then opens the connection to new ones.
func (c *Client) publish(cn *conn.Conn) {
	connected := State{Phase: Connected, Addr: cn.Addr()}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	for k := c.queue.first(); k != nil; k = c.queue.first() {
		if !k.sendOn(cn) {
			break // it ended again: the next one takes the rest
		}
		c.queue.remove(k)
	}
	c.live.Store(cn)
	c.setState(connected)
	c.mu.Unlock()
	c.logState(connected)
	c.hooks.connected(ConnectInfo{Addr: cn.Addr()})
}

// withdraw says that there is no connection. One that has ended is given, and counted.
func (c *Client) withdraw(cn *conn.Conn, cause error) {
	reconnecting := State{Phase: Reconnecting, Err: cause}
	c.mu.Lock()
	c.live.Store(nil)
	if cn != nil {
		c.past.add(cn)
	}
	closed := c.closed
	if !closed {
		c.setState(reconnecting)
	}
	c.mu.Unlock()
	if !closed {
		c.logState(reconnecting)
	}
	if cn != nil {
		c.hooks.disconnected(DisconnectInfo{Addr: cn.Addr(), Err: cause})
	}
}

// pause waits like sleep, but never gives up.
func (c *Client) pause(ctx context.Context, waits backoff.BackOff) error {
	return sleep(ctx, backoff.NewConstantBackOff(c.interval(waits)))
}

// errStopped says that a sequence of waits is over.
var errStopped = errors.New("the backoff has ended")

// sleep waits for the next interval; it returns early with the context's error, or errStopped when there is no next.
func sleep(ctx context.Context, waits backoff.BackOff) error {
	d := waits.NextBackOff()
	if d == backoff.Stop {
		return errStopped
	}
	return pause.For(ctx, d)
}

// connection returns the live connection, waiting for one until ctx ends. One that has ended and is not withdrawn yet is none.
func (c *Client) connection(ctx context.Context) (*conn.Conn, error) {
	for {
		c.mu.Lock()
		closed, changed, cause, cn := c.closed, c.changed, c.state.Err, c.live.Load()
		c.mu.Unlock()
		switch {
		case closed:
			return nil, ErrClosed
		case cn != nil && cn.Err() == nil:
			return cn, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, contextError(ctx, cause)
		}
	}
}
