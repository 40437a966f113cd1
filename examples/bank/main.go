// Command bank writes the events of bank accounts to a stream and keeps their balances with a listener while they are
// written, then prints the balances and how fast it went.
//
//	go run ./examples/bank                    # the embedded server, in this process
//	go run ./examples/bank -connect tcp://admin:changeit@127.0.0.1:1113
//	go run ./examples/bank -db here           # the embedded server with its log in a folder
//	go run ./examples/bank -connect tcp://admin:changeit@127.0.0.1:1113 -db here
//
// With -db the balances and the listener's checkpoint are in one file and change in one transaction, and the embedded server's
// log is in the same folder: a run that was killed is
// finished by the next start with the same folder, and ends with the balances that it would have had.
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
	folder := flags.String("db", "", "a folder for the balances, and for the log of the embedded server, where the next start goes on")
	if err := flags.Parse(args); err != nil {
		return flag.ErrHelp // flag has said what is wrong
	}
	if *events < 1 {
		return fmt.Errorf("-events %d: want at least 1", *events)
	}
	if *target == "" {
		srv, err := server.Start(server.Config{DB: *folder})
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

	p := plan{Stream: "bank-" + uuid.NewString(), Seed: *seed, Events: *events}
	var model readModel = balances{}
	projected := 0
	if *folder != "" {
		d, err := openDisk(*folder)
		if err != nil {
			return err
		}
		defer func() { _ = d.Close() }()
		if p, projected, err = d.begin(ctx, p, given(flags)); err != nil {
			return err
		}
		model = d
	}
	return execute(ctx, client, p, model, projected, out)
}

// plan is what makes one run differ from another.
type plan struct {
	Stream string `json:"stream"`
	Seed   uint64 `json:"seed"`
	Events int    `json:"events"`
}

func (p plan) isLast(e *eventstore.Event) bool { return e.Number == int64(p.Events)-1 }

// given returns the names of the flags that were set.
func given(flags *flag.FlagSet) map[string]bool {
	names := make(map[string]bool)
	flags.Visit(func(f *flag.Flag) { names[f.Name] = true })
	return names
}

// readModel keeps the accounts, in memory or on disk.
type readModel interface {
	follow(ctx context.Context, client *eventstore.Client, p plan) error
	accounts() (map[string]*account, error)
}

// execute writes what the plan's stream does not have yet, while the read model follows, which has projected some of it.
func execute(ctx context.Context, client *eventstore.Client, p plan, model readModel, projected int, out io.Writer) error {
	written, err := length(ctx, client, p.Stream)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "stream %s\n", p.Stream)
	if written > 0 || projected > 0 {
		fmt.Fprintf(out, "goes on: of %d events %d are written, %d projected\n", p.Events, written, projected)
	}
	fmt.Fprintln(out)

	start := time.Now()
	followed := make(chan error, 1) // one value, when the read model has ended
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { followed <- model.follow(ctx, client, p) }()
	if err := write(ctx, client, p, written); err != nil {
		cancel()
		<-followed
		return err
	}
	wrote := time.Since(start)
	if err := <-followed; err != nil {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	took := time.Since(start)
	accounts, err := model.accounts()
	if err != nil {
		return err
	}
	if err := report(out, accounts, p.Events); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "wrote %d events in %v (%s), projected in %v (%s)\n", p.Events-written,
		wrote.Round(time.Millisecond), rate(p.Events-written, wrote), took.Round(time.Millisecond), rate(p.Events-projected, took))
	return err
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

// length returns how many events a stream has.
func length(ctx context.Context, client *eventstore.Client, stream string) (int, error) {
	last, err := client.ReadEvent(ctx, stream, eventstore.End)
	if errors.Is(err, eventstore.ErrStreamNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return int(last.Event.Number) + 1, nil
}

// batchSize is how many events travel in one append.
const batchSize = 500

// write appends the events of the plan but for those that are written, in batches, each expecting exactly what the one before
// left. A process that was killed may have left a batch on its way, which the server takes after this one has looked: an
// event's id is made of its place, so that the server knows the batch again, and does not refuse it or take it twice.
func write(ctx context.Context, client *eventstore.Client, p plan, written int) error {
	b := newBank(p.Seed, p.Events)
	for range written {
		b.next()
	}
	for written < p.Events {
		var batch []eventstore.EventData
		for len(batch) < batchSize {
			e, ok := b.next()
			if !ok {
				break
			}
			e.ID = uuid.NewSHA1(uuid.NameSpaceURL, fmt.Appendf(nil, "%s/%d", p.Stream, written+len(batch)))
			batch = append(batch, e)
		}
		if _, err := client.Append(ctx, p.Stream, eventstore.ExpectedVersion(written-1), batch); err != nil {
			return err
		}
		written += len(batch)
	}
	return nil
}
