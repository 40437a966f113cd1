package pieces_test

import (
	"bytes"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/internal/pieces"
)

// TestCopiesAreTheirOwners: not what came, and not each other's, whatever is appended to one.
func TestCopiesAreTheirOwners(t *testing.T) {
	var m pieces.Memory
	var copies [][]byte
	for i := range 1000 {
		b := bytes.Repeat([]byte{byte(i)}, i+1)
		copies = append(copies, m.Copy(b))
		clear(b)
	}
	for i, b := range copies {
		require.Equal(t, i+1, cap(b))
		_ = append(b, 0xFF)
	}
	for i, b := range copies {
		require.Equal(t, bytes.Repeat([]byte{byte(i)}, i+1), b)
	}
}

// What is empty keeps no piece alive, and nil stays nil.
func TestCopiesOfNothing(t *testing.T) {
	var m pieces.Memory
	m.Copy([]byte("something"))
	require.Nil(t, m.Copy(nil))
	empty := m.Copy(make([]byte, 0, 10))
	require.NotNil(t, empty)
	require.Zero(t, cap(empty))
	require.Zero(t, testing.AllocsPerRun(100, func() { m.Copy(empty) }))
}

func TestAllocCopies(t *testing.T) {
	var m pieces.Memory
	small, large := make([]byte, 256), make([]byte, pieces.Size/4+1)
	require.Less(t, testing.AllocsPerRun(10_000, func() { m.Copy(small) }), 0.01)
	require.InDelta(t, 1, testing.AllocsPerRun(100, func() { m.Copy(large) }), 0.1, "a large one would waste a piece")
	require.True(t, slices.Equal(large, m.Copy(large)))
}

// Thousands that copy a little each do not hold a large piece each.
func TestTheFirstPiecesAreSmall(t *testing.T) {
	const owners = 1000
	all := make([]pieces.Memory, owners)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range all {
		all[i].Copy(make([]byte, 100))
	}
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(owners*2*pieces.Least))
}
