package eventstore

import (
	"context"
	"errors"
	"time"

	"github.com/goeventstore/eventstore/cluster"
	"github.com/goeventstore/eventstore/conn"
	"github.com/goeventstore/eventstore/messages"
)

// Who only subscribes is not told by any server that its node has stopped leading: subscriptions are served by every node, and stay.
// So a client of a cluster that prefers the leader asks its node now and then, beside the calls: it is none of them.

// leaderQuestion is a request that a node which does not lead refuses, whatever its state, and that costs one which leads next to
// nothing: nobody has the stream. Up to 5.x a node looks whether it leads before it looks at rights. From 20 on it is the other way
// round, so that the stream is one that everybody may read, and the client's credentials go along: without any those from 23.6 on deny
// everything. Who is denied even so is not told, and stays.
var leaderQuestion = messages.Request(&messages.EventRead{Stream: "leader-question", RequireLeader: true})

// watch returns when to ask: never if there is nothing to ask. A leader that has stepped down goes unnoticed for as long as one that is
// silent.
func (c *Client) watch() <-chan time.Time {
	if c.seeker == nil || c.preference != cluster.Leader {
		return nil
	}
	return time.Tick(c.heartbeatInterval + c.heartbeatTimeout)
}

// ask puts the question to a node, and has the answer followed as that to a call would be. One that leads by now, and did not a moment
// ago, ends the search for another.
func (c *Client) ask(cn *conn.Conn) {
	follow := func(err error) {
		if err == nil {
			c.pass(hint{leads: cn})
		} else {
			c.heed(err)
		}
	}
	_ = cn.Call(cn.NextTicket(), leaderQuestion, c.login(), asked{follow}, false) // a failure to send is the connection's end
}

// unlessDenied returns a connection that was made for the leader's sake, unless its node says that it does not lead, or is not ready. Then
// it is closed and counts as lost, so that who says that it leads is not believed; and nobody is sent to and fro between two nodes that
// name each other. One that takes its time over the answer may be busy as leaders are.
func (c *Client) unlessDenied(ctx context.Context, cn *conn.Conn, h hint) *conn.Conn {
	if !h.leader {
		return cn
	}
	answer := make(chan error, 1) // the one answer, or the end
	if cn.Call(cn.NextTicket(), leaderQuestion, c.login(), asked{func(err error) { answer <- err }}, false) != nil {
		return cn // it has ended: whoever takes it sees that
	}
	patience := time.NewTimer(c.gossipTimeout)
	defer patience.Stop()
	select {
	case err := <-answer:
		if !errors.Is(err, ErrNotLeader) && !errors.Is(err, ErrNotReady) {
			return cn
		}
		c.failed(cn.Addr(), true)
	case <-patience.C:
		return cn
	case <-ctx.Done(): // there is a better one, or none is wanted any more
	}
	cn.Close()
	return nil
}

// asked is told what is answered to the question: nil by a node that leads, the error of NotHandled by one that does not, and another one
// when nobody knows.
type asked struct{ tell func(error) }

var errUntold = errors.New("it does not tell whether it leads")

// Reply implements conn.Waiter.
func (a asked) Reply(command messages.Command, body []byte) {
	var m messages.EventReadCompleted
	switch {
	case command == messages.NotHandled:
		a.tell(notHandled(body))
	case command == messages.ReadEventCompleted && m.Decode(body, nil) == nil && m.Result != messages.ReadEventAccessDenied:
		a.tell(nil)
	default:
		a.tell(errUntold)
	}
}

// End implements conn.Waiter: who does not answer does not deny it.
func (a asked) End(err error) { a.tell(err) }
