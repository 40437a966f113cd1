package listener

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/pause"
)

// TxHandler handles one event in a transaction of the store, which it neither commits nor rolls back. Its effects in the
// transaction happen exactly once; others, such as a mail, at least once: an error or a panic of it, or of the call with a
// later event of the same transaction, rolls everything back and has it called again, as Config.OnFailure says.
type TxHandler[T any] func(ctx context.Context, tx T, e eventstore.ResolvedEvent) error

// TxStore keeps checkpoints where the effects are kept, so that one transaction changes both. T is the transaction.
type TxStore[T any] interface {
	Store
	// InTx begins a transaction, reads and locks the checkpoint in it, so that of two processes on one name one waits, and
	// calls do with the checkpoint: the zero From when there is none. What do returns becomes the checkpoint, in the same
	// transaction, which is committed when InTx returns nil. When do returns an error or panics, the transaction is rolled
	// back, and InTx returns an error or panics too. A store may call do again after a roll-back of its own.
	InTx(ctx context.Context, name string, do func(tx T, at eventstore.From) (eventstore.From, error)) error
}

// NewTx makes a listener whose handler's effects and checkpoint are committed in one transaction of the store: each event has
// its effects exactly once, through crashes, and also when several processes run listeners of one name. Config.Store must be
// nil; T is inferred.
//
// Events that are there already share a transaction, Config.SaveEvery of them at most. It begins when they are in memory:
// none is open while the listener waits for the network. A transaction that fails is tried again event by event. Stop and
// the end of Run's context let one that is under way end behind the event being handled, and give up on it after 5 s.
//
// What the transaction says about the checkpoint is the truth. Where another process has been first, its events are skipped;
// where somebody has moved the checkpoint back, or removed it, the listener goes on from there.
func NewTx[T any](c *eventstore.Client, cfg Config, s TxStore[T], h TxHandler[T]) (*Listener, error) {
	switch {
	case cfg.Store != nil:
		return nil, cfg.bad("Store is set: with NewTx the checkpoint is kept in the transaction's own store")
	case s == nil:
		return nil, cfg.bad("no store")
	case h == nil:
		return nil, cfg.bad("no handler")
	case cfg.Parallel > 1:
		return nil, cfg.bad("Parallel is for New: transactions that change one checkpoint take turns")
	}
	cfg.Store = s
	l, err := makeListener(c, cfg)
	if err != nil {
		return nil, err
	}
	l.makeSink = func(name string, s Store) (sink, error) {
		tx, ok := s.(TxStore[T])
		if !ok {
			return nil, fmt.Errorf("%T stands in for the store and makes no transactions of its kind", s)
		}
		return &txSink[T]{name: name, store: tx, handle: h}, nil
	}
	return l, nil
}

// errMoved ends the following of a stream whose checkpoint was moved back by somebody else: it goes on from there.
var errMoved = errors.New("the checkpoint was moved back")

// txSink is NewTx's: events and the checkpoint in one transaction.
type txSink[T any] struct {
	name   string
	store  TxStore[T]
	handle TxHandler[T]
}

// begin remembers at once where the first run begins, unless that is the start. A transaction that finds no checkpoint sees the
// zero From, which is Start: going on from there is right when Start was configured, and means a checkpoint that was moved back
// when any other place was. And From End is from this end, also for the next run and for a process that begins later.
//
// An empty stream ends where it starts, at zero. At(0) is the same place and is not zero: a process that was told by Load that
// there is nothing, and came to a later end, must see here that another one was first.
func (s *txSink[T]) begin(ctx context.Context, from, place eventstore.From) error {
	if from.IsStart() {
		return nil
	}
	if place.IsStart() {
		place = eventstore.At(0)
	}
	var taken error
	err := s.store.InTx(ctx, s.name, func(_ T, at eventstore.From) (eventstore.From, error) {
		if taken = nil; !at.IsStart() {
			taken = fmt.Errorf("%w: another process has begun %v", errMoved, at)
			return at, taken
		}
		return place, nil
	})
	switch {
	case taken != nil:
		return taken
	case err != nil:
		return fenced(fmt.Errorf("save the checkpoint %v: %w", place, err))
	}
	return nil
}

func (*txSink[T]) gathers(cfg *Config) gathering { return gathering{most: cfg.SaveEvery} }

func (s *txSink[T]) apply(
	ctx, flow context.Context, done eventstore.From, events []eventstore.ResolvedEvent,
) (applied, int, error) {
	return s.inTx(ctx, func(tx T, at eventstore.From) (applied, int, error) {
		return s.do(ctx, flow, tx, at, done, events)
	})
}

func (s *txSink[T]) pass(ctx context.Context, done, to eventstore.From) (applied, error) {
	a, _, err := s.inTx(ctx, func(_ T, at eventstore.From) (applied, int, error) {
		a := applied{done: at, saved: true}
		err := notBefore(at, done)
		if c, _ := at.Compare(to); err == nil && c < 0 { // else another process was there first
			a.done = to
		}
		return a, -1, err
	})
	return a, err
}

// inTx calls do in a transaction with its checkpoint, which becomes what was done.
func (s *txSink[T]) inTx(
	ctx context.Context, do func(tx T, at eventstore.From) (a applied, failed int, err error),
) (applied, int, error) {
	// An event that was handled although ctx has ended counts, so its transaction may take a little longer.
	longer, cancel := outlive(ctx, lastSave)
	defer cancel()
	var a applied
	failed, cause := -1, error(nil)
	err := s.store.InTx(longer, s.name, func(tx T, at eventstore.From) (eventstore.From, error) {
		a, failed, cause = do(tx, at)
		return a.done, cause
	})
	switch {
	case cause != nil:
		return applied{}, failed, cause // whatever the store has made of it
	case err != nil:
		return applied{}, -1, fenced(fmt.Errorf("the transaction: %w", err))
	case !a.saved:
		return applied{}, -1, errors.New("the transaction: the store has made none")
	}
	return a, 0, nil
}

// notBefore says that the checkpoint was moved back to at.
func notBefore(at, done eventstore.From) error {
	c, err := at.Compare(done)
	if err == nil && c < 0 {
		err = fmt.Errorf("%w from %v to %v", errMoved, done, at)
	}
	return err
}

// do handles in a transaction the events that are behind its checkpoint.
func (s *txSink[T]) do(
	ctx, flow context.Context, tx T, at, done eventstore.From, events []eventstore.ResolvedEvent,
) (a applied, failed int, err error) {
	a = applied{done: at, saved: true}
	if err := notBefore(at, done); err != nil {
		return a, -1, err
	}
	for i, e := range events {
		c, err := e.Checkpoint().Compare(at)
		if err != nil {
			return a, -1, err
		}
		if c <= 0 {
			continue // another process was there first
		}
		if err := guarded(func() error { return s.handle(ctx, tx, e) }); err != nil {
			return a, i, err
		}
		a.done = e.Checkpoint()
		a.handled++
		if flow.Err() != nil {
			break
		}
	}
	return a, 0, nil //nolint:nilerr // the end of flow is none
}

// save has nothing to do: what apply has done is saved.
func (*txSink[T]) save(context.Context, eventstore.From) error { return nil }

// outlive returns a context that ends some time after ctx does.
func outlive(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		if pause.For(longer, d) == nil {
			cancel()
		}
	})
	return longer, func() { stop(); cancel() }
}
