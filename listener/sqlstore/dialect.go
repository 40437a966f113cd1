package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/goeventstore/eventstore"
)

// Dialect is which SQL the database speaks. The driver is the caller's.
type Dialect int

// The dialects.
const (
	Postgres Dialect = iota + 1 // PostgreSQL from 9.6 on
	SQLite                      // SQLite from 3.24 on
)

// statements are a store's, with the table's name and in the dialect.
type statements struct {
	create, probe string
	load, save    string // of who has no lease

	insert string // the row, if there is none
	lock   string // the row, for a transaction
	look   string // at the row, without a lock
	place  string // the checkpoint, in a transaction that has the row

	acquire, renew, release    string
	saveLeased                 string
	isolation                  sql.IsolationLevel
	writeFirst, waits, numbers bool // see Dialect.statements
}

// What differs: SQLite locks no row but the whole database, with a transaction's first write, and before that a transaction
// could see what is old by then: the first statement has to be a write. It may refuse to wait. In PostgreSQL two transactions at
// once are serial where they lock one row, if each statement sees what is committed; and a transaction that is left alone ends.
func (d Dialect) statements(table string) (*statements, error) {
	quoted, err := quote(table)
	if err != nil {
		return nil, err
	}
	var now, lock, idle string
	s := &statements{}
	switch d {
	case Postgres:
		now = `(extract(epoch FROM clock_timestamp()) * 1000)::bigint`
		lock = ` FOR UPDATE`
		// Of a machine that has vanished in the middle of a transaction, PostgreSQL would keep the lock for hours.
		idle = `set_config('idle_in_transaction_session_timeout', CASE WHEN ? = '0' ` +
			`THEN current_setting('idle_in_transaction_session_timeout') ELSE ? END, true)`
		s.isolation, s.numbers = sql.LevelReadCommitted, true
	case SQLite:
		now = `CAST((julianday('now') - 2440587.5) * 86400000.0 AS INTEGER)`
		idle = `? || ?`
		s.writeFirst, s.waits = true, true
	default:
		return nil, fmt.Errorf("%w: dialect %d is unknown", eventstore.ErrArgument, int(d))
	}
	names := strings.NewReplacer("{table}", quoted, "{now}", now, "{lock}", lock, "{idle}", idle)
	in := func(text string) string {
		text = names.Replace(text)
		for n := 1; s.numbers && strings.Contains(text, "?"); n++ {
			text = strings.Replace(text, "?", "$"+strconv.Itoa(n), 1)
		}
		return text
	}
	s.create = in(`CREATE TABLE IF NOT EXISTS {table} (
	name       TEXT NOT NULL PRIMARY KEY,
	checkpoint TEXT,
	owner      TEXT NOT NULL DEFAULT '',
	token      BIGINT NOT NULL DEFAULT 0,
	expires    BIGINT NOT NULL DEFAULT 0
)`)
	s.probe = in(`SELECT name, checkpoint, owner, token, expires FROM {table} WHERE 1 = 0`)
	s.load = in(`SELECT checkpoint FROM {table} WHERE name = ?`)
	s.save = in(`INSERT INTO {table} (name, checkpoint) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET checkpoint = excluded.checkpoint`)
	s.insert = in(`INSERT INTO {table} (name) VALUES (?) ON CONFLICT (name) DO NOTHING`)
	s.lock = in(`SELECT checkpoint, token, expires, {now}, {idle} FROM {table} WHERE name = ?{lock}`)
	s.look = in(`SELECT checkpoint, token, expires, {now}, '' FROM {table} WHERE name = ?`)
	s.place = in(`UPDATE {table} SET checkpoint = ? WHERE name = ?`)
	s.acquire = in(`UPDATE {table} SET owner = ?, token = ?, expires = {now} + ? WHERE name = ?`)
	const mine = ` WHERE name = ? AND token = ? AND expires > 0`
	s.saveLeased = in(`UPDATE {table} SET checkpoint = ?, expires = {now} + ?` + mine)
	s.renew = in(`UPDATE {table} SET expires = {now} + ?` + mine)
	s.release = in(`UPDATE {table} SET owner = '', expires = 0` + mine)
	return s, nil
}

// tableName is what needs no thought about quoting. PostgreSQL cuts what is longer, so that two names would meet.
var tableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,62}(\.[A-Za-z_][A-Za-z0-9_]{0,62})?$`)

func quote(table string) (string, error) {
	if !tableName.MatchString(table) {
		return "", fmt.Errorf("%w: table %q: want letters, digits and underscores, 63 at most, and perhaps a schema with a dot in front",
			eventstore.ErrArgument, table)
	}
	return `"` + strings.ReplaceAll(table, ".", `"."`) + `"`, nil
}

// busy tells the error of an SQLite that does not wait for another's turn. Drivers have no word for it in common.
func (s *statements) busy(err error) bool {
	return s.waits && err != nil && (strings.Contains(err.Error(), "database is locked") || strings.Contains(err.Error(), "table is locked") ||
		strings.Contains(err.Error(), "SQLITE_BUSY"))
}

// CreateTable makes the table of a store if it is not there. What is there stays as it is. The table has the columns
//
//	name       TEXT NOT NULL PRIMARY KEY
//	checkpoint TEXT                        -- NULL: none
//	owner      TEXT NOT NULL DEFAULT ''    -- of the lease, for people
//	token      BIGINT NOT NULL DEFAULT 0   -- of the last lease; it only grows
//	expires    BIGINT NOT NULL DEFAULT 0   -- milliseconds since 1970 by the database's clock; 0: nobody has the lease
func CreateTable(ctx context.Context, db *sql.DB, d Dialect, table string) error {
	s, err := open(db, d, table)
	if err != nil {
		return err
	}
	err = s.retry(ctx, func() error {
		_, err := db.ExecContext(ctx, s.create)
		return err
	})
	if err != nil && s.check(ctx) == nil {
		return nil // PostgreSQL refuses one of two that make it at once
	}
	if err != nil {
		return fmt.Errorf("sqlstore: make table %s: %w", table, err)
	}
	return nil
}
