package eventstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/goeventstore/eventstore/conn"
	"github.com/goeventstore/eventstore/messages"
)

// credentials is what requests carry that have none of their own, and what they carried before it was renewed.
type credentials struct{ block, before []byte }

// login returns the client's credentials as the wire has them; nil: anonymous.
func (c *Client) login() []byte {
	if now := c.current.Load(); now != nil {
		return now.block
	}
	return nil
}

// supplied asks the function of WithCredentialsFunc, if there is one.
func (c *Client) supplied(ctx context.Context) error {
	if c.supply == nil {
		return nil
	}
	user, password, err := c.supply(ctx)
	if err != nil {
		return fmt.Errorf("WithCredentialsFunc: %w", err)
	}
	block, err := login(user, password)
	if err != nil {
		return err
	}
	if before := c.login(); !bytes.Equal(block, before) || c.current.Load() == nil {
		c.current.Store(&credentials{block: block, before: before})
	}
	return nil
}

// renewed reports whether the client has other credentials than those that were refused, and asks for them if need be. Those
// of the call itself (As) are not the client's to renew.
func (c *Client) renewed(ctx context.Context, refused []byte) bool {
	now := c.current.Load()
	if c.supply == nil || now == nil {
		return false
	}
	if bytes.Equal(refused, now.block) {
		if err := c.supplied(ctx); err != nil {
			return false // the refusal is what the caller should hear of
		}
		return !bytes.Equal(refused, c.login())
	}
	return now.before != nil && bytes.Equal(refused, now.before)
}

const (
	// greetEvery is how long a greeting waits for its answer before the next is sent.
	greetEvery = 500 * time.Millisecond
	// usersTime is how long a server may refuse credentials that are good: one that was just started, or whose cluster has
	// just elected its first leader, does not know its users yet.
	usersTime = 3 * time.Second
)

// greet asks the server for an answer to a request with the client's credentials. One that was just restarted accepts
// connections for a second or two before it knows its users, and until then drops such requests without a word, or refuses
// them: whatever were sent in that time would have to wait for its time-out, or fail. It returns at the first answer that is
// no refusal, and with an error when all were refused for usersTime, when none came in the time of one attempt, or when the
// connection or ctx has ended. A server that says that it is not ready to one who has no credentials refuses nothing for good: the
// error is then ErrNotReady, at once if there are other nodes.
func (c *Client) greet(ctx context.Context, cn *conn.Conn) error {
	block := c.login()
	if block == nil {
		return nil
	}
	ping := messages.Raw(messages.Ping, nil)
	answers := make(greeting, 1)
	var fresh readiness
	overall := time.NewTimer(c.timeout)
	defer overall.Stop()
	again := time.NewTicker(greetEvery)
	defer again.Stop()
	refused := false
	begun := time.Now()
	for {
		// A failure to send is the connection's end.
		_ = cn.Call(cn.NextTicket(), ping, block, answers, false)
		for next := false; !next; {
			select {
			case answer := <-answers:
				if answer != messages.NotAuthenticated {
					return nil
				}
				refused = true
				_ = cn.Call(cn.NextTicket(), anybodys, nil, &fresh, false)
			case <-again.C:
				switch {
				case fresh.Load() && c.seeker != nil:
					return notReady(cn)
				case fresh.Load(): // wait
				case refused && (c.doubted || time.Since(begun) >= min(usersTime, c.timeout)):
					return fmt.Errorf("%w: by %s, for %v", ErrNotAuthenticated, cn.Addr(), time.Since(begun).Round(greetEvery))
				}
				next = true
			case <-overall.C:
				if fresh.Load() {
					return notReady(cn)
				}
				return fmt.Errorf("%w: %s accepted the connection and does not answer", ErrTimeout, cn.Addr())
			case <-cn.Done():
				return cn.Err()
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

// welcome greets the server after a reconnect. One that is not ready is closed. To any other the calls that wait go out
// afterwards, whatever it says: they are answered then.
func (c *Client) welcome(ctx context.Context, cn *conn.Conn) error {
	err := c.greet(ctx, cn)
	c.doubted = errors.Is(err, ErrNotAuthenticated) // then nobody waits for it the next time
	if !errors.Is(err, ErrNotReady) {
		return nil
	}
	cn.Close()
	c.failed(cn.Addr(), false)
	return err
}

func notReady(cn *conn.Conn) error {
	return fmt.Errorf("%w: %s does not know its users yet", ErrNotReady, cn.Addr())
}

// anybodys is a request that every server which is ready answers, if only by denying access.
var anybodys = messages.Request(&messages.EventRead{Stream: "$settings", Number: 0, RequireLeader: true})

// readiness is set while a server says that it is not ready.
type readiness struct{ atomic.Bool }

// Reply implements conn.Waiter.
func (r *readiness) Reply(command messages.Command, body []byte) {
	r.Store(command == messages.NotHandled && errors.Is(notHandled(body), ErrNotReady))
}

// End implements conn.Waiter.
func (*readiness) End(error) {}

// greeting is told what the server answers.
type greeting chan messages.Command

// Reply implements conn.Waiter.
func (g greeting) Reply(command messages.Command, _ []byte) {
	select {
	case g <- command:
	default:
	}
}

// End implements conn.Waiter: that a greeting timed out or lost its connection is seen by greet itself.
func (greeting) End(error) {}
