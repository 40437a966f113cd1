package eventstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/goeventstore/eventstore/cluster"
	"github.com/goeventstore/eventstore/conn"
	"github.com/goeventstore/eventstore/internal/pause"
	"github.com/goeventstore/eventstore/messages"
)

// newResolver makes the resolver that the target asks for. Gossip goes over HTTPS with TLS, else over HTTP, unless the key
// gossip says so in as many words; one is never tried in place of the other.
func (c *Client) newResolver() (cluster.Resolver, error) {
	if c.target.Scheme == "tcp" {
		return cluster.Static(c.target.Addr), nil
	}
	cfg := cluster.Config{
		Preference: c.preference, Secure: c.tls != nil, Timeout: c.gossipTimeout, Translate: c.translate, Dial: c.dial,
		Lookup: c.lookup, LookupSRV: c.lookupSRV, Logger: c.logger,
	}
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
	asked := time.Now()
	addr, err := c.resolve(ctx)
	if err != nil {
		return nil, "", err
	}
	if c.seeker != nil {
		return c.dialMember(ctx, addr, asked, c.resolve)
	}
	cn, err := c.dialAddr(ctx, addr, c.dial)
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

// seeker is a resolver that knows several nodes, by the addresses that they advertise: a *cluster.Gossip, or what embeds one.
type seeker interface {
	cluster.Resolver
	Leader(ctx context.Context, not ...string) (addr string, err error)
	Failed(addr string, connected bool)
}

// failed tells a resolver that wants to know of an address that could not be dialled, or whose connection was lost.
func (c *Client) failed(addr string, connected bool) {
	if c.seeker != nil && addr != "" {
		c.seeker.Failed(addr, connected)
	}
}

// dialMember dials a node of a cluster, of which it was told when it asked last. As long as that takes it keeps asking who it should
// be: one that accepts connections and hangs is left as soon as another has taken its place. The address is the last one that was
// dialled.
func (c *Client) dialMember(
	ctx context.Context, addr string, asked time.Time, ask func(context.Context) (string, error),
) (*conn.Conn, string, error) {
	for {
		dialing, cancel := context.WithCancel(ctx)
		better := make(chan string, 1) // at most one is put in, and then it is closed
		go func() {
			defer close(better)
			// An answer takes as long at most. Who was asked early may have told what was no longer true when the last had answered.
			for pause.For(dialing, time.Until(asked.Add(c.gossipTimeout))) == nil {
				asked = time.Now()
				c.failed(addr, true) // or whoever has not heard of its end is believed
				if next, err := ask(dialing); err == nil && next != addr {
					better <- next
					cancel()
					return
				}
			}
		}()
		cn, err := c.dialAdvertised(dialing, addr)
		cancel()
		next, found := <-better
		if err == nil {
			return cn, addr, nil
		}
		if ctx.Err() == nil {
			c.failed(addr, false)
		}
		if !found || ctx.Err() != nil {
			return nil, addr, err
		}
		addr = next
	}
}

// dialAdvertised dials an address that a node advertises, where WithAddressTranslation says that it is.
func (c *Client) dialAdvertised(ctx context.Context, addr string) (*conn.Conn, error) {
	if c.translate == nil {
		return c.dialAddr(ctx, addr, c.dial)
	}
	where, err := c.translate(addr)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: refused by WithAddressTranslation: %w", addr, err)
	}
	cn, err := c.dialAddr(ctx, addr, func(ctx context.Context, network, _ string) (net.Conn, error) {
		return c.dial(ctx, network, where)
	})
	if err != nil && where != addr {
		err = fmt.Errorf("%w (it was dialled at %s)", err, where)
	}
	return cn, err
}

func (c *Client) dialAddr(
	ctx context.Context, addr string, dial func(ctx context.Context, network, addr string) (net.Conn, error),
) (*conn.Conn, error) {
	begun := time.Now()
	cfg := conn.Config{
		Addr:              addr,
		Dial:              dial,
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
