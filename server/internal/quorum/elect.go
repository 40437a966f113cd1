package quorum

import (
	"cmp"
	"time"

	"github.com/google/uuid"
)

// promise is what a coordinator is told.
type promise struct {
	node     int
	votes    bool
	ballot   int // of the last entry
	entries  int
	leads    bool
	priority int
	instance uuid.UUID
}

// compare orders by who should lead.
func (p *promise) compare(o *promise) int {
	leads := func(p *promise) int {
		if p.leads {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(p.ballot, o.ballot), cmp.Compare(p.entries, o.entries), cmp.Compare(leads(p), leads(o)),
		cmp.Compare(p.priority, o.priority), cmp.Compare(p.instance.String(), o.instance.String()), cmp.Compare(p.node, o.node))
}

// promises tells how new the log of a node is.
func (n *node) promise() promise {
	p := promise{node: n.id, votes: n.votes, ballot: -1, entries: len(n.log), leads: n.leads, priority: n.priority, instance: n.instance}
	if len(n.log) > 0 {
		p.ballot = n.log[len(n.log)-1].Leader.Ballot
	}
	return p
}

// needed reports whether an election is wanted: no leader is known, and nobody is about to elect one.
func (n *node) needed() bool {
	return n.promised <= n.done && !n.leads && (n.gone || n.state == Unknown)
}

// elect has a node coordinate an election after a while, if one is needed then.
func (n *node) elect(after time.Duration) {
	if n.attempt {
		return
	}
	n.attempt = true
	n.later(after, func() {
		n.attempt = false
		if n.needed() && n.majority() {
			n.coordinate()
		}
	})
}

// coordinate asks for promises.
func (n *node) coordinate() {
	ballot := max(n.promised, n.done) + 1
	for _, m := range n.view {
		ballot = max(ballot, m.Epoch.Ballot+1)
	}
	n.promised, n.round, n.promises = ballot, ballot, []promise{n.promise()}
	for _, other := range n.world.nodes {
		if other != n {
			n.world.send(n, other, func() { other.asked(n, ballot) })
		}
	}
	n.unheard(ballot)
	n.count()
}

// unheard has a node begin an election of its own when nothing comes of a ballot that it promised.
func (n *node) unheard(ballot int) {
	n.later(electionPatience+n.world.some(electing), func() {
		if n.promised == ballot && n.done < ballot {
			if n.majority() {
				n.coordinate()
			} else {
				n.unheard(ballot)
			}
		}
	})
}

// asked is a node that is asked for a promise. One that is not given tells which was.
func (n *node) asked(by *node, ballot int) {
	if ballot <= n.promised {
		promised := n.promised
		n.world.send(n, by, func() {
			if by.round == ballot && by.promised < promised {
				by.promised, by.round = promised, -1
				by.unheard(promised)
			}
		})
		return
	}
	n.promised = ballot
	p := n.promise()
	n.unheard(ballot)
	n.world.send(n, by, func() {
		if by.round == ballot && by.promised == ballot {
			by.promises = append(by.promises, p)
			by.count()
		}
	})
}

// count ends the round of a coordinator that has a majority. Others may still be on their way: one of them may lead already.
func (n *node) count() {
	votes := 0
	for _, p := range n.promises {
		if p.votes {
			votes++
		}
	}
	if !n.world.isMajority(votes) {
		return
	}
	ballot := n.round
	n.later(answersTime, func() {
		if n.round != ballot || n.promised != ballot {
			return
		}
		n.round = -1
		best := n.promises[0]
		for _, p := range n.promises[1:] {
			if p.votes && (!best.votes || p.compare(&best) > 0) {
				best = p
			}
		}
		for _, other := range n.world.nodes {
			if other != n {
				n.world.send(n, other, func() { other.elected(ballot, best.node) })
			}
		}
		n.elected(ballot, best.node)
	})
}

// elected is a node that hears how a ballot ended.
func (n *node) elected(ballot, leader int) {
	if ballot < n.promised || ballot <= n.done {
		return
	}
	n.promised, n.done = ballot, ballot
	if leader == n.id {
		n.lead(ballot)
		return
	}
	if n.leads {
		n.stepDown()
	}
	n.follow(leader)
}

// lead is the beginning of an epoch for who leads it.
func (n *node) lead(ballot int) {
	n.gone = false
	if n.leads {
		n.begin(ballot)
		return
	}
	n.leader = n.id
	n.replicate++
	n.become(PreMaster)
	n.later(n.world.some(beingElected), func() {
		if n.state == PreMaster && n.promised == ballot && n.leader == n.id {
			n.leads, n.replicas = true, make(map[int]int)
			n.begin(ballot)
		}
	})
}

// begin puts the record into the log that begins an epoch.
func (n *node) begin(ballot int) {
	n.epoch = Epoch{Ballot: ballot, ID: n.world.id()}
	if len(n.log) > 0 {
		last := n.log[len(n.log)-1]
		n.epoch.Number, n.epoch.Position = last.Leader.Number+1, last.End
	}
	at := n.epoch.Position
	n.log = append(n.log, &Entry{Leader: n.epoch, Begins: true, Commit: at, End: at + EpochSize})
	n.world.host.Changed(n.id)
	n.spread()
	n.commit()
}

// id is a random one.
func (w *World) id() (id uuid.UUID) {
	for i := range id {
		id[i] = byte(w.random.UintN(256))
	}
	id[6], id[8] = id[6]&0x0F|0x40, id[8]&0x3F|0x80
	return id
}

// stepDown is a leader that leads no more, or a replica that has given its leader up.
func (n *node) stepDown() {
	if n.leads { // its server shows all that it has, and calls it written
		n.world.shown = append(n.world.shown, n.log[n.committed:]...)
	}
	n.leads, n.replicas, n.leader, n.gone = false, nil, nobody, false
	n.replicate++
	n.become(Unknown)
}
