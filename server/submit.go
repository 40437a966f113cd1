package server

import (
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
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

// submit hands a request to the writer with the next wakeWriter, waiting while the session's share is used up.
func (c *session) submit(r *request, size int) error {
	r.size = size
	if err := c.reserve(size); err != nil {
		return err
	}
	c.submitted = append(c.submitted, r)
	return nil
}

// reserve takes a part of the session's share, and waits for it while that is used up.
func (c *session) reserve(size int) error {
	for !c.out.reserve(size) {
		c.wakeWriter()
		select {
		case <-c.out.room:
		case <-c.stop:
			return errServerClosed // it has a cause already, the first one counts
		}
	}
	return nil
}

// wakeWriter hands over what was submitted.
func (c *session) wakeWriter() {
	if len(c.submitted) > 0 {
		c.server.writer.enqueue(c.submitted...)
		clear(c.submitted)
		c.submitted = c.submitted[:0]
		signal(c.server.writer.wake)
	}
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

// giveBack gives the bytes of a request back, which is still to be answered.
func (o *output) giveBack(size int) {
	o.mu.Lock()
	o.share.bytes -= size
	waiting := o.share.waiting
	o.share.waiting = false
	o.mu.Unlock()
	if waiting {
		signal(o.room)
	}
}

// answer queues the answers to so many requests and gives their part of the share back. For the writer.
func (o *output) answer(frames []byte, requests, size int) error {
	o.mu.Lock()
	err := o.add(frames)
	o.frames += requests - 1
	o.share.requests -= requests
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

// answers are those of one session that are not queued yet: mostly many requests that follow each other are of one.
type answers struct {
	session        *session
	frames         []byte
	requests, size int
}

// maxAnswers is how many bytes of answers are queued together.
const maxAnswers = chunkSize / 2

// answer answers a request, once sendAnswers is called, and takes it back.
func (w *writer) answer(r *request) {
	switch {
	case r.back != nil:
		r.back(r.conclusion)
		w.release(r)
		return
	case r.own != nil:
		r.own <- r.answer
		w.release(r)
		return
	case r.done != nil:
		w.sendAnswers() // done may answer the same session
		r.done(&r.answer)
		w.release(r)
		return
	case r.links != nil:
		signal(r.links.done)
		return
	}
	a := &w.answers
	if r.session != a.session || len(a.frames) > maxAnswers {
		w.sendAnswers()
	}
	start := len(a.frames)
	frames, err := messages.EndFrame(r.appendAnswer(a.frames), start)
	if err != nil {
		r.session.end(err)
	}
	a.session, a.frames = r.session, frames
	a.requests++
	a.size += r.size
	w.release(r)
}

// sendAnswers queues what was answered.
func (w *writer) sendAnswers() {
	a := &w.answers
	if a.session == nil {
		return
	}
	if err := a.session.out.answer(a.frames, a.requests, a.size); err != nil {
		a.session.end(err)
	}
	*a = answers{frames: a.frames[:0]}
}

// appendAnswer appends the answer as a frame that EndFrame finishes. Encoding into memory does not fail.
func (r *request) appendAnswer(b []byte) []byte {
	if r.refusal != "" {
		return append(messages.AppendFrameStart(b, messages.BadRequest, r.id, nil), r.refusal...)
	}
	if r.notReady {
		b = messages.AppendFrameStart(b, messages.NotHandled, r.id, nil)
		b, _ = messages.Of(messages.NotHandled, &pb.NotHandled{Reason: pb.NotHandled_NotReady.Enum()}).AppendTo(b)
		return b
	}
	d := &r.session.server.dialect
	d.adapt(&r.answer)
	switch r.command {
	case messages.WriteEvents:
		b = messages.AppendFrameStart(b, messages.WriteEventsCompleted, r.id, nil)
		b, _ = r.answer.AppendTo(b)
	case messages.DeleteStream:
		b = messages.AppendFrameStart(b, messages.DeleteStreamCompleted, r.id, nil)
		b, _ = appendDeleteCompleted(b, &r.answer, d.generation >= generation226)
	case messages.ScavengeDatabase:
		b = messages.AppendFrameStart(b, messages.ScavengeDatabaseCompleted, r.id, nil)
		b, _ = messages.Of(messages.ScavengeDatabaseCompleted, r.scavenged).AppendTo(b)
	default:
		b = r.appendTransactionAnswer(b)
	}
	return b
}
