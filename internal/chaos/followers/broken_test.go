package followers

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/listener"
	"github.com/goeventstore/eventstore/subscription"
)

// now reports each n-th time.
func now(n int) func() bool {
	count := 0
	return func() bool { count++; return count%n == 0 }
}

// skipping loses an event now and then.
type skipping struct {
	receiver
	now func() bool
}

func (s *skipping) Recv(ctx context.Context) (eventstore.ResolvedEvent, error) {
	if e, err := s.receiver.Recv(ctx); err != nil || !s.now() {
		return e, err
	}
	return s.receiver.Recv(ctx)
}

// repeating gives an event twice now and then.
type repeating struct {
	receiver
	now  func() bool
	last *eventstore.ResolvedEvent
}

func (s *repeating) Recv(ctx context.Context) (eventstore.ResolvedEvent, error) {
	if s.last != nil {
		e := *s.last
		s.last = nil
		return e, nil
	}
	e, err := s.receiver.Recv(ctx)
	if err == nil && s.now() {
		s.last = &e
	}
	return e, err
}

// hanging gives nothing any more after a while.
type hanging struct {
	receiver
	now func() bool
}

func (s *hanging) Recv(ctx context.Context) (eventstore.ResolvedEvent, error) {
	if s.now() {
		<-ctx.Done()
		return eventstore.ResolvedEvent{}, ctx.Err()
	}
	return s.receiver.Recv(ctx)
}

// garbling lends an event's memory to somebody else.
type garbling struct {
	receiver
	now func() bool
}

func (s *garbling) Recv(ctx context.Context) (eventstore.ResolvedEvent, error) {
	e, err := s.receiver.Recv(ctx)
	if err == nil && s.now() {
		e = e.Clone()
		e.Event.Data[0]++
	}
	return e, err
}

// belittling tells of fewer events than were missed.
type belittling struct{ receiver }

func (s belittling) Recv(ctx context.Context) (eventstore.ResolvedEvent, error) {
	e, err := s.receiver.Recv(ctx)
	if gap := new(listener.GapError); errors.As(err, &gap) {
		gap.Dropped--
	}
	return e, err
}

// restless says that it has paused.
type restless struct{}

func (restless) Pause(context.Context) (eventstore.From, error) { return eventstore.Start, nil }
func (restless) Resume(context.Context) error                   { return nil }

// losing leaves out an event of a patch now and then.
type losing struct{ mender }

func (s losing) Patch(ctx context.Context, from, until eventstore.From, h listener.Handler) (eventstore.From, error) {
	skip := now(9)
	return s.mender.Patch(ctx, from, until, func(ctx context.Context, e eventstore.ResolvedEvent) error {
		if skip() {
			return nil
		}
		return h(ctx, e)
	})
}

// beside mends by a listener that does not run, so that nobody holds the one that does.
func beside(l *Life, _ mender) mender {
	cfg := l.config()
	if l.rules.Replayed {
		cfg.OnFailure = listener.RetryThenSkip(attempts)
	}
	lis, err := listener.New(l.Client, cfg, l.handle)
	if err != nil {
		l.problem("%v", err)
	}
	return lis
}

// ahead saves the place behind the event that comes next.
type ahead struct{ listener.Store }

func (s ahead) Save(ctx context.Context, name string, at eventstore.From) error {
	if n, ok := at.Number(); ok {
		at = eventstore.After(n + 1)
	} else if p, ok := at.Position(); ok {
		at = eventstore.AtPosition(eventstore.Position{Commit: p.Commit + 400, Prepare: p.Prepare + 400}) // some records of the log
	}
	return s.Store.Save(ctx, name, at)
}

// effectsFirst commits the effects and then, in a transaction of its own, the checkpoint.
type effectsFirst struct{ listener.TxStore[*bbolt.Tx] }

type boltDo = func(tx *bbolt.Tx, at eventstore.From) (eventstore.From, error)

