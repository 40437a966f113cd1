package main

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/goeventstore/eventstore/bench/contend"
)

// What the limits know of the protocol. They share no code with the library, so that they stay where they are when it
// changes.
const (
	frameHead = 4 + 18 // prefix, command, flags, correlation id
	slotAt    = 6      // in a frame: the first 4 bytes of the correlation id

	cmdHeartbeat   = 0x01
	cmdWrite       = 0x82
	cmdWritten     = 0x83
	cmdRead        = 0xB2
	cmdPage        = 0xB3
	cmdIdentify    = 0xF5
	cmdIdentified  = 0xF6
	withLogin      = 0x01
	limitReadSize  = 256 << 10
	eventIDSize    = 16
	limitAnyNumber = -2
)

// limit is l0 and l1: one goroutine on one socket, without an API. It sends what there is room for in flight in one write
// and takes what one read brings.
//
// l0 sends frames that were encoded before and counts the frames of the answers. l1 encodes each request, with a new event
// id, and decodes every field of every answer: in place, or with Owned into memory that could be kept.
type limit struct {
	*contend.Task
	conn   net.Conn
	decode bool
	login  []byte
	data   []byte

	in       []byte
	from, to int // of in: what came and is not taken yet

	out  []byte
	busy []bool // slots of appends that are not answered
	free []uint32

	ready  []byte // l0: an append
	idAt   int    // in it: the event id
	id     uint64
	page   []limitEvent // l1: the events of a page
	expect int64        // the number of the next event

	group limitGroup
}

func newLimit(t *contend.Task) (contend.Load, error) {
	conn, err := net.DialTimeout("tcp", t.Addr, 10*time.Second) //nolint:noctx // it has its time limit
	if err != nil {
		return nil, err
	}
	l := &limit{Task: t, conn: conn, decode: t.Contender == decoded, in: make([]byte, limitReadSize), data: contend.Data(0, t.Size)}
	l.login = append(append(append(append(l.login, byte(len(t.User))), t.User...), byte(len(t.Password))), t.Password...)
	l.busy = make([]bool, t.InFlight)
	for i := range t.InFlight {
		l.free = append(l.free, uint32(i))
	}
	l.appendWrite(0)
	l.ready, l.out = l.out, nil
	l.idAt = len(l.ready) - 2 - len(l.data) - len(varint(nil, uint64(len(l.data)))) - 1 - 4 - 2 - len(contend.EventType) - eventIDSize
	err = l.identify()
	if err == nil && t.Group != "" {
		err = l.join()
	}
	return l, err
}

// identify has the server send numbers of 64 bits.
func (l *limit) identify() error {
	start := l.startFrame(cmdIdentify, 0)
	l.out = append(l.out, 1<<3, 1)
	l.endFrame(start)
	if err := l.flush(); err != nil {
		return err
	}
	f, err := l.next()
	if err == nil && f[4] != cmdIdentified {
		err = fmt.Errorf("IdentifyClient was answered by %#x", f[4])
	}
	return err
}

func (l *limit) Close() (err error) {
	if l.Group != "" {
		err = l.settle()
	}
	return errors.Join(err, l.conn.Close())
}

func (l *limit) Run(turn *contend.Turn) (int64, error) {
	switch {
	case l.Group != "":
		return l.consume(turn)
	case l.Read:
		return l.reads(turn)
	}
	return l.appends(turn)
}

func (l *limit) appends(turn *contend.Turn) (ops int64, err error) {
	for pending := 0; ; {
		var start time.Time
		if l.InFlight == 1 {
			start = time.Now()
		}
		for len(l.free) > 0 && turn.Next() {
			slot := l.free[len(l.free)-1]
			l.free = l.free[:len(l.free)-1]
			l.busy[slot] = true
			if l.decode {
				l.appendWrite(slot)
			} else {
				l.appendReady(slot)
			}
			pending++
		}
		if pending == 0 {
			return ops, nil
		}
		if err := l.flush(); err != nil {
			return ops, err
		}
		for first := true; first || l.buffered(); first = false {
			f, err := l.next()
			if err != nil {
				return ops, err
			}
			if err := l.written(f); err != nil {
				return ops, err
			}
			pending--
			ops++
		}
		if l.InFlight == 1 {
			turn.Took(time.Since(start))
		}
	}
}

// written takes the answer to an append.
func (l *limit) written(f []byte) error {
	slot := binary.LittleEndian.Uint32(f[slotAt:])
	if f[4] != cmdWritten || int(slot) >= len(l.busy) || !l.busy[slot] {
		return fmt.Errorf("a frame with command %#x for slot %d", f[4], slot)
	}
	l.busy[slot] = false
	l.free = append(l.free, slot)
	if !l.decode {
		return nil
	}
	var a limitWritten
	if err := a.decode(f[frameHead:]); err != nil {
		return err
	}
	if a.result != 0 || a.last < a.first {
		return fmt.Errorf("an append was answered with %+v", a)
	}
	return nil
}

func (l *limit) reads(turn *contend.Turn) (ops int64, err error) {
	for turn.Next() {
		l.expect = 0
		for l.expect < int64(l.Events) {
			before := l.expect
			l.appendRead(before)
			if err := l.flush(); err != nil {
				return ops, err
			}
			f, err := l.next()
			if err != nil {
				return ops, err
			}
			if f[4] != cmdPage {
				return ops, fmt.Errorf("a read was answered by %#x", f[4])
			}
			if err := l.takePage(f[frameHead:]); err != nil {
				return ops, err
			}
			ops += l.expect - before
		}
	}
	return ops, nil
}

