// Package eventstore is a client for EventStore's TCP protocol, as servers from 3.9 to 23.10 speak it, and later ones with
// the TCP plugin.
//
// A Client is one multiplexed connection that heals itself:
//
//	client, err := eventstore.Connect(ctx, "tcp://admin:changeit@127.0.0.1:1113")
//	result, err := client.Append(ctx, "account-7", eventstore.NoStream, []eventstore.EventData{
//		eventstore.JSONEvent("opened", Opened{Owner: "Ada"}),
//	})
//	for e, err := range client.ReadStream(ctx, "account-7", eventstore.Start) { ... }
//
// Every call takes a context and returns when that ends, whether connected, queued or reconnecting. Failures are an *OpError
// around sentinels for errors.Is; a write whose outcome nobody knows says so (MaybeApplied).
//
// Live and catch-up subscriptions are in package subscription, persistent ones in persistent, checkpointed projectors in
// listener, an embedded server for tests and first steps in server and eventstoretest. All of them stand on two methods of the client that serve
// for any message of the protocol: Call and Open.
package eventstore
