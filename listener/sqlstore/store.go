// Package sqlstore keeps the checkpoints of listeners in a table of PostgreSQL or SQLite, beside the read models: listener.NewTx
// changes both in one transaction, so that each event has its effects exactly once, and of the instances of one name, in as many
// processes, one works at a time. It uses database/sql; the driver is the caller's.
//
//	err := sqlstore.CreateTable(ctx, db, sqlstore.Postgres, "checkpoints") // or by hand: see there
//	store, err := sqlstore.New(ctx, db, sqlstore.Postgres, "checkpoints")
//	l, err := listener.NewTx(client, listener.Config{Name: "balances", Stream: "bank"}, store,
//		func(ctx context.Context, tx *sql.Tx, e eventstore.ResolvedEvent) error { ... })
//
// # Leases
//
// A listener acquires the lease of its name, which is in the row of its checkpoint: an owner, a token that grows with each
// acquisition, and an end by the clock of the database. Each transaction locks the row first and compares the token, so that the
// effects of two owners are never mixed, whatever clocks and pauses do: an owner that has lost its lease gets
// listener.ErrFenced and changes nothing. A lease does not run out in the middle of a transaction, and each commit renews it. A
// transaction that takes longer than the lease and then fails may find another owner. What a handler does beside its transaction is
// under no such protection: it may happen twice, and for a moment in two processes.
//
// # PostgreSQL
//
// Transactions read what is committed, whatever the database's default is. One that does nothing in the database for as long as
// the lease lasts is ended by the server, so that a machine that has vanished keeps the lock no longer: a handler that waits for
// something else has to be quicker, or Config.LeaseTTL longer.
//
// # SQLite
//
// Everything that writes takes turns, and a transaction writes from its beginning on: another's is waited for, not collided with. A
// handler uses the transaction it was given; one that wrote by the side would wait for itself. The mode WAL
// (PRAGMA journal_mode = WAL) lets others read meanwhile; without it a commit needs a moment without readers, for which a busy_timeout
// waits. The database is of one machine. Its clock is the machine's.
package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/pause"
	"github.com/goeventstore/eventstore/listener"
)

// Store is a listener.TxStore[*sql.Tx] and a listener.Leaser. It is safe for concurrent use, and as many stores as there are may
// share a table.
type Store struct {
	*statements
	db    *sql.DB
	table string
}

var (
	_ listener.TxStore[*sql.Tx] = (*Store)(nil)
	_ listener.Leaser           = (*Store)(nil)
)

// New returns a store in a table of db, which has to be there: CreateTable makes it. The database is the caller's, who closes it
// when no listener runs any more. The table's name is letters, digits and underscores, perhaps with a schema and a dot in front,
// and is quoted: capitals count.
func New(ctx context.Context, db *sql.DB, d Dialect, table string) (*Store, error) {
	s, err := open(db, d, table)
	if err != nil {
		return nil, err
	}
	if err := s.check(ctx); err != nil {
		return nil, fmt.Errorf("sqlstore: table %s is not there, or not of this kind; CreateTable makes it: %w", table, err)
	}
	return s, nil
}

func open(db *sql.DB, d Dialect, table string) (*Store, error) {
	if db == nil {
		return nil, fmt.Errorf("sqlstore: %w: no database", eventstore.ErrArgument)
	}
	st, err := d.statements(table)
	if err != nil {
		return nil, fmt.Errorf("sqlstore: %w", err)
	}
	return &Store{statements: st, db: db, table: table}, nil
}

func (s *Store) check(ctx context.Context) error {
	return s.retry(ctx, func() error {
		rows, err := s.db.QueryContext(ctx, s.probe)
		if err != nil {
			return err
		}
		return errors.Join(rows.Close(), rows.Err())
	})
}

// Load returns the checkpoint of a name, or listener.ErrNoCheckpoint.
func (s *Store) Load(ctx context.Context, name string) (eventstore.From, error) {
	if err := s.checkName(name); err != nil {
		return eventstore.From{}, err
	}
	var place sql.NullString
	err := s.retry(ctx, func() error { return s.db.QueryRowContext(ctx, s.load, name).Scan(&place) })
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return eventstore.From{}, s.failed(ctx, name, err)
	}
	if !place.Valid {
		return eventstore.From{}, fmt.Errorf("%w %q in table %s", listener.ErrNoCheckpoint, name, s.table)
	}
	return s.parse(name, place)
}

// Save replaces the checkpoint of a name, whoever has its lease.
func (s *Store) Save(ctx context.Context, name string, at eventstore.From) error {
	if err := s.checkName(name); err != nil {
		return err
	}
	_, err := s.exec(ctx, s.save, name, at.String())
	return s.failed(ctx, name, err)
}

