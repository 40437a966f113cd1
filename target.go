package eventstore

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The ports of a target that names none.
const (
	DefaultPort       = 1113 // for clients: tcp:// and tls://
	DefaultGossipPort = 2113 // of HTTP: discover:// and gossip://
)

// Target is where to connect to and how, parsed.
type Target struct {
	// Scheme is "tcp" for one node, "discover" for a cluster behind a name in DNS, "gossip" for one that is known by some of
	// its nodes. A target tls:// is "tcp" with TLS.
	Scheme string
	// Addr is host:port: of the node, of the name with the HTTP port of its nodes, or of the HTTP ports of the nodes to ask, with
	// commas between them.
	Addr string
	// TLS says that the connection is secure.
	TLS bool

	user, password string
	settings       map[string]string // by the names of keys
}

// ParseTarget reads a target:
//
//	tcp://[user:password@]host[:port]          one node; tls:// for the same over TLS
//	discover://[user:password@]name[:port]     a cluster by a name in DNS and the HTTP port of its nodes
//	gossip://[user:password@]host[:port],...   a cluster by the HTTP ports of some nodes
//
// Each takes options behind a question mark, such as tcp://node?name=billing&maxAttempts=3; docs/settings.md lists
// the keys. A connection string of the .NET client is read too, such as "ConnectTo=tcp://node:1113; HeartbeatTimeout=500".
// An error names what is wrong and never shows the password.
func ParseTarget(s string) (Target, error) {
	if isConnectionString(s) {
		return parseConnectionString(s)
	}
	u, err := url.Parse(withoutSeeds(s))
	if err != nil {
		// The text of url's error has the whole target in it, and so the password.
		return Target{}, argument("the target is no URL; want tcp://user:password@host:%d", DefaultPort)
	}
	t := Target{Scheme: u.Scheme}
	seeds := u.Host
	if u.Scheme == "gossip" {
		seeds = seedsOf(s)
	}
	shown := (&url.URL{Scheme: u.Scheme, User: hidden(u.User), Host: seeds, Path: u.Path}).Redacted()
	port := DefaultGossipPort
	switch u.Scheme {
	case "tcp":
		port = DefaultPort
	case "tls":
		port = DefaultPort
		t.Scheme, t.TLS = "tcp", true
	case "discover", "gossip":
	case "http", "https":
		return Target{}, argument("target %s: this client speaks the TCP protocol, want tcp://%s:%d", shown, u.Hostname(), DefaultPort)
	case "":
		return Target{}, argument("target %s: want tcp://host:%d", shown, DefaultPort)
	default:
		return Target{}, argument("target %s: unknown scheme %q, want tcp, tls, discover or gossip", shown, u.Scheme)
	}
	if strings.Trim(u.Path, "/") != "" || u.Fragment != "" {
		return Target{}, argument("target %s: a path has no meaning here", shown)
	}
	hosts := []string{u.Host}
	if t.Scheme == "gossip" {
		hosts = strings.Split(seeds, ",")
	}
	for _, h := range hosts {
		if t.Scheme == "gossip" {
			one, err := url.Parse("gossip://" + strings.TrimSpace(h))
			if err != nil {
				return Target{}, argument("target %s: %q is no host:port", shown, h)
			}
			h = one.Host
		}
		addr, err := hostPort(h, port)
		if err != nil {
			return Target{}, argument("target %s: %w", shown, err)
		}
		t.add(addr)
	}
	if u.User != nil {
		t.user = u.User.Username()
		t.password, _ = u.User.Password()
	}
	if err := t.query(u.RawQuery); err != nil {
		return Target{}, argument("target %s: %w", shown, err)
	}
	return t, nil
}

// hidden is the user info of a text that people see.
func hidden(u *url.Userinfo) *url.Userinfo {
	if u == nil {
		return nil
	}
	return url.UserPassword(u.Username(), "xxxxx")
}

// A list of hosts is none for net/url, which has ports in the way of commas: gossip://a:1,b:2 is read as gossip://a:1, and
// the list apart.
func withoutSeeds(s string) string {
	start, end := authority(s)
	if start < 0 || !strings.HasPrefix(strings.ToLower(s), "gossip:") {
		return s
	}
	first, _, _ := strings.Cut(s[start:end], ",")
	return s[:start] + first + s[end:]
}

func seedsOf(s string) string {
	start, end := authority(s)
	if start < 0 {
		return ""
	}
	return s[start:end]
}

// authority is where the hosts stand in a URL.
func authority(s string) (start, end int) {
	i := strings.Index(s, "://")
	if i < 0 {
		return -1, -1
	}
	start, end = i+3, len(s)
	if n := strings.IndexAny(s[start:], "/?#"); n >= 0 {
		end = start + n
	}
	if n := strings.LastIndexByte(s[start:end], '@'); n >= 0 {
		start += n + 1
	}
	return start, end
}

