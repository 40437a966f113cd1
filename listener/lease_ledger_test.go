package listener_test

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/pause"
	"github.com/goeventstore/eventstore/listener"
)

// leasedLedger is a ledger with leases.
type leasedLedger struct {
	*ledger

	mu     sync.Mutex              // guards what follows
	leases map[string]*ledgerLease // those that were not released
	count  int                     // of all leases that were acquired
}

func newLeasedLedger() *leasedLedger {
	return &leasedLedger{ledger: newLedger(), leases: map[string]*ledgerLease{}}
}

type ledgerLease struct {
	ledger      *leasedLedger
	name, owner string
	number      int // of all that were acquired
	ttl         time.Duration
	until       time.Time // under the ledger's mu
}

func (l *leasedLedger) Acquire(ctx context.Context, name, owner string, ttl time.Duration) (listener.Lease, error) {
	for {
		if err := l.take(ctx); err != nil {
			return nil, err
		}
		l.mu.Lock()
		have := l.leases[name]
		mine := &ledgerLease{ledger: l, name: name, owner: owner, ttl: ttl, until: time.Now().Add(ttl)}
		wait := ttl / 10
		free := have == nil || !time.Now().Before(have.until)
		if free {
			l.count++
			mine.number, l.leases[name] = l.count, mine
		} else {
			wait = min(wait, time.Until(have.until))
		}
		l.mu.Unlock()
		l.give()
		if free {
			return mine, nil
		}
		if err := pause.For(ctx, wait); err != nil {
			return nil, err
		}
	}
}

// touch checks the lease and changes it.
func (l *ledgerLease) touch(change func()) error {
	l.ledger.mu.Lock()
	defer l.ledger.mu.Unlock()
	if l.ledger.leases[l.name] != l {
		return fmt.Errorf("%q: %w", l.owner, listener.ErrFenced)
	}
	change()
	return nil
}

func (l *ledgerLease) extend() { l.until = time.Now().Add(l.ttl) }

func (l *ledgerLease) Renew(context.Context) error { return l.touch(l.extend) }

func (l *ledgerLease) Release(context.Context) error {
	return l.touch(func() { delete(l.ledger.leases, l.name) })
}

func (l *ledgerLease) Load(ctx context.Context, name string) (eventstore.From, error) {
	if name != l.name {
		return eventstore.From{}, eventstore.ErrArgument
	}
	return l.ledger.Load(ctx, name)
}

func (l *ledgerLease) Save(ctx context.Context, name string, at eventstore.From) error {
	return l.InTx(ctx, name, func(*page, eventstore.From) (eventstore.From, error) { return at, nil })
}

func (l *ledgerLease) InTx(ctx context.Context, name string, do func(p *page, at eventstore.From) (eventstore.From, error)) error {
	if name != l.name {
		return eventstore.ErrArgument
	}
	return l.ledger.InTx(ctx, name, func(p *page, at eventstore.From) (eventstore.From, error) {
		if err := l.touch(func() {}); err != nil { // the turn is taken: nobody acquires it meanwhile
			return at, err
		}
		at, err := do(p, at)
		_ = l.touch(l.extend)
		return at, err
	})
}
