package subscription_test

import (
	"context"
	"fmt"
	"log"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/server"
	"github.com/goeventstore/eventstore/subscription"
)

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

	step := func(name string) {
		if _, err := client.Append(ctx, "steps", eventstore.Any, []eventstore.EventData{{Type: name}}); err != nil {
			log.Fatal(err)
		}
	}
	step("before")
	sub, err := subscription.Open(ctx, client, subscription.Config{
		Stream:   "steps",
		OnNotice: func(n subscription.Notice) { fmt.Println(n); step("after") },
	})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = sub.Close() }()
	for e, err := range sub.Events(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(e.Event.Number, e.Event.Type)
		if e.Event.Type == "after" {
			break
		}
	}
	// Output:
	// 0 before
	// CaughtUp "steps" after 0
	// 1 after
}
