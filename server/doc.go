// Package server is an EventStore server that runs in the process: one node that speaks the TCP protocol, so that tests
// and first steps need neither a container nor a network.
//
// Wherever a client can see the difference it answers as a real 4.1 node does, with the same results, numbers, texts
// and order of fields. What is deliberately different is listed in the project's DESIGN.md, each with its reason: mostly
// where a real server hangs, ends itself or sends what clients cannot take.
//
// Everything is in memory and gone with Close. Config.Projections keeps the index streams of the system's projections.
// Beside the protocol there is an HTTP side for what has no requests there: users, projections, the state of persistent
// subscriptions, and streams as JSON for people and scripts.
package server
