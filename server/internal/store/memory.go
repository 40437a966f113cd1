package store

import (
	"errors"
	"fmt"
	"math/bits"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
)

// Memory is the store that forgets everything at the end of the process.
//
// Nothing in it locks. The writer puts a record into a slot that no reader looks at yet and then publishes the new
// length. What they find beyond the position they read at, they
// pass over, so that the records of a commit appear together.
type Memory struct {
	streams sync.Map // string -> *stream
	log     list
	tip     atomic.Pointer[Tip]

	// The writer's own.
	staged Tip
	last   Position // of the record that was staged last
	block  []Record // room for the next records: one allocation for many of them
	recent *stream  // that was looked for last: a write asks for its stream several times
}

var errNoWayBack = errors.New("what was staged in memory cannot be taken back")

// blockSize is how many records are allocated together.
const blockSize = 128

// stream is the index of one stream, in the order of its numbers. A tombstone is the last entry.
type stream struct {
	name   string
	events list
	meta   atomic.Pointer[stream]
}

// NewMemory returns an empty store whose first record goes to position start.
func NewMemory(start int64) *Memory {
	m := &Memory{staged: Tip{Commit: -1, End: start}, last: Position{-1, -1}}
	m.tip.Store(&Tip{Commit: -1, End: start})
	return m
}

// Tip implements Store.
func (m *Memory) Tip() Tip { return *m.tip.Load() }

// Head implements Store.
func (m *Memory) Head(name string, at int64) (Head, error) {
	find := m.find
	if at == Staged {
		find = m.findAgain
	}
	s := find(name)
	if s == nil {
		return Head{Last: -1, Meta: -1}, nil
	}
	h := Head{Meta: -1}
	h.Last, h.Tombstoned = s.last(at)
	if meta := s.meta.Load(); meta != nil {
		h.Meta, _ = meta.last(at)
	}
	return h, nil
}

// Events implements Store.
func (m *Memory) Events(name string, first, last, at int64, yield func(*Record) bool) error {
	if s := m.find(name); s != nil {
		events := s.events.upTo(at)
		events.up(events.numbered(first), events.behind(last), yield)
	}
	return nil
}

// EventsBackward implements Store.
func (m *Memory) EventsBackward(name string, first, last, at int64, yield func(*Record) bool) error {
	if s := m.find(name); s != nil {
		events := s.events.upTo(at)
		events.down(events.numbered(first), events.behind(last), yield)
	}
	return nil
}

// Log implements Store.
func (m *Memory) Log(from Position, at int64, yield func(*Record) bool) error {
	records := m.log.upTo(at)
	records.up(records.placed(from), records.n, yield)
	return nil
}

// LogBackward implements Store.
func (m *Memory) LogBackward(before Position, at int64, yield func(*Record) bool) error {
	records := m.log.upTo(at)
	records.down(0, records.placed(before), yield)
	return nil
}

// Stage implements Store.
func (m *Memory) Stage(end int64, records ...Record) error {
	for i := range records {
		if err := m.stage(&records[i]); err != nil {
			return err
		}
	}
	m.staged.End = end
	return nil
}

func (m *Memory) stage(r *Record) error {
	if !m.last.Before(r.Position()) || r.Prepare > r.Commit {
		return fmt.Errorf("%w: position %d behind %d", ErrOrder, r.Position(), m.last)
	}
	var s *stream
	if r.Kind == Event {
		s = m.findOrAdd(r.Stream)
		last, tombstoned := s.last(Staged)
		if tombstoned || (r.Number != DeletedNumber && r.Number != last+1) {
			return fmt.Errorf("%w: number %d behind %d", ErrOrder, r.Number, last)
		}
	}
	if len(m.block) == 0 {
		m.block = make([]Record, blockSize)
	}
	stored := &m.block[0]
	m.block = m.block[1:]
	*stored = *r
	if s != nil {
		stored.Stream = s.name
		s.events.add(stored)
	}
	m.log.add(stored)
	m.last = r.Position()
	if r.Kind != Pending {
		m.staged.Commit = r.Commit
	}
	return nil
}

// Commit implements Store.
func (m *Memory) Commit() error {
	tip := m.staged
	m.tip.Store(&tip)
	return nil
}

// Staged returns how far what was staged goes. For the writer only.
func (m *Memory) Staged() Tip { return m.staged }

// CommitTo is Commit for some of what was staged: up to a tip that Staged has returned. For the writer only.
func (m *Memory) CommitTo(tip Tip) { m.tip.Store(&tip) }

// Rollback implements Store. Nothing here fails but what was never in order.
func (m *Memory) Rollback() error {
	if tip := m.Tip(); m.staged != tip || m.last.Commit >= tip.End {
		return errNoWayBack
	}
	return nil
}

// Close implements Store.
func (m *Memory) Close() error { return nil }

func (m *Memory) find(name string) *stream {
	s, ok := m.streams.Load(name)
	if !ok {
		return nil
	}
	return s.(*stream)
}