// takePage takes the answer to a read.
func (l *limit) takePage(body []byte) error {
	if !l.decode {
		if len(body) < l.Page*l.Size {
			return fmt.Errorf("a page of %d bytes", len(body))
		}
		l.expect += int64(l.Page)
		return nil
	}
	if l.Owned {
		body = append([]byte(nil), body...)
		l.page = make([]limitEvent, 0, l.Page)
	}
	var p limitPage
	var err error
	if l.page, err = p.decode(body, l.page[:0]); err != nil {
		return err
	}
	for i := range l.page {
		e := &l.page[i]
		if !contend.Check(l.expect, e.number, e.data, l.Size) {
			return fmt.Errorf("event %d is %+v", l.expect, e)
		}
		l.expect++
	}
	if p.result != 0 || p.next != l.expect {
		return fmt.Errorf("a page that ends at %d is %+v", l.expect, p)
	}
	return nil
}

// next returns the next frame that is no heartbeat; it is valid until the one after it.
func (l *limit) next() ([]byte, error) {
	for {
		for !l.buffered() {
			if err := l.fill(); err != nil {
				return nil, err
			}
		}
		size := 4 + int(binary.LittleEndian.Uint32(l.in[l.from:]))
		f := l.in[l.from : l.from+size]
		l.from += size
		if f[4] != cmdHeartbeat { // what is sent anyway is a sign of life
			return f, nil
		}
	}
}

// buffered reports whether a whole frame is there.
func (l *limit) buffered() bool {
	return l.to-l.from >= 4 && l.to-l.from >= 4+int(binary.LittleEndian.Uint32(l.in[l.from:]))
}

func (l *limit) fill() error {
	if l.from == l.to {
		l.from, l.to = 0, 0
	}
	need := frameHead
	if l.to-l.from >= 4 {
		need = 4 + int(binary.LittleEndian.Uint32(l.in[l.from:]))
	}
	if need > 64<<20 || need < frameHead {
		return fmt.Errorf("a frame of %d bytes", need)
	}
	if l.from+need > len(l.in) || l.to == len(l.in) {
		to := l.in
		if need > len(to) {
			to = make([]byte, 2*need)
		}
		l.to = copy(to, l.in[l.from:l.to])
		l.from, l.in = 0, to
	}
	n, err := l.conn.Read(l.in[l.to:])
	l.to += n
	return err
}

func (l *limit) flush() error {
	if len(l.out) == 0 {
		return nil
	}
	_, err := l.conn.Write(l.out)
	l.out = l.out[:0]
	return err
}

func (l *limit) startFrame(command byte, slot uint32) (start int) {
	start = len(l.out)
	l.out = append(l.out, 0, 0, 0, 0, command, withLogin)
	l.out = binary.LittleEndian.AppendUint32(l.out, slot)
	l.out = append(l.out, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)
	l.out = append(l.out, l.login...)
	return start
}

func (l *limit) endFrame(start int) {
	binary.LittleEndian.PutUint32(l.out[start:], uint32(len(l.out)-start-4))
}

// appendReady is an append of l0: only the slot and the event id are new.
func (l *limit) appendReady(slot uint32) {
	start := len(l.out)
	l.out = append(l.out, l.ready...)
	binary.LittleEndian.PutUint32(l.out[start+slotAt:], slot)
	l.id++
	binary.LittleEndian.PutUint64(l.out[start+l.idAt:], l.id)
}

// appendWrite is an append of l1: all of it is new.
func (l *limit) appendWrite(slot uint32) {
	start := l.startFrame(cmdWrite, slot)
	l.out = text(l.out, 1, l.Stream)
	expected := int64(limitAnyNumber)
	l.out = varint(append(l.out, 2<<3), uint64(expected))
	size := 2 + eventIDSize + 2 + len(contend.EventType) + 4 + 1 + varintSize(len(l.data)) + len(l.data)
	l.out = varint(append(l.out, 3<<3|2), uint64(size))
	l.out = append(l.out, 1<<3|2, eventIDSize)
	at := len(l.out)
	l.out = append(l.out, make([]byte, eventIDSize)...)
	id := l.out[at:]
	_, _ = rand.Read(id)                            // from the same source as the others; it does not fail
	id[7], id[8] = id[7]&0x0F|0x40, id[8]&0x3F|0x80 // version 4; in .NET order byte 7 has the version
	l.out = text(l.out, 2, contend.EventType)
	l.out = append(l.out, 3<<3, 1, 4<<3, 0)
	l.out = varint(append(l.out, 5<<3|2), uint64(len(l.data)))
	l.out = append(l.out, l.data...)
	l.out = append(l.out, 4<<3, 1)
	l.endFrame(start)
}

func (l *limit) appendRead(from int64) {
	start := l.startFrame(cmdRead, 0)
	l.out = text(l.out, 1, l.Stream)
	l.out = varint(append(l.out, 2<<3), uint64(from))
	l.out = varint(append(l.out, 3<<3), uint64(l.Page))
	l.out = append(l.out, 4<<3, 1, 5<<3, 1)
	l.endFrame(start)
}

func varint(b []byte, v uint64) []byte { return binary.AppendUvarint(b, v) }

func varintSize(v int) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}

func text(b []byte, num byte, s string) []byte {
	b = varint(append(b, num<<3|2), uint64(len(s)))
	return append(b, s...)
}

var errLimit = errors.New("malformed answer")
