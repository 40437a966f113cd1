package server

import (
	"errors"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/server/internal/store"
)

// beginScavenge has the writer begin a scavenge, as somebody who may. Nobody waits for its end.
func (s *Server) beginScavenge(by *user) {
	r := s.writer.request()
	r.command, r.user = messages.ScavengeDatabase, by
	r.own = make(chan messages.AppendCompleted, 1)
	s.writer.enqueue(r)
	signal(s.writer.wake)
}

// systemProjections are the projections of a server as the HTTP side sees them.
type systemProjections struct{ *Server }

// projectionNames are in the order of a real server.
var projectionNames = [projectionsCount]string{"$streams", "$by_category", "$stream_by_category", "$by_event_type"}

// Projections implements httpProjections. All of them are where the projector is.
func (s systemProjections) Projections() []httpProjection {
	p := s.projector
	p.mu.Lock()
	at := max(p.indexed, 0)
	p.mu.Unlock()
	progress := 100.0
	if tip := s.store.Tip().Commit; at < tip {
		progress = 100 * float64(at) / float64(tip)
	}
	list := make([]httpProjection, 0, len(projectionNames))
	for _, name := range projectionNames {
		place := store.Position{Commit: at, Prepare: at}
		list = append(list, httpProjection{name: name, version: 1, position: place, checkpoint: place, progress: progress})
	}
	return list
}

var errAllOrNone = errors.New("all projections run, or none")

// EnableProjection implements httpProjections. None can be stopped alone.
func (s systemProjections) EnableProjection(_ string, enabled bool) error {
	if !enabled {
		return errAllOrNone
	}
	return nil
}
