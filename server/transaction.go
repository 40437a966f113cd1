package server

import (
	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
	"github.com/goeventstore/eventstore/server/internal/store"
)

// Transactions (4.12): what the three requests are and what the writer answers. What it keeps of a transaction is in
// pending.go.

// transactionStart takes a TransactionStart request.
func (c *session) transactionStart(f *messages.Frame, u *user) error {
	var m pb.TransactionStart
	r := c.server.writer.request()
	ok := transactionStartShape.message(f, &m)
	r.write.Stream, r.write.Expected = m.GetEventStreamId(), m.GetExpectedVersion()
	if !ok || r.write.Expected < expectAny || !acceptable(&r.write) { // 4.2
		return c.refuse(r, f)
	}
	r.transaction = -1
	if !c.server.allowed(u, r.write.Stream, rightWrite) {
		r.answer = refused(messages.AccessDenied, -1)
	}
	return c.submitTransaction(r, f, u)
}

// transactionWrite takes a TransactionWrite request. Nobody needs a right for it.
func (c *session) transactionWrite(f *messages.Frame, u *user) error {
	var m pb.TransactionWrite
	r := c.server.writer.request()
	ok := transactionWriteShape.message(f, &m) && m.GetTransactionId() >= 0
	for _, e := range m.GetEvents() {
		id, err := messages.ParseGUID(e.GetEventId())
		ok = ok && err == nil
		r.write.Events = append(r.write.Events, messages.NewEvent{
			ID: id, Type: e.GetEventType(), ContentType: e.GetDataContentType(), Data: e.GetData(), Metadata: e.GetMetadata(),
		})
	}
	if !ok || !acceptableEvents(r.write.Events) {
		return c.refuse(r, f)
	}
	r.transaction = m.GetTransactionId()
	return c.submitTransaction(r, f, u)
}

// transactionCommit takes a TransactionCommit request.
func (c *session) transactionCommit(f *messages.Frame, u *user) error {
	var m pb.TransactionCommit
	r := c.server.writer.request()
	if !transactionCommitShape.message(f, &m) || m.GetTransactionId() < 0 {
		return c.refuse(r, f)
	}
	r.transaction = m.GetTransactionId()
	return c.submitTransaction(r, f, u)
}

// refuse answers a request that is none.
func (c *session) refuse(r *request, f *messages.Frame) error {
	c.server.writer.release(r)
	c.badRequest(f, "")
	return nil
}

func (c *session) submitTransaction(r *request, f *messages.Frame, u *user) error {
	r.session, r.id, r.command, r.user = c, f.ID, f.Command, u
	return c.submit(r, len(f.Body))
}

// startTransaction stages nothing but the place of the record that begins it, which is the transaction's id. The version
// is looked at by the commit.
func (w *writer) startTransaction(r *request) error {
	if r.answer.Result != messages.Success {
		return nil
	}
	id, err := w.stagePlace(store.Pending, recordSize(r.write.Stream, &messages.NewEvent{}))
	r.transaction = id
	w.transactions.add(&transaction{id: id, stream: r.write.Stream, expected: r.write.Expected})
	return err
}

// writeTransaction keeps the events of a write until the commit. A write to an id that is none succeeds and is lost, and
// so does one behind a commit, but for its place in the log.
func (w *writer) writeTransaction(r *request) error {
	t := w.transactions.find(r.transaction)
	if t == nil {
		return nil
	}
	now := w.moment
	for i := range r.write.Events {
		e := &r.write.Events[i]
		if !t.ended {
			w.transactions.keep(t, w.record(t.stream, int64(len(t.events)), e, now))
		}
		if _, err := w.stagePlace(store.Pending, recordSize(t.stream, e)); err != nil {
			return err
		}
	}
	return nil
}

