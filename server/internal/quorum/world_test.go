package quorum

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAClusterStarts(t *testing.T) {
	for seed := range uint64(50) {
		b := newBench(t, 3, seed)
		b.run(3 * time.Second)
		require.Empty(t, b.steady(), "seed %d", seed)
		s := b.world.Status(b.leader())
		require.Equal(t, 0, s.Epoch.Number)
		e := b.propose(b.leader())
		b.run(3 * time.Millisecond)
		require.Same(t, e, b.history[len(b.history)-1])
		for id := range 3 {
			require.Equal(t, len(s.Log)+1, b.world.Status(id).Committed, "seed %d", seed)
		}
	}
}

// TestAKilledLeaderIsReplaced within the times of the recordings, and joins again when it is back: the epoch rises each time.
func TestAKilledLeaderIsReplaced(t *testing.T) {
	for seed := range uint64(50) {
		b := newBench(t, 3, seed)
		b.run(3 * time.Second)
		old := b.leader()
		b.world.Kill(old)
		b.run(2 * time.Second)
		next := b.leader()
		require.NotEqual(t, nobody, next, "seed %d", seed)
		require.NotEqual(t, old, next)
		require.Equal(t, 1, b.world.Status(next).Epoch.Number)
		m := b.world.View(next)[old]
		require.Equal(t, []any{Master, false}, []any{m.State, m.Alive}, "a dead member keeps its last state")
		b.start(old)
		b.run(5500 * time.Millisecond)
		require.Empty(t, b.steady(), "seed %d", seed)
		require.Equal(t, next, b.leader(), "it stays")
		require.Equal(t, 2, b.world.Status(next).Epoch.Number)
	}
}

// TestTimesOfAFailover: how long it takes until a leader that was killed is seen to be dead, another one is in somebody's gossip and in everybody's
// is about as long as was recorded in twelve rounds.
func TestTimesOfAFailover(t *testing.T) {
	var dead, somewhere, everywhere []time.Duration
	for seed := range uint64(200) {
		b := newBench(t, 3, seed)
		b.run(5*time.Second + time.Duration(seed)*7*time.Millisecond)
		old := b.leader()
		b.world.Kill(old)
		seen := map[*[]time.Duration]bool{}
		killed := b.now
		for len(seen) < 3 {
			require.Less(t, b.now.Sub(killed), 5*time.Second)
			b.run(time.Millisecond)
			isDead, masters := false, 0
			for id := range 3 {
				if id == old {
					continue
				}
				knows := false
				for _, m := range b.world.View(id) {
					isDead = isDead || m.Node == old && !m.Alive
					knows = knows || m.Node != old && m.Alive && m.State == Master
				}
				if knows {
					masters++
				}
			}
			for times, is := range map[*[]time.Duration]bool{&dead: isDead, &somewhere: masters > 0, &everywhere: masters == 2} {
				if is && !seen[times] {
					seen[times] = true
					*times = append(*times, b.now.Sub(killed))
				}
			}
		}
	}
	for _, c := range []struct {
		what                string
		got                 []time.Duration
		least, median, most int64 // recorded, in ms
	}{
		{"dead", dead, 21, 45, 268},
		{"another leader in somebody's gossip", somewhere, 33, 191, 1300},
		{"and in everybody's", everywhere, 558, 1442, 1872},
	} {
		slices.Sort(c.got)
		median := c.got[len(c.got)/2].Milliseconds()
		t.Logf("%s: %v, %v, %v ms, recorded %d, %d, %d", c.what, c.got[0].Milliseconds(), median, c.got[len(c.got)-1].Milliseconds(), c.least, c.median, c.most)
		require.Greater(t, 3*median, c.median, c.what)
		require.Less(t, median, 3*c.median, c.what)
		require.Less(t, c.got[len(c.got)-1].Milliseconds(), 2*c.most, c.what)
	}
}

// TestALeaderWithoutReplicasGivesUp after some seconds, and what it took on until then is not committed.
func TestALeaderWithoutReplicasGivesUp(t *testing.T) {
	b := newBench(t, 3, 1)
	b.run(3 * time.Second)
	leader := b.leader()
	for id := range 3 {
		if id != leader {
			b.world.Kill(id)
		}
	}
	b.run(quorumGrace)
	require.Equal(t, Master, b.world.Status(leader).State)
	lost := b.propose(leader)
	b.run(deadSeen.most)
	require.Equal(t, Unknown, b.world.Status(leader).State)
	require.NotContains(t, b.history, lost)
	b.run(10 * time.Second)
	require.Equal(t, Unknown, b.world.Status(leader).State)
	for id := range 3 {
		b.start(id)
	}
	b.run(6 * time.Second)
	require.Empty(t, b.steady())
	require.Contains(t, b.history, lost, "it had the newest log, and leads again")
	require.Empty(t, b.world.RolledBack())
}

// TestASplitBrain: a leader that is cut off goes on for a while, and what it took on is gone when it is back; those that it called
// written are known by name.
func TestASplitBrain(t *testing.T) {
	b := newBench(t, 3, 2)
	b.run(3 * time.Second)
	old := b.leader()
	b.world.Cut(old)
	lost := b.propose(old)
	b.run(2 * time.Second)
	require.Equal(t, Master, b.world.Status(old).State)
	next := b.leader()
	require.NotEqual(t, old, next)
	kept := b.propose(next)
	b.run(2 * time.Second)
	require.Equal(t, Unknown, b.world.Status(old).State)
	require.Contains(t, b.history, kept)
	b.world.Heal()
	b.run(10 * time.Second)
	require.Empty(t, b.steady())
	require.NotContains(t, b.history, lost)
	require.Equal(t, lost.Records, b.world.RolledBack()[:1])
}

// TestAPausedLeader is waited for; one that was waited for in vain finds another when it goes on.
func TestAPausedLeader(t *testing.T) {
	b := newBench(t, 3, 3)
	b.run(3 * time.Second)
	old := b.leader()
	b.world.Pause(old)
	b.run(leaderPatience - time.Millisecond)
	require.Equal(t, old, b.leader())
	b.world.Resume(old)
	b.run(time.Second)
	require.Empty(t, b.steady(), "nobody has noticed")
	b.world.Pause(old)
	b.run(leaderPatience + 3*time.Second)
	require.NotEqual(t, old, b.leader())
	b.world.Resume(old)
	require.Equal(t, Master, b.world.Status(old).State, "it does not know yet")
	b.run(8 * time.Second)
	require.Empty(t, b.steady())
}

func TestClonesCountInNoMajority(t *testing.T) {
	b := newBench(t, 3, 4)
	clone, reader := b.world.Add(false), b.world.Add(true)
	b.run(3 * time.Second)
	b.start(clone)
	b.start(reader)
	b.run(8 * time.Second)
	require.Equal(t, Clone, b.world.Status(clone).State)
	require.Equal(t, ReadOnlyReplica, b.world.Status(reader).State)
	leader := b.leader()
	b.propose(leader)
	b.run(10 * time.Millisecond)
	require.Equal(t, b.world.Status(leader).Committed, b.world.Status(clone).Committed)
	for id := range 3 {
		if id != leader {
			b.world.Kill(id)
		}
	}
	lost := b.propose(leader)
	b.run(4 * time.Second)
	require.NotContains(t, b.history, lost)
	require.Equal(t, Unknown, b.world.Status(leader).State)
}
