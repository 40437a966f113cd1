package eventstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/goeventstore/eventstore/cluster"
	"github.com/goeventstore/eventstore/conn"
	"github.com/goeventstore/eventstore/messages"
)

// newResolver makes the resolver that the target asks for. Gossip goes over HTTPS with TLS, else over HTTP, unless the key
// gossip says so in as many words; one is never tried in place of the other.
func (c *Client) newResolver() (cluster.Resolver, error) {
	if c.target.Scheme == "tcp" {
		return cluster.Static(c.target.Addr), nil
	}
	cfg := cluster.Config{Preference: c.preference, Secure: c.tls != nil, Timeout: c.gossipTimeout, Dial: c.dial}
	if c.target.Scheme == "gossip" {
		cfg.Seeds = strings.Split(c.target.Addr, ",")
	} else {
		cfg.DNS = c.target.Addr
	}
	var err error
	switch {
	case c.gossipScheme == "http":
	case c.tls != nil:
		cfg.TLS = c.tls
	case c.gossipScheme == "https":
		cfg.TLS, err = c.secure.config()
	}
	if err != nil {
		return nil, err
	}
	g, err := cluster.NewGossip(cfg)
	if err != nil {
		return nil, argument("%w", err)
	}
	return g, nil
}

// dialNext resolves anew and dials what comes of it, with credentials that are asked for anew. The address is "" when there is
// none.
func (c *Client) dialNext(ctx context.Context) (*conn.Conn, string, error) {
	if err := c.supplied(ctx); err != nil {
		return nil, "", err
	}
	addr, err := c.resolve(ctx)
	if err != nil {
		return nil, "", err
	}
	cn, err := c.dialAddr(ctx, addr)
	return cn, addr, err
}

func (c *Client) resolve(ctx context.Context) (string, error) {
	addr, err := c.resolver.Resolve(ctx)
	switch {
	case errors.Is(err, cluster.ErrRefused):
		return "", fmt.Errorf("%w: %w", ErrRefused, err)
	case err == nil && addr == "":
		return "", errors.New("the resolver returned no address")
	}
	return addr, err
}

func (c *Client) dialAddr(ctx context.Context, addr string) (*conn.Conn, error) {
	begun := time.Now()
	cfg := conn.Config{
		Addr:              addr,
		Dial:              c.dial,
		TLS:               c.tls,
		Name:              c.name,
		Timeout:           c.timeout,
		HeartbeatInterval: c.heartbeatInterval,
		HeartbeatTimeout:  c.heartbeatTimeout,
		Logger:            c.logger,
	}
	if len(c.hooks.onHeartbeat) > 0 {
		cfg.OnHeartbeat = func(d time.Duration) { c.hooks.later(HeartbeatInfo{Addr: addr, RoundTrip: d}) }
	}
	if len(c.hooks.onLateFrame) > 0 {
		cfg.OnLate = func(command messages.Command, size int) {
			c.hooks.later(LateFrameInfo{Addr: addr, Command: command, Bytes: size})
		}
	}
	cn, err := conn.Dial(ctx, cfg)
	c.hooks.dialed(DialInfo{Addr: addr, TLS: c.tls != nil, Took: time.Since(begun), Err: err})
	return cn, err
}
