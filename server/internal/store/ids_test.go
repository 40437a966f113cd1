package store_test

import (
	"encoding/binary"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/server/internal/store"
)

// knownIDs is what an IDs is held equal to: the plain way to do the same.
type knownIDs struct {
	limit, size int
	order       []uuid.UUID
	places      map[uuid.UUID]store.Place
}

func (m *knownIDs) add(id uuid.UUID, p store.Place) {
	if _, known := m.places[id]; known {
		return
	}
	m.places[id] = p
	m.order = append(m.order, id)
	m.size += 28 + 2*len(p.Stream)
	for m.size > m.limit {
		oldest := m.order[0]
		m.size -= 28 + 2*len(m.places[oldest].Stream)
		m.order = m.order[1:]
		delete(m.places, oldest)
	}
}

// Ids come, come again and are forgotten, with streams' names of many lengths, one of them over the whole limit.
func TestIDsDoAsTheirModel(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, seed))
		limit := 1 << (8 + r.IntN(10))
		ids := store.NewIDs(limit)
		model := knownIDs{limit: limit, places: make(map[uuid.UUID]store.Place)}
		universe := 1 + r.IntN(2*limit/30)
		for n := range 5000 {
			id := uuid.UUID{0: byte(r.IntN(universe)), 1: byte(r.IntN(universe) >> 8), 15: 1}
			p := store.Place{Stream: strings.Repeat("s", r.IntN(20)), Number: int64(n)}
			if r.IntN(1000) == 0 {
				p.Stream = strings.Repeat("s", limit)
			}
			ids.Add(id, p)
			model.add(id, p)
			require.Equal(t, len(model.places), ids.Len(), "seed %d, id %d", seed, n)
			for _, id := range []uuid.UUID{id, {0: byte(r.IntN(universe)), 1: byte(r.IntN(universe) >> 8), 15: 1}} {
				want, wantKnown := model.places[id]
				got, known := ids.Find(id)
				require.Equal(t, wantKnown, known, "seed %d, id %d", seed, n)
				require.Equal(t, want, got, "seed %d, id %d", seed, n)
			}
		}
		for id, want := range model.places {
			got, known := ids.Find(id)
			require.True(t, known)
			require.Equal(t, want, got)
		}
	}
}

func BenchmarkIDs(b *testing.B) {
	ids := store.NewIDs(store.IDsLimit)
	b.ReportAllocs()
	var id uuid.UUID
	n := uint64(0)
	for b.Loop() {
		n++
		binary.BigEndian.PutUint64(id[:], n*0x9E3779B97F4A7C15) // not in their order
		if _, known := ids.Find(id); !known {
			ids.Add(id, store.Place{Stream: "bench", Number: int64(n)})
		}
	}
}

// TestIDsAreTakenBack again and again: what was there before stays, and nothing is left of what was taken back.
func TestIDsAreTakenBack(t *testing.T) {
	ids := store.NewIDs(30 * 100)
	for n := range int64(50) {
		ids.Add(id("a", n), store.Place{Stream: "a", Number: n})
	}
	for round := range int64(2000) {
		mark := ids.Mark()
		for n := range int64(40) {
			ids.Add(id("b", 40*round+n), store.Place{Stream: "b", Number: n})
		}
		ids.TakeBack(mark)
		_, known := ids.Find(id("b", 40*round))
		require.False(t, known)
	}
	require.Equal(t, 50, ids.Len())
	for n := range int64(50) {
		_, known := ids.Find(id("a", n))
		require.True(t, known, n)
	}
	// More than it holds: the oldest are gone, and so is what was taken back.
	mark := ids.Mark()
	for n := range int64(1000) {
		ids.Add(id("c", n), store.Place{Stream: "c", Number: n})
	}
	ids.TakeBack(mark)
	require.Zero(t, ids.Len())
}
