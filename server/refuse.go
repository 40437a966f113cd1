package server

import (
	"context"
	"errors"
	"log/slog"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// What becomes of a batch that could not be stored, when the disk is full for example: it is taken back, from the memory of
// the writer too, and every request of it is refused. Reads go on, and so do writes when the store takes them again.

// What such a client is told. What the store said stands in the log.
const textNotStored = "It could not be stored, and nothing was changed. The log of the server says why."

// errNotStored is what the server's own writes end with.
var errNotStored = errors.New("the store takes no writes")

// refuse takes a batch back and answers that it was not stored. When the store does not know whether it was, neither does
// the answer; nothing is written from then on.
func (w *writer) refuse(batch []*request, cause error) {
	known := w.takeBack(cause)
	for _, r := range batch {
		if s := w.scavenge; s != nil && s.request == r {
			w.scavenge = nil
		}
		switch {
		case r.links != nil:
			r.links.failed = true
		case r.command == messages.ScavengeDatabase && w.server.dialect.generation < generation50:
			r.scavenged = scavengeCompleted(pb.ScavengeDatabaseCompleted_Failed, textNotStored)
		case r.session != nil && (known || r.command == messages.ScavengeDatabase):
			r.refusal = textNotStored
		default:
			r.answer = refused(messages.CommitTimeout, -1)
		}
		w.answer(r)
	}
	w.sendAnswers()
}

// takeBack makes everything as it was before the batch at hand, and reports whether that is known to be so.
func (w *writer) takeBack(cause error) (known bool) {
	known = true
	if w.failed == nil {
		w.failed = w.store.Rollback()
		known = w.failed == nil
	}
	w.end = w.store.Tip().End
	w.ids.TakeBack(w.mark)
	w.transactions.settle(false)
	w.server.metadata.forget()
	if !w.refusing {
		w.refusing = true
		w.server.log.LogAttrs(context.Background(), slog.LevelError, "the store takes no writes",
			slog.Any("err", cause), slog.Bool("for_good", w.failed != nil))
	}
	return known
}
