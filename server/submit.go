package server

import (
	"github.com/goeventstore/eventstore/messages"
)

// What a session may have with the writer at once. A session over its share stops reading until an answer of its own is
// queued: bytes that its peer takes for a sign of life, as ours is told that it lives while it is not read.
const (
	maxShareRequests = 4096
	maxShareBytes    = 16 << 20
)

// share is what of a session's requests is with the writer. The output's lock guards it.
type share struct {
	requests, bytes int
	waiting         bool // the read goroutine wants to know when there is room
}

// submit hands a request to the writer, waiting while the session's share is used up.
func (c *session) submit(r *request) error {
	r.size = len(r.body)
	if err := c.reserve(r.size); err != nil {
		return err
	}
	c.server.writer.enqueue(r)
	return nil
}

// reserve takes a part of the session's share, and waits for it while that is used up.
func (c *session) reserve(size int) error {
	for !c.out.reserve(size) {
		c.holding.Store(true)
		select {
		case <-c.out.room:
		case <-c.stop:
			return errServerClosed // it has a cause already, the first one counts
		}
		c.holding.Store(false)
	}
	return nil
}

// reserve takes a part of the share. A request of any size is let in when there is no other.
func (o *output) reserve(size int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := &o.share
	if s.requests > 0 && (s.requests >= maxShareRequests || s.bytes+size > maxShareBytes) {
		s.waiting = true
		return false
	}
	s.requests++
	s.bytes += size
	return true
}

// answer queues the answer to a request and gives its part of the share back. For the writer.
func (o *output) answer(frame []byte, size int) error {
	o.mu.Lock()
	err := o.add(frame)
	o.share.requests--
	o.share.bytes -= size
	waiting := o.share.waiting
	o.share.waiting = false
	o.mu.Unlock()
	signal(o.wake)
	if waiting {
		signal(o.room)
	}
	return err
}

// answer sends a request's answer and takes the request back.
func (w *writer) answer(r *request) {
	switch {
	case r.own != nil:
		r.own <- r.answer
		w.release(r)
		return
	case r.done != nil:
		r.done(&r.answer)
		w.release(r)
		return
	}
	b := r.appendAnswer(w.scratch[:0])
	b, err := messages.EndFrame(b, 0)
	if err == nil {
		err = r.session.out.answer(b, r.size)
	}
	if err != nil {
		r.session.end(err)
	}
	w.scratch = b
	w.release(r)
}

// appendAnswer appends the answer as a frame that EndFrame finishes. Encoding into memory does not fail.
func (r *request) appendAnswer(b []byte) []byte {
	if r.command == messages.DeleteStream {
		b = messages.AppendFrameStart(b, messages.DeleteStreamCompleted, r.id, nil)
		b, _ = appendDeleteCompleted(b, &r.answer)
		return b
	}
	b = messages.AppendFrameStart(b, messages.WriteEventsCompleted, r.id, nil)
	b, _ = r.answer.AppendTo(b)
	return b
}
