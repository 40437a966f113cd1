package followers

import (
	"strings"

	"github.com/goeventstore/eventstore"
)

// Source is what is followed.
type Source struct {
	Name        string
	Stream      string
	streams     []string // that are written
	wants       func(stream, eventType string) bool
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

func ofCategory(stream, _ string) bool { return strings.HasPrefix(stream, category+"-") }

// The sources.
var (
	// AStream is a stream with numbers as places.
	AStream = Source{
		Name: "a stream", Stream: alone, streams: []string{alone},
		wants: func(stream, _ string) bool { return stream == alone },
	}
	// ACategory is a stream of links, which the projections of the server write.
	ACategory = Source{Name: "a category", Stream: "$ce-" + category, streams: several, wants: ofCategory, projections: true}
)

// ours reports whether an event is one that the plan has written, or a link to one.
func ours(e eventstore.ResolvedEvent) bool {
	return e.Event != nil && (e.Event.Type == typeKept || e.Event.Type == typeDropped || e.Event.Type == "$>")
}
