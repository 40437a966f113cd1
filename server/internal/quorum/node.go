package quorum

import (
	"time"

	"github.com/google/uuid"
)

// State is what a node is, by the names of masters and slaves.
type State string

// The states, as gossip has them.
const (
	Initializing    State = "Initializing"
	Unknown         State = "Unknown"
	PreReplica      State = "PreReplica"
	CatchingUp      State = "CatchingUp"
	Clone           State = "Clone"
	Slave           State = "Slave"
	PreMaster       State = "PreMaster"
	Master          State = "Master"
	Manager         State = "Manager"
	ReadOnlyReplica State = "ReadOnlyReplica"
)

const nobody = -1

// node is one of a cluster.
type node struct {
	world    *World
	id       int
	votes    bool
	readOnly bool
	priority int

	// On its disk.
	log       []*Entry
	committed int // entries that are known to be
	promised  int // the highest ballot that it has promised
	done      int // the highest one whose result it was told

	up, paused bool
	group      int // nodes of one group reach each other
	held       []held
	began      uint64 // another number with each start
	pause      uint64 // and with each pause

	state    State
	instance uuid.UUID
	leader   int  // the last one that it knew
	gone     bool // the leader is, as far as it knows
	taken    int  // entries that its server has taken up
	view     []Member
	rounds   int // of gossip
	turn     int // with whom it begins

	attempt   bool // an election is to be begun
	round     int  // the ballot that it coordinates
	promises  []promise
	lonely    time.Time // since when it has seen no majority
	epoch     Epoch     // in which it leads
	leads     bool
	replicas  map[int]int // by node, how many entries they have
	replicate uint64      // another number with each leader that it subscribes to
	slave     bool        // it has been one before
}

// Member is what a node believes of one, itself included.
type Member struct {
	Node     int
	Known    bool // else a placeholder, for one of which nothing was heard yet
	Instance uuid.UUID
	Time     time.Time // of what is believed
	State    State
	Alive    bool
	Commit   int64 // positions
	Writer   int64
	Epoch    Epoch
	Priority int
	ReadOnly bool
}

func placeholder(id int, now time.Time) Member {
	return Member{Node: id, Time: now, State: Manager, Alive: true, Commit: -1, Writer: -1, Epoch: NoEpoch}
}

// self is what a node says of itself.
func (n *node) self() Member {
	m := Member{
		Node: n.id, Known: true, Instance: n.instance, Time: n.world.now, State: n.state, Alive: true, Commit: -1,
		Epoch: NoEpoch, Priority: n.priority, ReadOnly: n.readOnly,
	}
	if len(n.log) > 0 {
		last := n.log[len(n.log)-1]
		m.Writer, m.Epoch = last.End, last.Leader
	}
	if n.committed > 0 {
		m.Commit = n.log[n.committed-1].Commit
	}
	return m
}

// become changes a node's state.
func (n *node) become(s State) {
	if n.state != s {
		n.state = s
		n.view[n.id] = n.self()
		n.world.host.Changed(n.id)
	}
}

// Status is what the server of a node goes by.
type Status struct {
	State     State
	Leads     bool // takes writes: also as long as it has not been told that it does not any more
	Epoch     Epoch
	Reign     uint64   // another number with each leader; not with each epoch
	Leader    int      // whom it names, nobody if it is negative
	Committed int      // entries
	Log       []*Entry // all of them; for reading, as long as nobody calls the World
}

// Status returns what the server of a node goes by.
func (w *World) Status(id int) Status {
	n := w.nodes[id]
	leader := n.leader
	if n.state == Unknown {
		leader = nobody
	}
	return Status{State: n.state, Leads: n.state == Master, Epoch: n.epoch, Reign: n.replicate, Leader: leader, Committed: n.committed, Log: n.log}
}

// Settled reports whether a node is what it stays as long as nothing happens.
func (w *World) Settled(id int) bool {
	switch n := w.nodes[id]; n.state {
	case Master, Slave, ReadOnlyReplica:
		return true
	case Clone:
		return !n.votes
	default:
		return false
	}
}

// Taken says that the server of a node has taken up so many entries of its log.
func (w *World) Taken(id, entries int) { w.nodes[id].taken = entries }

// View is the gossip of a node. Only one that is up has any.
func (w *World) View(id int) []Member {
	n := w.nodes[id]
	n.view[id] = n.self()
	return append([]Member(nil), n.view...)
}

// Up reports whether a node runs, and Paused whether it is paused.
func (w *World) Up(id int) bool { return w.nodes[id].up }

// Paused reports whether a node is paused.
func (w *World) Paused(id int) bool { return w.nodes[id].paused }

// Nodes is how many there are.
func (w *World) Nodes() int { return len(w.nodes) }

// Prefer sets the priority of a node, by which the best of equals is elected.
func (w *World) Prefer(id, priority int) { w.nodes[id].priority = priority }
