// Command quickstart starts the embedded server, writes two events, reads them back and ends.
package main

import (
	"context"
	"fmt"
	"log"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/server"
)

// Opened is the data of an event, stored as JSON.
type Opened struct {
	Owner string
}

func main() {
	ctx := context.Background()
	srv, err := server.Start(server.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer srv.Close()

	client, err := eventstore.Connect(ctx, srv.URL(), eventstore.WithCredentials("admin", "changeit"))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	result, err := client.Append(ctx, "account-7", eventstore.NoStream, []eventstore.EventData{
		eventstore.JSONEvent("opened", Opened{Owner: "Ada"}),
	})
	if err != nil {
		log.Fatal(err)
	}
	_, err = client.Append(ctx, "account-7", result.Last, []eventstore.EventData{{Type: "noted", Data: []byte("plain bytes")}})
	if eventstore.MaybeApplied(err) {
		log.Print("the connection went before the answer came")
	}
	for e, err := range client.ReadStream(ctx, "account-7", eventstore.Start) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(e.Event.Number, e.Event.Type, string(e.Event.Data))
	}
}
