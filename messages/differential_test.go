package messages_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// These targets hold the two forms of the hot messages together: what protobuf reads out of any bytes, the fast form
// reads too, and what the fast form writes, protobuf reads as the same. The seeds are payloads of real servers and clients.
//
// The two differ in three things, all wanted:
//   - an event id of neither 0 nor 16 bytes is malformed in the fast form, also where a later one replaces it;
//   - StreamPage.Decode and AllPage.Decode do not look into the events, Each does: malformed is what either of the two refuses;
//   - fields 3 and 4 of a ResolvedIndexedEvent, unknown to protobuf, are read as positions.

// same decodes b in both forms and requires the same outcome: an error in both or in none, and without one the same
// fields. Names must change nothing.
func same[T any](t *testing.T, b []byte, names *messages.Names, slow proto.Message,
	fast func([]byte, *messages.Names) (T, error), collapse func() T,
) (T, bool) {
	t.Helper()
	slowErr := proto.UnmarshalOptions{AllowPartial: true}.Unmarshal(b, slow)
	refuse := slowErr != nil || hasBadID(slow.ProtoReflect().Descriptor(), b)

	got, err := fast(b, names)
	require.Equal(t, refuse, err != nil, "protobuf says %v, the fast form %v", slowErr, err)
	plain, plainErr := fast(b, nil)
	require.Equal(t, err, plainErr, "with names and without")
	if err != nil {
		require.ErrorIs(t, err, messages.ErrMalformed)
		return got, false
	}
	require.Equal(t, collapse(), got)
	require.Equal(t, got, plain, "with names and without")
	return got, true
}

// written requires that the bytes of the fast form are what protobuf makes of the same fields.
func written(t *testing.T, fast []byte, want proto.Message) {
	t.Helper()
	read := want.ProtoReflect().New().Interface()
	require.NoError(t, proto.Unmarshal(fast, read))
	require.Empty(t, read.ProtoReflect().GetUnknown())
	order := proto.MarshalOptions{Deterministic: true}
	wantBytes, err := order.Marshal(want)
	require.NoError(t, err)
	gotBytes, err := order.Marshal(read)
	require.NoError(t, err)
	require.Equal(t, wantBytes, gotBytes)
	require.Len(t, fast, len(wantBytes), "a field is written once")
}

// The next functions write a value, hold it against protobuf and read it back.

func recordBack(t *testing.T, e messages.EventRecord) {
	t.Helper()
	b := e.AppendTo(nil)
	written(t, b, toRecord(&e))
	var back messages.EventRecord
	require.NoError(t, back.Decode(b, nil))
	require.Equal(t, writtenRecord(e), back)
}

func appearedBack(t *testing.T, e messages.ResolvedEvent) {
	t.Helper()
	event, link := records(&e)
	b := messages.AppendAppeared(nil, event, link, e.Commit, e.Prepare)
	written(t, b, &pb.StreamEventAppeared{Event: toResolved(&e)})
	var back messages.ResolvedEvent
	require.NoError(t, messages.DecodeAppeared(b, nil, &back))
	want := writtenEvent(e)
	want.HasPosition = true // it is always written
	require.Equal(t, want, back)
}

func appendBack(t *testing.T, m messages.Append) {
	t.Helper()
	b, err := m.AppendTo(nil)
	require.NoError(t, err)
	written(t, b, toAppend(&m))
	var back messages.Append
	require.NoError(t, back.Decode(b, nil))
	for i := range m.Events {
		m.Events[i].Data = present(m.Events[i].Data)
	}
	require.Equal(t, m, back)
}

func appendCompletedBack(t *testing.T, m messages.AppendCompleted) {
	t.Helper()
	b, err := m.AppendTo(nil)
	require.NoError(t, err)
	written(t, b, toAppendCompleted(&m))
	var back messages.AppendCompleted
	require.NoError(t, back.Decode(b))
	require.Equal(t, m, back)
}

