package store

import (
	"fmt"
	"runtime/debug"
	"slices"
	"sync"

	"go.etcd.io/bbolt"
)

// How many records one look into the file brings: few at first, since most who ask want one, then more.
const (
	firstPage = 8
	pageGrows = 8
	largePage = 512
	pageBytes = 256 << 10
)

// page is what one look brings.
type page struct {
	limit int
	found []*Record
	bytes int
	more  bool

	name, typ string // of the record before
	matches   []stored

	// The memory of what is lent.
	lent bool
	made []Record
	buf  []byte
}

var lentPages = sync.Pool{New: func() any { return &page{lent: true} }}

// again makes a page ready for the next look.
func (p *page) again(limit int) {
	p.limit, p.found, p.bytes, p.more = limit, p.found[:0], 0, false
	p.made, p.buf = p.made[:0], p.buf[:0]
}

// giveBack takes the page of a reader that has ended.
func (p *page) giveBack() {
	if p.lent && cap(p.buf) <= maxKept {
		clear(p.found[:cap(p.found)])
		clear(p.made[:cap(p.made)])
		clear(p.matches[:cap(p.matches)])
		p.name, p.typ = "", ""
		lentPages.Put(p)
	}
}

// diskReader has the reading methods of a Disk. One that lends gives records that are valid until yield returns.
type diskReader struct {
	*Disk
	lends bool
}

// Lender is a store that can lend records, which costs less than giving them away.
type Lender interface {
	// Lend returns the same store, whose records are valid until yield returns.
	Lend() Store
}

// Lend implements Lender.
func (d *Disk) Lend() Store { return diskReader{d, true} }

// Events implements Store.
func (d *Disk) Events(stream string, first, last, at int64, yield func(*Record) bool) error {
	return diskReader{d, false}.Events(stream, first, last, at, yield)
}

// EventsBackward implements Store.
func (d *Disk) EventsBackward(stream string, first, last, at int64, yield func(*Record) bool) error {
	return diskReader{d, false}.EventsBackward(stream, first, last, at, yield)
}

// Log implements Store.
func (d *Disk) Log(from Position, at int64, yield func(*Record) bool) error {
	return diskReader{d, false}.Log(from, at, yield)
}

// LogBackward implements Store.
func (d *Disk) LogBackward(before Position, at int64, yield func(*Record) bool) error {
	return diskReader{d, false}.LogBackward(before, at, yield)
}

func (p *page) full() bool { return len(p.found) >= p.limit || p.bytes >= pageBytes }

// read looks into the file. What is found there is not valid any more when look has returned.
func (d *Disk) read(look func(tx *bbolt.Tx) error) error {
	return contained(func() error {
		tx, err := d.db.Begin(false)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }()
		return look(tx)
	})
}

// contained makes an error of the panics with which a file that is damaged ends, and of the faults of its memory.
func contained(do func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", ErrDamaged, r)
		}
	}()
	return do()
}

// wanted is how many records the first look for events brings: all, if the numbers say that there are not many.
func wanted(first, last int64) int {
	if n := last - first; n < largePage {
		return int(n) + 1
	}
	return firstPage
}

// pages looks again and again, first for so many records and then for more, and gives what it brings to yield.
func (d diskReader) pages(limit int, look func(tx *bbolt.Tx, p *page) error, yield func(*Record) bool) (all bool, err error) {
	p := &page{}
	if d.lends {
		p = lentPages.Get().(*page)
		defer p.giveBack()
	}
	for ; ; limit = min(limit*pageGrows, largePage) {
		p.again(limit)
		if err := d.read(func(tx *bbolt.Tx) error { return look(tx, p) }); err != nil {
			return false, err
		}
		for _, r := range p.found {
			if !yield(r) {
				return false, nil
			}
		}
		if !p.more {
			return true, nil
		}
	}
}

// moment makes the position as of which one reads that which holds for the whole of it. It is asked for behind the
// beginning of the first look: what a scavenge has taken from there on is not missed.
type moment struct {
	d     *Disk
	at    int64
	fixed bool
}

