package eventstoretest_test

import (
	"context"
	"testing"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/eventstoretest"
)

// The program of the documentation, as it stands there.
func TestOpening(t *testing.T) {
	srv := eventstoretest.Run(t)
	client := srv.Client(t)
	_, err := client.Append(context.Background(), "account-1", eventstore.NoStream, []eventstore.EventData{eventstore.JSONEvent("opened", nil)})
	if err != nil {
		t.Fatal(err)
	}
	srv.Cut() // the client heals itself
	if err := client.Ping(context.Background()); err != nil {
		t.Fatal(err)
	}
}
