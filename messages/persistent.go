package messages

import (
	"github.com/google/uuid"

	"github.com/goeventstore/eventstore/messages/pb"
)

// NakAction says what becomes of events that a member of a group gives back.
type NakAction = pb.PersistentSubscriptionNakEvents_NakAction

// What a member may do with an event that it does not acknowledge.
const (
	NakUnknown = pb.PersistentSubscriptionNakEvents_Unknown // as NakRetry
	NakPark    = pb.PersistentSubscriptionNakEvents_Park
	NakRetry   = pb.PersistentSubscriptionNakEvents_Retry
	NakSkip    = pb.PersistentSubscriptionNakEvents_Skip
	NakStop    = pb.PersistentSubscriptionNakEvents_Stop // servers take it as NakSkip
)

// PersistentEvent is an event that a group delivers to one of its members, PersistentSubscriptionStreamEventAppeared.
type PersistentEvent struct {
	Event   ResolvedEvent // without a position
	Retries int32         // how often it was tried before; servers before 4.1 do not tell
}

// Decode reads the body of PersistentSubscriptionStreamEventAppeared into m.
func (m *PersistentEvent) Decode(b []byte, names *Names) error {
	m.Event.reset()
	m.Retries = 0
	if m.inOrder(b, names) {
		return nil
	}
	f := fields{rest: b}
	for f.next() {
		switch {
		case f.is(1, text):
			if err := m.Event.Decode(f.b, names); err != nil {
				return err
			}
		case f.is(2, varint):
			m.Retries = int32(f.u)
		}
	}
	m.Event.HasPosition, m.Event.Commit, m.Event.Prepare = false, 0, 0 // a ResolvedIndexedEvent has no such fields
	return f.fail("PersistentSubscriptionStreamEventAppeared")
}

// inOrder is EventRecord's.
func (m *PersistentEvent) inOrder(b []byte, names *Names) bool {
	event, rest, ok := cut(b, 1<<3|text)
	if !ok || !m.Event.inOrder(event, names) || m.Event.HasPosition {
		return false
	}
	if startsWith(rest, 2<<3|varint) {
		var v uint64
		v, rest = value(rest)
		m.Retries = int32(v)
	}
	return len(rest) == 0
}

// AppendPersistentEvent appends the body of PersistentSubscriptionStreamEventAppeared; event and link are encoded records,
// nil when there is none.
func AppendPersistentEvent(b []byte, event, link []byte, retries int32) []byte {
	return appendInt(AppendIndexed(b, 1, event, link), 2, int64(retries))
}

// PersistentAck says that events were processed. There is no answer.
type PersistentAck struct {
	Subscription string      // "stream::group"
	IDs          []uuid.UUID // of the originals; servers refuse none at all
}

// Command implements Request.
func (*PersistentAck) Command() Command { return PersistentSubscriptionAckEvents }

// AppendTo implements Request.
func (m *PersistentAck) AppendTo(b []byte) ([]byte, error) {
	return appendIDs(appendString(b, 1, m.Subscription), m.IDs), nil
}

// Decode reads a request into m, whose IDs slice it uses again.
func (m *PersistentAck) Decode(b []byte, names *Names) error {
	*m = PersistentAck{IDs: m.IDs[:0]}
	f := fields{rest: b}
	for f.next() {
		switch {
		case f.is(1, text):
			m.Subscription = names.String(f.b)
		case f.is(2, text):
			id, err := ParseGUID(f.b)
			if err != nil {
				return err
			}
			m.IDs = append(m.IDs, id)
		}
	}
	return f.fail("PersistentSubscriptionAckEvents")
}

// PersistentNak gives events back. There is no answer.
type PersistentNak struct {
	Subscription string      // "stream::group"
	IDs          []uuid.UUID // of the originals; servers refuse none at all
	Message      string      // why; left out when empty
	Action       NakAction
}

// Command implements Request.
func (*PersistentNak) Command() Command { return PersistentSubscriptionNakEvents }

// AppendTo implements Request.
func (m *PersistentNak) AppendTo(b []byte) ([]byte, error) {
	b = appendIDs(appendString(b, 1, m.Subscription), m.IDs)
	if m.Message != "" {
		b = appendString(b, 3, m.Message)
	}
	return appendInt(b, 4, int64(m.Action)), nil
}

// Decode reads a request into m, whose IDs slice it uses again.
func (m *PersistentNak) Decode(b []byte, names *Names) error {
	*m = PersistentNak{IDs: m.IDs[:0]}
	f := fields{rest: b}
	for f.next() {
		switch {
		case f.is(1, text):
			m.Subscription = names.String(f.b)
		case f.is(2, text):
			id, err := ParseGUID(f.b)
			if err != nil {
				return err
			}
			m.IDs = append(m.IDs, id)
		case f.is(3, text):
			m.Message = string(f.b)
		case f.is(4, varint):
			m.Action = NakAction(f.u)
		}
	}
	return f.fail("PersistentSubscriptionNakEvents")
}

func appendIDs(b []byte, ids []uuid.UUID) []byte {
	for _, id := range ids {
		b = AppendGUID(append(b, tag(2, text), 16), id)
	}
	return b
}