func streamReadBack(t *testing.T, m messages.StreamRead) {
	t.Helper()
	b, err := m.AppendTo(nil)
	require.NoError(t, err)
	written(t, b, toStreamRead(&m))
	back := messages.StreamRead{Backward: m.Backward}
	require.NoError(t, back.Decode(b, nil))
	require.Equal(t, m, back)
}

func pageBack(t *testing.T, p page) {
	t.Helper()
	b := p.appendTo(nil)
	written(t, b, toPage(&p))
	back, err := decodePage(b, nil)
	require.NoError(t, err)
	for i := range p.Events {
		p.Events[i] = writtenEvent(p.Events[i])
	}
	require.Equal(t, p, back)
}

func allReadBack(t *testing.T, m messages.AllRead) {
	t.Helper()
	b, err := m.AppendTo(nil)
	require.NoError(t, err)
	written(t, b, toAllRead(&m))
	back := messages.AllRead{Backward: m.Backward}
	require.NoError(t, back.Decode(b))
	require.Equal(t, m, back)
}

func allPageBack(t *testing.T, p allPage) {
	t.Helper()
	b := p.appendTo(nil)
	written(t, b, toAllPage(&p))
	back, err := decodeAllPage(b, nil)
	require.NoError(t, err)
	for i := range p.Events {
		p.Events[i] = writtenEvent(p.Events[i])
		p.Events[i].HasPosition = true // it is always written
	}
	require.Equal(t, p, back)
}

func eventReadBack(t *testing.T, m messages.EventRead) {
	t.Helper()
	b, err := m.AppendTo(nil)
	require.NoError(t, err)
	written(t, b, toEventRead(&m))
	var back messages.EventRead
	require.NoError(t, back.Decode(b, nil))
	require.Equal(t, m, back)
}

func eventReadCompletedBack(t *testing.T, m messages.EventReadCompleted) {
	t.Helper()
	event, link := records(&m.Event)
	b := messages.AppendEventRead(nil, m.Result, event, link, m.Error)
	written(t, b, toEventReadCompleted(&m))
	var back messages.EventReadCompleted
	require.NoError(t, back.Decode(b, nil))
	m.Event = writtenEvent(m.Event)
	require.Equal(t, m, back)
}

func persistentEventBack(t *testing.T, m messages.PersistentEvent) {
	t.Helper()
	event, link := records(&m.Event)
	b := messages.AppendPersistentEvent(nil, event, link, m.Retries)
	written(t, b, toPersistentEvent(&m))
	var back messages.PersistentEvent
	require.NoError(t, back.Decode(b, nil))
	m.Event = writtenEvent(m.Event)
	require.Equal(t, m, back)
}

func persistentAckBack(t *testing.T, m messages.PersistentAck) {
	t.Helper()
	b, err := m.AppendTo(nil)
	require.NoError(t, err)
	written(t, b, toPersistentAck(&m))
	var back messages.PersistentAck
	require.NoError(t, back.Decode(b, nil))
	require.Equal(t, m, back)
}

func persistentNakBack(t *testing.T, m messages.PersistentNak) {
	t.Helper()
	b, err := m.AppendTo(nil)
	require.NoError(t, err)
	written(t, b, toPersistentNak(&m))
	var back messages.PersistentNak
	require.NoError(t, back.Decode(b, nil))
	require.Equal(t, m, back)
}

// writtenRecord is what a record reads as once it was written: data and metadata are there, empty or not.
func writtenRecord(e messages.EventRecord) messages.EventRecord {
	e.Data, e.Metadata = present(e.Data), present(e.Metadata)
	return e
}

// writtenEvent is the same of an event: what it has not is not written.
func writtenEvent(e messages.ResolvedEvent) messages.ResolvedEvent {
	w := messages.ResolvedEvent{HasEvent: e.HasEvent, HasLink: e.HasLink, HasPosition: e.HasPosition, Commit: e.Commit, Prepare: e.Prepare}
	if e.HasEvent {
		w.Event = writtenRecord(e.Event)
	}
	if e.HasLink {
		w.Link = writtenRecord(e.Link)
	}
	return w
}

