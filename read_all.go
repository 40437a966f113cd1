package eventstore

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// AllSlice is a page of $all.
type AllSlice struct {
	Events []ResolvedEvent
	Next   From // where the next page in this direction begins
	End    bool // nothing is left in this direction, as of now. A page may be empty and not be the end
	Asked  int  // how many events the server was asked for in the end, as in a Slice
}

// ReadAll returns the events of all streams in the order of the log, from a place on, fetched page by page while the loop
// runs. Otherwise as ReadStream; places are Start, End and positions. Events of deleted and truncated streams are there until
// a scavenge removes them, and so are the server's own. Reading $all is for administrators, unless its metadata ($$$all)
// or the system settings say otherwise; else the error is ErrAccessDenied.
func (c *Client) ReadAll(ctx context.Context, from From, opts ...ReadOption) iter.Seq2[ResolvedEvent, error] {
	return func(yield func(ResolvedEvent, error) bool) {
		o, err := c.allOptions(from, opts)
		if err != nil {
			yield(ResolvedEvent{}, &OpError{Op: "read", Stream: All, Err: err})
			return
		}
		r := allReader{c: c, o: &o, memory: newPageMemory(o.borrowed), next: from}
		ended := false
		defer func() { r.memory.release(ended) }()
		var e ResolvedEvent
		for left := o.limit; !ended; {
			count := int(r.memory.ask(o.pageSize))
			if o.limit > 0 && o.filter == nil { // of a whole page a filter may pick little
				count = int(min(int64(count), left))
			}
			if err := r.page(ctx, count); err != nil {
				yield(ResolvedEvent{}, err)
				return
			}
			for !ended {
				ok, err := r.event(&e)
				if err != nil {
					yield(ResolvedEvent{}, err)
					return
				}
				if !ok {
					break
				}
				if !yield(e, nil) {
					return
				}
				left--
				ended = left == 0 // without a Limit it is below
			}
			ended = ended || r.end
		}
	}
}

// ReadAllSlice reads one page of $all, of at most count events, 1 to MaxPageSize. Errors as ReadAll.
func (c *Client) ReadAllSlice(ctx context.Context, from From, count int, opts ...ReadOption) (AllSlice, error) {
	o, err := c.allOptions(from, opts)
	if err == nil && (count < 1 || count > MaxPageSize) {
		err = argument("a page of %d events: want 1 to %d", count, MaxPageSize)
	}
	if err != nil {
		return AllSlice{}, &OpError{Op: "read", Stream: All, Err: err}
	}
	r := allReader{c: c, o: &o, memory: newPageMemory(false), next: from}
	defer r.memory.release(false)
	for {
		slice, err := r.slice(ctx, count)
		if err != nil || len(slice.Events) > 0 || slice.End || r.below == nil {
			return slice, err
		}
	}
}

func (c *Client) allOptions(from From, opts []ReadOption) (readOptions, error) {
	o, err := c.readOptions(opts)
	if err == nil {
		err = from.check()
	}
	_, isNumber := from.Number()
	switch {
	case err != nil:
		return o, err
	case isNumber:
		return o, argument("place %q: %s is read by positions, event numbers are of streams", from, All)
	case from.IsStart() && o.backward:
		return o, argument("reading backward from Start: there is nothing before it; End is the place to begin")
	case from.IsEnd() && !o.backward:
		return o, argument("reading forward from End: there is nothing behind it; subscribe to what comes, or read Backward()")
	}
	return o, nil
}

// allReader reads $all page by page.
type allReader struct {
	c      *Client
	o      *readOptions
	memory *pageMemory
	next   From      // where the next page begins
	below  *Position // of a backward reading that began behind its place: only what is before this is wanted

	// The page at hand.
	end      bool                // nothing is left in this direction
	asked    int                 // how many events it was asked for in the end
	unpicked bool                // the server did not apply the filter
	keep     func(Position) bool // which of its events are wanted; nil: all
}

// page reads the page at next.
//
// A server reads forward from a record on, and backward what is before it. So behind a record is from it on without itself,
// and backward from a record is itself, read forward, and then what is before it.
func (r *allReader) page(ctx context.Context, count int) error {
	at, atRecord := r.next.Position()
	if r.next.IsEnd() {
		at = Position{Commit: -1, Prepare: -1}
	}
	r.keep = nil
	switch {
	case !r.o.backward && atRecord && r.next.Exclusive():
		r.keep = func(p Position) bool { return p.Compare(at) > 0 }
		return r.fetch(ctx, at, min(count+1, MaxPageSize), false)
	case r.o.backward && atRecord && !r.next.Exclusive():
		r.keep = func(p Position) bool { return p == at }
		err := r.fetch(ctx, at, 1, false)
		r.next, r.end = AfterPosition(at), false
		return err
	case r.o.backward && atRecord && !r.next.raw && at.Prepare != at.Commit:
		behind, err := r.behindTransaction(ctx, at)
		if err != nil {
			return err
		}
		below := at
		at, r.below = behind, &below
	}
	return r.fetch(ctx, at, count, r.o.backward)
}

// event decodes the next event of the page at hand that is wanted into e. It returns false behind the last, and with an error.
func (r *allReader) event(e *ResolvedEvent) (bool, error) {
	for {
		if ok, err := r.memory.next(e); !ok {
			return false, r.memory.fail(All, err)
		}
		e.All = true
		switch {
		case r.keep != nil && !r.keep(e.Position), r.below != nil && e.Position.Compare(*r.below) >= 0:
		case r.unpicked && !r.o.filter.Match(e.Original()):
		default:
			return true, nil
		}
	}
}

