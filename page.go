package eventstore

import (
	"context"
	"fmt"
	"sync"

	"github.com/goeventstore/eventstore/messages"
)

// Borrowed has a sequence lend its events instead of giving them away: each, with all that it points to, is valid until the
// next step of the loop, as bufio.Scanner.Bytes is, and ResolvedEvent.Clone keeps one for longer. Reading then allocates nothing
// for an event. The page of ReadSlice or ReadAllSlice is the caller's all the same.
func Borrowed() ReadOption { return readOption(func(o *readOptions) { o.borrowed = true }) }

// pageMemory is where the pages of a sequence are decoded: each in memory of its own, or all in the same if they are lent.
type pageMemory struct {
	lent   bool
	body   []byte
	events slab
	all    []ResolvedEvent

	stream messages.StreamPage
	log    messages.AllPage

	read  messages.StreamRead
	ahead *call  // for the next page, if it was asked for
	spare []byte // for its body, while that of the last is lent
}

func newPageMemory(o *readOptions) *pageMemory {
	if o.borrowed {
		return lentPages.Get().(*pageMemory)
	}
	return new(pageMemory)
}

// lentPages is memory of sequences that lent their events and have ended.
var lentPages = sync.Pool{New: func() any { return &pageMemory{lent: true} }}

// keepPages is how much memory is kept for the next sequence.
const keepPages = 4 << 20

// release ends the use of m. If the sequence has come to its end, events that were lent are not valid any more, and other
// sequences may have the memory; a loop that was left may go on to use the event it was at.
func (m *pageMemory) release(ended bool) {
	m.dropAhead()
	if ended && m.lent && cap(m.body)+cap(m.spare) <= keepPages {
		lentPages.Put(m)
	}
}

// names are the strings that decoding can use again; a page borrows one.
var names = sync.Pool{New: func() any { return new(messages.Names) }}

// fetch asks for a page and has decode make of it what it is. What decode fails with is an error of the operation.
func (c *Client) fetch(ctx context.Context, op, stream string, r messages.Request, o *readOptions, memory *pageMemory, decode func(body []byte) error) error {
	k, err := memory.takeAhead(ctx)
	if k == nil {
		if err := c.enter(ctx, o.within); err != nil {
			return &OpError{Op: op, Stream: stream, Err: err}
		}
		defer c.leave(o.within)
		k = c.begin(r, o.credentials)
		k.room, memory.body = memory.body[:0], nil // after a failure an answer may still be written there
		err = c.do(ctx, k)
	}
	defer k.recycle()
	if err != nil {
		return k.fail(op, stream, err)
	}
	if memory.lent {
		memory.body = k.reply.Body
	}
	if err := decode(k.reply.Body); err != nil {
		return k.fail(op, stream, err)
	}
	return nil
}

// decode makes the events of a page, of which there are count, and no more than were asked for: their number decides how much
// memory the page gets.
func (m *pageMemory) decode(count, atMost int, each func(*messages.Names, func(*messages.ResolvedEvent) bool) error) ([]ResolvedEvent, error) {
	switch {
	case count == 0:
		return nil, nil
	case count > atMost:
		return nil, fmt.Errorf("%w: a page of %d events, %d were asked for", ErrProtocol, count, atMost)
	}
	if !m.lent || cap(m.all) < count {
		m.all = make([]ResolvedEvent, 0, count)
		m.events = slab{chunk: count}
	}
	m.all, m.events.events = m.all[:0], m.events.events[:0]
	known := names.Get().(*messages.Names)
	defer names.Put(known)
	err := each(known, func(r *messages.ResolvedEvent) bool {
		if e := m.events.decode(r); !e.empty() { // an empty record is of no use to anybody
			m.all = append(m.all, e)
		}
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return m.all, nil
}
