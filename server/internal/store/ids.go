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
// memory for one id: this is a ring of the ids in the order of their coming, and a table of buckets as large as a line of
// the cache, of which one look mostly tells that an id is new. What is forgotten stays in the table until its place is
// needed, so that forgetting only goes on in the ring.
type IDs struct {
	limit, size int
	seed        maphash.Seed // ids come from outside: nobody shall be able to choose colliding ones

	ring        []remembered // the one with the sequence number n is at n modulo the length, a power of two
	oldest, end uint32       // sequence numbers; those from oldest up to end are remembered

	buckets    []bucket // a quarter as many as the ring has places
	prefetched uint64   // keeps the compiler from leaving Prefetch out

	// missed is the id that was looked for last, if it is not here: mostly it is the next to come.
	missed struct {
		id   uuid.UUID
		hash uint32 // 0 when there is none
	}
}

// bucket is where an id is found: the one that the lower bits of its hash say, or one behind it.
type bucket struct {
	slots [7]uint64 // 0, or the hash of an id and its sequence number: free for another once that is not remembered any more
	// passed is as a slot the last id that found no slot free here: while it is remembered the next bucket has to be looked
	// at too.
	passed uint64
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

// Prefetch brings what an id is looked for in into the cache. For many ids at once that takes little longer than for one,
// while each Find waits for the memory.
func (m *IDs) Prefetch(id uuid.UUID) { m.prefetched = m.bucket(m.hash(id)).passed }

// Find returns where id was used first.
func (m *IDs) Find(id uuid.UUID) (Place, bool) {
	hash := m.hash(id)
	if r := m.look(id, hash); r != nil {
		return r.Place, true
	}
	m.missed.id, m.missed.hash = id, hash
	return Place{}, false
}

// Add remembers the place of an id, unless the id is known already: the first one counts.
func (m *IDs) Add(id uuid.UUID, p Place) {
	hash := m.missed.hash
	if hash == 0 || m.missed.id != id {
		hash = m.hash(id)
		if m.look(id, hash) != nil {
			return
		}
	}
	m.missed.hash = 0
	if m.Len() == len(m.ring) {
		m.resize(2 * len(m.ring))
	}
	*m.at(m.end) = remembered{id, p}
	m.fill(slot(hash, m.end))
	m.end++
	m.size += cost(p)
	for m.size > m.limit {
		r := m.at(m.oldest)
		m.size -= cost(r.Place)
		*r = remembered{}
		m.oldest++
	}
}

// Mark is where the memory is now.
func (m *IDs) Mark() uint32 { return m.end }

// TakeBack forgets what was added since a mark: it was not written after all. What was forgotten for it stays forgotten.
func (m *IDs) TakeBack(mark uint32) {
	if m.missed.hash = 0; m.end == mark {
		return
	}
	for m.end != mark && m.Len() > 0 {
		m.end--
		r := m.at(m.end)
		m.size -= cost(r.Place)
		*r = remembered{}
	}
	m.resize(len(m.ring)) // the table is made anew without them
}

// occupied is set in every hash, so that no slot that was ever taken is 0.
const occupied = 1 << 31

func (m *IDs) hash(id uuid.UUID) uint32 { return uint32(maphash.Bytes(m.seed, id[:])) | occupied }

func slot(hash, sequence uint32) uint64 { return uint64(hash)<<32 | uint64(sequence) }

func (m *IDs) at(sequence uint32) *remembered { return &m.ring[sequence&uint32(len(m.ring)-1)] }

func (m *IDs) bucket(i uint32) *bucket { return &m.buckets[i&uint32(len(m.buckets)-1)] }

// live reports whether a slot is taken by an id that is remembered.
func (m *IDs) live(slot uint64) bool { return slot != 0 && uint32(slot)-m.oldest < m.end-m.oldest }

// look returns what is remembered of an id, or nil.
func (m *IDs) look(id uuid.UUID, hash uint32) *remembered {
	for i := hash; ; i++ {
		b := m.bucket(i)
		for _, s := range &b.slots {
			if uint32(s>>32) == hash && m.live(s) {
				if r := m.at(uint32(s)); r.id == id {
					return r
				}
			}
		}
		if !m.live(b.passed) {
			return nil
		}
	}
}

// fill puts s into the first free slot from its bucket on.
func (m *IDs) fill(s uint64) {
	for i := uint32(s >> 32); ; i++ {
		b := m.bucket(i)
		for j := range b.slots {
			if !m.live(b.slots[j]) {
				b.slots[j] = s
				return
			}
		}
		b.passed = s
	}
}

// resize makes room for n ids, a power of two.
func (m *IDs) resize(n int) {
	old := *m
	m.ring = make([]remembered, n)
	m.buckets = make([]bucket, n/4)
	for sequence := m.oldest; sequence != m.end; sequence++ {
		*m.at(sequence) = *old.at(sequence)
	}
	for i := range old.buckets {
		for _, s := range &old.buckets[i].slots {
			if m.live(s) {
				m.fill(s)
			}
		}
	}
}

func cost(p Place) int { return idOverhead + 2*len(p.Stream) }