func (s effectsFirst) InTx(ctx context.Context, name string, do boltDo) error {
	var next eventstore.From
	err := s.TxStore.InTx(ctx, name, func(tx *bbolt.Tx, at eventstore.From) (_ eventstore.From, err error) {
		next, err = do(tx, at)
		return at, err
	})
	if err != nil {
		return err
	}
	return s.Save(ctx, name, next)
}

// checkpointFirst does it the other way around.
type checkpointFirst struct{ listener.TxStore[*bbolt.Tx] }

func (s checkpointFirst) InTx(ctx context.Context, name string, do boltDo) error {
	rehearsed := errors.New("rehearsed")
	var at, next eventstore.From
	err := s.TxStore.InTx(ctx, name, func(tx *bbolt.Tx, from eventstore.From) (_ eventstore.From, err error) {
		at = from
		if next, err = do(tx, at); err == nil {
			err = rehearsed
		}
		return next, err
	})
	if !errors.Is(err, rehearsed) {
		return err
	}
	if err := s.Save(ctx, name, next); err != nil {
		return err
	}
	return s.TxStore.InTx(ctx, name, func(tx *bbolt.Tx, now eventstore.From) (eventstore.From, error) {
		_, err := do(tx, at)
		return now, err
	})
}

// unlocked looks at the checkpoint before its transaction, and believes that it is the only one.
type unlocked struct{ listener.TxStore[*bbolt.Tx] }

func (s unlocked) InTx(ctx context.Context, name string, do boltDo) error {
	at, err := s.Load(ctx, name)
	if err != nil && !errors.Is(err, listener.ErrNoCheckpoint) {
		return err
	}
	return s.TxStore.InTx(ctx, name, func(tx *bbolt.Tx, _ eventstore.From) (eventstore.From, error) { return do(tx, at) })
}

// The same for those whose effects are in transactions.
func TestABrokenTransactionIsCaught(t *testing.T) {
	for name, tt := range map[string]struct {
		kind    string
		between func(listener.TxStore[*bbolt.Tx]) listener.TxStore[*bbolt.Tx]
	}{
		"the effects are committed first":   {inOneBolt, func(s listener.TxStore[*bbolt.Tx]) listener.TxStore[*bbolt.Tx] { return effectsFirst{s} }},
		"the checkpoint is committed first": {inOneBolt, func(s listener.TxStore[*bbolt.Tx]) listener.TxStore[*bbolt.Tx] { return checkpointFirst{s} }},
		"the checkpoint is not locked":      {inBoltByTwo, func(s listener.TxStore[*bbolt.Tx]) listener.TxStore[*bbolt.Tx] { return unlocked{s} }},
	} {
		t.Run(name, func(t *testing.T) {
			requireCaught(t, tt.kind, "effect", func(k *Kind) {
				k.Prepare = func(r *Run) Follower {
					d := openBolt(r)
					d.between = tt.between
					return d.Follower(Rules{})
				}
			})
		})
	}
}

// unfenced has leases that save as if there were none.
type unfenced struct {
	listener.Store
	listener.Leaser
}

func (s unfenced) Acquire(ctx context.Context, name, owner string, ttl time.Duration) (listener.Lease, error) {
	lease, err := s.Leaser.Acquire(ctx, name, owner, ttl)
	return unfencedLease{lease, s.Store}, err
}

type unfencedLease struct {
	listener.Lease
	store listener.Store
}

func (l unfencedLease) Save(ctx context.Context, name string, at eventstore.From) error {
	return l.store.Save(ctx, name, at)
}

// everybodys tells everybody that the lease is his.
type everybodys struct {
	listener.Store
	listener.Leaser
}

func (s everybodys) Acquire(ctx context.Context, _, owner string, ttl time.Duration) (listener.Lease, error) {
	lease, err := s.Leaser.Acquire(ctx, owner, owner, ttl) // nobody else wants that one
	return everybodysLease{lease, s.Store}, err
}

type everybodysLease struct {
	listener.Lease
	store listener.Store
}

func (l everybodysLease) Load(ctx context.Context, name string) (eventstore.From, error) {
	return l.store.Load(ctx, name)
}

