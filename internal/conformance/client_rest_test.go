package conformance_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
)

func TestClientAuthenticate(t *testing.T) {
	ctx := within(t)
	client := serve(t).Client(t)
	require.NoError(t, client.Authenticate(ctx, eventstore.As("admin", "changeit")))
	require.NoError(t, client.Authenticate(ctx, eventstore.As("ops", "changeit")))
	for _, wrong := range []eventstore.CallOption{eventstore.As("admin", "wrong"), eventstore.As("nobody", "changeit")} {
		require.ErrorIs(t, client.Authenticate(ctx, wrong), eventstore.ErrNotAuthenticated)
		require.NoError(t, client.Ping(ctx), "it changed nothing")
	}
}

func TestClientScavenge(t *testing.T) {
	ctx := within(t)
	client := serve(t).Client(t)
	result, err := client.Scavenge(ctx, eventstore.As("admin", "changeit"))
	require.NoError(t, err)
	_, err = client.Scavenge(ctx, eventstore.As("ops", "changeit"))
	if result.ID != "" && err != nil { // from 5.0 on the first may go on
		require.ErrorIs(t, err, eventstore.ErrScavengeInProgress)
		return
	}
	require.NoError(t, err)
}
