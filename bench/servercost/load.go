package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"strings"

	"github.com/google/uuid"

	"github.com/goeventstore/eventstore/messages"
)

// loadCase is a kind of requests.
type loadCase struct {
	Name          string
	Page          bool // else appends
	Memory        bool
	InFlight, Ops int
	Write         int     // how many requests go into one write of the client; 0 for all that may go
	Callers       bool    // the load is this library's client, with as many callers as are in flight
	Limit         float64 // of the ratio; 0 for none
}

// Of a page, and of each event that is written.
const (
	pageEvents = 500
	eventSize  = 256
)

var cases = []loadCase{
	{Name: "append, 1,024 callers", InFlight: 1024, Callers: true, Ops: 400_000, Limit: 10},
	{Name: "page of 500, 1 in flight", Page: true, InFlight: 1, Ops: 6_000, Limit: 4},
	{Name: "page of 500, 8 in flight", Page: true, InFlight: 8, Ops: 6_000},
	{Name: "append, 1,024 in flight, 16 a write", InFlight: 1024, Write: 16, Ops: 400_000},
	{Name: "append, 1,024 in flight, 64 a write", InFlight: 1024, Write: 64, Ops: 400_000},
	{Name: "append, 1,024 in flight, in bursts", InFlight: 1024, Ops: 400_000},
	{Name: "append, 1 in flight", InFlight: 1, Ops: 20_000},
	{Name: "append, 1,024 in flight, memory", Memory: true, InFlight: 1024, Write: 64, Ops: 400_000},
	{Name: "page of 500, 8 in flight, memory", Page: true, Memory: true, InFlight: 8, Ops: 6_000},
}

// file is the name as one of a file.
func (c *loadCase) file() string {
	return strings.NewReplacer(", ", "-", ",", "", " ", "-").Replace(c.Name)
}

// load is a connection with requests that are encoded already.
type load struct {
	net.Conn
	want messages.Command // of every answer

	frames []byte // as many requests of one size as are in flight, one behind the other
	size   int
	write  int // how many of them go into one write
	next   int // which of them is the next
	idAt   int // where in a frame a new event id goes, -1 for nowhere
	id     uint64

	in   []byte
	have int // bytes of in
}

// newLoad prepares the server behind conn, and requests for it.
func newLoad(conn net.Conn, c *loadCase) (*load, error) {
	l := &load{Conn: conn, in: make([]byte, 512<<10), idAt: -1, write: c.Write}
	if l.write == 0 {
		l.write = c.InFlight
	}
	mark := uuid.UUID{0xAA, 0xBB, 0xCC, 0xDD, 0xEE, 0xFF}
	event := messages.NewEvent{ID: mark, Type: "happened", ContentType: 1, Data: make([]byte, eventSize)}
	if c.Page {
		events := make([]messages.NewEvent, pageEvents)
		for i := range events {
			events[i] = event
			events[i].ID[15] = byte(i)
			events[i].ID[14] = byte(i >> 8)
		}
		if err := l.encode(&messages.Append{Stream: "page", Expected: -2, Events: events}, 1); err != nil {
			return nil, err
		}
		l.want = messages.WriteEventsCompleted
		if err := l.run(1); err != nil {
			return nil, err
		}
		l.want = messages.ReadStreamEventsForwardCompleted
		return l, l.encode(&messages.StreamRead{Stream: "page", Count: pageEvents, ResolveLinks: true}, c.InFlight)
	}
	l.want = messages.WriteEventsCompleted
	err := l.encode(&messages.Append{Stream: "append", Expected: -2, Events: []messages.NewEvent{event}}, c.InFlight)
	l.idAt = bytes.Index(l.frames, messages.AppendGUID(nil, mark)) + 8
	return l, err
}

// encode makes the frames.
func (l *load) encode(r messages.Request, n int) (err error) {
	l.frames, l.next = l.frames[:0], 0
	for i := range n {
		id := messages.ID{0: 1, 14: byte(i >> 8), 15: byte(i)}
		if l.frames, err = messages.AppendFrame(l.frames, id, nil, r); err != nil {
			return err
		}
	}
	l.size = len(l.frames) / n
	return nil
}

// run sends requests, as many unanswered as there are frames, and returns when all are answered.
func (l *load) run(ops int) error {
	n := min(ops, len(l.frames)/l.size)
	for sent, answered := 0, 0; answered < ops; {
		if n > 0 {
			if err := l.send(n); err != nil {
				return err
			}
			sent += n
		}
		more, err := l.receive()
		if err != nil {
			return err
		}
		answered += more
		n = min(more, ops-sent)
	}
	return nil
}

// send sends the next n requests, each append with an event id of its own.
func (l *load) send(n int) error {
	for n > 0 {
		first := l.next
		last := min(first+min(n, l.write), len(l.frames)/l.size)
		batch := l.frames[first*l.size : last*l.size]
		if l.idAt >= 0 {
			for at := l.idAt; at < len(batch); at += l.size {
				l.id++
				binary.LittleEndian.PutUint64(batch[at:], l.id)
			}
		}
		if _, err := l.Write(batch); err != nil {
			return err
		}
		n -= last - first
		l.next = last % (len(l.frames) / l.size)
	}
	return nil
}

// receive reads once and counts the answers that are complete by then.
func (l *load) receive() (answers int, err error) {
	n, err := l.Read(l.in[l.have:])
	if err != nil {
		return 0, err
	}
	l.have += n
	b := l.in[:l.have]
	for len(b) >= 4 {
		size := 4 + int(binary.LittleEndian.Uint32(b))
		if size > len(l.in) {
			return 0, fmt.Errorf("an answer of %d bytes", size)
		}
		if len(b) < size {
			break
		}
		if command := messages.Command(b[4]); command != messages.HeartbeatRequest { // what is sent anyway is a sign of life
			if err := l.check(command, b[4+18:size]); err != nil {
				return 0, err
			}
			answers++
		}
		b = b[size:]
	}
	l.have = copy(l.in, b)
	return answers, nil
}

// check looks whether an answer is that of a success: of a write by its first field, of a page by its size.
func (l *load) check(command messages.Command, body []byte) error {
	success := len(body) > 2 && body[0] == 1<<3 && body[1] == byte(messages.Success)
	if command != messages.WriteEventsCompleted {
		success = len(body) > pageEvents*eventSize
	}
	if command != l.want || !success {
		return fmt.Errorf("%s of %d bytes is not the answer", command, len(body))
	}
	return nil
}
