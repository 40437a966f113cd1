// Package secure makes the server's side of connections with TLS, for listeners whose connections are read at once.
package secure

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
)

// Listen has the connections of l speak TLS. The handshake is made by a connection's first Read, so that a peer which does not
// come to its end holds up nobody, and is subject to the deadlines of whoever reads.
func Listen(l net.Listener, cfg *tls.Config) net.Listener {
	cfg = cfg.Clone()
	if cfg.MinVersion == 0 {
		cfg.MinVersion = tls.VersionTLS12
	}
	return listener{l, cfg}
}

type listener struct {
	net.Listener
	cfg *tls.Config
}

// Accept implements net.Listener.
func (l listener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &Conn{Conn: tls.Server(nc, l.cfg), shaken: make(chan struct{})}, nil
}

// Conn is read by one goroutine and written by others, one at a time. These wait for the handshake by a channel: in a lock of
// tls.Conn they would stop virtual time.
type Conn struct {
	*tls.Conn
	once   sync.Once
	shaken chan struct{} // closed by the first Read when the handshake has ended, well or not
}

// Read makes the handshake when it is the first.
func (c *Conn) Read(b []byte) (int, error) {
	c.once.Do(func() {
		_ = c.HandshakeContext(context.Background()) // it ends with the socket, and Read tells its error
		close(c.shaken)
	})
	return c.Conn.Read(b)
}

// Write waits for the handshake.
func (c *Conn) Write(b []byte) (int, error) {
	<-c.shaken
	return c.Conn.Write(b)
}

// CloseWrite ends the stream to the peer, by TLS when the handshake has ended, and by the socket if that can.
func (c *Conn) CloseWrite() error {
	var err error
	select {
	case <-c.shaken:
		err = c.Conn.CloseWrite()
	default:
	}
	if half, ok := c.NetConn().(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return err
}

// Close closes at once: tls.Conn would wait up to 5 s to say goodbye to a peer that does not read.
func (c *Conn) Close() error { return c.NetConn().Close() }
