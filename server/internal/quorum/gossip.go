package quorum

// tick is a round of gossip: a node exchanges what it believes with one other, each in its turn, and sees to what has waited too long.
func (n *node) tick() {
	interval := gossipInterval
	if n.rounds++; n.rounds < gossipFirstTimes {
		interval = gossipAtFirst
	}
	n.later(interval, n.tick)
	if others := len(n.view) - 1; others > 0 {
		to := (n.rounds + n.turn) % others
		if to >= n.id {
			to++
		}
		n.tell(n.world.nodes[to], true)
	}
	if n.leads {
		n.spread()
	}
	n.restless()
}

// tell sends what a node believes to another, which may be asked to do the same.
func (n *node) tell(to *node, answer bool) {
	n.view[n.id] = n.self()
	said := append([]Member(nil), n.view...)
	if n.rounds <= 1 {
		said[n.id].State = Initializing
	}
	if !to.up || !n.world.joined(n, to) {
		if m := &n.view[to.id]; m.Alive && !m.Known { // nobody is there at all
			m.Alive, m.Time = false, n.world.now
		}
		return
	}
	n.world.send(n, to, func() {
		to.hear(n.id, said)
		if answer {
			to.tell(n, false)
		}
	})
}

// hear takes up what another node believes. The later word counts; what a node says of itself is newest.
func (n *node) hear(from int, said []Member) {
	for i, m := range said {
		own := &n.view[i]
		switch {
		case i == n.id || !m.Known:
		case i == from, !own.Known, m.Time.After(own.Time):
			*own = m
		}
	}
	if n.leads {
		n.missed(said[from])
		for _, m := range said {
			if m.Alive && m.State == Master && m.Node != n.id && m.Epoch.Ballot > n.epoch.Ballot {
				n.stepDown()
				break
			}
		}
	}
	n.watch()
	n.restless()
}

// missed has a replica subscribe that this leader has taken for gone, or that follows somebody else, and has not noticed.
func (n *node) missed(m Member) {
	switch m.State {
	case PreReplica, CatchingUp, Clone, Slave, ReadOnlyReplica:
	default:
		return
	}
	if _, ok := n.replicas[m.Node]; ok {
		return
	}
	to, ballot := n.world.nodes[m.Node], n.epoch.Ballot
	n.world.send(n, to, func() {
		switch {
		case to.state == Unknown: // it is about to ask for an election itself
		case to.leader != n.id:
			to.elected(ballot, n.id)
		case to.state != PreReplica:
			to.gone = true
			to.follow(n.id)
		}
	})
}

// seesLeader reports whether a node has heard of one that is alive.
func (n *node) seesLeader() bool {
	for _, m := range n.view {
		if m.Alive && m.State == Master && m.Node != n.id {
			return true
		}
	}
	return false
}

// restless has a node that knows no living leader think of an election.
func (n *node) restless() {
	switch {
	case n.attempt || n.leads || !n.majority() || !n.votes && !n.seesLeader():
	case n.state == Unknown && n.seesLeader():
		n.elect(n.world.some(rejoining))
	case n.state == Unknown:
		n.elect(n.world.some(joining))
	case n.gone:
		n.elect(n.world.mostlyShort(electing))
	}
}
