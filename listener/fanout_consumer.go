package listener

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"

	"github.com/goeventstore/eventstore"
)

var (
	// ErrStopped ends the consumers of a fan-out whose Run has returned since its context ended.
	ErrStopped = errors.New("the fan-out was stopped")
	// ErrSlow ends a consumer that says Detach and whose buffer had no room for an event.
	ErrSlow = errors.New("the consumer was too slow")
	// ErrDetached is what Recv returns after Consumer.Close.
	ErrDetached = errors.New("the consumer was closed")
)

// Overflow says what becomes of an event for which a consumer's buffer has no room.
type Overflow int

const (
	// Wait holds the fan-out up until there is room, and all other consumers with it: nobody loses anything, and the slowest sets
	// the pace. It is the zero Overflow.
	Wait Overflow = iota
	// DropOldest makes room by dropping the oldest events in the buffer; Recv tells how many with a *GapError in their place.
	DropOldest
	// Detach ends the consumer: behind what is in its buffer Recv returns ErrSlow.
	Detach
)

// String returns the policy's name.
func (o Overflow) String() string { return [...]string{"Wait", "DropOldest", "Detach"}[o] }

// AttachOptions say what a consumer gets and what it may hold. The zero value is usable.
type AttachOptions struct {
	Stream     string   // only this stream's events: of links, those that lead to it, but of $all its own alone. Default: everything
	OnOverflow Overflow // Default: Wait
	Buffer     int      // events that wait for Recv at most. Default: 1024
	Bytes      int      // data and metadata of those events at most, or one event that is larger. Default: 8 MiB
}

const (
	defaultConsumerBuffer = 1024
	defaultConsumerBytes  = 8 << 20
)

// GapError stands in the place of events that a consumer with DropOldest has lost. It is told once, and the consumer goes on
// behind it. Reading from From to Until brings the events back.
type GapError struct {
	Dropped int64           // how many events it would have got
	From    eventstore.From // behind the last event before the gap, or where the consumer began
	Until   eventstore.From // behind the last event of the gap
}

// Error tells how many there were and between which places.
func (e *GapError) Error() string {
	return fmt.Sprintf("%d events were dropped, from %q until %q", e.Dropped, e.From, e.Until)
}

// Consumer is a place in a fan-out with a buffer of its own. Ready, Recv and Events are for one goroutine at a time; the other
// methods are safe for concurrent use. It holds no goroutine, but who attached it must Close it unless it has ended: with Wait one
// that is forgotten stops everybody.
//
//	attached -> ended  Close, which empties the buffer; an overflow with Detach; the end of Run. It never comes back: attach another
type Consumer struct {
	fanout *Fanout
	opts   AttachOptions
	index  int           // in the fan-out's list, whose lock guards it; -1 in none
	wake   chan struct{} // to the one that Recv or Ready waits in; holds one, so that nobody waits to send; never closed

	mu      sync.Mutex                 // guards what follows
	ring    []eventstore.ResolvedEvent // grows up to opts.Buffer
	head    int                        // of the oldest in ring
	stats   ConsumerStats
	from    eventstore.From // behind what Recv has returned
	placed  bool            // from is known
	gap     int64           // dropped in front of the oldest and not told
	lost    eventstore.From // with gap: behind the last of them
	err     error           // why it ended: told behind what is in ring
	idle    bool            // somebody waits for wake
	awaited bool            // Run waits until there is room for next
	next    eventstore.ResolvedEvent
}

// ConsumerStats tells how a consumer fares.
type ConsumerStats struct {
	Delivered int64 // events that Recv has returned
	Dropped   int64 // events that were dropped, with DropOldest
	Buffered  int   // events that wait for Recv
	Bytes     int   // data and metadata of those
}

