// Package server is an EventStore server that runs in the process: one node that speaks the TCP protocol, so that tests
// and first steps need neither a container nor a network.
//
// Wherever a client can see the difference it answers as a real 4.1 node does, with the same results, numbers, texts
// and order of fields. What is deliberately different is listed in the project's DESIGN.md, each with its reason: mostly
// where a real server hangs, ends itself or sends what clients cannot take.
//
// Config.Dialect has it speak like another generation of servers, from 3.9.3 to 23.10:
//
//	server.Start(server.Config{Dialect: server.Dialect393()})
//
// A preset is a set of switches, each of which can also be set alone. Recordings of real servers stand behind 3.9.3, 3.9.4 and
// 4.1; what the others do otherwise is taken from their published code. The HTTP side and the projections are those of 4.1 in
// each, but for names, rights and TLS.
//
// StartCluster starts several of them that are a cluster, still in one process: with elections, gossip, forwarded writes, and leaders that
// can be lost with what they had not spread.
//
// Everything is in memory and gone with Close. Config.Projections keeps the index streams of the system's projections.
// Beside the protocol there is an HTTP side for what has no requests there: users, projections, the state of persistent
// subscriptions, and streams as JSON for people and scripts.
package server
