package server

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

const (
	deleteDone    = pb.OperationResult_Success
	deleteWrong   = pb.OperationResult_WrongExpectedVersion
	deleteGone    = pb.OperationResult_StreamDeleted
	deleteRefused = pb.OperationResult_AccessDenied
)

// TestDelete has the versions of 4.11; the steps before are those of TestDecisionProcedure.
func TestDelete(t *testing.T) {
	tests := []struct {
		what       string
		before     []string
		expected   int64
		soft, hard pb.OperationResult
	}{
		{"any", []string{"abc"}, -2, deleteDone, deleteDone},
		{"exact", []string{"abc"}, 2, deleteDone, deleteDone},
		{"behind", []string{"abc"}, 1, deleteWrong, deleteWrong},
		{"beyond", []string{"abc"}, 3, deleteWrong, deleteWrong},
		{"none, with events", []string{"abc"}, -1, deleteWrong, deleteWrong},
		{"never written, any", nil, -2, deleteDone, deleteDone},
		{"never written, none", nil, -1, deleteDone, deleteDone},
		{"never written, exact", nil, 0, deleteWrong, deleteWrong},
		{"soft-deleted, any", []string{"abc", "-"}, -2, deleteDone, deleteDone},
		{"soft-deleted, the last number", []string{"abc", "-"}, 2, deleteDone, deleteDone},
		{"soft-deleted, none", []string{"abc", "-"}, -1, deleteDone, deleteDone},
		{"soft-deleted, behind", []string{"abc", "-"}, 1, deleteWrong, deleteWrong},
		{"soft-deleted, first", []string{"abc", "-"}, 0, deleteWrong, deleteWrong},
		{"soft-deleted, beyond", []string{"abc", "-"}, 3, deleteWrong, deleteWrong},
		{"hard-deleted, any", []string{"abc", "!"}, -2, deleteGone, deleteGone},
		{"hard-deleted, none", []string{"abc", "!"}, -1, deleteGone, deleteGone},
		{"hard-deleted, exact", []string{"abc", "!"}, 2, deleteGone, deleteGone},
		{"hard-deleted, the tombstone's number", []string{"abc", "!"}, messages.DeletedNumber, deleteGone, deleteGone},
	}
	n := run(t)
	p := n.peer(t)
	for _, test := range tests {
		for _, hard := range []bool{false, true} {
			stream, want := test.what, test.soft
			if hard {
				stream, want = test.what+", hard", test.hard
			}
			for _, step := range test.before {
				p.prepare(stream, step)
			}
			before := n.store.Tip()
			m := p.delete(stream, test.expected, hard)
			require.Equal(t, want, m.GetResult(), stream)
			require.Nil(t, m.CurrentVersion)
			require.Equal(t, m.GetPreparePosition(), m.GetCommitPosition())
			if want == deleteDone {
				require.Nil(t, m.Message)
				require.Equal(t, before.End, m.GetCommitPosition())
			} else {
				require.Equal(t, refusal(want), m.GetMessage())
				require.EqualValues(t, -1, m.GetCommitPosition())
				require.Equal(t, before, n.store.Tip())
			}
		}
	}
}

func TestRefusedDeletes(t *testing.T) {
	p := run(t).peer(t)
	p.appended("s", expectNoStream, "a")
	for _, stream := range []string{"$all", "$$s", "$$", "$$$$s"} {
		for _, hard := range []bool{false, true} {
			a := p.call(messages.Of(messages.DeleteStream, &pb.DeleteStream{
				EventStreamId: &stream, ExpectedVersion: proto.Int64(-2), HardDelete: &hard,
			}), "admin", "changeit")
			var m pb.DeleteStreamCompleted
			a.into(t, &m)
			require.Equal(t, deleteRefused, m.GetResult(), stream)
			require.Equal(t, "Access denied.", m.GetMessage())
			require.EqualValues(t, -1, m.GetPreparePosition())
		}
	}
	require.Equal(t, deleteRefused, p.delete("$x", expectAny, false).GetResult(), "anonymous")
	for _, m := range []*pb.DeleteStream{
		{EventStreamId: proto.String("s"), ExpectedVersion: proto.Int64(-4)},
		{EventStreamId: proto.String("s"), ExpectedVersion: proto.Int64(-4), HardDelete: proto.Bool(true)},
		{EventStreamId: proto.String("s"), ExpectedVersion: proto.Int64(-3)},
		{EventStreamId: proto.String("s"), ExpectedVersion: proto.Int64(-5)},
		{EventStreamId: proto.String(""), ExpectedVersion: proto.Int64(-2)},
		{ExpectedVersion: proto.Int64(-2)},
	} {
		a := p.call(messages.Of(messages.DeleteStream, m))
		require.Equal(t, messages.BadRequest, a.command, m)
		require.Equal(t, "Could not unwrap network package for command DeleteStream.\n", string(a.body))
	}
	// A missing version is read as 0, a missing kind as soft.
	require.Equal(t, messages.DeleteStreamCompleted, p.call(messages.Of(messages.DeleteStream, &pb.DeleteStream{EventStreamId: proto.String("s")})).command)
	require.Equal(t, page{result: messages.ReadStreamNoStream, next: -1, last: 0, end: true}, p.forward("s", 0, 1))
}

