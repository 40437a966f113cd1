package sqltest

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/storetest"
	"github.com/goeventstore/eventstore/listener"
	"github.com/goeventstore/eventstore/listener/sqlstore"
)

// effects are values by key in a table.
func effects(t *testing.T, d database, db *sql.DB) storetest.Effects[*sql.Tx] {
	t.Helper()
	_, err := db.ExecContext(t.Context(), `CREATE TABLE effects (k TEXT PRIMARY KEY, v TEXT NOT NULL)`)
	require.NoError(t, err)
	put, get := `INSERT INTO effects VALUES (?, ?) ON CONFLICT (k) DO UPDATE SET v = excluded.v`, `SELECT v FROM effects WHERE k = ?`
	if d.dialect == sqlstore.Postgres {
		put, get = `INSERT INTO effects VALUES ($1, $2) ON CONFLICT (k) DO UPDATE SET v = excluded.v`, `SELECT v FROM effects WHERE k = $1`
	}
	return storetest.Effects[*sql.Tx]{
		Put: func(tx *sql.Tx, key, value string) error {
			_, err := tx.ExecContext(t.Context(), put, key, value)
			return err
		},
		Get: func(tx *sql.Tx, key string) (value string) {
			if err := tx.QueryRowContext(t.Context(), get, key).Scan(&value); err != nil && !errors.Is(err, sql.ErrNoRows) {
				t.Errorf("read an effect: %v", err)
			}
			return value
		},
	}
}

func TestStoresSQLite(t *testing.T) {
	for name, pragmas := range map[string][]string{
		"as recommended":      usual,
		"that does not wait":  {"busy_timeout(0)", "journal_mode(wal)", "synchronous(off)"},
		"with a rollback log": {"busy_timeout(5000)", "journal_mode(delete)", "synchronous(off)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := sqlite(t, pragmas...)
			e := effects(t, d, d.open(t))
			storetest.TxStore(t, d.store(t), e)
			storetest.TxLeaser(t, d.store(t), d.store(t), e)
		})
	}
	t.Run("one connection, in memory", func(t *testing.T) {
		t.Parallel()
		db := database{sqlstore.SQLite, "sqlite", ":memory:"}.open(t)
		db.SetMaxOpenConns(1)
		require.NoError(t, sqlstore.CreateTable(t.Context(), db, sqlstore.SQLite, "checkpoints"))
		s, err := sqlstore.New(t.Context(), db, sqlstore.SQLite, "checkpoints")
		require.NoError(t, err)
		e := effects(t, database{dialect: sqlstore.SQLite}, db)
		storetest.TxStore(t, s, e)
		storetest.TxLeaser(t, s, s, e)
	})
}

func TestStoresPostgres(t *testing.T) {
	d := postgres(t)
	e := effects(t, d, d.open(t))
	storetest.TxStore(t, d.store(t), e)
	storetest.TxLeaser(t, d.store(t), d.store(t), e)
}

// A database whose transactions are stricter by default does not refuse who waited for a row.
func TestStoresPostgresSerializable(t *testing.T) {
	d := postgres(t)
	d.source += " default_transaction_isolation=serializable"
	e := effects(t, d, d.open(t))
	storetest.TxStore(t, d.store(t), e)
	storetest.TxLeaser(t, d.store(t), d.store(t), e)
}

func TestTables(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) { tables(t, sqlite(t, usual...)) })
}

func TestTablesPostgres(t *testing.T) {
	d := postgres(t)
	tables(t, d)
	db := d.open(t)
	_, err := db.ExecContext(t.Context(), `CREATE SCHEMA "Read"`)
	require.NoError(t, err)
	require.NoError(t, sqlstore.CreateTable(t.Context(), db, d.dialect, "Read.Checkpoints"))
	s, err := sqlstore.New(t.Context(), db, d.dialect, "Read.Checkpoints")
	require.NoError(t, err)
	require.NoError(t, s.Save(t.Context(), "a", eventstore.After(1)))
	var n int
	require.NoError(t, db.QueryRowContext(t.Context(), `SELECT count(*) FROM "Read"."Checkpoints"`).Scan(&n))
	require.Equal(t, 1, n)
}

