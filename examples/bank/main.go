// Command bank writes the events of bank accounts, each to a stream of its own, and keeps their balances with a listener
// while they are written, then prints the balances and how fast it went. The listener follows them all in one stream: that of
// their category, which the server's projections make.
//
//	go run ./examples/bank                    # the embedded server, in this process
//	go run ./examples/bank -connect tcp://admin:changeit@127.0.0.1:1113
//	go run ./examples/bank -db here           # the embedded server with its log in a folder
//	go run ./examples/bank -connect tcp://admin:changeit@127.0.0.1:1113 -db here
//
// With -db the balances and the listener's checkpoint are in one file and change in one transaction, and the embedded server's
// log is in the same folder: a run that was killed is
// finished by the next start with the same folder, and ends with the balances that it would have had.
//
// A server of yours has to have its system projections running, as one does with --run-projections=System
// --start-standard-projections=true, or eventstore serve with --projections system.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/server"
	"github.com/goeventstore/eventstore/subscription"
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
		srv, err := server.Start(server.Config{DB: *folder, Projections: true})
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

	category := "bank" + strings.ReplaceAll(uuid.NewString(), "-", "") // a category ends at the first dash
	p := plan{Category: category, Seed: *seed, Events: *events}
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
	Category string `json:"category"`
	Seed     uint64 `json:"seed"`
	Events   int    `json:"events"`
}

// stream is where the events of an account are.
func (p plan) stream(account string) string { return p.Category + "-" + account }

// index is the stream of links to the events of all accounts, in the order of the log.
func (p plan) index() string { return "$ce-" + p.Category }

// isLast reports the last event of all: the links to them are numbered.
func (p plan) isLast(e eventstore.ResolvedEvent) bool {
	return e.Original().Number == int64(p.Events)-1
}

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

// execute writes what the streams do not have yet, while the read model follows, which has projected some of it.
func execute(ctx context.Context, client *eventstore.Client, p plan, model readModel, projected int, out io.Writer) error {
	lengths, written, err := lengthsOf(ctx, client, p)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "category %s\n", p.Category)
	if written > 0 || projected > 0 {
		fmt.Fprintf(out, "goes on: of %d events %d are written, %d projected\n", p.Events, written, projected)
	}
	fmt.Fprintln(out)

	start := time.Now()
	followed := make(chan error, 1) // one value, when the read model has ended
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { followed <- model.follow(ctx, client, p) }()
	err = write(ctx, client, p, lengths)
	wrote := time.Since(start)
	if err == nil {
		err = projections(ctx, client, p)
	}
	if err != nil {
		cancel()
		<-followed
		return err
	}
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

// projectionTime is how long the server may take for the first link. A test has less patience.
var projectionTime = 10 * time.Second

// projections waits for the first link: a server without projections makes none, and the read model would wait for ever.
func projections(ctx context.Context, client *eventstore.Client, p plan) error {
	wait, cancel := context.WithTimeout(ctx, projectionTime)
	defer cancel()
	s, err := subscription.Open(wait, client, subscription.Config{Stream: p.index()})
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	if _, err := s.Recv(wait); err != nil {
		if ctx.Err() == nil && wait.Err() != nil {
			err = fmt.Errorf("nothing came to %s within %v: are the server's system projections running?", p.index(), projectionTime)
		}
		return err
	}
	return nil
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

// lengthsOf returns how many events each account has, and all of them.
func lengthsOf(ctx context.Context, client *eventstore.Client, p plan) (lengths map[string]int, all int, err error) {
	lengths = make(map[string]int)
	for i := range accounts {
		name := accountName(i)
		last, err := client.LastEvent(ctx, p.stream(name))
		switch {
		case errors.Is(err, eventstore.ErrStreamNotFound):
			continue
		case err != nil:
			return nil, 0, err
		}
		lengths[name] = int(last.Event.Number) + 1
		all += lengths[name]
	}
	return lengths, all, nil
}

// batchSize is how many events are written at a time, those of one account in one append.
const batchSize = 500

// write appends the events of the plan but for those that are written, in batches, each expecting exactly what the one before
// left. A process that was killed may have left a batch on its way, which the server takes after this one has looked: the
// batches are always the same, and an event's id is made of its place, so that the server knows the batch again, and does not
// refuse it or take it twice.
func write(ctx context.Context, client *eventstore.Client, p plan, written map[string]int) error {
	b := newBank(p.Seed, p.Events)
	passed := make(map[string]int) // events of each account in the batches before
	for begun := 0; begun < p.Events; begun += batchSize {
		batch := make(map[string][]eventstore.EventData)
		for range min(batchSize, p.Events-begun) {
			account, e := b.next()
			number := passed[account] + len(batch[account])
			e.ID = uuid.NewSHA1(uuid.NameSpaceURL, fmt.Appendf(nil, "%s/%d", p.stream(account), number))
			batch[account] = append(batch[account], e)
		}
		var pending []*eventstore.PendingWrite
		for account, events := range batch {
			first := passed[account]
			passed[account] += len(events)
			if first >= written[account] {
				pending = append(pending, client.AppendAsync(ctx, p.stream(account), eventstore.ExpectedVersion(first-1), events))
			}
		}
		for _, w := range pending {
			if _, err := w.Wait(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}
