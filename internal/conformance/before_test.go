package conformance_test

import (
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// earlier is what was in the recorded database before the recording began: one event like this in each of the streams.
type earlier struct {
	streams []string
	event   messages.NewEvent
}

func (r *recording) storeBefore(columns []string) error {
	if r.mode == modeTimed {
		return fmt.Errorf("nothing can be stored before %s is played", r.path)
	}
	s := earlier{streams: strings.Fields(columns[0]), event: messages.NewEvent{Type: columns[1]}}
	if columns[1] != "$>" {
		s.event.ContentType = 1
	}
	if columns[2] != "-" {
		s.event.Data = []byte(columns[2])
	}
	if columns[3] != "-" {
		s.event.Metadata = []byte(columns[3])
	}
	r.before = append(r.before, s)
	return nil
}

// storedBefore has the administrator write what was there before.
func (r *recording) storedBefore(admin *peer) (problems []string) {
	admin.t.Helper()
	for _, s := range r.before {
		for _, stream := range s.streams {
			s.event.ID = uuid.New()
			var m pb.WriteEventsCompleted
			admin.call(&messages.Append{Stream: stream, Expected: -2, Events: []messages.NewEvent{s.event}}, admin.admin()...).
				into(admin.t, messages.WriteEventsCompleted, &m)
			if m.GetResult() != messages.Success {
				problems = append(problems, fmt.Sprintf("%s cannot be written before: %s", stream, m.GetMessage()))
			}
		}
	}
	return problems
}
