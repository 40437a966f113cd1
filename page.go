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
	page   *call // whose answer the page at hand is
	rest   messages.Events
	record messages.ResolvedEvent
	events slab
	names  *messages.Names

	stream messages.StreamPage
	log    messages.AllPage

	most int32 // how many events the next page may have, after one that was too large; 0: as many as are wanted

	read   messages.StreamRead // the request for a page that was not asked for ahead
	ahead  []*pageAhead        // the next pages, if they were asked for
	unused []*pageAhead
	pages  int      // how many the sequence has had
	misled bool     // a guess where a page begins was wrong
	spare  [][]byte // for the bodies of pages that are lent
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

// newPageMemory is given back with release.
func newPageMemory(lent bool) *pageMemory {
	m := new(pageMemory)
	if lent {
		m = lentPages.Get().(*pageMemory)
	}
	m.names = names.Get().(*messages.Names)
	return m
}

// lentPages is memory of sequences that lent their events and have ended.
var lentPages = sync.Pool{New: func() any { return &pageMemory{lent: true} }}

// names are the strings that decoding can use again.
var names = sync.Pool{New: func() any { return new(messages.Names) }}

// keepPages is how much memory is kept for the next sequence.
const keepPages = 4 << 20

// release ends the use of m. If the sequence has come to its end, events that were lent are not valid any more, and other
// sequences may have the memory; a loop that was left may go on to use the event it was at.
func (m *pageMemory) release(ended bool) {
	m.dropAhead()
	m.turn(nil)
	names.Put(m.names)
	m.names = nil
	size := 0
	for _, b := range m.spare {
		size += cap(b)
	}
	if ended && m.lent && size <= keepPages {
		m.most, m.pages, m.misled = 0, 0, false
		lentPages.Put(m)
	}
}

// turn makes k's answer the page at hand: nothing of the one before it is needed any more, but for the events given away.
func (m *pageMemory) turn(k *call) {
	if m.page != nil {
		if m.lent {
			m.spare = append(m.spare, m.page.reply.Body)
		}
		m.page.recycle()
	}
	m.page, m.rest = k, messages.Events{}
}

// room is where the body of a page may go. It is not used for anything else before the page has come: after a failure an
// answer may still be written there.
func (m *pageMemory) room() (b []byte) {
	if n := len(m.spare); n > 0 {
		b, m.spare[n-1] = m.spare[n-1][:0], nil
		m.spare = m.spare[:n-1]
	}
	return b
}

// fetch asks for a page. One that is larger than a frame, or does not come in time again and again, is asked for with half the
// events: count is where the request has their number, and where it stands in the end.
func (c *Client) fetch(ctx context.Context, stream string, r messages.Request, count *int32, o *readOptions, memory *pageMemory) error {
	if err := c.enter(ctx, o.within); err != nil {
		return &OpError{Op: "read", Stream: stream, Err: err}
	}
	defer c.leave(o.within)
	memory.turn(nil)
	begun, asked := time.Now(), *count
	k := c.begin(r, o.credentials)
	k.room, k.count = memory.room(), count
	if err := c.do(ctx, k); err != nil {
		defer k.recycle()
		return k.fail("read", stream, err)
	}
	memory.turn(k)
	memory.learn(asked, *count, len(k.reply.Body), time.Since(begun), c.timeout)
	return nil
}

// fail is the error of the operation whose page is at hand; nil is none.
func (m *pageMemory) fail(stream string, err error) error {
	if err == nil {
		return nil
	}
	return m.page.fail("read", stream, err)
}

// open makes ready the events of the page at hand, of which there are count, and no more than were asked for: their number decides
// how much memory the page gets.
func (m *pageMemory) open(events messages.Events, count, atMost int) error {
	if count > atMost {
		return fmt.Errorf("%w: a page of %d events, %d were asked for", ErrProtocol, count, atMost)
	}
	m.rest = events
	if m.lent {
		m.events.chunk = 2 // an event and its link, whose place the next ones get
	} else {
		m.events = slab{chunk: count}
	}
	return nil
}

// next decodes the next event of the page at hand into e. It returns false behind the last, and with an error.
func (m *pageMemory) next(e *ResolvedEvent) (bool, error) {
	for {
		if ok, err := m.rest.Next(&m.record, m.names); !ok {
			if err != nil {
				err = fmt.Errorf("%w: %w", ErrProtocol, err)
			}
			return false, err
		}
		if m.lent {
			m.events.events = m.events.events[:0]
		}
		if m.events.decode(&m.record, e); !e.empty() { // an empty record is of no use to anybody
			return true, nil
		}
	}
}
