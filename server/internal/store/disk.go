package store

import (
	"errors"
	"fmt"
	"sync/atomic"

	"go.etcd.io/bbolt"
)

// Disk is the store in a file.
//
// What is staged is in memory until a Commit writes it, all in one transaction of the file, which returns when the disk
// has it. Readers see what the file had when they began to look, and pass over what lies beyond the position they read at.
// They look for a page of records at a time, so that they hold up neither the writer nor the use of pages that are free
// again; and they call nobody while they look, since who waits inside one look for another may wait for ever.
//
// The file has four buckets (see block.go for what a block is):
//
//	state    the format, the tip, and how far the log is scavenged
//	log      blocks of records, by the position of the first
//	streams  which block has which events, by the stream's id and the number of the first of them
//	names    the ids of streams, by their names
//
// Nothing in memory grows with it, and nothing is read at the start but the state and the end of the log.
type Disk struct {
	db     *bbolt.DB
	commit func(*bbolt.Tx) error // a test may wait in it, or fail

	tip       atomic.Pointer[Tip]
	scavenged atomic.Int64
	heads     heads

	// The writer's own.
	staged  Tip
	last    Position // of the record that was staged last
	order   []stagedRecord
	streams map[headName]*stagedStream // that something is staged for
	room    []Record                   // for the next records: one allocation for many of them
	buf     []byte                     // blocks on their way
	failed  error                      // why nothing can be written any more
}

type stagedRecord struct {
	*Record
	stream *stagedStream // nil for what is no event
}

// stagedStream is a stream with what is staged.
type stagedStream struct {
	head    head
	records []*Record
	entry   entry // of the block that is being made
	open    bool  // it has some events
}

// Tip implements Store.
func (d *Disk) Tip() Tip { return *d.tip.Load() }

// ScavengedTo implements Store.
func (d *Disk) ScavengedTo() int64 { return d.scavenged.Load() }

// Close implements Store.
func (d *Disk) Close() error { return d.db.Close() }

// Stage implements Store.
func (d *Disk) Stage(end int64, records ...Record) error {
	if d.failed != nil {
		return d.failed
	}
	for i := range records {
		if err := d.stage(&records[i]); err != nil {
			return err
		}
	}
	d.staged.End = end
	return nil
}

func (d *Disk) stage(r *Record) error {
	if !d.last.Before(r.Position()) || r.Prepare > r.Commit {
		return fmt.Errorf("%w: position %d behind %d", ErrOrder, r.Position(), d.last)
	}
	var s *stagedStream
	if r.Kind == Event {
		var err error
		if s, err = d.stagedStream(r.Stream); err != nil {
			return err
		}
		if s.head.tombstoned || (r.Number != DeletedNumber && r.Number != s.head.last+1) {
			return fmt.Errorf("%w: number %d behind %d", ErrOrder, r.Number, s.head.last)
		}
		s.head.follow(r)
	}
	if len(d.room) == 0 {
		d.room = make([]Record, blockSize)
	}
	stored := &d.room[0]
	d.room = d.room[1:]
	*stored = *r
	if s != nil {
		s.records = append(s.records, stored)
	}
	d.order = append(d.order, stagedRecord{stored, s})
	d.last = r.Position()
	if r.Kind != Pending {
		d.staged.Commit = r.Commit
	}
	return nil
}

// stagedStream returns a stream to stage something for.
func (d *Disk) stagedStream(stream string) (*stagedStream, error) {
	name := nameOf(stream)
	if s := d.streams[name]; s != nil {
		return s, nil
	}
	h, err := d.headOf(name, d.Tip().Commit)
	if err != nil {
		return nil, err
	}
	s := &stagedStream{head: h}
	d.streams[name] = s
	return s, nil
}

// Commit implements Store.
func (d *Disk) Commit() error {
	if d.failed != nil {
		return d.failed
	}
	if len(d.order) == 0 && d.staged == d.Tip() {
		return nil
	}
	if err := d.update(d.write); err != nil {
		return err
	}
	d.heads.committed(d.streams)
	tip := d.staged
	d.tip.Store(&tip)
	d.forget()
	return nil
}

// Rollback implements Store.
func (d *Disk) Rollback() error {
	d.forget()
	d.staged = d.Tip()
	d.last = Position{d.staged.End - 1, d.staged.End - 1}
	return d.failed
}

// forget empties what was staged.
func (d *Disk) forget() {
	clear(d.order)
	d.order = d.order[:0]
	clear(d.streams)
	if cap(d.buf) > maxKept {
		d.buf = nil
	}
}

// maxKept is how much of the memory of a commit is kept for the next one.
const maxKept = 1 << 20

// write puts everything staged into the file.
func (d *Disk) write(tx *bbolt.Tx) error {
	w := blockWriter{
		log: tx.Bucket(bucketLog), streams: tx.Bucket(bucketStreams), names: tx.Bucket(bucketNames), buf: d.buf[:0],
	}
	w.log.FillPercent = 1 // nothing is ever put in between
	for _, r := range d.order {
		if err := w.add(r); err != nil {
			return err
		}
	}
	if err := w.flush(); err != nil {
		return err
	}
	d.buf = w.buf
	return putTip(tx, d.staged)
}

// update changes the file, all or nothing. Whether it did is not known when the end of it failed on the disk: then nothing
// can be written any more.
func (d *Disk) update(change func(*bbolt.Tx) error) error {
	if d.failed != nil {
		return d.failed
	}
	id := 0
	err := contained(func() error {
		tx, err := d.db.Begin(true)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }() // does nothing behind a commit, good or not
		id = tx.ID()
		if err := change(tx); err != nil {
			return err
		}
		return d.commit(tx)
	})
	if err == nil {
		return nil
	}
	reached := 0
	readErr := d.read(func(tx *bbolt.Tx) error {
		reached = tx.ID()
		return nil
	})
	if err = fmt.Errorf("write %s: %w", d.db.Path(), err); readErr != nil || (id > 0 && reached >= id) {
		d.failed = fmt.Errorf("%w; what was written last may be stored or not, and nothing can be written until it is opened again", err)
		return d.failed
	}
	return err
}

// ErrDamaged says that the file does not hold what was written.
var ErrDamaged = errors.New("the file is damaged")
