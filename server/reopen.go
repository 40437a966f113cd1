package server

import (
	"slices"

	"github.com/google/uuid"

	"github.com/goeventstore/eventstore/server/internal/store"
)

// openStore opens the store in a folder, or one in memory without a folder.
func openStore(folder string) (store.Store, error) {
	if folder == "" {
		return store.NewMemory(firstPosition), nil
	}
	return store.OpenDisk(folder, firstPosition)
}

// goOn makes a server go by the log that it found: a new one begins with the users that there are at first. All else that it
// needs it looks for when it needs it, so that it starts as quickly with a long log as with a short one.
func (s *Server) goOn() error {
	switch first := s.store.Tip().Commit < 0; {
	case !first:
		if err := s.writer.remember(); err != nil {
			return err
		}
	case s.node == nil: // who leads a cluster begins its log
		if err := s.writer.beginLog(); err != nil {
			return err
		}
	}
	if err := s.loadSettings(); err != nil || s.node != nil { // and has its groups
		return err
	}
	return s.groups.load()
}

// tailIDs and tailBytes bound how much of the log is read for the ids of the events that were written last.
const (
	tailIDs   = 16 << 10
	tailBytes = 16 << 20
)

// remember fills the memory of ids from the end of the log, so that a write that is sent again after a restart is known.
func (w *writer) remember() error {
	type used struct {
		id    uuid.UUID
		place store.Place
	}
	var tail []used
	size := 0
	tip := w.store.Tip()
	err := w.staged().lender().LogBackward(store.Position{Commit: tip.End}, tip.Commit, func(r *store.Record) bool {
		if r.Kind == store.Event {
			tail = append(tail, used{r.ID, store.Place{Stream: r.Stream, Number: r.Number}})
			size += len(r.Encoded)
		}
		return len(tail) < tailIDs && size < tailBytes
	})
	for _, u := range slices.Backward(tail) {
		w.ids.Add(u.id, u.place)
	}
	return err
}
