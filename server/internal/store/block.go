package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"

	"go.etcd.io/bbolt"
)

// A block is some records that follow each other in the log, at least those of one commit: a checksum and then the
// records. Its key is the position of the first record when it was written. It changes by a scavenge alone, which takes
// records out of it.

// blockBytes is how large a block becomes, but for the last record in it. A small one costs a key for few records, a
// large one is read and checked for a single event.
const blockBytes = 8 << 10

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

const (
	checksumSize   = 4
	recordFixed    = 4 + 1 + 5*8 + 16
	positionSize   = 16
	entryKeySize   = 16
	entryValueSize = positionSize + 16
)

func checksum(key, records []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, records)
}

// stored is a record in a block; it shares the block's memory.
type stored struct {
	kind                             Kind
	stream                           uint64
	number, commit, prepare, created int64
	id                               []byte
	name, typ, encoded               []byte
	raw                              []byte
}

func (s *stored) position() Position { return Position{s.commit, s.prepare} }

// appendStored appends a record of a stream with this id.
func appendStored(b []byte, r *Record, stream uint64) []byte {
	start := len(b)
	b = append(b, 0, 0, 0, 0, byte(r.Kind))
	b = binary.BigEndian.AppendUint64(b, stream)
	for _, n := range [...]int64{r.Number, r.Commit, r.Prepare, r.Created} {
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	b = append(b, r.ID[:]...)
	b = binary.AppendUvarint(b, uint64(len(r.Stream)))
	b = append(b, r.Stream...)
	b = binary.AppendUvarint(b, uint64(len(r.Type)))
	b = append(b, r.Type...)
	b = append(b, r.Encoded...)
	binary.BigEndian.PutUint32(b[start:], uint32(len(b)-start))
	return b
}

// openBlock returns the records of a block once it is known that they are what was written.
func openBlock(key, value []byte) ([]byte, error) {
	if len(key) != positionSize || len(value) < checksumSize || binary.BigEndian.Uint32(value) != checksum(key, value[checksumSize:]) {
		return nil, fmt.Errorf("%w: the records at %x are not those that were written", ErrDamaged, key)
	}
	return value[checksumSize:], nil
}

var errNoRecord = fmt.Errorf("%w: a record that is none", ErrDamaged)

// nextStored returns the first of the records of a block, and the rest.
func nextStored(records []byte) (s stored, rest []byte, err error) {
	if len(records) < recordFixed {
		return s, nil, errNoRecord
	}
	size := int(binary.BigEndian.Uint32(records))
	if size < recordFixed || size > len(records) {
		return s, nil, errNoRecord
	}
	s.raw, rest = records[:size], records[size:]
	s.kind = Kind(s.raw[4])
	number := func(i int) int64 { return int64(binary.BigEndian.Uint64(s.raw[5+8*i:])) }
	s.stream, s.number, s.commit, s.prepare, s.created = uint64(number(0)), number(1), number(2), number(3), number(4)
	s.id = s.raw[recordFixed-16 : recordFixed]
	var ok1, ok2 bool
	tail := s.raw[recordFixed:]
	s.name, tail, ok1 = cutText(tail)
	s.typ, s.encoded, ok2 = cutText(tail)
	if !ok1 || !ok2 {
		return s, nil, errNoRecord
	}
	return s, rest, nil
}

func cutText(b []byte) (text, rest []byte, ok bool) {
	n, size := binary.Uvarint(b)
	if size <= 0 || n > uint64(len(b)-size) {
		return nil, nil, false
	}
	return b[size : size+int(n)], b[size+int(n):], true
}

// entry says which events of a stream a block has: those with the numbers from first to last, without those that were
// scavenged. A tombstone has one of its own.
type entry struct {
	stream      uint64
	first, last int64
	commit      int64    // of the last one
	block       Position // its key
}

func (e *entry) key() []byte { return entryKey(e.stream, e.first) }

func entryKey(stream uint64, number int64) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, entryKeySize), stream)
	return binary.BigEndian.AppendUint64(b, uint64(number))
}

func (e *entry) value() []byte {
	b := append(make([]byte, 0, entryValueSize), positionKey(e.block)...)
	b = binary.BigEndian.AppendUint64(b, uint64(e.last))
	return binary.BigEndian.AppendUint64(b, uint64(e.commit))
}

// parseEntry reads an entry of the bucket streams.
func parseEntry(key, value []byte) (e entry, err error) {
	if len(key) != entryKeySize || len(value) != entryValueSize {
		return e, fmt.Errorf("%w: an entry of a stream that is none", ErrDamaged)
	}
	e.stream, e.first = binary.BigEndian.Uint64(key), int64(binary.BigEndian.Uint64(key[8:]))
	e.block = parsePosition(value)
	e.last, e.commit = int64(binary.BigEndian.Uint64(value[16:])), int64(binary.BigEndian.Uint64(value[24:]))
	return e, nil
}

func positionKey(p Position) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, positionSize), uint64(p.Commit))
	return binary.BigEndian.AppendUint64(b, uint64(p.Prepare))
}

