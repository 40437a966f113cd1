package eventstore_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/server"
)

// connected starts the embedded server and connects to it.
func connected(ctx context.Context) (*eventstore.Client, func()) {
	srv, err := server.Start(server.Config{})
	if err != nil {
		log.Fatal(err)
	}
	client, err := eventstore.Connect(ctx, srv.URL(), eventstore.WithCredentials("admin", "changeit"))
	if err != nil {
		log.Fatal(err)
	}
	return client, func() { _ = client.Close(); _ = srv.Close() }
}

func Example() {
	ctx := context.Background()
	client, end := connected(ctx)
	defer end()

	result, err := client.Append(ctx, "account-7", eventstore.NoStream, []eventstore.EventData{
		eventstore.JSONEvent("opened", map[string]string{"owner": "Ada"}),
	})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := client.Append(ctx, "account-7", result.Last, []eventstore.EventData{{Type: "noted", Data: []byte("plain bytes")}}); err != nil {
		log.Fatal(err)
	}
	for e, err := range client.ReadStream(ctx, "account-7", eventstore.Start) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(e.Event.Number, e.Event.Type, string(e.Event.Data))
	}
	// Output:
	// 0 opened {"owner":"Ada"}
	// 1 noted plain bytes
}

func ExampleWrongVersionError() {
	ctx := context.Background()
	client, end := connected(ctx)
	defer end()

	_, err := client.Append(ctx, "account-7", 41, []eventstore.EventData{{Type: "noted"}})
	var wrong *eventstore.WrongVersionError
	if errors.As(err, &wrong) {
		fmt.Printf("expected %v, the stream is at %v\n", wrong.Expected, wrong.Actual)
	}
	// Output: expected 41, the stream is at no stream
}

func ExampleClient_ReadStream_backward() {
	ctx := context.Background()
	client, end := connected(ctx)
	defer end()

	_, err := client.Append(ctx, "steps", eventstore.Any, []eventstore.EventData{{Type: "one"}, {Type: "two"}, {Type: "three"}})
	if err != nil {
		log.Fatal(err)
	}
	for e, err := range client.ReadStream(ctx, "steps", eventstore.End, eventstore.Backward(), eventstore.Limit(2)) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(e.Event.Type)
	}
	// Output:
	// three
	// two
}

// What a stream's metadata say is changed by reading, changing and writing them with the version that was read.
func ExampleClient_SetMetadata() {
	ctx := context.Background()
	client, end := connected(ctx)
	defer end()

	m, err := client.Metadata(ctx, "account-7")
	if err != nil {
		log.Fatal(err)
	}
	m.MaxCount = 1000
	m.ACL = &eventstore.ACL{Write: []string{"teller"}}
	if _, err := client.SetMetadata(ctx, "account-7", m.Version, m); err != nil {
		log.Fatal(err)
	}
	m, err = client.Metadata(ctx, "account-7")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(m.Version, string(m.Raw))
	// Output: 0 {"$acl":{"$w":"teller"},"$maxCount":1000}
}

// Call is the door to every message of the protocol.
func ExampleClient_Call() {
	ctx := context.Background()
	client, end := connected(ctx)
	defer end()

	reply, err := client.Call(ctx, messages.Raw(messages.Ping, []byte("hello")))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(reply.Command, string(reply.Body))
	// Output: Pong hello
}

func ExampleFrom() {
	// A checkpoint is stored as text and comes back as it was.
	text, _ := eventstore.After(41).MarshalText()
	var from eventstore.From
	if err := from.UnmarshalText(text); err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(text), from == eventstore.After(41))
	// Output: after 41 true
}

// latency is a hook: it is told of the end of each call.
type latency struct{}

func (latency) OnCallEnd(info eventstore.CallEndInfo) {
	fmt.Println(info.Command, "attempts:", info.Attempts, "error:", info.Err)
}

func ExampleWithHooks() {
	srv, err := server.Start(server.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer srv.Close()
	ctx := context.Background()
	client, err := eventstore.Connect(ctx, srv.URL(), eventstore.WithHooks(latency{}))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	if err := client.Ping(ctx); err != nil {
		log.Fatal(err)
	}
	// Output: Ping attempts: 1 error: <nil>
}

func ExampleParseTarget() {
	for _, s := range []string{
		"gossip://admin:changeit@node1,node2:2114?preference=follower",
		"ConnectTo=discover://nodes.example; UseSslConnection=true; Operation Timeout=2000",
		"tcp://node?maxAttempt=3",
	} {
		target, err := eventstore.ParseTarget(s)
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(target)
	}
	// Output:
	// gossip://admin:xxxxx@node1:2113,node2:2114?preference=follower
	// discover://nodes.example:2113?timeout=2s&tls=true
	// invalid argument: target tcp://node: unknown key "maxAttempt", did you mean "maxAttempts"? (docs/settings.md has them all)
}
