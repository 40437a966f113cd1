package followers

import (
	"context"
	"net"
	"net/url"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/server"
)

// network is where the server listens and who follows dials.
type network interface {
	Listen(network, addr string) (net.Listener, error)
	Dial(ctx context.Context, network, addr string) (net.Conn, error)
}

// host starts the server, and starts it again.
type host struct {
	network
	cfg server.Config
	srv *server.Server
	url string
}

// start begins with an empty log. It is on disk when the server is to be restarted.
func (r *Run) startServer(n network) {
	r.T.Helper()
	r.host = &host{network: n, cfg: server.Config{
		TCP: "127.0.0.1:0", HTTP: server.Off, Projections: r.source.projections, Listen: n.Listen,
		Dialect: server.Dialect{Filtered: r.seed%2 == 0},
	}}
	for _, d := range r.deeds {
		if d.kind == restart {
			r.host.cfg.DB = r.T.TempDir()
		}
	}
	var err error
	r.host.srv, err = server.Start(r.host.cfg)
	require.NoError(r.T, err)
	at, err := url.Parse(r.host.srv.URL())
	require.NoError(r.T, err)
	r.host.cfg.TCP = at.Host
	at.User = url.UserPassword("admin", "changeit")
	r.host.url = at.String()
}

// restart ends the server, which tells its clients no more than a closed connection does, and starts one with the same log.
func (r *Run) restart(down time.Duration) {
	if err := r.host.srv.Close(); err != nil {
		r.problem("close the server: %v", err)
	}
	time.Sleep(down)
	var err error
	if r.host.srv, err = server.Start(r.host.cfg); err != nil {
		r.T.Fatal(err) // nothing can go on
	}
}
