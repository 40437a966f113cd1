package server

import (
	"fmt"
	"strings"
	"time"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
	"github.com/goeventstore/eventstore/server/internal/store"
)

// deleteStream takes a DeleteStream request and leaves the rest to the writer.
func (c *session) deleteStream(f *messages.Frame, u *user) error {
	var m pb.DeleteStream
	if !deleteShape.message(f, &m) {
		c.badRequest(f, "")
		return nil
	}
	stream, expected := readable(m.GetEventStreamId()), m.GetExpectedVersion()
	takes := expected >= expectAny || expected == expectStreamExists && c.server.dialect.generation >= generation226
	if stream == "" || !takes { // 4.2
		c.badRequest(f, "")
		return nil
	}
	r := c.server.writer.request()
	r.session, r.id, r.command = c, f.ID, messages.DeleteStream
	r.write.Stream, r.write.Expected, r.hard = stream, expected, m.GetHardDelete()
	if !c.server.allowed(u, stream, rightDelete) {
		r.answer = refused(messages.AccessDenied, -1)
		c.send(r.appendAnswer(c.scratch[:0]))
		c.server.writer.release(r)
		return nil
	}
	return c.submit(r, len(f.Body))
}

// delete decides a delete (4.11): as a write of one event with a new id would be.
func (w *writer) delete(r *request) error {
	stream := r.write.Stream
	event := messages.NewEvent{ID: w.newID()}
	d, err := w.decide(stream, r.write.Expected, []messages.NewEvent{event})
	if err != nil {
		return err
	}
	switch d.verdict {
	case streamDeleted:
		r.answer = refused(messages.StreamDeleted, -1)
		return nil
	case appendAll:
	default:
		r.answer = refused(messages.WrongExpectedVersion, d.info.last)
		return nil
	}
	var position int64
	if r.hard {
		event.Type = typeStreamDeleted
		position, err = w.stage(stream, messages.DeletedNumber, &event, w.moment)
	} else {
		event.Type, event.ContentType, event.Data = typeMetadata, 1, fmt.Appendf(nil, softDeleteMetadata, w.server.dialect.softDelete())
		position, err = w.stage(metaPrefix+stream, d.info.head.Meta+1, &event, w.moment)
	}
	r.answer = completed(0, 0, position)
	return err
}

// undeletion is a soft-deleted stream that a write brings back, with the events from a number on.
type undeletion struct {
	stream string // "" for none
	from   int64
}

// undeletionBy returns what a write undeletes: its own stream, or that of the metastream that it writes (4.11).
func (w *writer) undeletionBy(stream string, d *decision) (undeletion, error) {
	if d.info.softDeleted {
		return undeletion{stream: stream, from: d.info.last + 1}, nil
	}
	of, ok := strings.CutPrefix(stream, metaPrefix)
	if !ok {
		return undeletion{}, nil
	}
	info, err := w.staged().info(of)
	if err != nil || !info.softDeleted {
		return undeletion{}, err
	}
	if info.deleted { // a real server counts on from the tombstone
		return undeletion{stream: of, from: w.server.dialect.softDelete() + 1}, nil
	}
	return undeletion{stream: of, from: info.last + 1}, nil
}

// undelete rewrites the metadata of a soft-deleted stream so that its old events alone stay hidden. Metadata that are no
// JSON object stay as they are.
func (w *writer) undelete(u undeletion, now time.Time) error {
	head, err := w.store.Head(u.stream, store.Staged)
	if err != nil {
		return err
	}
	old, err := w.staged().metadataEvent(u.stream, head.Meta)
	if err != nil {
		return err
	}
	data, ok := withTruncateBefore(old.Data, u.from)
	if !ok {
		return nil
	}
	event := messages.NewEvent{ID: w.newID(), Type: typeMetadata, ContentType: 1, Data: data}
	_, err = w.stage(metaPrefix+u.stream, head.Meta+1, &event, now)
	return err
}

// appendDeleteCompleted appends the answer to a delete: every failure has position -1, and there are no numbers but the current
// version, which newer servers tell.
func appendDeleteCompleted(b []byte, a *messages.AppendCompleted, current bool) ([]byte, error) {
	position := a.Commit
	m := pb.DeleteStreamCompleted{Result: a.Result.Enum()}
	if a.Result != messages.Success {
		m.Message = &a.Message
		position = -1
	}
	m.PreparePosition, m.CommitPosition = &position, &position
	if current {
		m.CurrentVersion = &a.CurrentVersion
	}
	return messages.Of(messages.DeleteStreamCompleted, &m).AppendTo(b)
}
