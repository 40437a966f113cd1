package eventstoretest

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/server"
)

// environment names the real server to test against: a whole target, such as tcp://admin:changeit@127.0.0.1:1113.
const environment = "EVENTSTORE_TEST_TCP"

// envDisk has the embedded server keep its log on disk when it is set.
const envDisk = "EVENTSTORE_TEST_DISK"

// environmentHTTP names its HTTP side, such as http://127.0.0.1:2113.
const environmentHTTP = "EVENTSTORE_TEST_HTTP"

// probeTime is how long the real server may take to accept a first connection.
const probeTime = 10 * time.Second

// Server is a server with a proxy before it. Its methods are safe for concurrent use.
type Server struct {
	tb       testing.TB
	network  Network
	embedded bool
	direct   *url.URL
	identity *identity // nil without TLS
	http     string
	proxy    *proxy
}

// Run starts the embedded server, or takes the real one that the environment variable EVENTSTORE_TEST_TCP names, and
// puts a proxy before it. Both are ready when Run returns and end when the test does, after the clients that
// Server.Client made. A failure to start ends the test.
//
// A real server is shared and keeps what was written: a test that may meet one makes up its own stream names.
func Run(tb testing.TB, opts ...Option) *Server {
	tb.Helper()
	cfg := config{network: loopback{}}
	for _, o := range opts {
		o.apply(&cfg)
	}
	s := &Server{tb: tb, network: cfg.network}
	var err error
	if cfg.secure {
		if s.identity, err = newIdentity(tb); err != nil {
			tb.Fatalf("eventstoretest: %v", err)
		}
	}
	var plain string // where the proxy leads to
	if target := os.Getenv(environment); target == "" || cfg.embedded {
		s.embedded = true
		plain, err = s.startEmbedded(&cfg)
	} else {
		s.http = strings.TrimSuffix(os.Getenv(environmentHTTP), "/")
		s.direct, err = findReal(tb.Context(), cfg.network, target)
		if err == nil {
			plain = s.direct.Host
		}
	}
	if err != nil {
		tb.Fatalf("eventstoretest: %v", err)
	}
	s.proxy, err = startProxy(cfg.network, plain, s.identity)
	if err != nil {
		tb.Fatalf("eventstoretest: start the proxy: %v", err)
	}
	tb.Cleanup(func() {
		s.proxy.close()
		if tb.Failed() {
			tb.Log(s.proxy.trace.String())
		}
	})
	return s
}

// complete puts into the configuration of the embedded server, or of each node, what has options of its own.
func (cfg *config) complete() {
	cfg.server.Listen = cfg.network.Listen
	if cfg.now != nil {
		cfg.server.Now = cfg.now
	}
	if cfg.newID != nil {
		cfg.server.NewID = cfg.newID
	}
	cfg.server.Projections = cfg.server.Projections || cfg.projections
}

// startEmbedded starts the embedded server, and returns the address of its plain port.
func (s *Server) startEmbedded(cfg *config) (plain string, err error) {
	s.tb.Helper()
	cfg.complete()
	if s.identity != nil {
		cfg.server.Secure = cmp.Or(cfg.server.Secure, "127.0.0.1:0")
		cfg.server.TLS = s.identity.keys
	}
	if cfg.server.DB == "" && os.Getenv(envDisk) != "" {
		cfg.server.DB = s.tb.TempDir()
	}
	srv, err := server.Start(cfg.server)
	if err != nil {
		return "", fmt.Errorf("start the embedded server: %w", err)
	}
	s.tb.Cleanup(func() {
		if err := srv.Close(); err != nil {
			s.tb.Errorf("eventstoretest: close the embedded server: %v", err)
		}
	})
	s.http = srv.HTTPURL()
	_, plain, _ = strings.Cut(srv.URL(), "://")
	addr := plain
	if s.identity != nil {
		_, addr, _ = strings.Cut(srv.SecureURL(), "://")
	}
	s.direct = s.target(url.UserPassword("admin", "changeit"), addr)
	return plain, nil
}

// target leads to an address, with TLS if there is to be.
func (s *Server) target(user *url.Userinfo, addr string) *url.URL {
	u := &url.URL{Scheme: "tcp", User: user, Host: addr}
	if s.identity != nil {
		u.Scheme, u.RawQuery = "tls", url.Values{"tlsCA": {s.identity.ca}}.Encode()
	}
	return u
}

