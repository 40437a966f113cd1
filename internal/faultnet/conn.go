package faultnet

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// Conn is the dialling end of a connection with faults. Its methods may be called from any number of goroutines; the
// bytes of one Write are contiguous. Errors are those of the wrapped connection, or [*net.OpError] values as a socket
// would return them.
type Conn struct {
	network *Network
	number  int
	inner   net.Conn
	in, out direction

	mu      sync.Mutex    // guards what follows and the two directions' last fields
	changed chan struct{} // nobody sends; closed by notify, when a call that waits has to look again; nil while none does
	closed  bool          // by Close
	broken  bool          // by a fault or by Reset: deadlines are not passed on any more
}

var _ net.Conn = (*Conn)(nil)

func newConn(n *Network, number int, inner net.Conn) *Conn {
	return &Conn{
		network: n,
		number:  number,
		inner:   inner,
		in:      newDirection(n, number, ToClient),
		out:     newDirection(n, number, ToServer),
	}
}

// Number returns which connection of its network it is, counted from 1.
func (c *Conn) Number() int { return c.number }

// Read returns what has come from the server, as far as the faults let it pass.
func (c *Conn) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return c.inner.Read(b)
	}
	d := &c.in
	if err := c.enter(d); err != nil {
		return 0, c.opError("read", err)
	}
	defer func() { <-d.turn }()
	n, err := c.read(d, b)
	return n, c.opError("read", err)
}

func (c *Conn) read(d *direction, b []byte) (int, error) {
	for {
		if err := c.wait(d); err != nil {
			return 0, err
		}
		if len(d.owed) > 0 {
			n := copy(b, d.owed)
			d.owed = d.owed[n:]
			return n, nil
		}
		if len(d.pending) == 0 {
			// An error that comes with bytes comes again without.
			n, err := c.inner.Read(b)
			if n == 0 {
				return 0, c.cause(d, err)
			}
			if d.idle() {
				d.advance(b[:n])
				return n, nil
			}
			d.pending = append(d.pending[:0], b[:n]...)
		}
		n, fault := d.scan(d.pending)
		if n == 0 {
			c.fire(d, fault)
			continue
		}
		n = copy(b, d.pending[:d.limit(n)])
		d.advance(d.pending[:n])
		d.pending = d.pending[n:]
		return n, nil
	}
}

// Write passes b on to the server, as far as the faults let it. With an error it returns how many bytes went on. While
// a fault holds its direction it waits.
func (c *Conn) Write(b []byte) (int, error) {
	if len(b) == 0 {
		return c.inner.Write(b)
	}
	d := &c.out
	if err := c.enter(d); err != nil {
		return 0, c.opError("write", err)
	}
	defer func() { <-d.turn }()
	n, err := c.write(d, b)
	return n, c.opError("write", err)
}

func (c *Conn) write(d *direction, b []byte) (n int, err error) {
	for n < len(b) {
		if err := c.wait(d); err != nil {
			return n, err
		}
		if err := c.repay(d); err != nil {
			return n, err
		}
		if d.swallow {
			return len(b), nil
		}
		k, fault := d.scan(b[n:])
		if k == 0 {
			c.fire(d, fault)
			continue
		}
		chunk := b[n : n+d.limit(k)]
		m, err := c.inner.Write(chunk)
		d.advance(chunk[:m])
		n += m
		if err != nil {
			return n, c.cause(d, err)
		}
	}
	// All of b is on its way. What becomes of a copy that the caller knows nothing of is for the next Write to tell.
	_ = c.repay(d)
	return n, nil
}

// repay writes what is left of the second copy of a frame.
func (c *Conn) repay(d *direction) error {
	if len(d.owed) == 0 {
		return nil
	}
	n, err := c.inner.Write(d.owed)
	d.owed = d.owed[n:]
	if err != nil {
		return c.cause(d, err)
	}
	return nil
}

