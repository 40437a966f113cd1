package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/listener"
	"github.com/goeventstore/eventstore/listener/boltstore"
)

// disk is the read model in a file, with the listener's checkpoint and the plan of the run.
type disk struct {
	*bbolt.DB
	checkpoints *boltstore.Store
}

var (
	accountBucket = []byte("accounts") // accounts as JSON by their name
	runBucket     = []byte("run")      // the plan as JSON
	planKey       = []byte("plan")
)

// The checkpoint's bucket and name.
const (
	checkpointBucket = "checkpoints"
	checkpointName   = "balances"
)

func openDisk(folder string) (*disk, error) {
	if err := os.MkdirAll(folder, 0o750); err != nil {
		return nil, err
	}
	path := filepath.Join(folder, "bank.db")
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("%s is open in another process", path)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	checkpoints, err := boltstore.New(db, checkpointBucket)
	if err != nil {
		_ = db.Close()
		return nil, err
	}
	return &disk{db, checkpoints}, nil
}

// begin returns the run that the folder keeps and how much of it is projected; without one it keeps the run p. That the two
// differ in what was given is an error.
func (d *disk) begin(ctx context.Context, p plan, given map[string]bool) (kept plan, projected int, err error) {
	kept = p
	err = d.Update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{accountBucket, runBucket} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		if v := tx.Bucket(runBucket).Get(planKey); v != nil {
			return json.Unmarshal(v, &kept)
		}
		v, err := json.Marshal(p)
		if err != nil {
			return err
		}
		return tx.Bucket(runBucket).Put(planKey, v)
	})
	if err != nil {
		return p, 0, err
	}
	if given["seed"] && p.Seed != kept.Seed || given["events"] && p.Events != kept.Events {
		return p, 0, fmt.Errorf("%s keeps a run with -seed %d -events %d: go on with these, or take another folder",
			filepath.Dir(d.Path()), kept.Seed, kept.Events)
	}
	at, err := d.checkpoints.Load(ctx, checkpointName)
	if errors.Is(err, listener.ErrNoCheckpoint) {
		return kept, 0, nil
	}
	if err != nil {
		return p, 0, err
	}
	number, _ := at.Number()
	return kept, int(number) + 1, nil
}

// follow projects the events of all accounts until the last is in. The accounts and the checkpoint change in one transaction.
func (d *disk) follow(ctx context.Context, client *eventstore.Client, p plan) error {
	at, err := d.checkpoints.Load(ctx, checkpointName)
	if err == nil && at == eventstore.After(int64(p.Events)-1) {
		return nil // it is
	}
	var l *listener.Listener
	l, err = listener.NewTx(client, listener.Config{Name: checkpointName, Stream: p.index(), SaveEvery: batchSize}, d.checkpoints,
		func(_ context.Context, tx *bbolt.Tx, e eventstore.ResolvedEvent) error {
			if p.isLast(e) {
				l.Stop()
			}
			return apply(tx, e.Event)
		})
	if err != nil {
		return err
	}
	return l.Run(ctx)
}

func apply(tx *bbolt.Tx, e *eventstore.Event) error {
	var m movement
	if err := e.Decode(&m); err != nil {
		return err
	}
	var a account
	bucket, key := tx.Bucket(accountBucket), []byte(m.Account)
	if v := bucket.Get(key); v != nil {
		if err := json.Unmarshal(v, &a); err != nil {
			return err
		}
	}
	a.apply(e.Type, m)
	v, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return bucket.Put(key, v)
}

func (d *disk) accounts() (map[string]*account, error) {
	accounts := make(map[string]*account)
	err := d.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(accountBucket).ForEach(func(k, v []byte) error {
			a := new(account)
			accounts[string(k)] = a
			return json.Unmarshal(v, a)
		})
	})
	return accounts, err
}
