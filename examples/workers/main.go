// Command workers has two members of a group work on a stream of orders, and kills one of them in the middle of an order: the
// other gets what was not acknowledged. It prints how many orders were done, and how many of them twice.
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
	"sync"

	"github.com/google/uuid"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/persistent"
	"github.com/goeventstore/eventstore/server"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "workers:", err)
		os.Exit(1)
	}
}

const group = "billing"

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("workers", flag.ContinueOnError)
	orders := flags.Int("orders", 1000, "how many orders to write")
	target := flags.String("connect", "", "a running server, as tcp://user:password@host:port; empty: the embedded one")
	if err := flags.Parse(args); err != nil {
		return flag.ErrHelp // flag has said what is wrong
	}
	if *target == "" {
		srv, err := server.Start(server.Config{})
		if err != nil {
			return err
		}
		defer func() { _ = srv.Close() }()
		*target = "tcp://admin:changeit@" + srv.URL()[len("tcp://"):]
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
	if err := write(ctx, client, stream, *orders); err != nil {
		return err
	}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	b := &book{orders: *orders, done: make(map[int64]int), all: cancel}
	killed, err := eventstore.Connect(ctx, *target) // as another process would
	if err != nil {
		return err
	}
	var crew sync.WaitGroup
	crew.Go(func() {
		n := 0
		err := work(ctx, killed, stream, 1, func(m *persistent.Message) error {
			if n++; n == 10 {
				_ = killed.Close() // the process ends here, with this order and those that wait for it
				return nil
			}
			return b.enter(m)
		})
		fmt.Fprintln(out, "one worker was killed in the middle of an order:", err)
	})
	err = work(ctx, client, stream, 8, b.enter)
	crew.Wait()
	_ = killed.Close()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%d of %d orders done, %d of them more than once\n", len(b.done), *orders, b.twice())
	return err
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

// work is a member with its workers. Whoever runs it again goes on.
func work(ctx context.Context, client *eventstore.Client, stream string, workers int, do func(m *persistent.Message) error) error {
	member, err := persistent.Join(ctx, client, persistent.Config{Stream: stream, Group: group, Window: 64})
	if err != nil {
		return err
	}
	defer func() { _ = member.Close() }()
	return member.Run(ctx, workers, func(_ context.Context, m *persistent.Message) error {
		if m.Retries > 3 {
			return &persistent.NackError{Action: persistent.Park, Reason: "three times is enough"}
		}
		return do(m)
	})
}

// book is what the work has an effect on. An order may come twice, so it is entered by its number.
type book struct {
	orders int
	all    func() // called when all are done

	mu   sync.Mutex
	done map[int64]int // how often each order was done
}

func (b *book) enter(m *persistent.Message) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.done[m.Event.Number]++; len(b.done) == b.orders {
		b.all()
	}
	return nil
}

func (b *book) twice() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, times := range b.done {
		if times > 1 {
			n++
		}
	}
	return n
}
