package eventstore

import (
	"context"
	"fmt"
	"iter"
	"math"
	"time"

	"github.com/goeventstore/eventstore/messages"
)

// Slice is a page of a stream.
type Slice struct {
	Stream      string
	Events      []ResolvedEvent
	Next        int64 // where the next page in this direction begins; -1 at the end of a backward read
	Last        int64 // the number of the stream's last event
	EndOfStream bool  // nothing is left in this direction, as of now. A page may be empty and not be the end
	Asked       int   // how many events the server was asked for in the end: fewer than wanted after a page that was too large
}

// ReadStream returns the events of a stream from a place on, fetched page by page while the loop runs. A sequence that ends
// without an error is complete: it reached the end of the stream as of then, or the Limit. An error is the last pair; a
// stream that does not exist or is soft-deleted is ErrStreamNotFound, a hard-deleted one ErrStreamDeleted.
//
// A page that is larger than a frame, or whose attempts time out again and again, is asked for with half the events, and later
// pages with more again. A single event that does not fit is ErrTooLarge.
//
// The events belong to the caller. Those of a page share its memory; see ResolvedEvent.Clone, and Borrowed.
func (c *Client) ReadStream(ctx context.Context, stream string, from From, opts ...ReadOption) iter.Seq2[ResolvedEvent, error] {
	return func(yield func(ResolvedEvent, error) bool) {
		fail := func(err error) { yield(ResolvedEvent{}, &OpError{Op: "read", Stream: stream, Err: err}) }
		o, err := c.streamOptions(opts)
		if err != nil {
			fail(err)
			return
		}
		next, nothing, err := startOf(stream, from, o.backward)
		if err != nil {
			fail(err)
			return
		}
		memory := newPageMemory(o.borrowed)
		var e ResolvedEvent
		ended := false
		defer func() { memory.release(ended) }()
		for left, first := o.limit, true; !nothing; first = false {
			page, err := c.readPage(ctx, stream, next, o.count(left), &o, memory)
			if err != nil {
				yield(ResolvedEvent{}, err)
				return
			}
			more := !page.EndOfStream
			if more {
				err = progress(next, &page, o.backward)
			}
			if next = page.Next; more && err == nil && !first {
				c.askAhead(ctx, &page, left-int64(memory.stream.Count), &o, memory)
			}
			for {
				ok, err := memory.next(&e)
				if err != nil {
					yield(ResolvedEvent{}, memory.fail(stream, err))
					return
				}
				if !ok {
					break
				}
				if !yield(e, nil) {
					return
				}
				left--
			}
			if ended = !more || o.limit > 0 && left <= 0; ended {
				return
			}
			if err != nil {
				fail(err)
				return
			}
		}
	}
}

// count is how many events to ask for when as many are left to the Limit.
func (o *readOptions) count(left int64) int32 {
	if o.limit > 0 {
		return int32(min(int64(o.pageSize), left))
	}
	return o.pageSize
}

// streamOptions are those of a read that is not of $all.
func (c *Client) streamOptions(opts []ReadOption) (readOptions, error) {
	o, err := c.readOptions(opts)
	if err == nil && o.filter != nil {
		err = argument("a Filter is for %s", All)
	}
	return o, err
}

// progress refuses pages that lead nowhere: a reader that follows them would never end.
func progress(from int64, page *Slice, backward bool) error {
	if backward && page.Next >= 0 && (from < 0 || page.Next < from) || !backward && page.Next > from {
		return nil
	}
	return fmt.Errorf("%w: after the page from %d the server sends the reader to %d, and says that it is not the end", ErrProtocol, from, page.Next)
}

// ReadSlice reads one page of at most count events, 1 to MaxPageSize. Errors as ReadStream. Asked is less than count if so many
// made a page over the 64 MiB of a frame, which costs a connection, or did not come within WithTimeout twice: who reads on
// asks for no more than that.
func (c *Client) ReadSlice(ctx context.Context, stream string, from From, count int, opts ...ReadOption) (Slice, error) {
	o, err := c.streamOptions(opts)
	var next int64
	var nothing bool
	if err == nil {
		next, nothing, err = startOf(stream, from, o.backward)
	}
	if err == nil && (count < 1 || count > MaxPageSize) {
		err = argument("a page of %d events: want 1 to %d", count, MaxPageSize)
	}
	if err != nil {
		return Slice{}, &OpError{Op: "read", Stream: stream, Err: err}
	}
	if nothing {
		return Slice{Stream: stream, Next: -1, Last: -1, EndOfStream: true}, nil
	}
	memory := newPageMemory(false)
	defer memory.release(false)
	slice, err := c.readPage(ctx, stream, next, int32(count), &o, memory)
	if err != nil || memory.stream.Count == 0 {
		return slice, err
	}
	slice.Events = make([]ResolvedEvent, 0, memory.stream.Count)
	var e ResolvedEvent
	for {
		ok, err := memory.next(&e)
		if err != nil {
			return Slice{}, memory.fail(stream, err)
		}
		if !ok {
			return slice, nil
		}
		slice.Events = append(slice.Events, e)
	}
}

