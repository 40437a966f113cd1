package server

import (
	"net"
	"sync"
)

// gate is what a paused node is stopped by: its connections and its writer wait at it.
type gate struct {
	mu  sync.Mutex
	way chan struct{} // nil while it is open, else closed when it opens
}

func newGate() *gate { return new(gate) }

func (g *gate) shut() {
	g.mu.Lock()
	if g.way == nil {
		g.way = make(chan struct{})
	}
	g.mu.Unlock()
}

func (g *gate) open() {
	g.mu.Lock()
	if g.way != nil {
		close(g.way)
		g.way = nil
	}
	g.mu.Unlock()
}

// isShut reports whether one would wait.
func (g *gate) isShut() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.way != nil
}

// wait waits until it is open, or somebody has given up.
func (g *gate) wait(givenUp <-chan struct{}) {
	for {
		g.mu.Lock()
		way := g.way
		g.mu.Unlock()
		if way == nil {
			return
		}
		select {
		case <-way:
		case <-givenUp:
			return
		}
	}
}

// listen is a listener whose connections have to pass.
func (g *gate) listen(listen func(network, addr string) (net.Listener, error)) func(network, addr string) (net.Listener, error) {
	return func(network, addr string) (net.Listener, error) {
		l, err := listen(network, addr)
		if err != nil {
			return nil, err
		}
		return &gatedListener{l, g}, nil
	}
}

type gatedListener struct {
	net.Listener
	gate *gate
}

// Accept implements net.Listener.
func (l *gatedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &gatedConn{Conn: c, gate: l.gate, closed: make(chan struct{})}, nil
}

type gatedConn struct {
	net.Conn
	gate   *gate
	closed chan struct{}
	once   sync.Once
}

// Read implements net.Conn: what came is not seen before the gate is open.
func (c *gatedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.gate.wait(c.closed)
	return n, err
}

// Write implements net.Conn.
func (c *gatedConn) Write(b []byte) (int, error) {
	c.gate.wait(c.closed)
	return c.Conn.Write(b)
}

// Close implements net.Conn.
func (c *gatedConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}
