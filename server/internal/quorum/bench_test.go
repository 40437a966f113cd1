package quorum

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/server/internal/store"
)

// bench is a cluster without servers: what they would do is done at once. At every step it holds the nodes to what must be
// true whatever happens.
type bench struct {
	tb      require.TestingT
	world   *World
	now     time.Time
	restart map[int]time.Time // nodes that begin anew, and when
	history []*Entry          // what was ever committed
	by      []int             // and by the leader of which ballot
	events  int
	random  *rand.Rand

	leaders map[int]int          // by ballot, who led
	before  map[*Entry]*Entry    // what is in front of an entry, wherever it is
	was     []*remembered        // what each node had at the last step
	slow    func() time.Duration // how long a message takes, nil for as long as ever
	arrives map[[2]int]time.Time // when the last one between two nodes does: they keep their order
}

// remembered is what a node had.
type remembered struct {
	committed, promised, length int
	last                        *Entry
	served                      []*Entry // what its server has taken up since it began
}

func (b *bench) Changed(int)      {}
func (b *bench) Restart(node int) { b.restart[node] = b.world.now.Add(time.Second) }

func newBench(tb require.TestingT, size int, seed uint64) *bench {
	b := &bench{
		random: rand.New(rand.NewPCG(seed, 2)), tb: tb, now: time.Unix(1_000_000, 0), leaders: map[int]int{}, before: map[*Entry]*Entry{}, arrives: map[[2]int]time.Time{}, restart: map[int]time.Time{},
	}
	b.world = New(size, seed, b.now, b)
	b.world.latency = b.latency
	b.check()
	for id := range size {
		b.start(id)
	}
	return b
}

func (b *bench) id() uuid.UUID {
	var id uuid.UUID
	for i := range id {
		id[i] = byte(b.random.UintN(256))
	}
	return id
}

// start starts a node: its server has what it knows to be committed.
func (b *bench) start(id int) {
	if !b.world.Up(id) {
		n := b.world.nodes[id]
		b.was[id].served = append([]*Entry{}, n.log[:n.committed]...)
		b.world.Start(id, b.id())
	}
}

// delays has messages take any time up to so long from now on.
func (b *bench) delays(most time.Duration) {
	b.slow = func() time.Duration { return time.Duration(b.random.Int64N(int64(most) + 1)) }
}

func (b *bench) latency(from, to int) time.Duration {
	d := linkDelay
	if b.slow != nil {
		d = b.slow()
	}
	line := [2]int{from, to}
	if last := b.arrives[line].Sub(b.world.now); last > d {
		d = last
	}
	b.arrives[line] = b.world.now.Add(d)
	return d
}

// run lets time pass.
func (b *bench) run(d time.Duration) {
	end := b.now.Add(d)
	more := true
	for more {
		more = b.step(end)
	}
}

// step has the next thing happen, if that is before the end, which it is else.
func (b *bench) step(end time.Time) bool {
	at, ok := b.world.Next()
	more := ok && !at.After(end)
	b.now = end
	if more {
		b.now = at
	}
	b.world.Advance(b.now)
	b.check()
	for id := range b.world.Nodes() {
		if at, ok := b.restart[id]; ok && !at.After(b.now) {
			delete(b.restart, id)
			b.start(id)
		}
	}
	return more
}

// untilBallot lets time pass until somebody promises something, is told who was elected, or leads, at most so long.
func (b *bench) untilBallot(most time.Duration) {
	sum := func() (sum int) {
		for _, n := range b.world.nodes {
			sum += n.promised + n.done
			if n.leads {
				sum += n.epoch.Ballot
			}
		}
		return sum
	}
	end, before := b.now.Add(most), sum()
	more := true
	for more && sum() == before {
		more = b.step(end)
	}
}

// check holds all nodes to what must be true.
func (b *bench) check() {
	for id, n := range b.world.nodes {
		if id == len(b.was) {
			b.was = append(b.was, &remembered{promised: -1})
		}
		was := b.was[id]
		s := b.world.Status(id)
		switch {
		case n.promised < was.promised, n.promised < n.done:
			b.wrong("node %d takes a promise back", id)
		case s.Committed < was.committed, s.Committed > len(s.Log):
			b.wrong("node %d forgets what is committed", id)
		}
		b.checkLog(n, was)
		b.checkCommitted(n)
		b.checkLeader(n)
		b.checkServed(n, &s, was)
		was.committed, was.promised = s.Committed, n.promised
	}
}

