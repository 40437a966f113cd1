package sqltest

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/goeventstore/eventstore/listener/sqlstore"
)

func TestMain(m *testing.M) {
	if os.Getenv(projectorVariable) != "" {
		projectorMain()
	}
	code := m.Run()
	if c, err := started(); err == nil {
		if err := c.stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stop PostgreSQL:", err)
			code = 1
		}
	}
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// started starts PostgreSQL once, when the first test wants it.
var (
	wanted  atomic.Bool
	started = sync.OnceValues(func() (*cluster, error) {
		if !wanted.Load() {
			return nil, errNoPostgres // nobody has
		}
		return startCluster()
	})
)

// database is an empty database of a test.
type database struct {
	dialect        sqlstore.Dialect
	driver, source string
}

// open opens it as a process of its own would.
func (d database) open(t *testing.T) *sql.DB {
	t.Helper()
	db, err := sql.Open(d.driver, d.source)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

// store returns a store in the table checkpoints.
func (d database) store(t *testing.T) *sqlstore.Store {
	t.Helper()
	db := d.open(t)
	require.NoError(t, sqlstore.CreateTable(t.Context(), db, d.dialect, "checkpoints"))
	s, err := sqlstore.New(t.Context(), db, d.dialect, "checkpoints")
	require.NoError(t, err)
	return s
}

// sqlite makes a database with these settings.
func sqlite(t *testing.T, pragmas ...string) database {
	t.Helper()
	return database{sqlstore.SQLite, "sqlite", "file:" + filepath.Join(t.TempDir(), "test.db") + "?_pragma=" + strings.Join(pragmas, "&_pragma=")}
}

var databases atomic.Int32 // of PostgreSQL, so far

// usual is how a database of SQLite is opened that several use.
var usual = []string{"busy_timeout(5000)", "journal_mode(wal)", "synchronous(off)"}

// postgres makes a database. Where there is no PostgreSQL the test is skipped, or fails in CI.
func postgres(t *testing.T) database {
	t.Helper()
	wanted.Store(true)
	c, err := started()
	if errors.Is(err, errNoPostgres) && os.Getenv("CI") == "" {
		t.Skip("NOT TESTED: ", err)
	}
	require.NoError(t, err)
	admin, err := sql.Open("pgx", c.source("postgres"))
	require.NoError(t, err)
	defer func() { require.NoError(t, admin.Close()) }()
	name := fmt.Sprint("test", databases.Add(1))
	_, err = admin.ExecContext(t.Context(), `CREATE DATABASE "`+name+`"`)
	require.NoError(t, err)
	return database{sqlstore.Postgres, "pgx", c.source(name)}
}
