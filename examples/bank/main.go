// Command bank writes the events of bank accounts to a stream and keeps their balances with a listener while they are
// written, then prints the balances and how fast it went.
//
//	go run ./examples/bank                    # the embedded server, in this process
//	go run ./examples/bank -connect tcp://admin:changeit@127.0.0.1:1113
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/google/uuid"

	"github.com/goeventstore/eventstore"
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
		fmt.Fprintln(os.Stderr, "bank:", err)
		os.Exit(1)
	}
}

// connectTime is how long a server may take to answer the first time.
const connectTime = 5 * time.Second

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("bank", flag.ContinueOnError)
	events := flags.Int("events", 100_000, "how many events to write")
	seed := flags.Uint64("seed", 1, "fixes the accounts, the amounts and their order")
	target := flags.String("connect", "", "a running server, as tcp://user:password@host:port; empty: the embedded one")
	if err := flags.Parse(args); err != nil {
		return flag.ErrHelp // flag has said what is wrong
	}
	if *events < 1 {
		return fmt.Errorf("-events %d: want at least 1", *events)
	}
	if *target == "" {
		srv, err := server.Start(server.Config{})
		if err != nil {
			return err
		}
		defer func() { _ = srv.Close() }()
		*target = "tcp://admin:changeit@" + srv.URL()[len("tcp://"):]
	}
	client, err := connect(ctx, *target)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()

	stream := "bank-" + uuid.NewString()
	if _, err := fmt.Fprintf(out, "stream %s\n\n", stream); err != nil {
		return err
	}
	start := time.Now()
	projection := newBalances()
	projected := make(chan error, 1) // one value, when the projection has ended
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { projected <- projection.follow(ctx, client, stream, int64(*events)) }()
	if err := write(ctx, client, stream, newBank(*seed, *events)); err != nil {
		cancel()
		<-projected
		return err
	}
	wrote := time.Since(start)
	if err := <-projected; err != nil {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return projection.report(out, *events, wrote, time.Since(start))
}

func connect(ctx context.Context, target string) (*eventstore.Client, error) {
	parsed, err := eventstore.ParseTarget(target)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	client, err := eventstore.Connect(ctx, target, eventstore.WithName("bank"))
	if err != nil {
		return nil, fmt.Errorf("no EventStore server answers at %s: %w", parsed.Addr, err)
	}
	return client, nil
}

// batchSize is how many events travel in one append.
const batchSize = 500

// write appends the bank's events in batches, each expecting exactly what the one before left.
func write(ctx context.Context, client *eventstore.Client, stream string, b *bank) error {
	expected := eventstore.NoStream
	for {
		var batch []eventstore.EventData
		for len(batch) < batchSize {
			e, ok := b.next()
			if !ok {
				break
			}
			batch = append(batch, e)
		}
		if len(batch) == 0 {
			return nil
		}
		result, err := client.Append(ctx, stream, expected, batch)
		if err != nil {
			return err
		}
		expected = result.Last
	}
}
