package boltstore_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"go.uber.org/goleak"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/listener"
	"github.com/goeventstore/eventstore/listener/boltstore"
)

// The kill tests start the test binary as a projector: with this variable set, which says of which kind, and the server and
// the database as arguments. It ends by itself behind the event of type last, and when its standard input does, which is when
// the test is gone.
const projectorVariable = "BOLTSTORE_TEST_PROJECTOR"

func TestMain(m *testing.M) {
	kind := os.Getenv(projectorVariable)
	if kind == "" {
		goleak.VerifyTestMain(m)
		return
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(3)
	}()
	if err := project(kind, os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// The kinds of projectors.
const (
	correct         = "correct"
	checkpointFirst = "checkpoint first" // in a transaction of its own, then the effects: loses events
	effectsFirst    = "effects first"    // then the checkpoint: applies events twice
)

const (
	stream     = "movements"
	checkpoint = "projector"
	lastType   = "last"
)

// What the events do to the database: how often each number was seen, and the sum of their amounts.
var (
	seenBucket = []byte("seen")
	sumBucket  = []byte("sum")
	sumKey     = []byte("sum")
)

func project(kind, target, path string) error {
	ctx := context.Background()
	client, err := eventstore.Connect(ctx, target)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: 10 * time.Second})
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	store, err := boltstore.New(db, "checkpoints")
	if err != nil {
		return err
	}
	var l *listener.Listener
	l, err = listener.NewTx(client, listener.Config{Name: checkpoint, Stream: stream, SaveEvery: 20}, observed{store, db, kind},
		func(_ context.Context, tx *bbolt.Tx, e eventstore.ResolvedEvent) error {
			if e.Event.Type == lastType {
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
	amount, err := strconv.ParseUint(string(e.Data), 10, 64)
	if err != nil {
		return err
	}
	if err := add(tx, seenBucket, binary.BigEndian.AppendUint64(nil, uint64(e.Number)), 1); err != nil {
		return err
	}
	return add(tx, sumBucket, sumKey, amount)
}

func add(tx *bbolt.Tx, bucket, key []byte, n uint64) error {
	b, err := tx.CreateBucketIfNotExists(bucket)
	if err != nil {
		return err
	}
	if v := b.Get(key); v != nil {
		n += binary.BigEndian.Uint64(v)
	}
	return b.Put(key, binary.BigEndian.AppendUint64(nil, n))
}

// observed is a store that writes on standard output when a transaction begins and where it has brought the checkpoint, for
// the test to know where the kill was. The broken kinds are made here.
type observed struct {
	*boltstore.Store
	db   *bbolt.DB
	kind string
}

func (s observed) InTx(ctx context.Context, name string, do func(tx *bbolt.Tx, at eventstore.From) (eventstore.From, error)) error {
	var reached eventstore.From
	observedDo := func(tx *bbolt.Tx, at eventstore.From) (eventstore.From, error) {
		fmt.Println("begin")
		var err error
		reached, err = do(tx, at)
		return reached, err
	}
	var err error
	switch s.kind {
	case correct:
		err = s.Store.InTx(ctx, name, observedDo)
	case checkpointFirst:
		rehearsed := errors.New("rehearsed")
		err = s.Store.InTx(ctx, name, func(tx *bbolt.Tx, at eventstore.From) (eventstore.From, error) {
			next, err := observedDo(tx, at)
			return next, errors.Join(err, rehearsed)
		})
		if !errors.Is(err, rehearsed) {
			return err
		}
		at, _ := s.Load(ctx, name)
		if err := s.Save(ctx, name, reached); err != nil {
			return err
		}
		err = s.effects(do, at, &reached)
	case effectsFirst:
		at, _ := s.Load(ctx, name)
		if err := s.effects(observedDo, at, &reached); err != nil {
			return err
		}
		err = s.Save(ctx, name, reached)
	}
	if err == nil {
		n, _ := reached.Number()
		fmt.Println("end", n)
	}
	return err
}

// effects commits the effects alone.
func (s observed) effects(
	do func(tx *bbolt.Tx, at eventstore.From) (eventstore.From, error), at eventstore.From, reached *eventstore.From,
) error {
	return s.db.Update(func(tx *bbolt.Tx) (err error) {
		*reached, err = do(tx, at)
		return err
	})
}

// check compares the database with the events that were written: nothing behind the checkpoint, and everything before it once.
func check(db *bbolt.DB, written []uint64) (events int, err error) {
	err = db.View(func(tx *bbolt.Tx) error {
		var at eventstore.From
		if b := tx.Bucket([]byte("checkpoints")); b != nil {
			if v := b.Get([]byte(checkpoint)); v != nil {
				if err := at.UnmarshalText(v); err != nil {
					return err
				}
				n, _ := at.Number()
				events = int(n) + 1
			}
		}
		if events > len(written) {
			return fmt.Errorf("the checkpoint is %v, and %d events were written", at, len(written))
		}
		if b := tx.Bucket(seenBucket); b != nil {
			if k, _ := b.Cursor().Last(); k != nil && binary.BigEndian.Uint64(k) >= uint64(events) {
				return fmt.Errorf("the checkpoint is %v, and event %d was applied", at, binary.BigEndian.Uint64(k))
			}
		}
		sum := uint64(0)
		for i, amount := range written[:events] {
			sum += amount
			if n := get(tx, seenBucket, binary.BigEndian.AppendUint64(nil, uint64(i))); n != 1 {
				return fmt.Errorf("the checkpoint is %v, and event %d was applied %d times", at, i, n)
			}
		}
		if got := get(tx, sumBucket, sumKey); got != sum {
			return fmt.Errorf("the sum is %d %v, want %d", got, at, sum)
		}
		return nil
	})
	return events, err
}

func get(tx *bbolt.Tx, bucket, key []byte) uint64 {
	b := tx.Bucket(bucket)
	if b == nil {
		return 0
	}
	v := b.Get(key)
	if v == nil {
		return 0
	}
	return binary.BigEndian.Uint64(v)
}