func (m *moment) get() int64 {
	if !m.fixed {
		m.at, m.fixed = max(m.at, m.d.scavenged.Load()), true
	}
	return m.at
}

// committed is the position as of which one reads what is committed.
func (d *Disk) committed(at int64) moment {
	if at == Staged {
		at = d.Tip().End - 1
	}
	return moment{d: d, at: at}
}

// Events implements Store.
func (d diskReader) Events(stream string, first, last, at int64, yield func(*Record) bool) error {
	if first = max(first, 0); first > last {
		return nil
	}
	m, next := d.committed(at), first
	all, err := d.pages(wanted(first, last), func(tx *bbolt.Tx, p *page) error {
		return p.events(tx, stream, next, last, m.get(), &next)
	}, yield)
	if all && at == Staged {
		for _, r := range d.stagedOf(stream, first, last) {
			if !yield(r) {
				break
			}
		}
	}
	return err
}

// EventsBackward implements Store.
func (d diskReader) EventsBackward(stream string, first, last, at int64, yield func(*Record) bool) error {
	if first = max(first, 0); first > last {
		return nil
	}
	if at == Staged {
		staged := d.stagedOf(stream, first, last)
		for _, r := range slices.Backward(staged) {
			if !yield(r) {
				return nil
			}
		}
	}
	m, next := d.committed(at), last
	_, err := d.pages(wanted(first, last), func(tx *bbolt.Tx, p *page) error {
		return p.eventsBackward(tx, stream, first, next, m.get(), &next)
	}, yield)
	return err
}

// Log implements Store.
func (d diskReader) Log(from Position, at int64, yield func(*Record) bool) error {
	m, next := d.committed(at), from
	all, err := d.pages(firstPage, func(tx *bbolt.Tx, p *page) error { return p.log(tx, next, m.get(), &next) }, yield)
	if all && at == Staged {
		for _, r := range d.order {
			if !r.Position().Before(from) && !yield(r.Record) {
				break
			}
		}
	}
	return err
}

// LogBackward implements Store.
func (d diskReader) LogBackward(before Position, at int64, yield func(*Record) bool) error {
	if at == Staged {
		for _, r := range slices.Backward(d.order) {
			if r.Position().Before(before) && !yield(r.Record) {
				return nil
			}
		}
	}
	m, next := d.committed(at), before
	_, err := d.pages(firstPage, func(tx *bbolt.Tx, p *page) error { return p.logBackward(tx, next, m.get(), &next) }, yield)
	return err
}

// stagedOf returns what is staged of a stream.
func (d *Disk) stagedOf(stream string, first, last int64) []*Record {
	s := d.streams[nameOf(stream)]
	if s == nil {
		return nil
	}
	var records []*Record
	for _, r := range s.records {
		if r.Number >= first && r.Number <= last {
			records = append(records, r)
		}
	}
	return records
}

// events finds events of a stream, and the number to go on with when there are more.
func (p *page) events(tx *bbolt.Tx, stream string, first, last, at int64, next *int64) error {
	f, err := p.finder(tx, stream)
	if f == nil {
		return err
	}
	e, ok, err := f.at(first)
	if err == nil && (!ok || e.last < first) {
		e, ok, err = f.parse(f.c.Seek(entryKey(f.stream, first)))
	}
	for ; ok && err == nil && e.first <= last; e, ok, err = f.parse(f.c.Next()) {
		past, err := p.match(f, &e, first, last, at)
		if err != nil {
			return err
		}
		matches := p.matches[:min(len(p.matches), p.limit-len(p.found))]
		p.records(matches, false)
		if p.full() {
			reached := p.found[len(p.found)-1].Number
			p.more = reached < last
			*next = reached + 1
			return nil
		}
		if past {
			return nil
		}
	}
	return err
}

