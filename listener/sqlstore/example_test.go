package sqlstore_test

import (
	"context"
	"database/sql"
	"log"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/listener"
	"github.com/goeventstore/eventstore/listener/sqlstore"
)

// A read model in PostgreSQL, which as many processes as one likes may keep: one of them works, each event has its effect once.
// The database was opened with a driver of the caller's choice.
func Example() {
	project := func(ctx context.Context, db *sql.DB, client *eventstore.Client) error {
		if err := sqlstore.CreateTable(ctx, db, sqlstore.Postgres, "checkpoints"); err != nil {
			return err
		}
		store, err := sqlstore.New(ctx, db, sqlstore.Postgres, "checkpoints")
		if err != nil {
			return err
		}
		l, err := listener.NewTx(client, listener.Config{
			Name:       "balances",
			Stream:     "$ce-account",
			OnCaughtUp: func(context.Context) { log.Print("caught up") },
		}, store, func(ctx context.Context, tx *sql.Tx, e eventstore.ResolvedEvent) error {
			if e.Event == nil {
				return nil // a link to an event that is gone
			}
			_, err := tx.ExecContext(ctx, "UPDATE balances SET n = n + 1 WHERE id = $1", e.Event.Stream)
			return err
		})
		if err != nil {
			return err
		}
		return l.Run(ctx)
	}
	_ = project
}