// slice reads the page at next, of at most so many events.
func (r *allReader) slice(ctx context.Context, count int) (AllSlice, error) {
	if err := r.page(ctx, count); err != nil {
		return AllSlice{}, err
	}
	slice := AllSlice{Next: r.next, End: r.end, Asked: r.asked}
	var e ResolvedEvent
	for {
		ok, err := r.event(&e)
		switch {
		case err != nil:
			return AllSlice{}, err
		case !ok:
			return slice, nil
		case len(slice.Events) == count: // one more was asked for because of the record at the place, which was not there any more
			slice.Next, slice.End = AfterPosition(slice.Events[count-1].Position), false
			return slice, nil
		case slice.Events == nil:
			slice.Events = make([]ResolvedEvent, 0, r.memory.log.Count)
		}
		slice.Events = append(slice.Events, e)
	}
}

// behindTransaction is where reading backward begins to find what is before an event of a transaction. To a server its
// position says too little: what it wants is the position behind the commit, which it tells nobody. So the reading begins behind
// the transaction, at the next event there is, and leaves out what does not belong to it.
func (r *allReader) behindTransaction(ctx context.Context, at Position) (Position, error) {
	plain := *r.o
	plain.filter = nil
	forward := allReader{c: r.c, o: &plain, memory: newPageMemory(false)}
	defer forward.memory.release(false)
	var e ResolvedEvent
	for next := at; ; next, _ = forward.next.Position() {
		if err := forward.fetch(ctx, next, MaxPageSize, false); err != nil {
			return Position{}, err
		}
		for {
			ok, err := forward.event(&e)
			if err != nil {
				return Position{}, err
			}
			if !ok {
				break
			}
			if e.Position.Commit > at.Commit {
				return Position{Commit: e.Position.Commit, Prepare: e.Position.Commit}, nil
			}
		}
		if forward.end {
			return Position{Commit: -1, Prepare: -1}, nil
		}
	}
}

// fetch asks for a page, of the filtered kind if the server knows that; if not, its events are picked here.
func (r *allReader) fetch(ctx context.Context, at Position, count int, backward bool) error {
	r.unpicked = false
	cn := r.c.live.Load()
	if r.o.filter != nil && (cn == nil || r.c.unfiltered.Load() != cn) {
		err := r.request(ctx, at, count, backward, true)
		var refused *ServerError
		if !errors.As(err, &refused) || refused.Command != messages.BadRequest {
			return err
		}
		r.c.unfiltered.Store(cn) // older than 20.6; the next connection may be to another server
	}
	r.unpicked = r.o.filter != nil
	return r.request(ctx, at, count, backward, false)
}

func (r *allReader) request(ctx context.Context, at Position, count int, backward, filtered bool) error {
	o := r.o
	plain := &messages.AllRead{
		Commit: at.Commit, Prepare: at.Prepare, Count: int32(count), ResolveLinks: !o.rawLinks, RequireLeader: !o.anyNode, Backward: backward,
	}
	var request messages.Request = plain
	if filtered {
		command := messages.FilteredReadAllEventsForward
		if backward {
			command = messages.FilteredReadAllEventsBackward
		}
		request = messages.Of(command, &pb.FilteredReadAllEvents{
			CommitPosition: &at.Commit, PreparePosition: &at.Prepare, MaxCount: &plain.Count,
			MaxSearchWindow: proto.Int32(MaxPageSize), ResolveLinkTos: proto.Bool(!o.rawLinks), RequireLeader: proto.Bool(!o.anyNode),
			Filter: o.filter.message(),
		})
	}
	if err := r.c.fetch(ctx, All, request, &plain.Count, o, r.memory); err != nil {
		return err
	}
	r.memory.log.Filtered = filtered
	r.asked = int(plain.Count)
	return r.memory.fail(All, r.open(at, backward))
}

// open takes the page at hand for what it is. It takes no more events than were asked for, and no page that leads nowhere: a reader
// that follows it would never end.
func (r *allReader) open(from Position, backward bool) error {
	page := &r.memory.log
	if err := page.Decode(r.memory.page.reply.Body); err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	switch page.Result {
	case messages.ReadAllSuccess:
	case messages.ReadAllAccessDenied:
		if r.o.rawLinks {
			return ErrAccessDenied
		}
		return fmt.Errorf("%w, or a link among these events leads to what nobody may read: then RawLinks reads on", ErrAccessDenied)
	case messages.ReadAllError:
		return &ServerError{Command: messages.ReadAllEventsForward, Message: page.Error}
	default:
		return fmt.Errorf("%w: result %s %s", ErrProtocol, page.Result, page.Error)
	}
	next := Position{Commit: page.NextCommit, Prepare: page.NextPrepare}
	r.next, r.end = AtPosition(next), page.EndOfStream || !page.Filtered && page.Count == 0
	if backward {
		r.next.after, r.next.raw = true, true
	}
	moves := next.Compare(from)
	if !r.end && (!backward && moves <= 0 || backward && from.Commit >= 0 && moves >= 0) {
		return fmt.Errorf("%w: after the page from %v the server sends the reader to %v, and says that it is not the end", ErrProtocol, from, next)
	}
	return r.memory.open(page.Events(), page.Count, r.asked)
}
