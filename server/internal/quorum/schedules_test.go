package quorum

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// do does one thing of several to a node, or writes.
func (b *bench) do(what, id int) (proposed []*Entry) {
	switch what {
	case 0:
		b.world.Kill(id)
	case 1, 2:
		b.start(id)
	case 3:
		b.world.Pause(id)
	case 4:
		b.world.Resume(id)
	case 5:
		b.world.Cut(id)
	case 6:
		b.world.Heal()
	default:
		for id := range b.world.Nodes() {
			if e := b.propose(id); e != nil {
				proposed = append(proposed, e)
			}
		}
	}
	return proposed
}

// settle has all be well again, and holds the nodes to it that they then agree, and that nobody has lost what was committed.
func (b *bench) settle(proposed []*Entry) {
	called := append([]*Entry{}, b.history...)
	b.slow = nil
	b.world.Heal()
	for id := range b.world.Nodes() {
		b.world.Resume(id)
		b.start(id)
	}
	b.run(20 * time.Second)
	require.Empty(b.tb, b.steady())
	e := b.propose(b.leader())
	b.run(5 * time.Millisecond)
	require.Same(b.tb, e, b.history[len(b.history)-1])
	for id := range b.world.Nodes() {
		require.True(b.tb, slices.Equal(b.history, b.world.Status(id).Log))
	}
	require.True(b.tb, slices.Equal(called, b.history[:len(called)]))
	there := make(map[*Entry]bool)
	for _, e := range b.history {
		there[e] = true
	}
	rolledBack := make(map[uuid.UUID]bool)
	for _, r := range b.world.RolledBack() {
		rolledBack[r.ID] = true
	}
	for _, e := range proposed {
		require.False(b.tb, there[e] && rolledBack[e.Records[0].ID])
	}
}

// TestWhatIsCommittedStays whatever happens to the nodes, as long as their disks last; and when all is well again they agree.
func TestWhatIsCommittedStays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.SampledFrom([]int{1, 2, 3, 3, 3, 5}).Draw(t, "nodes")
		b := newBench(t, size, rapid.Uint64().Draw(t, "seed"))
		node := rapid.IntRange(0, size-1)
		var proposed []*Entry
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			proposed = append(proposed, b.do(rapid.IntRange(0, 9).Draw(t, "what"), node.Draw(t, "node"))...)
			b.run(time.Duration(rapid.SampledFrom([]int{1, 3, 50, 500, 3000, 12000}).Draw(t, "ms")) * time.Millisecond)
		}
		b.settle(proposed)
	})
}

// TestElectionsInARow: what may go wrong does so within milliseconds of an election, while messages of leaders that are none any
// more are still under way. So these take their time, and things happen while promises are asked for, given and counted.
func TestElectionsInARow(t *testing.T) {
	for seed := range uint64(800) {
		random := rand.New(rand.NewPCG(seed, 7))
		size := []int{3, 3, 5}[random.IntN(3)]
		b := newBench(t, size, seed)
		if random.IntN(4) == 0 {
			b.world.Add(random.IntN(2) == 0)
		}
		longest := []time.Duration{2 * time.Millisecond, 20 * time.Millisecond, 100 * time.Millisecond, 2 * time.Second}[random.IntN(4)]
		b.delays(longest)
		var proposed []*Entry
		for range 12 {
			// Somebody takes the leader for gone, or it is.
			switch leader := b.leader(); random.IntN(4) {
			case 0, 1:
				b.world.Cut(random.Perm(size)[:1+random.IntN(size-1)]...)
				b.run(300 * time.Millisecond)
				if random.IntN(2) == 0 {
					b.world.Heal()
				}
			case 2:
				if leader != nobody {
					b.world.Kill(leader)
				}
			default:
				if leader != nobody {
					b.world.Pause(leader)
					b.run(leaderPatience)
				}
			}
			b.untilBallot(4 * time.Second)
			for range random.IntN(16) {
				proposed = append(proposed, b.do(7, 0)...)
				if random.IntN(2) == 0 {
					b.do(random.IntN(7), random.IntN(b.world.Nodes()))
				}
				b.run(time.Duration(random.Int64N(int64(min(longest, 20*time.Millisecond)))))
			}
			if random.IntN(2) == 0 {
				b.world.Heal()
				for id := range b.world.Nodes() {
					b.world.Resume(id)
					b.start(id)
				}
			}
		}
		b.settle(proposed)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}
