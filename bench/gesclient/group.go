package main

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/jdextraze/go-gesclient/client"

	"github.com/goeventstore/eventstore/bench/contend"
)

// member is a persistent subscription with the peer's own acks, one for each event behind the handler.
type member struct {
	load  *load
	ready chan struct{} // closed when the subscription is there: with an ack before that the peer can panic
	turns chan *contend.Turn
	ends  chan error // of turns

	turn  *contend.Turn // of the handler
	taken int64
	ops   atomic.Int64 // of the turn
}

func (l *load) join() error {
	m := &member{load: l, ready: make(chan struct{}), turns: make(chan *contend.Turn), ends: make(chan error)}
	dropped := func(_ client.PersistentSubscription, reason client.SubscriptionDropReason, err error) error {
		m.ends <- errors.Join(fmt.Errorf("dropped: %s", reason), err)
		return nil
	}
	t, err := l.conn.ConnectToPersistentSubscriptionAsync(l.Stream, l.Group, m.appeared, dropped, nil, l.InFlight, true)
	if err == nil {
		err = t.Wait()
	}
	l.member = m
	close(m.ready)
	return err
}

// appeared is called for one event at a time. When a turn is over it keeps its event until the next one begins: all events
// before are acknowledged then.
func (m *member) appeared(_ client.PersistentSubscription, r *client.ResolvedEvent) error {
	<-m.ready
	for m.turn == nil || !m.turn.Next() {
		if m.turn != nil {
			m.ends <- nil
		}
		m.turn = <-m.turns
	}
	e := r.Event()
	if want := m.taken % int64(m.load.Events); !contend.Check(want, int64(e.EventNumber()), e.Data(), m.load.Size) {
		return fmt.Errorf("message %d is %v", want, e)
	}
	m.taken++
	m.ops.Add(1)
	return nil
}

// run returns when the turn is over and the server has taken the acks, which the answer to a request behind them says.
func (m *member) run(turn *contend.Turn) (int64, error) {
	m.ops.Store(0)
	m.turns <- turn
	if err := <-m.ends; err != nil {
		return m.ops.Load(), err
	}
	t, err := m.load.conn.ReadStreamEventsForwardAsync(m.load.Stream, 0, 1, false, nil)
	if err == nil {
		err = t.Wait()
	}
	if err == nil && t.Result() == nil {
		err = errors.New("a read without a result")
	}
	return m.ops.Load(), err
}
