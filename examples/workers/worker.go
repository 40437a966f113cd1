package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/persistent"
)

// workerCommand is the first argument of a process that is a worker.
const workerCommand = "worker"

// What a worker says, a line each, with the order and its retry count.
const (
	lineFormat = "%s %d %d\n"
	saysReady  = "ready" // it has joined
	saysBegun  = "begun" // an order that it will not finish
	saysDone   = "done"
)

// work is a worker: a member of the group, until in ends, which it also does when the process that holds it dies. Whoever runs it
// again goes on.
func work(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	flags := flag.NewFlagSet("workers "+workerCommand, flag.ContinueOnError)
	target := flags.String("connect", "", "a running server")
	stream := flags.String("stream", "", "the stream of the orders")
	stuck := flags.Int64("stuck", 0, "which order to begin and never to finish; 0 for none")
	if err := flags.Parse(args); err != nil {
		return flag.ErrHelp
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, in)
		cancel()
	}()
	client, err := eventstore.Connect(ctx, *target)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	member, err := persistent.Join(ctx, client, persistent.Config{Stream: *stream, Group: group, Window: 64})
	if err != nil {
		return err
	}
	defer func() { _ = member.Close() }()
	if _, err := fmt.Fprintf(out, lineFormat, saysReady, 0, 0); err != nil {
		return err
	}
	var n atomic.Int64
	return member.Run(ctx, 4, func(ctx context.Context, m *persistent.Message) error {
		if m.Retries > 3 {
			return &persistent.NackError{Action: persistent.Park, Reason: "three times is enough"}
		}
		if n.Add(1) == *stuck {
			_, _ = fmt.Fprintf(out, lineFormat, saysBegun, m.Event.Number, m.Retries)
			<-ctx.Done() // the process is killed here, with this order and those that wait for it
			return ctx.Err()
		}
		_, err := fmt.Fprintf(out, lineFormat, saysDone, m.Event.Number, m.Retries) // one write: lines of several goroutines do not mix
		return err
	})
}
