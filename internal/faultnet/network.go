package faultnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"
)

// Dialer opens connections: [TCP], a network in memory, a test server. Its connections should have a CloseWrite method,
// and one of Reset() and SetLinger(int) error, for the faults to be what they are called.
type Dialer interface {
	Dial(ctx context.Context, network, addr string) (net.Conn, error)
}

// TCP is the network of the operating system.
type TCP struct{}

// Dial connects to addr.
func (TCP) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, network, addr)
}

// Listen announces addr.
func (TCP) Listen(network, addr string) (net.Listener, error) {
	return (&net.ListenConfig{}).Listen(context.Background(), network, addr)
}

// Network is another network whose dialled connections have faults. It is safe for concurrent use and needs no Close.
type Network struct {
	inner    Dialer
	plan     Plan
	trace    trace
	recorder *recorder // nil: nothing is recorded
	conns    atomic.Int64
}

// New wraps a network. In a bubble of testing/synctest it belongs inside, for the times of its trace.
func New(inner Dialer, plan Plan) *Network {
	n := &Network{inner: inner, plan: plan}
	n.trace.start = time.Now()
	return n
}

// Record wraps a network without any fault and notes where the frames are, without a limit; see [Network.Recording].
func Record(inner Dialer) *Network {
	n := New(inner, Plan{})
	n.recorder = &recorder{}
	return n
}

// Dial connects over the wrapped network and returns a [*Conn] with the faults that the plan has for the next
// connection number. A dial that fails takes no number.
func (n *Network) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	inner, err := n.inner.Dial(ctx, network, addr)
	if err != nil {
		n.trace.note(0, err.Error())
		return nil, err
	}
	number := int(n.conns.Add(1))
	n.trace.note(number, "to "+addr)
	return newConn(n, number, inner), nil
}

// Listen is the wrapped network's. What it accepts has no faults of its own: each connection has them at the end that
// dialled.
func (n *Network) Listen(network, addr string) (net.Listener, error) {
	if l, ok := n.inner.(interface {
		Listen(network, addr string) (net.Listener, error)
	}); ok {
		return l.Listen(network, addr)
	}
	return nil, &net.OpError{Op: "listen", Net: network, Err: errors.ErrUnsupported}
}

// Conns returns how many connections were dialled.
func (n *Network) Conns() int { return int(n.conns.Load()) }

// Fired returns how many faults have happened.
func (n *Network) Fired() int { return n.trace.faults() }

// Recording returns where the frames were so far, by connection; nothing unless the network is from [Record].
func (n *Network) Recording() Recording { return n.recorder.recording() }

// Trace tells what happened, up to some hundred entries back.
func (n *Network) Trace() string { return n.trace.String() }

// Explain tells what somebody who has to repeat a failure needs: the seed, the plan, of a random one also the faults
// that it gave to the connections so far, and what happened. See [Report] for the command.
func (n *Network) Explain() string {
	var b strings.Builder
	if seed, ok := n.plan.Seed(); ok {
		fmt.Fprintf(&b, "seed %d\nplan: %s\nwhich for connections 1 to %d is: %s", seed, n.plan, n.Conns(), n.plan.Fixed(n.Conns()))
	} else {
		fmt.Fprintf(&b, "plan: %s", n.plan)
	}
	fmt.Fprintf(&b, "\ntrace: %s", n.Trace())
	return b.String()
}
