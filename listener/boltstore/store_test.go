package boltstore_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/storetest"
	"github.com/goeventstore/eventstore/listener"
	"github.com/goeventstore/eventstore/listener/boltstore"
)

// open opens a database that is quick, since it does not wait for the disk.
func open(t *testing.T, path string) *bbolt.DB {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoSync: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func TestStore(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "test.db"))
	store, err := boltstore.New(db, "checkpoints")
	require.NoError(t, err)
	effects := func(tx *bbolt.Tx) *bbolt.Bucket {
		b, err := tx.CreateBucketIfNotExists([]byte("effects"))
		require.NoError(t, err)
		return b
	}
	storetest.TxStore(t, store, storetest.Effects[*bbolt.Tx]{
		Put: func(tx *bbolt.Tx, key, value string) error { return effects(tx).Put([]byte(key), []byte(value)) },
		Get: func(tx *bbolt.Tx, key string) string { return string(effects(tx).Get([]byte(key))) },
	})
}

func TestAStoreIsInItsBucketAndReadsItsOwn(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "test.db"))
	for i, bucket := range []string{"a", "b"} {
		store, err := boltstore.New(db, bucket)
		require.NoError(t, err)
		_, err = store.Load(t.Context(), "l")
		require.ErrorIs(t, err, listener.ErrNoCheckpoint)
		require.EqualError(t, err, `no checkpoint "l" in bucket "`+bucket+`"`)
		require.NoError(t, store.Save(t.Context(), "l", eventstore.After(int64(i))))
	}
	store, err := boltstore.New(db, "a")
	require.NoError(t, err)
	at, err := store.Load(t.Context(), "l")
	require.NoError(t, err)
	require.Equal(t, eventstore.After(0), at)
	require.NoError(t, db.View(func(tx *bbolt.Tx) error {
		require.Equal(t, "after 1", string(tx.Bucket([]byte("b")).Get([]byte("l"))))
		return nil
	}))
}

func TestAValueThatIsNoCheckpointIsNamed(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "test.db"))
	store, err := boltstore.New(db, "checkpoints")
	require.NoError(t, err)
	for _, content := range []string{"", "\x00\x00\x00", "after", "17"} {
		require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
			return tx.Bucket([]byte("checkpoints")).Put([]byte("a"), []byte(content))
		}))
		_, err := store.Load(t.Context(), "a")
		require.ErrorContains(t, err, `key "a" in bucket "checkpoints" is no checkpoint`)
		require.NotErrorIs(t, err, listener.ErrNoCheckpoint)
		err = store.InTx(t.Context(), "a", func(*bbolt.Tx, eventstore.From) (eventstore.From, error) {
			t.Error("called without a checkpoint")
			return eventstore.After(1), nil
		})
		require.ErrorContains(t, err, `key "a" in bucket "checkpoints" is no checkpoint`)
	}
}

func TestWhatCannotBeKeptIsRefused(t *testing.T) {
	_, err := boltstore.New(nil, "checkpoints")
	require.ErrorIs(t, err, eventstore.ErrArgument)
	db := open(t, filepath.Join(t.TempDir(), "test.db"))
	_, err = boltstore.New(db, "")
	require.ErrorContains(t, err, `make bucket ""`)
	store, err := boltstore.New(db, "checkpoints")
	require.NoError(t, err)
	require.ErrorContains(t, store.Save(t.Context(), "", eventstore.After(1)), `key "" in bucket "checkpoints"`)
	require.NoError(t, db.Update(func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte("checkpoints")) }))
	require.ErrorContains(t, store.Save(t.Context(), "a", eventstore.After(1)), `bucket "checkpoints" is gone`)
	_, err = store.Load(t.Context(), "a")
	require.ErrorContains(t, err, `bucket "checkpoints" is gone`)
}
