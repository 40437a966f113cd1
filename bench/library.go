package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/bench/contend"
	"github.com/goeventstore/eventstore/persistent"
)

// libraryLoad is this library, used as a program would: with credentials, retries, a context that can end, and event ids
// that the library makes.
type libraryLoad struct {
	*contend.Task
	client *eventstore.Client
	ctx    context.Context //nolint:containedctx // of all that the process does
	cancel context.CancelFunc
	events []eventstore.EventData
	group  *persistent.Group
	taken  int64 // messages of the group
}

func newLibrary(t *contend.Task) (contend.Load, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	c, err := eventstore.Connect(ctx, "tcp://"+t.Addr, eventstore.WithCredentials(t.User, t.Password))
	if err != nil {
		cancel()
		return nil, err
	}
	events := []eventstore.EventData{{Type: contend.EventType, JSON: true, Data: contend.Data(0, t.Size)}}
	l := &libraryLoad{Task: t, client: c, ctx: ctx, cancel: cancel, events: events}
	if t.Group != "" {
		if err := l.join(); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	return l, nil
}

func (l *libraryLoad) Close() (err error) {
	defer l.cancel()
	if l.group != nil {
		err = l.group.Close()
	}
	return errors.Join(err, l.client.Close())
}

func (l *libraryLoad) Run(turn *contend.Turn) (int64, error) {
	switch {
	case l.group != nil:
		return l.consume(turn)
	case l.Read:
		return l.read(turn)
	case l.Async:
		return l.appendAsync(turn)
	}
	return l.append(turn)
}

// append is InFlight callers that wait.
func (l *libraryLoad) append(turn *contend.Turn) (int64, error) {
	done := make([]int64, l.InFlight)
	failed := make([]error, l.InFlight)
	var group sync.WaitGroup
	for i := range l.InFlight {
		group.Go(func() { done[i], failed[i] = l.caller(turn) })
	}
	group.Wait()
	var ops int64
	for _, n := range done {
		ops += n
	}
	return ops, errors.Join(failed...)
}

func (l *libraryLoad) caller(turn *contend.Turn) (ops int64, err error) {
	for turn.Next() {
		var start time.Time
		if l.InFlight == 1 {
			start = time.Now()
		}
		if _, err := l.client.Append(l.ctx, l.Stream, eventstore.Any, l.events); err != nil {
			return ops, err
		}
		if l.InFlight == 1 {
			turn.Took(time.Since(start))
		}
		ops++
	}
	return ops, nil
}

// appendAsync is one caller with InFlight pending appends.
func (l *libraryLoad) appendAsync(turn *contend.Turn) (ops int64, err error) {
	ring := make([]*eventstore.PendingWrite, l.InFlight)
	for i := 0; turn.Next(); i = (i + 1) % len(ring) {
		if ring[i] != nil {
			if _, err := ring[i].Wait(l.ctx); err != nil {
				return ops, err
			}
			ops++
		}
		ring[i] = l.client.AppendAsync(l.ctx, l.Stream, eventstore.Any, l.events)
	}
	for _, p := range ring {
		if p == nil {
			continue
		}
		if _, err := p.Wait(l.ctx); err != nil {
			return ops, err
		}
		ops++
	}
	return ops, nil
}

func (l *libraryLoad) read(turn *contend.Turn) (ops int64, err error) {
	options := []eventstore.ReadOption{eventstore.PageSize(l.Page)}
	if !l.Owned {
		options = append(options, eventstore.Borrowed())
	}
	for turn.Next() {
		n := int64(0)
		for e, err := range l.client.ReadStream(l.ctx, l.Stream, eventstore.Start, options...) {
			if err != nil {
				return ops, err
			}
			if !contend.Check(n, e.Event.Number, e.Event.Data, l.Size) {
				return ops, fmt.Errorf("event %d is %+v", n, e.Event)
			}
			n++
		}
		if n != int64(l.Events) {
			return ops, fmt.Errorf("a stream of %d events, want %d", n, l.Events)
		}
		ops += n
	}
	return ops, nil
}
