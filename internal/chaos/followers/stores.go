package followers

import (
	"context"
	"errors"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/listener"
)

// Store is the store of a process: it tells the tape what happens to it, fails now and then, before it has done something and
// behind, and does nothing any more when its process is dead.
func (l *Life) Store(s listener.Store) listener.Store { return &watched{l, s} }

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
		case n < 4:
			l.still.pause(l.long())
			l.pass()
		case n < 16:
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
	leg := s.life.Leg()
	leg.tell(entry{verb: saves, place: at})
	if err := s.inner.Save(ctx, name, at); err != nil {
		return err
	}
	leg.tell(entry{verb: saved, place: at})
	return s.life.fault("behind a save")
}

// Transactions is Store for a store with transactions. turns, with room for one, is for a store that has one transaction at a
// time by a lock: in virtual time nobody may wait for a lock. It may be nil.
func Transactions[T any](l *Life, s listener.TxStore[T], turns chan struct{}) listener.TxStore[T] {
	return &watchedTx[T]{watched{l, s}, s, turns}
}

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
