//go:build unix

package conn

import (
	"net"
	"syscall"
)

// direct writes to a socket without waiting for it. Who has set the outbox busy may use it.
type direct struct {
	socket  syscall.RawConn
	attempt func(fd uintptr) bool // made once, as it would be allocated each time
	b       []byte
	n       int
}

// newDirect returns nil for all but a plain TCP socket: TLS, and what a program has put around a connection, want their own Write.
func newDirect(nc net.Conn) *direct {
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		return nil
	}
	socket, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	d := &direct{socket: socket}
	d.attempt = func(fd uintptr) bool {
		d.n, _ = syscall.Write(int(fd), d.b)
		return true // once is enough: the write loop waits, and meets the error if there is one
	}
	return d
}

// write returns how much the socket took.
func (d *direct) write(b []byte) int {
	d.b, d.n = b, 0
	_ = d.socket.Write(d.attempt) // of a closed socket: the write loop meets that too
	d.b = nil
	return max(d.n, 0)
}
