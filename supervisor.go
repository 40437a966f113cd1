package eventstore

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/goeventstore/eventstore/conn"
	"github.com/goeventstore/eventstore/messages"
)

// steady is how long a connection must have lived for its loss to be taken as a single accident: the next one is dialled at
// once and the waits begin anew. A server that accepts and cuts in a loop is waited for instead.
const steady = time.Second

// supervise owns the connection: it waits for its end, dials the next and publishes it, until ctx ends.
func (c *Client) supervise(ctx context.Context, cn *conn.Conn) {
	waits := c.backoff()
	for cn != nil {
		since := time.Now()
		select {
		case <-cn.Done(): // by now every call that waited on it has been queued or settled
		case <-ctx.Done():
			cn.Close()
			return
		}
		c.withdraw(cn.Err())
		if time.Since(since) >= steady {
			waits = c.backoff()
		} else if c.pause(ctx, waits) != nil {
			return
		}
		cn = c.reconnect(ctx, waits)
	}
}

// reconnect dials until it succeeds and publishes the connection; nil when ctx ended first.
func (c *Client) reconnect(ctx context.Context, waits backoff.BackOff) *conn.Conn {
	for {
		cn, err := c.dialOnce(ctx)
		if err == nil {
			c.greet(ctx, cn)
			c.publish(cn)
			return cn
		}
		if ctx.Err() != nil {
			return nil
		}
		c.withdraw(err)
		if c.pause(ctx, waits) != nil {
			return nil
		}
	}
}

// greetEvery is how long a greeting waits for its answer before the next is sent.
const greetEvery = 500 * time.Millisecond

// greet returns when the server answers a request with the client's credentials. One that was just restarted accepts
// connections for a second or two before it knows its users, and until then drops such requests without a word: whatever were
// sent in that time would have to wait for its time-out. The calls that wait go out when greet returns: at the first
// answer, whatever it is, when the connection has ended, and in any case after the time of one attempt.
func (c *Client) greet(ctx context.Context, cn *conn.Conn) {
	if c.credentials == nil {
		return
	}
	heard := make(greeting, 1)
	overall := time.NewTimer(c.timeout)
	defer overall.Stop()
	again := time.NewTicker(greetEvery)
	defer again.Stop()
	for {
		// A failure to send is the connection's end, which heard is told of.
		_ = cn.Call(cn.NextTicket(), messages.Raw(messages.Ping, nil), c.credentials, heard, false)
		select {
		case <-heard:
			return
		case <-overall.C:
			return
		case <-cn.Done():
			return
		case <-ctx.Done():
			return
		case <-again.C:
		}
	}
}

// greeting is told that the server has answered.
type greeting chan struct{}

// Reply implements conn.Waiter.
func (g greeting) Reply(messages.Command, []byte) {
	select {
	case g <- struct{}{}:
	default:
	}
}

// End implements conn.Waiter: that a greeting timed out or lost its connection is seen by greet itself.
func (greeting) End(error) {}

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
}

func (c *Client) withdraw(cause error) {
	reconnecting := State{Phase: Reconnecting, Err: cause}
	c.mu.Lock()
	c.live.Store(nil)
	closed := c.closed
	if !closed {
		c.setState(reconnecting)
	}
	c.mu.Unlock()
	if !closed {
		c.logState(reconnecting)
	}
}

// pause waits like sleep, but never gives up.
func (c *Client) pause(ctx context.Context, waits backoff.BackOff) error {
	err := sleep(ctx, waits)
	if errors.Is(err, errStopped) {
		waits.Reset()
		return sleep(ctx, backoff.NewConstantBackOff(steady))
	}
	return err
}

// errStopped says that a sequence of waits is over.
var errStopped = errors.New("the backoff has ended")

// sleep waits for the next interval; it returns early with the context's error, or errStopped when there is no next.
func sleep(ctx context.Context, waits backoff.BackOff) error {
	d := waits.NextBackOff()
	if d == backoff.Stop {
		return errStopped
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
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
