package conformance_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
)

func TestClientTransaction(t *testing.T) {
	ctx := within(t)
	srv := serve(t)
	client, other := srv.Client(t), srv.Client(t)
	stream := newStream("transaction")
	tx, err := client.StartTransaction(ctx, stream, eventstore.NoStream)
	require.NoError(t, err)
	require.NoError(t, tx.Write(ctx, numbered(0, 2)))
	require.NoError(t, other.ContinueTransaction(tx.ID()).Write(ctx, numbered(2, 1)))
	require.NoError(t, tx.Write(ctx, nil))
	_, err = client.ReadEvent(ctx, stream, eventstore.End)
	require.ErrorIs(t, err, eventstore.ErrStreamNotFound, "nothing is seen before the commit")
	result, err := tx.Commit(ctx)
	require.NoError(t, err)
	require.Equal(t, []eventstore.ExpectedVersion{0, 2}, []eventstore.ExpectedVersion{result.First, result.Last})
	require.Positive(t, result.Position.Commit)
	slice, err := client.ReadSlice(ctx, stream, eventstore.Start, 10)
	require.NoError(t, err)
	require.Len(t, slice.Events, 3)
	for i, e := range slice.Events {
		isNumbered(t, i, e)
	}
	first := result.Position
	result, err = tx.Commit(ctx)
	require.NoError(t, err, "again")
	require.Equal(t, []eventstore.ExpectedVersion{0, 2}, []eventstore.ExpectedVersion{result.First, result.Last})
	if result.Position != first { // servers from 20.6 on tell it again
		require.Equal(t, eventstore.Position{Commit: -1, Prepare: -1}, result.Position)
	}
}

func TestClientTransactionErrors(t *testing.T) {
	ctx := within(t)
	client := serve(t).Client(t)
	stream := newStream("transaction")
	tx, err := client.StartTransaction(ctx, stream, 7)
	require.NoError(t, err, "the version is checked at the commit")
	require.NoError(t, tx.Write(ctx, numbered(0, 1)))
	_, err = tx.Commit(ctx)
	var wrong *eventstore.WrongVersionError
	require.ErrorAs(t, err, &wrong)
	require.EqualValues(t, 7, wrong.Expected)
	require.False(t, eventstore.MaybeApplied(err))
	_, err = client.ContinueTransaction(1).Commit(ctx)
	require.ErrorIs(t, err, eventstore.ErrAccessDenied, "an ID that is none")

	for name, err := range map[string]error{
		"a version that transactions do not know": second(client.StartTransaction(ctx, stream, eventstore.StreamExists)),
		"no stream":               second(client.StartTransaction(ctx, "", eventstore.Any)),
		"a negative ID, write":    client.ContinueTransaction(-1).Write(ctx, numbered(0, 1)),
		"a negative ID, commit":   second(client.ContinueTransaction(-1).Commit(ctx)),
		"an event without a type": tx.Write(ctx, []eventstore.EventData{{}}),
	} {
		require.ErrorIs(t, err, eventstore.ErrArgument, name)
	}
}

func second[T any](_ T, err error) error { return err }
