package eventstore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

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
		memory := newPageMemory(&o)
		for left := o.limit; ; {
			count := int(memory.ask(o.pageSize))
			if o.limit > 0 && o.filter == nil { // of a whole page a filter may pick little
				count = int(min(int64(count), left))
			}
			page, err := c.readAllPage(ctx, from, count, &o, memory)
			if err != nil {
				yield(ResolvedEvent{}, err)
				return
			}
			if o.limit > 0 && int64(len(page.Events)) > left {
				page.Events = page.Events[:left]
			}
			for _, e := range page.Events {
				if !yield(e, nil) {
					return
				}
			}
			left -= int64(len(page.Events))
			if page.End || o.limit > 0 && left <= 0 {
				return
			}
			from = page.Next
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
	return c.readAllPage(ctx, from, count, &o, newPageMemory(&o))
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

// readAllPage reads a page, whose events lie in memory.
//
// A server reads forward from a record on, and backward what is before it. So behind a record is from it on without itself,
// and backward from a record is itself, read forward, and then what is before it.
func (c *Client) readAllPage(ctx context.Context, from From, count int, o *readOptions, memory *pageMemory) (AllSlice, error) {
	at, atRecord := from.Position()
	if from.IsEnd() {
		at = Position{Commit: -1, Prepare: -1}
	}
	if !o.backward {
		behind := atRecord && from.Exclusive()
		ask := count
		if behind {
			ask = min(count+1, MaxPageSize)
		}
		page, err := c.fetchAll(ctx, at, ask, false, o, memory)
		if err == nil && behind {
			page.Events = slices.DeleteFunc(page.Events, func(e ResolvedEvent) bool { return e.Position.Compare(at) <= 0 })
		}
		if len(page.Events) > count { // the record was not there any more
			page.Events = page.Events[:count]
			page.Next = AfterPosition(page.Events[count-1].Position)
		}
		return page, err
	}
	switch {
	case atRecord && !from.Exclusive():
		page, err := c.fetchAll(ctx, at, 1, false, o, memory)
		page.Events = slices.DeleteFunc(page.Events, func(e ResolvedEvent) bool { return e.Position != at })
		page.Next, page.End = AfterPosition(at), false
		return page, err
	case atRecord && !from.raw && at.Prepare != at.Commit:
		return c.readBeforeInTransaction(ctx, at, count, o, memory)
	}
	return c.fetchAll(ctx, at, count, true, o, memory)
}

// readBeforeInTransaction reads backward what is before an event of a transaction. To a server its position says too little:
// what it wants is the position behind the commit, which it tells nobody. So the reading begins behind the transaction, at
// the next event there is, and leaves out what does not belong to the page.
func (c *Client) readBeforeInTransaction(ctx context.Context, at Position, count int, o *readOptions, memory *pageMemory) (AllSlice, error) {
	plain := *o
	plain.filter, plain.borrowed = nil, false
	begin := Position{Commit: -1, Prepare: -1} // the end, if there is none
	for next, found := at, false; !found; {
		page, err := c.fetchAll(ctx, next, MaxPageSize, false, &plain, newPageMemory(&plain))
		if err != nil {
			return AllSlice{}, err
		}
		for _, e := range page.Events {
			if found = e.Position.Commit > at.Commit; found {
				begin = Position{Commit: e.Position.Commit, Prepare: e.Position.Commit}
				break
			}
		}
		if page.End {
			break
		}
		next, _ = page.Next.Position()
	}
	for {
		page, err := c.fetchAll(ctx, begin, count, true, o, memory)
		page.Events = slices.DeleteFunc(page.Events, func(e ResolvedEvent) bool { return e.Position.Compare(at) >= 0 })
		if err != nil || len(page.Events) > 0 || page.End {
			return page, err
		}
		begin, _ = page.Next.Position()
	}
}

// fetchAll asks for a page, of the filtered kind if the server knows that, and picks here if not.
func (c *Client) fetchAll(ctx context.Context, at Position, count int, backward bool, o *readOptions, memory *pageMemory) (AllSlice, error) {
	cn := c.live.Load()
	if o.filter != nil && (cn == nil || c.unfiltered.Load() != cn) {
		slice, err := c.requestAll(ctx, at, count, backward, true, o, memory)
		var refused *ServerError
		if !errors.As(err, &refused) || refused.Command != messages.BadRequest {
			return slice, err
		}
		c.unfiltered.Store(cn) // older than 20.6; the next connection may be to another server
	}
	slice, err := c.requestAll(ctx, at, count, backward, false, o, memory)
	if o.filter != nil {
		slice.Events = slices.DeleteFunc(slice.Events, func(e ResolvedEvent) bool { return !o.filter.Match(e.Original()) })
	}
	return slice, err
}

func (c *Client) requestAll(ctx context.Context, at Position, count int, backward, filtered bool, o *readOptions, memory *pageMemory) (slice AllSlice, err error) {
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
	err = c.fetch(ctx, "read", All, request, &plain.Count, o, memory, func(body []byte) (err error) {
		memory.log.Filtered = filtered
		slice, err = memory.decodeAll(body, at, int(plain.Count), backward)
		slice.Asked = int(plain.Count)
		return err
	})
	return slice, err
}

// decodeAll takes no more events than were asked for, and no page that leads nowhere: a reader that follows it would never end.
func (m *pageMemory) decodeAll(body []byte, from Position, atMost int, backward bool) (AllSlice, error) {
	page := &m.log
	if err := page.Decode(body); err != nil {
		return AllSlice{}, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	switch page.Result {
	case messages.ReadAllSuccess:
	case messages.ReadAllAccessDenied:
		return AllSlice{}, fmt.Errorf("%w: reading %s is for administrators, unless its metadata or the system settings say otherwise", ErrAccessDenied, All)
	case messages.ReadAllError:
		return AllSlice{}, &ServerError{Command: messages.ReadAllEventsForward, Message: page.Error}
	default:
		return AllSlice{}, fmt.Errorf("%w: result %s %s", ErrProtocol, page.Result, page.Error)
	}
	events, err := m.decode(page.Count, atMost, page.Each)
	if err != nil {
		return AllSlice{}, err
	}
	for i := range events {
		events[i].All = true
	}
	next := Position{Commit: page.NextCommit, Prepare: page.NextPrepare}
	slice := AllSlice{Events: events, Next: AtPosition(next), End: page.EndOfStream || !page.Filtered && page.Count == 0}
	if backward {
		slice.Next.after, slice.Next.raw = true, true
	}
	moves := next.Compare(from)
	if !slice.End && (!backward && moves <= 0 || backward && from.Commit >= 0 && moves >= 0) {
		return AllSlice{}, fmt.Errorf("%w: after the page from %v the server sends the reader to %v, and says that it is not the end", ErrProtocol, from, next)
	}
	return slice, nil
}
