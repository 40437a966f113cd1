package listener_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"sync"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/listener"
	"github.com/goeventstore/eventstore/server"
)

// Two runs of a listener: the second goes on where the first has stopped.
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
	folder, err := os.MkdirTemp("", "checkpoints")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(folder) }()

	for _, steps := range [][]string{{"one", "two"}, {"three"}} {
		for _, step := range steps {
			if _, err := client.Append(ctx, "steps", eventstore.Any, []eventstore.EventData{{Type: step}}); err != nil {
				log.Fatal(err)
			}
		}
		var l *listener.Listener
		l, err = listener.New(client, listener.Config{
			Name:       "printer",
			Stream:     "steps",
			Store:      listener.FileStore(folder),
			OnCaughtUp: func(context.Context) { fmt.Println("caught up"); l.Stop() },
		}, func(_ context.Context, e eventstore.ResolvedEvent) error {
			fmt.Println(e.Event.Type)
			return nil
		})
		if err != nil {
			log.Fatal(err)
		}
		if err := l.Run(ctx); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// one
	// two
	// caught up
	// three
	// caught up
}

// connected starts a server and a client of it.
func connected(ctx context.Context) (client *eventstore.Client, end func()) {
	srv, err := server.Start(server.Config{})
	if err != nil {
		log.Fatal(err)
	}
	client, err = eventstore.Connect(ctx, srv.URL(), eventstore.WithCredentials("admin", "changeit"))
	if err != nil {
		log.Fatal(err)
	}
	return client, func() { _, _ = client.Close(), srv.Close() }
}

// appendTypes appends events of these types.
func appendTypes(ctx context.Context, client *eventstore.Client, stream string, types ...string) {
	for _, t := range types {
		if _, err := client.Append(ctx, stream, eventstore.Any, []eventstore.EventData{{Type: t}}); err != nil {
			log.Fatal(err)
		}
	}
}

// Events in batches of at most two, such as for an INSERT of many rows.
func ExampleNewBatch() {
	ctx := context.Background()
	client, end := connected(ctx)
	defer end()
	appendTypes(ctx, client, "steps", "one", "two", "three")

	var l *listener.Listener
	l, err := listener.NewBatch(client, listener.Config{
		Stream: "steps", SaveEvery: 2,
		OnCaughtUp: func(context.Context) { l.Stop() },
	}, func(_ context.Context, batch []eventstore.ResolvedEvent) error {
		fmt.Println(len(batch), "from", batch[0].Event.Type)
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := l.Run(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// 2 from one
	// 1 from three
}

// The events of each account in order, those of different accounts at once. Events are of everything, picked by their stream's name.
func ExampleNew_parallel() {
	ctx := context.Background()
	client, end := connected(ctx)
	defer end()
	appendTypes(ctx, client, "account-1", "opened", "paid", "closed")
	appendTypes(ctx, client, "account-2", "opened")

	var mu sync.Mutex
	accounts := map[string][]string{}
	filter := eventstore.StreamPrefix("account-")
	var l *listener.Listener
	l, err := listener.New(client, listener.Config{
		Name: "accounts", Stream: eventstore.All, Filter: &filter,
		Parallel:   8,
		OnCaughtUp: func(context.Context) { l.Stop() },
	}, func(_ context.Context, e eventstore.ResolvedEvent) error {
		mu.Lock()
		defer mu.Unlock()
		accounts[e.Event.Stream] = append(accounts[e.Event.Stream], e.Event.Type)
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := l.Run(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println(accounts)
	// Output:
	// map[account-1:[opened paid closed] account-2:[opened]]
}

// The first two events again, by a handler that mends what a mistake has done. The listener is held meanwhile.
func ExampleListener_Patch() {
	ctx := context.Background()
	client, end := connected(ctx)
	defer end()
	appendTypes(ctx, client, "steps", "one", "two", "three")

	caughtUp, done := make(chan struct{}), make(chan error)
	var once sync.Once
	l, err := listener.New(client, listener.Config{
		Stream: "steps", OnCaughtUp: func(context.Context) { once.Do(func() { close(caughtUp) }) }, // it is told again behind the patch
	}, func(_ context.Context, e eventstore.ResolvedEvent) error {
		fmt.Println("handled", e.Event.Type)
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	go func() { done <- l.Run(ctx) }()
	<-caughtUp
	at, err := l.Patch(ctx, eventstore.Start, eventstore.After(1), func(_ context.Context, e eventstore.ResolvedEvent) error {
		fmt.Println("mended", e.Event.Type)
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("it came to the place", at)
	l.Stop()
	if err := <-done; err != nil {
		log.Fatal(err)
	}
	// Output:
	// handled one
	// handled two
	// handled three
	// mended one
	// mended two
	// it came to the place after 1
}
