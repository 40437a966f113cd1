package conformance_test

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
)

func TestStreamMetadata(t *testing.T) {
	ctx := within(t)
	client := serve(t).Client(t)
	stream := newStream("metadata")

	m, err := client.Metadata(ctx, stream)
	require.NoError(t, err, "of a stream that does not exist")
	require.Equal(t, eventstore.StreamMetadata{Version: eventstore.NoStream}, m)
	_, err = client.Append(ctx, stream, eventstore.NoStream, numbered(0, 10))
	require.NoError(t, err)
	m, err = client.Metadata(ctx, stream)
	require.NoError(t, err, "of a stream that has none")
	require.Equal(t, eventstore.NoStream, m.Version)

	whole := eventstore.StreamMetadata{
		MaxCount: 7, MaxAge: 1000 * time.Hour, TruncateBefore: 2, CacheControl: time.Minute,
		ACL: &eventstore.ACL{
			Read: []string{eventstore.RoleAll}, Write: []string{"ada", "ben"}, Delete: []string{}, MetaWrite: []string{eventstore.RoleAdmins},
		},
		Custom: map[string]json.RawMessage{"owner": json.RawMessage(`{"name":"Ada <&>","since":1815}`), "n": json.RawMessage(`1.0`)},
	}
	result, err := client.SetMetadata(ctx, stream, m.Version, whole)
	require.NoError(t, err)
	require.EqualValues(t, 0, result.Last)
	m, err = client.Metadata(ctx, stream)
	require.NoError(t, err)
	require.NotEmpty(t, m.Raw)
	raw := m.Raw
	whole.Version, whole.Raw = 0, m.Raw
	require.JSONEq(t, string(whole.Custom["owner"]), string(m.Custom["owner"]))
	require.Equal(t, "1.0", string(m.Custom["n"]), "a number keeps its digits")
	m.Custom, whole.Custom = nil, nil
	require.Equal(t, whole, m)

	_, err = client.SetMetadata(ctx, stream, eventstore.NoStream, m)
	require.ErrorIs(t, err, eventstore.ErrWrongVersion)
	var wrong *eventstore.WrongVersionError
	require.ErrorAs(t, err, &wrong)

	result, err = client.SetRawMetadata(ctx, stream, 0, raw)
	require.NoError(t, err)
	require.EqualValues(t, 1, result.Last)
	m, err = client.Metadata(ctx, stream)
	require.NoError(t, err)
	require.Equal(t, string(raw), string(m.Raw))
	require.EqualValues(t, 1, m.Version)

	_, err = client.SetRawMetadata(ctx, stream, eventstore.Any, []byte(`{"$maxCount":"7","owner":1}`))
	require.NoError(t, err, "a server takes it")
	m, err = client.Metadata(ctx, stream)
	require.ErrorIs(t, err, eventstore.ErrMetadata)
	require.ErrorContains(t, err, "$maxCount")
	require.EqualValues(t, 2, m.Version)
	require.NotEmpty(t, m.Raw)

	_, err = client.HardDelete(ctx, stream, eventstore.Any)
	require.NoError(t, err)
	_, err = client.Metadata(ctx, stream)
	require.ErrorIs(t, err, eventstore.ErrStreamDeleted)
}

