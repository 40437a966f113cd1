package listener

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/google/uuid"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/pause"
)

// ErrFenced refuses what an owner saves that has lost its lease: another instance has it, or may.
var ErrFenced = errors.New("the lease is lost")

// Leaser is a Store that lets one of many instances work under a name. Run waits for a lease of such a store and works with
// it in the store's place.
type Leaser interface {
	// Acquire waits until nobody has the lease of the name and takes it. Somebody has it for ttl from when it was acquired or
	// last renewed, unless it is released before. The owner is a word for people: two instances are two, whatever they
	// are called.
	Acquire(ctx context.Context, name, owner string, ttl time.Duration) (Lease, error)
}

// Lease is the store of one owner, for one name. The store compares the lease with the one that it has, in one step with what
// it changes: what an owner saves after another has acquired the lease is refused with ErrFenced, however late it comes.
// The lease of a TxStore[T] is a TxStore[T]. Its methods are safe for concurrent use and end with their contexts.
type Lease interface {
	Store
	// Renew keeps the lease for another ttl. It is ErrFenced when somebody else has acquired it.
	Renew(ctx context.Context) error
	// Release lets another instance have the lease at once.
	Release(ctx context.Context) error
}

// errLost ends a tenure: the lease is not ours any more, or may not be. ErrFenced of a sink's store is made that, since a
// handler may return an ErrFenced of its own.
var errLost = errors.New("another instance may go on")

// fenced tells apart the errors of a sink's store.
func fenced(err error) error {
	if errors.Is(err, ErrFenced) {
		return fmt.Errorf("%w: %w", errLost, err)
	}
	return err
}

// takeTurns works whenever it has the lease, until a tenure ends otherwise than by its loss.
func (l *Listener) takeTurns(ctx context.Context, store Leaser) error {
	waits := l.cfg.Backoff()
	for {
		began := time.Now()
		err := l.tenure(ctx, store)
		if !errors.Is(err, errLost) {
			return err
		}
		if ctx.Err() != nil {
			return nil //nolint:nilerr // nothing is left to save: whoever has the lease goes on from the checkpoint
		}
		l.update(func(s *Status) { s.State, s.LastError = Waiting, err })
		if time.Since(began) > l.cfg.LeaseTTL {
			waits = l.cfg.Backoff() // no loop of losses
		}
		d := waits.NextBackOff()
		if d == backoff.Stop {
			return err
		}
		if pause.For(ctx, d) != nil {
			return nil //nolint:nilerr // as above
		}
	}
}

// tenure waits for the lease and works with it until it is lost, or all is over.
func (l *Listener) tenure(ctx context.Context, store Leaser) error {
	l.update(func(s *Status) { s.State = Waiting })
	lease, err := store.Acquire(ctx, l.cfg.Name, l.cfg.Owner, l.cfg.LeaseTTL)
	if err != nil {
		return unattainable(err)
	}
	// Nobody knows since when it is ours. It is from before this renewal.
	asked := time.Now()
	first, cancel := context.WithTimeout(ctx, l.cfg.LeaseTTL)
	err = lease.Renew(first)
	cancel()
	if err != nil {
		return fmt.Errorf("%w: renew the lease: %w", errLost, err)
	}
	held, let := l.keep(ctx, lease, asked)
	err = l.work(held, lease)
	if err == nil && errors.Is(context.Cause(held), errLost) {
		err = context.Cause(held)
	}
	let()
	if !errors.Is(err, errLost) {
		// If it cannot be released, it runs out.
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastSave)
		defer cancel()
		_ = lease.Release(last)
	}
	return err
}

// unattainable tells a store that cannot be asked just now, which is waited for like another's lease, from one that never can.
func unattainable(err error) error {
	for _, target := range []error{
		eventstore.ErrClosed, eventstore.ErrArgument, eventstore.ErrAccessDenied, eventstore.ErrNotAuthenticated,
		eventstore.ErrReadOnly, eventstore.ErrStreamDeleted,
	} {
		if errors.Is(err, target) {
			return fmt.Errorf("acquire the lease: %w", err)
		}
	}
	return fmt.Errorf("%w: acquire the lease: %w", errLost, err)
}

// keep renews the lease. The context that it returns ends, with errLost as its cause, when another has the lease and, by our
// clock, a fifth of its time before another may have it: whoever heeds the context has done when the next owner begins. let
// ends all that.
func (l *Listener) keep(ctx context.Context, lease Lease, asked time.Time) (held context.Context, let func()) {
	ttl := l.cfg.LeaseTTL
	safe := ttl - ttl/5
	held, lose := context.WithCancelCause(ctx)
	runOut := time.AfterFunc(safe-time.Since(asked), func() { lose(fmt.Errorf("%w: the lease was not renewed for %v", errLost, safe)) })
	done := make(chan struct{}) // closed by the goroutine that renews
	go func() {
		defer close(done)
		for wait := ttl / 3; pause.For(held, wait) == nil; {
			asked := time.Now()
			try, cancel := context.WithTimeout(held, ttl/5)
			err := lease.Renew(try)
			cancel()
			switch {
			case errors.Is(err, ErrFenced):
				lose(fenced(err))
				return
			case err != nil:
				wait = ttl / 15
				l.update(func(s *Status) { s.LastError = fmt.Errorf("renew the lease: %w", err) })
			case !runOut.Stop():
				return // too late
			default:
				wait = ttl / 3
				runOut.Reset(safe - time.Since(asked))
			}
		}
	}()
	return held, func() {
		lose(context.Canceled)
		runOut.Stop()
		<-done
	}
}

// someOwner is the default of Config.Owner.
func someOwner() string {
	host, _ := os.Hostname()
	return fmt.Sprintf("%s-%d-%s", cmp.Or(host, "unknown"), os.Getpid(), uuid.NewString()[:8])
}
