// Package canned is a server that only counts: it answers each request with bytes that it has made before, stores nothing
// and decides nothing. What a client, or another server, costs beside it is what they do themselves, and not what the
// protocol, the network and the Go runtime take.
//
// It answers WriteEvents with a fixed success, reads of a stream forward with pages of the one stream that it has, and
// Ping, IdentifyClient, Authenticate and heartbeats as a server does. Who joins a group, whatever its name, is delivered the events
// of that stream in their order, and then from the first one again, for ever, but never more than fit in the window and are not
// acknowledged. All else is a BadRequest. Requests are not looked into beyond their command and correlation id, the place and
// size of a page, and the ids of acks, but they are counted. One goroutine
// serves a connection, and the small answers to all requests of one read leave in one write.
package canned
