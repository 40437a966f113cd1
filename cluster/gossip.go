package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// Config says whom to ask and what to pick. Seeds or DNS is required.
type Config struct {
	// Seeds are the HTTP addresses, host:port, of some nodes.
	Seeds []string
	// DNS is a name with the HTTP port, host:port. It is resolved anew each time, and every address it has is asked.
	DNS string
	// Preference is the kind of node to pick; default Leader.
	Preference Preference
	// Secure picks the port for TLS of the node.
	Secure bool
	// TLS makes the questions go over HTTPS; nil: over HTTP. The name that a certificate must be for is the host of the seed,
	// or the one in DNS, unless the configuration has a ServerName.
	TLS *tls.Config
	// Timeout is how long one node may take to answer; default 1 s.
	Timeout time.Duration
	// Dial opens the socket of a question; default a net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Lookup resolves DNS; default net.DefaultResolver.
	Lookup func(ctx context.Context, host string) ([]string, error)
}

// Gossip is the Resolver of a cluster. It is safe for concurrent use.
type Gossip struct {
	cfg    Config
	client *http.Client
	name   string // of DNS, and its port
	port   string

	mu    sync.Mutex
	known []string // HTTP addresses of the members of the last good answer
}

// NewGossip returns a Resolver. Nobody is asked yet.
func NewGossip(cfg Config) (*Gossip, error) {
	g := &Gossip{cfg: cfg}
	if len(cfg.Seeds) == 0 && cfg.DNS == "" {
		return nil, errors.New("neither seeds nor a name in DNS")
	}
	if cfg.DNS != "" {
		var err error
		if g.name, g.port, err = net.SplitHostPort(cfg.DNS); err != nil {
			return nil, fmt.Errorf("the name in DNS: %w", err)
		}
	}
	for _, s := range cfg.Seeds {
		if _, _, err := net.SplitHostPort(s); err != nil {
			return nil, fmt.Errorf("a seed: %w", err)
		}
	}
	if cfg.Preference < Leader || cfg.Preference > Random {
		return nil, fmt.Errorf("unknown %v", cfg.Preference)
	}
	if g.cfg.Timeout == 0 {
		g.cfg.Timeout = time.Second
	}
	if g.cfg.Lookup == nil {
		g.cfg.Lookup = net.DefaultResolver.LookupHost
	}
	transport := &http.Transport{
		DialContext:            cfg.Dial,
		DisableKeepAlives:      true, // the next question may be hours away
		MaxResponseHeaderBytes: 64 << 10,
	}
	if cfg.TLS != nil {
		transport.TLSClientConfig = cfg.TLS.Clone()
		if transport.TLSClientConfig.MinVersion == 0 {
			transport.TLSClientConfig.MinVersion = tls.VersionTLS12
		}
		if transport.TLSClientConfig.ServerName == "" {
			transport.TLSClientConfig.ServerName = g.name // "" for seeds: then the host of each
		}
	}
	g.client = &http.Client{Transport: transport, CheckRedirect: sameHost}
	return g, nil
}

// sameHost refuses to be led away from the node that was asked.
func sameHost(req *http.Request, via []*http.Request) error {
	first := via[0].URL
	if len(via) > 3 || req.URL.Host != first.Host || req.URL.Scheme != first.Scheme {
		return fmt.Errorf("it redirects to %s://%s, which is not followed", req.URL.Scheme, req.URL.Host)
	}
	return nil
}

// Resolve asks, ranks and returns the address of the best member. The error of no good answer has what each node said; that of
// no member that fits, a *NoNodeError, has each with its state and why it was passed over.
func (g *Gossip) Resolve(ctx context.Context) (string, error) {
	members, err := g.Members(ctx)
	if err != nil {
		return "", err
	}
	return pick(members, g.cfg.Preference, g.cfg.Secure)
}

// Members returns what the first node that answers knows of the cluster, dead members included.
func (g *Gossip) Members(ctx context.Context) ([]Member, error) {
	var failures []error
	candidates, err := g.candidates(ctx)
	if err != nil {
		failures = append(failures, err)
	}
	refused := len(candidates) > 0
	for _, addr := range candidates {
		members, err := g.ask(ctx, addr)
		if err == nil {
			g.remember(members)
			return members, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%w: %w", ErrNoGossip, errors.Join(append(failures, err)...))
		}
		refused = refused && errors.Is(err, ErrRefused)
		failures = append(failures, err)
	}
	err = errors.Join(failures...)
	if !refused { // one that only did not answer may be better next time
		err = unrefused{err}
	}
	return nil, fmt.Errorf("%w: %w", ErrNoGossip, err)
}

// unrefused hides ErrRefused of some nodes where it does not hold for all.
type unrefused struct{ error }

