// Package listener keeps read models: it follows a stream, hands each event to a handler, in order and at least once, and
// remembers in a store how far it came, so that the next run goes on there. When the read model and the checkpoint are in one
// database, NewTx changes both in one transaction: exactly once. NewBatch hands over many events at a time, and Config.Parallel
// handles those of different keys at once.
//
// What is followed is a stream: one of the application's, a category ($ce-account) or an event type ($et-opened) as the server's
// projections keep them, or eventstore.All. Where there are no projections, All with a Filter of StreamPrefix("account-") has the events
// of a category, with these differences: reading $all is for administrators by default, and a user who may read $ce-account gets
// ErrAccessDenied; the checkpoint is a position and not a number, so that one does not go on where the other was; an event is its own
// record and has no Link; and events of deleted and truncated streams are delivered until a scavenge has removed them, while
// $ce- delivers their links, with Event nil. Without a Filter, All has every link that projections write as well, resolved, and the
// events that a store of checkpoints writes.
//
// States of a Listener: idle (not begun, or subscribing), waiting (for the lease), following, retrying (the handler failed, its backoff runs; with Parallel: of
// one key), paused, stopped (Run has returned; it may be called again).
//
//	idle      -> following   Run has loaded the checkpoint and subscribed
//	following -> retrying    the handler returned an error or panicked
//	retrying  -> following   it succeeded at last, or the policy went on without the event
//	following, retrying, idle -> paused    Pause, Patch or ReplayFailed; the event under way is done and the checkpoint saved
//	paused    -> idle        Resume, and no Patch or ReplayFailed is under way: the checkpoint is loaded anew
//	following -> idle        somebody else has moved the checkpoint back, or it is beyond the end of the stream and looked at again
//	any       -> stopped     ctx ended, Stop, the failure policy, OnInit, ErrBeyondEnd or the subscription's end
//	stopped   -> idle, paused   Run
//	stopped   -> waiting     Run, with a store that is a Leaser
//	waiting   -> idle, paused   the lease is ours
//	any but stopped -> waiting  the lease is lost, or may be
//
// The checkpoint is saved behind events that the handler has finished with, never ahead of one. New saves it from time to
// time, NewBatch behind each batch, NewTx with the effects: where events go is a sink, and the loop is the same. With Parallel the loop
// is another one, since what is done first need not be what came first.
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
	Stream     string                    // must not be empty; eventstore.All is everything. See the package
	Filter     *eventstore.Filter        // which events; see subscription.Config. Default: all
	From       eventstore.From           // without a checkpoint; End is from now on. Default: Start
	Store      Store                     // nil: memory, so that every process begins at From. NewTx has its own: nil
	SaveEvery  int                       // events; with NewTx and NewBatch those of a transaction or a batch, at most. Default 100
	SaveAfter  time.Duration             // with NewTx and NewBatch how long those are gathered. Default 1 s
	Owner      string                    // with a Leaser: what people call this instance. Default: host, process and a random part
	LeaseTTL   time.Duration             // with a Leaser: how long others wait for an instance that is silent. Default 15 s
	OnFailure  Policy                    // default RetryForever
	Backoff    func() backoff.BackOff    // waits between the calls of a handler that fails; default 100 ms doubling to 30 s
	OnCaughtUp func(ctx context.Context) // all that was there is handled; again after each loss of the connection
	OnNotice   func(subscription.Notice) // what the subscription tells beside events, when all before it is handled
	Call       []eventstore.CallOption   // for the calls that it makes

	// Parallel is how many events are handled at once, of different keys: those of one key in their order, and the checkpoint is
	// behind none that is not handled. Up to 64 times as many are in memory, or handled again after a crash. Only for New.
	// Default: one after the other.
	Parallel int
	// Key says which events must be in order. Default: the event's stream, which for a link is that of its target.
	Key func(eventstore.ResolvedEvent) string

	// OnInit is called when Run begins, before the checkpoint is loaded, and with a Leaser whenever the lease is ours. Its error, or
	// panic, ends Run.
	OnInit func(ctx context.Context) error
}

// Listener follows one stream. Its methods are safe for concurrent use.
type Listener struct {
	client *eventstore.Client
	cfg    Config

	// makeSink makes a sink that keeps the checkpoint of this name in a store.
	makeSink func(name string, s Store) (sink, error)
	replays  chan struct{} // holds one value, which the Patch or ReplayFailed that is under way has taken

	mu      sync.Mutex // guards what follows
	status  Status
	rate    rate
	running bool
	stop    context.CancelFunc         // of the run under way
	sub     *subscription.Subscription // of the following under way
	holding
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
	l.makeSink = func(name string, s Store) (sink, error) {
		return &handlerSink{keeper: keeper{name: name, store: s}, handle: h}, nil
	}
	return l, nil
}