func parsePosition(b []byte) Position {
	return Position{int64(binary.BigEndian.Uint64(b)), int64(binary.BigEndian.Uint64(b[8:]))}
}

// nameKey is a stream's name as a key: as it is, or by its hash when it is too long for one.
func nameKey(name string) []byte {
	const longest, kept = 255, 224
	if len(name) <= longest {
		return append([]byte{0}, name...)
	}
	hash := sha256.Sum256([]byte(name))
	return append(append([]byte{1}, name[:kept]...), hash[:]...)
}

// blockWriter makes blocks of records and puts them into the file.
type blockWriter struct {
	log, streams, names *bbolt.Bucket

	buf   []byte
	start int      // of the block at hand
	first Position // its key
	of    []*stagedStream
}

func (w *blockWriter) add(r stagedRecord) error {
	if len(w.buf) == w.start {
		w.first = r.Position()
		w.buf = append(w.buf, make([]byte, checksumSize)...)
	}
	id := uint64(0)
	if s := r.stream; s != nil {
		if err := w.identify(s, r.Stream); err != nil {
			return err
		}
		id = s.head.id
		e := entry{stream: id, first: r.Number, last: r.Number, commit: r.Commit, block: w.first}
		switch {
		case r.Number == DeletedNumber:
			if err := w.streams.Put(e.key(), e.value()); err != nil {
				return err
			}
		case s.open:
			s.entry.last, s.entry.commit = e.last, e.commit
		default:
			s.entry, s.open = e, true
			w.of = append(w.of, s)
		}
	}
	if w.buf = appendStored(w.buf, r.Record, id); len(w.buf)-w.start >= blockBytes {
		return w.flush()
	}
	return nil
}

// identify gives a new stream its id.
func (w *blockWriter) identify(s *stagedStream, name string) (err error) {
	if s.head.id != 0 {
		return nil
	}
	if s.head.id, err = w.names.NextSequence(); err != nil {
		return err
	}
	return w.names.Put(nameKey(name), binary.BigEndian.AppendUint64(nil, s.head.id))
}

// flush ends the block at hand.
func (w *blockWriter) flush() error {
	if len(w.buf) == w.start {
		return nil
	}
	block := w.buf[w.start:len(w.buf):len(w.buf)]
	w.start = len(w.buf)
	if err := putBlock(w.log, w.first, block); err != nil {
		return err
	}
	for _, s := range w.of {
		if err := w.streams.Put(s.entry.key(), s.entry.value()); err != nil {
			return err
		}
		s.open = false
	}
	w.of = w.of[:0]
	return nil
}

// putBlock puts a block, with room for its checksum at the front, into the file. It must not change before the end of the
// transaction.
func putBlock(log *bbolt.Bucket, at Position, block []byte) error {
	key := positionKey(at)
	binary.BigEndian.PutUint32(block, checksum(key, block[checksumSize:]))
	return log.Put(key, block)
}

// floor returns the last entry of a bucket whose key is at most key.
func floor(c *bbolt.Cursor, key []byte) (k, v []byte) {
	switch k, v = c.Seek(key); {
	case k == nil:
		return c.Last()
	case bytes.Equal(k, key):
		return k, v
	default:
		return c.Prev()
	}
}

// records makes records of what was found, so that they stay valid: one allocation for all of their bytes.
func (p *page) records(found []stored, backward bool) {
	if backward {
		slices.Reverse(found)
	}
	size := 0
	for i := range found {
		size += len(found[i].encoded)
	}
	made, buf := p.room(len(found), size)
	for i := range found {
		s, r := &found[i], &made[i]
		*r = Record{Kind: s.kind, Number: s.number, Commit: s.commit, Prepare: s.prepare, Created: s.created}
		copy(r.ID[:], s.id)
		r.Stream, p.name = again(p.name, s.name)
		r.Type, p.typ = again(p.typ, s.typ)
		if n := len(s.encoded); n > 0 {
			buf = append(buf, s.encoded...)
			r.Encoded = buf[len(buf)-n : len(buf) : len(buf)]
		}
		p.found = append(p.found, r)
	}
	p.bytes += size
}

// room returns memory for so many records and so many bytes of them. Records that were found before keep theirs.
func (p *page) room(n, size int) ([]Record, []byte) {
	if !p.lent {
		return make([]Record, n), make([]byte, 0, size)
	}
	if cap(p.made)-len(p.made) < n {
		p.made = make([]Record, 0, max(n, 2*cap(p.made)))
	}
	if cap(p.buf)-len(p.buf) < size {
		p.buf = make([]byte, 0, max(size, 2*cap(p.buf)))
	}
	made, buf := p.made[len(p.made):len(p.made)+n], p.buf[len(p.buf):len(p.buf):len(p.buf)+size]
	p.made, p.buf = p.made[:len(p.made)+n], p.buf[:len(p.buf)+size]
	return made, buf
}

// again returns a text as a string, mostly that of the record before.
func again(last string, text []byte) (string, string) {
	if last != string(text) {
		last = strings.Clone(string(text))
	}
	return last, last
}
