package quorum

import (
	"slices"
	"time"

	"github.com/google/uuid"
)

// Start starts a node that is down: what is on its disk is there.
func (w *World) Start(id int, instance uuid.UUID) {
	n := w.nodes[id]
	if n.up {
		return
	}
	w.order++
	n.up, n.paused, n.held, n.began = true, false, nil, w.order
	n.state, n.instance, n.leader, n.gone, n.slave = Unknown, instance, nobody, false, false
	n.taken, n.rounds, n.attempt, n.round = n.committed, 0, false, -1
	n.turn = w.random.IntN(len(w.nodes))
	n.promises, n.lonely, n.leads, n.replicas = nil, time.Time{}, false, nil
	for i := range n.view {
		n.view[i] = placeholder(i, w.now)
	}
	n.view[id] = n.self()
	n.later(0, n.tick)
	n.unheard(n.promised)
	w.host.Changed(id)
}

// Kill ends a node at once.
func (w *World) Kill(id int) {
	n := w.nodes[id]
	if !n.up {
		return
	}
	n.up, n.paused, n.held, n.leads = false, false, nil, false
	for _, other := range w.nodes {
		if other != n && w.joined(n, other) {
			other.notices(n)
		}
	}
}

// Pause stops a node: nothing is lost, and nobody is told.
func (w *World) Pause(id int) {
	n := w.nodes[id]
	if !n.up || n.paused {
		return
	}
	w.order++
	n.paused, n.pause = true, w.order
	since := n.pause
	for _, other := range w.nodes {
		if other == n {
			continue
		}
		patience := replicaPatience
		if other.leader == id {
			patience = leaderPatience
		}
		other.later(patience, func() {
			if n.up && n.paused && n.pause == since {
				// It closes the connection: what is under way there is lost.
				n.held = slices.DeleteFunc(n.held, func(h held) bool { return h.from == other })
				n.held = append(n.held, held{n, func() { n.dead(other) }})
				other.dead(n)
			}
		})
	}
}

// Resume has a paused node go on.
func (w *World) Resume(id int) {
	n := w.nodes[id]
	if !n.up || !n.paused {
		return
	}
	n.paused = false
	waiting := n.held
	n.held = nil
	for _, h := range waiting {
		if h.from == n || (h.from.up && w.joined(h.from, n)) {
			n.later(0, h.do)
		}
	}
	w.host.Changed(id)
}

// Cut cuts some nodes off: they reach each other and nobody else does, until Heal. What was cut off before stays cut off from both.
func (w *World) Cut(ids ...int) {
	group := 0
	for _, n := range w.nodes {
		group = max(group, n.group+1)
	}
	before := make([]int, len(w.nodes))
	for i, n := range w.nodes {
		before[i] = n.group
	}
	for _, id := range ids {
		w.nodes[id].group = group
	}
	for i, a := range w.nodes {
		for k, b := range w.nodes {
			if a != b && before[i] == before[k] && !w.joined(a, b) {
				a.notices(b)
			}
		}
	}
}

// Heal joins all that was cut.
func (w *World) Heal() {
	for _, n := range w.nodes {
		n.group = 0
	}
}

// notices has a node find out some time later that another one is gone, unless it has come back by then.
func (n *node) notices(other *node) {
	began := other.began
	n.later(n.world.some(deadSeen), func() {
		if other.up && other.began == began && n.world.joined(n, other) && !other.paused {
			return
		}
		n.dead(other)
	})
}

// dead is what a node does about one that is gone.
func (n *node) dead(other *node) {
	if m := &n.view[other.id]; m.Alive {
		m.Alive, m.Time = false, n.world.now
	}
	if n.leads {
		delete(n.replicas, other.id)
	}
	if n.leader == other.id && !n.leads {
		n.gone = true
		n.elect(n.world.mostlyShort(electing))
	}
	n.watch()
}

// majority reports whether a node sees one of those that count.
func (n *node) majority() bool {
	alive := 0
	for i, m := range n.view {
		if n.world.nodes[i].votes && (i == n.id || (m.Alive && m.Known)) {
			alive++
		}
	}
	return n.world.isMajority(alive)
}

func (w *World) isMajority(of int) bool { return 2*of > w.size }

// watch has a node give up what it is when it sees no majority for too long.
func (n *node) watch() {
	if n.majority() {
		n.lonely = time.Time{}
		return
	}
	if !n.lonely.IsZero() {
		return
	}
	since := n.world.now
	n.lonely = since
	n.later(quorumGrace, func() {
		if n.lonely.Equal(since) && (n.leads || n.gone) {
			n.stepDown()
		}
	})
}
