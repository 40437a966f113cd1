package eventstoretest

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/goeventstore/eventstore/internal/secure"
)

// proxy accepts connections and moves frames between them and connections to the server. Goroutines: one accepts, and
// each connection has one that waits for its two pumps.
type proxy struct {
	network  Network
	server   string // address
	addr     string
	identity *identity // nil: clients do not speak TLS
	trace    trace

	start   func(net.Listener) // starts an accept loop
	stop    context.CancelFunc // ends dials under way and waits of the accept loops
	running sync.WaitGroup     // the accept loops and the links

	paused       atomic.Pointer[chan struct{}] // closed by resume; nil while frames pass
	rate         atomic.Int64                  // bytes a second that are read of a direction; 0 for all there are
	interceptors atomic.Pointer[[]*interceptor]

	mu       sync.Mutex   // guards what follows, and changes of interceptors
	listener net.Listener // nil while connections are refused
	links    map[*link]struct{}
	count    int // of connections since the start
	closed   bool
}

type interceptor struct {
	decide  func(*Frame) Fault
	removed atomic.Bool
}

func startProxy(n Network, server string, who *identity) (*proxy, error) {
	p := &proxy{network: n, server: server, identity: who, addr: "127.0.0.1:0", links: make(map[*link]struct{})}
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	p.start = func(l net.Listener) { p.running.Go(func() { p.accept(ctx, l) }) }
	p.trace.start = time.Now()
	p.interceptors.Store(new([]*interceptor))
	if err := p.listen(); err != nil {
		stop()
		return nil, err
	}
	p.addr = p.listener.Addr().String()
	return p, nil
}

// listen accepts connections at the address of the proxy, unless it does already.
func (p *proxy) listen() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil || p.closed {
		return nil
	}
	l, err := p.network.Listen("tcp", p.addr)
	if err != nil {
		return err
	}
	if p.identity != nil {
		l = secure.Listen(l, p.identity.keys)
	}
	p.listener = l
	p.start(l)
	return nil
}

// refuse ends listen.
func (p *proxy) refuse() {
	p.mu.Lock()
	l := p.listener
	p.listener = nil
	p.mu.Unlock()
	if l != nil {
		_ = l.Close()
	}
}

// close cuts what is left and returns when the last goroutine has ended.
func (p *proxy) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.stop()
	p.refuse()
	p.cut()
	p.running.Wait()
}

func (p *proxy) accept(ctx context.Context, listener net.Listener) {
	const pause = 5 * time.Millisecond
	for {
		client, err := listener.Accept()
		if err == nil {
			p.serve(ctx, client)
			continue
		}
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			return
		}
		p.trace.note(0, "accept: "+err.Error()) // out of file descriptors: others may still come
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// serve runs a connection, from the dial to the server on.
func (p *proxy) serve(ctx context.Context, client net.Conn) {
	l := &link{proxy: p, client: client, severed: make(chan struct{})}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		reset(client)
		return
	}
	p.count++
	l.number = p.count
	p.links[l] = struct{}{}
	p.mu.Unlock()
	p.trace.note(l.number, "accepted")
	p.running.Go(func() {
		defer p.forget(l)
		server, err := p.network.Dial(ctx, "tcp", p.server)
		if err != nil {
			p.trace.note(l.number, "the server: "+err.Error())
			l.sever()
			return
		}
		l.run(server)
	})
}

func (p *proxy) forget(l *link) {
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

func (p *proxy) cut() {
	p.mu.Lock()
	links := make([]*link, 0, len(p.links))
	for l := range p.links {
		links = append(links, l)
	}
	p.mu.Unlock()
	for _, l := range links {
		l.sever()
	}
}

func (p *proxy) pause() {
	held := make(chan struct{})
	if p.paused.CompareAndSwap(nil, &held) {
		p.trace.note(0, "paused")
	}
}

func (p *proxy) resume() {
	if held := p.paused.Swap(nil); held != nil {
		p.trace.note(0, "resumed")
		close(*held)
	}
}

// intercept replaces the list of interceptors: the pumps read it without a lock.
func (p *proxy) intercept(decide func(*Frame) Fault) (remove func()) {
	i := &interceptor{decide: decide}
	p.mu.Lock()
	defer p.mu.Unlock()
	list := append(slices.Clone(*p.interceptors.Load()), i)
	p.interceptors.Store(&list)
	return func() {
		i.removed.Store(true) // for the pumps that go through an older list
		p.mu.Lock()
		defer p.mu.Unlock()
		rest := slices.DeleteFunc(slices.Clone(*p.interceptors.Load()), func(o *interceptor) bool { return o == i })
		p.interceptors.Store(&rest)
	}
}

// link is one connection of a client and the one to the server that belongs to it.
//
// States: dialling (no server yet), open, severed. An open link ends when both pumps have seen the end of their stream; a
// severed one when both sockets have ended, of which a fault leaves that of the frame's receiver to the receiver.
type link struct {
	proxy   *proxy
	number  int
	client  net.Conn
	severed chan struct{} // closed when no frame is to pass any more: by sever, or by a pump for a fault

	mu     sync.Mutex // guards what follows
	server net.Conn   // nil while dialling
	cut    bool       // severed is closed
}

// run moves frames until both directions have ended.
func (l *link) run(server net.Conn) {
	l.mu.Lock()
	l.server = server
	cut := l.cut
	l.mu.Unlock()
	if cut {
		reset(server)
		return
	}
	var pumps sync.WaitGroup
	clientSide, serverSide := newSide(l.client), newSide(server)
	pumps.Go(newPump(l, clientSide, serverSide, false).run)
	pumps.Go(newPump(l, serverSide, clientSide, true).run)
	pumps.Wait()
	_ = l.client.Close()
	_ = server.Close()
	l.proxy.trace.note(l.number, "ended")
}

// markCut tells the pumps that wait, and reports whether this was the first to do so.
func (l *link) markCut() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := !l.cut
	if first {
		l.cut = true
		close(l.severed)
	}
	return first
}

// sever resets both sides.
func (l *link) sever() {
	if l.markCut() {
		l.proxy.trace.note(l.number, "cut")
	}
	l.mu.Lock()
	server := l.server
	l.mu.Unlock()
	reset(l.client)
	if server != nil {
		reset(server)
	}
}

// open waits while the proxy is paused; false when the link was severed.
func (l *link) open() bool {
	for {
		held := l.proxy.paused.Load()
		if held == nil {
			return !l.isSevered()
		}
		select {
		case <-*held:
		case <-l.severed:
			return false
		}
	}
}

func (l *link) isSevered() bool {
	select {
	case <-l.severed:
		return true
	default:
		return false
	}
}

// wait lets d go by; false when the link was severed meanwhile.
func (l *link) wait(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.severed:
		return false
	}
}

// reset closes a connection so that its peer finds a reset and what is under way is lost.
func reset(c net.Conn) {
	if s, ok := c.(*secure.Conn); ok {
		c = s.NetConn()
	}
	switch c := c.(type) {
	case interface{ Reset() }:
		c.Reset()
	case interface{ SetLinger(sec int) error }:
		_ = c.SetLinger(0)
	}
	_ = c.Close()
}

// closeWrite ends the stream to the peer, which finds what was sent before and then its end.
func closeWrite(c net.Conn) {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
		return
	}
	_ = c.Close()
}
