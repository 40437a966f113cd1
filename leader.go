package eventstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"

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

// heed passes a hint on to the supervisor. One that comes while it is busy is dropped: the call comes again, and with it the hint.
func (c *Client) heed(err error) {
	var n *notLeader
	if !errors.As(err, &n) {
		return
	}
	addr := n.tcp
	if c.tls != nil {
		addr = n.secure // or nothing: never a port that is not for TLS
	}
	select {
	case c.hints <- addr:
	default:
	}
}

// move goes where the hint says. A node names a dead leader for a second or more, so if that does not answer the resolver is
// asked, and if it knows nothing better the connection is kept. The old one stays until its calls are answered. It returns the
// new one, nil when there is none.
func (c *Client) move(ctx context.Context, old *conn.Conn, hint string) *conn.Conn {
	trying, cancel := context.WithCancel(ctx)
	defer cancel()
	c.loops.Go(func() { // an end of the old one is more urgent
		select {
		case <-old.Done():
			cancel()
		case <-trying.Done():
		}
	})
	var next *conn.Conn
	if hint != "" && hint != old.Addr() {
		next, _ = c.dialAddr(trying, hint) // on an error the resolver knows, or nobody
	}
	if next == nil {
		if addr, err := c.resolve(trying); err == nil && addr != old.Addr() && addr != hint {
			next, _ = c.dialAddr(trying, addr) // on an error the old one is as good
		}
	}
	if next == nil {
		return nil
	}
	c.welcome(trying, next)
	select {
	case <-c.hints: // it is of the old one
	default:
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
