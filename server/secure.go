package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
)

// listenSecure opens the address for TLS (4.21), if there is to be one.
func listenSecure(cfg *Config) (net.Listener, error) {
	if cfg.Secure == "" {
		return nil, nil
	}
	if cfg.TLS == nil {
		return nil, errors.New("Config.Secure needs Config.TLS")
	}
	l, err := cfg.Listen("tcp", cfg.Secure)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", cfg.Secure, err)
	}
	t := cfg.TLS.Clone()
	if t.MinVersion == 0 {
		t.MinVersion = tls.VersionTLS12
	}
	return secureListener{l, t}, nil
}

// secureListener makes connections with TLS. The handshake is made by the session's first read, so that a peer which does not
// come to its end is subject to the deadline of the first frame, and holds up nobody.
type secureListener struct {
	net.Listener
	cfg *tls.Config
}

func (l secureListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &secureConn{Conn: tls.Server(conn, l.cfg), shaken: make(chan struct{})}, nil
}

// secureConn is read by one goroutine and written by another, which waits for the handshake by a channel: in a lock of
// tls.Conn it would stop virtual time.
type secureConn struct {
	*tls.Conn
	once   sync.Once
	shaken chan struct{} // closed by the first Read when the handshake has ended, well or not
}

func (c *secureConn) Read(b []byte) (int, error) {
	c.once.Do(func() {
		_ = c.HandshakeContext(context.Background()) // it ends with the socket, and Read tells its error
		close(c.shaken)
	})
	return c.Conn.Read(b)
}

func (c *secureConn) Write(b []byte) (int, error) {
	<-c.shaken
	return c.Conn.Write(b)
}

// Close closes at once: tls.Conn would wait up to 5 s to say goodbye to a peer that does not read.
func (c *secureConn) Close() error { return c.NetConn().Close() }
