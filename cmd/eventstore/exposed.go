package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/goeventstore/eventstore/internal/memnet"
	"github.com/goeventstore/eventstore/server"
)

// Everybody knows the passwords that a new server has, and without TLS everybody on the way sees those that it got later:
// without --insecure a server with either listens where this machine alone can reach it.

// listener is an address to listen on.
type listener struct {
	flag, addr string
	tls        bool
}

func (s *serve) listeners() []listener {
	all := []listener{{"--tcp", s.TCP, s.dialect.TLS}, {"--http", s.HTTP, s.dialect.TLS}}
	if s.Secure != "" {
		all = append(all, listener{"--secure", s.Secure, true})
	}
	return all
}

// safe reports what is wrong with an address, as far as the command line tells. A folder may have passwords of its own.
func (s *serve) safe(l listener) error {
	host, port, err := net.SplitHostPort(l.addr)
	if err != nil {
		return fmt.Errorf("%q is not HOST:PORT, such as 127.0.0.1:1113", l.addr)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%q: the port is a number from 0 to 65535, have %q", l.addr, port)
	}
	var why []string
	if s.DB == "" {
		why = append(why, "passwords that everybody knows")
	}
	if !l.tls {
		why = append(why, "no TLS")
	}
	if s.Insecure || len(why) == 0 || local(host) {
		return nil
	}
	return fmt.Errorf("%q is not an address of this machine alone, and this server has %s: use one such as 127.0.0.1:%s, "+
		"or --insecure if others may have it", l.addr, strings.Join(why, " and "), port)
}

// local reports whether a host is this machine, seen from itself.
func local(host string) bool {
	return strings.EqualFold(host, "localhost") || net.ParseIP(host).IsLoopback()
}

// ownPasswords looks into the folder of a server that others will reach: it must not have the passwords of a new one. Nobody
// can reach it while it is looked at.
func (s *serve) ownPasswords(ctx context.Context) (err error) {
	exposed := false
	for _, l := range s.listeners() {
		host, _, _ := net.SplitHostPort(l.addr) // safe has looked at it
		exposed = exposed || !local(host)
	}
	if !exposed || s.Insecure {
		return nil
	}
	network := memnet.New()
	srv, err := server.Start(server.Config{DB: s.DB, Listen: network.Listen}) //nolint:contextcheck // its start waits for nothing
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, srv.Close()) }() //nolint:contextcheck // it is quick, and has to be whole
	transport := &http.Transport{DialContext: network.Dial, DisableKeepAlives: true}
	for _, login := range []string{"admin", "ops"} {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.HTTPURL()+"/ping", http.NoBody)
		if err != nil {
			return err
		}
		r.SetBasicAuth(login, "changeit")
		answer, err := transport.RoundTrip(r)
		if err != nil {
			return fmt.Errorf("look for passwords that everybody knows: %w", err)
		}
		_ = answer.Body.Close()
		if answer.StatusCode != http.StatusUnauthorized {
			return fmt.Errorf("the user %s in %s has the password that everybody knows, and others would reach this server: "+
				"give it another while the server listens on addresses of this machine alone, or --insecure", login, s.DB)
		}
	}
	return nil
}
