// Package canned is a server that only counts: it answers each request with bytes that it has made before, stores nothing
// and decides nothing. What a client, or another server, costs beside it is what they do themselves, and not what the
// protocol, the network and the Go runtime take.
//
// It answers WriteEvents with a fixed success, reads of a stream forward with pages of the one stream that it has, and
// Ping, IdentifyClient, Authenticate and heartbeats as a server does; all else is a BadRequest. Requests are not looked
// into beyond their command and correlation id, and the place and size of a page, but they are counted. One goroutine
// serves a connection, and the small answers to all requests of one read leave in one write.
package canned
