package main

import (
	"context"
	"net"
	"sync"
	"sync/atomic"

	"github.com/goeventstore/eventstore"
)

// callers are a client of this library on one connection, with goroutines that append one event after the other.
type callers struct {
	client *eventstore.Client
	n      int
}

func newCallers(conn net.Conn, c *loadCase) (*callers, error) {
	client, err := eventstore.Connect(context.Background(), "tcp://"+conn.RemoteAddr().String(),
		eventstore.WithDialer(func(context.Context, string, string) (net.Conn, error) { return conn, nil }))
	return &callers{client, c.InFlight}, err
}

// run makes so many appends and returns when all are answered, or one has failed.
func (c *callers) run(ops int) error {
	left := atomic.Int64{}
	left.Store(int64(ops))
	errs := make(chan error, c.n)
	var all sync.WaitGroup
	for range c.n {
		all.Go(func() {
			events := []eventstore.EventData{{Type: "happened", JSON: true, Data: make([]byte, eventSize)}}
			for left.Add(-1) >= 0 {
				if _, err := c.client.Append(context.Background(), "append", eventstore.Any, events); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	all.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}
