package memnet

import (
	"context"
	"net"
	"os"
	"strconv"
	"sync"
	"syscall"
)

// Ports are handed out in order, listeners and dialling ends from ranges of their own: a test sees the same numbers in
// every run.
const (
	firstListenPort = 20000
	firstDialPort   = 32768
	lastPort        = 65535
)

const (
	loopback = "127.0.0.1"
	anyHost  = "" // a listener on it answers for every host of its port
)

// Network is a set of listeners that exist only in this process. Hosts are names without meaning, except that
// localhost, 127.0.0.1 and ::1 are the same one, and that a listener without a host, or on 0.0.0.0 or ::, answers for
// every host. It is safe for concurrent use, owns no goroutines and needs no Close.
type Network struct {
	cfg config

	mu        sync.Mutex
	listeners map[endpoint]*listener
	dialPort  int
}

type endpoint struct {
	host string
	port int
}

func (e endpoint) String() string { return net.JoinHostPort(e.host, strconv.Itoa(e.port)) }

// New returns an empty network.
func New(opts ...Option) *Network {
	return &Network{
		cfg:       newConfig(opts),
		listeners: make(map[endpoint]*listener),
		dialPort:  firstDialPort,
	}
}

// Listen announces addr, "host:port", where port 0 or none picks a free one and "" is a free port on every host. The
// network is "tcp", "tcp4" or "tcp6". It fails with [syscall.EADDRINUSE] while another listener has the address. Closing
// the listener refuses new dials and resets the connections that nobody has accepted.
func (n *Network) Listen(network, addr string) (net.Listener, error) {
	e, err := parse(network, addr)
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Err: err}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case e.port == 0:
		e.port = firstListenPort
		for n.taken(e) && e.port < firstDialPort {
			e.port++
		}
		if e.port == firstDialPort {
			return nil, &net.OpError{Op: "listen", Net: network, Err: os.NewSyscallError("bind", syscall.EADDRNOTAVAIL)}
		}
	case n.taken(e):
		return nil, &net.OpError{
			Op: "listen", Net: network, Addr: Addr(e.String()), Err: os.NewSyscallError("bind", syscall.EADDRINUSE),
		}
	}
	l := &listener{
		network: n,
		at:      e,
		addr:    Addr(e.String()),
		backlog: make(chan *Conn, n.cfg.backlog),
		room:    make(chan struct{}, n.cfg.backlog),
		done:    make(chan struct{}),
	}
	if e.host == anyHost {
		l.addr = Addr(net.JoinHostPort("::", strconv.Itoa(e.port))) // what a socket would say
	}
	n.listeners[e] = l
	return l, nil
}

// taken reports whether a listener at e would share an address with another one.
func (n *Network) taken(e endpoint) bool {
	if e.host != anyHost {
		return n.find(e) != nil
	}
	for other := range n.listeners {
		if other.port == e.port {
			return true
		}
	}
	return false
}

func (n *Network) find(e endpoint) *listener {
	if l := n.listeners[e]; l != nil {
		return l
	}
	return n.listeners[endpoint{anyHost, e.port}]
}

// Dial connects to the listener at addr and returns a [*Conn]. The connection is usable before it is accepted. While
// the listener's backlog is full Dial waits until ctx ends; it fails with [syscall.ECONNREFUSED] when nobody listens,
// or when the listener is closed during the wait.
func (n *Network) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	e, err := parse(network, addr)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	if e.host == anyHost {
		e.host = loopback
	}
	remote := Addr(e.String())
	fail := func(err error) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: remote, Err: err}
	}
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	l, local := n.route(e)
	if l == nil {
		return fail(os.NewSyscallError("connect", syscall.ECONNREFUSED))
	}
	select {
	case l.room <- struct{}{}:
	case <-l.done:
		return fail(os.NewSyscallError("connect", syscall.ECONNREFUSED))
	case <-ctx.Done():
		return fail(ctx.Err())
	}
	client, server := newPair(n.cfg.buffer, local, remote)
	if !l.enqueue(server) {
		return fail(os.NewSyscallError("connect", syscall.ECONNREFUSED))
	}
	return client, nil
}

// route finds the listener for e and a port for the dialling end.
func (n *Network) route(e endpoint) (*listener, Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.find(e)
	if l == nil {
		return nil, ""
	}
	port := n.dialPort
	if n.dialPort++; n.dialPort > lastPort {
		n.dialPort = firstDialPort
	}
	return l, Addr(endpoint{loopback, port}.String())
}

func parse(network, addr string) (endpoint, error) {
	switch network {
	case "tcp", "tcp4", "tcp6":
	default:
		return endpoint{}, net.UnknownNetworkError(network)
	}
	if addr == "" {
		return endpoint{host: anyHost}, nil
	}
	host, service, err := net.SplitHostPort(addr)
	if err != nil {
		return endpoint{}, err
	}
	var port uint64
	if service != "" {
		if port, err = strconv.ParseUint(service, 10, 16); err != nil {
			return endpoint{}, &net.AddrError{Err: "invalid port", Addr: addr}
		}
	}
	switch host {
	case "localhost", "::1":
		host = loopback
	case "0.0.0.0", "::":
		host = anyHost
	}
	return endpoint{host, int(port)}, nil
}

type listener struct {
	network *Network
	at      endpoint
	addr    Addr

	backlog chan *Conn    // from Dial to Accept, sent under mu; never full, because its sender holds a place in room
	room    chan struct{} // one for each connection in backlog or about to be; as large as backlog
	done    chan struct{} // closed by Close

	mu     sync.Mutex
	closed bool
}

// Accept waits for the next connection, a [*Conn].
func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.backlog:
		<-l.room
		return c, nil
	case <-l.done:
		return nil, l.closedError("accept")
	}
}

// enqueue reports false when the listener was closed since the dial found it: without the lock the connection could
// enter the backlog after Close had emptied it, and its client would wait for ever.
func (l *listener) enqueue(c *Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.backlog <- c
	return true
}

func (l *listener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return l.closedError("close")
	}
	l.closed = true
	l.network.remove(l)
	close(l.done)
	for {
		select {
		case c := <-l.backlog:
			c.Reset()
		default:
			return nil
		}
	}
}

func (l *listener) Addr() net.Addr { return l.addr }

func (l *listener) closedError(op string) error {
	return &net.OpError{Op: op, Net: "tcp", Addr: l.addr, Err: net.ErrClosed}
}

func (n *Network) remove(l *listener) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.listeners, l.at)
}