func TestUndeleteHelper(t *testing.T) {
	ctx := within(t)
	client := serve(t).Client(t)
	stream := newStream("undelete")
	require.NoError(t, client.Undelete(ctx, stream), "what is not deleted is left alone")
	_, err := client.Append(ctx, stream, eventstore.NoStream, numbered(0, 3))
	require.NoError(t, err)
	_, err = client.Delete(ctx, stream, 2)
	require.NoError(t, err)
	m, err := client.Metadata(ctx, stream)
	require.NoError(t, err)
	require.True(t, m.SoftDeleted())
	exists, err := client.StreamExists(ctx, stream)
	require.NoError(t, err)
	require.False(t, exists)
	require.ErrorIs(t, client.TruncateBefore(ctx, stream, 1), eventstore.ErrStreamNotFound)

	require.NoError(t, client.Undelete(ctx, stream))
	slice, err := client.ReadSlice(ctx, stream, eventstore.Start, 10)
	require.NoError(t, err)
	require.Len(t, slice.Events, 3, "all of them are back")
	result, err := client.Append(ctx, stream, 2, numbered(3, 1))
	require.NoError(t, err)
	require.EqualValues(t, 3, result.Last)
	m, err = client.Metadata(ctx, stream)
	require.NoError(t, err)
	require.Zero(t, m.TruncateBefore)
	version := m.Version
	require.NoError(t, client.Undelete(ctx, stream))
	m, err = client.Metadata(ctx, stream)
	require.NoError(t, err)
	require.Equal(t, version, m.Version, "nothing was written")
}

func TestTruncateBeforeHelper(t *testing.T) {
	ctx := within(t)
	client := serve(t).Client(t)
	stream := newStream("truncate")
	_, err := client.Append(ctx, stream, eventstore.NoStream, numbered(0, 10))
	require.NoError(t, err)
	_, err = client.SetRawMetadata(ctx, stream, eventstore.NoStream, []byte(`{"$maxCount":100,"mine":[1]}`))
	require.NoError(t, err)
	require.NoError(t, client.TruncateBefore(ctx, stream, 4))
	require.NoError(t, client.TruncateBefore(ctx, stream, 3), "it is truncated further already")
	slice, err := client.ReadSlice(ctx, stream, eventstore.Start, 10)
	require.NoError(t, err)
	for len(slice.Events) == 0 { // an empty page may come first
		slice, err = client.ReadSlice(ctx, stream, eventstore.At(slice.Next), 10)
		require.NoError(t, err)
	}
	require.EqualValues(t, 4, slice.Events[0].Event.Number)
	m, err := client.Metadata(ctx, stream)
	require.NoError(t, err)
	require.EqualValues(t, 4, m.TruncateBefore)
	require.EqualValues(t, 100, m.MaxCount)
	require.Equal(t, "[1]", string(m.Custom["mine"]))
	require.EqualValues(t, 1, m.Version)

	// Of many at once the furthest counts, and none of them fails.
	errs := make(chan error, 8)
	for n := range int64(cap(errs)) {
		go func() { errs <- client.TruncateBefore(ctx, stream, n) }()
	}
	for range cap(errs) {
		require.NoError(t, <-errs)
	}
	m, err = client.Metadata(ctx, stream)
	require.NoError(t, err)
	require.EqualValues(t, 7, m.TruncateBefore)
	for _, n := range []int64{-1, math.MaxInt64} {
		require.ErrorIs(t, client.TruncateBefore(ctx, stream, n), eventstore.ErrArgument)
	}
}

func TestLastEventAndStreamExists(t *testing.T) {
	ctx := within(t)
	srv := serve(t)
	p := dialPeer(t, srv)
	client := srv.Client(t)
	for state, want := range map[state]struct {
		exists bool
		err    error
	}{
		missing:      {false, eventstore.ErrStreamNotFound},
		existing:     {true, nil},
		softDeleted:  {false, eventstore.ErrStreamNotFound},
		hardDeleted:  {false, eventstore.ErrStreamDeleted},
		metadataOnly: {false, eventstore.ErrStreamNotFound},
	} {
		stream := p.in(state)
		exists, err := client.StreamExists(ctx, stream)
		require.NoError(t, err, state)
		require.Equal(t, want.exists, exists, state)
		e, err := client.LastEvent(ctx, stream)
		require.ErrorIs(t, err, want.err, state)
		if want.err == nil {
			require.EqualValues(t, 2, e.Event.Number)
			exists, err = client.StreamExists(ctx, "$$"+stream)
			require.NoError(t, err)
			require.False(t, exists, "it has no metadata")
		}
	}
}
