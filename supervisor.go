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

// calm is how long nobody must have hinted for the leader not to be looked for any more, and for the waits between moves to begin anew.
const calm = 10 * time.Second

// supervise owns the connection: it waits for its end, dials the next and publishes it, until ctx ends. In between it follows
// hints about where the leader is, never faster than the backoff.
//
// Looking for the leader begins with a hint, in the answer to a call or to the question that is asked now and then. It ends when the client
// has moved, with the connection, when the node says that it leads by now, or when nobody has hinted for a while. Until then the hint
// and the cluster are tried after each wait, also without a further hint: the calls have waits of their own.
func (c *Client) supervise(ctx context.Context, cn *conn.Conn) {
	waits, moves := c.backoff(), c.backoff()
	since := time.Now()
	var last hint
	var hinted, rested time.Time // hinted is zero while nothing is looked for
	rest, resting := time.NewTimer(0), false
	<-rest.C
	defer rest.Stop()
	look := c.watch()
	heed := func(h hint) {
		switch h.leads {
		case nil:
			last, hinted = h, time.Now()
		case cn:
			hinted = time.Time{}
		}
	}
	for cn != nil {
		select {
		case <-cn.Done(): // by now every call that waited on it has been queued or settled
			hinted = time.Time{}
			c.withdraw(cn, cn.Err())
			lived := time.Since(since) >= steady
			c.failed(cn.Addr(), lived)
			if lived {
				waits = c.backoff()
			} else if c.pause(ctx, waits, since) != nil {
				return
			}
			cn = c.reconnect(ctx, waits)
			since = time.Now()
			continue
		case <-ctx.Done():
			cn.Close()
			return
		case <-look:
			c.ask(cn)
			continue
		case <-rest.C:
			resting = false
			select { // a try may take as long as the wait, and what came meanwhile is not to be left to chance
			case <-look:
				c.ask(cn)
			default:
			}
			select {
			case h := <-c.hints:
				heed(h)
			default:
			}
		case h := <-c.hints:
			heed(h)
		}
		switch {
		case resting || hinted.IsZero():
			continue
		case time.Since(hinted) >= calm:
			hinted = time.Time{}
			continue
		case time.Since(rested) >= calm:
			moves = c.backoff()
		}
		begun := time.Now()
		if next := c.move(ctx, cn, last); next != nil {
			cn, since, hinted = next, time.Now(), time.Time{}
		}
		resting, rested = true, begun.Add(c.interval(moves))
		rest.Reset(time.Until(rested))
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
		begun := time.Now()
		cn, _, err := c.dialNext(ctx)
		if err == nil {
			err = c.welcome(ctx, cn)
		}
		if err == nil {
			c.reconnects.Add(1)
			c.publish(cn)
			return cn
		}
		if ctx.Err() != nil {
			return nil
		}
		c.withdraw(nil, err)
		if c.pause(ctx, waits, begun) != nil {
			return nil
		}
	}
}

// publish sends what waits, in the order of the calls, and then opens the connection to new ones. A call that was to give the last
// server time goes out too: this is another one.
func (c *Client) publish(cn *conn.Conn) {
	connected := State{Phase: Connected, Addr: cn.Addr()}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	select {
	case <-c.hints: // it is of the old one
	default:
	}
	c.hasten()
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

// hasten queues the calls whose pause has not ended. It is called with mu held.
func (c *Client) hasten() {
	for k, timer := range c.delayed {
		if !timer.Stop() {
			continue // it is due, and waits for mu
		}
		delete(c.delayed, k)
		c.loops.Done()
		c.queue.insert(k, true)
		if k.async && k.unwatch == nil {
			k.unwatch = context.AfterFunc(k.ctx, k.expire)
		}
	}
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

// pause waits for the next attempt: from the beginning of the last, so that one that took long is not paid for twice.
func (c *Client) pause(ctx context.Context, waits backoff.BackOff, begun time.Time) error {
	return pause.For(ctx, time.Until(begun.Add(c.interval(waits))))
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
