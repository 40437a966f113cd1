package server

import (
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/server/internal/store"
)

const (
	// pumpLimit is how many bytes of events one write carries beside the replies.
	pumpLimit = 256 << 10
	// pumpTurn is how many of them one subscription may have before the others get their turn.
	pumpTurn = 64 << 10
)

// publish tells the sessions which of their subscriptions have something to read, the groups which streams, and the
// projections that there is more.
func (w *writer) publish() {
	if p := w.server.projector; p != nil {
		signal(p.wake)
	}
	w.targets = w.server.subscriptions.appendTo(w.targets[:0], w.streams)
	for _, sub := range w.targets {
		o := sub.session.out
		o.mu.Lock()
		marked := o.mark(sub)
		o.mu.Unlock()
		if marked {
			signal(o.wake)
		}
	}
	clear(w.targets)
	w.server.groups.committed(w.streams)
}

// mark puts a subscription on the list of those to look at. The lock is held.
func (o *output) mark(sub *subscription) bool {
	if !sub.live || sub.dirty || sub.gone {
		return false
	}
	sub.dirty = true
	o.dirty = append(o.dirty, sub)
	return true
}

// pump reads what the subscriptions of b have to deliver and appends it to b, as far as one write carries it. Those with
// more to say are marked again.
func (c *session) pump(b *batch) error {
	v := c.server.view()
	for i, sub := range b.dirty {
		b.dirty[i] = nil
		if c.isGone(sub) {
			continue
		}
		more, err := c.deliver(sub, v, b)
		if err != nil {
			return err
		}
		if more {
			c.remark(sub)
		}
	}
	return nil
}

func (c *session) isGone(sub *subscription) bool {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	return sub.gone
}

// remark marks a subscription again; the write loop looks for it before it rests.
func (c *session) remark(sub *subscription) {
	c.out.mu.Lock()
	c.out.mark(sub)
	c.out.mu.Unlock()
}

// deliver appends the events behind a subscription's cursor to b, and reports whether there are more than it may now.
func (c *session) deliver(sub *subscription, v view, b *batch) (more bool, err error) {
	if sub.consumer != nil {
		return c.deliverMessages(sub.consumer, b)
	}
	limit := min(pumpLimit, len(b.events)+pumpTurn)
	narrow := c.narrow()
	var failed error
	yield := func(r *store.Record) bool {
		if len(b.events) >= limit {
			more = true
			return false
		}
		if r.Kind != store.Event {
			return true
		}
		if sub.filter.picks(r) {
			var out resolved
			if out, failed = v.delivered(r, sub.resolve, narrow); failed != nil {
				return false
			}
			b.events, failed = appendAppeared(b.events, sub.id, &out, r.Position())
		}
		sub.passed(r)
		if failed == nil {
			b.events, failed = sub.appendCheckpoint(b.events, r.Position())
		}
		return failed == nil
	}
	switch {
	case sub.stream == "":
		err = v.lender().Log(sub.place, v.at, yield)
		if err == nil && !more {
			sub.place = store.Position{Commit: v.at + 1}
		}
	case sub.number != noNumber:
		err = v.lender().Events(sub.stream, sub.number, messages.DeletedNumber, v.at, yield)
	}
	if err == nil {
		err = failed
	}
	return more, err
}

// passed moves the cursor behind an event.
func (sub *subscription) passed(r *store.Record) {
	switch {
	case sub.stream == "":
		sub.place = behind(r.Position())
	case r.Number == store.DeletedNumber:
		sub.number = noNumber
	default:
		sub.number = r.Number + 1
	}
}

// appendAppeared appends the frame that delivers an event.
func appendAppeared(b []byte, id messages.ID, out *resolved, at store.Position) ([]byte, error) {
	start := len(b)
	b = messages.AppendFrameStart(b, messages.StreamEventAppeared, id, nil)
	b = messages.AppendAppeared(b, out.event, out.link, at.Commit, at.Prepare)
	return messages.EndFrame(b, start)
}

// delivered is an event as a client with these numbers gets it, with its link followed if that is wanted.
func (v view) delivered(r *store.Record, follow, narrow bool) (resolved, error) {
	if follow && r.Type == typeLink {
		return v.resolve(r)
	}
	return resolved{event: encoded(r, narrow)}, nil
}

// encoded is a record as a client with these numbers gets it: as it is stored, unless it is a tombstone, whose number
// does not fit 32 bits.
func encoded(r *store.Record, narrow bool) []byte {
	if !narrow || r.Number != messages.DeletedNumber {
		return r.Encoded
	}
	var e messages.EventRecord
	if err := e.Decode(r.Encoded, nil); err != nil {
		return r.Encoded
	}
	e.Number = messages.DeletedNumber32
	return e.AppendTo(nil)
}
