package quorum

import (
	"slices"
	"time"

	"github.com/goeventstore/eventstore/server/internal/store"
)

// Propose appends what the server of a leader has stored to the log. The server has taken up all that is there.
func (w *World) Propose(id int, e *Entry) {
	n := w.nodes[id]
	e.Leader = n.epoch
	n.log = append(n.log, e)
	n.taken = len(n.log)
	n.spread()
	n.commit()
}

// follow has a node be a replica of a leader, with the log that it has.
func (n *node) follow(leader int) {
	if n.leader == leader && !n.gone && (n.state == Slave || n.state == Clone || n.state == ReadOnlyReplica) {
		return // nothing has changed but the epoch
	}
	n.leader, n.gone = leader, false
	n.replicate++
	n.become(PreReplica)
	n.subscribe(n.replicate, n.world.some(subscribing))
}

// subscribe asks the leader for the log until it comes.
func (n *node) subscribe(as uint64, after time.Duration) {
	n.later(after, func() {
		if n.replicate != as || n.state != PreReplica {
			return
		}
		leader := n.world.nodes[n.leader]
		own := slices.Clip(n.log)
		n.world.send(n, leader, func() { leader.subscribed(n.id, own) })
		n.subscribe(as, subscribeAgain)
	})
}

// subscribed is a leader that gets a replica.
func (n *node) subscribed(by int, log []*Entry) {
	if !n.leads {
		return
	}
	n.replicas[by] = common(n.log, log)
	n.sendTo(by)
	n.commit()
}

// common is how many entries two logs have in common: the same entry is behind the same ones everywhere.
func common(a, b []*Entry) int {
	n := min(len(a), len(b))
	for n > 0 && a[n-1] != b[n-1] {
		n--
	}
	return n
}

// spread sends replicas what they lack, or that there is nothing.
func (n *node) spread() {
	for _, other := range n.world.nodes {
		if _, ok := n.replicas[other.id]; ok {
			n.sendTo(other.id)
		}
	}
}

// sendTo sends a replica what it lacks.
func (n *node) sendTo(id int) {
	to, ballot := n.world.nodes[id], n.epoch.Ballot
	log, committed := slices.Clip(n.log), n.committed
	n.world.send(n, to, func() { to.append(n, ballot, log, committed) })
}

// append is a replica that gets what it lacks. It takes nothing from a leader that it has promised to leave: that one would count
// it, and whoever is elected instead may begin without what it counted.
func (n *node) append(leader *node, ballot int, log []*Entry, committed int) {
	if ballot < n.promised || n.leader != leader.id {
		return
	}
	n.promised, n.done = max(n.promised, ballot), max(n.done, ballot)
	same := common(n.log, log)
	if same < len(n.log) {
		if same < n.taken { // its server has what is not in the log any more
			n.log = n.log[:same:same]
			n.world.Kill(n.id)
			n.world.host.Restart(n.id)
			return
		}
		n.log = n.log[:same:same]
	}
	n.log = append(n.log, log[same:]...)
	if committed > n.committed {
		n.committed = committed
		n.world.host.Changed(n.id)
	}
	has := len(n.log)
	n.world.send(n, leader, func() { leader.acked(n.id, ballot, has) })
	n.caughtUp()
}

// acked is a leader that hears how far a replica is. What it had in an earlier epoch it may have cut off since.
func (n *node) acked(by, ballot, entries int) {
	if _, ok := n.replicas[by]; !ok || !n.leads || n.epoch.Ballot != ballot {
		return
	}
	n.replicas[by] = max(n.replicas[by], entries)
	n.commit()
}

// commit commits what a majority has, once that has an entry of this epoch too: else somebody with a later one, whom it does not
// know of, may be elected without the rest.
func (n *node) commit() {
	has := []int{len(n.log)}
	for id, entries := range n.replicas {
		if n.world.nodes[id].votes {
			has = append(has, entries)
		}
	}
	slices.Sort(has)
	slices.Reverse(has)
	need := n.world.size/2 + 1
	if len(has) < need {
		return
	}
	c := has[need-1]
	if c <= n.committed || n.log[c-1].Leader != n.epoch {
		return
	}
	n.committed = c
	n.become(Master)
	n.world.host.Changed(n.id)
	n.spread()
}

// caughtUp brings a replica to where it stays.
func (n *node) caughtUp() {
	if n.state != PreReplica {
		return
	}
	n.become(CatchingUp)
	as := n.replicate
	still := func(s State, do func()) func() {
		return func() {
			if n.replicate == as && n.state == s {
				do()
			}
		}
	}
	last := func() {
		n.slave = true
		n.become(Slave)
	}
	n.later(n.world.some(catchingUp), still(CatchingUp, func() {
		switch {
		case n.readOnly:
			n.become(ReadOnlyReplica)
		case !n.votes:
			n.become(Clone)
		case n.slave:
			last()
		default:
			n.become(Clone)
			n.later(n.world.some(catchingUp), still(Clone, last))
		}
	}))
}

// RolledBack are the events that a leader without a majority has shown, and called written, and that are not in the log of
// the leader that there is now, or was last. One that was written again after that is here too, with the number that it had.
func (w *World) RolledBack() []store.Record {
	kept := make(map[*Entry]bool)
	var newest *node
	for _, n := range w.nodes {
		if newest == nil || n.committed > newest.committed {
			newest = n
		}
	}
	for _, e := range newest.log[:newest.committed] {
		kept[e] = true
	}
	var gone []store.Record
	for _, e := range w.shown {
		if kept[e] {
			continue
		}
		kept[e] = true // once
		for i := range e.Records {
			if e.Records[i].Kind == store.Event {
				gone = append(gone, e.Records[i])
			}
		}
	}
	return gone
}
