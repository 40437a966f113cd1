package quorum

import (
	"container/heap"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"

	"github.com/goeventstore/eventstore/server/internal/store"
)

// Host is who runs the servers of the nodes. Its methods are called while the World is at work: they must not call it, nor
// wait.
type Host interface {
	// Changed says that the server of a node should look at what the World has for it.
	Changed(node int)
	// Restart says that a node has taken up what is in no log any more: it is down, and is to be started anew.
	Restart(node int)
}

// World is a cluster. Its methods belong to one goroutine at a time. At the end of each that changes something Next says
// when the World is to be Advanced.
type World struct {
	host   Host
	now    time.Time
	random *rand.Rand
	size   int // nodes that count
	nodes  []*node
	events eventHeap
	order  uint64
	shown  []*Entry // that were shown without a majority
	// latency is how long the next message between two nodes takes: linkDelay, or what a test wants.
	latency func(from, to int) time.Duration
}

// Entry is what a leader's writer stored at once, or what begins an epoch. It never changes.
type Entry struct {
	Leader  Epoch // in whose epoch it was written
	Begins  bool  // it is the first one of that
	Commit  int64 // the position of its last commit
	End     int64 // the position behind it
	Records []store.Record
}

// Stored is what a server has in its store of an entry.
func (e *Entry) Stored() []store.Record {
	if e.Begins {
		return []store.Record{{Kind: store.Void, Commit: e.Commit, Prepare: e.Commit}}
	}
	return e.Records
}

// Epoch is one reign of a leader.
type Epoch struct {
	Ballot   int // of the election, no two of which have the same
	Number   int // how many there are before it in the log
	Position int64
	ID       uuid.UUID
}

// NoEpoch is that of a node whose log is empty.
var NoEpoch = Epoch{Ballot: -1, Number: -1, Position: -1}

// EpochSize is how much of the log the record takes that begins an epoch.
const EpochSize = 168

// The times of a cluster, as they were recorded.
const (
	linkDelay = time.Millisecond
	// A paused node's connections stay: the others wait for it, a leader that counts its replicas not for long.
	replicaPatience = 1200 * time.Millisecond
	leaderPatience  = 10 * time.Second

	gossipInterval   = time.Second
	gossipAtFirst    = 100 * time.Millisecond // so often
	gossipFirstTimes = 20

	answersTime      = 5 * time.Millisecond // for promises behind those of a majority
	electionPatience = time.Second
	subscribeAgain   = 100 * time.Millisecond
	quorumGrace      = 2800 * time.Millisecond
)

// span is a time that chance decides on.
type span struct{ least, most time.Duration }

// The times by chance.
var (
	deadSeen     = span{21 * time.Millisecond, 268 * time.Millisecond} // after a process has gone, or the line to it
	electing     = span{20 * time.Millisecond, 1200 * time.Millisecond}
	joining      = span{300 * time.Millisecond, 900 * time.Millisecond} // of a node that begins and sees no leader
	rejoining    = span{2 * time.Second, 3 * time.Second}               // and of one that sees one
	beingElected = span{10 * time.Millisecond, 100 * time.Millisecond}
	subscribing  = span{10 * time.Millisecond, 60 * time.Millisecond}
	catchingUp   = span{10 * time.Millisecond, 40 * time.Millisecond}
)

// New returns a cluster of nodes that are all down. The seed decides on what is left to chance.
func New(size int, seed uint64, now time.Time, host Host) *World {
	w := &World{host: host, now: now, random: rand.New(rand.NewPCG(seed, seed)), size: size}
	w.latency = func(int, int) time.Duration { return linkDelay }
	for range size {
		w.Add(false)
	}
	return w
}

// Add adds a node, which is down, and returns its number. The first ones are those that count; others are clones, or there
// to be read alone.
func (w *World) Add(readOnly bool) int {
	n := &node{
		world: w, id: len(w.nodes), votes: len(w.nodes) < w.size, readOnly: readOnly,
		promised: -1, done: -1, round: -1, leader: nobody, group: 0,
	}
	w.nodes = append(w.nodes, n)
	for _, other := range w.nodes {
		for len(other.view) < len(w.nodes) {
			other.view = append(other.view, placeholder(len(other.view), w.now))
		}
	}
	return n.id
}

// event is something that happens at a moment.
type event struct {
	at    time.Time
	order uint64
	do    func()
}

type eventHeap []event

func (h eventHeap) Len() int { return len(h) }
func (h eventHeap) Less(i, k int) bool {
	if h[i].at.Equal(h[k].at) {
		return h[i].order < h[k].order
	}
	return h[i].at.Before(h[k].at)
}
func (h eventHeap) Swap(i, k int) { h[i], h[k] = h[k], h[i] }
func (h *eventHeap) Push(x any)   { *h = append(*h, x.(event)) }
func (h *eventHeap) Pop() any {
	last := len(*h) - 1
	e := (*h)[last]
	(*h)[last] = event{}
	*h = (*h)[:last]
	return e
}

// Next returns when the next thing happens, if there is any.
func (w *World) Next() (time.Time, bool) {
	if len(w.events) == 0 {
		return time.Time{}, false
	}
	return w.events[0].at, true
}

// Advance has everything happen that is due.
func (w *World) Advance(now time.Time) {
	for len(w.events) > 0 && !w.events[0].at.After(now) {
		e := heap.Pop(&w.events).(event)
		if e.at.After(w.now) {
			w.now = e.at
		}
		e.do()
	}
	if now.After(w.now) {
		w.now = now
	}
}

func (w *World) at(after time.Duration, do func()) {
	w.order++
	heap.Push(&w.events, event{w.now.Add(after), w.order, do})
}

// some is any time of a span.
func (w *World) some(s span) time.Duration {
	return s.least + time.Duration(w.random.Int64N(int64(s.most-s.least)+1))
}

// mostlyShort is a time of a span, of which half are in the lowest eighth.
func (w *World) mostlyShort(s span) time.Duration {
	f := w.random.Float64()
	return s.least + time.Duration(f*f*f*float64(s.most-s.least))
}

// joined reports whether there is a line between two nodes.
func (w *World) joined(a, b *node) bool { return a.group == b.group }

// send brings a message from one node to another.
func (w *World) send(from, to *node, do func()) {
	if !w.joined(from, to) {
		return
	}
	began := to.began
	w.at(w.latency(from.id, to.id), func() {
		if !w.joined(from, to) || !to.up || to.began != began {
			return
		}
		if to.paused {
			if !from.view[to.id].Alive { // it has closed the connection
				return
			}
			to.held = append(to.held, held{from, do})
			return
		}
		do()
	})
}

// Send has something done where one node reaches another. What it does must not call the World.
func (w *World) Send(from, to int, do func()) {
	if n := w.nodes[from]; n.up && !n.paused {
		w.send(n, w.nodes[to], do)
	}
}

// later has a node do something, unless it has been started anew by then. A paused one does it when it goes on.
func (n *node) later(after time.Duration, do func()) {
	began := n.began
	n.world.at(after, func() {
		switch {
		case !n.up || n.began != began:
		case n.paused:
			n.held = append(n.held, held{n, do})
		default:
			do()
		}
	})
}

// held is what waits for a paused node.
type held struct {
	from *node
	do   func()
}
