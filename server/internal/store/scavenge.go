package store

// scavenged are lists that take the place of those there are.
type scavenged struct {
	lists []replacement
	at    int64
}

// replacement is what a list has instead of its first records.
type replacement struct {
	*list
	records []*Record
	first   int
}

// applied is how many lists are replaced at a time.
const applied = 256

// Scavenge implements Store. The records that stay are moved out of the blocks that others leave, since a block is freed
// as a whole.
func (m *Memory) Scavenge(drop func(*Record) (bool, error)) (Scavenged, error) {
	records := m.log.upTo(m.Tip().Commit)
	found := search{moved: make(map[*Record]*Record), streams: make(map[*stream]struct{})}
	kept := make([]*Record, 0, len(records))
	for rest := records; len(rest) > 0; {
		n := min(blockSize, len(rest))
		var err error
		if kept, err = found.block(m, rest[:n], kept, drop); err != nil {
			return nil, err
		}
		rest = rest[n:]
	}
	s := &scavenged{}
	if len(found.moved) == 0 {
		return s, nil
	}
	room := make([]*Record, 0, len(kept)+len(kept)/8+blockSize)
	s.lists = append(s.lists, replacement{&m.log, append(room, kept...), len(records)})
	s.at = records[len(records)-1].Commit
	for stream := range found.streams {
		events := stream.events.upTo(s.at)
		s.lists = append(s.lists, replacement{&stream.events, found.kept(events), len(events)})
	}
	return s, nil
}

// ScavengedTo implements Store. The log is replaced first.
func (m *Memory) ScavengedTo() int64 {
	_, scavenged := m.log.all()
	return scavenged
}

// search is what becomes of the records that do not stay where they are.
type search struct {
	moved   map[*Record]*Record // nil for those that go
	streams map[*stream]struct{}
}

// block appends what stays of a block to kept.
func (s *search) block(m *Memory, records, kept []*Record, drop func(*Record) (bool, error)) ([]*Record, error) {
	first, size := len(kept), 0
	for _, r := range records {
		gone, err := drop(r)
		switch {
		case err != nil:
			return nil, err
		case gone:
			s.moved[r] = nil
		default:
			kept = append(kept, r)
			size += len(r.Encoded)
		}
	}
	if len(kept)-first == len(records) {
		return kept, nil
	}
	for _, r := range records {
		if r.Kind == Event {
			s.streams[m.find(r.Stream)] = struct{}{}
		}
	}
	copies := make([]Record, len(kept)-first)
	encoded := make([]byte, 0, size)
	for i, r := range kept[first:] {
		copies[i] = *r
		encoded = append(encoded, r.Encoded...)
		if n := len(r.Encoded); n > 0 {
			copies[i].Encoded = encoded[len(encoded)-n : len(encoded) : len(encoded)]
		}
		s.moved[r] = &copies[i]
		kept[first+i] = &copies[i]
	}
	return kept, nil
}

// kept returns what stays of a list.
func (s *search) kept(records []*Record) []*Record {
	kept := make([]*Record, 0, len(records))
	for _, r := range records {
		to, isMoved := s.moved[r]
		switch {
		case !isMoved:
			kept = append(kept, r)
		case to != nil:
			kept = append(kept, to)
		}
	}
	return append([]*Record(nil), kept...) // with as much room as they need
}

// Apply implements Scavenged. What was added since stays behind what was looked at.
func (s *scavenged) Apply() (more bool, err error) {
	n := min(applied, len(s.lists))
	for _, l := range s.lists[:n] {
		all, _ := l.all()
		l.replace(l.records, s.at, all[l.first:]...)
	}
	s.lists = s.lists[n:]
	return len(s.lists) > 0, nil
}
