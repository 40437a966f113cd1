package sqltest

import (
	"database/sql"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/internal/chaos/followers"
	"github.com/goeventstore/eventstore/listener"
	"github.com/goeventstore/eventstore/listener/sqlstore"
)

// underFire are listeners of several processes with one name and one database.
func underFire(open func(t *testing.T) database, with func(*sqlstore.Store) listener.TxStore[*sql.Tx]) *followers.Kind {
	return &followers.Kind{
		Name: "listeners with leases", Sources: []followers.Source{followers.AStream, followers.ACategory, followers.SomeTypes}, Processes: 3, RealTime: true,
		Prepare: func(r *followers.Run) followers.Follower {
			d := open(r.T)
			db := d.open(r.T)
			number, insert := "INTEGER PRIMARY KEY AUTOINCREMENT", `INSERT INTO effects (behind, leg) VALUES (?, ?)`
			if d.dialect == sqlstore.Postgres {
				number, insert = "BIGSERIAL PRIMARY KEY", `INSERT INTO effects (behind, leg) VALUES ($1, $2)`
			}
			_, err := db.ExecContext(r.T.Context(), `CREATE TABLE effects (n `+number+`, behind TEXT NOT NULL, leg TEXT NOT NULL)`)
			require.NoError(r.T, err)
			return followers.Transactional[*sql.Tx]{
				Store: with(d.store(r.T)),
				Apply: func(tx *sql.Tx, e followers.Effect) error {
					_, err := tx.ExecContext(r.T.Context(), insert, e.Behind, e.Leg)
					return err
				},
				Read: func(tx *sql.Tx) (all []followers.Effect, err error) {
					rows, err := tx.QueryContext(r.T.Context(), `SELECT behind, leg FROM effects ORDER BY n`)
					if err != nil {
						return nil, err
					}
					defer func() { err = errors.Join(err, rows.Close(), rows.Err()) }()
					for rows.Next() {
						var e followers.Effect
						if err := rows.Scan(&e.Behind, &e.Leg); err != nil {
							return nil, err
						}
						all = append(all, e)
					}
					return all, nil
				},
			}.Follower(followers.Rules{Leased: true})
		},
	}
}

func sound(s *sqlstore.Store) listener.TxStore[*sql.Tx] { return s }

// The effects are there once each, in order and as far as the checkpoint whenever one looks, and those of two owners are not mixed,
// however often the lease changes hands. In real time, since a database knows no other.
func TestSQLiteUnderFire(t *testing.T) {
	followers.Test(t, []*followers.Kind{underFire(someSQLite, sound)}, 1)
}

func TestPostgresUnderFire(t *testing.T) {
	postgres(t) // or it is skipped
	followers.Test(t, []*followers.Kind{underFire(postgres, sound)}, 1)
}

func someSQLite(t *testing.T) database {
	t.Helper()
	return sqlite(t, usual...)
}

// The same plans tell that the checkpoint in a transaction of its own does not do.
func TestABrokenSQLStoreIsCaught(t *testing.T) {
	followers.RequireCaught(t, underFire(someSQLite, func(s *sqlstore.Store) listener.TxStore[*sql.Tx] { return apartStore{s} }), "effect")
}
