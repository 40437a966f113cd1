package eventstoretest_test

import (
	"testing"
	"time"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/messages"
)

// t is the test that an example stands in.
var t *testing.T

func ExampleServer_Intercept() {
	srv := eventstoretest.Run(t)
	first := true
	srv.Intercept(func(f *eventstoretest.Frame) eventstoretest.Fault {
		switch {
		case f.Command == messages.ReadStreamEventsForward && f.Login != "admin":
			return eventstoretest.NotAuthenticated()
		case f.Command == messages.WriteEvents && first:
			first = false // there is one connection, and so one call at a time
			return eventstoretest.TooBusy()
		case f.Command == messages.WriteEventsCompleted:
			return eventstoretest.Delay(time.Second)
		}
		return eventstoretest.Pass
	})
}

func ExampleServer_Refuse() {
	srv := eventstoretest.Run(t)
	client := srv.Client(t)
	srv.Refuse()
	srv.Cut() // without it the client would not notice
	time.AfterFunc(time.Second, srv.Accept)
	if err := client.Ping(t.Context()); err != nil { // it waits for the server to come back
		t.Error(err)
	}
}

func ExampleServer_Pause() {
	srv := eventstoretest.Run(t)
	client := srv.Client(t)
	srv.Pause()
	time.AfterFunc(time.Second, srv.Resume)
	if err := client.Ping(t.Context()); err != nil { // it takes a second
		t.Error(err)
	}
}

func ExampleServer_SlowReads() {
	srv := eventstoretest.Run(t)
	srv.SlowReads(64 << 10) // 64 KiB a second
	defer srv.SlowReads(0)
	client := srv.Client(t) // everything still works, later
	if err := client.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

func ExampleTLS() {
	srv := eventstoretest.Run(t, eventstoretest.TLS())
	client, err := eventstore.Connect(t.Context(), srv.URL()) // tls://...?tlsCA=...
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	if err := client.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

func ExampleClock() {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	srv := eventstoretest.Run(t, eventstoretest.Clock(func() time.Time { return now }), eventstoretest.IDs(1))
	_ = srv // what is written is of this moment
}
