// Package listener keeps read models: it follows a stream, hands each event to a handler, in order and at least once, and
// remembers in a store how far it came, so that the next run goes on there. When the read model and the checkpoint are in one
// database, NewTx changes both in one transaction: exactly once.
//
// States of a Listener: idle, waiting (for the lease), following, retrying (the handler failed, its backoff runs), stopped (Run
// has returned; it may be called again).
//
//	idle, stopped -> waiting     Run, with a store that is a Leaser
//	idle, stopped,
//	waiting       -> following   Run has loaded the checkpoint and subscribed
//	following,
//	retrying      -> waiting     the lease is lost, or may be
//	following     -> retrying    the handler returned an error or panicked
//	retrying      -> following   it succeeded at last
//	any           -> stopped     ctx ended, Stop, the failure policy, or the subscription's end
//
// The checkpoint is saved behind events that the handler has finished with, never ahead of one. New saves it from time to
// time, NewTx with the effects: where events go is a sink, of which there are these two, and the loop is the same.
package listener

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/pause"
	"github.com/goeventstore/eventstore/subscription"
)

// Handler handles one event. An error or a panic has it called again with the same event, as Config.OnFailure says. It may be
// called with an event that it handled before, when a run ended before the checkpoint was saved.
type Handler func(ctx context.Context, e eventstore.ResolvedEvent) error

// Config says what to follow and where the checkpoint is kept.
type Config struct {
	Name       string                    // of the checkpoint. Default: Stream
	Stream     string                    // must not be empty
	From       eventstore.From           // without a checkpoint. Default: Start
	Store      Store                     // nil: memory, so that every process begins at From. NewTx has its own: nil
	SaveEvery  int                       // events; with NewTx those of a transaction, at most. Default 100
	SaveAfter  time.Duration             // with NewTx how long a transaction's events are gathered. Default 1 s
	Owner      string                    // with a Leaser: what people call this instance. Default: host, process and a random part
	LeaseTTL   time.Duration             // with a Leaser: how long others wait for an instance that is silent. Default 15 s
	OnFailure  Policy                    // default RetryForever
	Backoff    func() backoff.BackOff    // waits between the calls of a handler that fails; default 100 ms doubling to 30 s
	OnCaughtUp func(ctx context.Context) // all that was there is handled; again after each loss of the connection
	OnNotice   func(subscription.Notice) // what the subscription tells beside events
	Call       []eventstore.CallOption   // for the calls that it makes
}

// Policy says what to do about an event that the handler fails on.
type Policy struct{ attempts int }

// RetryForever calls the handler until it succeeds: nothing is skipped, and the listener stands until somebody mends what is
// broken. It is the zero Policy.
var RetryForever = Policy{}

// RetryThenStop ends Run with the handler's error after n calls, n at least 1. The checkpoint stays before the event.
func RetryThenStop(n int) Policy { return Policy{attempts: max(n, 1)} }

// PanicError is the error of a handler that panicked.
type PanicError struct {
	Value any
	Stack []byte
}

// Error shows the value, not the stack.
func (e *PanicError) Error() string { return fmt.Sprintf("the handler panicked: %v", e.Value) }

// Unwrap returns the value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// HandlerError ends Run when the policy's calls are spent.
type HandlerError struct {
	Stream   string // of the event's original record
	Number   int64
	Attempts int
	Err      error
}

// Error names the event.
func (e *HandlerError) Error() string {
	return fmt.Sprintf("handle event %d@%s, %d attempts: %v", e.Number, e.Stream, e.Attempts, e.Err)
}

// Unwrap returns the handler's error.
func (e *HandlerError) Unwrap() error { return e.Err }

// State is what a listener does.
type State int

// The states; see the package.
const (
	Idle State = iota
	Following
	Retrying
	Stopped
	Waiting
)

// String returns the state in a word.
func (s State) String() string {
	return [...]string{"idle", "following", "retrying", "stopped", "waiting"}[s]
}

// Status tells how a listener fares.
type Status struct {
	State      State
	Checkpoint eventstore.From // behind the last event that was handled, saved or not yet
	Handled    int64           // events, in this process; with NewTx those whose transaction is committed
	Failures   int64           // calls of the handler that failed; with NewTx also transactions that did
	LastError  error           // of the handler or of saving; nil once the next event is handled
}

// Listener follows one stream. Its methods are safe for concurrent use.
type Listener struct {
	client *eventstore.Client
	cfg    Config

	// makeSink makes the sink of a run that keeps its checkpoint in a store.
	makeSink func(Store) (sink, error)

	mu      sync.Mutex // guards what follows
	status  Status
	running bool
	stop    context.CancelFunc // of the run under way
}

// New makes a listener; Run starts it. The configuration is checked here.
func New(c *eventstore.Client, cfg Config, h Handler) (*Listener, error) {
	if cfg.Store == nil {
		cfg.Store = MemoryStore()
	}
	if h == nil {
		return nil, cfg.bad("no handler")
	}
	l, err := makeListener(c, cfg)
	if err != nil {
		return nil, err
	}
	l.makeSink = func(s Store) (sink, error) {
		return &handlerSink{name: l.cfg.Name, store: s, handle: h}, nil
	}
	return l, nil
}

