package quorum

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// slowLine has all messages of one node to another take long.
func (b *bench) slowLine(from, to int, d time.Duration) {
	b.world.latency = func(f, t int) time.Duration {
		if f == from && t == to {
			return d
		}
		return linkDelay
	}
}

// TestADeposedLeaderCommitsNothing: who has promised to take part in an election takes nothing from the old leader any more, which
// may live, and does not know. Else that would count it, and the new one begins without what it has.
func TestADeposedLeaderCommitsNothing(t *testing.T) {
	for seed := range uint64(20) {
		b := newBench(t, 3, seed)
		b.run(3 * time.Second)
		old := b.leader()
		by, third := (old+1)%3, (old+2)%3
		b.slowLine(old, by, 50*time.Millisecond) // its own promise comes when all is over
		b.world.nodes[by].coordinate()
		b.run(linkDelay)
		require.Equal(t, b.world.nodes[by].round, b.world.nodes[third].promised)
		lost := b.propose(old)
		b.run(30 * time.Millisecond)
		require.NotEqual(t, old, b.world.nodes[third].leader)
		b.run(10 * time.Second)
		require.Empty(t, b.steady(), "seed %d", seed)
		require.NotContains(t, b.history, lost)
	}
}

// TestALeaderThatPromisesStays: a leader goes on when it has promised to take part in an election, since only it can be elected
// then: of those with the newest log it is the one that leads.
func TestALeaderThatPromisesStays(t *testing.T) {
	for seed := range uint64(20) {
		b := newBench(t, 3, seed)
		b.run(3 * time.Second)
		old := b.leader()
		by, third := (old+1)%3, (old+2)%3
		b.world.Prefer(by, 1)
		b.slowLine(by, third, 50*time.Millisecond) // it is not asked, and goes on taking what the leader sends
		b.world.nodes[by].coordinate()
		b.run(linkDelay)
		require.Equal(t, b.world.nodes[by].round, b.world.nodes[old].promised)
		e := b.propose(old)
		b.run(2 * linkDelay)
		require.Same(t, e, b.history[len(b.history)-1])
		b.run(5 * time.Second)
		require.Equal(t, old, b.leader(), "seed %d", seed)
		require.Empty(t, b.steady())
	}
}

// TestWhoIsElectedAndPromisesLeadsNot: a node that is elected takes a while until it leads. When it has promised to take part in
// the next election by then, without what it would write, it must not begin.
func TestWhoIsElectedAndPromisesLeadsNot(t *testing.T) {
	for seed := range uint64(20) {
		b := newBench(t, 3, seed)
		b.run(3 * time.Second)
		old := b.leader()
		next, third := (old+1)%3, (old+2)%3
		b.world.Kill(old)
		b.world.nodes[next].gone = true
		b.world.Prefer(next, 1)
		b.world.nodes[next].coordinate()
		b.run(2*linkDelay + answersTime)
		require.Equal(t, PreMaster, b.world.Status(next).State)
		b.world.Prefer(third, 2)
		b.world.nodes[third].coordinate()
		b.run(linkDelay)
		b.slowLine(third, next, 2*beingElected.most) // it does not hear yet who was elected
		b.until(func() bool { return b.world.nodes[third].leads })
		b.run(8 * beingElected.most)
		require.Equal(t, third, b.leader(), "seed %d", seed)
		for ballot, leader := range b.leaders {
			require.NotEqual(t, next, leader, "it leads by ballot %d", ballot)
		}
	}
}

// TestWhatAnEarlierLeaderSpreadIsNotCountedAlone: an entry of an earlier epoch may be in most logs, and another one that was elected
// later be in the newest one all the same. So it counts only with one of the leader's own behind it.
//
//	node 0   1 x      -> leads 3: x counts no more than 1 has heard of epoch 3
//	node 1   1 x
//	node 2   1        -> 1 x 3
//	node 3   1 2      -> leads 4 with 1 and 4: x is gone
//	node 4   1
func TestWhatAnEarlierLeaderSpreadIsNotCountedAlone(t *testing.T) {
	for seed := range uint64(20) {
		b := newBench(t, 5, seed)
		b.world.Prefer(0, 1)
		for {
			b.run(3 * time.Second)
			if b.leader() == 0 {
				break
			}
			b.world.Kill(b.leader())
			b.run(3 * time.Second)
			for id := range 5 {
				b.start(id)
			}
		}
		b.run(5 * time.Second)
		require.Empty(t, b.steady())

		b.world.Cut(0, 1)
		x := b.propose(0)
		b.run(linkDelay)
		require.Same(t, x, b.last(1))

		b.world.Prefer(3, 2)
		b.until(func() bool { return b.world.nodes[3].leads })
		b.world.Kill(3)
		require.True(t, b.last(3).Begins)

		b.world.Heal()
		b.world.Cut(0, 2, 4)
		b.world.Prefer(0, 3)
		b.until(func() bool { n := b.world.nodes[0]; return n.leads && n.epoch.Ballot > b.last(3).Leader.Ballot })
		b.world.Kill(4)
		b.until(func() bool { return b.last(2) == b.last(0) })

		b.world.Heal() // 1 is back, and 0 hears what it has
		b.world.nodes[1].gone = true
		b.world.nodes[1].follow(0)
		b.until(func() bool { _, ok := b.world.nodes[0].replicas[1]; return ok })
		require.Same(t, x, b.last(1))
		require.NotContains(t, b.history, x)

		b.start(3)
		b.start(4)
		b.world.Cut(0, 2)
		b.until(func() bool { n := b.world.nodes[3]; return n.leads && n.epoch.Ballot > b.last(0).Leader.Ballot })
		b.run(time.Second)
		require.NotContains(t, b.history, x)
		b.settle(nil)
	}
}

// last is the last entry of a node.
func (b *bench) last(id int) *Entry { log := b.world.nodes[id].log; return log[len(log)-1] }

// until lets time pass until something is so.
func (b *bench) until(is func() bool) {
	for end := b.now.Add(time.Minute); !is(); {
		require.True(b.tb, b.step(end), "it does not come to that")
	}
}

// TestACoordinatorIsLost: those that have promised it something elect another one.
func TestACoordinatorIsLost(t *testing.T) {
	for seed := range uint64(20) {
		b := newBench(t, 5, seed)
		b.run(3 * time.Second)
		old := b.leader()
		by := (old + 1) % 5
		b.world.Kill(old)
		b.world.nodes[by].gone = true
		b.world.nodes[by].coordinate()
		b.run(linkDelay)
		b.world.Kill(by)
		b.run(5 * time.Second)
		require.NotEqual(t, nobody, b.leader(), "seed %d", seed)
	}
}

// TestAReplicaThatHearsNothingOfAnElection, although the old leader is alive: the new one tells it so when it sees whom it follows.
func TestAReplicaThatHearsNothingOfAnElection(t *testing.T) {
	for seed := range uint64(20) {
		b := newBench(t, 5, seed)
		b.run(3 * time.Second)
		old := b.leader()
		by, deaf := (old+1)%5, (old+2)%5
		b.slowLine(old, by, 50*time.Millisecond)
		b.world.Cut(deaf)
		b.world.nodes[by].coordinate()
		b.run(2*linkDelay + answersTime + linkDelay)
		b.world.Heal()
		require.Less(t, b.world.nodes[deaf].promised, b.world.nodes[by].done)
		b.run(10 * time.Second)
		require.NotEqual(t, old, b.leader())
		require.Equal(t, b.leader(), b.world.Status(deaf).Leader, "seed %d", seed)
		b.settle(nil)
	}
}