// findReal reads the target and has a look whether somebody listens there: through the proxy a server that is not there
// would look like one that closes its connections.
func findReal(ctx context.Context, n Network, target string) (*url.URL, error) {
	parsed, err := eventstore.ParseTarget(target)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", environment, err)
	}
	if parsed.TLS {
		return nil, fmt.Errorf("%s=%s: the proxy reads frames and does not speak TLS; name a plain port, tcp://", environment, parsed)
	}
	u, err := url.Parse(target)
	if err != nil {
		return nil, fmt.Errorf("%s=%s is no URL", environment, parsed)
	}
	u.Host = parsed.Addr
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	c, err := n.Dial(ctx, "tcp", parsed.Addr)
	if err != nil {
		return nil, fmt.Errorf("%s=%s: nobody answers: %w", environment, parsed, err)
	}
	_ = c.Close()
	return u, nil
}

// URL returns the target that leads to the server through the proxy, with the credentials of its administrator, or those
// that the environment gives.
func (s *Server) URL() string {
	return s.target(s.direct.User, s.proxy.addr).String()
}

// DirectURL returns the target that leads to the server past the proxy, with the same credentials: for bytes that are no
// frames, and for a client that the faults shall not meet. The clients that Server.Client makes go through the proxy.
func (s *Server) DirectURL() string { return s.direct.String() }

// HTTPURL returns the address of the server's HTTP side, such as http://127.0.0.1:49152, or "" when it has none, or a real server's
// is not named by EVENTSTORE_TEST_HTTP. No proxy is before it.
func (s *Server) HTTPURL() string { return s.http }

// Dial connects to an address over the network that the server is on, whichever that is: a dial function for
// eventstore.WithDialer, and for raw connections.
func (s *Server) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return s.network.Dial(ctx, network, addr)
}

// Client returns a client that is connected to URL and is closed when the test ends, before the server is. The options
// come after those that it needs itself. A failure to connect ends the test.
func (s *Server) Client(tb testing.TB, opts ...eventstore.Option) *eventstore.Client {
	tb.Helper()
	return connect(tb, s.Dial, s.URL(), opts)
}

// connect returns a client that is closed when the test ends.
func connect(
	tb testing.TB, dial func(ctx context.Context, network, addr string) (net.Conn, error), target string, opts []eventstore.Option,
) *eventstore.Client {
	tb.Helper()
	all := append([]eventstore.Option{eventstore.WithDialer(dial)}, opts...)
	c, err := eventstore.Connect(tb.Context(), target, all...)
	if err != nil {
		tb.Fatalf("eventstoretest: %v", err)
	}
	tb.Cleanup(func() {
		if err := c.Close(); err != nil {
			tb.Errorf("eventstoretest: close the client: %v", err)
		}
	})
	return c
}

// Embedded reports whether the server is the embedded one, and not a real one that the environment names.
func (s *Server) Embedded() bool { return s.embedded }

// Intercept has f decide what becomes of each frame that comes to the proxy from now on, until remove is called. Of several
// functions the one installed first is asked first, and the first that does not say Pass decides: those after it
// do not see the frame.
//
// f is called by the goroutine that moves the frames of one connection in one direction. It may therefore be called by
// several at once. While it runs, the frames behind this one wait; it may block as long as the test lasts, but not
// longer. It may call the methods of the server and remove functions, its own among them. When remove returns, no new
// call is made, but one may still be under way.
func (s *Server) Intercept(f func(*Frame) Fault) (remove func()) { return s.proxy.intercept(f) }

// Cut breaks every connection that the proxy has accepted, at once: both sides find a reset, and what was under way is
// lost. New connections are accepted as before.
func (s *Server) Cut() { s.proxy.cut() }

// Pause stops the traffic: until Resume nothing passes in either direction, neither frames nor the ends of streams. A frame
// that is being written when Pause is called still passes. Connections stay, and new ones are accepted; what either side
// sends waits, in the end in its own buffers.
func (s *Server) Pause() { s.proxy.pause() }

// Resume ends a Pause: what was held passes, in order.
func (s *Server) Resume() { s.proxy.resume() }

// SlowReads has the proxy read only so many bytes a second from each side of each connection, as peers with slow lines do:
// what is sent faster fills the buffers of whoever sends. 0 ends it. A frame that takes some seconds holds up the
// heartbeats behind it, and then the connection may be given up.
func (s *Server) SlowReads(bytesPerSecond int) { s.proxy.rate.Store(int64(bytesPerSecond)) }

// Refuse has new connections refused, as if no server were there, until Accept. Those that there are stay: Cut ends them.
func (s *Server) Refuse() {
	s.proxy.trace.note(0, "refusing")
	s.proxy.refuse()
}

// Accept ends a Refuse: new connections are accepted again, at the same address. If another program has taken it
// meanwhile, the test fails.
func (s *Server) Accept() {
	s.tb.Helper()
	if err := s.proxy.listen(); err != nil {
		s.tb.Errorf("eventstoretest: accept again: %v", err)
	}
}
