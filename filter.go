package eventstore

import (
	"regexp"
	"strings"

	"github.com/goeventstore/eventstore/messages/pb"
)

// Filter picks events of $all by the names of their streams or by their types. A link is judged by itself, not by its
// target. It is a ReadOption.
//
// Servers from 20.6 on pick themselves; from older ones everything is fetched and picked here, with the same result.
// Prefixes are the cheaper and the surer form. A regular expression has to be one that both RE2 and .NET understand in
// the same way; one that RE2 does not compile is refused.
type Filter struct {
	byType   bool
	prefixes []string
	pattern  *regexp.Regexp
	err      error
}

// StreamPrefix picks the events of streams whose names begin with one of the prefixes.
func StreamPrefix(prefixes ...string) Filter { return prefixFilter(false, prefixes) }

// EventTypePrefix picks events whose types begin with one of the prefixes.
func EventTypePrefix(prefixes ...string) Filter { return prefixFilter(true, prefixes) }

// StreamRegexp picks the events of streams whose names match the pattern somewhere, unless it is anchored.
func StreamRegexp(pattern string) Filter { return regexpFilter(false, pattern) }

// EventTypeRegexp picks events whose types match the pattern somewhere, unless it is anchored.
func EventTypeRegexp(pattern string) Filter { return regexpFilter(true, pattern) }

// ExcludeSystemEvents picks events whose types do not begin with $: no metadata, links, tombstones and statistics.
func ExcludeSystemEvents() Filter { return EventTypeRegexp(`^[^\$]`) }

func prefixFilter(byType bool, prefixes []string) Filter {
	f := Filter{byType: byType, prefixes: prefixes}
	if len(prefixes) == 0 {
		f.err = argument("a filter without a prefix: leave it out to read everything")
	}
	return f
}

func regexpFilter(byType bool, pattern string) Filter {
	compiled, err := regexp.Compile(pattern)
	f := Filter{byType: byType, pattern: compiled}
	if err != nil {
		f.err = argument("filter: %w", err)
	}
	return f
}

func (f Filter) applyRead(o *readOptions) {
	o.filter = &f
	if err := f.check(); err != nil {
		o.err = err
	}
}

func (f *Filter) check() error {
	if f.err == nil && f.pattern == nil && f.prefixes == nil {
		return argument("an empty Filter: StreamPrefix, EventTypePrefix, StreamRegexp, EventTypeRegexp and ExcludeSystemEvents make them")
	}
	return f.err
}

// Match reports whether the filter picks an event.
func (f Filter) Match(e *Event) bool {
	name := e.Stream
	if f.byType {
		name = e.Type
	}
	if f.pattern != nil {
		return f.pattern.MatchString(name)
	}
	for _, prefix := range f.prefixes {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// Message returns the filter as a server reads it, or why it is none.
func (f *Filter) Message() (*pb.Filter, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	return f.message(), nil
}

func (f *Filter) message() *pb.Filter {
	m := &pb.Filter{Context: pb.Filter_StreamId.Enum(), Type: pb.Filter_Prefix.Enum(), Data: f.prefixes}
	if f.byType {
		m.Context = pb.Filter_EventType.Enum()
	}
	if f.pattern != nil {
		m.Type, m.Data = pb.Filter_Regex.Enum(), []string{f.pattern.String()}
	}
	return m
}
