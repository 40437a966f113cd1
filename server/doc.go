// Package server is an EventStore server that runs in the process: one node that speaks the TCP protocol, so that tests
// and first steps need neither a container nor a network.
//
// Wherever a client can see the difference it answers as a real 4.1 node does, with the same results, numbers, texts
// and order of fields. What is deliberately different is listed in the project's DESIGN.md, each with its reason: mostly
// where a real server hangs, ends itself or sends what clients cannot take.
//
// The commands that are known and not served yet are answered with BadRequest, whose second line says so; see the
// table in dispatch.go.
package server