// wrong fails. It is asked for at every step, which is too often for require.
func (b *bench) wrong(format string, args ...any) {
	require.FailNow(b.tb, fmt.Sprintf(format, args...))
}

// checkLog: an entry is behind the same ones in all logs.
func (b *bench) checkLog(n *node, was *remembered) {
	from := was.length
	if from > len(n.log) || (from > 0 && n.log[from-1] != was.last) {
		from = 0 // it was cut
	}
	was.length, was.last = len(n.log), nil
	if len(n.log) > 0 {
		was.last = n.log[len(n.log)-1]
	}
	for i := from; i < len(n.log); i++ {
		var front *Entry
		if i > 0 {
			front = n.log[i-1]
		}
		if known, ok := b.before[n.log[i]]; ok && known != front {
			b.wrong("entry %d of node %d is behind another one than elsewhere", i, n.id)
		}
		b.before[n.log[i]] = front
	}
}

// checkCommitted: what a node knows to be committed is what ever was.
func (b *bench) checkCommitted(n *node) {
	for i := max(0, min(n.committed, len(b.history))-1); i < n.committed; i++ { // by checkLog the same is in front of that
		if i == len(b.history) { // only the leader knows yet, and the last one is its own
			b.history = append(b.history, n.log[i])
			b.by = append(b.by, n.log[n.committed-1].Leader.Ballot)
		}
		if b.history[i] != n.log[i] {
			b.wrong("entry %d of node %d is committed, and another one was", i, n.id)
		}
	}
}

// checkLeader: a ballot has one leader, which begins with all that was committed before.
func (b *bench) checkLeader(n *node) {
	if !n.up || !n.leads {
		return
	}
	leader, ok := b.leaders[n.epoch.Ballot]
	if ok && leader != n.id {
		b.wrong("nodes %d and %d both lead by ballot %d", leader, n.id, n.epoch.Ballot)
	}
	b.leaders[n.epoch.Ballot] = n.id
	last := len(b.history) - 1
	for last >= 0 && b.by[last] >= n.epoch.Ballot { // it may have been paused when it was to begin
		last--
	}
	if !ok && last >= 0 && (last >= len(n.log) || n.log[last] != b.history[last]) {
		b.wrong("node %d leads without what is committed", n.id)
	}
}

// checkServed: what the server of a node has taken up stays in the log as long as it runs.
func (b *bench) checkServed(n *node, s *Status, was *remembered) {
	if !n.up {
		return
	}
	if last := len(was.served) - 1; last >= 0 && (last >= len(n.log) || n.log[last] != was.served[last]) {
		b.wrong("the server of node %d has what its log has not", n.id)
	}
	if n.paused {
		return
	}
	until := s.Committed
	if s.Leads {
		until = len(s.Log)
	}
	if until > len(was.served) {
		was.served = append(was.served, s.Log[len(was.served):until]...)
	}
	n.taken = len(was.served)
}

// propose writes an event where somebody takes himself for the leader.
func (b *bench) propose(id int) *Entry {
	s := b.world.Status(id)
	if !s.Leads || b.world.Paused(id) {
		return nil
	}
	b.world.Taken(id, len(s.Log))
	b.events++
	end := s.Log[len(s.Log)-1].End
	e := &Entry{Commit: end, End: end + 100, Records: []store.Record{{ID: b.id(), Number: int64(b.events)}}}
	b.world.Propose(id, e)
	b.check()
	return e
}

// leader is the node that leads, the one of the latest epoch when several do.
func (b *bench) leader() int {
	leader := nobody
	for id := range b.world.Nodes() {
		if s := b.world.Status(id); b.world.Up(id) && s.Leads && (leader == nobody || s.Epoch.Ballot > b.world.Status(leader).Epoch.Ballot) {
			leader = id
		}
	}
	return leader
}

func (b *bench) steady() string {
	leader := b.leader()
	if leader == nobody {
		return "nobody leads"
	}
	for id := range b.world.Nodes() {
		for _, m := range b.world.View(id) {
			switch {
			case !m.Alive || !m.Known:
				return fmt.Sprintf("%d takes %d for dead", id, m.Node)
			case (m.State == Master) != (m.Node == leader), !b.world.Settled(m.Node), m.State != b.world.Status(m.Node).State:
				return fmt.Sprintf("%d takes %d for a %s", id, m.Node, m.State)
			}
		}
	}
	return ""
}
