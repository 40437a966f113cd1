package followers

import (
	"context"
	"errors"
	"time"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/listener"
)

// Store is the store of a process: it tells the tape what happens to it, fails now and then, before it has done something and
// behind, and does nothing any more when its process is dead. So do the leases of a Leaser.
func (l *Life) Store(s listener.Store) listener.Store {
	w := watched{l, s}
	if leaser, ok := s.(listener.Leaser); ok {
		return &watchedLeaser{w, leaser}
	}
	return &w
}

type watched struct {
	life  *Life
	inner listener.Store
}

// fault is before or behind what a store does.
func (l *Life) fault(where string) error {
	l.pass()
	if !l.calm {
		switch n := l.Draw(200); {
		case n < 2:
			l.die(where)
		case n < 6:
			l.pause(l.long())
			l.pass()
		case n < 18:
			return errBadDay
		}
	}
	if l.isDead() {
		return errDead
	}
	return nil
}

func (s *watched) Load(ctx context.Context, name string) (eventstore.From, error) {
	if err := s.life.fault("before it loads"); err != nil {
		return eventstore.From{}, err
	}
	at, err := s.inner.Load(ctx, name)
	switch {
	case name != s.life.Name(): // of a replay
	case errors.Is(err, listener.ErrNoCheckpoint):
		s.life.listen(s.life.rules.from())
	case err == nil:
		s.life.listen(at)
	}
	return at, err
}

func (s *watched) Save(ctx context.Context, name string, at eventstore.From) error {
	if err := s.life.fault("before it saves"); err != nil {
		return err
	}
	ctx, cancel := s.life.underWay(ctx)
	defer cancel()
	if name != s.life.Name() {
		return errors.Join(s.inner.Save(ctx, name, at), s.life.fault("behind a save"))
	}
	leg := s.life.Leg()
	leg.tell(entry{verb: saves, place: at})
	if err := s.inner.Save(ctx, name, at); err != nil {
		return err
	}
	leg.tell(entry{verb: saved, place: at})
	return s.life.fault("behind a save")
}

