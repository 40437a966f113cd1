package server

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/server/internal/store"
)

// maxReadCount is the largest page of a stream (4.8).
const maxReadCount = 4096

// The texts of the result Error (4.8).
const (
	textReadTooBig   = "Read size too big, should be less than 4096 items"
	textNegativeFrom = "fromEventNumber should be non negative.\nParameter name: fromEventNumber"
	textMaxCount     = "maxCount should be positive.\nParameter name: maxCount"
	textPageTooLarge = "The events do not fit a frame of 64 MiB, read fewer of them."
)

// readStream serves ReadStreamEventsForward and ReadStreamEventsBackward.
func (c *session) readStream(f *messages.Frame, u *user) error {
	m := messages.StreamRead{Backward: f.Command == messages.ReadStreamEventsBackward}
	ok := readStreamShape.fits(f.Body) && m.Decode(f.Body, &c.names) == nil
	if !ok || m.Stream == "" || m.From < -1 {
		c.badRequest(f, "")
		return nil
	}
	m.Stream = readable(m.Stream)
	answer := messages.ReadStreamEventsForwardCompleted
	if m.Backward {
		answer = messages.ReadStreamEventsBackwardCompleted
	}
	v := c.server.view()
	b := messages.AppendFrameStart(c.out.page(), answer, f.ID, nil)
	head := len(b)
	p, refused := c.refusedPage(&m, u)
	if !refused {
		var may func(stream string) bool
		if m.ResolveLinks {
			may = c.readableBy(u)
		}
		var err error
		p, b, err = v.page(&m, b, may)
		switch {
		case errors.Is(err, errTargetDenied):
			p, b = failedPage(messages.ReadStreamAccessDenied, -1, ""), b[:head]
		case err != nil:
			p, b = failedPage(messages.ReadStreamError, -1, c.errorText(err)), b[:head]
		}
	}
	p.Last = c.number(p.Last)
	p.LastCommit = v.at
	return c.sendPage(p.AppendTo(b))
}

// refusedPage is the answer to a read that is refused without a look at the stream. The order of the checks is 4.8's.
func (c *session) refusedPage(m *messages.StreamRead, u *user) (p messages.StreamPage, refused bool) {
	switch {
	case m.Count > maxReadCount:
		return failedPage(messages.ReadStreamError, -1, textReadTooBig), true
	case !c.server.allowed(u, m.Stream, rightRead):
		return failedPage(messages.ReadStreamAccessDenied, -1, ""), true
	case m.From < 0 && !m.Backward:
		return failedPage(messages.ReadStreamError, -1, textNegativeFrom), true
	case m.Count <= 0:
		return failedPage(messages.ReadStreamError, -1, textMaxCount), true
	}
	return messages.StreamPage{}, false
}

// failedPage is a page without events and without a next one.
func failedPage(result messages.ReadStreamResult, last int64, text string) messages.StreamPage {
	return messages.StreamPage{Result: result, Next: -1, Last: last, EndOfStream: true, Error: text}
}

// page appends the events of a page to b and returns what follows them. With may links are resolved: it tells which
// streams they may lead to.
func (v view) page(m *messages.StreamRead, b []byte, may func(stream string) bool) (messages.StreamPage, []byte, error) {
	e := encoder{view: v, b: b, may: may, last: -1}
	p, err := e.page(m)
	return p, e.b, err
}

// collect reads a page and gives its events to take.
func (v view) collect(m *messages.StreamRead, take func(r *store.Record)) (messages.StreamPage, error) {
	e := encoder{view: v, take: take, last: -1}
	return e.page(m)
}

// encoder makes a page of a stream.
type encoder struct {
	view
	b    []byte
	may  func(stream string) bool // nil when links are not resolved
	take func(r *store.Record)    // gets the events instead of b, nil for a page that is sent
	last int64                    // the number of the event added last, -1 before
	full bool                     // the page is larger than a frame: it ends with that event, whatever was asked for
	err  error
}

func (e *encoder) page(m *messages.StreamRead) (messages.StreamPage, error) {
	info, err := e.info(m.Stream)
	switch {
	case err != nil:
		return messages.StreamPage{}, err
	case info.deleted:
		return failedPage(messages.ReadStreamStreamDeleted, messages.DeletedNumber, ""), nil
	case !info.exists():
		return failedPage(messages.ReadStreamNoStream, info.last, ""), nil
	case m.Backward:
		return e.backward(m, &info)
	}
	return e.forward(m, &info)
}

// forward reads upwards from m.From. The sum of From and Count may overflow: the page then ends before it begins, as on
// a real server (4.8).
func (e *encoder) forward(m *messages.StreamRead, info *streamInfo) (messages.StreamPage, error) {
	end := m.From + int64(m.Count) - 1
	if end < info.min {
		return messages.StreamPage{Next: info.min, Last: info.last}, nil
	}
	if err := e.read(m, info, max(m.From, info.min), end); err != nil {
		return messages.StreamPage{}, err
	}
	p := messages.StreamPage{Next: min(end, info.last) + 1, Last: info.last, EndOfStream: end >= info.last}
	if e.last >= 0 {
		p.Next = e.last + 1
	}
	if e.full {
		p.EndOfStream = p.Next > info.last
	}
	return p, nil
}

