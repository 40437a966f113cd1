package listener

import (
	"context"
	"fmt"

	"github.com/goeventstore/eventstore"
)

// sink is where the events of a run go.
type sink interface {
	// begin is called before the first event when there is no checkpoint: From was configured, and place is where that is.
	begin(ctx context.Context, from, place eventstore.From) error
	// gathers says how events are to be handed to apply.
	gathers(cfg *Config) gathering
	// apply handles events, which are in order and behind done. When it fails, failed is the one that the handler failed
	// on, or -1; nothing of them is saved then. It may leave events out at the end, once flow, or ctx, has ended.
	apply(ctx, flow context.Context, done eventstore.From, events []eventstore.ResolvedEvent) (a applied, failed int, err error)
	// pass moves from done to a later place without handling anything.
	pass(ctx context.Context, done, to eventstore.From) (applied, error)
	// save saves a place that apply has not.
	save(ctx context.Context, at eventstore.From) error
}

// gathering is how events are handed to a sink.
type gathering struct {
	most int  // events at once
	wait bool // for more to come, for Config.SaveAfter; else what is there is enough
	save int  // when so many are handled the checkpoint is saved
}

// applied is what became of events.
type applied struct {
	done    eventstore.From // behind them
	events  int             // that done went past
	handled int             // of them, without those that were handled before, or given up on
	saved   bool            // done is in the store
}

// keeper is the part of a sink that keeps the checkpoint in a store.
type keeper struct {
	name  string
	store Store
}

func (k *keeper) begin(ctx context.Context, from, place eventstore.From) error {
	if !from.IsEnd() {
		return nil
	}
	// From now on is from this end: the next run must not begin at a later one.
	return k.save(ctx, place)
}

func (*keeper) pass(_ context.Context, _, to eventstore.From) (applied, error) {
	return applied{done: to, events: 1}, nil
}

func (k *keeper) save(ctx context.Context, at eventstore.From) error {
	if err := k.store.Save(ctx, k.name, at); err != nil {
		return fenced(fmt.Errorf("save the checkpoint %v: %w", at, err))
	}
	return nil
}

// handlerSink is New's: events one at a time, and the checkpoint some time later. It may be used for several at once.
type handlerSink struct {
	keeper
	handle Handler
}

func (*handlerSink) gathers(cfg *Config) gathering { return gathering{most: 1, save: cfg.SaveEvery} }

func (s *handlerSink) apply(
	ctx, _ context.Context, _ eventstore.From, events []eventstore.ResolvedEvent,
) (applied, int, error) {
	if err := guarded(func() error { return s.handle(ctx, events[0]) }); err != nil {
		return applied{}, 0, err
	}
	return applied{done: events[0].Checkpoint(), events: 1, handled: 1}, 0, nil
}
