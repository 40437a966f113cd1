package messages

import "hash/maphash"

// Names remembers the stream names and event types that were decoded last, so that a run of events with the same few
// names costs no strings. It holds at most 256 names of at most 128 bytes; longer ones are made anew. The zero value is
// ready, a nil one remembers nothing, and it is not safe for concurrent use.
type Names struct {
	seed  maphash.Seed
	slots []string
}

const (
	nameSlots  = 256
	nameLength = 128
)

// String returns b as a string that does not share b's memory.
func (n *Names) String(b []byte) string {
	if n == nil || len(b) > nameLength || len(b) == 0 {
		return string(b)
	}
	if n.slots == nil {
		n.seed = maphash.MakeSeed()
		n.slots = make([]string, nameSlots)
	}
	slot := &n.slots[maphash.Bytes(n.seed, b)%nameSlots]
	if *slot != string(b) {
		*slot = string(b)
	}
	return *slot
}