func tables(t *testing.T, d database) {
	t.Helper()
	db := d.open(t)
	_, err := sqlstore.New(t.Context(), db, d.dialect, "checkpoints")
	require.ErrorContains(t, err, "table checkpoints is not there, or not of this kind; CreateTable makes it")
	_, err = db.ExecContext(t.Context(), `CREATE TABLE other (name TEXT, checkpoint TEXT)`)
	require.NoError(t, err)
	_, err = sqlstore.New(t.Context(), db, d.dialect, "other")
	require.ErrorContains(t, err, "table other is not there, or not of this kind")

	var all sync.WaitGroup
	for range 8 {
		mine := d.open(t)
		all.Go(func() {
			if err := sqlstore.CreateTable(t.Context(), mine, d.dialect, "checkpoints"); err != nil {
				t.Errorf("many at once: %v", err)
			}
		})
	}
	all.Wait()
	s, err := sqlstore.New(t.Context(), db, d.dialect, "checkpoints")
	require.NoError(t, err)
	require.NoError(t, s.Save(t.Context(), "a", eventstore.After(1)))
	require.NoError(t, sqlstore.CreateTable(t.Context(), db, d.dialect, "checkpoints"), "it stays as it is")
	at, err := s.Load(t.Context(), "a")
	require.NoError(t, err)
	require.Equal(t, eventstore.After(1), at)

	_, err = db.ExecContext(t.Context(), `UPDATE checkpoints SET checkpoint = 'nowhere'`)
	require.NoError(t, err)
	says := `checkpoint "a" in table checkpoints is none; set it to NULL to begin anew`
	_, err = s.Load(t.Context(), "a")
	require.ErrorContains(t, err, says)
	err = s.InTx(t.Context(), "a", func(*sql.Tx, eventstore.From) (eventstore.From, error) {
		t.Error("called without a checkpoint")
		return eventstore.After(1), nil
	})
	require.ErrorContains(t, err, says)
	_, err = db.ExecContext(t.Context(), `UPDATE checkpoints SET checkpoint = NULL`)
	require.NoError(t, err)
	_, err = s.Load(t.Context(), "a")
	require.ErrorIs(t, err, listener.ErrNoCheckpoint)
}

// Somebody removes the row of a name and begins anew: what the owner of a lease from before saves is still refused.
func TestTokensGrowOverARemovedRow(t *testing.T) {
	d := sqlite(t, usual...)
	s := d.store(t)
	old, err := s.Acquire(t.Context(), "a", "old", time.Hour)
	require.NoError(t, err)
	_, err = d.open(t).ExecContext(t.Context(), `DELETE FROM checkpoints`)
	require.NoError(t, err)
	require.ErrorIs(t, old.Renew(t.Context()), listener.ErrFenced)
	_, err = s.Acquire(t.Context(), "a", "new", time.Hour)
	require.NoError(t, err)
	require.ErrorIs(t, old.Save(t.Context(), "a", eventstore.After(1)), listener.ErrFenced)
}

// A machine vanishes in the middle of a transaction: PostgreSQL, which has its locks, hears nothing from it, nor that it is gone.
func TestAVanishedOwnerKeepsNoLock(t *testing.T) {
	d := postgres(t)
	const ttl = 500 * time.Millisecond
	l, err := d.store(t).Acquire(t.Context(), "a", "vanished", ttl)
	require.NoError(t, err)
	tx, ok := l.(listener.TxStore[*sql.Tx])
	require.True(t, ok)
	other := d.store(t)
	err = tx.InTx(t.Context(), "a", func(tx *sql.Tx, _ eventstore.From) (eventstore.From, error) {
		_, err := tx.ExecContext(t.Context(), `CREATE TABLE lost (n INT)`)
		require.NoError(t, err)
		began := time.Now()
		next, err := other.Acquire(t.Context(), "a", "next", time.Hour)
		require.NoError(t, err)
		require.GreaterOrEqual(t, time.Since(began), ttl-ttl/10)
		require.NoError(t, next.Save(t.Context(), "a", eventstore.After(7)))
		return eventstore.After(1), nil
	})
	require.Error(t, err)
	at, err := other.Load(t.Context(), "a")
	require.NoError(t, err)
	require.Equal(t, eventstore.After(7), at)
	_, err = d.open(t).ExecContext(t.Context(), `SELECT * FROM lost`)
	require.Error(t, err)
}

// An owner waits for the writer of an SQLite that does not wait, and its context ends meanwhile.
func TestWaitingForAWriterEndsWithTheContext(t *testing.T) {
	d := sqlite(t, "busy_timeout(0)", "journal_mode(wal)")
	s, other := d.store(t), d.store(t)
	err := s.InTx(t.Context(), "a", func(*sql.Tx, eventstore.From) (eventstore.From, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, other.Save(ctx, "b", eventstore.After(1)), context.DeadlineExceeded)
		require.ErrorIs(t, other.InTx(ctx, "b", nil), context.DeadlineExceeded)
		return eventstore.After(1), nil
	})
	require.NoError(t, err)
	require.NoError(t, other.Save(t.Context(), "b", eventstore.After(1)))
}

func TestWhatIsNoTableIsRefused(t *testing.T) {
	db := sqlite(t, usual...).open(t)
	for _, table := range []string{"", "a b", `a"b`, "a;b", "1a", "a.b.c", ".a", "a.", "é", strings.Repeat("a", 64)} {
		_, err := sqlstore.New(t.Context(), db, sqlstore.SQLite, table)
		require.ErrorIs(t, err, eventstore.ErrArgument, table)
		require.ErrorIs(t, sqlstore.CreateTable(t.Context(), db, sqlstore.SQLite, table), eventstore.ErrArgument, table)
	}
	_, err := sqlstore.New(t.Context(), db, 0, "a")
	require.ErrorContains(t, err, "dialect 0 is unknown")
	_, err = sqlstore.New(t.Context(), nil, sqlstore.SQLite, "a")
	require.ErrorContains(t, err, "no database")
	require.NoError(t, sqlstore.CreateTable(t.Context(), db, sqlstore.SQLite, "select"), "it is quoted")
	_, err = sqlstore.New(t.Context(), db, sqlstore.SQLite, "select")
	require.NoError(t, err)
}
