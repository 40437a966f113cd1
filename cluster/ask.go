package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// ask asks one node.
func (g *Gossip) ask(ctx context.Context, s seed) answer {
	ctx, cancel := context.WithTimeout(ctx, g.cfg.Timeout)
	defer cancel()
	u := url.URL{Scheme: "http", Host: s.addr, Path: "/gossip", RawQuery: "format=json"}
	if g.cfg.TLS != nil {
		u.Scheme = "https"
	}
	members, err := g.get(ctx, s, u.String())
	if err != nil {
		return answer{err: fmt.Errorf("gossip of %s over %s: %w", s.addr, u.Scheme, g.explain(err))}
	}
	return answer{members: members}
}

// client is for one question to one node: the next may be hours away. Its dial ends with ctx; the transport's own context goes on
// when the question is given up, to keep the connection for another.
func (g *Gossip) client(ctx context.Context, s seed) *http.Client {
	t := &http.Transport{
		DialContext: func(_ context.Context, network, _ string) (net.Conn, error) {
			return g.cfg.Dial(ctx, network, s.dial)
		},
		DisableKeepAlives:      true,
		MaxResponseHeaderBytes: 64 << 10,
	}
	if g.cfg.TLS != nil {
		t.TLSClientConfig = g.cfg.TLS.Clone()
		if t.TLSClientConfig.ServerName == "" {
			t.TLSClientConfig.ServerName = s.name // "": then the host of the URL
		}
	}
	return &http.Client{Transport: t, CheckRedirect: sameHost}
}

// sameHost refuses to be led away from the node that was asked.
func sameHost(req *http.Request, via []*http.Request) error {
	first := via[0].URL
	if len(via) > 3 || req.URL.Host != first.Host || req.URL.Scheme != first.Scheme {
		return fmt.Errorf("it redirects to %s://%s, which is not followed", req.URL.Scheme, req.URL.Host)
	}
	return nil
}

func (g *Gossip) get(ctx context.Context, s seed, address string) ([]Member, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := g.client(ctx, s).Do(req)
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
