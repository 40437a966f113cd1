package persistent_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"strings"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/persistent"
	"github.com/goeventstore/eventstore/server"
)

func Example() {
	srv, err := server.Start(server.Config{}) // or one that is there already
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = srv.Close() }()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	client, err := eventstore.Connect(ctx, strings.Replace(srv.URL(), "//", "//admin:changeit@", 1))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	_, err = client.Append(ctx, "orders", eventstore.NoStream, []eventstore.EventData{
		eventstore.JSONEvent("placed", nil), eventstore.JSONEvent("paid", nil), eventstore.JSONEvent("shipped", nil),
	})
	if err != nil {
		log.Fatal(err)
	}

	err = persistent.Create(ctx, client, "orders", "billing", persistent.DefaultSettings())
	if err != nil && !errors.Is(err, persistent.ErrGroupExists) {
		log.Fatal(err)
	}
	group, err := persistent.Join(ctx, client, persistent.Config{
		Stream: "orders", Group: "billing", Window: 64,
		OnNotice: func(n persistent.Notice) { log.Print(n) },
	})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = group.Close() }()
	err = group.Run(ctx, 1, func(_ context.Context, m *persistent.Message) error {
		if m.Retries > 3 {
			return &persistent.NackError{Action: persistent.Park, Reason: "three times is enough"}
		}
		fmt.Println(m.Event.Number, m.Event.Type)
		if m.Event.Type == "shipped" {
			cancel() // ends Run
		}
		return nil // acknowledged
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// 0 placed
	// 1 paid
	// 2 shipped
}
