package main

import (
	"fmt"

	"github.com/goeventstore/eventstore/bench/contend"
)

// Commands of groups.
const (
	cmdPing      = 0x03
	cmdPong      = 0x04
	cmdJoin      = 0xC5
	cmdJoined    = 0xC6
	cmdDelivered = 0xC7
	cmdAck       = 0xCC
)

// limitGroup is what a limit knows of its membership.
type limitGroup struct {
	name  []byte // the first field of an ack: what the server calls the subscription
	ready []byte // l0: the fields of an ack of all events, in their order
	ids   []byte // l1: the fields of the next ack
	taken int64  // messages
	event limitEvent
}

const ackField = 2 + eventIDSize

func appendAckID(b, id []byte) []byte { return append(append(b, 2<<3|2, eventIDSize), id...) }

func (l *limit) join() error {
	start := l.startFrame(cmdJoin, 0)
	l.out = text(text(l.out, 1, l.Group), 2, l.Stream)
	l.out = varint(append(l.out, 3<<3), uint64(l.InFlight))
	l.endFrame(start)
	if err := l.flush(); err != nil {
		return err
	}
	f, err := l.next()
	if err != nil {
		return err
	}
	for b := f[frameHead:]; len(b) > 0 && f[4] == cmdJoined; {
		num, _, bytes, rest, ok := field(b)
		if !ok {
			return errLimit
		}
		if b = rest; num == 2 {
			l.group.name = text(nil, 1, string(bytes))
		}
	}
	if l.group.name == nil {
		return fmt.Errorf("joining a group was answered by %#x", f[4])
	}
	for n := range l.Events {
		id := contend.ID(int64(n))
		id[0], id[1], id[2], id[3] = id[3], id[2], id[1], id[0] // the .NET order; behind them are zeros
		l.group.ready = appendAckID(l.group.ready, id[:])
	}
	return nil
}

// consume takes messages, and acknowledges those of one read in one frame.
func (l *limit) consume(turn *contend.Turn) (ops int64, err error) {
	for more := true; more; {
		first := l.group.taken
		for more = turn.Next(); more; more = turn.Next() {
			f, err := l.next()
			if err != nil {
				return ops, err
			}
			if err := l.take(f); err != nil {
				return ops, err
			}
			l.group.taken++
			if !l.buffered() {
				break
			}
		}
		l.ack(first)
		if err := l.flush(); err != nil {
			return ops, err
		}
		ops += l.group.taken - first
	}
	return ops, nil
}

// take takes a message.
func (l *limit) take(f []byte) error {
	if f[4] != cmdDelivered || len(f) < l.Size {
		return fmt.Errorf("a frame with command %#x and %d bytes in a group", f[4], len(f))
	}
	if !l.decode {
		return nil
	}
	e, retries := &l.group.event, uint64(0)
	*e = limitEvent{}
	for b := f[frameHead:]; len(b) > 0; {
		num, v, bytes, rest, ok := field(b)
		if !ok {
			return errLimit
		}
		switch b = rest; num {
		case 1:
			num, _, record, _, ok := field(bytes) // a link would follow it: there is none in what is read here
			if !ok || num != 1 || !e.decode(record) {
				return errLimit
			}
		case 2:
			retries = v
		}
	}
	if want := l.group.taken % int64(l.Events); retries > 0 || !contend.Check(want, e.number, e.data, l.Size) {
		return fmt.Errorf("message %d is %+v, retry %d", want, e, retries)
	}
	l.group.ids = appendAckID(l.group.ids, e.id[:])
	return nil
}

// ack acknowledges what was taken since first.
func (l *limit) ack(first int64) {
	for taken := l.group.taken; first < taken; {
		from := first % int64(l.Events)
		n := min(taken-first, int64(l.Events)-from)
		ids := l.group.ready[from*ackField : (from+n)*ackField]
		if l.decode {
			n, ids = taken-first, l.group.ids
		}
		start := l.startFrame(cmdAck, 0)
		l.out = append(append(l.out, l.group.name...), ids...)
		l.endFrame(start)
		first += n
	}
	l.group.ids = l.group.ids[:0]
}

// settle returns when the server has taken the acks, which the answer to a request behind them says.
func (l *limit) settle() error {
	l.endFrame(l.startFrame(cmdPing, 0))
	if err := l.flush(); err != nil {
		return err
	}
	for {
		f, err := l.next()
		if err != nil || f[4] == cmdPong {
			return err
		}
	}
}
