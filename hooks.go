package eventstore

import (
	"context"
	"time"

	"github.com/goeventstore/eventstore/messages"
)

// Hook is a value that implements at least one of OnDial, OnConnect, OnDisconnect, OnCallStart, OnCallEnd, OnHeartbeat, OnRetry
// and OnLateFrame. Hooks observe, they change nothing. Their methods may be called from several goroutines at once.
//
// OnCallStart and OnCallEnd are called by the goroutine that makes the call, OnDial, OnConnect and OnDisconnect by the one that
// keeps the connection: who takes long there holds up what is observed. The others are called by a goroutine of their own,
// behind a queue of 1,024; who is slower than that misses some.
type Hook any

// The hooks, of one method each.
type (
	// OnDial is told of each attempt to connect, with TLS and the handshake.
	OnDial interface{ OnDial(info DialInfo) }
	// OnConnect is told when calls go to a new connection.
	OnConnect interface{ OnConnect(info ConnectInfo) }
	// OnDisconnect is told when a connection has ended, but by Close.
	OnDisconnect interface{ OnDisconnect(info DisconnectInfo) }
	// OnCallStart is told of each call when it has its place in flight. An operation may make several.
	OnCallStart interface{ OnCallStart(info CallStartInfo) }
	// OnCallEnd is told of its end: for AppendAsync, when Wait returns the outcome.
	OnCallEnd interface{ OnCallEnd(info CallEndInfo) }
	// OnHeartbeat is told how long the server took to answer one of the client's.
	OnHeartbeat interface{ OnHeartbeat(info HeartbeatInfo) }
	// OnRetry is told when a call is to be sent again.
	OnRetry interface{ OnRetry(info RetryInfo) }
	// OnLateFrame is told of an answer that nobody waits for any more.
	OnLateFrame interface{ OnLateFrame(info LateFrameInfo) }
)

// DialInfo is an attempt to connect.
type DialInfo struct {
	Addr string
	TLS  bool
	Took time.Duration
	Err  error // nil: it succeeded
	_    struct{}
}

// ConnectInfo is a connection that calls go to.
type ConnectInfo struct {
	Addr string
	_    struct{}
}

// DisconnectInfo is a connection that has ended.
type DisconnectInfo struct {
	Addr string
	Err  error // the first cause
	_    struct{}
}

// CallStartInfo is a call that begins.
type CallStartInfo struct {
	Command messages.Command
	_       struct{}
}

// CallEndInfo is a call that has ended.
type CallEndInfo struct {
	Command  messages.Command
	Addr     string // of the last attempt
	Attempts int
	Sent     int // bytes of the request's body, once; of an append: its data, metadata and types
	Received int // bytes of the answer's body
	Took     time.Duration
	Err      error // without the OpError; nil: there is an answer, whose result may be a refusal
	_        struct{}
}

// HeartbeatInfo is a heartbeat that was answered.
type HeartbeatInfo struct {
	Addr      string
	RoundTrip time.Duration
	_         struct{}
}

// RetryInfo is a call that is to be sent again.
type RetryInfo struct {
	Command messages.Command
	Attempt int           // those that failed
	After   time.Duration // the pause before the next
	Err     error         // of the last
	_       struct{}
}

// LateFrameInfo is an answer that nobody waits for.
type LateFrameInfo struct {
	Addr    string
	Command messages.Command
	Bytes   int
	_       struct{}
}

// WithHooks adds hooks; see Hook. One that implements none of the interfaces is refused. Default: none, which costs nothing.
func WithHooks(hooks ...Hook) Option {
	return option(func(o *options) {
		for _, h := range hooks {
			o.hooks.add(h)
		}
	})
}

// hooks has those of a client by what they are told.
type hooks struct {
	onDial       []OnDial
	onConnect    []OnConnect
	onDisconnect []OnDisconnect
	onCallStart  []OnCallStart
	onCallEnd    []OnCallEnd
	onHeartbeat  []OnHeartbeat
	onRetry      []OnRetry
	onLateFrame  []OnLateFrame

	err    error // of one that is none
	queued chan any
}

// hookQueue is how many observations wait for hooks that are slow.
const hookQueue = 1024

func (h *hooks) add(hook Hook) {
	is := false
	is = add(&h.onDial, hook) || is
	is = add(&h.onConnect, hook) || is
	is = add(&h.onDisconnect, hook) || is
	is = add(&h.onCallStart, hook) || is
	is = add(&h.onCallEnd, hook) || is
	is = add(&h.onHeartbeat, hook) || is
	is = add(&h.onRetry, hook) || is
	is = add(&h.onLateFrame, hook) || is
	if !is {
		h.err = argument("WithHooks: a %T implements none of the hooks", hook)
	}
}

func add[T any](to *[]T, hook Hook) bool {
	t, is := hook.(T)
	if is {
		*to = append(*to, t)
	}
	return is
}

func (h *hooks) calls() bool { return len(h.onCallStart)+len(h.onCallEnd) > 0 }

func (h *hooks) dialed(info DialInfo) {
	for _, hook := range h.onDial {
		hook.OnDial(info)
	}
}

func (h *hooks) connected(info ConnectInfo) {
	for _, hook := range h.onConnect {
		hook.OnConnect(info)
	}
}

func (h *hooks) disconnected(info DisconnectInfo) {
	for _, hook := range h.onDisconnect {
		hook.OnDisconnect(info)
	}
}

func (h *hooks) callStarted(info CallStartInfo) {
	for _, hook := range h.onCallStart {
		hook.OnCallStart(info)
	}
}

func (h *hooks) callEnded(info CallEndInfo) {
	for _, hook := range h.onCallEnd {
		hook.OnCallEnd(info)
	}
}

// later queues what happens on goroutines that must not wait.
func (h *hooks) later(info any) {
	select {
	case h.queued <- info:
	default:
	}
}

// tell calls the hooks for what was queued, until ctx ends.
func (h *hooks) tell(ctx context.Context) {
	for {
		select {
		case info := <-h.queued:
			h.tellOne(info)
		case <-ctx.Done():
			return
		}
	}
}

func (h *hooks) tellOne(info any) {
	switch info := info.(type) {
	case HeartbeatInfo:
		for _, hook := range h.onHeartbeat {
			hook.OnHeartbeat(info)
		}
	case RetryInfo:
		for _, hook := range h.onRetry {
			hook.OnRetry(info)
		}
	case LateFrameInfo:
		for _, hook := range h.onLateFrame {
			hook.OnLateFrame(info)
		}
	}
}

// begun notes the start of a call for its end.
func (k *call) begun() {
	k.started = time.Now()
	k.c.hooks.callStarted(CallStartInfo{Command: k.request.Command()})
}

// ended tells of the end of a call.
func (k *call) ended(err error) {
	info := CallEndInfo{Command: k.request.Command(), Took: time.Since(k.started), Err: err}
	if k.request == &k.append {
		info.Sent = k.payload()
	} else if b, err := k.request.AppendTo(nil); err == nil {
		info.Sent = len(b)
	}
	k.mu.Lock()
	info.Attempts, info.Received = k.attempts, k.received
	if k.conn != nil {
		info.Addr = k.conn.Addr()
	}
	k.mu.Unlock()
	k.c.hooks.callEnded(info)
}
