package conformance_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

func TestSoftDelete(t *testing.T) {
	ctx := within(t)
	srv := serve(t)
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
	srv := serve(t)
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
	srv := serve(t)
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
	srv := serve(t)
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
	srv := serve(t)
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

// TestSoftDeleteIsMetadata: it replaces all that they said, and again each time.
func TestSoftDeleteIsMetadata(t *testing.T) {
	srv := serve(t)
	p := dialPeer(t, srv)
	stream := p.in(existing)
	softly := `{"$tb":9223372036854775807}`
	if p.before40() {
		softly = `{"$tb":2147483647}`
	}
	p.setMetadata(stream, `{"a":1,"$maxCount":2,"$acl":{"$r":"$all"}}`)
	for n := range int64(3) {
		m := p.delete(stream, []int64{2, -2, -1}[n], false)
		require.Equal(t, messages.Success, m.GetResult())
		require.Nil(t, m.Message)
		require.Equal(t, m.GetCommitPosition(), m.GetPreparePosition())
		e := p.readEvent("$$"+stream, -1).GetEvent().GetEvent()
		require.Equal(t, n+1, e.GetEventNumber())
		require.Equal(t, "$metadata", e.GetEventType())
		require.Equal(t, softly, string(e.GetData()))
		require.EqualValues(t, 1, e.GetDataContentType())
		require.Empty(t, e.GetMetadata())
	}
	// Of a stream that never was, too.
	never := p.in(missing)
	require.Equal(t, messages.Success, p.delete(never, -1, false).GetResult())
	require.Equal(t, page{result: messages.ReadStreamNoStream, next: -1, last: -1, end: true}, p.forward(never, 0, 5))
	require.Equal(t, messages.StreamDeleted, p.append(never, -4, "a").GetResult())
	written(t, p.append(never, -2, "a"), 0, 0)
	p.undeleted(never)
	json, version := p.metadataOf(never)
	require.Equal(t, []any{`{"$tb":0}`, int64(1)}, []any{json, version})
}

// TestWhatUndeletes: an empty write does, and a retry does not.
func TestWhatUndeletes(t *testing.T) {
	srv := serve(t)
	p := dialPeer(t, srv)
	for _, expected := range []int64{-2, 2} {
		stream := p.in(softDeleted)
		written(t, p.append(stream, expected), 3, 2)
		p.undeleted(stream)
		require.Equal(t, page{result: messages.ReadStreamSuccess, next: 3, last: 2}, p.forward(stream, 0, 3))
		require.Equal(t, page{result: messages.ReadStreamSuccess, next: 3, last: 2, end: true}, p.forward(stream, 3, 3))
		json, version := p.metadataOf(stream)
		require.Equal(t, []any{`{"$tb":3}`, int64(1)}, []any{json, version})
	}
	for _, expected := range []int64{-2, -1, 0} {
		stream := newStream("retried")
		p := dialPeer(t, srv)
		written(t, p.append(stream, -1, "a", "b", "c"), 0, 2)
		require.Equal(t, messages.Success, p.delete(stream, 2, false).GetResult())
		if expected == 0 {
			recognized(t, p.append(stream, expected, "b", "c"), 1, 2)
		} else {
			recognized(t, p.append(stream, expected, "a", "b", "c"), 0, 2)
		}
		require.Equal(t, messages.ReadStreamNoStream, p.forward(stream, 0, 3).result)
		_, version := p.metadataOf(stream)
		require.Zero(t, version)
	}
	stream := p.in(softDeleted)
	wrong(t, p.append(stream, -1), 2) // empty, behind the last event
	wrong(t, p.append(stream, 1, "x"), 2)
	wrong(t, p.append(stream, 3, "x"), 2)
	require.Equal(t, messages.ReadStreamNoStream, p.forward(stream, 0, 3).result)
}

// TestTombstone: a subscription sees it, and nothing more can come. The metastream goes on if it was written before,
// but cannot be read.
func TestTombstone(t *testing.T) {
	srv := serve(t)
	p := dialPeer(t, srv)
	stream := p.in(softDeleted)
	id, _ := p.subscribe(stream)
	metaID, _ := p.subscribe("$$" + stream)
	m := p.delete(stream, -2, true)
	require.Equal(t, messages.Success, m.GetResult())
	e := p.event(id)
	require.Equal(t, messages.DeletedNumber, e.GetEvent().GetEventNumber())
	require.Equal(t, "$streamDeleted", e.GetEvent().GetEventType())
	require.Empty(t, e.GetEvent().GetData())
	require.Equal(t, m.GetCommitPosition(), e.GetCommitPosition())

	deleted := page{result: messages.ReadStreamStreamDeleted, next: -1, last: messages.DeletedNumber, end: true}
	for _, name := range []string{stream, "$$" + stream} {
		require.Equal(t, deleted, p.forward(name, 0, 3))
		require.Equal(t, deleted, p.backward(name, -1, 3))
		for _, number := range []int64{-1, 0, messages.DeletedNumber} {
			require.Equal(t, messages.ReadEventStreamDeleted, p.readEvent(name, number).GetResult())
		}
	}
	for _, expected := range []int64{-4, -2, -1, 0, 2, messages.DeletedNumber} {
		require.Equal(t, messages.StreamDeleted, p.append(stream, expected, "x").GetResult(), expected)
		if expected >= -2 {
			require.Equal(t, messages.StreamDeleted, p.delete(stream, expected, expected%2 == 0).GetResult(), expected)
		}
	}
	// It is soft-deleted still, so that metadata bring it back, from behind the tombstone on.
	behind := "-9223372036854775808"
	if p.before40() {
		behind = "2147483648"
	}
	require.EqualValues(t, 1, p.setMetadata(stream, `{"a":1}`))
	require.EqualValues(t, 3, p.setMetadata(stream, `{"a":2}`))
	for n, want := range []string{`{"a":1}`, `{"a":1,"$tb":` + behind + `}`, `{"a":2}`} {
		e := p.event(metaID).GetEvent()
		require.EqualValues(t, n+1, e.GetEventNumber())
		require.Equal(t, want, string(e.GetData()))
	}
	require.Equal(t, deleted, p.forward("$$"+stream, 0, 3))

	// One that was never written is closed as well.
	stream = p.in(hardDeleted)
	require.Equal(t, messages.StreamDeleted, p.metadata(stream, `{"a":1}`).GetResult())
	never := p.in(missing)
	require.Equal(t, messages.Success, p.delete(never, -1, true).GetResult())
	require.Equal(t, deleted, p.forward(never, 0, 3))
	require.Equal(t, messages.StreamDeleted, p.append(never, -1, "x").GetResult())
}

// TestDeletesInOneSend: each sees what was sent before it.
func TestDeletesInOneSend(t *testing.T) {
	srv := serve(t)
	p := dialPeer(t, srv)
	stream := newStream("send")
	requests := []messages.Request{
		&messages.Append{Stream: stream, Expected: -1, Events: p.named("a"), RequireLeader: true},
		deleteOf(stream, 0, false),
		&messages.Append{Stream: stream, Expected: 0, Events: p.named("b"), RequireLeader: true},
		deleteOf(stream, 1, true),
		&messages.Append{Stream: stream, Expected: -2, Events: p.named("c"), RequireLeader: true},
	}
	var frames []byte
	ids := make([]messages.ID, len(requests))
	for i, r := range requests {
		ids[i] = p.id()
		frames = append(frames, p.frame(ids[i], r)...)
	}
	p.write(frames)
	for i, want := range []messages.OperationResult{messages.Success, messages.Success, messages.Success, messages.Success, messages.StreamDeleted} {
		if i%2 == 0 {
			var m pb.WriteEventsCompleted
			p.reply(ids[i]).into(t, messages.WriteEventsCompleted, &m)
			require.Equal(t, want, m.GetResult(), i)
			continue
		}
		var m pb.DeleteStreamCompleted
		p.reply(ids[i]).into(t, messages.DeleteStreamCompleted, &m)
		require.Equal(t, want, m.GetResult(), i)
	}
}

// TestDeniedDeletes: a stream of the system is the administrators' to delete, and a metastream is nobody's.
func TestDeniedDeletes(t *testing.T) {
	srv := serve(t)
	p := dialPeer(t, srv)
	for _, stream := range []string{"$" + newStream("denied"), "$$" + p.in(existing), "$all"} {
		for _, hard := range []bool{false, true} {
			m := p.delete(stream, -2, hard)
			require.Equal(t, messages.AccessDenied, m.GetResult(), stream)
			require.Equal(t, "Access denied.", m.GetMessage())
			require.Equal(t, []int64{-1, -1}, []int64{m.GetPreparePosition(), m.GetCommitPosition()})
		}
	}
	for _, stream := range []string{"$$" + p.in(existing), "$all"} {
		var m pb.DeleteStreamCompleted
		p.call(deleteOf(stream, -2, true), p.admin()...).into(t, messages.DeleteStreamCompleted, &m)
		require.Equal(t, messages.AccessDenied, m.GetResult(), stream)
	}
}
