package messages

import "hash/maphash"

// Names remembers the stream names and event types that were decoded last, so that a run of events with the same few
// names costs no strings. It holds at most 256 names of at most 128 bytes; longer ones are made anew. The zero value is
// ready, a nil one remembers nothing, and it is not safe for concurrent use.
type Names struct {
	seed  maphash.Seed
	slots []string
	// A few that came last, which are mostly the stream and the type of the next event as well: comparing is cheaper
	// than hashing.
	last [4]string
	turn uint8 // whose place in last the next takes
}

// A name may stand in any place of its set, so that a few names never push each other out: with one place for each, the
// stream and the type of every event of a connection could share it.
const (
	nameSets   = 64
	nameWays   = 4
	nameLength = 128
)

// String returns b as a string that does not share b's memory.
func (n *Names) String(b []byte) string {
	if n == nil || len(b) > nameLength || len(b) == 0 {
		return string(b)
	}
	for i := range n.last {
		if n.last[i] == string(b) {
			return n.last[i]
		}
	}
	name := n.find(b)
	n.last[n.turn%uint8(len(n.last))] = name
	n.turn++
	return name
}

// find returns a name from its set, where it is put if it is not there.
func (n *Names) find(b []byte) string {
	if n.slots == nil {
		n.seed = maphash.MakeSeed()
		n.slots = make([]string, nameSets*nameWays)
	}
	first := maphash.Bytes(n.seed, b) % nameSets * nameWays
	set := n.slots[first : first+nameWays]
	for _, name := range set {
		if name == string(b) {
			return name
		}
	}
	copy(set[1:], set) // the oldest goes
	set[0] = string(b)
	return set[0]
}
