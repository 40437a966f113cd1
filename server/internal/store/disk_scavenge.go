package store

import (
	"fmt"

	"go.etcd.io/bbolt"
)

// diskScavenged is what goes of each block, in the order of the log. It is a few bytes for a record that goes.
type diskScavenged struct {
	disk   *Disk
	to     int64
	blocks []scavengedBlock
}

// scavengedBlock is a block with the places of its records that go, nil for all of them.
type scavengedBlock struct {
	at   Position
	gone []uint16
}

// scavengedTogether is how many blocks are changed at a time.
const scavengedTogether = 128

// Scavenge implements Store.
func (d *Disk) Scavenge(drop func(*Record) (bool, error)) (Scavenged, error) {
	found := &diskScavenged{disk: d, to: d.Tip().Commit}
	next, more := Position{}, true
	for more {
		var p page
		if err := d.read(func(tx *bbolt.Tx) error { return p.block(tx, &next, found.to, &more) }); err != nil {
			return nil, err
		}
		b := scavengedBlock{at: next}
		next.Prepare++
		for i, r := range p.found {
			gone, err := false, error(nil)
			if r.Commit <= found.to {
				gone, err = drop(r)
			}
			if err != nil {
				return nil, err
			}
			if gone {
				b.gone = append(b.gone, uint16(i))
			}
		}
		if len(b.gone) > 0 {
			if len(b.gone) == len(p.found) {
				b.gone = nil
			}
			found.blocks = append(found.blocks, b)
		}
	}
	return found, nil
}

// block finds the records of the first block at or behind a position, which becomes its own.
func (p *page) block(tx *bbolt.Tx, at *Position, to int64, more *bool) error {
	k, v := tx.Bucket(bucketLog).Cursor().Seek(positionKey(*at))
	if *more = len(k) == positionSize && parsePosition(k).Commit <= to; !*more {
		return nil
	}
	*at = parsePosition(k)
	_, err := p.matchLog(k, v, func(Position) bool { return true }, Staged)
	p.records(p.matches, false)
	return err
}

// Apply implements Scavenged. When it is not carried to its end, the rest is for the next run.
func (s *diskScavenged) Apply() (more bool, err error) {
	n := min(scavengedTogether, len(s.blocks))
	if n == 0 {
		return false, nil
	}
	d := s.disk
	d.scavenged.Store(s.to) // before anything is gone: an older reader must know
	err = d.update(func(tx *bbolt.Tx) error {
		for i := range s.blocks[:n] {
			if err := s.blocks[i].apply(tx); err != nil {
				return err
			}
		}
		return putScavenged(tx, s.to)
	})
	d.heads.clear()
	if err != nil {
		return false, err
	}
	s.blocks = s.blocks[n:]
	return len(s.blocks) > 0, nil
}

// apply takes the records of a block that go out of the file.
func (b *scavengedBlock) apply(tx *bbolt.Tx) error {
	log, key := tx.Bucket(bucketLog), positionKey(b.at)
	records, err := openBlock(key, log.Get(key))
	if err != nil {
		return err
	}
	kept := make([]byte, checksumSize, checksumSize+len(records))
	entries := make(map[entryID]*keptEntry)
	gone := b.gone
	for i := 0; len(records) > 0; i++ {
		var s stored
		if s, records, err = nextStored(records); err != nil {
			return err
		}
		goes := b.gone == nil
		if len(gone) > 0 && int(gone[0]) == i {
			goes, gone = true, gone[1:]
		}
		if s.kind == Event {
			id := entryID{s.stream, s.number == DeletedNumber}
			e := entries[id]
			if e == nil {
				e = &keptEntry{any: s.number}
				entries[id] = e
			}
			if goes {
				e.changed = true
			} else {
				e.last, e.commit, e.kept = s.number, s.commit, true
			}
		}
		if !goes {
			kept = append(kept, s.raw...)
		}
	}
	streams := tx.Bucket(bucketStreams)
	for id, e := range entries {
		if !e.changed {
			continue
		}
		if err := e.put(streams, id.stream, b.at); err != nil {
			return err
		}
	}
	if len(kept) == checksumSize {
		return log.Delete(key)
	}
	return putBlock(log, b.at, kept)
}

// entryID is an entry of a block: a tombstone has its own.
type entryID struct {
	stream    uint64
	tombstone bool
}

// keptEntry is what becomes of an entry.
type keptEntry struct {
	any     int64 // a number of it
	changed bool
	kept    bool
	last    int64
	commit  int64
}

// put changes the entry, or deletes it when nothing of it is kept.
func (e *keptEntry) put(streams *bbolt.Bucket, stream uint64, block Position) error {
	k, v := floor(streams.Cursor(), entryKey(stream, e.any))
	if k == nil {
		return fmt.Errorf("%w: an event that is not in its stream", ErrDamaged)
	}
	is, err := parseEntry(k, v)
	if err != nil {
		return err
	}
	if is.stream != stream || is.block != block {
		return fmt.Errorf("%w: an event that is not in its stream", ErrDamaged)
	}
	if !e.kept {
		return streams.Delete(is.key())
	}
	is.last, is.commit = e.last, e.commit
	return streams.Put(is.key(), is.value())
}
