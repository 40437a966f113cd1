package server

import (
	"github.com/goeventstore/eventstore/server/internal/store"
)

// projectionSwitch stops one projection and has it go on. Whether it runs is not kept: all do after a restart.
type projectionSwitch struct {
	// The projector's own.
	runs bool
	from store.Position // what comes before has its links already

	// The projector's lock guards these.
	wanted   bool
	version  int64 // how often it was told to stop or to go on
	told     int64 // the version that is shown: that with which it went on
	events   int64 // seen, since it went on
	position int64 // of the last one
	began    int64 // the position with which it went on, -1 for the beginning
}

func newSwitch() projectionSwitch {
	return projectionSwitch{runs: true, wanted: true, version: 1, told: 1, position: -1, began: -1}
}

// turn makes projections stop and go on as it is wanted. One that goes on takes the cursor back to where it stopped, and the
// others pass over what they have been at.
func (p *projector) turn() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.turned {
		return
	}
	p.turned = false
	for i := range p.switches {
		switch s := &p.switches[i]; {
		case s.runs && !s.wanted:
			s.runs = false
			s.from = later(s.from, p.next)
		case !s.runs && s.wanted:
			for k := range p.switches {
				if other := &p.switches[k]; other.runs {
					other.from = later(other.from, p.next)
				}
			}
			s.runs = true
			if s.from.Before(p.next) {
				p.next = s.from
			}
		}
	}
}

func later(a, b store.Position) store.Position {
	if a.Before(b) {
		return b
	}
	return a
}

// sees reports whether a projection is still to make its links of a record.
func (p *projector) sees(id projectionID, r *store.Record) bool {
	s := &p.switches[id]
	return s.runs && !r.Position().Before(s.from)
}

// switchTo stops a projection, or has it go on.
func (p *projector) switchTo(id projectionID, run bool) {
	p.mu.Lock()
	s := &p.switches[id]
	s.version++
	if s.wanted != run {
		s.wanted, p.turned = run, true
		if run {
			s.told, s.events, s.began = s.version, 0, s.position
			p.indexed = -1 // not before it has caught up
		}
	}
	p.mu.Unlock()
	signal(p.wake)
}

// projectionState is how a projection is at the moment.
type projectionState struct {
	name       string
	running    bool
	version    int64
	events     int64
	position   store.Position // of the last event that it has seen
	checkpoint store.Position // what a real server would go on with after a restart
	progress   float64        // in per cent
}

// states are all projections, in the order of a real server.
func (p *projector) states() []projectionState {
	tip := p.server.store.Tip().Commit
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []projectionState
	for i := range p.switches {
		s := &p.switches[i]
		state := projectionState{
			name: projections[i].name, running: s.wanted, version: s.told, events: s.events,
			position: placeOf(s.position), checkpoint: placeOf(s.began), progress: 100,
		}
		if !s.wanted {
			state.checkpoint = state.position
		}
		if tip > 0 && s.position < tip {
			state.progress = float64(max(s.position, 0)) * 100 / float64(tip)
		}
		all = append(all, state)
	}
	return all
}

// placeOf is a place as a projection tells it, whose beginning is before the first event.
func placeOf(position int64) store.Position {
	if position < 0 {
		return store.Position{Commit: 0, Prepare: -1}
	}
	return store.Position{Commit: position, Prepare: position}
}