// candidates are whom to ask, shuffled.
func (g *Gossip) candidates(ctx context.Context) ([]string, error) {
	all := slices.Clone(g.cfg.Seeds)
	var failed error
	if g.name != "" {
		ctx, cancel := context.WithTimeout(ctx, g.cfg.Timeout)
		addrs, err := g.cfg.Lookup(ctx, g.name)
		cancel()
		if err != nil {
			failed = fmt.Errorf("resolve %s: %w", g.name, err)
		}
		for _, a := range addrs {
			all = append(all, net.JoinHostPort(a, g.port))
		}
	}
	g.mu.Lock()
	all = append(all, g.known...)
	g.mu.Unlock()
	slices.Sort(all)
	all = slices.Compact(all)
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all, failed
}

// remember keeps where the members can be asked the next time. A manager may be a mere placeholder, whose address is made up.
func (g *Gossip) remember(members []Member) {
	var known []string
	for _, m := range members {
		if m.HTTP != "" && m.State != "Manager" {
			known = append(known, m.HTTP)
		}
	}
	g.mu.Lock()
	g.known = known
	g.mu.Unlock()
}

// ask asks one node.
func (g *Gossip) ask(ctx context.Context, addr string) ([]Member, error) {
	ctx, cancel := context.WithTimeout(ctx, g.cfg.Timeout)
	defer cancel()
	u := url.URL{Scheme: "http", Host: addr, Path: "/gossip", RawQuery: "format=json"}
	if g.cfg.TLS != nil {
		u.Scheme = "https"
	}
	members, err := g.get(ctx, u.String())
	if err != nil {
		return nil, fmt.Errorf("gossip of %s over %s: %w", addr, u.Scheme, g.explain(err))
	}
	return members, nil
}

func (g *Gossip) get(ctx context.Context, address string) ([]Member, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := g.client.Do(req)
	if err != nil {
		if wrapped := new(url.Error); errors.As(err, &wrapped) {
			err = wrapped.Err // without the address, which stands before it
		}
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // it was only read
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusRequestTimeout:
		return nil, fmt.Errorf("%s: a single node tells nothing unless GossipOnSingleNode is set; dial its TCP port instead", resp.Status)
	default:
		says, _ := io.ReadAll(io.LimitReader(resp.Body, 200)) // what came before an error is as good
		return nil, fmt.Errorf("%s %q", resp.Status, says)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	switch {
	case err != nil:
		return nil, err
	case len(b) > maxDocument:
		return nil, fmt.Errorf("the answer has more than %d bytes", maxDocument)
	}
	return parse(b)
}

// explain adds the likely cause, and ErrRefused where asking again is no use.
func (g *Gossip) explain(err error) error {
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.Is(err, http.ErrSchemeMismatch):
		return fmt.Errorf("%w: the node speaks plain HTTP on this port (up to 5.x it always does): %w", ErrRefused, err)
	case errors.As(err, &certificate):
		names := ""
		if len(certificate.UnverifiedCertificates) > 0 {
			names = fmt.Sprintf(" (it is for %s)", strings.Join(certificateNames(certificate.UnverifiedCertificates[0]), ", "))
		}
		return fmt.Errorf("%w: the node's certificate is not accepted%s: %w", ErrRefused, names, err)
	case g.cfg.TLS == nil && speaksTLS(err):
		return fmt.Errorf("%w: the node speaks HTTPS on this port: %w", ErrRefused, err)
	case g.cfg.TLS == nil && errors.Is(err, io.EOF):
		return fmt.Errorf("the node closed the connection instead of answering; does it speak HTTPS on this port? %w", err)
	}
	return err
}

// speaksTLS recognizes what a TLS server says to plain HTTP: an alert, which is no HTTP, or the words of a server in Go.
func speaksTLS(err error) bool {
	return strings.Contains(err.Error(), `malformed HTTP response "\x15\x03`) || strings.Contains(err.Error(), "HTTP request to an HTTPS server")
}

func certificateNames(c *x509.Certificate) []string {
	names := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}

// NoNodeError is ErrNoNode with the members of the cluster.
type NoNodeError struct {
	Members []Member
	secure  bool
}

// Error tells of each member why it was passed over.
func (e *NoNodeError) Error() string {
	why := make([]string, len(e.Members))
	for i, m := range e.Members {
		why[i] = m.String() + " " + m.unfit(e.secure)
	}
	slices.Sort(why)
	return fmt.Sprintf("%v: %s", ErrNoNode, strings.Join(why, "; "))
}

// Is makes errors.Is(err, ErrNoNode) hold.
func (e *NoNodeError) Is(target error) bool { return target == ErrNoNode }
