package eventstoretest

import (
	"context"
	"net"

	"github.com/goeventstore/eventstore/internal/memnet"
	"github.com/goeventstore/eventstore/server"
)

// Option changes what Run starts.
type Option interface{ apply(*config) }

type config struct {
	network     Network
	server      server.Config
	embedded    bool
	projections bool
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

// WithServer configures the embedded server, for example with a clock or ids of the test's own, and ignores the
// environment. Listen is not looked at: that is OnNetwork's.
func WithServer(cfg server.Config) Option {
	return option(func(c *config) {
		c.server = cfg
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
