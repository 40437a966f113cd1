package server

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/server/internal/store"
)

// The texts of the result Error (4.10). Where no record begins or ends, a real server tells what its file has there.
const (
	textInvalidPosition = "Invalid position."
	textNoRecordBegins  = "Log record at actual pos %d has non-positive length: 0.  in chunk #0-0 (chunk-000000.000000)."
	textNoRecordEnds    = "Log record that ends at actual pos %d has non-positive length: 0. In chunk #0-0 (chunk-000000.000000)."
	textBeyondTheEnd    = "Requested position %d is greater than writer checkpoint %d when requesting to read previous record from TF."
)

// noRecordEndsBelow is how much a record has at least; before it nothing is looked for.
const noRecordEndsBelow = 8

// readAll serves ReadAllEventsForward and ReadAllEventsBackward (4.10).
func (c *session) readAll(f *messages.Frame, u *user) error {
	m := messages.AllRead{Backward: f.Command == messages.ReadAllEventsBackward}
	ok := readAllShape.fits(f.Body) && m.Decode(f.Body) == nil
	if !ok {
		c.badRequest(f, "")
		return nil
	}
	answer := messages.ReadAllEventsForwardCompleted
	if m.Backward {
		answer = messages.ReadAllEventsBackwardCompleted
	}
	return c.allPage(f.ID, answer, &m, nil, u)
}

// allPage answers a read of all streams; window is nil for one without a filter.
func (c *session) allPage(id messages.ID, answer messages.Command, m *messages.AllRead, w *window, u *user) error {
	r := allReader{view: c.server.view(), left: m.Count, window: w, narrow: c.narrow()}
	if m.ResolveLinks {
		r.may = c.readableBy(u)
	}
	if m.Commit == -1 && m.Prepare == -1 && m.Count <= maxReadCount {
		m.Commit, m.Prepare = r.end, r.end
	}
	r.page = messages.AllPage{Commit: m.Commit, Prepare: m.Prepare, NextCommit: m.Commit, NextPrepare: m.Prepare}
	r.b = messages.AppendFrameStart(c.out.page(), answer, id, nil)
	r.b = r.page.AppendHead(r.b)
	head := len(r.b)
	err := c.refusedAll(m, u)
	if err == nil {
		err = r.read(m)
	}
	switch {
	case errors.Is(err, errDenied), errors.Is(err, errTargetDenied):
		r.fail(messages.ReadAllAccessDenied, "")
	case err != nil:
		r.fail(messages.ReadAllError, c.errorText(err))
	}
	if r.page.Result != messages.ReadAllSuccess {
		r.b = r.b[:head]
	}
	if w != nil {
		r.page.EndOfStream = r.page.Result == messages.ReadAllSuccess && m.Count > 0 && !r.full
		return c.sendPage(appendFilteredTail(r.b, &r.page))
	}
	return c.sendPage(r.page.AppendTo(r.b))
}

// errDenied says that all streams may not be read.
var errDenied = errors.New("access denied")

// refusedAll tells why a read is refused without a look at the log. The order of the checks is a real server's.
func (c *session) refusedAll(m *messages.AllRead, u *user) error {
	switch {
	case m.Count > maxReadCount:
		return readError(textReadTooBig)
	case m.Commit < 0 || m.Prepare < 0:
		return readError(textInvalidPosition)
	case !c.server.allowed(u, allStreams, rightRead):
		return errDenied
	}
	return nil
}

// allReader reads one page of all streams.
type allReader struct {
	view
	page   messages.AllPage
	b      []byte
	left   int32   // how many events the page still takes
	window *window // nil without a filter
	full   bool    // it ends before the log does
	narrow bool
	may    func(stream string) bool // nil when links are not resolved
	last   store.Position           // of the event that was added last, or looked at
	any    bool
	err    error
}

// fail makes the page one that has nothing but a result.
func (r *allReader) fail(result messages.ReadAllResult, text string) {
	r.page.Result, r.page.Error, r.page.NextCommit, r.page.NextPrepare = result, text, -1, -1
}

func (r *allReader) read(m *messages.AllRead) error {
	switch {
	case m.Count <= 0:
		return nil
	case m.Backward:
		return r.backward(store.Position{Commit: m.Commit, Prepare: m.Prepare})
	}
	return r.forward(store.Position{Commit: m.Commit, Prepare: m.Prepare})
}

