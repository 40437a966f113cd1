package server

import (
	"strings"
	"unicode/utf8"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/server/internal/store"
)

// textReadFailed is the text of an answer that the store failed to give.
const textReadFailed = "The event store could not be read."

// readEvent serves ReadEvent (4.7).
func (c *session) readEvent(f *messages.Frame, u *user) error {
	var m messages.EventRead
	ok := readEventShape.fits(f.Body) && m.Decode(f.Body, &c.names) == nil
	if !ok || m.Stream == "" || m.Number < -1 {
		c.badRequest(f, "")
		return nil
	}
	m.Stream = readable(m.Stream)
	v := c.server.view()
	result, event, err := c.resolvedEvent(v, &m, u)
	if err == nil && (result == messages.ReadEventNoStream || result == messages.ReadEventNotFound) {
		result, err = v.missing(m.Stream, result)
	}
	text := ""
	if err != nil {
		result, event, text = messages.ReadEventError, resolved{}, c.errorText(err)
	}
	b := messages.AppendFrameStart(c.scratch[:0], messages.ReadEventCompleted, f.ID, nil)
	c.send(messages.AppendEventRead(b, result, event.event, event.link, text))
	return nil
}

// resolvedEvent reads one event for u, and the one that it links to if that is wanted.
func (c *session) resolvedEvent(v view, m *messages.EventRead, u *user) (messages.ReadEventResult, resolved, error) {
	if !c.server.allowed(u, m.Stream, rightRead) {
		return messages.ReadEventAccessDenied, resolved{}, nil
	}
	result, r, err := v.event(m.Stream, m.Number)
	if err != nil || r == nil {
		return result, resolved{}, err
	}
	if !m.ResolveLinks {
		return result, resolved{event: r.Encoded}, nil
	}
	out, err := v.resolve(r)
	if out.target != "" && !c.server.allowed(u, out.target, rightRead) {
		return messages.ReadEventAccessDenied, resolved{}, err
	}
	return result, out, err
}

// textTwoCharacters is what a real server fails with that takes two characters off the name $.
const textTwoCharacters = "startIndex cannot be larger than length of string.\nParameter name: startIndex"

// event reads one event of a stream, the last one for the number -1.
func (v view) event(stream string, number int64) (messages.ReadEventResult, *store.Record, error) {
	info, err := v.info(stream)
	switch {
	case stream == "$":
		return messages.ReadEventError, nil, readError(textTwoCharacters)
	case err != nil:
		return messages.ReadEventError, nil, err
	case info.deleted:
		return messages.ReadEventStreamDeleted, nil, nil
	case !info.exists():
		return messages.ReadEventNoStream, nil, nil
	case number == -1:
		number = info.last
	}
	if number < info.min || number > info.last {
		return messages.ReadEventNotFound, nil, nil
	}
	oldest, err := v.oldest(&info)
	if err != nil {
		return messages.ReadEventError, nil, err
	}
	var found *store.Record
	err = v.store.Events(stream, number, number, v.at, func(r *store.Record) bool {
		if r.Created >= oldest {
			found = r
		}
		return false
	})
	if err != nil || found == nil {
		return messages.ReadEventNotFound, nil, err
	}
	return messages.ReadEventSuccess, found, nil
}

// missing is the quirk of 4.7: where metadata are missing for a stream that exists, the answer is a success without an
// event. A real server takes any name for a metastream that starts with $ and has a stream's name behind its first two
// characters.
func (v view) missing(stream string, result messages.ReadEventResult) (messages.ReadEventResult, error) {
	rest, ok := strings.CutPrefix(stream, "$")
	second, size := utf8.DecodeRuneInString(rest)
	if !ok || len(rest) <= size || second > 0xFFFF { // it counts in UTF-16
		return result, nil
	}
	head, err := v.store.Head(rest[size:], v.at)
	if err == nil && head.Last >= 0 && !head.Tombstoned {
		return messages.ReadEventSuccess, nil
	}
	return result, err
}
