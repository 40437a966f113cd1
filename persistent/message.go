package persistent

import (
	"time"

	"github.com/google/uuid"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/messages"
)

// Message is an event that the group has given to this member, to be acknowledged or given back within the group's time-out.
// It belongs to the caller; it shares its memory with others, see ResolvedEvent.Clone.
type Message struct {
	eventstore.ResolvedEvent     // Event is nil for a link without a target
	Retries                  int // how often it was tried before. Servers before 4.1 do not tell, and older than 20 set it to 1 after a lost member

	join     *joining      // which delivered it
	id       uuid.UUID     // of the original, which acks go by: that of the link, for a replayed message that of the parked link
	received time.Duration // since the group's epoch

	done       bool // acknowledged or given back, guarded by the group's mu as what follows
	counted    bool // it is in the window
	prev, next *Message
}

// joining is one of a group's; a message is of one.
type joining struct{ group *Group }

// Action says what becomes of a message that is given back.
type Action int

// The actions of Nack.
const (
	// Park puts the message aside, into the group's parked messages, until they are replayed.
	Park = Action(messages.NakPark)
	// Retry has it delivered again at once, or parked when it was tried as often as the group allows.
	Retry = Action(messages.NakRetry)
	// Skip counts it as processed.
	Skip = Action(messages.NakSkip)
	// Stop is Skip: no server stops anything.
	Stop = Action(messages.NakStop)
)

// String returns the action's name.
func (a Action) String() string { return messages.NakAction(a).String() }

// window is a list of the messages that take a place in the window on the server, as far as this side knows, oldest first. When
// there are more than the window has places, the server has taken the oldest back: its time was up.
type window struct {
	oldest, newest *Message
	n              int
}

func (w *window) add(m *Message, limit int) {
	if w.n == limit {
		w.remove(w.oldest)
	}
	m.counted, m.prev = true, w.newest
	if w.newest != nil {
		w.newest.next = m
	} else {
		w.oldest = m
	}
	w.newest = m
	w.n++
}

// remove takes m out if it is in.
func (w *window) remove(m *Message) {
	if !m.counted {
		return
	}
	if m.prev != nil {
		m.prev.next = m.next
	} else {
		w.oldest = m.next
	}
	if m.next != nil {
		m.next.prev = m.prev
	} else {
		w.newest = m.prev
	}
	m.counted, m.prev, m.next = false, nil, nil
	w.n--
}

func (w *window) clear() {
	for w.oldest != nil {
		w.remove(w.oldest)
	}
}