// commitTransaction decides a transaction as a write of all its events with the version given at the start. The first
// commit, good or not, ends it: what is written behind that is in no later one.
func (w *writer) commitTransaction(r *request) error {
	t := w.transactions.find(r.transaction)
	if t == nil || !w.server.allowed(r.user, t.stream, rightWrite) {
		r.answer = refused(messages.AccessDenied, -1)
		return nil
	}
	t.ended = true
	if _, err := w.stagePlace(store.Pending, recordSize(t.stream, &messages.NewEvent{})); err != nil { // what ends it
		return err
	}
	records, err := w.recordsOf(t)
	if err != nil {
		return err
	}
	events := make([]messages.NewEvent, len(records))
	for i := range records {
		events[i].ID = records[i].ID
	}
	d, err := w.decide(t.stream, t.expected, events)
	if err != nil {
		return err
	}
	switch d.verdict {
	case streamDeleted:
		r.answer = refused(messages.StreamDeleted, -1)
	case wrongVersion:
		r.answer = refused(messages.WrongExpectedVersion, d.info.last)
	case idempotent, undecided: // a real server commits in two steps: the first commit is through by the second
		r.answer, err = w.again(t.stream, &d)
		return err
	default:
		return w.appendTransaction(r, t, &d, records)
	}
	return nil
}

// appendTransaction stages a transaction's events, which keep their own positions and become part of the log where the
// record of the commit is.
func (w *writer) appendTransaction(r *request, t *transaction, d *decision, records []store.Record) error {
	now := w.moment
	undeletion, err := w.undeletionBy(t.stream, d)
	if err != nil {
		return err
	}
	commit := w.end
	first, last := d.info.last+1, d.info.last+int64(len(records))
	for i := range records {
		records[i].Commit = commit
		if err := w.renumber(&records[i], first+int64(i)); err != nil {
			return err
		}
	}
	if len(records) == 0 {
		records = []store.Record{{Kind: store.Void, Commit: commit, Prepare: commit}}
	}
	if err := w.stageRecords(commitSize, records); err != nil {
		return err
	}
	w.transactions.committed(t, first, last)
	r.answer = completed(first, last, commit)
	if undeletion.stream != "" {
		return w.undelete(undeletion, now)
	}
	return nil
}

// recordsOf returns what a transaction holds: from the log once it is there.
func (w *writer) recordsOf(t *transaction) ([]store.Record, error) {
	if !t.done {
		return append([]store.Record(nil), t.events...), nil
	}
	var records []store.Record
	err := w.store.Events(t.stream, t.first, t.last, store.Staged, func(r *store.Record) bool {
		records = append(records, *r)
		return true
	})
	return records, err
}

// renumber gives an event the number that it has in its stream.
func (w *writer) renumber(r *store.Record, number int64) error {
	var e messages.EventRecord
	if err := e.Decode(r.Encoded, nil); err != nil {
		return err
	}
	e.Number = number
	r.Number, r.Encoded = number, w.arena.encode(&e)
	return nil
}

// appendTransactionAnswer appends the answer to a request of a transaction. A commit that failed has no positions.
func (r *request) appendTransactionAnswer(b []byte) []byte {
	a := &r.answer
	var m proto.Message
	var text *string
	if a.Result != messages.Success {
		text = &a.Message
	}
	switch r.command {
	case messages.TransactionStart:
		m = &pb.TransactionStartCompleted{TransactionId: &r.transaction, Result: &a.Result, Message: text}
	case messages.TransactionWrite:
		m = &pb.TransactionWriteCompleted{TransactionId: &r.transaction, Result: &a.Result, Message: text}
	default:
		var position int64
		if a.Result == messages.Success {
			position = a.Commit
		}
		m = &pb.TransactionCommitCompleted{
			TransactionId: &r.transaction, Result: &a.Result, Message: &a.Message,
			FirstEventNumber: &a.First, LastEventNumber: &a.Last, PreparePosition: &position, CommitPosition: &position,
		}
	}
	b = messages.AppendFrameStart(b, r.command+1, r.id, nil)
	b, _ = messages.Of(r.command+1, m).AppendTo(b)
	return b
}
