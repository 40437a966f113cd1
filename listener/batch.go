package listener

import (
	"context"

	"github.com/goeventstore/eventstore"
)

// BatchHandler handles events that belong together only in that they came one after the other, in order. An error or a panic is of
// the batch as a whole: they all come again, one at a time, as batches of one, so that Config.OnFailure is about the one at fault
// and the others get through. The handler may get events that it handled before, and the slice is its own only until it returns; the
// events it may keep.
type BatchHandler func(ctx context.Context, batch []eventstore.ResolvedEvent) error

// NewBatch makes a listener whose handler gets events in batches, at least once: Config.SaveEvery of them, or fewer when
// Config.SaveAfter has gone by since the first of them came, or when all that was there is in it. The checkpoint is saved behind
// each batch. While the listener catches up batches are full; live, an event waits for others no longer than SaveAfter.
func NewBatch(c *eventstore.Client, cfg Config, h BatchHandler) (*Listener, error) {
	if cfg.Store == nil {
		cfg.Store = MemoryStore()
	}
	switch {
	case h == nil:
		return nil, cfg.bad("no handler")
	case cfg.Parallel > 1:
		return nil, cfg.bad("Parallel is for New: a batch is handled as a whole")
	}
	l, err := makeListener(c, cfg)
	if err != nil {
		return nil, err
	}
	l.makeSink = func(name string, s Store) (sink, error) {
		return &batchSink{keeper: keeper{name: name, store: s}, handle: h}, nil
	}
	return l, nil
}

// batchSink is NewBatch's: many events at once, and the checkpoint behind them.
type batchSink struct {
	keeper
	handle BatchHandler
}

func (*batchSink) gathers(cfg *Config) gathering {
	return gathering{most: cfg.SaveEvery, wait: true, save: 1}
}

func (s *batchSink) apply(
	ctx, _ context.Context, _ eventstore.From, events []eventstore.ResolvedEvent,
) (applied, int, error) {
	if err := guarded(func() error { return s.handle(ctx, events) }); err != nil {
		return applied{}, -1, err
	}
	return applied{done: events[len(events)-1].Checkpoint(), events: len(events), handled: len(events)}, 0, nil
}
