package store

import (
	"encoding/binary"
	"fmt"
	"strings"
	"sync"

	"go.etcd.io/bbolt"
)

// head is what the file has of a stream.
type head struct {
	id         uint64 // 0 for a stream that was never written
	last       int64
	tombstoned bool
	commit     int64 // of the event that was written last, -1 without any
}

var noHead = head{last: -1, commit: -1}

// follow is the head with one more event.
func (h *head) follow(r *Record) {
	if h.commit = r.Commit; r.Number == DeletedNumber {
		h.tombstoned = true
	} else {
		h.last = r.Number
	}
}

// heads remembers the heads of streams as they were committed last, of those that were never written as well. It is bounded:
// all are forgotten when there are too many.
type heads struct {
	mu      sync.RWMutex
	byName  map[headName]head
	commits uint64 // who looked into the file before another commit must not say what it found there
}

// headName is the name of a stream, or of the one whose metastream it is: that costs no new text.
type headName struct {
	name string
	meta bool
}

func nameOf(stream string) headName {
	of, meta := strings.CutPrefix(stream, MetastreamPrefix)
	return headName{of, meta}
}

func (n headName) String() string {
	if n.meta {
		return MetastreamPrefix + n.name
	}
	return n.name
}

const (
	maxHeads    = 50_000
	maxHeadName = 1024 // longer names are not remembered
)

func (h *heads) find(name headName) (found head, ok bool, commits uint64) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	found, ok = h.byName[name]
	return found, ok, h.commits
}

// found remembers what the file had of a stream.
func (h *heads) found(name headName, found head, commits uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.commits == commits {
		h.remember(name, found)
	}
}

// committed remembers what was written.
func (h *heads) committed(streams map[headName]*stagedStream) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.commits++
	for name, s := range streams {
		h.remember(name, s.head)
	}
}

// clear forgets all.
func (h *heads) clear() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.commits++
	h.byName = nil
}

func (h *heads) remember(name headName, is head) {
	if len(name.name) > maxHeadName {
		return
	}
	if h.byName == nil || len(h.byName) >= maxHeads {
		h.byName = make(map[headName]head)
	}
	if _, ok := h.byName[name]; !ok {
		name.name = strings.Clone(name.name) // it may be a part of a frame
	}
	h.byName[name] = is
}

// Head implements Store.
func (d *Disk) Head(name string, at int64) (Head, error) {
	own, err := d.headAt(nameOf(name), at)
	if err != nil {
		return Head{}, err
	}
	meta, err := d.headAt(headName{name, true}, at)
	return Head{Last: own.last, Tombstoned: own.tombstoned, Meta: meta.last}, err
}

func (d *Disk) headAt(name headName, at int64) (head, error) {
	if at == Staged {
		if s := d.streams[name]; s != nil {
			return s.head, nil
		}
		at = d.Tip().Commit
	}
	return d.headOf(name, at)
}

// headOf returns the head of a stream as of a position.
func (d *Disk) headOf(name headName, at int64) (h head, err error) {
	h, ok, commits := d.heads.find(name)
	if ok && h.commit <= max(at, d.scavenged.Load()) {
		return h, nil
	}
	latest := noHead
	err = d.read(func(tx *bbolt.Tx) error {
		if latest.id, err = streamID(tx, name.String()); err != nil || latest.id == 0 {
			h = latest
			return err
		}
		f := newFinder(tx, latest.id)
		if err = f.last(&latest); err != nil {
			return err
		}
		h = latest
		if at = max(at, d.scavenged.Load()); h.commit > at {
			return f.asOf(&h, at)
		}
		return nil
	})
	if err != nil {
		return head{}, err
	}
	if !ok {
		d.heads.found(name, latest, commits)
	}
	return h, nil
}

// streamID returns the id of a stream, 0 for one that was never written.
func streamID(tx *bbolt.Tx, name string) (uint64, error) {
	v := tx.Bucket(bucketNames).Get(nameKey(name))
	if v == nil {
		return 0, nil
	}
	if len(v) != 8 {
		return 0, fmt.Errorf("%w: the id of a stream is none", ErrDamaged)
	}
	return binary.BigEndian.Uint64(v), nil
}

// finder looks for the entries of one stream.
type finder struct {
	log    *bbolt.Bucket
	c      *bbolt.Cursor
	stream uint64
}

func newFinder(tx *bbolt.Tx, stream uint64) *finder {
	return &finder{log: tx.Bucket(bucketLog), c: tx.Bucket(bucketStreams).Cursor(), stream: stream}
}

// at returns the last entry that begins with at most number, false when there is none.
func (f *finder) at(number int64) (e entry, ok bool, err error) {
	k, v := floor(f.c, entryKey(f.stream, number))
	return f.parse(k, v)
}

func (f *finder) parse(k, v []byte) (e entry, ok bool, err error) {
	if k == nil {
		return entry{}, false, nil
	}
	e, err = parseEntry(k, v)
	return e, err == nil && e.stream == f.stream, err
}

// last fills in the head as it is.
func (f *finder) last(h *head) error {
	e, ok, err := f.at(DeletedNumber)
	if ok && e.first == DeletedNumber {
		h.tombstoned, h.commit = true, e.commit
		e, ok, err = f.at(DeletedNumber - 1)
	}
	if ok {
		h.last, h.commit = e.last, max(h.commit, e.commit)
	}
	return err
}

// asOf makes the head what it was as of a position: by halves, since many events may have come since.
func (f *finder) asOf(h *head, at int64) error {
	h.tombstoned, h.commit = false, -1
	before, behind := int64(-1), h.last+1 // an event before was written by then, one behind was not
	for before+1 < behind {
		number := before + (behind-before)/2
		e, ok, err := f.at(number)
		switch {
		case err != nil:
			return err
		case !ok || e.last <= before:
			before = number // scavenged
			continue
		case e.commit <= at:
			h.commit = e.commit
			before = max(number, e.last)
			h.last = e.last
			continue
		}
		last, commit, err := f.within(&e, at)
		if err != nil {
			return err
		}
		if last >= 0 {
			h.last, h.commit = last, commit
			return nil
		}
		behind = e.first
	}
	if h.commit < 0 {
		h.last = -1
	}
	return nil
}

// within returns the last event of a block that was written by then, -1 if none was.
func (f *finder) within(e *entry, at int64) (last, commit int64, err error) {
	records, err := f.block(e.block)
	last, commit = -1, -1
	for len(records) > 0 && err == nil {
		var s stored
		s, records, err = nextStored(records)
		if s.commit > at {
			break
		}
		if err == nil && s.stream == f.stream && s.kind == Event && s.number != DeletedNumber {
			last, commit = s.number, s.commit
		}
	}
	return last, commit, err
}

func (f *finder) block(at Position) ([]byte, error) {
	key := positionKey(at)
	return openBlock(key, f.log.Get(key))
}
