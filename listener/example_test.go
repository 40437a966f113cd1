package listener_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"

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
