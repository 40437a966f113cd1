package eventstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/goeventstore/eventstore/cluster"
	"github.com/goeventstore/eventstore/conn"
	"github.com/goeventstore/eventstore/messages"
)

// Client is a connection to a server that heals itself: when it is lost, the supervisor dials again, with backoff and
// without giving up, and calls that were under way are sent again by the rules in DESIGN.md. All methods are safe for
// concurrent use; one client serves a whole program.
type Client struct {
	options
	target  Target
	anyNode bool                        // of calls without RequireLeader
	current atomic.Pointer[credentials] // of requests without their own; nil: anonymous

	live     atomic.Pointer[conn.Conn] // where calls are sent; nil while there is none
	seeker   seeker                    // the resolver of a cluster; nil: there is one node, or a resolver that knows no more
	hints    chan hint                 // room for one, the newest; calls send, the supervisor takes
	sequence atomic.Uint64             // numbers the calls, so that they are sent again in their order
	limit    limiter                   // the operations in flight
	room     limiter                   // the bytes of appends among them
	waiting  waiting                   // who waits for either, or for a connection
	// unfiltered is the connection to a server that does not filter $all itself.
	unfiltered atomic.Pointer[conn.Conn]
	calls      sync.Pool // of *call; one a client, as a channel must not cross the bubbles of testing/synctest

	stop       context.CancelFunc // ends the supervisor and what it dials
	loops      sync.WaitGroup     // the supervisor, the timers of delayed calls, and who tells the hooks
	doubted    bool               // the last connection's server refused the credentials; the supervisor's own
	reconnects atomic.Int64
	draining   atomic.Bool // Shutdown was called

	mu      sync.Mutex // guards what follows; taken before a call's and a connection's, never held while waiting
	closed  bool
	state   State
	changed chan struct{} // closed and replaced when state changes
	queue   callQueue     // calls that wait for a connection, in their order
	delayed map[*call]*time.Timer
	past    traffic // of connections that have ended
}

// Phase is what a client is doing about its connection.
type Phase int

// The phases. Connecting -> Connected -> Reconnecting -> Connected ... -> Closed; Connect returns in Connected.
const (
	Connecting Phase = iota
	Connected
	Reconnecting
	Closed
)

// String returns the phase in a word.
func (p Phase) String() string {
	return [...]string{"connecting", "connected", "reconnecting", "closed"}[p]
}

// State tells what a client is doing about its connection.
type State struct {
	Phase Phase
	Addr  string // of the server, when Connected
	Err   error  // why it is not Connected: the last failure
}

// String returns the state in a few words.
func (s State) String() string {
	switch {
	case s.Phase == Connected:
		return "connected to " + s.Addr
	case s.Err != nil:
		return fmt.Sprintf("%v: %v", s.Phase, s.Err)
	}
	return s.Phase.String()
}

// connectTime is how long Connect tries when its context has no deadline.
const connectTime = 10 * time.Second

// Connect returns a client that is connected and identified. It tries until ctx ends, or for 10 s when ctx has no deadline,
// and then returns the last error of each address, and what was under way when the time was up; a port that does not speak
// the protocol (HTTP, TLS where plain was asked for and the other way round, a certificate that is not accepted) ends it
// at once. The credentials are not checked here, but by WithAuthenticate: with wrong ones the first call fails with
// ErrNotAuthenticated. A cluster that does not know its users yet, since there was no leader so far, is waited for; so is a
// node of tcp:// with WithAuthenticate.
//
// ParseTarget tells what a target may be. An option beats what the target says.
func Connect(ctx context.Context, target string, opts ...Option) (*Client, error) {
	c, err := newClient(target, opts)
	if err != nil {
		return nil, &OpError{Op: "connect", Err: err}
	}
	first, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	supervised, stop := context.WithCancel(context.WithoutCancel(ctx)) // the client outlives the call
	c.stop = stop
	if c.hooks.queued != nil {
		c.loops.Go(func() { c.hooks.tell(supervised) })
	}
	c.publish(first)
	c.loops.Go(func() { c.supervise(supervised, first) })
	return c, nil
}