// findAgain is find for the writer.
func (m *Memory) findAgain(name string) *stream {
	if m.recent != nil && m.recent.name == name {
		return m.recent
	}
	s := m.find(name)
	if s != nil {
		m.recent = s
	}
	return s
}

// findOrAdd makes the stream of a name for the writer. A metastream is tied to its stream, which may have no events yet.
func (m *Memory) findOrAdd(name string) *stream {
	if s := m.findAgain(name); s != nil {
		return s
	}
	s := &stream{name: strings.Clone(name)}
	m.streams.Store(s.name, s)
	if of, ok := strings.CutPrefix(s.name, MetastreamPrefix); ok {
		m.findOrAdd(of).meta.Store(s)
	} else if meta := m.find(MetastreamPrefix + s.name); meta != nil {
		s.meta.Store(meta)
	}
	return s
}

func (s *stream) last(at int64) (number int64, tombstoned bool) {
	events := s.events.upTo(at)
	if n := events.n; n > 0 && events.at(n-1).Number == DeletedNumber {
		events.n, tombstoned = n-1, true
	}
	if events.n == 0 {
		return -1, tombstoned
	}
	return events.at(events.n - 1).Number, tombstoned
}

// list is a growing list of records with one writer and any number of readers. It grows by chunks, so that what is in it is
// never copied.
type list struct{ entries atomic.Pointer[entries] }

// entries are the records of a list, until there is another chunk or a scavenge takes some away.
type entries struct {
	length atomic.Int64
	chunks [][]*Record
	// scavenged is the position as of which records were taken away. An older reader sees the list as of then: what it
	// would have seen may not be there any more.
	scavenged int64
}

// Chunks have twice the length of the one before, from 1 on up to largestChunk.
const (
	chunkDoublings = 10
	largestChunk   = 1 << chunkDoublings
)

// chunkOf returns the chunk with the record i, and its index there.
func chunkOf(i int) (chunk, index int) {
	if i < largestChunk-1 {
		chunk = bits.Len(uint(i+1)) - 1
		return chunk, i + 1 - 1<<chunk
	}
	i -= largestChunk - 1
	return chunkDoublings + i>>chunkDoublings, i & (largestChunk - 1)
}

func (l *list) add(r *Record) {
	old := l.entries.Load()
	if e := old.with(r); e != old {
		l.entries.Store(e)
	}
}

// with returns entries with one more record: e, or what takes its place.
func (e *entries) with(r *Record) *entries {
	if e == nil {
		e = &entries{scavenged: -1}
	}
	n := e.length.Load()
	chunk, i := chunkOf(int(n))
	if chunk == len(e.chunks) {
		e = &entries{chunks: append(e.chunks, make([]*Record, 1<<min(chunk, chunkDoublings))), scavenged: e.scavenged}
	}
	e.chunks[chunk][i] = r
	e.length.Store(n + 1)
	return e
}

// records are the first n of a list's records.
type records struct {
	chunks [][]*Record
	n      int
}

func (r records) at(i int) *Record {
	chunk, index := chunkOf(i)
	return r.chunks[chunk][index]
}

// all returns the records, and the position as of which they were scavenged.
func (l *list) all() (records, int64) {
	e := l.entries.Load()
	if e == nil {
		return records{}, -1
	}
	return records{e.chunks, int(e.length.Load())}, e.scavenged
}

// upTo returns the records whose Commit is at most at.
func (l *list) upTo(at int64) records {
	r, scavenged := l.all()
	at = max(at, scavenged)
	if r.n > 0 && r.at(r.n-1).Commit > at {
		r.n = sort.Search(r.n, func(i int) bool { return r.at(i).Commit > at })
	}
	return r
}

// up calls yield for the records from the index i up to before end, until it returns false.
func (r records) up(i, end int, yield func(*Record) bool) {
	for i < end {
		chunk, index := chunkOf(i)
		part := r.chunks[chunk][index:]
		part = part[:min(len(part), end-i)]
		for _, record := range part {
			if !yield(record) {
				return
			}
		}
		i += len(part)
	}
}

// down calls yield for the records before the index end down to i, until it returns false.
func (r records) down(i, end int, yield func(*Record) bool) {
	for i < end {
		chunk, index := chunkOf(end - 1)
		part := r.chunks[chunk][max(0, index+1-(end-i)) : index+1]
		for j := range part {
			if !yield(part[len(part)-1-j]) {
				return
			}
		}
		end -= len(part)
	}
}

// numbered returns the index of the first event with a number of at least number.
func (r records) numbered(number int64) int {
	switch {
	case r.n == 0 || number > r.at(r.n-1).Number:
		return r.n
	case number >= 0 && number < int64(r.n) && r.at(int(number)).Number == number:
		return int(number)
	}
	return sort.Search(r.n, func(i int) bool { return r.at(i).Number >= number })
}

// behind returns the index behind the last event with a number of at most number.
func (r records) behind(number int64) int {
	if number == DeletedNumber {
		return r.n
	}
	return r.numbered(number + 1)
}

// placed returns the index of the first record at or behind a position.
func (r records) placed(p Position) int {
	return sort.Search(r.n, func(i int) bool { return !r.at(i).Position().Before(p) })
}
