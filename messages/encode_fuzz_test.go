package messages_test

import (
	"testing"

	"github.com/google/uuid"

	"github.com/goeventstore/eventstore/messages"
)

// FuzzEncode writes messages of arbitrary values. The kind chooses the message, the flags its booleans and how many
// events it has.
func FuzzEncode(f *testing.F) {
	f.Fuzz(func(t *testing.T, kind, flags byte, stream, typ, message string, id, data, metadata []byte, a, b, c, d int64, x, y int32) {
		flag := func(n int) bool { return flags>>n&1 != 0 }
		var eventID uuid.UUID
		copy(eventID[:], id)
		if flag(7) && len(metadata) == 0 {
			metadata = nil
		}
		record := messages.EventRecord{
			Stream: stream, Number: a, ID: eventID, Type: typ, ContentType: x, MetadataType: y, Data: data, Metadata: metadata,
			Created: b, CreatedEpoch: c,
		}
		link := record
		link.Stream, link.Type, link.Data, link.Number = typ, message, []byte(stream), d
		event := messages.ResolvedEvent{HasEvent: flag(0), HasLink: flag(1)}
		if event.HasEvent {
			event.Event = record
		}
		if event.HasLink {
			event.Link = link
		}
		switch kind % 13 {
		case 0:
			recordBack(t, record)
		case 1:
			event.HasPosition, event.Commit, event.Prepare = true, a, d
			appearedBack(t, event)
		case 2:
			m := messages.Append{Stream: stream, Expected: a, RequireLeader: flag(0)}
			for i := range flags >> 1 & 7 {
				e := messages.NewEvent{ID: eventID, Type: typ, ContentType: x, MetadataType: y, Data: data, Metadata: metadata}
				if i%2 == 1 { // another one, or a wrong length would go unnoticed
					e.ID[i], e.Type, e.Data, e.Metadata = ^e.ID[i], message, metadata, data
				}
				m.Events = append(m.Events, e)
			}
			appendBack(t, m)
		case 3:
			m := messages.AppendCompleted{
				Result: messages.OperationResult(x), Message: message, First: a, Last: b, HasPosition: flag(0), HasCurrent: flag(1),
			}
			if m.HasPosition {
				m.Prepare, m.Commit = c, d
			}
			if m.HasCurrent {
				m.CurrentVersion = d
			}
			appendCompletedBack(t, m)
		case 4:
			streamReadBack(t, messages.StreamRead{
				Stream: stream, From: a, Count: x, ResolveLinks: flag(0), RequireLeader: flag(1), Backward: flag(2),
			})
		case 5:
			p := page{Result: messages.ReadStreamResult(x), Next: a, Last: b, EndOfStream: flag(2), LastCommit: c, Error: message}
			for i := range flags >> 3 & 7 {
				e := event
				if i%2 == 1 {
					e.HasEvent, e.HasLink, e.Event, e.Link = e.HasLink, e.HasEvent, e.Link, e.Event
				}
				p.Events = append(p.Events, e)
			}
			p.Count = len(p.Events)
			pageBack(t, p)
		case 6:
			eventReadBack(t, messages.EventRead{Stream: stream, Number: a, ResolveLinks: flag(0), RequireLeader: flag(1)})
		case 7:
			eventReadCompletedBack(t, messages.EventReadCompleted{Result: messages.ReadEventResult(x), Event: event, Error: message})
		case 8:
			allReadBack(t, messages.AllRead{
				Commit: a, Prepare: b, Count: x, ResolveLinks: flag(0), RequireLeader: flag(1), Backward: flag(2),
			})
		case 9:
			p := allPage{Commit: a, Prepare: b, NextCommit: c, NextPrepare: d, Result: messages.ReadAllResult(x), Error: message}
			for i := range flags >> 3 & 7 {
				e := event
				e.Commit, e.Prepare = a+int64(i), d
				p.Events = append(p.Events, e)
			}
			p.Count = len(p.Events)
			allPageBack(t, p)
		case 10:
			persistentEventBack(t, messages.PersistentEvent{Event: event, Retries: x})
		case 11, 12:
			var ids []uuid.UUID
			for i := range flags >> 3 & 7 {
				eventID[i] = ^eventID[i]
				ids = append(ids, eventID)
			}
			if kind%13 == 11 {
				persistentAckBack(t, messages.PersistentAck{Subscription: stream, IDs: ids})
			} else {
				persistentNakBack(t, messages.PersistentNak{Subscription: stream, IDs: ids, Message: message, Action: messages.NakAction(x)})
			}
		}
	})
}
