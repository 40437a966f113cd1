package faultnet

import (
	"net"
	"os"
	"time"
)

// enter waits for the turn in a direction, unless the call cannot go on anyway. A channel does it and not a mutex, which
// a deadline could not interrupt and which would hold up the time of a bubble.
func (c *Conn) enter(d *direction) error {
	if _, _, err := c.look(d, false); err != nil {
		return err
	}
	select {
	case d.turn <- struct{}{}:
		return nil
	default:
	}
	for {
		deadline, changed, err := c.look(d, true)
		if err != nil {
			return err
		}
		if await(d.turn, deadline, changed) {
			return nil
		}
	}
}

// wait returns when bytes of a direction may pass, or with the reason why none will.
func (c *Conn) wait(d *direction) error {
	for {
		held := d.stalled || time.Now().Before(d.until)
		deadline, changed, err := c.look(d, held)
		if err != nil || !held {
			return err
		}
		until := d.until
		if d.stalled || !deadline.IsZero() && deadline.Before(until) {
			until = deadline
		}
		await(nil, until, changed)
	}
}

// look returns why a call cannot go on, or else its deadline, and for who will wait what tells that either has changed.
func (c *Conn) look(d *direction, waits bool) (deadline time.Time, changed <-chan struct{}, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return deadline, nil, net.ErrClosed
	case !d.deadline.IsZero() && !time.Now().Before(d.deadline):
		return deadline, nil, os.ErrDeadlineExceeded
	case d.ended != nil:
		return deadline, nil, d.ended
	}
	if waits && c.changed == nil {
		c.changed = make(chan struct{})
	}
	return d.deadline, c.changed, nil
}

// await takes the turn, which is nil for none, and reports whether it did so before the moment, which is zero for never,
// or a change.
func await(turn chan<- struct{}, until time.Time, changed <-chan struct{}) bool {
	var passed <-chan time.Time
	if !until.IsZero() {
		timer := time.NewTimer(time.Until(until))
		defer timer.Stop()
		passed = timer.C
	}
	select {
	case turn <- struct{}{}:
		return true
	case <-changed:
	case <-passed:
	}
	return false
}

// notify wakes the calls that wait. Locked by the caller.
func (c *Conn) notify() {
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}

// cause returns what an error of the wrapped connection means: what a fault interrupted has the fault's error.
func (c *Conn) cause(d *direction, err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return net.ErrClosed
	case d.ended != nil:
		return d.ended
	}
	return err
}

// SetDeadline is SetReadDeadline and SetWriteDeadline together.
func (c *Conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline makes Reads fail from t on, whether they wait for the server or for a fault.
func (c *Conn) SetReadDeadline(t time.Time) error {
	return c.setDeadline(&c.in, t, c.inner.SetReadDeadline)
}

// SetWriteDeadline is SetReadDeadline for Writes. A Write that it interrupts may have passed on a part.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	return c.setDeadline(&c.out, t, c.inner.SetWriteDeadline)
}

func (c *Conn) setDeadline(d *direction, t time.Time, inner func(time.Time) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return c.opError("set", net.ErrClosed)
	}
	d.deadline = t
	c.notify()
	if c.broken {
		return nil
	}
	return inner(t)
}