func newClient(target string, opts []Option) (*Client, error) {
	t, err := ParseTarget(target)
	if err != nil {
		return nil, err
	}
	c := &Client{
		options: defaultOptions(),
		target:  t,
		hints:   make(chan hint, 1),
		changed: make(chan struct{}),
		delayed: make(map[*call]*time.Timer),
	}
	t.apply(&c.options)
	for _, o := range opts {
		if o == nil {
			return nil, argument("a nil Option")
		}
		o.apply(&c.options)
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	if len(c.hooks.onHeartbeat)+len(c.hooks.onRetry)+len(c.hooks.onLateFrame) > 0 {
		c.hooks.queued = make(chan any, hookQueue)
	}
	if err := c.prepareTLS(); err != nil {
		return nil, err
	}
	if c.resolver == nil {
		if c.resolver, err = c.newResolver(); err != nil {
			return nil, err
		}
	}
	c.seeker, _ = c.resolver.(seeker)
	if c.supply == nil {
		block, err := login(c.user, c.password)
		if err != nil {
			return nil, err
		}
		c.current.Store(&credentials{block: block})
	}
	c.anyNode = c.preference != cluster.Leader
	if c.requireLeader != nil {
		c.anyNode = !*c.requireLeader
	}
	c.limit.max = int64(c.maxInFlight)
	c.room.max = int64(c.maxInFlightBytes)
	c.waiting.max = int64(c.queued)
	c.limit.queue, c.room.queue, c.queue.waiting = &c.waiting, &c.waiting, &c.waiting
	c.calls.New = func() any { return &call{c: c, done: make(chan struct{}, 1)} }
	return c, nil
}

// prepareTLS makes the configuration that the target asks for, unless WithTLS gave one.
func (c *Client) prepareTLS() (err error) {
	if c.tls == nil && c.secure.on {
		c.tls, err = c.secure.config()
	}
	return err
}

// connect dials until it succeeds, it is of no use, or ctx ends.
func (c *Client) connect(ctx context.Context) (*conn.Conn, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, connectTime)
		defer cancel()
	}
	waits := c.backoff()
	var failures failures
	for attempt := 1; ; attempt++ {
		cn, addr, err := c.dialNext(ctx)
		if err == nil && (c.authenticate || c.seeker != nil) {
			err = c.greet(ctx, cn)
			if c.doubted = errors.Is(err, ErrNotAuthenticated); c.doubted && !c.authenticate {
				err = nil // the first call tells
			}
			if err != nil {
				cn.Close()
				c.failed(addr, false)
			}
		}
		if err == nil {
			return cn, nil
		}
		if until, _ := ctx.Deadline(); ctx.Err() == nil && time.Now().Before(until) {
			failures.note(addr, err)
		} else { // that the time was up does not take the place of what was wrong until then
			failures = append(failures, failure{addr, err})
		}
		final := errors.Is(err, conn.ErrRefused) || errors.Is(err, ErrNotAuthenticated) || errors.Is(err, ErrArgument)
		if !final && sleep(ctx, waits) == nil {
			continue
		}
		err = failures.join()
		if ctx.Err() != nil && !errors.Is(err, ctx.Err()) {
			err = fmt.Errorf("%w: %w", ctx.Err(), err)
		}
		return nil, &OpError{Op: "connect", Addr: c.target.Addr, Attempts: attempt, Err: err}
	}
}

// failures keeps the last error of each address, in the order of their first, and behind them that of the attempt for which
// the time was too short.
type failures []failure

type failure struct {
	addr string
	err  error
}

func (f *failures) note(addr string, err error) {
	for i := range *f {
		if (*f)[i].addr == addr {
			(*f)[i].err = err
			return
		}
	}
	*f = append(*f, failure{addr, err})
}

func (f failures) join() error {
	if len(f) == 1 {
		return f[0].err
	}
	errs := make([]error, len(f))
	for i := range f {
		errs[i] = f[i].err
	}
	return errors.Join(errs...)
}

// State returns what the client is doing about its connection.
func (c *Client) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// Ping asks the server for an answer, through the same queue, connection and retries as every other call.
func (c *Client) Ping(ctx context.Context) error {
	_, err := c.exec(ctx, "ping", messages.Raw(messages.Ping, nil), c.perCall())
	return err
}

// Close ends the client at once: calls under way fail with ErrClosed, exchanges end, and when it returns no goroutine of the
// client is left. Closing twice is fine.
func (c *Client) Close() error {
	c.mu.Lock()
	first := !c.closed
	c.closed = true
	c.live.Store(nil)
	waiting := c.queue.takeAll()
	for k, timer := range c.delayed {
		if timer.Stop() {
			c.loops.Done()
		}
		waiting = append(waiting, k)
	}
	clear(c.delayed)
	if first {
		c.setState(State{Phase: Closed, Err: ErrClosed})
	}
	c.mu.Unlock()
	if first {
		c.logState(State{Phase: Closed, Err: ErrClosed})
	}
	for _, k := range waiting {
		k.finish(ErrClosed)
	}
	c.stop()
	c.loops.Wait()
	return nil
}

// Shutdown refuses new calls with ErrClosed, waits until those under way have settled or ctx ends, and closes the client. It
// returns the error of ctx if that came first.
func (c *Client) Shutdown(ctx context.Context) error {
	c.draining.Store(true)
	err := c.limit.drained(ctx)
	_ = c.Close()
	if err != nil {
		return &OpError{Op: "shutdown", Addr: c.target.Addr, Err: err}
	}
	return nil
}

// setState is called with mu held; logState follows without.
func (c *Client) setState(s State) {
	c.state = s
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *Client) logState(s State) {
	c.logger.Info("connection state", slog.String("target", c.target.String()), slog.String("state", s.String()))
}
