package groups

import (
	"time"

	"github.com/google/uuid"

	"github.com/goeventstore/eventstore/server/internal/store"
)

// Event is an event of a group's stream, or of its parked stream, as it was read: where its link led to was found out then.
type Event struct {
	Record   *store.Record // the original, which acks name: a link as it is
	Target   *store.Record // what the link led to, nil if there is nothing
	Followed bool          // Record is a link, and it was followed
	Replayed bool          // it comes from the parked stream
}

// Number is the event's number in the stream that it was read from.
func (e *Event) Number() int64 { return e.Record.Number }

// Subject is what it is about: the event that the link led to, else the original.
func (e *Event) Subject() *store.Record {
	if e.Target != nil {
		return e.Target
	}
	return e.Record
}

// Resolved is the event as whoever has links resolved gets it: the event, nil when a link led nowhere, and the link that
// was followed, nil for none.
func (e *Event) Resolved() (event, link *store.Record) {
	if e.Followed {
		return e.Target, e.Record
	}
	return e.Record, nil
}

// size is how many bytes it has, about.
func (e *Event) size() int {
	n := len(e.Record.Encoded)
	if e.Target != nil {
		n += len(e.Target.Encoded)
	}
	return n
}

// Message is an event that was sent to a consumer, or taken.
type Message struct {
	Event
	Retries int

	consumer    *Consumer // whose slot it has, nil for none: it was taken, or the slot is free again
	outstanding bool
	parking     bool
	reason      string // of its parking
	failures    int    // likewise
	sent        time.Time
	expires     time.Time
	twin        *Message // another one with the same id, sent later
	place       int      // in the table's heap

	// The neighbours among those that time out, in the order in which they were sent.
	earlier, later *Message
}

// Reason is why it is being parked.
func (m *Message) Reason() string { return m.reason }

// table are the messages that are outstanding or parking, or have a slot.
type table struct {
	byID        map[uuid.UUID]*Message // the one sent first; others with the same id hang on it
	size        int                    // that are outstanding
	lowest      []*Message             // a heap by number: outstanding, parking or retrying, and not replayed
	first, last *Message               // those that time out
}

// add starts an outstanding message.
func (t *table) add(m *Message, timeout time.Duration, now time.Time) {
	m.outstanding, m.sent = true, now
	t.size++
	if t.byID == nil {
		t.byID = make(map[uuid.UUID]*Message)
	}
	if known := t.byID[m.Record.ID]; known == nil {
		t.byID[m.Record.ID] = m
	} else {
		for known.twin != nil {
			known = known.twin
		}
		known.twin = m
	}
	t.see(m)
	if timeout != 0 {
		m.expires = now.Add(timeout)
		if m.earlier = t.last; t.last == nil {
			t.first = m
		} else {
			t.last.later = m
		}
		t.last = m
	}
}

// find returns the message with an id that fits a request of a consumer best: one in a slot of its own, else the first that
// is outstanding.
func (t *table) find(id uuid.UUID, of ID) *Message {
	var found *Message
	for m := t.byID[id]; m != nil; m = m.twin {
		switch {
		case m.consumer != nil && m.consumer.ID == of:
			return m
		case m.outstanding && (found == nil || !found.outstanding):
			found = m
		}
	}
	return found
}

// settle ends that a message is outstanding.
func (t *table) settle(m *Message) {
	if !m.outstanding {
		return
	}
	m.outstanding = false
	t.size--
	if m.earlier != nil {
		m.earlier.later = m.later
	} else if t.first == m {
		t.first = m.later
	}
	if m.later != nil {
		m.later.earlier = m.earlier
	} else if t.last == m {
		t.last = m.earlier
	}
	m.earlier, m.later = nil, nil
}

// forget takes out what is gone: neither outstanding nor parking. Its id is known as long as it has a slot.
func (t *table) forget(m *Message) {
	if m.outstanding || m.parking {
		return
	}
	t.pull(m)
	if m.consumer == nil {
		t.unknown(m)
	}
}

// unknown takes out the id of a message.
func (t *table) unknown(m *Message) {
	first := t.byID[m.Record.ID]
	switch {
	case first == m && m.twin == nil:
		delete(t.byID, m.Record.ID)
	case first == m:
		t.byID[m.Record.ID] = m.twin
	default:
		for ; first != nil; first = first.twin {
			if first.twin == m {
				first.twin = m.twin
				break
			}
		}
	}
	m.twin = nil
}

// The heap. A message's place counts from 1; 0 is none.

// see has a message count for the checkpoint until it is pulled out.
func (t *table) see(m *Message) {
	if m.Replayed || m.place != 0 {
		return
	}
	t.lowest = append(t.lowest, m)
	m.place = len(t.lowest)
	t.up(m.place)
}

func (t *table) pull(m *Message) {
	i := m.place
	if i == 0 {
		return
	}
	n := len(t.lowest)
	t.swap(i, n)
	t.lowest[n-1] = nil
	t.lowest = t.lowest[:n-1]
	m.place = 0
	if i < n {
		t.down(i)
		t.up(i)
	}
}

func (t *table) up(i int) {
	for i > 1 && t.number(i) < t.number(i/2) {
		t.swap(i, i/2)
		i /= 2
	}
}

func (t *table) down(i int) {
	for {
		child := 2 * i
		if child+1 <= len(t.lowest) && t.number(child+1) < t.number(child) {
			child++
		}
		if child > len(t.lowest) || t.number(i) <= t.number(child) {
			return
		}
		t.swap(i, child)
		i = child
	}
}

func (t *table) number(i int) int64 { return t.lowest[i-1].Number() }

func (t *table) swap(i, k int) {
	t.lowest[i-1], t.lowest[k-1] = t.lowest[k-1], t.lowest[i-1]
	t.lowest[i-1].place, t.lowest[k-1].place = i, k
}
