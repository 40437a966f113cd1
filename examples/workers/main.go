// Command workers has two processes share the orders of a stream, and kills one of them in the middle of an order: the other
// gets what was not acknowledged. It prints who did the order in the end, how many were done, and how many of them twice.
//
//	go run ./examples/workers                    # the embedded server, in this process
//	go run ./examples/workers -connect tcp://admin:changeit@127.0.0.1:1113
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/google/uuid"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/persistent"
	"github.com/goeventstore/eventstore/server"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	do := func() error { return run(ctx, os.Args[1:], os.Stdout) }
	if len(os.Args) > 1 && os.Args[1] == workerCommand { // run has started this process
		do = func() error { return work(ctx, os.Args[2:], os.Stdin, os.Stdout) }
	}
	err := do()
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "workers:", err)
		os.Exit(1)
	}
}

const (
	group       = "billing"
	fewest      = 100 // orders, so that each worker has some
	killedAt    = 10  // the order, of those that the first worker gets, in the middle of which it is killed
	embeddedURL = "tcp://admin:changeit@"
)

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("workers", flag.ContinueOnError)
	orders := flags.Int("orders", 1000, "how many orders to write, at least 100")
	target := flags.String("connect", "", "a running server, as tcp://user:password@host:port; empty: the embedded one")
	if err := flags.Parse(args); err != nil {
		return flag.ErrHelp // flag has said what is wrong
	}
	if *orders < fewest {
		return fmt.Errorf("%d orders are too few for two workers: %d at least", *orders, fewest)
	}
	if *target == "" {
		srv, err := server.Start(server.Config{})
		if err != nil {
			return err
		}
		defer func() { _ = srv.Close() }()
		*target = embeddedURL + srv.URL()[len("tcp://"):]
	}
	client, err := eventstore.Connect(ctx, *target)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()

	stream := "orders-" + uuid.NewString()
	if err := persistent.Create(ctx, client, stream, group, persistent.DefaultSettings()); err != nil {
		return err
	}
	defer func() { _ = persistent.Delete(context.WithoutCancel(ctx), client, stream, group) }()

	b := &book{orders: *orders, done: make(map[int64][]entry)}
	if err := pool(ctx, *target, stream, b, out, func() error { return write(ctx, client, stream, *orders) }); err != nil {
		return err
	}
	return b.report(out)
}

func write(ctx context.Context, client *eventstore.Client, stream string, n int) error {
	const batch = 500
	for first := 0; first < n; first += batch {
		events := make([]eventstore.EventData, min(batch, n-first))
		for i := range events {
			events[i] = eventstore.JSONEvent("ordered", map[string]int{"order": first + i})
		}
		if _, err := client.Append(ctx, stream, eventstore.ExpectedVersion(first-1), events); err != nil {
			return err
		}
	}
	return nil
}

// book is what the work has an effect on. An order may come twice, so it is entered by its number.
type book struct {
	orders int
	done   map[int64][]entry
	killed int64 // the order in the middle of which a worker was killed
}

// entry is that an order was done.
type entry struct{ worker, retries int }

func (b *book) enter(order int64, e entry) { b.done[order] = append(b.done[order], e) }

func (b *book) complete() bool { return len(b.done) == b.orders }

func (b *book) report(out io.Writer) error {
	twice := 0
	for _, entries := range b.done {
		if len(entries) > 1 {
			twice++
		}
	}
	e := b.done[b.killed][0]
	_, err := fmt.Fprintf(out, "order %d was done by worker %d, at retry %d\n%d of %d orders done, %d of them more than once\n",
		b.killed, e.worker, e.retries, len(b.done), b.orders, twice)
	return err
}
