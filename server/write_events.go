package server

import (
	"github.com/google/uuid"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/server/internal/store"
)

// The expected versions with a meaning of their own (4.2).
const (
	expectAny          int64 = -2
	expectNoStream     int64 = -1
	expectStreamExists int64 = -4
	expectInvalid      int64 = -3
)

// maxEventSize bounds data, metadata and two bytes for each character of the type (4.6).
const maxEventSize = 16<<20 - 10_000

// The messages of operations that were refused (4.4).
const (
	textWrongVersion   = "Wrong expected version."
	textStreamDeleted  = "Stream is deleted."
	textAccessDenied   = "Access denied."
	textCommitTimeout  = "Commit phase timeout."
	textForwardTimeout = "Forwarding timeout"
)

// writeEvents takes a WriteEvents request and leaves the rest to the writer.
func (c *session) writeEvents(f *messages.Frame, u *user) error {
	r := c.server.writer.request()
	r.body = append(r.body, f.Body...)
	if !decodeWrite(r.body, &r.write, &c.names) || !acceptable(&r.write) {
		c.server.writer.release(r)
		c.badRequest(f, "")
		return nil
	}
	r.session, r.id, r.command = c, f.ID, messages.WriteEvents
	if !c.mayWrite(u, r.write.Stream) {
		r.answer = refused(messages.AccessDenied, -1)
		c.send(r.appendAnswer(c.scratch[:0]))
		c.server.writer.release(r)
		return nil
	}
	return c.submit(r, len(f.Body))
}

// acceptable reports whether a request can be decided at all (4.2, 4.6); names are made readable on the way.
func acceptable(m *messages.Append) bool {
	m.Stream = readable(m.Stream)
	if m.Stream == "" || m.Stream == metaPrefix || m.Expected == expectInvalid || m.Expected < expectStreamExists {
		return false
	}
	return acceptableEvents(m.Events)
}

func acceptableEvents(events []messages.NewEvent) bool {
	for i := range events {
		e := &events[i]
		e.Type = readable(e.Type)
		if e.ID == (uuid.UUID{}) || e.Type == "" || len(e.Data)+len(e.Metadata)+2*characters(e.Type) > maxEventSize {
			return false
		}
	}
	return true
}

// verdict is what becomes of a write.
type verdict uint8

const (
	appendAll verdict = iota
	idempotent
	undecided // idempotent to events that are not committed yet
	wrongVersion
	streamDeleted
)

// decision is a verdict with what the answer needs.
type decision struct {
	verdict     verdict
	info        streamInfo
	first, last int64 // of an idempotent write
}

// decide is the decision procedure of 4.3, for writes and for deletes, whose event is the one that they would add.
func (w *writer) decide(stream string, expected int64, events []messages.NewEvent) (decision, error) {
	info, err := w.staged().info(stream)
	if err != nil {
		return decision{}, err
	}
	d := decision{info: info}
	// 1. A metastream that has been written stays writable after its stream's hard delete (4.11).
	if info.head.Tombstoned || (info.deleted && info.last < 0) {
		d.verdict = streamDeleted
		return d, nil
	}
	if expected == expectStreamExists { // 2
		switch {
		case info.softDeleted:
			d.verdict = streamDeleted
			return d, nil
		case info.last < 0 && info.head.Meta < 0:
			d.verdict = wrongVersion
			return d, nil
		}
	}
	switch {
	case expected == expectAny || expected == expectStreamExists:
		w.decideAny(&d, stream, events)
	case expected < info.last:
		err = w.decideBehind(&d, stream, expected, events)
	case expected > info.last: // 5
		d.verdict = wrongVersion
	}
	if d.verdict == idempotent && err == nil {
		var committed store.Head
		committed, err = w.store.Head(stream, w.store.Tip().Commit)
		if committed.Last < d.last {
			d.verdict = undecided
		}
	}
	return d, err // 6: appendAll, the ids are not looked at
}

// decideAny is 3 of the procedure: by the memory of ids alone.
func (w *writer) decideAny(d *decision, stream string, events []messages.NewEvent) {
	for i := range events {
		place, known := w.ids.Find(events[i].ID)
		if !known || place.Stream != stream {
			if i > 0 {
				d.verdict = wrongVersion
			}
			return
		}
		if i == 0 {
			d.first = place.Number
		}
		d.last = place.Number
	}
	switch {
	case len(events) == 0:
	case d.last < d.first: // a real server never answers
		d.verdict = wrongVersion
	default:
		d.verdict = idempotent
	}
}

