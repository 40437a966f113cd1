package persistent

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/google/uuid"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/pieces"
	"github.com/goeventstore/eventstore/messages"
)

// Config says which group to join. The zero value of each field but Stream and Group is usable.
type Config struct {
	Stream, Group string
	// Window is how many messages may be delivered to this member and not answered. All of them are held in memory. Default: 10.
	Window int
	// AckEvery is how many acks are sent together, at most the window and 2,000. What is queued is also sent after AckAfter, when
	// the window is used up and Recv waits, by Close and at the end of Run. Default: half of the window.
	AckEvery int
	// AckAfter is how long an ack waits for others at most. Default: 10 ms.
	AckAfter time.Duration
	// MessageTimeout is that of the group's settings: a retry is not delayed beyond it, since then the server would try the message
	// again on its own. Default: 30 s, as in DefaultSettings.
	MessageTimeout time.Duration
	// RetryDelay is how long Run holds a message back whose handler failed, without a NackError, before it is tried again. It keeps its
	// place in the window meanwhile. Without one, a failure of a second can use up all retries. Default: none.
	RetryDelay time.Duration
	// StallAfter is the time after which the notices NotJoined and WindowFull are told. Default: 30 s.
	StallAfter time.Duration
	// OnNotice is called by Join, Recv and Run, one call at a time. It must not call them.
	OnNotice func(Notice)
	// Call is for the requests that it makes.
	Call []eventstore.CallOption
}

const (
	defaultWindow         = 10
	defaultAckAfter       = 10 * time.Millisecond
	defaultMessageTimeout = 30 * time.Second
	defaultStallAfter     = 30 * time.Second
	maxIDs                = 2000            // in a frame
	closeTime             = 2 * time.Second // for a server to take the last acks
)

func (c *Config) check() error {
	if c.Window == 0 {
		c.Window = defaultWindow
	}
	if c.AckEvery == 0 {
		c.AckEvery = max(1, c.Window/2)
	}
	for d, value := range map[*time.Duration]time.Duration{
		&c.AckAfter: defaultAckAfter, &c.MessageTimeout: defaultMessageTimeout, &c.StallAfter: defaultStallAfter,
	} {
		if *d == 0 {
			*d = value
		}
	}
	if err := checkNames(c.Stream, c.Group); err != nil {
		return err
	}
	switch {
	case c.Window < 1 || c.Window > math.MaxInt32:
		return argument("Window of %d: want 1 to %d", c.Window, math.MaxInt32)
	case c.AckEvery < 1:
		return argument("AckEvery of %d: want at least 1", c.AckEvery)
	case c.AckAfter < 0 || c.MessageTimeout < 0 || c.StallAfter < 0 || c.RetryDelay < 0:
		return argument("AckAfter of %v, MessageTimeout of %v, StallAfter of %v, RetryDelay of %v: want none below 0",
			c.AckAfter, c.MessageTimeout, c.StallAfter, c.RetryDelay)
	case c.AckAfter >= c.MessageTimeout:
		return argument("AckAfter of %v: acks would come after the MessageTimeout of %v", c.AckAfter, c.MessageTimeout)
	case c.RetryDelay >= c.MessageTimeout:
		return argument("RetryDelay of %v: the server tries again by itself after the MessageTimeout of %v", c.RetryDelay, c.MessageTimeout)
	}
	c.AckEvery = min(c.AckEvery, c.Window, maxIDs)
	return nil
}

// Group is a membership in a group. Its methods are safe for concurrent use; of several Recv one waits at a time.
type Group struct {
	client *eventstore.Client
	cfg    Config
	epoch  time.Time // when it was made

	turn chan struct{} // room for one: whoever has put one in is in Recv, and takes it out again
	// Of whoever has the turn:
	again  bool // was joined before
	told   bool // NotJoined, for this loss
	waits  backoff.BackOff
	paused bool      // since a message came
	joined time.Time // the last time
	names  messages.Names
	events eventstore.EventDecoder
	memory pieces.Memory            // what the messages' bytes, which are the exchange's, are copied to
	slab   []Message                // room for the next ones
	event  messages.PersistentEvent // decodes, again and again
	frames [slabSize]messages.Reply // what was taken from the exchange last
	behind []messages.Reply         // of these, what came behind the messages that are ready, and waits for its turn

	telling sync.Mutex // in OnNotice

	timers sync.WaitGroup // those that run, and what they run

	mu       sync.Mutex // guards what follows; changed with the turn: exchange, id, join
	exchange *eventstore.Exchange
	ready    []Message // were taken from the exchange, and wait for Recv
	id       string    // "stream::group", as the server gave it
	join     *joining  // the last one
	err      error     // why it ended
	closing  bool      // by Close
	cancel   context.CancelFunc
	waiting  bool // Recv waits for the exchange

	window  window
	acks    []uuid.UUID // queued
	ack     messages.PersistentAck
	nak     messages.PersistentNak
	flusher *time.Timer // of AckAfter
	armed   bool        // it runs
	delayed map[*delayed]struct{}
	sent    bool                 // something that Close has to see through
	queued  *eventstore.Exchange // has something to be written by unlock
	moved   time.Time            // when a message was last delivered or answered, if there is OnNotice
	stalled bool                 // WindowFull was told since then
	stats   Stats
}

// Stats tells how a member fares.
type Stats struct {
	Joined    bool
	Rejoins   int64
	InFlight  int // messages that Recv returned and that are not answered
	Buffered  int // messages that wait for Recv
	Queued    int // acks that are not sent yet
	Delivered int64
	Acked     int64
	Nacked    int64
	Stale     int64 // acks and naks that were refused with ErrStale, or queued when the connection was lost
}

