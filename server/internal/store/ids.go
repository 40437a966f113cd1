package store

import (
	"hash/maphash"

	"github.com/google/uuid"
)

// Place is where an event is.
type Place struct {
	Stream string
	Number int64
}

// IDs remembers in which stream and under which number an event id was used first, for the events written last. It is
// bounded as on a real server, by its own count of bytes, and forgets the oldest first. It is the writer's alone.
//
// Every event that is written looks here, in some 100,000 ids that no cache holds. A map would touch many places of the
// memory for one id: this is a ring of the ids in the order of their coming, and a table of half-filled slots, of which
// one look mostly tells that an id is new.
type IDs struct {
	limit, size int
	seed        maphash.Seed // ids come from outside: nobody shall be able to choose colliding ones

	ring        []remembered // the one with the sequence number n is at n modulo the length, a power of two
	oldest, end uint32       // sequence numbers; those from oldest up to end are remembered

	// slots are twice as many as the ring has places. One holds the hash of an id and its sequence number, and is 0 when it
	// is free; an id is in the slot that the lower bits of its hash say, or in one behind it before the next free one.
	slots []uint64

	// missed is the id that was looked for last, if it is not here: mostly it is the next to come, and has its slot then.
	missed struct {
		id   uuid.UUID
		hash uint32 // 0 when there is none
		free uint32
	}
}

type remembered struct {
	id uuid.UUID
	Place
}

// idOverhead is what one id costs beside two bytes for each character of its stream's name.
const idOverhead = 28

// IDsLimit is the bound of a real server: 8 MiB.
const IDsLimit = 8 << 20

// NewIDs returns an empty memory of limit bytes.
func NewIDs(limit int) *IDs {
	m := &IDs{limit: limit, seed: maphash.MakeSeed()}
	m.resize(64)
	return m
}

// Len returns how many ids are remembered.
func (m *IDs) Len() int { return int(m.end - m.oldest) }

// Find returns where id was used first.
func (m *IDs) Find(id uuid.UUID) (Place, bool) {
	hash := m.hash(id)
	r, free := m.look(id, hash)
	if r != nil {
		return r.Place, true
	}
	m.missed.id, m.missed.hash, m.missed.free = id, hash, free
	return Place{}, false
}

// Add remembers the place of an id, unless the id is known already: the first one counts.
func (m *IDs) Add(id uuid.UUID, p Place) {
	hash, free := m.missed.hash, m.missed.free
	if hash == 0 || m.missed.id != id {
		hash = m.hash(id)
		var r *remembered
		if r, free = m.look(id, hash); r != nil {
			return
		}
	}
	m.missed.hash = 0 // slots change
	if m.Len() == len(m.ring) {
		m.resize(2 * len(m.ring))
		_, free = m.look(id, hash)
	}
	*m.at(m.end) = remembered{id, p}
	m.slots[free] = slot(hash, m.end)
	m.end++
	m.size += cost(p)
	for m.size > m.limit {
		m.forgetOldest()
	}
}

// occupied is set in every hash, so that no slot that is taken is 0.
const occupied = 1 << 31

func (m *IDs) hash(id uuid.UUID) uint32 { return uint32(maphash.Bytes(m.seed, id[:])) | occupied }

func slot(hash, sequence uint32) uint64 { return uint64(hash)<<32 | uint64(sequence) }

func (m *IDs) at(sequence uint32) *remembered { return &m.ring[sequence&uint32(len(m.ring)-1)] }

// look returns what is remembered of an id, or nil and the slot that is free for it.
func (m *IDs) look(id uuid.UUID, hash uint32) (r *remembered, free uint32) {
	mask := uint32(len(m.slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		s := m.slots[i]
		if s == 0 {
			return nil, i
		}
		if uint32(s>>32) == hash {
			if r := m.at(uint32(s)); r.id == id {
				return r, i
			}
		}
	}
}

func (m *IDs) forgetOldest() {
	r := m.at(m.oldest)
	mask := uint32(len(m.slots) - 1)
	hash := m.hash(r.id)
	gap := hash & mask
	for m.slots[gap] != slot(hash, m.oldest) {
		gap = (gap + 1) & mask
	}
	// Those behind it that are not where their hash says move up, so that they are still found.
	for i := (gap + 1) & mask; m.slots[i] != 0; i = (i + 1) & mask {
		wanted := uint32(m.slots[i]>>32) & mask
		if (i-wanted)&mask >= (i-gap)&mask {
			m.slots[gap] = m.slots[i]
			gap = i
		}
	}
	m.slots[gap] = 0
	m.size -= cost(r.Place)
	*r = remembered{}
	m.oldest++
}

// resize makes room for n ids, a power of two.
func (m *IDs) resize(n int) {
	old := *m
	m.ring = make([]remembered, n)
	m.slots = make([]uint64, 2*n)
	mask := uint32(len(m.slots) - 1)
	for sequence := m.oldest; sequence != m.end; sequence++ {
		*m.at(sequence) = *old.at(sequence)
	}
	for _, s := range old.slots {
		if s == 0 {
			continue
		}
		i := uint32(s>>32) & mask
		for m.slots[i] != 0 {
			i = (i + 1) & mask
		}
		m.slots[i] = s
	}
}

func cost(p Place) int { return idOverhead + 2*len(p.Stream) }