func TestSoftDelete(t *testing.T) {
	p := run(t).peer(t)
	p.appended("s", expectNoStream, "abc")
	p.metadata("s", `{"$maxCount":2,"user":"x"}`)
	p.delete("s", expectAny, false)
	number, json := p.lastMetadata("s")
	require.EqualValues(t, 1, number)
	require.JSONEq(t, `{"$tb":9223372036854775807}`, json, "all other metadata are lost")
	missing := page{result: messages.ReadStreamNoStream, next: -1, last: 2, end: true}
	require.Equal(t, missing, p.forward("s", 0, 5))
	require.Equal(t, missing, p.backward("s", -1, 5))
	p.delete("s", 2, false)
	number, _ = p.lastMetadata("s")
	require.EqualValues(t, 2, number, "a repeated delete writes metadata again")
	require.Equal(t, []int64{2}, p.forward("$$s", 0, 5).numbers, "a metastream shows its last event only")
	require.Equal(t, page{numbers: []int64{2}, next: -1, last: 2, end: true}, p.backward("$$s", -1, 5))

	p.appended("s", expectNoStream, "d")
	number, json = p.lastMetadata("s")
	require.EqualValues(t, 3, number)
	require.True(t, json == `{"$tb":3}`, json) //nolint:testifylint // the very bytes
	require.Equal(t, page{numbers: []int64{3}, next: 4, last: 3, end: true}, p.forward("s", 0, 5))
	require.Equal(t, page{numbers: []int64{3}, next: -1, last: 3, end: true}, p.backward("s", -1, 5))
}

// TestUndeleteByAnEmptyWrite: the stream is there again and empty.
func TestUndeleteByAnEmptyWrite(t *testing.T) {
	p := run(t).peer(t)
	p.appended("s", expectNoStream, "abc")
	p.delete("s", expectAny, false)
	p.appended("s", expectAny, "")
	require.Equal(t, page{next: 3, last: 2, end: true}, p.forward("s", 0, 5))
	require.Equal(t, page{next: -1, last: 2, end: true}, p.backward("s", -1, 5))
	require.Equal(t, messages.ReadEventNotFound, p.readEvent("s", -1).Result)
}

// TestUndeleteByMetadata: the server puts one metadata event more behind the one that was written.
func TestUndeleteByMetadata(t *testing.T) {
	for written, want := range map[string]string{
		`{"user":"y"}`:                         `{"user":"y","$tb":3}`,
		`{ "a" : [1, 2] , "$tb" : 9, "b":"<"}`: `{"a":[1,2],"$tb":3,"b":"<"}`,
		`{}`:                                   `{"$tb":3}`,
		`{"$tb":9223372036854775807}`:          `{"$tb":3}`,
		`{"a":1,"a":2}`:                        `{"a":2,"$tb":3}`,
	} {
		p := run(t).peer(t)
		p.appended("s", expectNoStream, "abc")
		p.delete("s", expectAny, false)
		m := p.metadata("s", written)
		require.EqualValues(t, 1, m.First)
		number, json := p.lastMetadata("s")
		require.EqualValues(t, 2, number)
		require.True(t, want == json, json) //nolint:testifylint // the very bytes
		require.Equal(t, page{next: 3, last: 2, end: true}, p.forward("s", 0, 5))
	}
	p := run(t).peer(t)
	p.appended("s", expectNoStream, "abc")
	p.delete("s", expectAny, false)
	p.metadata("s", "no json")
	number, _ := p.lastMetadata("s")
	require.EqualValues(t, 1, number, "what is no object is not rewritten")
	require.Len(t, p.forward("s", 0, 5).numbers, 3)
}

func TestMetadataThatDoNotCount(t *testing.T) {
	for json, hidden := range map[string]bool{
		`{"$tb":2}`:                true,
		"\xef\xbb\xbf {\"$tb\":2}": true,
		`{"$tb":2} trailing`:       true,
		`{"$tb":1,"$tb":2}`:        true,
		`{"$TB":2}`:                false,
		`{"$tb":"2"}`:              false,
		`{"$tb":2.0}`:              false,
		`{"$tb":-2}`:               false,
		`{"$tb":null}`:             false,
		`[2]`:                      false,
		`nonsense`:                 false,
		``:                         false,
	} {
		p := run(t).peer(t)
		p.appended("s", expectNoStream, "abc")
		p.metadata("s", json)
		require.Equal(t, hidden, len(p.forward("s", 0, 9).numbers) == 1, "%q", json)
	}
	p := run(t).peer(t)
	p.appended("s", expectNoStream, "abc")
	p.call(&messages.Append{Stream: "$$s", Expected: expectAny, Events: []messages.NewEvent{
		{ID: eventID("binary"), Type: typeMetadata, Data: []byte(`{"$tb":2}`)},
	}})
	require.Len(t, p.forward("s", 0, 9).numbers, 3, "an event that is not JSON")
}

func TestHardDelete(t *testing.T) {
	n := run(t)
	p := n.peer(t)
	p.appended("s", expectNoStream, "abc")
	p.delete("s", expectAny, true)
	deleted := page{result: messages.ReadStreamStreamDeleted, next: -1, last: messages.DeletedNumber, end: true}
	for _, stream := range []string{"s", "$$s"} {
		require.Equal(t, deleted, p.forward(stream, 0, 5), stream)
		require.Equal(t, deleted, p.backward(stream, -1, 5), stream)
	}
	require.Equal(t, messages.StreamDeleted, p.metadata("s", `{"a":1}`).Result, "a metastream that was never written")

	// A metastream that was written before can still be, and never be read.
	p.appended("t", expectNoStream, "abc")
	p.metadata("t", `{"a":1}`)
	p.delete("t", expectAny, true)
	require.EqualValues(t, 1, p.metadata("t", `{"a":2}`).First)
	require.Equal(t, wrong(1), p.outcome("$$t", expectNoStream, "x"))
	require.Equal(t, deleted, p.forward("$$t", 0, 5))

	old := n.raw(t) // 32-bit numbers
	deleted.last = messages.DeletedNumber32
	require.Equal(t, deleted, old.forward("s", 0, 5))
	old.identify(1)
	deleted.last = messages.DeletedNumber
	require.Equal(t, deleted, old.forward("s", 0, 5))
}
