package main

import (
	"strings"

	"github.com/goeventstore/eventstore/bench/contend"
)

// The contenders.
const (
	library = "eventstore"
	peer    = "gesclient"
	frames  = "l0" // frames counted
	decoded = "l1" // a loop written by hand, with all fields decoded
)

var contenders = []string{library, peer, frames, decoded}

// benchCase is a kind of load.
type benchCase struct {
	name string
	task contend.Task // without what belongs to a run
}

// Of a stream that is read, or delivered.
const (
	streamEvents = 10_000
	pageEvents   = 500
	storedEvents = 200_000 // what a group has on a server that does not deliver the same again and again
)

func appends(inFlight int) contend.Task { return contend.Task{InFlight: inFlight, Size: 256} }

func async(inFlight int) contend.Task {
	return contend.Task{InFlight: inFlight, Size: 256, Async: true}
}

func reads(size int, owned bool) contend.Task {
	return contend.Task{Read: true, InFlight: 1, Size: size, Owned: owned, Events: streamEvents, Page: pageEvents}
}

func group(window int) contend.Task {
	return contend.Task{Group: "bench", InFlight: window, Size: 256, Events: streamEvents}
}

var cases = []benchCase{
	{"append1", appends(1)},
	{"append128", appends(128)},
	{"append1024", appends(1024)},
	{"async1024", async(1024)},
	{"read256borrowed", reads(256, false)},
	{"read256owned", reads(256, true)},
	{"read1kborrowed", reads(1024, false)},
	{"read1kowned", reads(1024, true)},
	{"persistent", group(256)},
}

func caseNames() string {
	names := make([]string, len(cases))
	for i, c := range cases {
		names[i] = c.name
	}
	return strings.Join(names, ", ")
}
