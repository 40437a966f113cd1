package store

// scavenged are lists that take the place of those there are.
type scavenged struct {
	lists []replacement
	at    int64
}

// replacement is what a list has instead of its first records.
type replacement struct {
	list  *list
	by    *entries
	first int
}

// applied is how many lists are replaced at a time.
const applied = 256

// Scavenge implements Store. The records that stay are moved out of the blocks that others leave, since a block is freed
// as a whole.
func (m *Memory) Scavenge(drop func(*Record) (bool, error)) (Scavenged, error) {
	log := m.log.upTo(m.Tip().Commit)
	found := search{moved: make(map[*Record]*Record), streams: make(map[*stream]struct{})}
	kept := make([]*Record, 0, log.n)
	block := make([]*Record, 0, blockSize)
	for i := range log.n {
		if block = append(block, log.at(i)); len(block) < blockSize && i < log.n-1 {
			continue
		}
		var err error
		if kept, err = found.block(m, block, kept, drop); err != nil {
			return nil, err
		}
		block = block[:0]
	}
	s := &scavenged{}
	if len(found.moved) == 0 {
		return s, nil
	}
	s.at = log.at(log.n - 1).Commit
	replaced := &entries{scavenged: s.at}
	for _, r := range kept {
		replaced = replaced.with(r)
	}
	s.lists = append(s.lists, replacement{&m.log, replaced, log.n})
	for stream := range found.streams {
		events := stream.events.upTo(s.at)
		s.lists = append(s.lists, replacement{&stream.events, found.kept(events, s.at), events.n})
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
func (s *search) kept(events records, at int64) *entries {
	kept := &entries{scavenged: at}
	for i := range events.n {
		r := events.at(i)
		to, isMoved := s.moved[r]
		switch {
		case !isMoved:
			kept = kept.with(r)
		case to != nil:
			kept = kept.with(to)
		}
	}
	return kept
}

// Apply implements Scavenged. What was added since stays behind what was looked at.
func (s *scavenged) Apply() (more bool, err error) {
	n := min(applied, len(s.lists))
	for _, l := range s.lists[:n] {
		all, _ := l.list.all()
		e := l.by
		for i := l.first; i < all.n; i++ {
			e = e.with(all.at(i))
		}
		l.list.entries.Store(e)
	}
	s.lists = s.lists[n:]
	return len(s.lists) > 0, nil
}
