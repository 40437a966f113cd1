package listener

import (
	"context"
	"fmt"
	"runtime/debug"

	"github.com/goeventstore/eventstore"
)

// sink is where the events of a run go.
type sink interface {
	// begin is called before the first event when there is no checkpoint: From was configured, and place is where that is.
	begin(ctx context.Context, from, place eventstore.From) error
	// gathers is how many events apply takes at once, at most.
	gathers(cfg *Config) int
	// apply handles events, which are in order and behind done. When it fails, failed is the one that the handler failed
	// on, or -1; nothing of them is saved then. It may leave events out at the end, once ctx has ended.
	apply(ctx context.Context, done eventstore.From, events []eventstore.ResolvedEvent) (a applied, failed int, err error)
	// save saves a place that apply has not.
	save(ctx context.Context, at eventstore.From) error
}

// applied is what became of events.
type applied struct {
	done    eventstore.From // behind them
	handled int             // without those that were handled before
	saved   bool            // done is in the store
}

// handlerSink is New's: events one at a time, and the checkpoint some time later.
type handlerSink struct {
	name   string
	store  Store
	handle Handler
}

func (s *handlerSink) begin(ctx context.Context, from, place eventstore.From) error {
	if !from.IsEnd() {
		return nil
	}
	// From now on is from this end: the next run must not begin at a later one.
	return s.save(ctx, place)
}

func (*handlerSink) gathers(*Config) int { return 1 }

func (s *handlerSink) apply(ctx context.Context, _ eventstore.From, events []eventstore.ResolvedEvent) (applied, int, error) {
	if err := guarded(func() error { return s.handle(ctx, events[0]) }); err != nil {
		return applied{}, 0, err
	}
	return applied{done: events[0].Checkpoint(), handled: 1}, 0, nil
}

func (s *handlerSink) save(ctx context.Context, at eventstore.From) error {
	if err := s.store.Save(ctx, s.name, at); err != nil {
		return fenced(fmt.Errorf("save the checkpoint %v: %w", at, err))
	}
	return nil
}

// guarded calls a handler and makes an error of its panic.
func guarded(call func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return call()
}
