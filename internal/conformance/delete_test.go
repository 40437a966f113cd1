package conformance_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/messages"
)

func TestSoftDelete(t *testing.T) {
	ctx := within(t)
	srv := eventstoretest.Run(t)
	client := srv.Client(t)
	stream := newStream("soft")
	_, err := client.Append(ctx, stream, eventstore.NoStream, numbered(0, 3))
	require.NoError(t, err)
	for _, expected := range []eventstore.ExpectedVersion{0, 1, 3, eventstore.NoStream} {
		_, err = client.Delete(ctx, stream, expected)
		require.ErrorIs(t, err, eventstore.ErrWrongVersion, "%s", expected)
		require.False(t, eventstore.MaybeApplied(err))
	}
	_, err = client.ReadEvent(ctx, stream, eventstore.End)
	require.NoError(t, err, "it is there still")
	result, err := client.Delete(ctx, stream, 2)
	require.NoError(t, err)
	require.Positive(t, result.Position.Commit)
	_, err = client.ReadEvent(ctx, stream, eventstore.At(0))
	require.ErrorIs(t, err, eventstore.ErrStreamNotFound)
	// Again, with each version that is allowed then.
	for _, expected := range []eventstore.ExpectedVersion{eventstore.Any, 2, eventstore.NoStream} {
		_, err = client.Delete(ctx, stream, expected)
		require.NoError(t, err, "%s", expected)
	}
	for _, expected := range []eventstore.ExpectedVersion{0, 1, 3} {
		_, err = client.Delete(ctx, stream, expected)
		require.ErrorIs(t, err, eventstore.ErrWrongVersion, "%s", expected)
	}
	_, err = client.ReadEvent(ctx, stream, eventstore.End)
	require.ErrorIs(t, err, eventstore.ErrStreamNotFound)
}

func TestUndelete(t *testing.T) {
	ctx := within(t)
	srv := eventstoretest.Run(t)
	p := dialPeer(t, srv)
	client := srv.Client(t)
	for _, expected := range []eventstore.ExpectedVersion{eventstore.Any, eventstore.NoStream, 2} {
		t.Run(expected.String(), func(t *testing.T) {
			stream := p.in(softDeleted)
			_, err := client.Append(ctx, stream, eventstore.StreamExists, numbered(3, 1))
			require.ErrorIs(t, err, eventstore.ErrStreamDeleted)
			_, err = client.Append(ctx, stream, 1, numbered(3, 1))
			require.ErrorIs(t, err, eventstore.ErrWrongVersion)
			result, err := client.Append(ctx, stream, expected, numbered(3, 2))
			require.NoError(t, err)
			require.Equal(t, []eventstore.ExpectedVersion{3, 4}, []eventstore.ExpectedVersion{result.First, result.Last})
			p.undeleted(stream)
			want := 3 // the old ones do not come back
			for e, err := range client.ReadStream(ctx, stream, eventstore.Start) {
				require.NoError(t, err)
				isNumbered(t, want, e)
				want++
			}
			require.Equal(t, 5, want)
			_, err = client.ReadEvent(ctx, stream, eventstore.At(2))
			require.ErrorIs(t, err, eventstore.ErrEventNotFound)
			require.Equal(t, page{result: messages.ReadStreamSuccess, numbers: []int64{4, 3}, next: -1, last: 4, end: true}, p.backward(stream, -1, 10))

			// And once more.
			_, err = client.Delete(ctx, stream, 4)
			require.NoError(t, err)
			result, err = client.Append(ctx, stream, eventstore.NoStream, numbered(5, 1))
			require.NoError(t, err)
			require.EqualValues(t, 5, result.Last)
			p.undeleted(stream)
			require.Equal(t, page{result: messages.ReadStreamSuccess, numbers: []int64{5}, next: 6, last: 5, end: true}, p.forward(stream, 5, 10))
		})
	}
}

