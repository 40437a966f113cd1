package store

import "go.etcd.io/bbolt"

// Committing has a test do the commits of a file; it calls commit, or not.
func (d *Disk) Committing(do func(commit func() error) error) {
	d.commit = func(tx *bbolt.Tx) error { return do(tx.Commit) }
}

// Syncs reports whether a commit waits for the disk.
func (d *Disk) Syncs() bool { return !d.db.NoSync && !d.db.NoGrowSync }

// PageSize is that of the file.
func (d *Disk) PageSize() int { return d.db.Info().PageSize }
