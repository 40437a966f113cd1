// Command gesclient is the peer among the contenders: github.com/jdextraze/go-gesclient. It is a module of its own, so
// that the peer keeps the dependencies that it was released with, and is run by the program in the folder above.
package main

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"sync"
	"time"

	gesclient "github.com/jdextraze/go-gesclient"
	"github.com/jdextraze/go-gesclient/client"
	"github.com/jdextraze/go-gesclient/tasks"
	uuid "github.com/satori/go.uuid"

	"github.com/goeventstore/eventstore/bench/contend"
)

func main() {
	if err := contend.Main(connect); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "gesclient:", err)
		os.Exit(1)
	}
}

type load struct {
	*contend.Task
	conn   client.Connection
	data   []byte
	member *member // of a group
}

func connect(t *contend.Task) (contend.Load, error) {
	uri := &url.URL{Scheme: "tcp", Host: t.Addr, User: url.UserPassword(t.User, t.Password)}
	conn, err := gesclient.Create(client.CreateConnectionSettings().Build(), uri, "bench")
	if err != nil {
		return nil, err
	}
	connected := make(chan struct{}, 1)
	err = conn.Connected().Add(func(client.Event) error {
		connected <- struct{}{}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := conn.ConnectAsync().Wait(); err != nil {
		return nil, err
	}
	select {
	case <-connected:
	case <-time.After(10 * time.Second):
		return nil, errors.New("no connection within 10 s")
	}
	l := &load{Task: t, conn: conn, data: contend.Data(0, t.Size)}
	if t.Group != "" {
		err = l.join()
	}
	return l, err
}

func (l *load) Close() error { return l.conn.Close() }

func (l *load) Run(turn *contend.Turn) (int64, error) {
	switch {
	case l.member != nil:
		return l.member.run(turn)
	case l.Read:
		return l.read(turn)
	case l.Async:
		return l.appendAsync(turn)
	}
	return l.append(turn)
}

func (l *load) start() (*tasks.Task, error) {
	id, err := uuid.NewV4()
	if err != nil {
		return nil, err
	}
	events := []*client.EventData{client.NewEventData(id, contend.EventType, true, l.data, nil)}
	return l.conn.AppendToStreamAsync(l.Stream, client.ExpectedVersion_Any, events, nil)
}

func finish(t *tasks.Task) error {
	if err := t.Wait(); err != nil {
		return err
	}
	if _, ok := t.Result().(*client.WriteResult); !ok {
		return fmt.Errorf("the result of an append is %v", t.Result())
	}
	return nil
}

// append is InFlight callers that wait.
func (l *load) append(turn *contend.Turn) (int64, error) {
	done := make([]int64, l.InFlight)
	failed := make([]error, l.InFlight)
	var group sync.WaitGroup
	for i := range l.InFlight {
		group.Go(func() {
			for turn.Next() {
				start := time.Now()
				t, err := l.start()
				if err == nil {
					err = finish(t)
				}
				if err != nil {
					failed[i] = err
					return
				}
				if l.InFlight == 1 {
					turn.Took(time.Since(start))
				}
				done[i]++
			}
		})
	}
	group.Wait()
	var ops int64
	for _, n := range done {
		ops += n
	}
	return ops, errors.Join(failed...)
}

// appendAsync is one caller with InFlight tasks.
func (l *load) appendAsync(turn *contend.Turn) (ops int64, err error) {
	ring := make([]*tasks.Task, l.InFlight)
	for i := 0; turn.Next(); i = (i + 1) % len(ring) {
		if ring[i] != nil {
			if err := finish(ring[i]); err != nil {
				return ops, err
			}
			ops++
		}
		if ring[i], err = l.start(); err != nil {
			return ops, err
		}
	}
	for _, t := range ring {
		if t == nil {
			continue
		}
		if err := finish(t); err != nil {
			return ops, err
		}
		ops++
	}
	return ops, nil
}

func (l *load) read(turn *contend.Turn) (ops int64, err error) {
	for turn.Next() {
		next := 0
		for n := int64(0); n < int64(l.Events); {
			t, err := l.conn.ReadStreamEventsForwardAsync(l.Stream, next, l.Page, true, nil)
			if err != nil {
				return ops, err
			}
			if err := t.Wait(); err != nil {
				return ops, err
			}
			page, ok := t.Result().(*client.StreamEventsSlice)
			if !ok || len(page.Events()) == 0 {
				return ops, fmt.Errorf("the page from %d is %v", next, t.Result())
			}
			for _, r := range page.Events() {
				e := r.Event()
				if !contend.Check(n, int64(e.EventNumber()), e.Data(), l.Size) {
					return ops, fmt.Errorf("event %d is %v", n, e)
				}
				n++
			}
			next = page.NextEventNumber()
			ops += int64(len(page.Events()))
		}
	}
	return ops, nil
}
