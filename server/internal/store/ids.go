package store

import "github.com/google/uuid"

// Place is where an event is.
type Place struct {
	Stream string
	Number int64
}

// IDs remembers in which stream and under which number an event id was used first, for the events written last. It is
// bounded as on a real server, by its own count of bytes, and forgets the oldest first. It is the writer's alone.
type IDs struct {
	limit, size int
	places      map[uuid.UUID]Place
	order       []uuid.UUID // the ids in the order of their coming, from oldest on
	oldest      int
}

// idOverhead is what one id costs beside two bytes for each character of its stream's name.
const idOverhead = 28

// IDsLimit is the bound of a real server: 8 MiB.
const IDsLimit = 8 << 20

// NewIDs returns an empty memory of limit bytes.
func NewIDs(limit int) *IDs {
	return &IDs{limit: limit, places: make(map[uuid.UUID]Place)}
}

// Find returns where id was used first.
func (m *IDs) Find(id uuid.UUID) (Place, bool) {
	p, ok := m.places[id]
	return p, ok
}

// Add remembers the place of an id, unless the id is known already: the first one counts.
func (m *IDs) Add(id uuid.UUID, p Place) {
	if _, known := m.places[id]; known {
		return
	}
	m.places[id] = p
	m.order = append(m.order, id)
	m.size += cost(p)
	for m.size > m.limit {
		m.forgetOldest()
	}
}

// Len returns how many ids are remembered.
func (m *IDs) Len() int { return len(m.places) }

func (m *IDs) forgetOldest() {
	id := m.order[m.oldest]
	m.size -= cost(m.places[id])
	delete(m.places, id)
	m.oldest++
	if m.oldest > len(m.order)/2 { // shift at most once for as many ids as are kept
		m.order = m.order[:copy(m.order, m.order[m.oldest:])]
		m.oldest = 0
	}
}

func cost(p Place) int { return idOverhead + 2*len(p.Stream) }
