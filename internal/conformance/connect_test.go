package conformance_test

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
)

func TestConnect(t *testing.T) {
	ctx := within(t)
	srv := serve(t)
	client := srv.Client(t)
	require.Equal(t, eventstore.Connected, client.State().Phase)
	require.NoError(t, client.Ping(ctx))
	require.NoError(t, client.Shutdown(ctx))
	require.ErrorIs(t, client.Ping(ctx), eventstore.ErrClosed)
}

func TestConnectionHeals(t *testing.T) {
	ctx := within(t)
	srv := serve(t)
	client := srv.Client(t)
	stream := newStream("heals")
	_, err := client.Append(ctx, stream, eventstore.NoStream, numbered(0, 1))
	require.NoError(t, err)
	srv.Cut()
	_, err = client.Append(ctx, stream, 0, numbered(1, 1))
	require.NoError(t, err)
	page, err := client.ReadSlice(ctx, stream, eventstore.Start, 10)
	require.NoError(t, err)
	require.Len(t, page.Events, 2)
}

func TestWrongPassword(t *testing.T) {
	ctx := within(t)
	srv := serve(t)
	client := srv.Client(t)
	stream := newStream("password")
	wrong := eventstore.As("admin", "not the password")
	nobody := eventstore.As("nobody-"+stream, "changeit")
	for _, as := range []eventstore.CallOption{wrong, nobody} {
		_, err := client.Append(ctx, stream, eventstore.Any, numbered(0, 1), as)
		require.ErrorIs(t, err, eventstore.ErrNotAuthenticated)
		require.False(t, eventstore.MaybeApplied(err))
		require.False(t, eventstore.Retryable(err))
		_, err = client.ReadSlice(ctx, stream, eventstore.Start, 1, as)
		require.ErrorIs(t, err, eventstore.ErrNotAuthenticated)
		_, err = client.Delete(ctx, stream, eventstore.Any, as)
		require.ErrorIs(t, err, eventstore.ErrNotAuthenticated)
	}
	// The connection and its own credentials are as good as before.
	result, err := client.Append(ctx, stream, eventstore.NoStream, numbered(0, 1))
	require.NoError(t, err)
	require.EqualValues(t, 0, result.Last)
}

func TestAnonymous(t *testing.T) {
	ctx := within(t)
	srv := serve(t)
	u, err := url.Parse(srv.DirectURL())
	require.NoError(t, err)
	u.User = nil
	client, err := eventstore.Connect(ctx, u.String(), eventstore.WithDialer(srv.Dial))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	stream := newStream("anonymous")
	_, err = client.Append(ctx, stream, eventstore.NoStream, numbered(0, 1))
	require.NoError(t, err)
	e, err := client.ReadEvent(ctx, stream, eventstore.End)
	require.NoError(t, err)
	isNumbered(t, 0, e)
	// A stream of the system's is not for everybody, neither to write nor to read.
	_, err = client.Append(ctx, "$"+stream, eventstore.Any, numbered(0, 1))
	require.ErrorIs(t, err, eventstore.ErrAccessDenied)
	_, err = client.ReadEvent(ctx, "$"+stream, eventstore.Start)
	require.ErrorIs(t, err, eventstore.ErrAccessDenied)
	_, err = client.ReadSlice(ctx, "$"+stream, eventstore.Start, 1)
	require.ErrorIs(t, err, eventstore.ErrAccessDenied)
	_, err = client.HardDelete(ctx, "$"+stream, eventstore.Any)
	require.ErrorIs(t, err, eventstore.ErrAccessDenied)
}
