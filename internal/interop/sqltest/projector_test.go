package sqltest

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/listener"
	"github.com/goeventstore/eventstore/listener/sqlstore"
)

// The kill tests start the test binary as a projector: with this variable set, which says of which kind, and the server, the
// driver, the database and its dialect as arguments. It ends when its standard input does, which is when the test is gone.
const projectorVariable = "SQLTEST_PROJECTOR"

// The kinds of projectors.
const (
	leased = "leased"
	apart  = "apart" // without leases, and the checkpoint in a transaction of its own: applies events twice
)

const (
	stream     = "movements"
	checkpoint = "projector"
	leaseTTL   = 500 * time.Millisecond
)

func projectorMain() {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(3)
	}()
	dialect, err := strconv.Atoi(os.Args[4])
	if err == nil {
		err = project(os.Getenv(projectorVariable), os.Args[1], os.Args[2], os.Args[3], sqlstore.Dialect(dialect))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func project(kind, target, driver, source string, dialect sqlstore.Dialect) error {
	ctx := context.Background()
	client, err := eventstore.Connect(ctx, target)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	db, err := sql.Open(driver, source)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	store, err := sqlstore.New(ctx, db, dialect, "checkpoints")
	if err != nil {
		return err
	}
	var to listener.TxStore[*sql.Tx] = store
	if kind == apart {
		to = apartStore{store}
	}
	insert := `INSERT INTO effects (n, owner) VALUES (?, ?)`
	if dialect == sqlstore.Postgres {
		insert = `INSERT INTO effects (n, owner) VALUES ($1, $2)`
	}
	l, err := listener.NewTx(client, listener.Config{
		Name: checkpoint, Stream: stream, SaveEvery: 10, LeaseTTL: leaseTTL,
		Backoff: func() backoff.BackOff { return backoff.NewConstantBackOff(10 * time.Millisecond) },
	}, to, func(ctx context.Context, tx *sql.Tx, e eventstore.ResolvedEvent) error {
		fmt.Println("handle", e.Event.Number)
		_, err := tx.ExecContext(ctx, insert, e.Event.Number, os.Getpid())
		return err
	})
	if err != nil {
		return err
	}
	return l.Run(ctx)
}

// apartStore commits the effects and then the checkpoint.
type apartStore struct{ store *sqlstore.Store }

func (s apartStore) Load(ctx context.Context, name string) (eventstore.From, error) {
	return s.store.Load(ctx, name)
}

func (s apartStore) Save(ctx context.Context, name string, at eventstore.From) error {
	return s.store.Save(ctx, name, at)
}

func (s apartStore) InTx(ctx context.Context, name string, do func(tx *sql.Tx, at eventstore.From) (eventstore.From, error)) error {
	var next eventstore.From
	err := s.store.InTx(ctx, name, func(tx *sql.Tx, at eventstore.From) (_ eventstore.From, err error) {
		next, err = do(tx, at)
		return at, err
	})
	if err != nil {
		return err
	}
	time.Sleep(5 * time.Millisecond) // for the other projector, or for a kill
	return s.store.Save(ctx, name, next)
}