// forward reads the events at and behind from, whose commit must be where a record begins. Behind the last commit there is
// nothing, whatever from is.
func (r *allReader) forward(from store.Position) error {
	if from.Commit > r.at {
		return nil
	}
	begins, err := r.isPlace(from.Commit)
	switch {
	case err != nil:
		return err
	case !begins && from.Commit > 0: // 0 is where the log begins, with a record that is never shown
		return readError(fmt.Sprintf(textNoRecordBegins, from.Commit))
	}
	if err := cmp.Or(r.lender().Log(from, r.at, r.add), r.err); err != nil || !r.any {
		return err
	}
	behind, err := r.begin(r.last.Prepare + 1)
	r.page.NextCommit, r.page.NextPrepare = behind, 0
	switch {
	case r.last.Commit != r.last.Prepare: // in a transaction
		r.page.NextCommit, r.page.NextPrepare = r.last.Commit, behind
	case r.dialect.generation <= generation393:
		r.page.NextPrepare = behind
	}
	return err
}

// backward reads the events that end at or before a place, whose commit must be where a record ends.
func (r *allReader) backward(end store.Position) error {
	switch {
	case end.Commit > r.end:
		return readError(fmt.Sprintf(textBeyondTheEnd, end.Commit, r.end))
	case end.Commit < noRecordEndsBelow:
		return nil
	}
	ends, err := r.isPlace(end.Commit)
	switch {
	case err != nil:
		return err
	case !ends:
		return readError(fmt.Sprintf(textNoRecordEnds, end.Commit))
	}
	before, err := r.before(end)
	if err != nil {
		return err
	}
	if err := cmp.Or(r.lender().LogBackward(before, r.at, r.add), r.err); err != nil || !r.any {
		return err
	}
	r.page.NextCommit, r.page.NextPrepare = r.last.Commit, r.last.Prepare
	if r.last.Commit != r.last.Prepare { // in a transaction: the place behind its commit
		r.page.NextCommit, err = r.begin(r.last.Commit + 1)
	}
	return err
}

// before returns the place before which is all that ends at or before another: of the commit that ends at its Commit, if
// there still is one, what ends at or before its Prepare.
func (r *allReader) before(end store.Position) (store.Position, error) {
	before := store.Position{Commit: end.Commit}
	if end.Prepare >= end.Commit {
		return before, nil
	}
	last, err := r.lastBefore(end.Commit)
	if err != nil || last == nil || last.Kind != store.Event {
		return before, err
	}
	if ends, err := endOf(last); err != nil || ends != end.Commit {
		return before, err
	}
	before.Commit = last.Commit
	if last, err = r.lastBefore(end.Prepare + 1); last != nil {
		before.Prepare = last.Commit
	}
	return before, err
}

// add appends one event, until the page is full or larger than a frame, see encoder.append.
func (r *allReader) add(e *store.Record) bool {
	if e.Kind != store.Event {
		return true
	}
	if w := r.window; w != nil {
		w.left--
		if !w.picks(e) {
			r.last, r.any = e.Position(), true
			r.full = w.left <= 0
			return !r.full
		}
	}
	out, err := r.delivered(e, r.may != nil, r.narrow)
	if err == nil && out.target != "" && !r.may(out.target) {
		err = errTargetDenied
	}
	if err != nil {
		r.err = err
		return false
	}
	r.b = messages.AppendResolved(r.b, 3, out.event, out.link, e.Commit, e.Prepare)
	r.last, r.any = e.Position(), true
	r.left--
	r.full = r.left <= 0 || len(r.b) > messages.MaxFrame || r.window != nil && r.window.left <= 0
	return !r.full
}

// isPlace reports whether a record begins at a position, or did before it was scavenged: what that leaves is read from any
// position of it, as on a real server.
func (r *allReader) isPlace(position int64) (bool, error) {
	begin, err := r.begin(position)
	return begin == position || position <= r.store.ScavengedTo(), err
}

// begin returns the first place at or behind a position where a record begins: the end of the log if there is none.
func (r *allReader) begin(position int64) (int64, error) {
	begin := r.end
	err := r.store.Log(store.Position{Commit: position}, r.end-1, func(e *store.Record) bool {
		begin = e.Commit
		return false
	})
	return begin, err
}

// lastBefore returns the last record that begins before a position, nil if there is none.
func (r *allReader) lastBefore(position int64) (last *store.Record, err error) {
	err = r.store.LogBackward(store.Position{Commit: position}, r.end-1, func(e *store.Record) bool {
		last = e
		return false
	})
	return last, err
}