// Attach adds a consumer, which gets every event that comes from here on; what was written just before may not have come yet.
// While no run is confirmed it gets all that is written after the confirmation of the next. It never waits. With options that make
// no sense the consumer has ended, with ErrArgument.
func (f *Fanout) Attach(opts AttachOptions) *Consumer {
	if opts.Buffer == 0 {
		opts.Buffer = defaultConsumerBuffer
	}
	if opts.Bytes == 0 {
		opts.Bytes = defaultConsumerBytes
	}
	c := &Consumer{fanout: f, opts: opts, index: -1, wake: make(chan struct{}, 1), from: eventstore.End}
	if opts.Buffer < 0 || opts.Bytes < 0 || opts.OnOverflow < Wait || opts.OnOverflow > Detach {
		c.err = f.wrap(fmt.Errorf("%w: attach with %d events, %d bytes, policy %d",
			eventstore.ErrArgument, opts.Buffer, opts.Bytes, int(opts.OnOverflow)))
		return c
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sub != nil {
		c.place(f.at)
	}
	f.add(c)
	return c
}

// Ready waits until the server has confirmed the fan-out's subscription: every event that is written after it has returned nil
// comes, and Checkpoint tells where that begins. Who reads the stream up to there has what was written before, and nothing falls
// between. It returns an error of ctx, or the one that ended the consumer before.
func (c *Consumer) Ready(ctx context.Context) error {
	for {
		c.mu.Lock()
		placed, err := c.placed, c.err
		c.idle = !placed
		c.mu.Unlock()
		if placed {
			return nil
		}
		if err == nil {
			err = c.sleep(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// Recv returns the next event, waiting for it until ctx ends. An error of ctx does not end the consumer, and neither does a
// *GapError. Any other error has ended it, and comes again. The event is shared with the other consumers: nobody may change it; Clone
// one to do so, or to keep it without the memory that it shares.
func (c *Consumer) Recv(ctx context.Context) (eventstore.ResolvedEvent, error) {
	for {
		if ctx.Err() != nil {
			return eventstore.ResolvedEvent{}, c.fanout.wrap(ctx.Err())
		}
		e, ok, err := c.take()
		if ok || err != nil {
			return e, err
		}
		if err := c.sleep(ctx); err != nil {
			return e, err
		}
	}
}

// Events returns the events as a sequence, whose last pair is the error that ended it. After an error of ctx or a *GapError
// another sequence goes on.
func (c *Consumer) Events(ctx context.Context) iter.Seq2[eventstore.ResolvedEvent, error] {
	return func(yield func(eventstore.ResolvedEvent, error) bool) {
		for {
			e, err := c.Recv(ctx)
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// Checkpoint returns the place behind the last event that Recv returned, or behind the gap that it told: where a subscription
// would go on. Before the first it is where the consumer began, and End until Ready.
func (c *Consumer) Checkpoint() eventstore.From {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.from
}

// Stats returns how the consumer fares.
func (c *Consumer) Stats() ConsumerStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stats
}

// Close detaches the consumer, drops what is in its buffer, and ends a Recv that waits: with ErrDetached, unless it had ended
// before. It returns nil.
func (c *Consumer) Close() error {
	f := c.fanout
	f.mu.Lock()
	f.remove(c)
	f.mu.Unlock()
	c.end(f.wrap(ErrDetached))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ring, c.head, c.gap = nil, 0, 0
	c.stats.Buffered, c.stats.Bytes = 0, 0
	return nil
}

func (c *Consumer) sleep(ctx context.Context) error {
	select {
	case <-c.wake:
		return nil
	case <-ctx.Done():
		return c.fanout.wrap(ctx.Err())
	}
}

// signal wakes who waits for ch, which has room for one: he looks again at all that he waits for.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// wakeUp is called with the lock.
func (c *Consumer) wakeUp() {
	if c.idle {
		c.idle = false
		signal(c.wake)
	}
}

// place says where it begins.
func (c *Consumer) place(at eventstore.From) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.from, c.placed = at, true
	c.wakeUp()
}

// end keeps the first cause.
func (c *Consumer) end(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = cause
	}
	c.wakeUp()
	c.release()
}

// release lets Run go on, as far as it waits for c.
func (c *Consumer) release() {
	if c.awaited {
		c.awaited, c.next = false, eventstore.ResolvedEvent{}
		if c.fanout.full.Add(-1) == 0 {
			signal(c.fanout.room)
		}
	}
}

// offer puts e into the buffer, or with Wait next to it. False says that there is no room, with Detach.
func (c *Consumer) offer(e *eventstore.ResolvedEvent, size int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.fits(size) {
		switch c.opts.OnOverflow {
		case Wait:
			c.awaited, c.next = true, *e
			c.fanout.full.Add(1)
			return true
		case DropOldest:
			oldest := c.pop()
			c.gap++
			c.lost = oldest.Checkpoint()
			c.stats.Dropped++
		case Detach:
			return false
		}
	}
	c.push(e, size)
	c.wakeUp()
	return true
}

// fits is true for an empty buffer, whatever the size: an event that is larger than all of it must get through.
func (c *Consumer) fits(size int) bool {
	return c.stats.Buffered == 0 || c.stats.Buffered < c.opts.Buffer && c.stats.Bytes+size <= c.opts.Bytes
}

func (c *Consumer) push(e *eventstore.ResolvedEvent, size int) {
	if c.stats.Buffered == len(c.ring) {
		larger := make([]eventstore.ResolvedEvent, min(max(2*len(c.ring), 16), c.opts.Buffer))
		n := copy(larger, c.ring[c.head:])
		copy(larger[n:], c.ring[:c.head])
		c.ring, c.head = larger, 0
	}
	i := c.head + c.stats.Buffered
	if i >= len(c.ring) {
		i -= len(c.ring)
	}
	c.ring[i] = *e
	c.stats.Buffered++
	c.stats.Bytes += size
}

func (c *Consumer) pop() eventstore.ResolvedEvent {
	e := c.ring[c.head]
	c.ring[c.head] = eventstore.ResolvedEvent{}
	if c.head++; c.head == len(c.ring) {
		c.head = 0
	}
	c.stats.Buffered--
	c.stats.Bytes -= sizeOf(&e)
	return e
}

// take returns what Recv is to return, if there is anything.
func (c *Consumer) take() (e eventstore.ResolvedEvent, ok bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.gap > 0: // it is in front of the oldest
		gap := &GapError{Dropped: c.gap, From: c.from, Until: c.lost}
		c.gap, c.from = 0, c.lost
		return e, false, gap
	case c.stats.Buffered > 0:
		e = c.pop()
		c.from = e.Checkpoint()
		c.stats.Delivered++
		if c.awaited {
			if size := sizeOf(&c.next); c.fits(size) {
				c.push(&c.next, size)
				c.release()
			}
		}
		return e, true, nil
	case c.err != nil:
		return e, false, c.err
	}
	c.idle = true
	return e, false, nil
}

// sizeOf is what an event counts for in bytes.
func sizeOf(e *eventstore.ResolvedEvent) int {
	size := 0
	if e.Event != nil {
		size += len(e.Event.Data) + len(e.Event.Metadata)
	}
	if e.Link != nil {
		size += len(e.Link.Data) + len(e.Link.Metadata)
	}
	return size
}
