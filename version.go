package eventstore

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// ExpectedVersion is the condition of a write: the number of the stream's last event, or one of Any, NoStream and
// StreamExists. The values are the wire's own.
type ExpectedVersion int64

const (
	// NoStream wants a stream without events: new, or soft-deleted.
	NoStream ExpectedVersion = -1
	// Any wants nothing. A repeated write is then recognized by its event ids as far as the server remembers them.
	Any ExpectedVersion = -2
	// StreamExists wants a stream that was written to, if only its metadata.
	StreamExists ExpectedVersion = -4
)

// String returns the number, or the name of the constant.
func (v ExpectedVersion) String() string {
	switch v {
	case NoStream:
		return "no stream"
	case Any:
		return "any"
	case StreamExists:
		return "stream exists"
	}
	return strconv.FormatInt(int64(v), 10)
}

func (v ExpectedVersion) check() error {
	if v >= 0 || v == NoStream || v == Any || v == StreamExists {
		return nil
	}
	return argument("expected version %d: want the last event's number, Any (-2), NoStream (-1) or StreamExists (-4)", int64(v))
}

// Position is a place in the log of all events. Plain writes have Commit and Prepare equal; an event of a transaction has the
// position of the commit and its own.
type Position struct{ Commit, Prepare int64 }

// Compare returns -1, 0 or 1 as p is before, at or after q.
func (p Position) Compare(q Position) int {
	return cmp.Or(cmp.Compare(p.Commit, q.Commit), cmp.Compare(p.Prepare, q.Prepare))
}

// String returns the position as "C:1/P:1".
func (p Position) String() string { return fmt.Sprintf("C:%d/P:%d", p.Commit, p.Prepare) }

func parsePosition(s string) (Position, error) {
	c, p, ok := strings.Cut(strings.TrimPrefix(s, "C:"), "/P:")
	commit, err1 := strconv.ParseInt(c, 10, 64)
	prepare, err2 := strconv.ParseInt(p, 10, 64)
	if !ok || !strings.HasPrefix(s, "C:") || err1 != nil || err2 != nil || commit < 0 || prepare < 0 {
		return Position{}, argument(`position %q: want the form "C:1/P:1"`, s)
	}
	return Position{Commit: commit, Prepare: prepare}, nil
}
