package eventstore

import (
	"context"
	"crypto/tls"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// DefaultHTTPPort is the port of a server's HTTP side, used when a target does not name it: where it gossips.
const DefaultHTTPPort = DefaultGossipPort

// HTTPSide is how the HTTP side of a target is reached, by the target and a client's options: what package admin is made of.
type HTTPSide struct {
	// Addrs are host:port, any of which will do.
	Addrs []string
	// TLS is set for https. It has a lowest version, and a server name if the caller gave one.
	TLS *tls.Config
	// Credentials returns the login and password that requests carry; two empty strings for anonymous ones.
	Credentials func(ctx context.Context) (user, password string, err error)
	// Dial opens the sockets.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Timeout is how long one request may take.
	Timeout time.Duration
}

// ParseHTTPSide reads a target of Connect, or the HTTP side's own address, http(s)://[user:password@]host[:port]. Of one node the
// HTTP side is taken to be on DefaultHTTPPort; targets of a cluster name it, since that is where they ask for gossip. A target with
// TLS, or WithTLS, means https, but for one that says gossip=http.
func ParseHTTPSide(target string, opts ...Option) (HTTPSide, error) {
	scheme, rest, _ := strings.Cut(target, "://")
	own := scheme == "http" || scheme == "https"
	if own {
		target = map[string]string{"http": "tcp://", "https": "tls://"}[scheme] + rest
	}
	c, err := newClient(target, opts)
	if err != nil {
		return HTTPSide{}, err
	}
	if scheme == "http" && c.tls != nil {
		return HTTPSide{}, argument("target http:// and WithTLS: want https://")
	}
	side := HTTPSide{
		Addrs: strings.Split(c.target.Addr, ","), Dial: c.dial, Timeout: c.timeout,
		Credentials: func(context.Context) (user, password string, err error) { return c.user, c.password, nil },
	}
	if c.supply != nil {
		side.Credentials = c.supply
	}
	if c.target.Scheme == "tcp" && (!own || !namesPort(target)) {
		host, _, err := net.SplitHostPort(c.target.Addr)
		if err != nil {
			return HTTPSide{}, argument("target: %w", err)
		}
		side.Addrs = []string{net.JoinHostPort(host, strconv.Itoa(DefaultHTTPPort))}
	}
	if c.gossipScheme == "https" && c.tls == nil {
		c.tls = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if c.tls != nil && c.gossipScheme != "http" {
		side.TLS = c.tls.Clone()
		side.TLS.MinVersion = max(side.TLS.MinVersion, tls.VersionTLS12)
	}
	return side, nil
}

// namesPort reports whether a target that was parsed before has a port in it.
func namesPort(target string) bool {
	u, err := url.Parse(target)
	return err == nil && u.Port() != ""
}
