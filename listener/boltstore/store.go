// Package boltstore keeps the checkpoints of listeners in a bbolt database, beside the read models: listener.NewTx changes
// both in one transaction, so that each event has its effects exactly once.
//
//	db, err := bbolt.Open("balances.db", 0o600, nil)
//	store, err := boltstore.New(db, "checkpoints")
//	l, err := listener.NewTx(client, listener.Config{Name: "balances", Stream: "bank"}, store,
//		func(ctx context.Context, tx *bbolt.Tx, e eventstore.ResolvedEvent) error { ... })
//
// The database is the caller's, who opens it, and closes it when no listener runs any more. Everything that shares it takes
// turns: bbolt has one transaction that writes at a time. A handler therefore uses the transaction it was given; one that
// began another would wait for itself.
package boltstore

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/listener"
)

// Store is a listener.TxStore[*bbolt.Tx]. In its bucket the keys are the names of the checkpoints and the values their places
// in words, as From has them. It is safe for concurrent use.
type Store struct {
	db     *bbolt.DB
	bucket []byte
}

var _ listener.TxStore[*bbolt.Tx] = (*Store)(nil)

// New returns a store in a bucket of db, which it makes when it is not there. The bucket is the store's alone. What is
// committed survives what the database survives: with bbolt.Options.NoSync that is less than a crash.
func New(db *bbolt.DB, bucket string) (*Store, error) {
	if db == nil {
		return nil, fmt.Errorf("boltstore: %w: no database", eventstore.ErrArgument)
	}
	s := &Store{db: db, bucket: []byte(bucket)}
	err := db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(s.bucket)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("boltstore: make bucket %q: %w", bucket, err)
	}
	return s, nil
}

// Load returns the checkpoint of a name, or listener.ErrNoCheckpoint.
func (s *Store) Load(ctx context.Context, name string) (at eventstore.From, err error) {
	if err := ctx.Err(); err != nil {
		return at, err
	}
	err = s.db.View(func(tx *bbolt.Tx) error {
		at, err = s.read(tx, name)
		return err
	})
	return at, err
}

// Save replaces the checkpoint of a name in a transaction of its own.
func (s *Store) Save(ctx context.Context, name string, at eventstore.From) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.db.Update(func(tx *bbolt.Tx) error { return s.write(tx, name, at) })
}

// InTx implements listener.TxStore. It waits for the transaction that is under way, which the end of ctx does not cut short.
func (s *Store) InTx(ctx context.Context, name string, do func(tx *bbolt.Tx, at eventstore.From) (eventstore.From, error)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.db.Update(func(tx *bbolt.Tx) error {
		if err := ctx.Err(); err != nil {
			return err // it ended while others had their turn
		}
		at, err := s.read(tx, name)
		if err != nil && !errors.Is(err, listener.ErrNoCheckpoint) {
			return err
		}
		at, err = do(tx, at)
		if err != nil {
			return err
		}
		return s.write(tx, name, at)
	})
}

func (s *Store) read(tx *bbolt.Tx, name string) (at eventstore.From, err error) {
	bucket, err := s.in(tx)
	if err != nil {
		return at, err
	}
	value := bucket.Get([]byte(name))
	if value == nil {
		return at, fmt.Errorf("%w %q in bucket %q", listener.ErrNoCheckpoint, name, s.bucket)
	}
	if err := at.UnmarshalText(value); err != nil {
		return at, fmt.Errorf("key %q in bucket %q is no checkpoint; remove it to begin anew: %w", name, s.bucket, err)
	}
	return at, nil
}

func (s *Store) write(tx *bbolt.Tx, name string, at eventstore.From) error {
	bucket, err := s.in(tx)
	if err != nil {
		return err
	}
	if err := bucket.Put([]byte(name), []byte(at.String())); err != nil {
		return fmt.Errorf("key %q in bucket %q: %w", name, s.bucket, err)
	}
	return nil
}

func (s *Store) in(tx *bbolt.Tx) (*bbolt.Bucket, error) {
	if b := tx.Bucket(s.bucket); b != nil {
		return b, nil
	}
	return nil, fmt.Errorf("bucket %q is gone", s.bucket)
}