// backward reads downwards from m.From, or from the last event.
func (e *encoder) backward(m *messages.StreamRead, info *streamInfo) (messages.StreamPage, error) {
	from := m.From
	if from < 0 {
		from = info.last
	}
	if from < info.min {
		return messages.StreamPage{Next: -1, Last: info.last, EndOfStream: true}, nil
	}
	p := messages.StreamPage{Next: -1, Last: info.last}
	start := max(0, from-int64(m.Count)+1)
	if start <= info.min {
		start, p.EndOfStream = info.min, true
	}
	if err := e.read(m, info, start, from); err != nil {
		return messages.StreamPage{}, err
	}
	if e.full && e.last > start {
		return messages.StreamPage{Next: e.last - 1, Last: info.last}, nil
	}
	if start == 0 || (start <= info.last && e.last != start) {
		p.EndOfStream = true
	}
	if !p.EndOfStream {
		p.Next = min(start-1, info.last)
	}
	return p, nil
}

// read adds the events from first to last, in the direction of m.
func (e *encoder) read(m *messages.StreamRead, info *streamInfo, first, last int64) error {
	oldest, err := e.oldest(info)
	if err != nil || first > info.last {
		return err
	}
	add := e.add
	switch {
	case e.take != nil:
		add = e.addTaken
	case e.may != nil:
		add = e.addResolved
	}
	if info.maxAge > 0 {
		add = e.ifYoung(add, oldest)
	}
	last = min(last, info.last)
	from := e.store
	if e.take == nil { // else they are kept
		from = e.lender()
	}
	if m.Backward {
		err = from.EventsBackward(m.Stream, first, last, e.at, add)
	} else {
		err = from.Events(m.Stream, first, last, e.at, add)
	}
	if err == nil {
		err = e.err
	}
	return err
}

// add appends one event.
func (e *encoder) add(r *store.Record) bool { return e.append(r, r.Encoded, nil) }

// append appends an event with the link to it, and reports whether the page may have more. It stops as soon as the page is larger
// than a frame: a real server goes on, but nobody who keeps to the limit sees more of either than its length.
func (e *encoder) append(r *store.Record, event, link []byte) bool {
	e.b = messages.AppendIndexed(e.b, 1, event, link)
	e.last = r.Number
	e.full = len(e.b) > messages.MaxFrame
	return !e.full
}

// addTaken gives one event away.
func (e *encoder) addTaken(r *store.Record) bool {
	e.take(r)
	e.last = r.Number
	return true
}

// errTargetDenied says that a link leads to a stream that the reader may not read: the whole page is refused (4.9).
var errTargetDenied = errors.New("the target of a link may not be read")

// addResolved appends one event, with its link if it has one.
func (e *encoder) addResolved(r *store.Record) bool {
	var out resolved
	out, e.err = e.resolve(r)
	if e.err == nil && out.target != "" && !e.may(out.target) {
		e.err = errTargetDenied
	}
	return e.append(r, out.event, out.link) && e.err == nil
}

// ifYoung passes over what was created before oldest. If the clock was set back events in the middle can be too old, and
// then a real server takes its index for broken.
func (e *encoder) ifYoung(add func(*store.Record) bool, oldest int64) func(*store.Record) bool {
	return func(r *store.Record) bool {
		switch {
		case r.Created < oldest:
			return true
		case e.last >= 0 && r.Number != e.last+1 && r.Number != e.last-1:
			e.err = readError(fmt.Sprintf("The events between %d and %d of the stream '%s' are too old.", e.last, r.Number, r.Stream))
			return false
		}
		return add(r)
	}
}

// readableBy tells which streams a user may read.
func (c *session) readableBy(u *user) func(stream string) bool {
	return func(stream string) bool { return c.server.allowed(u, stream, rightRead) }
}

// sendPage queues a page that b holds alone: a small one like any reply, a large one without copying it. One that is larger than
// a frame goes out like the others, as on a real server. It costs the peer its connection, and the length and the header tell
// it why.
func (c *session) sendPage(b []byte) error {
	const prefix = 4 // of a frame: its length
	binary.LittleEndian.PutUint32(b, uint32(len(b)-prefix))
	if len(b) > chunkSize {
		return c.out.give(b)
	}
	err := c.out.send(b)
	c.out.keep(b)
	return err
}

// errorText is what a client is told that gets the result Error. That the store failed is logged.
func (c *session) errorText(err error) string {
	if text := readError(""); errors.As(err, &text) {
		return string(text)
	}
	c.log.LogAttrs(context.Background(), slog.LevelError, "the store could not be read", slog.Any("err", err))
	return textReadFailed
}
