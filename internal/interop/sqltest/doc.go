// Package sqltest runs the tests of listener/sqlstore against real databases: SQLite, which is linked in, and a PostgreSQL that the
// tests start for themselves. It has only tests, and is in this module because of the drivers.
//
// Without PostgreSQL's programs (Debian's package postgresql; initdb in PATH or below /usr/lib/postgresql) its tests are skipped,
// but fail where CI is set.
package sqltest
