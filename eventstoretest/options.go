package eventstoretest

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"time"

	"github.com/google/uuid"

	"github.com/goeventstore/eventstore/internal/memnet"
	"github.com/goeventstore/eventstore/server"
)

// Option changes what Run starts.
type Option interface{ apply(*config) }

type config struct {
	network     Network
	server      server.Config
	now         func() time.Time // nil: as server says
	newID       func() uuid.UUID // likewise
	projections bool             // in any case
	embedded    bool
	secure      bool
}

type option func(*config)

func (o option) apply(c *config) { o(c) }

// Network is where the proxy listens and dials; see OnNetwork. Its methods are those of package net. Connections should
// have a CloseWrite method, and one of Reset() and SetLinger(int) error, for the proxy to end them properly.
type Network interface {
	Listen(network, addr string) (net.Listener, error)
	Dial(ctx context.Context, network, addr string) (net.Conn, error)
}

// InMemory has the clients, the proxy and the embedded server talk over a network in memory instead of the loopback
// interface, as a bubble of testing/synctest needs it: such a Run belongs inside the bubble. The environment is ignored.
// Server.Client dials that network by itself; a client of the test's own does so by
// eventstore.WithDialer(srv.Dial).
func InMemory() Option {
	return option(func(c *config) {
		c.network = memnet.New()
		c.embedded = true
	})
}

// OnNetwork has the proxy and the embedded server listen on n and dial over it, as Server.Dial does. A server that the
// environment names is dialled over n as well. The default is TCP on the loopback interface.
func OnNetwork(n Network) Option { return option(func(c *config) { c.network = n }) }

// ForceEmbedded ignores the environment: the server is always the embedded one.
func ForceEmbedded() Option { return option(func(c *config) { c.embedded = true }) }

// WithServer configures the embedded server and ignores the environment. Listen is not looked at: that is OnNetwork's. Of
// Clock and IDs beside it what they say counts.
func WithServer(cfg server.Config) Option {
	return option(func(c *config) {
		c.server = cfg
		c.embedded = true
	})
}

// Clock has the embedded server take the time of what it writes from now, and ignores the environment. The server calls
// it from goroutines of its own, and it must not block.
func Clock(now func() time.Time) Option {
	return option(func(c *config) {
		c.now = now
		c.embedded = true
	})
}

// IDs has the embedded server give the events that it writes by itself, such as those of soft deletes, the same ids in
// each run with the same seed, and ignores the environment. By default they are random.
func IDs(seed uint64) Option {
	return option(func(c *config) {
		source := rand.NewPCG(seed, seed)
		c.newID = func() (id uuid.UUID) {
			binary.BigEndian.PutUint64(id[:8], source.Uint64())
			binary.BigEndian.PutUint64(id[8:], source.Uint64())
			id[6] = id[6]&0x0F | 0x40 // version 4
			id[8] = id[8]&0x3F | 0x80 // variant of RFC 9562
			return id
		}
		c.embedded = true
	})
}

// Projections has the embedded server keep $ce-, $et-, $category- and $streams. A real server that the environment names is
// taken as it was started.
func Projections() Option { return option(func(c *config) { c.projections = true }) }

// loopback is the network of the operating system.
type loopback struct{}

func (loopback) Listen(network, addr string) (net.Listener, error) {
	return (&net.ListenConfig{}).Listen(context.Background(), network, addr)
}

func (loopback) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, network, addr)
}
