// Package messages is what travels between an EventStore server and its clients: the frame, the commands, the ids and
// the messages of the TCP protocol, as bytes.
//
// Messages have two forms. Package pb holds all of them, generated from our own schema, for everything rare. The hot
// ones, writes, reads and live events, have a second form here that appends to a slice it is given and decodes without
// copying; a differential fuzz test keeps the two equal. Decoding treats every missing field as its zero value, since
// servers from 22.6 on leave zeros out; encoding writes every field that the protocol calls required.
//
// Nothing in this package waits, starts a goroutine or panics on any input.
package messages