func FuzzEventRecord(f *testing.F) {
	seed(f)
	names := new(messages.Names)
	f.Fuzz(func(t *testing.T, b []byte) {
		var slow pb.EventRecord
		e, ok := same(t, b, names, &slow, func(b []byte, n *messages.Names) (e messages.EventRecord, err error) {
			err = e.Decode(b, n)
			return e, err
		}, func() messages.EventRecord { return fromRecord(&slow) })
		if ok {
			recordBack(t, e)
		}
	})
}

// FuzzResolvedEvent reads the bytes as a ResolvedEvent and as a ResolvedIndexedEvent: the fast form is one for both.
func FuzzResolvedEvent(f *testing.F) {
	seed(f)
	names := new(messages.Names)
	f.Fuzz(func(t *testing.T, b []byte) {
		fast := func(b []byte, n *messages.Names) (e messages.ResolvedEvent, err error) {
			err = e.Decode(b, n)
			return e, err
		}
		var resolved pb.ResolvedEvent
		same(t, b, names, &resolved, fast, func() messages.ResolvedEvent { return fromResolved(&resolved) })
		var plain pb.ResolvedIndexedEvent
		same(t, b, names, &plain, func(b []byte, n *messages.Names) (messages.ResolvedEvent, error) {
			e, err := fast(b, n)
			return indexed(e), err
		}, func() messages.ResolvedEvent { return fromIndexed(&plain) })
	})
}

func FuzzAppeared(f *testing.F) {
	seed(f)
	names := new(messages.Names)
	f.Fuzz(func(t *testing.T, b []byte) {
		var slow pb.StreamEventAppeared
		e, ok := same(t, b, names, &slow, func(b []byte, n *messages.Names) (e messages.ResolvedEvent, err error) {
			e.HasLink, e.Event.Type = true, "what was there before"
			err = messages.DecodeAppeared(b, n, &e)
			return e, err
		}, func() messages.ResolvedEvent { return fromResolved(slow.GetEvent()) })
		if ok {
			appearedBack(t, e)
		}
	})
}

func FuzzAppend(f *testing.F) {
	seed(f)
	names := new(messages.Names)
	f.Fuzz(func(t *testing.T, b []byte) {
		var slow pb.WriteEvents
		m, ok := same(t, b, names, &slow, func(b []byte, n *messages.Names) (m messages.Append, err error) {
			m.Stream, m.Expected, m.RequireLeader = "what was there before", 9, true
			err = m.Decode(b, n)
			return m, err
		}, func() messages.Append { return fromAppend(&slow) })
		if ok {
			appendBack(t, m)
		}
	})
}

func FuzzAppendCompleted(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		var slow pb.WriteEventsCompleted
		m, ok := same(t, b, nil, &slow, func(b []byte, _ *messages.Names) (m messages.AppendCompleted, err error) {
			m.Message, m.HasPosition = "what was there before", true
			err = m.Decode(b)
			return m, err
		}, func() messages.AppendCompleted { return fromAppendCompleted(&slow) })
		if ok {
			appendCompletedBack(t, m)
		}
	})
}

func FuzzStreamRead(f *testing.F) {
	seed(f)
	names := new(messages.Names)
	f.Fuzz(func(t *testing.T, b []byte) {
		var slow pb.ReadStreamEvents
		m, ok := same(t, b, names, &slow, func(b []byte, n *messages.Names) (m messages.StreamRead, err error) {
			m.From, m.ResolveLinks = 9, true // what was there before
			err = m.Decode(b, n)
			return m, err
		}, func() messages.StreamRead { return fromStreamRead(&slow) })
		if ok {
			streamReadBack(t, m)
		}
	})
}

func FuzzStreamPage(f *testing.F) {
	seed(f)
	names := new(messages.Names)
	f.Fuzz(func(t *testing.T, b []byte) {
		var slow pb.ReadStreamEventsCompleted
		p, ok := same(t, b, names, &slow, decodePage, func() page { return fromPage(&slow) })
		if ok {
			pageBack(t, p)
		}
	})
}

