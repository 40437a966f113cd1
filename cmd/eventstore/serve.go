package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"

	"github.com/goeventstore/eventstore/server"
)

// serve is the command that runs a server.
type serve struct {
	TCP         string `name:"tcp" default:"127.0.0.1:1113" placeholder:"ADDR" help:"Address for clients (${default})."`
	HTTP        string `name:"http" default:"127.0.0.1:2113" placeholder:"ADDR" help:"Address of the HTTP side (${default})."`
	DB          string `name:"db" placeholder:"DIR" help:"Folder for the log, which is kept there; without one it is in memory."`
	Projections string `enum:"none,system" default:"none" help:"Index streams to keep: none, or those of the system ($$ce-, $$et-, $$streams, $$category-)."`
}

// Validate is called by kong: what it returns is a wrong command line.
func (s *serve) Validate() error {
	if err := local(s.TCP); err != nil {
		return fmt.Errorf("--tcp: %w", err)
	}
	if err := local(s.HTTP); err != nil {
		return fmt.Errorf("--http: %w", err)
	}
	return nil
}

// Run serves until ctx ends.
func (s *serve) Run(ctx context.Context, stdout io.Writer) error {
	srv, err := server.Start(server.Config{TCP: s.TCP, HTTP: s.HTTP, DB: s.DB, Projections: s.Projections == "system"}) //nolint:contextcheck // its start waits for nothing
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%w: another server may be running there; --tcp and --http take other addresses, port 0 is any free one", err)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "%s\n%s\n", srv.URL(), srv.HTTPURL())
	if err == nil {
		<-ctx.Done()
	}
	return errors.Join(err, srv.Close()) //nolint:contextcheck // ctx has ended
}

// local reports what is wrong with an address to listen on. Everybody knows the passwords that a new server has, so that
// it listens where this machine alone can reach it.
func local(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%q is not HOST:PORT, such as 127.0.0.1:1113", addr)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%q: the port is a number from 0 to 65535, have %q", addr, port)
	}
	if ip := net.ParseIP(host); !strings.EqualFold(host, "localhost") && !ip.IsLoopback() {
		return fmt.Errorf("%q is not an address of this machine alone, and this server has passwords that everybody knows "+
			"and no TLS: use one such as 127.0.0.1:%s", addr, port)
	}
	return nil
}
