package eventstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/goeventstore/eventstore/conn"
	"github.com/goeventstore/eventstore/messages"
)

// Window bounds what an Exchange holds for its owner who has not taken it yet. A single frame over Bytes is held when
// nothing else is.
type Window struct{ Frames, Bytes int }

// Exchange is a long-lived correlated exchange on one connection: a request, and everything that comes with its
// correlation id. It never survives its connection: owners open a new one. What arrived before the end is delivered, then the
// cause: ErrConnectionLost, ErrOverflow when the window was full, ErrNotAuthenticated or a *ServerError when the server
// refused, ErrClosed.
//
// Recv is for one goroutine at a time; the other methods are safe for concurrent use.
//
// States: open, ended. open -> ended by overflow, by a refusal, by the connection's end or by Close; the first decides Err.
type Exchange struct {
	conn        *conn.Conn
	ticket      conn.Ticket
	credentials []byte
	window      Window
	arrived     chan struct{}         // room for one: the read loop puts one in when there is something, Recv takes it
	err         atomic.Pointer[error] // why it ended

	// Recv's own:
	out   frames // what it walks
	taken count

	// The read loop's own:
	came count
	seen struct{ frames, bytes int64 } // of taken, when the window was last found full: looking there for each frame would cost both sides

	mu sync.Mutex // guards what follows
	in frames     // what the read loop fills, swapped with out when that is empty
}

// count is of frames and of their bytes. One goroutine writes it and others may read it.
type count struct{ frames, bytes atomic.Int64 }

func (c *count) add(frames, bytes int) {
	c.frames.Store(c.frames.Load() + int64(frames))
	c.bytes.Store(c.bytes.Load() + int64(bytes))
}

// frames is a run of frames in one piece of memory.
type frames struct {
	commands []messages.Command
	ends     []int // in bytes
	bytes    []byte
	next     int // to be taken
}

// keepFrames is how much memory an exchange that was drained keeps for what comes.
const keepFrames = 256 << 10

func (f *frames) reset() {
	if cap(f.bytes) > keepFrames {
		*f = frames{}
		return
	}
	f.commands, f.ends, f.bytes, f.next = f.commands[:0], f.ends[:0], f.bytes[:0], 0
}

func (f *frames) empty() bool { return f.next == len(f.commands) }

func (f *frames) body(i int) []byte {
	start := 0
	if i > 0 {
		start = f.ends[i-1]
	}
	return f.bytes[start:f.ends[i]:f.ends[i]]
}

// Open sends r and returns when the first answer is there, which is the first Recv. Like Call it follows NotHandled and, for
// subscriptions, tries again after a lost connection or a time-out, until ctx ends.
func (c *Client) Open(ctx context.Context, r messages.Request, w Window, opts ...CallOption) (*Exchange, error) {
	op := "open " + r.Command().String()
	o, err := c.callOptions(opts)
	if err == nil && (w.Frames < 1 || w.Bytes < 1) {
		err = argument("a window of %d frames and %d bytes: want at least 1 of each", w.Frames, w.Bytes)
	}
	if err == nil && c.readOnly && changes(r.Command()) {
		err = ErrReadOnly
	}
	if err != nil {
		return nil, &OpError{Op: op, Err: err}
	}
	_, repeat := rules(r.Command())
	waits := c.backoff()
	for attempt := 1; ; attempt++ {
		x, err := c.openOnce(ctx, r, w, o)
		if err == nil {
			return x, nil
		}
		if ctx.Err() != nil && !errors.Is(err, ctx.Err()) {
			err = contextError(ctx, err) // that it ended is why there is no further attempt
		}
		failed := &OpError{Op: op, Attempts: attempt, Err: err}
		if x != nil {
			failed.Addr = x.Addr()
		}
		refused := notTaken(err)
		lost := errors.Is(err, ErrConnectionLost) || errors.Is(err, ErrTimeout)
		again := refused || lost && repeat
		if !again || ctx.Err() != nil || c.maxAttempts > 0 && attempt >= c.maxAttempts {
			failed.Unknown = x != nil && !refused && changes(r.Command())
			return nil, failed
		}
		if refused {
			c.heed(err)
			if err := c.rest(ctx, waits, x.conn); err != nil {
				failed.Err = fmt.Errorf("%w: %w", err, failed.Err)
				return nil, failed
			}
		}
	}
}