func FuzzAllRead(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		var slow pb.ReadAllEvents
		m, ok := same(t, b, nil, &slow, func(b []byte, _ *messages.Names) (m messages.AllRead, err error) {
			m.Commit, m.ResolveLinks = 9, true // what was there before
			err = m.Decode(b)
			return m, err
		}, func() messages.AllRead { return fromAllRead(&slow) })
		if ok {
			allReadBack(t, m)
		}
	})
}

func FuzzAllPage(f *testing.F) {
	seed(f)
	f.Add(unhex(f, allPageWire))
	names := new(messages.Names)
	f.Fuzz(func(t *testing.T, b []byte) {
		var slow pb.ReadAllEventsCompleted
		p, ok := same(t, b, names, &slow, decodeAllPage, func() allPage { return fromAllPage(&slow) })
		if ok {
			allPageBack(t, p)
		}
	})
}

func FuzzEventRead(f *testing.F) {
	seed(f)
	names := new(messages.Names)
	f.Fuzz(func(t *testing.T, b []byte) {
		var slow pb.ReadEvent
		m, ok := same(t, b, names, &slow, func(b []byte, n *messages.Names) (m messages.EventRead, err error) {
			m.Number, m.RequireLeader = 9, true // what was there before
			err = m.Decode(b, n)
			return m, err
		}, func() messages.EventRead { return fromEventRead(&slow) })
		if ok {
			eventReadBack(t, m)
		}
	})
}

func FuzzEventReadCompleted(f *testing.F) {
	seed(f)
	names := new(messages.Names)
	f.Fuzz(func(t *testing.T, b []byte) {
		var slow pb.ReadEventCompleted
		m, ok := same(t, b, names, &slow, func(b []byte, n *messages.Names) (m messages.EventReadCompleted, err error) {
			m.Error, m.Event.HasEvent = "what was there before", true
			if err = m.Decode(b, n); err != nil {
				return m, err
			}
			m.Event = indexed(m.Event)
			return m, nil
		}, func() messages.EventReadCompleted { return fromEventReadCompleted(&slow) })
		if ok {
			eventReadCompletedBack(t, m)
		}
	})
}

func FuzzPersistentEvent(f *testing.F) {
	seed(f)
	names := new(messages.Names)
	f.Fuzz(func(t *testing.T, b []byte) {
		var slow pb.PersistentSubscriptionStreamEventAppeared
		m, ok := same(t, b, names, &slow, func(b []byte, n *messages.Names) (m messages.PersistentEvent, err error) {
			m.Retries, m.Event.HasLink = 9, true // what was there before
			err = m.Decode(b, n)
			return m, err
		}, func() messages.PersistentEvent { return fromPersistentEvent(&slow) })
		if ok {
			persistentEventBack(t, m)
		}
	})
}

func FuzzPersistentAck(f *testing.F) {
	seed(f)
	names := new(messages.Names)
	f.Fuzz(func(t *testing.T, b []byte) {
		var slow pb.PersistentSubscriptionAckEvents
		m, ok := same(t, b, names, &slow, func(b []byte, n *messages.Names) (m messages.PersistentAck, err error) {
			m.Subscription = "what was there before"
			err = m.Decode(b, n)
			return m, err
		}, func() messages.PersistentAck { return fromPersistentAck(&slow) })
		if ok {
			persistentAckBack(t, m)
		}
	})
}

func FuzzPersistentNak(f *testing.F) {
	seed(f)
	names := new(messages.Names)
	f.Fuzz(func(t *testing.T, b []byte) {
		var slow pb.PersistentSubscriptionNakEvents
		m, ok := same(t, b, names, &slow, func(b []byte, n *messages.Names) (m messages.PersistentNak, err error) {
			m.Message, m.Action = "what was there before", messages.NakPark
			err = m.Decode(b, n)
			return m, err
		}, func() messages.PersistentNak { return fromPersistentNak(&slow) })
		if ok {
			persistentNakBack(t, m)
		}
	})
}