// makeListener checks what New, NewBatch and NewTx have in common. The sinks are theirs.
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
	if cfg.Key == nil {
		cfg.Key = streamOf
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
	case cfg.Parallel < 0:
		return nil, cfg.bad("Parallel is negative")
	case cfg.OnFailure.then == park && cfg.OnFailure.stream == "":
		return nil, cfg.bad("the name of the stream to park in is empty")
	case cfg.OnFailure.then != stop && cfg.keptIn() == cfg.Stream:
		return nil, cfg.bad("what the policy gives up on would be parked in the stream that is followed")
	}
	l := &Listener{client: c, cfg: cfg, status: Status{Checkpoint: cfg.From}, replays: make(chan struct{}, 1)}
	l.replays <- struct{}{}
	l.changed = make(chan struct{})
	return l, nil
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
// error when OnInit fails; when the checkpoint cannot be loaded or, at the end, saved, or is beyond the end of the stream
// (ErrBeyondEnd); when the failure policy gives up (*HandlerError); and when the subscription ends: a hard-deleted stream, denied
// access, a closed client. One run at a time.
//
// With a store that is a Leaser it waits for the lease first, however long and whatever the store answers meanwhile, which is
// Status.LastError; only what time does not mend ends it. When the lease is lost it waits for it again.
func (l *Listener) Run(ctx context.Context) error {
	ctx, err := l.begin(ctx)
	if err != nil {
		return err
	}
	if store, ok := l.cfg.Store.(Leaser); ok {
		err = l.takeTurns(ctx, store)
	} else {
		err = l.work(ctx, l.cfg.Store)
	}
	if err != nil {
		err = fmt.Errorf("listener %q: %w", l.cfg.Name, err)
	}
	l.end(err)
	return err
}

// work follows the stream from the store's checkpoint, and again from there after each pause, and from a checkpoint that somebody
// else has moved back.
func (l *Listener) work(ctx context.Context, store Store) error {
	to, err := l.makeSink(l.cfg.Name, store)
	if err != nil {
		return err
	}
	if l.cfg.OnInit != nil {
		if err := guarded(func() error { return l.cfg.OnInit(ctx) }); err != nil {
			return unlessEnded(ctx, fmt.Errorf("OnInit: %w", err))
		}
	}
	waits := l.cfg.Backoff()
	var beyond time.Time
	for {
		flow, err := l.flowing(ctx)
		if err != nil {
			return nil //nolint:nilerr // ctx has ended, which is what Run waits for
		}
		err, saved := l.follow(ctx, flow, store, to)
		if l.halted(ctx, err, saved) {
			continue
		}
		again, err := l.lookAgain(ctx, errors.Join(err, saved), &beyond)
		if again {
			continue
		}
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

// follow follows the stream from the store's checkpoint until flow ends, or ctx, which is that of the handler and ends flow too.
// It returns why else it ended, and the error of the save at the end.
func (l *Listener) follow(ctx, flow context.Context, store Store, to sink) (ended, saved error) {
	from, err := store.Load(flow, l.cfg.Name)
	fresh := errors.Is(err, ErrNoCheckpoint)
	switch {
	case fresh:
		from = l.cfg.From
	case err != nil:
		return unlessEnded(flow, fmt.Errorf("load the checkpoint: %w", err)), nil
	}
	flow, end := context.WithCancelCause(flow)
	defer end(nil)
	r := run{Listener: l, sink: to, flow: flow, wait: flow, rest: func() {}}
	r.noticed = func(n subscription.Notice) { r.notice(ctx, n) }
	caughtUp := false
	r.sub, err = subscription.Open(flow, l.client, subscription.Config{
		Stream: l.cfg.Stream, From: from, Filter: l.cfg.Filter, Call: l.cfg.Call, OnNotice: func(n subscription.Notice) {
			switch {
			case l.isAstray(n):
				end(astray{n.Checkpoint, caughtUp})
			case n.Kind == subscription.CaughtUp:
				caughtUp = true
			}
			r.noticed(n)
		},
	})
	if err != nil {
		return unlessEnded(flow, err), nil
	}
	defer func() { _ = r.sub.Close() }()
	r.done = r.sub.Checkpoint()
	l.update(func(s *Status) { s.State, s.Checkpoint, l.placed, l.sub = Following, r.done, true, r.sub })
	defer l.update(func(*Status) { l.sub = nil })
	l.measure()
	if fresh {
		if err := to.begin(ctx, from, r.done); err != nil {
			return unlessEnded(ctx, err), nil
		}
	}
	if l.cfg.Parallel > 1 {
		err = newParallel(&r).loop(ctx)
	} else {
		err = r.loop(ctx)
	}
	if errors.Is(err, errLost) || errors.Is(context.Cause(ctx), errLost) {
		return unlessEnded(flow, err), nil // nothing is saved any more
	}
	// The last save must happen although ctx has ended, and must not take for ever.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastSave)
	defer cancel()
	saved = r.save(last)
	if err = unlessEnded(flow, err); err != nil && errors.Is(saved, errLost) {
		saved = nil // another instance goes on; why this one ends is what matters
	}
	if lost := (astray{}); errors.As(context.Cause(flow), &lost) {
		return lost, saved
	}
	return err, saved
}

// lastSave is how long the save at the end of a run may take, and a transaction that is under way then.
const lastSave = 5 * time.Second

// unlessEnded tells an error from the end of the context, which is what Run waits for. A connection that was being replaced
// then is not why Run ends. The error may be that of another context than ctx: one was cancelled by a pause before the other's
// deadline came.
func unlessEnded(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil {
		return err
	}
	for _, end := range []error{context.Canceled, context.DeadlineExceeded, eventstore.ErrConnectionLost} {
		if errors.Is(err, end) {
			return nil
		}
	}
	return err
}

func (l *Listener) begin(ctx context.Context) (context.Context, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running {
		return nil, fmt.Errorf("listener %q: it is running already", l.cfg.Name)
	}
	l.running, l.placed = true, false
	ctx, l.stop = context.WithCancel(l.mark(ctx))
	return ctx, nil
}

func (l *Listener) end(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stop()
	l.running, l.stop = false, nil
	l.status.State, l.ended = Stopped, err
	if err != nil {
		l.status.LastError = err
	}
	l.broadcast()
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