func (l everybodysLease) Save(ctx context.Context, name string, at eventstore.From) error {
	return l.store.Save(ctx, name, at)
}

// requireCaught breaks a kind and has it caught.
func requireCaught(t *testing.T, kind string, want string, breaks func(k *Kind)) {
	t.Helper()
	for _, k := range Kinds() {
		if k.Name == kind {
			breaks(k)
			RequireCaught(t, k, want)
			return
		}
	}
	t.Fatalf("there is no kind %q", kind)
}

// The same plans that the real ones pass tell that these do not work.
func TestABrokenFollowerIsCaught(t *testing.T) {
	swallow := errors.New("not now")
	for name, tt := range map[string]struct {
		kind, want string
		layers     layers
	}{
		"a subscription loses events": {"catch-up", "(has not|nobody has) handled", layers{
			subscription: func(s receiver) receiver { return &skipping{s, now(9)} },
		}},
		"a live subscription loses events": {"live", "(has not|nobody has) handled", layers{
			subscription: func(s receiver) receiver { return &skipping{s, now(9)} },
		}},
		"a subscription repeats events": {"catch-up", "again", layers{
			subscription: func(s receiver) receiver { return &repeating{receiver: s, now: now(9)} },
		}},
		"a subscription hangs": {"catch-up", "does not come to the end", layers{
			subscription: func(s receiver) receiver { return &hanging{s, now(9)} },
		}},
		"a subscription overwrites events": {"catch-up", "which is not there", layers{
			subscription: func(s receiver) receiver { return &garbling{s, now(9)} },
		}},
		"a subscription catches up twice": {"catch-up", "caught up twice", layers{notices: twice(subscription.CaughtUp)}},
		"a subscription falls twice":      {"catch-up", "was not there", layers{notices: twice(subscription.FellBehind)}},
		"a subscription catches up too soon": {"catch-up", "caught up without", layers{
			notices: func(told func(subscription.Notice)) func(subscription.Notice) {
				early := false
				return func(n subscription.Notice) {
					if n.Kind == subscription.CaughtUp && early {
						early = false
						return
					}
					told(n)
					if n.Kind == subscription.FellBehind {
						early = true
						told(subscription.Notice{Kind: subscription.CaughtUp})
					}
				}
			},
		}},
		"a lease is not looked at when something is saved": {leasedStreams, "another had the lease", layers{
			store: func(s listener.Store) listener.Store { return unfenced{s, s.(listener.Leaser)} },
		}},
		"a fan-out loses events": {"fan-out", "has not handled|does not come to the end", layers{
			subscription: func(s receiver) receiver { return &skipping{s, now(9)} },
		}},
		"a fan-out repeats events": {"fan-out", "again|does not come to the end", layers{
			subscription: func(s receiver) receiver { return &repeating{receiver: s, now: now(9)} },
		}},
		"a fan-out makes less of what is missed": {"fan-out", "told that it has missed", layers{
			subscription: func(s receiver) receiver { return belittling{s} },
		}},
		"a pause is none": {"listener in memory", "is to rest|it saves", layers{
			pauses: func(pauser) pauser { return restless{} },
		}},
		"a patch loses events": {"listener that is patched", "(has not|nobody has) handled", layers{
			mends: func(_ *Life, m mender) mender { return losing{m} },
		}},
		"a patch does not hold the listener":  {"listener that is patched", "gets an event, and the handler of", layers{mends: beside}},
		"a replay does not hold the listener": {"listener that replays", "gets an event, and the handler of", layers{mends: beside}},
		"a replay loses events": {"listener that replays", "no replay has handled it", layers{
			handler: func(h listener.Handler) listener.Handler {
				return func(ctx context.Context, e eventstore.ResolvedEvent) error {
					if e.Link != nil && e.Link.Stream == listener.SkippedStream("p0") {
						return nil
					}
					return h(ctx, e)
				}
			},
		}},
		"what was truncated is not all that is left out": {"catch-up of what is truncated", "(has not|nobody has) handled", layers{
			subscription: func(s receiver) receiver { return &skipping{s, now(9)} },
		}},
		"a checkpoint is ahead of more than what was truncated": {"listener of what is truncated", "nobody has handled|does not come to the end", layers{
			store: func(s listener.Store) listener.Store { return ahead{s} },
		}},
		"keys are not looked at": {"listener by keys at once", "has not handled", layers{
			config: func(cfg *listener.Config) {
				cfg.Key = func(e eventstore.ResolvedEvent) string { return e.Event.ID.String() }
			},
		}},
		"too much at once": {"listener by keys at once", "at once", layers{
			config: func(cfg *listener.Config) { cfg.Parallel = 7 },
		}},
		"a batch is too large": {"listener of batches", "events at once", layers{
			config: func(cfg *listener.Config) { cfg.SaveEvery = 2 * mostAtOnce },
		}},
		"a listener gives up too soon": {"listener that skips", "did not fail so often|has not handled|nobody has handled", layers{
			config: func(cfg *listener.Config) { cfg.OnFailure = listener.RetryThenSkip(1) },
		}},
		"what is given up on is not kept": {"listener that skips", "is not kept", layers{
			config: func(cfg *listener.Config) { cfg.OnFailure = listener.RetryThenPark(attempts, "elsewhere") },
		}},
		"a listener loses events": {"listener in memory", "(has not|nobody has) handled", layers{
			handler: func(h listener.Handler) listener.Handler {
				skip := now(9)
				return func(ctx context.Context, e eventstore.ResolvedEvent) error {
					if skip() {
						return nil
					}
					return h(ctx, e)
				}
			},
		}},
		"a listener takes a failure for a success": {"listener in memory", "(has not|nobody has) handled", layers{
			handler: func(h listener.Handler) listener.Handler {
				return func(ctx context.Context, e eventstore.ResolvedEvent) error {
					if err := h(ctx, e); !errors.Is(err, errBadDay) {
						return err
					}
					return nil
				}
			},
		}},
		"a listener repeats events": {"listener with files", "again", layers{
			handler: func(h listener.Handler) listener.Handler {
				again := now(9)
				return func(ctx context.Context, e eventstore.ResolvedEvent) error {
					if err := h(ctx, e); err != nil || !again() {
						return err
					}
					return swallow
				}
			},
		}},
		"a checkpoint is ahead": {"listener in memory", "nobody has handled|does not come to the end", layers{
			store: func(s listener.Store) listener.Store { return ahead{s} },
		}},
	} {
		t.Run(name, func(t *testing.T) {
			requireCaught(t, tt.kind, tt.want, func(k *Kind) { k.between = tt.layers })
		})
	}
}

// Two processes take turns event by event, and each event has its effect once: but that they share a lease cannot be.
func TestOwnersThatAreMixedAreCaught(t *testing.T) {
	requireCaught(t, inBoltByTwo, "goes on with the event", func(k *Kind) {
		k.Prepare = func(r *Run) Follower { return openBolt(r).Follower(Rules{Leased: true}) }
	})
}

// Behind what is watched everybody has a lease of his own, and all save in one place.
func TestALeaseForEverybodyIsCaught(t *testing.T) {
	requireCaught(t, leasedStreams, "what was saved is behind|the checkpoint is", func(k *Kind) {
		k.Prepare = func(*Run) Follower {
			s := listener.MemoryStore()
			return listening(Rules{Shared: true}, func(l *Life) listener.Store {
				leaser := listener.StreamStore(l.Client, "checkpoints-").(listener.Leaser)
				return everybodys{s, leaser}
			}, nil, oneByOne)
		}
	})
}

func twice(kind subscription.Kind) func(told func(subscription.Notice)) func(subscription.Notice) {
	return func(told func(subscription.Notice)) func(subscription.Notice) {
		return func(n subscription.Notice) {
			told(n)
			if n.Kind == kind {
				told(n)
			}
		}
	}
}
