package main

import (
	"fmt"

	"github.com/goeventstore/eventstore/bench/contend"
	"github.com/goeventstore/eventstore/persistent"
)

// join makes a member of the library, which has acks sent together as it does without being told.
func (l *libraryLoad) join() (err error) {
	l.group, err = persistent.Join(l.ctx, l.client, persistent.Config{Stream: l.Stream, Group: l.Group, Window: l.InFlight})
	return err
}

func (l *libraryLoad) consume(turn *contend.Turn) (ops int64, err error) {
	for turn.Next() {
		m, err := l.group.Recv(l.ctx)
		if err != nil {
			return ops, err
		}
		if want := l.taken % int64(l.Events); m.Retries > 0 || !contend.Check(want, m.Event.Number, m.Event.Data, l.Size) {
			return ops, fmt.Errorf("message %d is %+v, retry %d", want, m.Event, m.Retries)
		}
		if err := l.group.Ack(l.ctx, m); err != nil {
			return ops, err
		}
		l.taken++
		ops++
	}
	return ops, nil
}
