package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/goeventstore/eventstore/server/internal/quorum"
	"github.com/goeventstore/eventstore/server/internal/store"
)

// Config says how a server runs. The zero value is a server on a free port of the loopback interface.
type Config struct {
	// TCP is the address to listen on; "" means "127.0.0.1:0", a free port of the loopback interface.
	TCP string
	// HTTP is the address of the HTTP side, such as "127.0.0.1:2113"; "" means "127.0.0.1:0", and Off that there is none.
	HTTP string
	// Projections has the server index all events of user streams like a real one whose system projections run: by category
	// in $ce-CATEGORY, by type in $et-TYPE, the streams in $streams and by category in $category-CATEGORY. The links come
	// shortly after their events, in the order of the log; see Server.WaitForProjections.
	Projections bool
	// DB is the folder of the log, which is made when there is none: what an answer calls written is on disk then, and the next
	// server with this folder goes on with it. One server may have it open. "" means that the log is in memory, and gone with
	// the server.
	//
	// Transactions that are not committed end with the server, and of the events that were written last some 16,000 are
	// remembered by their ids. A full disk refuses writes until there is room; reads go on.
	DB string
	// Secure is a second address, for connections with TLS from the first byte; "" means that none is offered. It needs TLS.
	Secure string
	// Dialect is which generation of servers this one speaks like; the zero value is 4.1.
	Dialect Dialect
	// TLS has the certificate of the server. Versions before 1.2 are refused unless it says otherwise.
	TLS *tls.Config
	// Logger gets what happens to the server and its connections; nil means that nothing is logged. Neither data nor
	// passwords are ever logged.
	Logger *slog.Logger
	// Listen opens the listeners; nil means net.Listen.
	Listen func(network, addr string) (net.Listener, error)
	// Now gives the time stamps of events, and the time against which $maxAge is held; nil means time.Now. It is called
	// by one goroutine at a time and must not block. Heartbeats and deadlines do not use it.
	Now func() time.Time
	// NewID gives the ids of the events that the server itself writes, such as those of soft deletes; nil means random
	// ones. It is called by one goroutine at a time and must not block.
	NewID func() uuid.UUID

	node *clusterNode // nil for a server of its own
}

// Off stands for an address that is not offered.
const Off = "off"

// The limits of a server. See the package's comment for those that a real one does not have.
const (
	// maxConnections bounds what idle peers can hold. A connection costs three goroutines and some tens of KiB, so a
	// thousand are less than 100 MiB; tests and small installations have no use for more.
	maxConnections = 1000
	// firstFrameDeadline is how long a peer may take to send its first whole frame. One that drips single bytes would
	// pass every heartbeat check, as on a real server, and stay for ever.
	firstFrameDeadline = time.Minute
)

// firstPosition is where the log begins: on a real server an epoch record of this size comes first.
const firstPosition = 168

var errServerClosed = errors.New("the server was closed")

// Server is a running server. Its methods may be called from any goroutine.
type Server struct {
	log      *slog.Logger
	listener net.Listener
	url      string
	secure   net.Listener // nil without one
	http     *httpSide    // nil without one
	dialect  Dialect

	now           func() time.Time
	store         store.Store
	users         users
	settings      atomic.Pointer[settings]
	accessChanges atomic.Uint64 // how often metadata or the settings were written: what was allowed holds as long as it is the same
	metadata      metadataCache
	subscriptions registry
	groups        *groupService
	writer        *writer
	projector     *projector   // nil without projections
	node          *clusterNode // nil without a cluster

	leaving   atomic.Bool   // it was told to shut down, and takes no requests any more
	stop      chan struct{} // closed by Close: nobody sends
	closeOnce sync.Once
	closeErr  error
	accepting sync.WaitGroup // the accept loop, the sessions and the projector
	writing   sync.WaitGroup // the writer, which ends after the sessions

	mu       sync.Mutex
	sessions map[*session]struct{}
	closed   bool
}

// Start starts a server. When it returns the server accepts connections; Close ends it.
func Start(cfg Config) (*Server, error) {
	cfg, now := cfg.complete()
	log, err := openStore(cfg.DB)
	if err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	s, err := start(&cfg, log, now)
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	return s, nil
}

