package listener_test

import (
	"context"
	"errors"
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

// One subscription for two consumers: the second is slow, and prefers the newest to all.
func ExampleFanout() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
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

	fan, err := listener.NewFanout(client, listener.FanoutConfig{Stream: "prices"})
	if err != nil {
		log.Fatal(err)
	}
	history := fan.Attach(listener.AttachOptions{})
	ticker := fan.Attach(listener.AttachOptions{OnOverflow: listener.DropOldest, Buffer: 1})
	ended := make(chan error, 1)
	go func() { ended <- fan.Run(ctx) }()
	if err := history.Ready(ctx); err != nil { // what is written from here on comes
		log.Fatal(err)
	}
	var prices []eventstore.EventData
	for _, price := range []string{"100", "103", "99"} {
		prices = append(prices, eventstore.EventData{Type: "price", Data: []byte(price)})
	}
	if _, err := client.Append(ctx, "prices", eventstore.Any, prices); err != nil {
		log.Fatal(err)
	}

	for range prices {
		e, err := history.Recv(ctx)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("history", string(e.Event.Data))
	}
	stop()
	if err := <-ended; err != nil {
		log.Fatal(err)
	}
	for range 3 {
		e, err := ticker.Recv(context.Background())
		gap := new(listener.GapError)
		switch {
		case errors.As(err, &gap):
			fmt.Println("ticker missed", gap.Dropped)
		case err != nil:
			fmt.Println(err)
		default:
			fmt.Println("ticker", string(e.Event.Data))
		}
	}
	// Output:
	// history 100
	// history 103
	// history 99
	// ticker missed 2
	// ticker 99
	// fan-out of "prices": the fan-out was stopped
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
