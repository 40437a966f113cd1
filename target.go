package eventstore

import (
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// DefaultPort is the client port of a server, used when a target names none.
const DefaultPort = 1113

// Target is where to connect to, parsed.
type Target struct {
	Addr string // host:port
	TLS  bool   // tls:// instead of tcp://

	user, password string
}

// ParseTarget reads tcp://[user:password@]host[:port], or tls:// for the same over TLS. The port is DefaultPort when left
// out. An error never shows the password.
func ParseTarget(s string) (Target, error) {
	u, err := url.Parse(s)
	if err != nil {
		// The text of url's error has the whole target in it, and so the password.
		return Target{}, argument("the target is no URL; want tcp://user:password@host:%d", DefaultPort)
	}
	t := Target{TLS: u.Scheme == "tls"}
	switch u.Scheme {
	case "tcp", "tls":
	case "http", "https":
		return Target{}, argument("target %s: this client speaks the TCP protocol, want tcp://%s:%d", u.Redacted(), u.Hostname(), DefaultPort)
	case "":
		return Target{}, argument("target %s: want tcp://host:%d", u.Redacted(), DefaultPort)
	default:
		return Target{}, argument("target %s: unknown scheme %q, want tcp or tls", u.Redacted(), u.Scheme)
	}
	port := u.Port()
	if port == "" {
		port = strconv.Itoa(DefaultPort)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return Target{}, argument("target %s: port %q, want 1 to 65535", u.Redacted(), port)
	}
	switch {
	case u.Hostname() == "":
		return Target{}, argument("target %s: the host is missing", u.Redacted())
	case strings.Contains(u.Hostname(), ":") && !isAddress(u.Hostname()):
		return Target{}, argument("target %s: %q is no host; an IPv6 address stands in brackets", u.Redacted(), u.Hostname())
	case strings.Trim(u.Path, "/") != "" || u.Fragment != "":
		return Target{}, argument("target %s: a path has no meaning here", u.Redacted())
	case u.RawQuery != "":
		return Target{}, argument("target %s: unknown key in %q, a target has no query yet", u.Redacted(), u.RawQuery)
	}
	t.Addr = net.JoinHostPort(u.Hostname(), port)
	if u.User != nil {
		t.user = u.User.Username()
		t.password, _ = u.User.Password()
	}
	return t, nil
}

func isAddress(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

// String returns the target without its password.
func (t Target) String() string {
	u := url.URL{Scheme: "tcp", Host: t.Addr}
	if t.TLS {
		u.Scheme = "tls"
	}
	if t.user != "" {
		u.User = url.UserPassword(t.user, "xxxxx")
	}
	return u.String()
}
