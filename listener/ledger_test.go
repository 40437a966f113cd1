package listener_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/listener"
)

// ledger is a store with transactions in memory. A transaction is a page: a copy that takes the original's place.
type ledger struct {
	turn chan struct{} // holds one value, which whoever reads or changes what follows has taken
	page page

	committed []int        // how many events each transaction has applied
	times     []time.Time  // when each began
	before    func() error // called in front of a commit: an error of it rolls back
	after     func() error // called behind a commit: the caller gets its error all the same
	load      func()       // called by Load when it has looked
}

type page struct {
	places  map[string]eventstore.From
	values  map[string]string
	applied []int64 // numbers of events, in order
}

func newLedger() *ledger {
	l := &ledger{turn: make(chan struct{}, 1), page: page{places: map[string]eventstore.From{}, values: map[string]string{}}}
	l.turn <- struct{}{}
	return l
}

func (l *ledger) take(ctx context.Context) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	select {
	case <-l.turn:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *ledger) give() { l.turn <- struct{}{} }

func (l *ledger) Load(ctx context.Context, name string) (eventstore.From, error) {
	if err := l.take(ctx); err != nil {
		return eventstore.From{}, err
	}
	at, ok := l.page.places[name]
	load := l.load
	l.give()
	if load != nil {
		load()
	}
	if !ok {
		return at, listener.ErrNoCheckpoint
	}
	return at, nil
}

func (l *ledger) Save(ctx context.Context, name string, at eventstore.From) error {
	if err := l.take(ctx); err != nil {
		return err
	}
	defer l.give()
	l.page.places[name] = at
	return nil
}

func (l *ledger) InTx(ctx context.Context, name string, do func(p *page, at eventstore.From) (eventstore.From, error)) error {
	if err := l.take(ctx); err != nil {
		return err
	}
	defer l.give()
	began := time.Now()
	p := page{places: maps.Clone(l.page.places), values: maps.Clone(l.page.values), applied: slices.Clone(l.page.applied)}
	next, err := do(&p, p.places[name])
	if err != nil {
		return fmt.Errorf("rolled back: %w", err)
	}
	p.places[name] = next
	if l.before != nil {
		if err := l.before(); err != nil {
			return err
		}
	}
	if n := len(p.applied) - len(l.page.applied); n > 0 {
		l.committed, l.times = append(l.committed, n), append(l.times, began)
	}
	l.page = p
	if l.after != nil {
		return l.after()
	}
	return nil
}

// with looks at the ledger, or changes it, between transactions.
func (l *ledger) with(t *testing.T, f func()) {
	t.Helper()
	require.NoError(t, l.take(t.Context()))
	defer l.give()
	f()
}

// want checks that the events' effects are there once each, in order, and the checkpoint behind the last.
func (l *ledger) want(t *testing.T, first, count int) {
	t.Helper()
	var all []int64
	for i := range count {
		all = append(all, int64(first+i))
	}
	l.with(t, func() {
		require.Equal(t, all, l.page.applied)
		if count > 0 {
			require.Equal(t, eventstore.After(int64(first+count-1)), l.page.places["l"])
		}
	})
}

// record is a handler whose effect is the event's number.
func record(_ context.Context, p *page, e eventstore.ResolvedEvent) error {
	p.applied = append(p.applied, e.Event.Number)
	return nil
}