// decideBehind is 4 of the procedure: the write is idempotent if its events are those behind the expected version.
func (w *writer) decideBehind(d *decision, stream string, expected int64, events []messages.NewEvent) error {
	d.verdict = wrongVersion
	if len(events) == 0 {
		return nil
	}
	for i := range events {
		number := expected + 1 + int64(i)
		same, err := w.isAt(events[i].ID, stream, number)
		if err != nil {
			return err
		}
		if !same {
			if i == 0 && expected == expectNoStream && d.info.softDeleted {
				d.verdict = appendAll
			}
			return nil
		}
	}
	d.verdict = idempotent
	d.first, d.last = expected+1, expected+int64(len(events))
	return nil
}

// isAt reports whether the event with this number of the stream has this id.
func (w *writer) isAt(id uuid.UUID, stream string, number int64) (same bool, err error) {
	if place, known := w.ids.Find(id); known && place.Number == number && place.Stream == stream {
		return true, nil
	}
	err = w.store.Events(stream, number, number, store.Staged, func(r *store.Record) bool {
		same = r.ID == id
		return false
	})
	return same, err
}

// append decides a write and stages what it adds.
func (w *writer) append(r *request) error {
	m := &r.write
	d, err := w.decide(m.Stream, m.Expected, m.Events)
	if err != nil {
		return err
	}
	switch d.verdict {
	case streamDeleted:
		r.answer = refused(messages.StreamDeleted, -1)
	case wrongVersion:
		r.answer = refused(messages.WrongExpectedVersion, d.info.last)
	case idempotent:
		r.answer, err = w.again(m.Stream, &d)
		return err
	case undecided:
		r.answer = refused(messages.CommitTimeout, -1)
	default:
		return w.appendEvents(r, &d)
	}
	return nil
}

// appendEvents stages the events of a write behind the last one, and what undeletes the stream behind them.
func (w *writer) appendEvents(r *request, d *decision) error {
	m := &r.write
	now := w.moment
	undeletion, err := w.undeletionBy(m.Stream, d)
	if err != nil {
		return err
	}
	first, last := d.info.last+1, d.info.last+int64(len(m.Events))
	var position int64
	if len(m.Events) == 0 {
		position, err = w.stagePlace(store.Blank, recordSize(m.Stream, &messages.NewEvent{})) // 4.5
	}
	for i := range m.Events {
		if err == nil {
			position, err = w.stage(m.Stream, first+int64(i), &m.Events[i], now)
		}
	}
	if err == nil && undeletion.stream != "" {
		err = w.undelete(undeletion, now)
	}
	r.answer = completed(first, last, position)
	return err
}

// again is the answer to an idempotent write. Its position is -1, but newer servers look where the last event is (4.4).
func (w *writer) again(stream string, d *decision) (messages.AppendCompleted, error) {
	position := int64(-1)
	if w.server.dialect.generation < generation20 {
		return completed(d.first, d.last, position), nil
	}
	err := w.store.Events(stream, d.last, d.last, store.Staged, func(r *store.Record) bool {
		position = r.Commit
		return false
	})
	return completed(d.first, d.last, position), err
}

// completed is the answer to a write that succeeded.
func completed(first, last, position int64) messages.AppendCompleted {
	return messages.AppendCompleted{
		First: first, Last: last,
		HasPosition: true, Prepare: position, Commit: position,
		HasCurrent: true,
	}
}

// refused is the answer to a write that failed, with the constants of 4.4.
func refused(result messages.OperationResult, current int64) messages.AppendCompleted {
	return messages.AppendCompleted{
		Result: result, Message: refusal(result),
		First: messages.FailedNumber, Last: messages.FailedNumber,
		HasPosition: true, Prepare: messages.FailedNumber, Commit: 0,
		HasCurrent: true, CurrentVersion: current,
	}
}

func refusal(result messages.OperationResult) string {
	switch result {
	case messages.WrongExpectedVersion:
		return textWrongVersion
	case messages.StreamDeleted:
		return textStreamDeleted
	case messages.AccessDenied:
		return textAccessDenied
	case messages.CommitTimeout:
		return textCommitTimeout
	case messages.ForwardTimeout:
		return textForwardTimeout
	default:
		return ""
	}
}
