package listener_test

import (
	"context"
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