// rest waits for the next interval, as the pause of a call: no longer than attempts go to the connection that is to be given time.
func (c *Client) rest(ctx context.Context, waits backoff.BackOff, from *conn.Conn) error {
	d := waits.NextBackOff()
	if d == backoff.Stop {
		return errStopped
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		c.mu.Lock()
		changed, moved := c.changed, c.live.Load() != from
		c.mu.Unlock()
		if moved {
			return nil
		}
		select {
		case <-changed:
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// notTaken reports an error of NotHandled: the server did nothing.
func notTaken(err error) bool {
	return errors.Is(err, ErrNotReady) || errors.Is(err, ErrBusy) || errors.Is(err, ErrNotLeader) || errors.Is(err, ErrServerReadOnly)
}

// openOnce makes one attempt; an exchange beside an error has ended.
func (c *Client) openOnce(ctx context.Context, r messages.Request, w Window, o callOptions) (*Exchange, error) {
	if c.draining.Load() {
		return nil, ErrClosed
	}
	cn, err := c.connection(ctx)
	if err != nil {
		return nil, err
	}
	x := &Exchange{conn: cn, ticket: cn.NextTicket(), credentials: o.credentials, window: w, arrived: make(chan struct{}, 1)}
	if err := cn.Open(x.ticket, r, o.credentials, x); err != nil {
		switch {
		case errors.Is(err, conn.ErrClosed):
			return nil, ErrClosed
		case cn.Err() != nil:
			return x, err
		}
		return nil, tooLarge(err)
	}
	timer := time.NewTimer(c.timeout)
	defer timer.Stop()
	select {
	case <-x.arrived:
		err = x.first()
	case <-timer.C:
		err = ErrTimeout
	case <-ctx.Done():
		err = contextError(ctx, nil)
	}
	if err != nil {
		_ = x.Close()
		return x, err
	}
	return x, nil
}

// first is the error of an exchange that ended before anything came, or whose first answer is NotHandled.
func (x *Exchange) first() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.in.empty() {
		if x.in.commands[0] == messages.NotHandled {
			return notHandled(x.in.body(0))
		}
		x.signal() // for Recv
		return nil
	}
	if err := x.Err(); errors.Is(err, ErrConnectionLost) {
		return err
	}
	x.signal()
	return nil
}

func (x *Exchange) signal() {
	select {
	case x.arrived <- struct{}{}:
	default:
	}
}

// Reply implements conn.Waiter, on the read loop.
func (x *Exchange) Reply(command messages.Command, body []byte) {
	x.Replies([]messages.Frame{{Command: command, Body: body}})
}

// Replies implements conn.Many, on the read loop: what came together is kept together, and whoever waits for it wakes up once.
func (x *Exchange) Replies(all []messages.Frame) {
	var err error
	var full bool
	n, size := 0, 0
	for ; n < len(all); n++ {
		f := &all[n]
		if f.Command != messages.NotHandled {
			err = refusal(f.Command, f.Body)
		}
		if full = x.full(n, size, len(f.Body)); err == nil && full {
			err = ErrOverflow
		}
		if err != nil {
			break
		}
		size += len(f.Body)
	}
	x.keep(all[:n], size)
	if err != nil {
		x.end(err, full)
	}
}

// keep holds frames for Recv.
func (x *Exchange) keep(all []messages.Frame, size int) {
	if len(all) == 0 || x.Err() != nil {
		return // it was closed meanwhile
	}
	x.came.add(len(all), size)
	x.mu.Lock()
	first := x.in.empty()
	for i := range all {
		x.in.commands = append(x.in.commands, all[i].Command)
		x.in.bytes = append(x.in.bytes, all[i].Body...)
		x.in.ends = append(x.in.ends, len(x.in.bytes))
	}
	x.mu.Unlock()
	if first { // who finds nothing and waits, does so before these
		x.signal()
	}
}

// full reports whether the window has no room for a frame of this size behind others that are not counted yet.
func (x *Exchange) full(frames, bytes, size int) bool {
	for again := false; ; again = true {
		held := x.came.frames.Load() - x.seen.frames + int64(frames)
		full := held >= int64(x.window.Frames) || held > 0 && x.came.bytes.Load()-x.seen.bytes+int64(bytes)+int64(size) > int64(x.window.Bytes)
		if !full || again {
			return full
		}
		x.seen.frames, x.seen.bytes = x.taken.frames.Load(), x.taken.bytes.Load()
	}
}

// End implements conn.Waiter.
func (x *Exchange) End(err error) {
	switch {
	case errors.Is(err, conn.ErrClosed):
		err = ErrClosed
	case errors.Is(err, conn.ErrAnswerTooLarge):
		err = tooLarge(err)
	}
	x.end(err, false)
}

// end keeps the first cause and, if it is ours, has the server stop sending.
func (x *Exchange) end(err error, unsubscribe bool) {
	if x.err.CompareAndSwap(nil, &err) && x.conn.Forget(x.ticket) && unsubscribe {
		// On an error the connection has ended, and with it what this was to end.
		_ = x.conn.Send(x.ticket, messages.Raw(messages.UnsubscribeFromStream, nil), x.credentials)
	}
	x.signal()
}

// Recv returns the next frame, waiting for it until ctx ends, which does not end the exchange. The reply's bytes are valid
// until the next Recv.
func (x *Exchange) Recv(ctx context.Context) (messages.Reply, error) {
	var one [1]messages.Reply
	_, err := x.RecvMany(ctx, one[:])
	return one[0], err
}

// RecvMany is Recv for as many frames as are there and into has room for. It waits for the first only.
func (x *Exchange) RecvMany(ctx context.Context, into []messages.Reply) (n int, err error) {
	if x.out.empty() {
		if err := x.wait(ctx); err != nil {
			return 0, err
		}
	}
	size := 0
	for ; n < len(into) && !x.out.empty(); n++ {
		into[n] = messages.Reply{Command: x.out.commands[x.out.next], Body: x.out.body(x.out.next)}
		size += len(into[n].Body)
		x.out.next++
	}
	x.taken.add(n, size)
	return n, nil
}

// wait waits for frames to walk.
func (x *Exchange) wait(ctx context.Context) error {
	for {
		if ctx.Err() != nil {
			return contextError(ctx, nil)
		}
		x.out.reset()
		err := x.Err() // before looking: what came before the end is there
		x.mu.Lock()
		x.in, x.out = x.out, x.in
		x.mu.Unlock()
		if !x.out.empty() {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case <-x.arrived:
		case <-ctx.Done():
			return contextError(ctx, nil)
		}
	}
}

// Held reports how many frames wait for Recv.
func (x *Exchange) Held() int {
	taken := x.taken.frames.Load() // first, as it only grows up to the other
	return int(x.came.frames.Load() - taken)
}

// Send sends r with the exchange's correlation id. It does not wait, and r is never sent again.
func (x *Exchange) Send(ctx context.Context, r messages.Request) error {
	if err := x.refuses(ctx); err != nil {
		return err
	}
	return tooLarge(x.conn.Send(x.ticket, r, x.credentials))
}

// Queue is Send for one who calls Flush next. Unlike Flush it may be called with a lock held.
func (x *Exchange) Queue(ctx context.Context, r messages.Request) error {
	if err := x.refuses(ctx); err != nil {
		return err
	}
	return tooLarge(x.conn.Queue(x.ticket, r, x.credentials))
}

// refuses says why nothing can be sent.
func (x *Exchange) refuses(ctx context.Context) error {
	if ctx.Err() != nil {
		return contextError(ctx, nil)
	}
	return x.Err()
}

// Flush has written what was queued, at once if the socket takes it without waiting.
func (x *Exchange) Flush() { x.conn.Flush() }

// Err is why the exchange ended, nil while it is open. What arrived before the end may still wait for Recv.
func (x *Exchange) Err() error {
	if err := x.err.Load(); err != nil {
		return *err
	}
	return nil
}

// Addr is the address of the server.
func (x *Exchange) Addr() string { return x.conn.Addr() }

// Heard is when the server was last heard on the connection: any byte is a sign of life, not the exchange's own alone.
func (x *Exchange) Heard() time.Time { return x.conn.Heard() }

// Numbers32 reports a server older than 3.9.4: its numbers are 32-bit, and messages.DeletedNumber32 is that of a tombstone.
func (x *Exchange) Numbers32() bool { return x.conn.Numbers32() }

// Close ends the exchange and has the server stop sending. It does not wait for the server.
func (x *Exchange) Close() error {
	x.end(ErrClosed, true)
	return nil
}