// exec has one statement change the table, in a transaction: alone it would be as strict as the database's default, and be refused
// where another waits.
func (s *Store) exec(ctx context.Context, statement string, args ...any) (changed int64, err error) {
	err = s.retry(ctx, func() error {
		tx, err := s.db.BeginTx(ctx, &sql.TxOptions{Isolation: s.isolation})
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }() // nothing once it is committed
		result, err := tx.ExecContext(ctx, statement, args...)
		if err != nil {
			return err
		}
		if changed, err = result.RowsAffected(); err != nil {
			return err
		}
		return tx.Commit()
	})
	return changed, err
}

// InTx implements listener.TxStore, whoever has the lease. The transaction is rolled back when ctx ends.
func (s *Store) InTx(ctx context.Context, name string, do func(tx *sql.Tx, at eventstore.From) (eventstore.From, error)) error {
	tx, r, err := s.begin(ctx, name, 0)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // nothing once it is committed
	return s.finish(ctx, tx, name, r, do, func(next string) error {
		_, err := tx.ExecContext(ctx, s.place, next, name)
		return err
	})
}

// finish has do and save done in a transaction, and commits it.
func (s *Store) finish(
	ctx context.Context, tx *sql.Tx, name string, r row,
	do func(*sql.Tx, eventstore.From) (eventstore.From, error), save func(next string) error,
) error {
	at, err := s.parse(name, r.place)
	if err != nil {
		return err
	}
	next, err := do(tx, at)
	if err != nil {
		return err
	}
	if err := save(next.String()); err != nil {
		return s.failed(ctx, name, err)
	}
	return s.failed(ctx, name, tx.Commit())
}

// row is what a name has in the table.
type row struct {
	place               sql.NullString
	token, expires, now int64
}

// free says that nobody has the lease.
func (r *row) free() bool { return r.expires <= r.now }

func (r *row) scan(from *sql.Row) error {
	var idle sql.NullString
	return from.Scan(&r.place, &r.token, &r.expires, &r.now, &idle)
}

// begin begins a transaction that has a name's row to itself. With idle the server ends it when it is left alone for so long.
func (s *Store) begin(ctx context.Context, name string, idle time.Duration) (tx *sql.Tx, r row, err error) {
	if err := s.checkName(name); err != nil {
		return nil, r, err
	}
	limit := strconv.FormatInt(idle.Milliseconds(), 10)
	err = s.retry(ctx, func() (err error) {
		if tx, err = s.db.BeginTx(ctx, &sql.TxOptions{Isolation: s.isolation}); err != nil {
			return err
		}
		if err = s.lockRow(ctx, tx, name, limit, &r); err != nil {
			return errors.Join(err, tx.Rollback())
		}
		return nil
	})
	return tx, r, s.failed(ctx, name, err)
}

func (s *Store) lockRow(ctx context.Context, tx *sql.Tx, name, idle string, r *row) error {
	if !s.writeFirst {
		err := r.scan(tx.QueryRowContext(ctx, s.lock, idle, idle, name))
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
	}
	if _, err := tx.ExecContext(ctx, s.insert, name); err != nil {
		return err
	}
	return r.scan(tx.QueryRowContext(ctx, s.lock, idle, idle, name))
}

// turn is how long a database that refuses to wait is left alone.
const turn = 5 * time.Millisecond

// retry calls f until the database does not refuse it for somebody else's sake.
func (s *Store) retry(ctx context.Context, f func() error) error {
	for {
		err := f()
		if !s.busy(err) {
			return err
		}
		if ended := pause.For(ctx, turn); ended != nil {
			return fmt.Errorf("%w: %w", ended, err)
		}
	}
}

// failed says where it was, and that the context has ended if it has, which not every driver does.
func (s *Store) failed(ctx context.Context, name string, err error) error {
	if err == nil {
		return nil
	}
	err = fmt.Errorf("checkpoint %q in table %s: %w", name, s.table, err)
	if ended := ctx.Err(); ended != nil && !errors.Is(err, ended) {
		err = fmt.Errorf("%w: %w", ended, err)
	}
	return err
}

func (s *Store) parse(name string, place sql.NullString) (at eventstore.From, err error) {
	if !place.Valid {
		return at, nil
	}
	if err := at.UnmarshalText([]byte(place.String)); err != nil {
		return at, fmt.Errorf("checkpoint %q in table %s is none; set it to NULL to begin anew: %w", name, s.table, err)
	}
	return at, nil
}

// checkName refuses what PostgreSQL cannot keep as text.
func (s *Store) checkName(name string) error {
	if !utf8.ValidString(name) || strings.ContainsRune(name, 0) {
		return fmt.Errorf("%w: checkpoint %q: a name in a table is UTF-8 without zeros", eventstore.ErrArgument, name)
	}
	return nil
}
