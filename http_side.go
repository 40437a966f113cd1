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

// DefaultHTTPPort is the port of a server's HTTP side, used when a target does not name it.
const DefaultHTTPPort = 2113

// HTTPSide is how the HTTP side of a target is reached, by the target and a client's options: what package admin is made of.
type HTTPSide struct {
	// Addr is host:port.
	Addr string
	// TLS is set for https. It has a lowest version, and a server name if the caller gave one.
	TLS *tls.Config
	// Credentials returns the login and password that requests carry; two empty strings for anonymous ones.
	Credentials func(ctx context.Context) (user, password string, err error)
	// Dial opens the sockets.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Timeout is how long one request may take.
	Timeout time.Duration
}

// ParseHTTPSide reads a target of Connect, whose HTTP side is taken to be on DefaultHTTPPort of its host, or that side's own
// address, http(s)://[user:password@]host[:port]. A target with TLS, or WithTLS, means https.
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
	host, port, err := net.SplitHostPort(c.target.Addr)
	if err != nil {
		return HTTPSide{}, argument("target: %w", err)
	}
	if !own || !namesPort(target) {
		port = strconv.Itoa(DefaultHTTPPort)
	}
	side := HTTPSide{
		Addr: net.JoinHostPort(host, port), Dial: c.dial, Timeout: c.timeout,
		Credentials: func(context.Context) (user, password string, err error) { return c.user, c.password, nil },
	}
	if c.tls != nil {
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
