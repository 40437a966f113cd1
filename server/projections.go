package server

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/goeventstore/eventstore/server/internal/store"
)

// projector writes the index streams of the system projections (5.1): it follows the log, works out the links of each
// event, and has the writer store them, many together, as the ordinary records that they are. What is not indexed yet
// lies in the log, so that a projector that is behind costs no memory, and the writer never waits for it.
//
// Nothing is kept of how far it is: all links of an event are committed together and events are indexed in the order of
// the log, so that the last link in the log tells, which names its cause; see resume.
type projector struct {
	server *Server
	limit  int            // of the links of a batch
	next   store.Position // where to go on in the log
	batch  linkBatch
	ask    request // what takes the batch to the writer
	names  indexNames
	seen   [projectionsCount]int64 // events of the batch at hand

	// wake tells that there is more in the log. Anyone sends without blocking, nobody closes it.
	wake chan struct{}

	mu       sync.Mutex
	indexed  int64         // every event that was committed up to here has the links of the projections that run
	changed  chan struct{} // closed, and replaced, when that has changed
	switches [projectionsCount]projectionSwitch
	turned   bool // one of these
}

// What one batch may hold. The writer is busy with a full one for some milliseconds, and there is at most one with it.
const (
	maxLinks     = 4096
	maxLinkBytes = 1 << 20
)

// linkBatch are links on their way to the writer. The buffers belong to the projector and are used again.
type linkBatch struct {
	links  []link
	buf    []byte        // what links alias
	done   chan struct{} // the writer sends when they are committed, or could not be
	failed bool          // they could not; for who has heard of done
	reign  uint64        // of the leader of a cluster, in which they were worked out
}

// link is one event of an index stream.
type link struct {
	stream, typ    string
	data, metadata []byte
}

func newProjector(s *Server) *projector {
	p := &projector{
		server: s, limit: maxLinks, wake: make(chan struct{}, 1), indexed: -1, changed: make(chan struct{}),
		batch: linkBatch{done: make(chan struct{}, 1)},
	}
	p.ask.links = &p.batch
	for i := range p.switches {
		p.switches[i] = newSwitch()
	}
	return p
}

// run indexes until the server is closed.
func (p *projector) run() {
	err := p.begin()
	for more := true; err == nil; {
		if !more {
			select {
			case <-p.wake:
			case <-p.server.stop:
				return
			}
		}
		if more, err = p.step(); errors.Is(err, errNotStored) {
			if more, err = true, p.rest(); err == nil && p.server.node != nil {
				err = p.begin()
			}
		}
	}
	if !errors.Is(err, errServerClosed) {
		p.server.log.LogAttrs(context.Background(), slog.LevelError, "the projections failed", slog.Any("err", err))
	}
}

// begin finds out where to go on: of a cluster's nodes the one that leads does, as long as it leads.
func (p *projector) begin() error {
	if n := p.server.node; n != nil {
		p.next = store.Position{}
		for p.batch.reign = n.reign.Load(); p.batch.reign == 0; p.batch.reign = n.reign.Load() {
			if err := p.rest(); err != nil {
				return err
			}
		}
	}
	return p.resume()
}

// step indexes what one batch holds of what follows, and reports whether there is more.
func (p *projector) step() (more bool, err error) {
	p.turn()
	from := p.next
	at := p.server.store.Tip().Commit
	p.seen = [projectionsCount]int64{}
	p.batch.links, p.batch.buf = p.batch.links[:0], p.batch.buf[:0]
	if cap(p.batch.buf) > 2*maxLinkBytes {
		p.batch.buf = nil // a long name must not pin its memory
	}
	var failed error
	err = p.server.view().lender().Log(p.next, at, func(r *store.Record) bool {
		if more = len(p.batch.links) >= p.limit || len(p.batch.buf) >= maxLinkBytes; more {
			return false
		}
		failed = p.index(r)
		p.next = behind(r.Position())
		return failed == nil
	})
	if err == nil {
		err = failed
	}
	if err == nil && len(p.batch.links) > 0 {
		if err = p.write(); err != nil {
			p.next = from
		}
	}
	if err == nil {
		p.indexedTo(at, !more)
	}
	return more, err
}

// write has the writer store the batch, and waits until it has.
func (p *projector) write() error {
	p.server.writer.enqueue(&p.ask)
	signal(p.server.writer.wake)
	select {
	case <-p.batch.done:
		if p.batch.failed {
			p.batch.failed = false
			return errNotStored
		}
		return nil
	case <-p.server.stop:
		return errServerClosed
	}
}

// storeAgain is how long the projections wait before they try again to write what could not be stored.
const storeAgain = time.Second

func (p *projector) rest() error {
	timer := time.NewTimer(storeAgain)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-p.server.stop:
		return errServerClosed
	}
}

// behind returns the place behind a record.
func behind(at store.Position) store.Position {
	return store.Position{Commit: at.Commit, Prepare: at.Prepare + 1}
}

// resume goes on behind the event that the last link in the log was written for. What follows it gave no links, or none
// that could be written, and gives none again. That a projection was stopped is not kept, nor what it has missed since.
func (p *projector) resume() error {
	at := p.server.store.Tip().Commit
	return p.server.store.LogBackward(store.Position{Commit: at + 1}, at, func(r *store.Record) bool {
		cause, ok := causeOf(r)
		if ok {
			p.next = behind(cause)
		}
		return !ok
	})
}

// indexedTo notes what a batch has brought: the end of the log as it was, if it was all.
func (p *projector) indexedTo(at int64, all bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.switches {
		s := &p.switches[i]
		s.events += p.seen[i]
		switch {
		case s.runs && all:
			s.position = max(s.position, at)
		case s.runs:
			s.position = max(s.position, p.next.Commit)
		}
	}
	if all && !p.turned && at > p.indexed {
		p.indexed = at
		close(p.changed)
		p.changed = make(chan struct{})
	}
}

// WaitForProjections returns when the links of every event that is committed by now can be read: a read of an index
// stream sees them all then. Without projections it returns at once.
func (s *Server) WaitForProjections(ctx context.Context) error {
	p := s.projector
	if p == nil {
		return nil
	}
	for at := s.store.Tip().Commit; ; {
		p.mu.Lock()
		indexed, changed := p.indexed, p.changed
		p.mu.Unlock()
		if indexed >= at {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.stop:
			return errServerClosed
		}
	}
}

// writeLinks stages a batch.
func (w *writer) writeLinks(b *linkBatch) error {
	for i := range b.links {
		if err := w.writeLink(&b.links[i], w.moment); err != nil {
			return err
		}
	}
	return nil
}

// indexNames are the names of index streams, so that they are not made anew for each link.
type indexNames [len(projections)]map[string]string

// maxIndexNames is how many names of a projection are kept; all are forgotten when there are more.
const maxIndexNames = 10_000

func (n *indexNames) of(p projectionID, name string) string {
	stream, ok := n[p][name]
	if !ok {
		if n[p] == nil || len(n[p]) >= maxIndexNames {
			n[p] = make(map[string]string)
		}
		name = strings.Clone(name)
		stream = projections[p].prefix + name
		n[p][name] = stream
	}
	return stream
}
