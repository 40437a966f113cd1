package eventstore

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// From is a place to begin, and a checkpoint: the start, the end, at or after an event number of a stream, at or after
// a position of $all. There are no magic numbers: At(0) and After(0) say which is meant. The zero value is Start.
type From struct {
	kind     fromKind
	after    bool
	raw      bool     // a position as a server gives it to go on backward from: of a transaction, the Commit is behind it
	position Position // Commit alone holds the number for a number
}

type fromKind uint8

const (
	fromStart fromKind = iota
	fromEnd
	fromNumber
	fromPosition
)

// The two ends, of any stream and of $all. Do not assign to them.
var (
	// Start is before the first event.
	Start = From{}
	// End is behind the last event there is when the call reaches the server.
	End = From{kind: fromEnd}
)

// At is the event with number n itself. Calls refuse a negative number: End is the last event.
func At(n int64) From { return From{kind: fromNumber, position: Position{Commit: n}} }

// After is behind the event with number n: the checkpoint of whoever has handled that event. Calls refuse a negative
// number: Start is before the first event.
func After(n int64) From { return From{kind: fromNumber, after: true, position: Position{Commit: n}} }

// AtPosition is the event at p itself, for $all.
func AtPosition(p Position) From { return From{kind: fromPosition, position: p} }

// AfterPosition is behind the event at p, for $all.
func AfterPosition(p Position) From { return From{kind: fromPosition, after: true, position: p} }

func (f From) check() error {
	if f.kind == fromNumber && f.position.Commit < 0 || f.kind == fromPosition && (f.position.Commit < 0 || f.position.Prepare < 0) {
		return argument("place %q: event numbers and positions are not negative", f)
	}
	return nil
}

// Number returns the event number of a place made by At or After.
func (f From) Number() (int64, bool) {
	if f.kind != fromNumber {
		return 0, false
	}
	return f.position.Commit, true
}

// Position returns the position of a place made by AtPosition or AfterPosition.
func (f From) Position() (Position, bool) {
	if f.kind != fromPosition {
		return Position{}, false
	}
	return f.position, true
}

// IsStart reports whether f is Start.
func (f From) IsStart() bool { return f.kind == fromStart }

// IsEnd reports whether f is End.
func (f From) IsEnd() bool { return f.kind == fromEnd }

// Exclusive reports whether the event that f names is not part of what begins there.
func (f From) Exclusive() bool { return f.after }

// Compare returns -1, 0 or 1 as f is before, at or after g. Start is before everything and End behind; After(n) is behind
// At(n) and before At(n+1). A number cannot be compared with a position: that is an error.
func (f From) Compare(g From) (int, error) {
	if f.kind == g.kind {
		after := 0
		switch {
		case f.after && !g.after:
			after = 1
		case !f.after && g.after:
			after = -1
		}
		return cmp.Or(f.position.Compare(g.position), after), nil
	}
	if f.rank() == g.rank() {
		return 0, argument("%v and %v are places of different kinds: a stream's number and a position of $all", f, g)
	}
	return cmp.Compare(f.rank(), g.rank()), nil
}

func (f From) rank() int {
	switch f.kind {
	case fromStart:
		return 0
	case fromEnd:
		return 2
	default:
		return 1
	}
}

// String returns the place in words: "start", "end", "at 5", "after 5", "after C:1/P:1", and "behind C:1/P:1" for the Next
// of a page of $all that was read backward.
func (f From) String() string {
	word := "at "
	switch {
	case f.raw:
		word = "behind "
	case f.after:
		word = "after "
	}
	switch f.kind {
	case fromEnd:
		return "end"
	case fromNumber:
		return word + strconv.FormatInt(f.position.Commit, 10)
	case fromPosition:
		return word + f.position.String()
	default:
		return "start"
	}
}

// MarshalText writes the form of String, so that a From can be stored as it is.
func (f From) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText reads the form of String.
func (f *From) UnmarshalText(b []byte) error {
	s := string(b)
	switch s {
	case "start":
		*f = Start
		return nil
	case "end":
		*f = End
		return nil
	}
	word, place, ok := strings.Cut(s, " ")
	raw := word == "behind" && strings.HasPrefix(place, "C:")
	if !ok || word != "at" && word != "after" && !raw {
		return argument(`place %q: want "start", "end", "at N" or "after N" with a number or a position like C:1/P:1`, s)
	}
	if strings.HasPrefix(place, "C:") {
		p, err := parsePosition(place)
		if err != nil {
			return fmt.Errorf("place %q: %w", s, err)
		}
		*f = From{kind: fromPosition, after: word != "at", raw: raw, position: p}
		return nil
	}
	n, err := strconv.ParseInt(place, 10, 64)
	if err != nil {
		return argument("place %q: %w", s, err)
	}
	g := From{kind: fromNumber, after: word == "after", position: Position{Commit: n}}
	if err := g.check(); err != nil {
		return err
	}
	*f = g
	return nil
}