// fire lets a fault happen. Who calls it looks at everything anew.
func (c *Conn) fire(d *direction, fault *Fault) {
	f := d.remove(fault)
	c.network.trace.add(d.entry(c.number, f))
	switch f.Kind {
	case Cut:
		c.cut()
	case Reset:
		c.reset()
	case HalfClose:
		c.endOne(d)
	default:
		c.mu.Lock() // for what CloseWrite looks at
		defer c.mu.Unlock()
		d.apply(f)
	}
}

// The moment of the past that interrupts a call of the wrapped connection.
var past = time.Unix(1, 0)

// Those that follow hold the lock across calls of the wrapped connection, none of which waits: a deadline set at the
// same time would undo the interruption.

// cut ends both directions. The wrapped connection is not closed before the client closes this one: closing a socket
// that has unread bytes resets it, and the server might lose what it is to receive.
func (c *Conn) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.end(io.EOF, syscall.EPIPE) {
		return
	}
	_ = c.inner.SetDeadline(past)
	c.closeWrite()
}

func (c *Conn) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.end(syscall.ECONNRESET, syscall.ECONNRESET) {
		return
	}
	switch inner := c.inner.(type) {
	case interface{ Reset() }:
		inner.Reset()
		return
	case interface{ SetLinger(sec int) error }:
		_ = inner.SetLinger(0)
	}
	_ = c.inner.Close()
}

// endOne ends one direction.
func (c *Conn) endOne(d *direction) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || d.ended != nil {
		return
	}
	if d.dir == ToClient {
		d.ended = io.EOF
	} else {
		d.ended = syscall.EPIPE
		c.closeWrite()
	}
	c.notify()
}

// end gives both directions their errors and reports whether the connection was not broken before. Locked by the caller.
func (c *Conn) end(in, out error) bool {
	if c.closed || c.broken {
		return false
	}
	c.broken = true
	c.in.ended, c.out.ended = in, out
	c.notify()
	return true
}

func (c *Conn) closeWrite() {
	if half, ok := c.inner.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
		return
	}
	_ = c.inner.Close()
}

// Reset breaks the connection, as the fault does. It must still be closed.
func (c *Conn) Reset() { c.reset() }

// CloseWrite ends the stream to the server and interrupts a Write that waits. While a fault lets nothing pass any more,
// the server does not learn of it.
func (c *Conn) CloseWrite() error {
	half, ok := c.inner.(interface{ CloseWrite() error })
	if !ok {
		return c.opError("close", errors.ErrUnsupported)
	}
	d := &c.out
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return c.opError("close", net.ErrClosed)
	case errors.Is(d.ended, syscall.ECONNRESET):
		return c.opError("close", d.ended)
	case d.ended != nil:
		return nil
	}
	d.ended = syscall.EPIPE
	c.notify()
	if d.stalled || d.swallow {
		return nil
	}
	return half.CloseWrite()
}

// Close ends both directions and interrupts the calls that wait. A second one fails with [net.ErrClosed], as a socket's
// does, and changes nothing.
func (c *Conn) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return c.opError("close", net.ErrClosed)
	}
	c.closed = true
	broken := c.broken
	c.notify()
	c.mu.Unlock()
	err := c.inner.Close()
	c.network.trace.note(c.number, "closed by the client")
	if broken {
		return nil // closed already by a reset
	}
	return err
}

// LocalAddr returns the address of this end.
func (c *Conn) LocalAddr() net.Addr { return c.inner.LocalAddr() }

// RemoteAddr returns the address of the other end.
func (c *Conn) RemoteAddr() net.Addr { return c.inner.RemoteAddr() }

// opError dresses an error of this package as package net does for a socket; those of the wrapped connection are
// dressed already.
func (c *Conn) opError(op string, err error) error {
	var dressed *net.OpError
	if err == nil || errors.Is(err, io.EOF) || errors.As(err, &dressed) {
		return err
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		err = os.NewSyscallError(op, errno)
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}