// complete returns the configuration with its defaults, and the clock that many may look at.
func (cfg Config) complete() (Config, func() time.Time) {
	if cfg.TCP == "" {
		cfg.TCP = "127.0.0.1:0"
	}
	if cfg.HTTP == "" {
		cfg.HTTP = "127.0.0.1:0"
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Listen == nil {
		cfg.Listen = net.Listen
	}
	if cfg.NewID == nil {
		cfg.NewID = uuid.New
	}
	if cfg.Now == nil {
		return cfg, time.Now
	}
	return cfg, oneAtATime(cfg.Now)
}

// start starts a server on a log.
func start(cfg *Config, log store.Store, now func() time.Time) (*Server, error) {
	listener, scheme, err := listenTCP(cfg)
	if err != nil {
		return nil, err
	}
	s := &Server{
		log:      cfg.Logger,
		listener: listener,
		url:      scheme + reachable(listener.Addr().String()),
		dialect:  cfg.Dialect,
		now:      now,
		store:    log,
		node:     cfg.node,
		stop:     make(chan struct{}),
		sessions: make(map[*session]struct{}),
	}
	s.settings.Store(builtInSettings)
	s.writer = newWriter(s, cfg.NewID)
	s.groups = newGroupService(s)
	if err = s.goOn(); err != nil {
		err = fmt.Errorf("take up the log: %w", err)
	} else {
		s.secure, err = listenSecure(cfg)
	}
	if err == nil && cfg.HTTP != Off {
		s.http, err = s.listenHTTP(cfg)
	}
	if err != nil {
		_ = listener.Close()
		if s.secure != nil {
			_ = s.secure.Close()
		}
		return nil, err
	}
	if cfg.Projections {
		s.projector = newProjector(s)
		s.accepting.Go(s.projector.run)
	}
	s.writing.Go(s.writer.run)
	s.accepting.Go(s.groups.run)
	if s.http != nil {
		s.http.serve()
	}
	s.accepting.Go(func() { s.accept(s.listener) })
	if s.secure != nil {
		s.accepting.Go(func() { s.accept(s.secure) })
	}
	s.log.LogAttrs(context.Background(), slog.LevelInfo, "server started", slog.String("url", s.url))
	return s, nil
}

// oneAtATime is a clock that many may look at: the writer, and those who read streams with $maxAge.
func oneAtATime(clock func() time.Time) func() time.Time {
	var mu sync.Mutex
	return func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return clock()
	}
}

// paused reports whether this is a node of a cluster that is paused.
func (s *Server) paused() bool { return s.node != nil && s.node.gate.isShut() }

// role is what the server says that it is.
func (s *Server) role() string {
	if s.node == nil {
		return s.dialect.stateName(quorum.Master)
	}
	return s.dialect.stateName(s.node.standing.Load().state)
}

// URL returns the address that clients connect to, such as tcp://127.0.0.1:49152, or tls:// with Dialect.TLS.
func (s *Server) URL() string { return s.url }

// HTTPURL returns the address of the HTTP side, such as http://127.0.0.1:2113, or "" when there is none. With Dialect.TLS it
// is one of https://.
func (s *Server) HTTPURL() string {
	if s.http == nil {
		return ""
	}
	return s.http.url
}

// SecureURL is URL for TLS, such as tls://127.0.0.1:49153; "" when Config.Secure was.
func (s *Server) SecureURL() string {
	if s.secure == nil {
		return ""
	}
	return "tls://" + reachable(s.secure.Addr().String())
}

// Done is closed when the server begins to end: with Close, or a moment after it was told over HTTP to shut down. Close waits for
// the end.
func (s *Server) Done() <-chan struct{} { return s.stop }

// Close ends the server and all its connections, and returns when its last goroutine has ended. What was written is
// gone, unless there is a folder for it. Further calls wait for the first and return the same.
func (s *Server) Close() error {
	s.closeOnce.Do(func() {
		close(s.stop)
		for _, l := range []net.Listener{s.listener, s.secure} {
			if l == nil {
				continue
			}
			if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
				s.closeErr = errors.Join(s.closeErr, err)
			}
		}
		if s.http != nil {
			s.closeErr = errors.Join(s.closeErr, s.http.close())
		}
		s.endSessions(errServerClosed)
		s.accepting.Wait()
		s.writer.close()
		s.writing.Wait()
		s.closeErr = errors.Join(s.closeErr, s.store.Close())
		s.log.LogAttrs(context.Background(), slog.LevelInfo, "server closed", slog.String("url", s.url))
	})
	return s.closeErr
}

// endSessions ends all connections, and those still to be accepted, for a cause.
func (s *Server) endSessions(cause error) {
	s.mu.Lock()
	s.closed = true
	open := make([]*session, 0, len(s.sessions))
	for c := range s.sessions {
		open = append(open, c)
	}
	s.mu.Unlock()
	for _, c := range open {
		c.end(cause)
	}
}

// accept takes connections until the listener is closed.
func (s *Server) accept(l net.Listener) {
	const first, longest = 5 * time.Millisecond, time.Second
	pause := first
	for {
		conn, err := l.Accept()
		if err == nil {
			pause = first
			s.serve(conn)
			continue
		}
		select {
		case <-s.stop:
			return
		default:
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
		// Out of file descriptors, or a peer that went before it was accepted: others may still come.
		s.log.LogAttrs(context.Background(), slog.LevelWarn, "accept failed", slog.Any("err", err))
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-s.stop:
			timer.Stop()
			return
		}
		pause = min(2*pause, longest)
	}
}

// serve starts the session of a connection, or closes it when there are enough.
func (s *Server) serve(conn net.Conn) {
	c := newSession(s, conn)
	s.mu.Lock()
	full := len(s.sessions) >= maxConnections
	refused := full || s.closed
	if !refused {
		s.sessions[c] = struct{}{}
	}
	s.mu.Unlock()
	if refused {
		_ = conn.Close()
		if full {
			s.log.LogAttrs(context.Background(), slog.LevelWarn, "connection refused: too many",
				slog.String("addr", c.addr), slog.Int("limit", maxConnections))
		}
		return
	}
	c.start()
}

// forget takes an ended session off the list.
func (s *Server) forget(c *session) {
	s.mu.Lock()
	delete(s.sessions, c)
	s.mu.Unlock()
}

// reachable replaces the address that means every interface by the one that a client of this machine dials.
func reachable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip := net.ParseIP(host); host == "" || (ip != nil && ip.IsUnspecified()) {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}
