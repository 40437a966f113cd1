// Command eventstore is an EventStore server as a program, so that anything that speaks the protocol has something to
// connect to, and a client to try one by hand:
//
//	$ go run ./cmd/eventstore serve
//	tcp://127.0.0.1:1113
//	http://127.0.0.1:2113
//	$ echo '{"owner": "ada"}' | go run ./cmd/eventstore append account-1 --type opened --expected none
//	{"stream":"account-1","number":0}
//
// # serve
//
//	eventstore serve [--tcp ADDR] [--http ADDR] [--db DIR] [--dialect NAME] [--projections none|system]
//	    [--tls-cert FILE --tls-key FILE [--secure ADDR]] [--log text|json|off] [--insecure]
//
// It is the server of package server: one node, with the users admin and ops, both with the password changeit. With --db
// the log is in a folder, and the next server with this folder goes on with it; else what is written is gone when the program
// ends, which it does on an interrupt, a SIGTERM or a POST to /admin/shutdown on the HTTP side, with the exit code 0.
//
// By default it listens on the addresses above. Port 0 is any free one: the lines that it prints name the one that it got, and
// the server takes connections when they are there. With --projections system there are the index streams $ce-, $et-,
// $streams and $category-. --log is about the log on the standard error, which has neither data nor passwords.
//
// With a certificate there is a port for TLS too, 127.0.0.1:1115 or --secure, and a third line that names it. In a dialect whose
// servers have TLS everywhere, from 20.10 on, it serves --tcp and --http instead, and has to be there.
//
// Everybody knows the passwords of a new server. So it listens on addresses of this machine alone, unless the address has TLS and
// the folder of --db has other passwords for admin and ops. --insecure is for who wants it otherwise: it listens anywhere, and
// every dialect does without a certificate.
//
// GET /health/live and /health/ready on the HTTP side tell how it is, without a login.
//
// # append, read, tail, ping
//
//	eventstore append STREAM [--type T] [--expected any|none|exists|N]
//	eventstore read STREAM|'$all' [--from N|C:1/P:1|start|end] [--backward] [--count N]
//	eventstore tail STREAM|'$all' [-n N] [-f] [--filter-type PREFIX | --filter-stream PREFIX]
//	eventstore ping
//
// Each takes --connect TARGET, what eventstore.ParseTarget reads; without it it is the server of serve, as admin.
//
// append writes each line of the standard input, which is the data of an event in JSON, when it is there, and prints its number when
// it is written. The first line that is not written ends it: those before it are. With an expected version other than any nobody
// else gets between its events.
//
// The others print lines of JSON: read and tail an event each, with its data and metadata, which are in dataBase64 and
// metadataBase64 when they are no JSON, and with the link that led to it. tail prints the last 10 events, or -n, and with -f goes on
// until an interrupt or SIGTERM. With a filter it prints those whose types, or in $all whose streams, begin with one of the prefixes.
//
// # Exit codes
//
// A command line that is wrong ends it with the exit code 2, and a server that cannot start and a client that gets no answer, or one
// that is none, with 1, each with a line on the standard error that says why. serve and tail -f end with 0 when they are
// interrupted, the others with 1.
package main