// TestDeleteOfAMissingStream: what never was can be deleted, and begins at 0 when it is written then.
func TestDeleteOfAMissingStream(t *testing.T) {
	ctx := within(t)
	srv := eventstoretest.Run(t)
	client := srv.Client(t)
	for _, expected := range []eventstore.ExpectedVersion{eventstore.Any, eventstore.NoStream} {
		stream := newStream("never")
		_, err := client.Delete(ctx, stream, 0)
		require.ErrorIs(t, err, eventstore.ErrWrongVersion)
		_, err = client.HardDelete(ctx, stream, 0)
		require.ErrorIs(t, err, eventstore.ErrWrongVersion)
		_, err = client.Delete(ctx, stream, expected)
		require.NoError(t, err)
		result, err := client.Append(ctx, stream, eventstore.NoStream, numbered(0, 1))
		require.NoError(t, err)
		require.EqualValues(t, 0, result.First)

		stream = newStream("never")
		_, err = client.HardDelete(ctx, stream, expected)
		require.NoError(t, err)
		_, err = client.Append(ctx, stream, eventstore.NoStream, numbered(0, 1))
		require.ErrorIs(t, err, eventstore.ErrStreamDeleted)
	}
}

func TestHardDelete(t *testing.T) {
	ctx := within(t)
	srv := eventstoretest.Run(t)
	p := dialPeer(t, srv)
	client := srv.Client(t)
	for _, expected := range []eventstore.ExpectedVersion{eventstore.Any, 2} {
		stream := p.in(existing)
		for _, wrong := range []eventstore.ExpectedVersion{0, 1, 3, eventstore.NoStream} {
			_, err := client.HardDelete(ctx, stream, wrong)
			require.ErrorIs(t, err, eventstore.ErrWrongVersion, "%s", wrong)
		}
		result, err := client.HardDelete(ctx, stream, expected)
		require.NoError(t, err)
		require.Positive(t, result.Position.Commit)
		for _, again := range []eventstore.ExpectedVersion{eventstore.Any, eventstore.NoStream, 2, 7} {
			_, err := client.HardDelete(ctx, stream, again)
			require.ErrorIs(t, err, eventstore.ErrStreamDeleted, "%s", again)
			_, err = client.Delete(ctx, stream, again)
			require.ErrorIs(t, err, eventstore.ErrStreamDeleted, "%s", again)
			_, err = client.Append(ctx, stream, again, numbered(0, 1))
			require.ErrorIs(t, err, eventstore.ErrStreamDeleted, "%s", again)
		}
	}
	for _, expected := range []eventstore.ExpectedVersion{eventstore.Any, eventstore.NoStream, 2} {
		_, err := client.HardDelete(ctx, p.in(softDeleted), expected)
		require.NoError(t, err, "soft-deleted, %s", expected)
	}
}

// TestRefusedDeletes: the failures have no positions, and some expected versions are none.
func TestRefusedDeletes(t *testing.T) {
	srv := eventstoretest.Run(t)
	p := dialPeer(t, srv)
	stream := p.in(existing)
	for _, hard := range []bool{false, true} {
		m := p.delete(stream, 1, hard)
		require.Equal(t, messages.WrongExpectedVersion, m.GetResult())
		require.Equal(t, "Wrong expected version.", m.GetMessage())
		require.Equal(t, []int64{-1, -1}, []int64{m.GetPreparePosition(), m.GetCommitPosition()})
		for _, expected := range []int64{-3, -5} {
			p.refused(p.call(deleteOf(stream, expected, hard)), "DeleteStream")
		}
		p.refused(p.call(deleteOf("", -2, hard)), "DeleteStream")
		for _, metastream := range []string{"$$" + stream} {
			m := p.delete(metastream, -2, hard)
			require.Equal(t, messages.AccessDenied, m.GetResult())
			require.Equal(t, []int64{-1, -1}, []int64{m.GetPreparePosition(), m.GetCommitPosition()})
		}
	}
	m := p.delete(p.in(hardDeleted), -2, true)
	require.Equal(t, messages.StreamDeleted, m.GetResult())
	require.Equal(t, "Stream is deleted.", m.GetMessage())
}