// makeListener checks what New and NewTx have in common. The sinks are theirs.
func makeListener(c *eventstore.Client, cfg Config) (*Listener, error) {
	if cfg.Name == "" {
		cfg.Name = cfg.Stream
	}
	if cfg.SaveEvery == 0 {
		cfg.SaveEvery = 100
	}
	if cfg.SaveAfter == 0 {
		cfg.SaveAfter = time.Second
	}
	if cfg.Owner == "" {
		cfg.Owner = someOwner()
	}
	if cfg.LeaseTTL == 0 {
		cfg.LeaseTTL = 15 * time.Second
	}
	if cfg.Backoff == nil {
		cfg.Backoff = defaultBackoff
	}
	switch {
	case c == nil:
		return nil, cfg.bad("no client")
	case cfg.Stream == "":
		return nil, cfg.bad("the stream's name is empty")
	case cfg.SaveEvery < 0:
		return nil, cfg.bad("SaveEvery is negative")
	case cfg.SaveAfter < 0:
		return nil, cfg.bad("SaveAfter is negative")
	case cfg.LeaseTTL < 10*time.Millisecond:
		return nil, cfg.bad("LeaseTTL is below 10 ms")
	}
	return &Listener{client: c, cfg: cfg, status: Status{Checkpoint: cfg.From}}, nil
}

func (cfg Config) bad(what string) error {
	return fmt.Errorf("listener %q: %w: %s", cmp.Or(cfg.Name, cfg.Stream), eventstore.ErrArgument, what)
}

func defaultBackoff() backoff.BackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(100*time.Millisecond), backoff.WithMultiplier(2),
		backoff.WithMaxInterval(30*time.Second), backoff.WithMaxElapsedTime(0))
}

// Run follows the stream until ctx ends or Stop is called, and then returns nil once the checkpoint is saved. It returns an
// error when the checkpoint cannot be loaded or, at the end, saved; when the failure policy gives up (*HandlerError); and when
// the subscription ends: a hard-deleted stream, denied access, a closed client. One run at a time.
//
// With a store that is a Leaser it waits for the lease first, however long and whatever the store answers meanwhile, which is
// Status.LastError; only what time does not mend ends it. When the lease is lost it waits for it again.
func (l *Listener) Run(ctx context.Context) error {
	ctx, err := l.begin(ctx)
	if err != nil {
		return err
	}
	defer l.end()
	if store, ok := l.cfg.Store.(Leaser); ok {
		err = l.takeTurns(ctx, store)
	} else {
		err = l.work(ctx, l.cfg.Store)
	}
	if err == nil {
		return nil
	}
	err = fmt.Errorf("listener %q: %w", l.cfg.Name, err)
	l.update(func(s *Status) { s.LastError = err })
	return err
}

// work follows the stream from the store's checkpoint, and again from a checkpoint that somebody else has moved back.
func (l *Listener) work(ctx context.Context, store Store) error {
	to, err := l.makeSink(store)
	if err != nil {
		return err
	}
	waits := l.cfg.Backoff()
	for {
		err := l.follow(ctx, store, to)
		if !errors.Is(err, errMoved) {
			return err
		}
		d := waits.NextBackOff()
		if d == backoff.Stop {
			return err
		}
		l.update(func(s *Status) { s.LastError = err })
		if err := pause.For(ctx, d); err != nil {
			return unlessEnded(ctx, err)
		}
	}
}

func (l *Listener) follow(ctx context.Context, store Store, to sink) error {
	from, err := store.Load(ctx, l.cfg.Name)
	fresh := errors.Is(err, ErrNoCheckpoint)
	switch {
	case fresh:
		from = l.cfg.From
	case err != nil:
		return unlessEnded(ctx, fmt.Errorf("load the checkpoint: %w", err))
	}
	r := run{Listener: l, sink: to, wait: ctx, rest: func() {}}
	r.sub, err = subscription.Open(ctx, l.client, subscription.Config{
		Stream: l.cfg.Stream, From: from, Call: l.cfg.Call, OnNotice: func(n subscription.Notice) { r.notice(ctx, n) },
	})
	if err != nil {
		return unlessEnded(ctx, err)
	}
	defer func() { _ = r.sub.Close() }()
	r.done = r.sub.Checkpoint()
	l.update(func(s *Status) { s.State, s.Checkpoint = Following, r.done })
	if fresh {
		if err := to.begin(ctx, from, r.done); err != nil {
			return unlessEnded(ctx, err)
		}
	}
	err = unlessEnded(ctx, r.loop(ctx))
	if errors.Is(err, errLost) || errors.Is(context.Cause(ctx), errLost) {
		return err // nothing is saved any more
	}
	// The last save must happen although ctx has ended, and must not take for ever.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastSave)
	defer cancel()
	saved := r.save(last)
	if err != nil && errors.Is(saved, errLost) {
		return err // another instance goes on; why this one ends is what matters
	}
	return errors.Join(err, saved)
}

// lastSave is how long the save at the end of a run may take, and a transaction that is under way then.
const lastSave = 5 * time.Second

// unlessEnded tells an error from the end of the context, which is what Run waits for. A connection that was being replaced
// then is not why Run ends.
func unlessEnded(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil && (errors.Is(err, ctx.Err()) || errors.Is(err, eventstore.ErrConnectionLost)) {
		return nil
	}
	return err
}

func (l *Listener) begin(ctx context.Context) (context.Context, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running {
		return nil, fmt.Errorf("listener %q: it is running already", l.cfg.Name)
	}
	l.running = true
	ctx, l.stop = context.WithCancel(ctx)
	return ctx, nil
}

func (l *Listener) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stop()
	l.running, l.stop = false, nil
	l.status.State = Stopped
}

// Stop has Run save the checkpoint and return. It does not wait for that, and may be called from the handler, whose event
// then still counts as handled if it returns nil.
func (l *Listener) Stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stop != nil {
		l.stop()
	}
}

// Status returns how the listener fares.
func (l *Listener) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.status
}

func (l *Listener) update(f func(*Status)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(&l.status)
}
