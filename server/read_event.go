package server

import (
	"strings"

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
	result, event, text := messages.ReadEventAccessDenied, []byte(nil), ""
	if c.server.allowed(u, m.Stream, rightRead) {
		var err error
		result, event, err = c.server.view().event(m.Stream, m.Number)
		if err != nil {
			c.readFailed(err)
			result, event, text = messages.ReadEventError, nil, textReadFailed
		}
	}
	b := messages.AppendFrameStart(c.scratch[:0], messages.ReadEventCompleted, f.ID, nil)
	c.send(messages.AppendEventRead(b, result, event, nil, text))
	return nil
}

// event reads one event of a stream, the last one for the number -1.
func (v view) event(stream string, number int64) (result messages.ReadEventResult, encoded []byte, err error) {
	info, err := v.info(stream)
	if err != nil {
		return 0, nil, err
	}
	switch {
	case info.deleted:
		return messages.ReadEventStreamDeleted, nil, nil
	case !info.exists():
		return v.emptyMetadata(stream, messages.ReadEventNoStream)
	case number == -1:
		number = info.last
	}
	if number >= info.min {
		err = v.store.Events(stream, number, number, v.at, func(r *store.Record) bool {
			encoded = r.Encoded
			return false
		})
	}
	if err != nil || encoded != nil {
		return messages.ReadEventSuccess, encoded, err
	}
	return v.emptyMetadata(stream, messages.ReadEventNotFound)
}

// emptyMetadata is the quirk of 4.7: where metadata are missing for a stream that exists, the answer is a success
// without an event. A real server takes any name for a metastream that starts with $ and has a stream's name behind its
// first two characters.
func (v view) emptyMetadata(stream string, missing messages.ReadEventResult) (messages.ReadEventResult, []byte, error) {
	if !strings.HasPrefix(stream, "$") || len(stream) <= 2 {
		return missing, nil, nil
	}
	head, err := v.store.Head(stream[2:], v.at)
	if err == nil && (head.Last >= 0 || head.Tombstoned) {
		return messages.ReadEventSuccess, nil, nil
	}
	return missing, nil, err
}
