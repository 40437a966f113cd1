package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/pause"
	"github.com/goeventstore/eventstore/listener"
)

// Acquire implements listener.Leaser. The lease is a listener.TxStore[*sql.Tx].
func (s *Store) Acquire(ctx context.Context, name, owner string, ttl time.Duration) (listener.Lease, error) {
	if err := s.checkName(name); err != nil {
		return nil, err
	}
	for {
		var r row
		err := s.retry(ctx, func() error { return r.scan(s.db.QueryRowContext(ctx, s.look, name)) })
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return nil, s.failed(ctx, name, err)
		}
		if r.free() {
			l, err := s.take(ctx, name, owner, ttl)
			if l != nil || err != nil {
				return l, err
			}
			continue // somebody was quicker
		}
		left := time.Duration(r.expires-r.now) * time.Millisecond
		if err := pause.For(ctx, min(left, max(ttl/10, time.Millisecond))); err != nil {
			return nil, s.failed(ctx, name, err)
		}
	}
}

// take acquires the lease if nobody has it; nil otherwise.
func (s *Store) take(ctx context.Context, name, owner string, ttl time.Duration) (listener.Lease, error) {
	tx, r, err := s.begin(ctx, name, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback() }() // nothing once it is committed
	if !r.free() {
		return nil, nil //nolint:nilnil // see above
	}
	// Where somebody has removed the row it is another one all the same: of a later time, or by chance.
	token := max(r.token+1, r.now<<16|rand.Int64N(1<<16)) // #nosec G404 -- it is no secret
	l := &lease{store: s, name: name, ttl: max(ttl, time.Millisecond), token: token}
	if _, err := tx.ExecContext(ctx, s.acquire, owner, l.token, l.ttl.Milliseconds(), name); err != nil {
		return nil, s.failed(ctx, name, err)
	}
	if err := tx.Commit(); err != nil {
		return nil, s.failed(ctx, name, err)
	}
	return l, nil
}

// lease is the store of one owner.
type lease struct {
	store *Store
	name  string
	ttl   time.Duration
	token int64
	held  atomic.Int32 // transactions that have the row: nobody else can acquire it
}

var (
	_ listener.Lease            = (*lease)(nil)
	_ listener.TxStore[*sql.Tx] = (*lease)(nil)
)

func (l *lease) check(name string) error {
	if name != l.name {
		return fmt.Errorf("sqlstore: %w: the lease is of %q, not of %q", eventstore.ErrArgument, l.name, name)
	}
	return nil
}

func (l *lease) Load(ctx context.Context, name string) (eventstore.From, error) {
	if err := l.check(name); err != nil {
		return eventstore.From{}, err
	}
	return l.store.Load(ctx, name)
}

func (l *lease) Save(ctx context.Context, name string, at eventstore.From) error {
	if err := l.check(name); err != nil {
		return err
	}
	return l.change(ctx, l.store.saveLeased, at.String(), l.ttl.Milliseconds(), name, l.token)
}

func (l *lease) Renew(ctx context.Context) error {
	if l.held.Load() > 0 {
		return nil // it would wait for its own transaction, which has the lease for as long as it lasts
	}
	return l.change(ctx, l.store.renew, l.ttl.Milliseconds(), l.name, l.token)
}

func (l *lease) Release(ctx context.Context) error {
	return l.change(ctx, l.store.release, l.name, l.token)
}

// change changes the row, if its lease is this one.
func (l *lease) change(ctx context.Context, statement string, args ...any) error {
	changed, err := l.store.exec(ctx, statement, args...)
	if err == nil && changed == 0 {
		err = listener.ErrFenced
	}
	return l.store.failed(ctx, l.name, err)
}

func (l *lease) InTx(ctx context.Context, name string, do func(tx *sql.Tx, at eventstore.From) (eventstore.From, error)) error {
	if err := l.check(name); err != nil {
		return err
	}
	s := l.store
	tx, r, err := s.begin(ctx, name, l.ttl)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // nothing once it is committed
	if r.token != l.token || r.expires == 0 {
		return s.failed(ctx, name, listener.ErrFenced)
	}
	l.held.Add(1)
	defer l.held.Add(-1)
	return s.finish(ctx, tx, name, r, do, func(next string) error {
		_, err := tx.ExecContext(ctx, s.saveLeased, next, l.ttl.Milliseconds(), name, l.token)
		return err
	})
}