func (t *Target) add(addr string) {
	if t.Addr != "" {
		t.Addr += ","
	}
	t.Addr += addr
}

// hostPort checks host[:port], and adds the port that is left out.
func hostPort(s string, port int) (string, error) {
	host, p := strings.TrimSpace(s), ""
	if inside, rest, found := strings.Cut(strings.TrimPrefix(host, "["), "]"); strings.HasPrefix(host, "[") {
		if !found || !isAddress(inside) || rest != "" && rest[0] != ':' {
			return "", fmt.Errorf("%q is no host; an IPv6 address stands in brackets", s)
		}
		host, p = inside, strings.TrimPrefix(rest, ":")
	} else if i := strings.LastIndexByte(host, ':'); i >= 0 {
		host, p = host[:i], host[i+1:]
		if strings.Contains(host, ":") {
			return "", fmt.Errorf("%q is no host; an IPv6 address stands in brackets", s)
		}
	}
	if p == "" {
		p = strconv.Itoa(port)
	}
	n, err := strconv.Atoi(p)
	switch {
	case err != nil || n < 1 || n > 65535:
		return "", fmt.Errorf("port %q, want 1 to 65535", p)
	case host == "":
		return "", errors.New("the host is missing")
	case !isAddress(host) && (!utf8.ValidString(host) || strings.ContainsFunc(host, oddInHost)):
		return "", fmt.Errorf("%q is no host", host)
	}
	return net.JoinHostPort(host, strconv.Itoa(n)), nil
}

// oddInHost finds what no name of a host has, and what would read otherwise in a URL.
func oddInHost(r rune) bool {
	return unicode.IsSpace(r) || !unicode.IsPrint(r) || strings.ContainsRune("/?#@,%[]<>\"\\^`{|}:", r)
}

func isAddress(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

// query reads the keys of a URL.
func (t *Target) query(raw string) error {
	for pair := range strings.SplitSeq(raw, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(name)
		if err == nil {
			value, err = url.QueryUnescape(value)
		}
		if err != nil {
			return errors.New("the query is not well escaped")
		}
		k := keyNamed(name)
		if k == nil {
			return fmt.Errorf("unknown key %q, did you mean %q? (docs/settings.md has them all)", name, nearest(name, keyNames()))
		}
		if err := t.set(k, value); err != nil {
			return err
		}
	}
	return t.check()
}

// set notes one key, once, with a value that its option takes.
func (t *Target) set(k *key, value string) error {
	if _, twice := t.settings[k.name]; twice {
		return fmt.Errorf("key %s is given twice", k.name)
	}
	var scratch options
	if err := k.set(&scratch, value); err != nil {
		return fmt.Errorf("key %s=%s: %w", k.name, value, err)
	}
	if t.settings == nil {
		t.settings = make(map[string]string)
	}
	t.settings[k.name] = value
	return nil
}

// check finds keys that contradict each other or have no effect.
func (t *Target) check() error {
	var o options
	t.apply(&o)
	if value, given := t.settings["tls"]; given {
		if t.TLS && !o.secure.on {
			return fmt.Errorf("tls=%s contradicts tls://", value)
		}
		t.TLS = o.secure.on
		delete(t.settings, "tls") // String says tls:// or adds the key
	}
	for _, name := range []string{"tlsCA", "tlsServerName", "tlsInsecureSkipVerify"} {
		if _, given := t.settings[name]; given && !t.TLS && o.gossipScheme != "https" {
			return fmt.Errorf("key %s has no effect without TLS: add tls=true", name)
		}
	}
	for _, name := range []string{"gossip", "gossipTimeout"} {
		if _, given := t.settings[name]; given && t.Scheme == "tcp" {
			return fmt.Errorf("key %s has no effect for one node, which is not asked: want discover:// or gossip://", name)
		}
	}
	return nil
}

// apply puts what the target says into options; a value was checked when it was set.
func (t *Target) apply(o *options) {
	o.secure.on = t.TLS
	if t.user != "" || t.password != "" {
		o.user, o.password = t.user, t.password
	}
	for i := range keys {
		if value, given := t.settings[keys[i].name]; given {
			_ = keys[i].set(o, value)
		}
	}
}

// String returns the target without its password. ParseTarget reads it.
func (t Target) String() string {
	u := url.URL{Scheme: t.Scheme, Host: t.Addr}
	var query []string
	if t.TLS && t.Scheme == "tcp" {
		u.Scheme = "tls"
	} else if t.TLS {
		query = append(query, "tls=true")
	}
	if t.user != "" {
		u.User = url.UserPassword(t.user, "xxxxx")
	}
	for name, value := range t.settings {
		query = append(query, url.QueryEscape(name)+"="+url.QueryEscape(value))
	}
	slices.Sort(query)
	u.RawQuery = strings.Join(query, "&")
	return u.String()
}
