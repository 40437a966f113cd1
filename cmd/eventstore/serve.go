package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"syscall"

	"github.com/goeventstore/eventstore/server"
)

// serve is the command that runs a server.
type serve struct {
	TCP         string `name:"tcp" default:"127.0.0.1:1113" placeholder:"ADDR" help:"Address for clients (${default})."`
	HTTP        string `name:"http" default:"127.0.0.1:2113" placeholder:"ADDR" help:"Address of the HTTP side (${default})."`
	Secure      string `placeholder:"ADDR" help:"Address for clients with TLS (127.0.0.1:1115 with a certificate)."`
	TLSCert     string `name:"tls-cert" placeholder:"FILE" help:"Certificate of the server, in PEM."`
	TLSKey      string `name:"tls-key" placeholder:"FILE" help:"Key of the certificate, in PEM."`
	DB          string `name:"db" placeholder:"DIR" help:"Folder for the log, which is kept there; without one it is in memory."`
	Cluster     int    `placeholder:"N" help:"Run N nodes that are a cluster, all in this process: for tests and demos, since they end together and their logs are in memory. Each has ports 10 above those of the one before."`
	Dialect     string `default:"4.1" placeholder:"NAME" help:"Generation of servers to speak like: 3.9.3, 3.9.4, 4.1, 5.0, 20.10, 22.6 or 23.10 (${default})."`
	Projections string `enum:"none,system" default:"none" help:"Index streams to keep: none, or those of the system ($$ce-, $$et-, $$streams, $$category-)."`
	Log         string `enum:"text,json,off" default:"text" help:"Log on the standard error: text, json or off (${default})."`
	Insecure    bool   `help:"Listen where others can reach it without TLS or with the passwords that a new server has, and need no certificate."`

	dialect server.Dialect
}

// maxNodes is how many nodes a cluster may have.
const maxNodes = 9

// defaultSecure is where a server with a certificate has TLS when --tcp has not.
const defaultSecure = "127.0.0.1:1115"

// Validate is called by kong: what it returns is a wrong command line.
func (s *serve) Validate() (err error) {
	if s.dialect, err = server.ParseDialect(s.Dialect); err != nil {
		return fmt.Errorf("--dialect: %w", err)
	}
	certified := s.TLSCert != ""
	switch {
	case s.Cluster < 0 || s.Cluster > maxNodes:
		return fmt.Errorf("--cluster: want 1 to %d nodes, have %d", maxNodes, s.Cluster)
	case s.Cluster > 0 && s.DB != "":
		return errors.New("--cluster and --db do not go together: the nodes of a cluster have their logs in memory")
	case certified != (s.TLSKey != ""):
		return errors.New("--tls-cert and --tls-key go together")
	case s.Secure != "" && !certified:
		return errors.New("--secure needs --tls-cert and --tls-key")
	case s.dialect.TLS && !certified && s.Insecure:
		s.dialect.TLS = false
	case s.dialect.TLS && !certified:
		return fmt.Errorf("--dialect: servers of %s have TLS on every port: --tls-cert and --tls-key, or --insecure for none", s.Dialect)
	case s.dialect.TLS && s.Secure != "":
		return fmt.Errorf("--secure: servers of %s have TLS on --tcp already", s.Dialect)
	case certified && !s.dialect.TLS && s.Secure == "":
		s.Secure = defaultSecure
	}
	for _, l := range s.listeners() {
		if err := s.safe(l); err != nil {
			return fmt.Errorf("%s: %w", l.flag, err)
		}
	}
	return nil
}

// Run serves until ctx ends, or an operator has told the server to shut down.
func (s *serve) Run(ctx context.Context, std streams) error {
	cfg := server.Config{
		TCP: s.TCP, HTTP: s.HTTP, Secure: s.Secure, DB: s.DB, Dialect: s.dialect, Projections: s.Projections == "system",
		Logger: logger(s.Log, std.err),
	}
	if s.TLSCert != "" {
		pair, err := tls.LoadX509KeyPair(s.TLSCert, s.TLSKey)
		if err != nil {
			return fmt.Errorf("--tls-cert %s, --tls-key %s: %w", s.TLSCert, s.TLSKey, err)
		}
		cfg.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	}
	if err := s.ownPasswords(ctx); err != nil {
		return err
	}
	srv, urls, err := s.start(ctx, cfg)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%w: another server may be running there; --tcp, --http and --secure take other addresses, port 0 is any free one", err)
	}
	if err != nil {
		return err
	}
	for _, url := range urls {
		if url != "" && err == nil {
			_, err = fmt.Fprintln(std.out, url)
		}
	}
	if err == nil {
		select {
		case <-ctx.Done():
		case <-srv.Done():
		}
	}
	return errors.Join(err, srv.Close())
}

// running is a server, or a cluster.
type running interface {
	Done() <-chan struct{}
	Close() error
}

// start starts what is to be served, and returns its addresses: of a cluster, which has a leader then, at last the one that leads to all of it.
func (s *serve) start(ctx context.Context, cfg server.Config) (running, []string, error) {
	if s.Cluster == 0 {
		srv, err := server.Start(cfg) //nolint:contextcheck // its start waits for nothing
		if err != nil {
			return nil, nil, err
		}
		return srv, []string{srv.URL(), srv.HTTPURL(), srv.SecureURL()}, nil
	}
	c, err := server.StartCluster(s.Cluster, cfg) //nolint:contextcheck // likewise
	if err != nil {
		return nil, nil, err
	}
	if err = c.WaitReady(ctx); err != nil && ctx.Err() == nil {
		return nil, nil, errors.Join(err, c.Close()) //nolint:contextcheck // likewise
	}
	var urls []string
	for id := range s.Cluster {
		urls = append(urls, c.NodeURL(id), c.HTTPURL(id), c.SecureURL(id))
	}
	return c, append(urls, c.URL()), nil
}

// logger writes to w in a format.
func logger(format string, w io.Writer) *slog.Logger {
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, nil))
	case "json":
		return slog.New(slog.NewJSONHandler(w, nil))
	}
	return nil
}
