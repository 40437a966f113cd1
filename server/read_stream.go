package server

import (
	"context"
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
		var err error
		p, b, err = v.page(&m, b)
		if err != nil {
			c.readFailed(err)
			p, b = failedPage(messages.ReadStreamError, -1, textReadFailed), b[:head]
		}
	}
	p.Last = c.number(p.Last)
	p.LastCommit = v.at
	b = p.AppendTo(b)
	if len(b) > messages.MaxFrame {
		p = failedPage(messages.ReadStreamError, -1, textPageTooLarge)
		p.LastCommit = v.at
		b = p.AppendTo(b[:head:head])
	}
	return c.sendPage(b)
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

// page appends the events of a page to b and returns what follows them.
func (v view) page(m *messages.StreamRead, b []byte) (messages.StreamPage, []byte, error) {
	info, err := v.info(m.Stream)
	switch {
	case err != nil:
		return messages.StreamPage{}, b, err
	case info.deleted:
		return failedPage(messages.ReadStreamStreamDeleted, messages.DeletedNumber, ""), b, nil
	case !info.exists():
		return failedPage(messages.ReadStreamNoStream, info.last, ""), b, nil
	case m.Backward:
		return v.backward(m, &info, b)
	}
	return v.forward(m, &info, b)
}

// forward reads upwards from m.From. The sum of From and Count may overflow: the page then ends before it begins, as on
// a real server (4.8).
func (v view) forward(m *messages.StreamRead, info *streamInfo, b []byte) (messages.StreamPage, []byte, error) {
	end := m.From + int64(m.Count) - 1
	if end < info.min {
		return messages.StreamPage{Next: info.min, Last: info.last}, b, nil
	}
	e := encoder{b: b, last: -1}
	if first := max(m.From, info.min); first <= info.last {
		if err := v.store.Events(m.Stream, first, min(end, info.last), v.at, e.add); err != nil {
			return messages.StreamPage{}, e.b, err
		}
	}
	p := messages.StreamPage{Next: e.last + 1, Last: info.last, EndOfStream: end >= info.last}
	if e.last < 0 {
		p.Next = min(end, info.last) + 1
	}
	return p, e.b, nil
}

// backward reads downwards from m.From, or from the last event.
func (v view) backward(m *messages.StreamRead, info *streamInfo, b []byte) (messages.StreamPage, []byte, error) {
	from := m.From
	if from < 0 {
		from = info.last
	}
	if from < info.min {
		return messages.StreamPage{Next: -1, Last: info.last, EndOfStream: true}, b, nil
	}
	p := messages.StreamPage{Last: info.last}
	start := max(0, from-int64(m.Count)+1)
	if start <= info.min {
		start, p.EndOfStream = info.min, true
	}
	e := encoder{b: b, last: -1}
	if start <= info.last {
		if err := v.store.EventsBackward(m.Stream, start, min(from, info.last), v.at, e.add); err != nil {
			return messages.StreamPage{}, e.b, err
		}
	}
	if start == 0 || (start <= info.last && e.last != start) {
		p.EndOfStream = true
	}
	p.Next = -1
	if !p.EndOfStream {
		p.Next = min(start-1, info.last)
	}
	return p, e.b, nil
}

// encoder appends the events of a page as they are stored.
type encoder struct {
	b    []byte
	last int64 // the number of the event added last
}

// add appends one event. It stops when the page cannot be sent any more.
func (e *encoder) add(r *store.Record) bool {
	e.b = messages.AppendIndexed(e.b, 1, r.Encoded, nil)
	e.last = r.Number
	return len(e.b) <= messages.MaxFrame
}

// sendPage queues a page that b holds alone: a small one like any reply, a large one without copying it.
func (c *session) sendPage(b []byte) error {
	b, err := messages.EndFrame(b, 0)
	switch {
	case err != nil:
	case len(b) <= chunkSize:
		err = c.out.send(b)
		c.out.keep(b)
	default:
		err = c.out.give(b)
	}
	return err
}

// readFailed logs that the store failed.
func (c *session) readFailed(err error) {
	c.log.LogAttrs(context.Background(), slog.LevelError, "the store could not be read", slog.Any("err", err))
}
