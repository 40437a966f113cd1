package persistent_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/persistent"
)

func Example() {
	ctx := context.Background()
	client, err := eventstore.Connect(ctx, "tcp://admin:changeit@127.0.0.1:1113")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = client.Close() }()
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
	err = group.Run(ctx, 8, func(_ context.Context, m *persistent.Message) error {
		if m.Retries > 3 {
			return &persistent.NackError{Action: persistent.Park, Reason: "three times is enough"}
		}
		fmt.Println(m.Event.Type)
		return nil // acknowledged
	})
	if err != nil {
		log.Fatal(err)
	}
}