// eventsBackward is events from last down.
func (p *page) eventsBackward(tx *bbolt.Tx, stream string, first, last, at int64, next *int64) error {
	f, err := p.finder(tx, stream)
	if f == nil {
		return err
	}
	for e, ok, err := f.at(last); ok || err != nil; e, ok, err = f.parse(f.c.Prev()) {
		if err != nil {
			return err
		}
		if e.last < first {
			return nil
		}
		if _, err = p.match(f, &e, first, last, at); err != nil {
			return err
		}
		matches := p.matches[max(0, len(p.matches)-(p.limit-len(p.found))):]
		p.records(matches, true)
		if p.full() {
			reached := p.found[len(p.found)-1].Number
			p.more = reached > first
			*next = reached - 1
			return nil
		}
	}
	return nil
}

// finder returns what finds a stream's entries, nil for a stream that was never written.
func (p *page) finder(tx *bbolt.Tx, stream string) (*finder, error) {
	p.name = stream
	id, err := streamID(tx, stream)
	if err != nil || id == 0 {
		return nil, err
	}
	return newFinder(tx, id), nil
}

// match finds the events of one entry, and reports whether it came to one that was written later.
func (p *page) match(f *finder, e *entry, first, last, at int64) (past bool, err error) {
	p.matches = p.matches[:0]
	records, err := f.block(e.block)
	for len(records) > 0 && err == nil {
		var s stored
		if s, records, err = nextStored(records); err != nil {
			break
		}
		if s.commit > at {
			return true, nil
		}
		ours := s.stream == f.stream && s.kind == Event && s.number >= first && s.number <= last
		if ours && s.number >= e.first && s.number <= e.last {
			p.matches = append(p.matches, s)
		}
	}
	return false, err
}

// log finds records of the log, and the position to go on with when there are more.
func (p *page) log(tx *bbolt.Tx, from Position, at int64, next *Position) error {
	c := tx.Bucket(bucketLog).Cursor()
	k, v := floor(c, positionKey(from))
	if k == nil {
		k, v = c.First()
	}
	for ; k != nil; k, v = c.Next() {
		if len(k) == positionSize && parsePosition(k).Commit > at {
			return nil
		}
		p.matches = p.matches[:0]
		past, err := p.matchLog(k, v, func(at Position) bool { return !at.Before(from) }, at)
		if err != nil {
			return err
		}
		p.records(p.matches[:min(len(p.matches), p.limit-len(p.found))], false)
		if p.full() {
			reached := p.found[len(p.found)-1].Position()
			p.more, *next = true, Position{reached.Commit, reached.Prepare + 1}
			return nil
		}
		if past {
			return nil
		}
	}
	return nil
}

// logBackward is log from before a position down.
func (p *page) logBackward(tx *bbolt.Tx, before Position, at int64, next *Position) error {
	c := tx.Bucket(bucketLog).Cursor()
	if behind := (Position{Commit: at, Prepare: at}); behind.Before(before) {
		before = Position{Commit: at, Prepare: at + 1} // what is prepared is not behind its commit
	}
	for k, v := floor(c, positionKey(before)); k != nil; k, v = c.Prev() {
		p.matches = p.matches[:0]
		if _, err := p.matchLog(k, v, func(at Position) bool { return at.Before(before) }, at); err != nil {
			return err
		}
		p.records(p.matches[max(0, len(p.matches)-(p.limit-len(p.found))):], true)
		if p.full() {
			p.more, *next = true, p.found[len(p.found)-1].Position()
			return nil
		}
	}
	return nil
}

// matchLog finds the records of one block, and reports whether it came to one that was written later.
func (p *page) matchLog(k, v []byte, wanted func(Position) bool, at int64) (past bool, err error) {
	records, err := openBlock(k, v)
	for len(records) > 0 && err == nil {
		var s stored
		if s, records, err = nextStored(records); err != nil {
			break
		}
		if s.commit > at {
			return true, nil
		}
		if wanted(s.position()) {
			p.matches = append(p.matches, s)
		}
	}
	return false, err
}
