package groups

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestKeptCounts: what a consumer had that leaves counts as tried, and is parked in the end.
func TestKeptCounts(t *testing.T) {
	for _, keep := range []bool{false, true} {
		w := newWorld(1, func(s *Settings) { s.MaxRetries = 2 })
		w.Rules.KeepCounts = keep
		var counts []int
		for name := byte(1); name < 6; name++ {
			c := w.connect(name, 1)
			counts = append(counts, c.retries...)
			w.Disconnect(&c.Consumer)
			w.written()
		}
		if keep {
			require.Equal(t, []int{0, 1, 2}, counts)
			require.Equal(t, []string{"Reached retry count of 2"}, w.reasons)
		} else {
			require.Equal(t, []int{0, 1, 1, 1, 1}, counts)
			require.Empty(t, w.reasons)
		}
	}
}

// TestFreedSlots: an ack in another one's name frees the slot only where the rules say so.
func TestFreedSlots(t *testing.T) {
	for _, free := range []bool{false, true} {
		w := newWorld(2, nil)
		w.Rules.FreeSlots = free
		c := w.connect(1, 1)
		require.Equal(t, []int64{0}, c.numbers)
		w.Ack(ID{2}, ids([]int64{0}))
		if free {
			require.Equal(t, []int64{0, 1}, c.numbers)
		} else {
			require.Equal(t, []int64{0}, c.numbers)
		}
	}
}
