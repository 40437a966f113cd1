package followers

import (
	"strings"

	"github.com/goeventstore/eventstore"
)

// Source is what is followed.
type Source struct {
	Name        string
	Stream      string
	Filter      *eventstore.Filter
	streams     []string                            // that are written
	wants       func(stream, eventType string) bool // which events are to be seen, said without a Filter
	projections bool
}

// The streams that are written: those of a category, and one that is none of it. Types are of two kinds as well.
const (
	category = "account"
	alone    = "account-0"
	other    = "other-0"

	typeKept    = "kept"
	typeDropped = "dropped"
)

var several = []string{alone, "account-1", "account-2", other}

// The sources.
var (
	// AStream is a stream with numbers as places.
	AStream = Source{
		Name: "a stream", Stream: alone, streams: []string{alone},
		wants: func(stream, _ string) bool { return stream == alone },
	}
	// ACategory is a stream of links, which the projections of the server write.
	ACategory = Source{Name: "a category", Stream: "$ce-" + category, streams: several, wants: ofCategory, projections: true}
	// Everything is the log, with positions as places.
	Everything = Source{Name: "everything", Stream: eventstore.All, streams: several, wants: func(string, string) bool { return true }}
	// SomeStreams are those events of the log that are in some streams.
	SomeStreams = Source{
		Name: "some streams", Stream: eventstore.All, streams: several, wants: ofCategory,
		Filter: by(eventstore.StreamPrefix(category + "-")),
	}
	// SomeTypes are those of some types, half of them.
	SomeTypes = Source{
		Name: "some types", Stream: eventstore.All, streams: several,
		wants:  func(_, eventType string) bool { return eventType == typeKept },
		Filter: by(eventstore.EventTypeRegexp("^ke.t$")),
	}
	// SomeOfAStream are events of a stream of some types, which the client picks.
	SomeOfAStream = Source{
		Name: "some types of a stream", Stream: alone, streams: []string{alone},
		wants:  func(stream, eventType string) bool { return stream == alone && eventType == typeKept },
		Filter: by(eventstore.EventTypePrefix(typeKept)),
	}
)

func ofCategory(stream, _ string) bool { return strings.HasPrefix(stream, category+"-") }

func by(f eventstore.Filter) *eventstore.Filter { return &f }

// ours reports whether an event is one that the plan has written, or a link to one.
func ours(e eventstore.ResolvedEvent) bool {
	return e.Event != nil && (e.Event.Type == typeKept || e.Event.Type == typeDropped)
}
