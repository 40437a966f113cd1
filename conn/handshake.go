package conn

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// errOlder says that the server does not know IdentifyClient, which is fine.
var errOlder = errors.New("older than IdentifyClient")

// connect opens the socket and, with TLS, the session on it.
func connect(ctx context.Context, cfg Config) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	dial := cfg.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	nc, err := dial(ctx, "tcp", cfg.Addr)
	if err != nil || cfg.TLS == nil {
		return nc, err
	}
	tc := tls.Client(nc, tlsConfig(cfg))
	if err := tc.HandshakeContext(ctx); err != nil {
		_ = nc.Close()
		return nil, tlsError(err, tlsConfig(cfg).ServerName)
	}
	return tc, nil
}

func tlsConfig(cfg Config) *tls.Config {
	c := cfg.TLS.Clone()
	if c.MinVersion == 0 {
		c.MinVersion = tls.VersionTLS12
	}
	if c.ServerName == "" {
		c.ServerName, _, _ = net.SplitHostPort(cfg.Addr)
	}
	return c
}

// tlsError adds the likely cause, and ErrRefused where dialling again is no use.
func tlsError(err error, host string) error {
	var record tls.RecordHeaderError
	var cert *tls.CertificateVerificationError
	switch {
	case errors.As(err, &record):
		return fmt.Errorf("%w: TLS was asked for and the server does not speak it on this port: %w", ErrRefused, err)
	case errors.As(err, &cert):
		names := ""
		if len(cert.UnverifiedCertificates) > 0 {
			names = fmt.Sprintf(" (the certificate is for %v)", certificateNames(cert.UnverifiedCertificates[0]))
		}
		return fmt.Errorf("%w: the server's certificate is not accepted for %s%s%s: %w", ErrRefused, host, names, certificateCause(err), err)
	}
	return fmt.Errorf("TLS handshake, does the server speak TLS on this port? %w", err)
}

// certificateCause is the likely reason, and what to do about it.
func certificateCause(err error) string {
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &authority):
		return "; nobody that is trusted here has signed it: is its CA given?"
	case errors.As(err, &name):
		return "; connect by one of its names, or say which one to expect"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "; it has expired or is not valid yet: is the clock right?"
	}
	return ""
}

func certificateNames(c *x509.Certificate) []string {
	names := c.DNSNames
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}

// identify sends IdentifyClient and waits for the answer. The numbers of the server's answers are 64-bit from then on.
func (c *Conn) identify(ctx context.Context) error {
	answer := make(identified, 1) // told once, by the read loop or the clock; room for it, so that neither waits
	m := &pb.IdentifyClient{Version: proto.Int32(1)}
	if c.cfg.Name != "" { // an empty one would give the frame a length that a TLS server takes for a handshake, and waits
		m.ConnectionName = &c.cfg.Name
	}
	begun := c.now()
	if err := c.Call(handshake, messages.Of(messages.IdentifyClient, m), nil, answer, false); err != nil {
		return err
	}
	var err error
	select {
	case err = <-answer:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	c.roundTrip.Store(int64(c.now() - begun))
	switch {
	case errors.Is(err, errOlder):
		c.numbers32 = true
		return nil
	case errors.Is(err, messages.ErrMalformed), errors.Is(err, messages.ErrFrameTooLarge):
		return fmt.Errorf("%w: %w", ErrRefused, err)
	case errors.Is(err, ErrTimeout):
		return fmt.Errorf("the server accepted the connection and did not answer IdentifyClient within %v: %w", c.cfg.Timeout, err)
	case err != nil && c.cfg.TLS == nil && c.heard.Load() == 0 && c.speaksTLS(ctx):
		return fmt.Errorf("%w: the server speaks TLS on this port, and the connection is plain: %w", ErrRefused, err)
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return fmt.Errorf("the server closed the connection instead of answering IdentifyClient: %w", err)
	}
	return err
}

// speaksTLS tells why a server closes a plain connection without a word: it offers a TLS handshake, without credentials.
func (c *Conn) speaksTLS(ctx context.Context) bool {
	cfg := c.cfg
	cfg.TLS = &tls.Config{InsecureSkipVerify: true} // #nosec G402 -- nothing is sent over it
	cfg.Timeout = min(cfg.Timeout, time.Second)
	nc, err := connect(ctx, cfg)
	if err == nil {
		_ = nc.Close()
		return true
	}
	var alert tls.AlertError
	return errors.As(err, &alert)
}
