package memnet

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// Addr is the address of a listener or of one end of a connection: host:port, where the host is any name. Nothing is
// resolved.
type Addr string

// Network returns "tcp".
func (Addr) Network() string { return "tcp" }

// String returns host:port, which [net.SplitHostPort] takes apart.
func (a Addr) String() string { return string(a) }

// Conn is one end of a buffered in-memory connection. Its methods may be called from any number of goroutines; the
// bytes of one Write are contiguous on the wire. Every error but [io.EOF] is a [*net.OpError].
type Conn struct {
	in, out       *stream
	local, remote net.Addr
}

var _ net.Conn = (*Conn)(nil)

// Pipe returns the two ends of a connection that belongs to no network.
func Pipe(opts ...Option) (a, b *Conn) {
	return newPair(newConfig(opts).buffer, Addr("127.0.0.1:1"), Addr("127.0.0.1:2"))
}

func newPair(buffer int, aAddr, bAddr net.Addr) (a, b *Conn) {
	p := new(struct {
		a, b   Conn
		ab, ba stream
	})
	p.ab.init(buffer)
	p.ba.init(buffer)
	p.a = Conn{in: &p.ba, out: &p.ab, local: aAddr, remote: bAddr}
	p.b = Conn{in: &p.ab, out: &p.ba, local: bAddr, remote: aAddr}
	return &p.a, &p.b
}

// Read waits until a byte is there and returns what is there. After the peer's Close or CloseWrite it returns the bytes
// still buffered and then io.EOF. It fails with [os.ErrDeadlineExceeded], [net.ErrClosed] after a local Close, and
// [syscall.ECONNRESET].
func (c *Conn) Read(b []byte) (int, error) {
	n, err := c.in.read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		err = c.opError("read", err)
	}
	return n, err
}

// Write returns when all of b is in the buffer, from which the peer may or may not read it; it waits while that is
// full. With an error it returns how many bytes went in. It fails with [os.ErrDeadlineExceeded], [net.ErrClosed] after
// a local Close, [syscall.EPIPE] after a local CloseWrite or the peer's Close, and [syscall.ECONNRESET].
func (c *Conn) Write(b []byte) (int, error) {
	n, err := c.out.write(b)
	if err != nil {
		err = c.opError("write", err)
	}
	return n, err
}

// Close ends both directions and interrupts blocked calls on both ends. The peer still reads what was written before;
// what this end had not read is gone. A second Close fails with [net.ErrClosed].
func (c *Conn) Close() error {
	// In this order a peer that has read io.EOF cannot write any more.
	if !c.in.closeReader() {
		return c.opError("close", net.ErrClosed)
	}
	c.out.closeWriter()
	return nil
}

// CloseWrite ends the outgoing direction only: the peer reads what is buffered and then io.EOF, while this end still
// reads. A Write that is blocked fails with [syscall.EPIPE].
func (c *Conn) CloseWrite() error {
	if err := c.out.endWrites(); err != nil {
		return c.opError("close", err)
	}
	return nil
}

// Reset breaks the connection as a lost host or a killed process does: the bytes in flight in both directions are
// discarded, and every blocked and later Read and Write of both ends fails with [syscall.ECONNRESET]. An end that was
// closed before stays closed. Both ends must still be closed by their owners.
func (c *Conn) Reset() {
	c.in.fail()
	c.out.fail()
}

// Buffered returns how many bytes the peer has written that this end has not read.
func (c *Conn) Buffered() int { return c.in.buffered() }

// LocalAddr returns the address of this end, an [Addr].
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr returns the address of the other end, an [Addr].
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline is SetReadDeadline and SetWriteDeadline together.
func (c *Conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline makes Reads fail from t on, a blocked one included; one in the past interrupts at once, and the zero
// time means never. It can be moved at any time.
func (c *Conn) SetReadDeadline(t time.Time) error {
	if err := c.in.setReadDeadline(t); err != nil {
		return c.opError("set", err)
	}
	return nil
}

// SetWriteDeadline is SetReadDeadline for Writes. A Write that it interrupts may have written a part.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	if err := c.out.setWriteDeadline(t); err != nil {
		return c.opError("set", err)
	}
	return nil
}

// opError dresses err as package net does for a socket.
func (c *Conn) opError(op string, err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		err = os.NewSyscallError(op, errno)
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.local, Addr: c.remote, Err: err}
}
