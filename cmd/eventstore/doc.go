// Command eventstore is an EventStore server as a program, so that anything that speaks the protocol has something to
// connect to:
//
//	$ go run ./cmd/eventstore serve
//	tcp://127.0.0.1:1113
//	http://127.0.0.1:2113
//
// It is the server of package server: one node, with the users admin and ops, both with the password changeit. With --db
// the log is in a folder, and the next server with this folder goes on with it; else what is written is gone when the program
// ends, which it does on an interrupt or a SIGTERM, with the exit code 0.
//
//	eventstore serve [--tcp ADDR] [--http ADDR] [--db DIR] [--projections none|system]
//
// It listens on addresses of this machine alone, by default those above. Port 0 is any free one: the lines that it prints
// name the one that it got, and the server takes connections when they are there. With --projections system there are
// the index streams $ce-, $et-, $streams and $category-.
//
// A command line that is wrong ends it with the exit code 2 and a server that cannot start with 1, each with a line on
// the standard error that says why.
package main
