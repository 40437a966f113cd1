package eventstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/goeventstore/eventstore/cluster"
	"github.com/goeventstore/eventstore/conn"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// notLeader is ErrNotLeader or ErrServerReadOnly with where the node believes the leader to be, "" when it does not say.
type notLeader struct {
	verdict     error
	tcp, secure string
}

func (e *notLeader) Error() string {
	switch {
	case e.tcp != "":
		return fmt.Sprintf("%v, which is at %s", e.verdict, e.tcp)
	case e.secure != "":
		return fmt.Sprintf("%v, which is at %s for TLS", e.verdict, e.secure)
	}
	return e.verdict.Error()
}

func (e *notLeader) Unwrap() error { return e.verdict }

// leaderHint makes the error of a NotHandled that names the leader. What of it makes no sense is left out.
func leaderHint(verdict error, info []byte) error {
	var m pb.LeaderInfo
	if err := (messages.Reply{Command: messages.NotHandled, Body: info}).Unmarshal(&m); err != nil {
		return &notLeader{verdict: verdict}
	}
	address := func(host string, port int32) string {
		if host == "" || port < 1 || port > 65535 {
			return ""
		}
		return net.JoinHostPort(host, strconv.Itoa(int(port)))
	}
	return &notLeader{
		verdict: verdict,
		tcp:     address(m.GetExternalTcpAddress(), m.GetExternalTcpPort()),
		secure:  address(m.GetExternalSecureTcpAddress(), m.GetExternalSecureTcpPort()),
	}
}

// hint is what an answer says about where a call belongs.
type hint struct {
	addr   string     // of the leader; "": the node does not say
	leader bool       // the call needs the leader, whatever the client prefers
	leads  *conn.Conn // nobody is to be looked for: this is a connection to the leader
}

// heed passes a hint on to the supervisor, which knows the newest.
func (c *Client) heed(err error) {
	var n *notLeader
	h := hint{leader: c.preference == cluster.Leader}
	switch {
	case errors.As(err, &n):
		h = hint{addr: n.tcp, leader: true}
		if c.tls != nil {
			h.addr = n.secure // or nothing: never a port that is not for TLS
		}
	case !errors.Is(err, ErrNotReady):
		return
	}
	c.pass(h)
}

// pass has the supervisor take a hint next. It does not wait.
func (c *Client) pass(h hint) {
	for {
		select {
		case c.hints <- h:
			return
		default:
		}
		select {
		case <-c.hints:
		default:
		}
	}
}

// move goes to another node, where the hint says or the cluster does. It returns the new connection, nil when there is none: then the
// old one is as good. That stays until its calls are answered.
func (c *Client) move(ctx context.Context, old *conn.Conn, h hint) *conn.Conn {
	trying, cancel := context.WithCancel(ctx)
	defer cancel()
	c.loops.Go(func() { // an end of the old one is more urgent
		select {
		case <-old.Done():
			cancel()
		case <-trying.Done():
		}
	})
	if h.addr == old.Addr() {
		h.addr = ""
	}
	var next *conn.Conn
	if c.seeker != nil {
		next = c.dialEither(trying, old.Addr(), h)
	} else {
		next = c.dialHint(trying, old.Addr(), h)
	}
	if next == nil || c.welcome(trying, next) != nil {
		return nil
	}
	c.reconnects.Add(1)
	c.publish(next)
	c.loops.Go(func() {
		cause := fmt.Errorf("replaced by the connection to %s", next.Addr())
		old.Retire(ctx, cause)
		c.mu.Lock()
		c.past.add(old)
		c.mu.Unlock()
		c.hooks.disconnected(DisconnectInfo{Addr: old.Addr(), Err: cause})
	})
	return next
}

// dialHint goes where the hint says, and if nobody answers there where the resolver does.
func (c *Client) dialHint(ctx context.Context, from string, h hint) *conn.Conn {
	if h.addr != "" {
		if cn, err := c.dialAdvertised(ctx, h.addr); err == nil {
			return cn
		}
	}
	addr, err := c.resolve(ctx)
	if err != nil || addr == from || addr == h.addr {
		return nil
	}
	cn, _ := c.dialAddr(ctx, addr, c.dial) // on an error the old one is as good
	return cn
}

// dialEither goes where the hint says, and at the same time where the cluster does: a node names a dead leader for a second and more,
// and a paused one as long as it is paused, while gossip may be late too. The first that answers is taken.
func (c *Client) dialEither(ctx context.Context, from string, h hint) *conn.Conn {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	reached := make(chan *conn.Conn, 2) // each puts one in, or nil
	over := make(chan struct{})         // closed when the hint has come to nothing
	go func() {
		cn := (*conn.Conn)(nil)
		if h.addr != "" {
			var err error
			if cn, err = c.dialAdvertised(ctx, h.addr); err == nil {
				cn = c.unlessDenied(ctx, cn, h)
			} else if ctx.Err() == nil {
				c.failed(h.addr, false)
			}
		}
		close(over)
		reached <- cn
	}()
	go func() { reached <- c.dialFound(ctx, over, from, h) }()
	var next *conn.Conn
	for range 2 {
		switch cn := <-reached; {
		case cn == nil:
		case next == nil:
			next = cn
			cancel()
		default:
			cn.Close()
		}
	}
	return next
}

// dialFound goes where the cluster says. As long as the hint may still come to something, the cluster is asked again.
func (c *Client) dialFound(ctx context.Context, over <-chan struct{}, from string, h hint) *conn.Conn {
	ask := func(ctx context.Context) (string, error) {
		if h.leader {
			return c.seeker.Leader(ctx, from, h.addr)
		}
		addr, err := c.seeker.Resolve(ctx)
		if err == nil && (addr == "" || addr == from || addr == h.addr) {
			err = errNoOther
		}
		return addr, err
	}
	again := time.NewTicker(c.gossipTimeout) // an answer takes as long at most
	defer again.Stop()
	for {
		asked := time.Now()
		if addr, err := ask(ctx); err == nil {
			cn, _, err := c.dialMember(ctx, addr, asked, ask)
			if err != nil {
				return nil // the old one is as good
			}
			return c.unlessDenied(ctx, cn, h)
		}
		select {
		case <-over:
			return nil
		case <-ctx.Done():
			return nil
		case <-again.C:
			select { // an answer may take as long as the wait
			case <-over:
				return nil
			default:
			}
		}
	}
}

// errNoOther says that the cluster knows of nobody else.
var errNoOther = errors.New("nobody else is known")
