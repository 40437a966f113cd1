package eventstore

import (
	"context"
	"fmt"
	"sync"
	"time"

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

	most int32 // how many events the next page may have, after one that was too large; 0: as many as are wanted

	read  messages.StreamRead
	ahead *call  // for the next page, if it was asked for
	asked int32  // with so many events
	spare []byte // for its body, while that of the last is lent
}

// ask is how many events the next page is asked for, where so many are wanted.
func (m *pageMemory) ask(wanted int32) int32 {
	if m.most == 0 {
		return wanted
	}
	return min(wanted, m.most)
}

// learn takes to what a page was halved, and doubles it again when one of this many bytes and this much time shows that
// twice as much is no risk.
func (m *pageMemory) learn(asked, got int32, size int, took, timeout time.Duration) {
	switch {
	case got < asked:
		m.most = got
	case m.most == asked && size <= messages.MaxFrame/4 && took <= timeout/4:
		if m.most *= 2; m.most >= MaxPageSize {
			m.most = 0
		}
	}
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
		m.most = 0
		lentPages.Put(m)
	}
}

// names are the strings that decoding can use again; a page borrows one.
var names = sync.Pool{New: func() any { return new(messages.Names) }}

// fetch asks for a page and has decode make of it what it is. What decode fails with is an error of the operation. A page
// that is larger than a frame, or does not come in time again and again, is asked for with half the events: count is where
// the request has their number.
func (c *Client) fetch(ctx context.Context, op, stream string, r messages.Request, count *int32, o *readOptions, memory *pageMemory, decode func(body []byte) error) error {
	begun := time.Now()
	k, asked := memory.takeAhead(ctx)
	if asked == 0 {
		asked = *count
	}
	var err error
	if k == nil {
		if err := c.enter(ctx, o.within); err != nil {
			return &OpError{Op: op, Stream: stream, Err: err}
		}
		defer c.leave(o.within)
		k = c.begin(r, o.credentials)
		k.room, memory.body = memory.body[:0], nil // after a failure an answer may still be written there
		k.count = count
		err = c.do(ctx, k)
	}
	defer k.recycle()
	if err != nil {
		return k.fail(op, stream, err)
	}
	memory.learn(asked, *count, len(k.reply.Body), time.Since(begun), c.timeout)
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
