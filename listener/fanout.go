package listener

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/subscription"
)

// FanoutConfig says what a fan-out follows. The zero value of each field but Stream is usable.
type FanoutConfig struct {
	Stream   string                    // must not be empty; eventstore.All is everything, which needs the right to read $all
	Filter   *eventstore.Filter        // which events, as in subscription.Config. Default: all
	OnNotice func(subscription.Notice) // called on Run's goroutine between events; it must not wait for a consumer
	Call     []eventstore.CallOption   // for the calls that it makes
}

// Fanout is one live subscription for many consumers in the process: each event that is written from now on goes to every
// consumer that is attached when it comes. There is no checkpoint, and no event from before.
//
// Its states are Run's, whose goroutine is the only one:
//
//	idle         Run is not running; who attaches waits for the next run
//	subscribing  the server has not confirmed yet
//	following    each event goes into the buffers of all consumers, in one pass that nobody can hold up
//	held up      a consumer that says Wait has no room for the event under way: no other is taken until it has
//
//	idle        -> subscribing  Run
//	subscribing -> following    the server has confirmed: it pushes what is written from here on
//	following  <-> held up
//	any         -> idle         ctx ended, or the subscription has for ever: all consumers end
//
// A lost connection is no transition: the subscription returns to the place where it was, so that consumers miss nothing and
// get nothing twice. While held up it is a slow consumer itself: what it can hold is bounded, and beyond that it falls back to
// reading.
//
// Its methods are safe for concurrent use, and may be called by consumers and by OnNotice.
type Fanout struct {
	client *eventstore.Client
	cfg    FanoutConfig
	room   chan struct{} // to Run, from the last consumer that it waits for; holds one, so that nobody waits to send; never closed
	full   atomic.Int64  // consumers without room for the event under way: each takes it when it has

	mu        sync.Mutex                 // guards what follows and is taken before a consumer's
	running   bool                       // from Run's beginning to its end
	sub       *subscription.Subscription // of the run under way, when it is confirmed
	at        eventstore.From            // with sub: behind the last event that went out
	consumers map[string][]*Consumer     // by the stream that they want; "" is all
	attached  int
	events    int64
}

// FanoutStats tells how a fan-out fares.
type FanoutStats struct {
	Following    bool               // the server has confirmed the subscription of the run under way
	Consumers    int                // that are attached
	Waiting      int                // those of them whose full buffers hold it up now
	Events       int64              // that went out in all runs, each counted once, also those that nobody wanted
	Subscription subscription.Stats // of the run under way
}

// NewFanout makes a fan-out; Run starts it. The configuration is checked here.
func NewFanout(c *eventstore.Client, cfg FanoutConfig) (*Fanout, error) {
	f := &Fanout{client: c, cfg: cfg, room: make(chan struct{}, 1), consumers: map[string][]*Consumer{}}
	switch {
	case c == nil:
		return nil, f.wrap(fmt.Errorf("%w: no client", eventstore.ErrArgument))
	case cfg.Stream == "":
		return nil, f.wrap(fmt.Errorf("%w: the stream's name is empty", eventstore.ErrArgument))
	}
	if cfg.Filter != nil {
		if _, err := cfg.Filter.Message(); err != nil {
			return nil, f.wrap(err)
		}
	}
	return f, nil
}

// Run subscribes and hands out events until ctx ends, and then returns nil. It returns an error when the subscription ends: a
// hard-deleted stream, denied access, a closed client. Either way the consumers end, with ErrStopped or with that error, each
// behind what is in its buffer. One run at a time; after it there may be another, for consumers that are attached since.
//
// Consumer.Ready tells when the server has confirmed. Without consumers events are dropped as they come.
func (f *Fanout) Run(ctx context.Context) error {
	if err := f.begin(); err != nil {
		return f.wrap(err)
	}
	cause := f.wrap(ErrStopped)
	defer func() { f.end(cause) }() // also when OnNotice panics
	if err := unlessEnded(ctx, f.run(ctx)); err != nil {
		cause = f.wrap(err)
		return cause
	}
	return nil
}

func (f *Fanout) begin() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.running {
		return errors.New("it is running already")
	}
	f.running = true
	return nil
}

func (f *Fanout) end(cause error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.running, f.sub, f.attached = false, nil, 0
	for _, list := range f.consumers {
		for _, c := range list {
			c.index = -1
			c.end(cause)
		}
	}
	clear(f.consumers)
}

func (f *Fanout) run(ctx context.Context) error {
	sub, err := subscription.Open(ctx, f.client, subscription.Config{
		Stream: f.cfg.Stream, From: eventstore.End, Filter: f.cfg.Filter, OnNotice: f.cfg.OnNotice, Call: f.cfg.Call,
	})
	if err != nil {
		return err
	}
	defer func() { _ = sub.Close() }()
	f.confirmed(sub)
	for {
		e, err := sub.Recv(ctx)
		if err != nil {
			return err
		}
		if err := f.deliver(ctx, &e); err != nil {
			return err
		}
	}
}

// confirmed tells those that are attached already where they begin.
func (f *Fanout) confirmed(sub *subscription.Subscription) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sub, f.at = sub, sub.Checkpoint()
	for _, list := range f.consumers {
		for _, c := range list {
			c.place(f.at)
		}
	}
}

// deliver hands e out to all that have room at once, and waits for the others without the lock: consumers come and go meanwhile,
// and those that come begin behind e.
func (f *Fanout) deliver(ctx context.Context, e *eventstore.ResolvedEvent) error {
	size := sizeOf(e)
	f.mu.Lock()
	f.at = e.Checkpoint()
	f.events++
	f.offer(f.consumers[""], e, size)
	f.offer(f.wanting(e), e, size)
	f.mu.Unlock()
	for f.full.Load() > 0 {
		select {
		case <-f.room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// wanting is called with the lock, and returns those who want the stream of e alone.
func (f *Fanout) wanting(e *eventstore.ResolvedEvent) []*Consumer {
	stream := streamOf(*e)
	if e.All {
		stream = e.Original().Stream
	}
	if stream == "" { // a link that names none: those who want everything have it already
		return nil
	}
	return f.consumers[stream]
}

// offer is called with the lock. From the last to the first, since one that ends is replaced by the last.
func (f *Fanout) offer(list []*Consumer, e *eventstore.ResolvedEvent, size int) {
	for _, c := range slices.Backward(list) {
		if !c.offer(e, size) {
			f.remove(c)
			c.end(f.wrap(ErrSlow))
		}
	}
}

// Stats returns how the fan-out fares.
func (f *Fanout) Stats() FanoutStats {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := FanoutStats{Following: f.sub != nil, Consumers: f.attached, Waiting: int(f.full.Load()), Events: f.events}
	if f.sub != nil {
		s.Subscription = f.sub.Stats()
	}
	return s
}

// add and remove are called with the lock.
func (f *Fanout) add(c *Consumer) {
	list := f.consumers[c.opts.Stream]
	c.index = len(list)
	f.consumers[c.opts.Stream] = append(list, c)
	f.attached++
}

func (f *Fanout) remove(c *Consumer) {
	if c.index < 0 {
		return
	}
	list := f.consumers[c.opts.Stream]
	last := list[len(list)-1]
	list[c.index], last.index = last, c.index
	list[len(list)-1] = nil
	if f.consumers[c.opts.Stream] = list[:len(list)-1]; len(list) == 1 {
		delete(f.consumers, c.opts.Stream)
	}
	c.index = -1
	f.attached--
}

func (f *Fanout) wrap(err error) error { return fmt.Errorf("fan-out of %q: %w", f.cfg.Stream, err) }
