// Package server is an EventStore server that runs in the process: one node that speaks the TCP protocol, so that tests
// and first steps need neither a container nor a network.
//
// Wherever a client can see the difference it answers as a real 4.1 node does, with the same results, numbers, texts
// and order of fields. What is deliberately different:
//
//   - A write with Any whose ids are all known, in descending order, never gets an answer from a real server. Here it
//     is answered WrongExpectedVersion.
//   - A write to the stream named $$ ends a real server's process. Here it is a BadRequest.
//   - A second copy of a write that arrives while the first is being committed gets CommitTimeout from a real server.
//     Here the first is committed by then, so that the copy is an idempotent success, like any later one.
//   - Writes of one connection are decided in the order in which they came, and a read that comes behind a write on the
//     same connection may or may not see it, as on a real server. Pipelined reads are answered in their order.
//   - The metastream of a hard-deleted stream stays writable once it was ever written. A real server forgets that after
//     many other streams, or with a restart, and then refuses.
//   - Forward from 9223372036854775807 with a count of 1 has the next number behind the last event. On a real server
//     that sum overflows.
//   - A page of events that does not fit a frame of 64 MiB is the result Error. A real server sends it, and clients
//     then lose their connection.
//   - What is wrong with a frame or a package is told in our words behind the prefix that a real server uses, since the
//     rest of its text is a stack trace. It is sent before the connection is closed; a real server's is often
//     lost.
//   - A connection over the limit of 1,000 is closed at once; one that has not sent a whole frame within a minute is
//     closed; and a connection holds at most 100,000 subscriptions, one more is a BadRequest. A real server has none of
//     these limits.
//   - The log begins empty: no statistics, users or epoch records of the server's own are in it, although the first
//     position is the one behind a real server's epoch record.
//   - Roles are the built-in ones: streams with a name that starts with $ are the administrators', all others are
//     anybody's.
//
// The commands that are known and not served yet are answered with BadRequest, whose second line says so; see the
// table in dispatch.go.
package server