// Join joins a group and returns when the server has confirmed. It waits until ctx ends; ErrGroupNotFound, ErrTooManySubscribers
// and eventstore.ErrAccessDenied are the server's verdicts.
func Join(ctx context.Context, c *eventstore.Client, cfg Config) (*Group, error) {
	g := &Group{client: c, cfg: cfg, epoch: time.Now(), turn: make(chan struct{}, 1), waits: newWaits(), delayed: map[*delayed]struct{}{}}
	if err := g.cfg.check(); err != nil {
		return nil, g.wrap("join", err)
	}
	for g.current() == nil {
		if err := g.tryJoin(ctx); err != nil {
			_ = g.Close() //nolint:contextcheck // there is nothing to wait for
			return nil, g.wrap("join", err)
		}
	}
	return g, nil
}

func newWaits() backoff.BackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(50*time.Millisecond), backoff.WithMultiplier(2),
		backoff.WithMaxInterval(5*time.Second), backoff.WithMaxElapsedTime(0))
}

func (g *Group) wrap(op string, err error) error { return wrap(op, g.cfg.Stream, g.cfg.Group, err) }

// Recv returns the next message, waiting for it until ctx ends; an error of ctx does not end the membership. Any other error
// has ended it, and comes again. A lost connection is no error: Recv joins again and goes on.
func (g *Group) Recv(ctx context.Context) (*Message, error) {
	if ctx.Err() == nil {
		if m := g.next(); m != nil { // mostly
			return m, nil
		}
	}
	select {
	case g.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, g.wrap("receive", contextError(ctx))
	}
	defer func() { <-g.turn }()
	for {
		if err := g.ended(); err != nil {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, g.wrap("receive", contextError(ctx))
		}
		if m := g.next(); m != nil {
			return m, nil
		}
		var err error
		if x := g.current(); x != nil {
			err = g.take(ctx, x)
		} else {
			err = g.tryJoin(ctx)
		}
		if err != nil {
			return nil, g.failed(ctx, err)
		}
	}
}

// next hands out a message that is ready. When the exchange has ended they are the server's again.
func (g *Group) next() *Message {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.ready) == 0 || g.exchange == nil || g.exchange.Err() != nil {
		return nil
	}
	m := &g.ready[0]
	g.ready = g.ready[1:]
	g.window.add(m, g.cfg.Window)
	g.stats.Delivered++
	g.move()
	return m
}

// move notes that a message was delivered or answered, for whoever is told of stalls. It is called with mu held.
func (g *Group) move() {
	if g.cfg.OnNotice != nil {
		g.moved, g.stalled = time.Now(), false
	}
}

// contextError is the context's error with its cause.
func contextError(ctx context.Context) error {
	err := ctx.Err()
	if cause := context.Cause(ctx); !errors.Is(err, cause) {
		err = fmt.Errorf("%w: %w", err, cause)
	}
	return err
}

// Messages returns the messages as a sequence, whose last pair is the error that ended it: of ctx, or of the membership.
func (g *Group) Messages(ctx context.Context) iter.Seq2[*Message, error] {
	return func(yield func(*Message, error) bool) {
		for {
			m, err := g.Recv(ctx)
			if !yield(m, err) || err != nil {
				return
			}
		}
	}
}

// Stats returns how the member fares.
func (g *Group) Stats() Stats {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.stats
	s.InFlight, s.Queued = g.window.n, len(g.acks)
	if g.exchange != nil {
		s.Joined, s.Buffered = true, g.buffered()
	}
	return s
}

// Close leaves the group: it sends the acks that are queued and the retries that are held back, and has the server stop
// sending, which then gives what is not answered to others. It waits up to 2 s for the server to take the last acks; an error
// says that they may be lost, so that their messages come again. A Recv that waits ends with eventstore.ErrClosed. Closing twice
// is fine.
func (g *Group) Close() error {
	g.mu.Lock()
	if g.err == nil {
		g.err = g.wrap("receive", eventstore.ErrClosed)
		g.closing = true
	}
	g.stopFlusher()
	g.hastenDelayed()
	err := g.flush()
	x, confirm := g.exchange, g.sent
	g.exchange = nil
	g.window.clear()
	g.stats.Stale += int64(len(g.acks))
	g.acks = nil
	if g.cancel != nil {
		g.cancel()
	}
	g.unlock()
	g.timers.Wait()
	if x == nil {
		return nil
	}
	defer func() { _ = x.Close() }()
	if err == nil && confirm {
		err = g.confirm(x)
	}
	if err != nil {
		return wrap("leave", g.cfg.Stream, g.cfg.Group, fmt.Errorf("the last acks may be lost: %w", err))
	}
	return nil
}

// confirm returns when the server has taken what was sent, which the answer to a request behind it says.
func (g *Group) confirm(x *eventstore.Exchange) error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	err := x.Send(ctx, messages.Raw(messages.UnsubscribeFromStream, nil)) // so that nothing more is delivered meanwhile
	if err == nil {
		err = g.client.Ping(ctx)
	}
	if lost := x.Err(); lost != nil {
		return lost // and the ping went over another connection, if over any
	}
	if errors.Is(err, eventstore.ErrNotAuthenticated) {
		return nil // an answer all the same
	}
	return err
}

// current is the exchange of a member that has joined.
func (g *Group) current() *eventstore.Exchange {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.exchange
}

func (g *Group) ended() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

// failed decides whether an error ends the membership.
func (g *Group) failed(ctx context.Context, err error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.err != nil:
		return g.err
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return g.wrap("receive", err)
	}
	g.err = g.wrap("receive", err)
	g.leave()
	return g.err
}