// startOf is the number to begin with, -1 for the last event when reading backward. Before event 0 there is nothing to ask
// the server for.
func startOf(stream string, from From, backward bool) (number int64, nothing bool, err error) {
	if err := checkStream(stream); err != nil {
		return 0, false, err
	}
	if err := from.check(); err != nil {
		return 0, false, err
	}
	n, isNumber := from.Number()
	switch {
	case from.IsStart() && backward:
		return 0, false, argument("reading backward from Start: there is nothing before it; End is the place to begin")
	case from.IsEnd() && !backward:
		return 0, false, argument("reading forward from End: there is nothing behind it; subscribe to what comes, or read Backward()")
	case from.IsStart():
		return 0, false, nil
	case from.IsEnd():
		return -1, false, nil
	case !isNumber:
		return 0, false, argument("place %q: a stream is read by event numbers, positions are of %s", from, All)
	case backward && from.Exclusive():
		return n - 1, n == 0, nil
	case !backward && from.Exclusive() && n < math.MaxInt64:
		n++
	}
	return n, false, nil
}

// readPage reads a page of so many events, or fewer after one that was too large. memory has them then.
func (c *Client) readPage(ctx context.Context, stream string, from int64, count int32, o *readOptions, memory *pageMemory) (Slice, error) {
	begun := time.Now()
	k, asked, got := memory.takeAhead(ctx)
	if k != nil {
		memory.turn(k)
		memory.learn(asked, got, len(k.reply.Body), time.Since(begun), c.timeout)
	} else {
		memory.read = streamRead(stream, from, memory.ask(count), o)
		if err := c.fetch(ctx, stream, &memory.read, &memory.read.Count, o, memory); err != nil {
			return Slice{Stream: stream}, err
		}
		got = memory.read.Count
	}
	memory.pages++
	slice, err := memory.openStream(stream, int(got))
	slice.Asked = int(got)
	return slice, memory.fail(stream, err)
}

// openStream takes the page at hand for what it is, and no more events than were asked for.
func (m *pageMemory) openStream(stream string, atMost int) (Slice, error) {
	page := &m.stream
	if err := page.Decode(m.page.reply.Body); err != nil {
		return Slice{}, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	switch page.Result {
	case messages.ReadStreamSuccess:
	case messages.ReadStreamNoStream:
		return Slice{Stream: stream, Next: -1, Last: page.Last, EndOfStream: true}, ErrStreamNotFound
	case messages.ReadStreamStreamDeleted:
		return Slice{}, ErrStreamDeleted
	case messages.ReadStreamAccessDenied:
		return Slice{}, ErrAccessDenied
	case messages.ReadStreamError:
		return Slice{}, &ServerError{Command: messages.ReadStreamEventsForward, Message: page.Error}
	default:
		return Slice{}, fmt.Errorf("%w: result %s %s", ErrProtocol, page.Result, page.Error)
	}
	slice := Slice{Stream: stream, Next: page.Next, Last: page.Last, EndOfStream: page.EndOfStream}
	return slice, m.open(page.Events(), page.Count, atMost)
}

// ReadEvent reads one event: At(n), After(n) for the one behind it, End for the last, Start for number 0. A stream that
// does not exist is ErrStreamNotFound, a number that it does not have (yet, or any more) ErrEventNotFound.
func (c *Client) ReadEvent(ctx context.Context, stream string, at From, opts ...ReadOption) (ResolvedEvent, error) {
	o, err := c.streamOptions(opts)
	number := int64(-1)
	if err == nil {
		err = checkStream(stream)
	}
	if err == nil && !at.IsEnd() {
		number, _, err = startOf(stream, at, false)
	}
	if err != nil {
		return ResolvedEvent{}, &OpError{Op: "read event", Stream: stream, Err: err}
	}
	if err := c.enter(ctx, o.within); err != nil {
		return ResolvedEvent{}, &OpError{Op: "read event", Stream: stream, Err: err}
	}
	defer c.leave(o.within)
	k := c.begin(&messages.EventRead{Stream: stream, Number: number, ResolveLinks: !o.rawLinks, RequireLeader: !o.anyNode}, o.credentials)
	defer k.recycle()
	if err := c.do(ctx, k); err != nil {
		return ResolvedEvent{}, k.fail("read event", stream, err)
	}
	e, err := decodeEventRead(k.reply.Body)
	if err != nil {
		return ResolvedEvent{}, k.fail("read event", stream, err)
	}
	return e, nil
}

func decodeEventRead(body []byte) (ResolvedEvent, error) {
	var m messages.EventReadCompleted
	if err := m.Decode(body, nil); err != nil {
		return ResolvedEvent{}, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	switch m.Result {
	case messages.ReadEventSuccess:
		e := DecodeEvent(&m.Event)
		if e.empty() { // of a metadata stream that was never written
			return ResolvedEvent{}, ErrEventNotFound
		}
		return e, nil
	case messages.ReadEventNotFound:
		return ResolvedEvent{}, ErrEventNotFound
	case messages.ReadEventNoStream:
		return ResolvedEvent{}, ErrStreamNotFound
	case messages.ReadEventStreamDeleted:
		return ResolvedEvent{}, ErrStreamDeleted
	case messages.ReadEventAccessDenied:
		return ResolvedEvent{}, ErrAccessDenied
	case messages.ReadEventError:
		return ResolvedEvent{}, &ServerError{Command: messages.ReadEvent, Message: m.Error}
	}
	return ResolvedEvent{}, fmt.Errorf("%w: result %s %s", ErrProtocol, m.Result, m.Error)
}
