// Package store keeps the log of a server: every record in the order of its position, and the streams that they form.
//
// There is one writer and any number of readers. Readers never wait for the writer nor the writer for them, and a
// reader that asks as of a position sees exactly the records up to it, however many calls it makes: the log only grows,
// but for what a scavenge removes: where it did, an older reader sees what there was then.
package store

import (
	"errors"
	"math"

	"github.com/google/uuid"
)

// DeletedNumber is the event number of a tombstone, the last record that a stream can have.
const DeletedNumber int64 = math.MaxInt64

// Staged is the position to read at that sees everything, records that are staged and not committed included. Only the
// writer may use it.
const Staged int64 = math.MaxInt64

// ErrOrder says that a record was staged that does not come behind the ones before it, in the log or in its stream.
var ErrOrder = errors.New("record out of order")

// Kind says what a record of the log is.
type Kind uint8

const (
	// Event is an event of a stream.
	Event Kind = iota
	// Void takes its place in the log and is no event: the commit of a transaction without events.
	Void
	// Pending is a part of a transaction, its start too, in the place where it was written. It commits nothing, so that the
	// log does not go further by it; the commit brings the events, as records of their own.
	Pending
	// Blank is what a write without events leaves in the log. Readers of the log's end count it, subscriptions do not.
	Blank
)

// Record is one record of the log. It never changes once it is staged: readers share it, and what its fields alias.
type Record struct {
	Kind    Kind
	Stream  string
	Number  int64 // from 0 on without gaps, or DeletedNumber
	ID      uuid.UUID
	Type    string
	Commit  int64  // where it was committed
	Prepare int64  // the record's own position; the same as Commit but for the events of a transaction
	Created int64  // .NET ticks
	Encoded []byte // the whole EventRecord message as clients get it; nil for all else than events
}

// Position returns where the record is in the log.
func (r *Record) Position() Position { return Position{r.Commit, r.Prepare} }

// Position is a place in the log, which is ordered by Commit and within one commit by Prepare. Whatever takes its place in
// the log has a record with this place as its Commit: that of a transaction's event is Pending.
type Position struct{ Commit, Prepare int64 }

// Before reports whether p comes before q.
func (p Position) Before(q Position) bool {
	return p.Commit < q.Commit || (p.Commit == q.Commit && p.Prepare < q.Prepare)
}

// Tip is how far the log goes.
type Tip struct {
	Commit int64 // the position of the last commit, -1 when there is none
	End    int64 // the position where the next record goes; only Pending ones are between the two
}

// Head is the state of a stream.
type Head struct {
	Last       int64 // the last event number, -1 without events; with a tombstone, that of the last event before it
	Tombstoned bool  // hard-deleted: no event will follow
	Meta       int64 // the last event number of the stream's metastream, -1 when that has no events
}

// Store is the log. Its reading methods may be called from any goroutine; those that say so belong to the one writer.
//
// The argument at is the last Commit that the caller wants to see, usually that of a Tip that it asked for first; the
// position before its End shows what is pending too. A function that is given must not call a writing method; the record that it gets stays valid.
type Store interface {
	// Tip returns how far the committed log goes.
	Tip() Tip
	// Head returns the state of a stream, of one that was never written as well.
	Head(stream string, at int64) (Head, error)
	// Events calls yield for the events of a stream with numbers from first to last, both included, until yield returns
	// false. Numbers without an event are passed over; a tombstone has the number DeletedNumber.
	Events(stream string, first, last, at int64, yield func(*Record) bool) error
	// EventsBackward is Events from last down to first.
	EventsBackward(stream string, first, last, at int64, yield func(*Record) bool) error
	// Log calls yield for the records at and behind from, in the order of the log, until yield returns false.
	Log(from Position, at int64, yield func(*Record) bool) error
	// LogBackward calls yield for the records before a position, the latest first, until yield returns false.
	LogBackward(before Position, at int64, yield func(*Record) bool) error

	// Stage adds records behind all others; end is the position behind the last of them. Readers do not see them before
	// Commit. The records are copied; what they alias must not change any more. For the writer only.
	Stage(end int64, records ...Record) error
	// Commit makes everything staged visible and lasting, all at once. When it returns without an error, what was staged is
	// as safe as the store can make it. After an error one calls Rollback. For the writer only.
	Commit() error
	// Rollback takes back what was staged, also after an error of Stage or Commit, and one goes on as if it had never been. An
	// error says that this cannot be done: what was staged may be there or not, and nothing can be staged any more; what was
	// committed before can still be read. For the writer only.
	Rollback() error
	// Scavenge finds the committed records that drop wants to be gone, asking for each of them in the order of the log. An
	// error of drop ends it. It changes nothing yet: what it found is gone when the writer has applied it. The last event of
	// a stream without a tombstone must stay, since the stream's head goes by it. One Scavenge at a time, from any
	// goroutine.
	Scavenge(drop func(*Record) (bool, error)) (Scavenged, error)
	// ScavengedTo returns the last Commit that the last Scavenge looked at, once it is applied, and -1 before the first one.
	// Up to there a position that was a record's need not be any more.
	ScavengedTo() int64
	// Close releases what the store holds. Nothing may be called during or after it.
	Close() error
}

// Scavenged is what a Scavenge found.
type Scavenged interface {
	// Apply removes some of it, so little that the writer is not kept long, and reports whether there is more. An error
	// leaves that part as it was, and so does who does not go on. For the writer only.
	Apply() (more bool, err error)
}

// MetastreamPrefix in front of a stream's name makes the name of its metastream.
const MetastreamPrefix = "$$"