// underWay is the context of a request that may be on its way already when the context of the caller ends: then it is not taken
// back. That of an owner takes its time now and then, so that another has the lease when it comes.
func (l *Life) underWay(ctx context.Context) (context.Context, context.CancelFunc) {
	owner := l.Leg() != nil && l.Leg().leased > 0
	switch {
	case owner && !l.calm && l.Draw(12) == 0:
		l.pause(2 * l.long())
		l.pass()
	case l.Draw(2) == 0:
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
}

type watchedLeaser struct {
	watched
	leaser listener.Leaser
}

// Load is no beginning: who begins has a lease.
func (s *watchedLeaser) Load(ctx context.Context, name string) (eventstore.From, error) {
	if err := s.life.fault("before it looks"); err != nil {
		return eventstore.From{}, err
	}
	return s.inner.Load(ctx, name)
}

func (s *watchedLeaser) Acquire(ctx context.Context, name, owner string, ttl time.Duration) (listener.Lease, error) {
	lease, err := s.life.acquire(ctx, s.leaser, name, owner, ttl)
	if err != nil {
		return nil, err
	}
	return &watchedLease{watched{s.life, lease}, lease}, nil
}

func (l *Life) acquire(ctx context.Context, s listener.Leaser, name, owner string, ttl time.Duration) (listener.Lease, error) {
	if err := l.fault("before it acquires a lease"); err != nil {
		return nil, err
	}
	lease, err := s.Acquire(ctx, name, owner, ttl)
	if err != nil {
		return nil, err
	}
	l.own()
	return lease, l.fault("behind a lease")
}

type watchedLease struct {
	watched
	lease listener.Lease
}

func (s *watchedLease) Renew(ctx context.Context) error { return s.life.renew(ctx, s.lease) }

func (l *Life) renew(ctx context.Context, lease listener.Lease) error {
	if err := l.fault("before it renews its lease"); err != nil {
		return err
	}
	return lease.Renew(ctx)
}

func (s *watchedLease) Release(ctx context.Context) error { return s.life.release(ctx, s.lease) }

func (l *Life) release(ctx context.Context, lease listener.Lease) error {
	if err := l.fault("before it releases its lease"); err != nil {
		return err
	}
	return lease.Release(ctx)
}

// Transactions is Store for a store with transactions. turns, with room for one, is for a store that has one transaction at a
// time by a lock: in virtual time nobody may wait for a lock. It may be nil.
func Transactions[T any](l *Life, s listener.TxStore[T], turns chan struct{}) listener.TxStore[T] {
	tx := watchedTx[T]{watched{l, s}, s, turns}
	if leaser, ok := s.(listener.Leaser); ok {
		return &watchedTxLeaser[T]{tx, leaser}
	}
	return &tx
}

type watchedTxLeaser[T any] struct {
	watchedTx[T]
	leaser listener.Leaser
}

// Load is no beginning: who begins has a lease.
func (s *watchedTxLeaser[T]) Load(ctx context.Context, name string) (eventstore.From, error) {
	if err := s.life.fault("before it looks"); err != nil {
		return eventstore.From{}, err
	}
	return s.watched.inner.Load(ctx, name)
}

func (s *watchedTxLeaser[T]) Acquire(ctx context.Context, name, owner string, ttl time.Duration) (listener.Lease, error) {
	lease, err := s.life.acquire(ctx, s.leaser, name, owner, ttl)
	if err != nil {
		return nil, err
	}
	inner := lease.(listener.TxStore[T]) // as Leaser says
	return &watchedTxLease[T]{watchedTx[T]{watched{s.life, lease}, inner, s.turns}, lease}, nil
}

type watchedTxLease[T any] struct {
	watchedTx[T]
	lease listener.Lease
}

func (s *watchedTxLease[T]) Renew(ctx context.Context) error { return s.life.renew(ctx, s.lease) }

func (s *watchedTxLease[T]) Release(ctx context.Context) error { return s.life.release(ctx, s.lease) }

type watchedTx[T any] struct {
	watched
	inner listener.TxStore[T]
	turns chan struct{}
}

func (s *watchedTx[T]) InTx(ctx context.Context, name string, do func(tx T, at eventstore.From) (eventstore.From, error)) error {
	if err := s.life.fault("before a transaction"); err != nil {
		return err
	}
	if s.turns != nil {
		select {
		case s.turns <- struct{}{}:
			defer func() { <-s.turns }()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	ctx, cancel := s.life.underWay(ctx)
	defer cancel()
	err := s.inner.InTx(ctx, name, func(tx T, at eventstore.From) (eventstore.From, error) {
		next, err := do(tx, at)
		if err == nil {
			err = s.life.fault("before a commit")
		}
		return next, err
	})
	if err != nil {
		return err
	}
	return s.life.fault("behind a commit")
}

// Transactional is what a listener with transactions needs of its database.
type Transactional[T any] struct {
	Store listener.TxStore[T]
	Turns chan struct{}             // see Transactions
	Apply func(T, Effect) error     // adds an effect, behind those that there are
	Read  func(T) ([]Effect, error) // all of them

	between func(listener.TxStore[T]) listener.TxStore[T] // see layers
}

var errLook = errors.New("only a look")

// Follower makes a listener of it.
func (d Transactional[T]) Follower(rules Rules) Follower {
	rules.Shared, rules.Effects = true, true
	return Follower{
		Rules: rules,
		Follow: func(l *Life) error {
			cfg := l.config()
			lis, err := listener.NewTx(l.Client, cfg, put(d.between, Transactions(l, d.Store, d.Turns)), func(ctx context.Context, tx T, e eventstore.ResolvedEvent) error {
				return l.Work(ctx, l.Leg(), []eventstore.ResolvedEvent{e}, func() error {
					return d.Apply(tx, Effect{Behind: e.Checkpoint().String(), Leg: l.Leg().String()})
				})
			})
			return l.run(lis, err)
		},
		Look: func(ctx context.Context) (all []Effect, at eventstore.From, err error) {
			if d.Turns != nil {
				d.Turns <- struct{}{}
				defer func() { <-d.Turns }()
			}
			err = d.Store.InTx(ctx, sharedName, func(tx T, place eventstore.From) (eventstore.From, error) {
				var err error
				if all, err = d.Read(tx); err != nil {
					return place, err
				}
				at = place
				return place, errLook
			})
			if errors.Is(err, errLook) {
				err = nil
			}
			return all, at, err
		},
	}
}
