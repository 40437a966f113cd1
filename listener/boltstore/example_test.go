package boltstore_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/listener"
	"github.com/goeventstore/eventstore/listener/boltstore"
	"github.com/goeventstore/eventstore/server"
)

// A read model that counts events by their type. Each is counted once, whatever happens to the process.
func Example() {
	ctx := context.Background()
	srv, err := server.Start(server.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = srv.Close() }()
	client, err := eventstore.Connect(ctx, srv.URL(), eventstore.WithCredentials("admin", "changeit"))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	folder, err := os.MkdirTemp("", "counts")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(folder) }()

	db, err := bbolt.Open(filepath.Join(folder, "counts.db"), 0o600, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	store, err := boltstore.New(db, "checkpoints")
	if err != nil {
		log.Fatal(err)
	}
	count := func(_ context.Context, tx *bbolt.Tx, e eventstore.ResolvedEvent) error {
		counts, err := tx.CreateBucketIfNotExists([]byte("counts"))
		if err != nil {
			return err
		}
		key, n := []byte(e.Event.Type), uint64(1)
		if v := counts.Get(key); v != nil {
			n += binary.BigEndian.Uint64(v)
		}
		return counts.Put(key, binary.BigEndian.AppendUint64(nil, n))
	}

	for _, types := range [][]string{{"opened", "paid", "paid"}, {"paid", "closed"}} {
		for _, eventType := range types {
			if _, err := client.Append(ctx, "shop", eventstore.Any, []eventstore.EventData{{Type: eventType}}); err != nil {
				log.Fatal(err)
			}
		}
		var l *listener.Listener
		l, err = listener.NewTx(client, listener.Config{
			Name:       "counts",
			Stream:     "shop",
			OnCaughtUp: func(context.Context) { l.Stop() },
		}, store, count)
		if err != nil {
			log.Fatal(err)
		}
		if err := l.Run(ctx); err != nil {
			log.Fatal(err)
		}
		fmt.Println("at", l.Status().Checkpoint)
	}
	err = db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte("counts")).ForEach(func(k, v []byte) error {
			fmt.Println(string(k), binary.BigEndian.Uint64(v))
			return nil
		})
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// at after 2
	// at after 4
	// closed 1
	// opened 1
	// paid 3
}
