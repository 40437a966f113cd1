package conformance_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/google/uuid"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/messages"
)

// setMetadata writes the metadata of a stream and returns the version that they have then.
func (p *peer) setMetadata(stream, json string) int64 {
	p.t.Helper()
	m := p.metadata(stream, json)
	require.Equal(p.t, messages.Success, m.GetResult(), "%s", m.GetMessage())
	return m.GetLastEventNumber()
}

// metadataOf returns the metadata of a stream that can be read, and their version; -1 without any.
func (p *peer) metadataOf(stream string) (json string, version int64) {
	p.t.Helper()
	m := p.readEvent("$$"+stream, -1)
	require.Equal(p.t, messages.ReadEventSuccess, m.GetResult())
	e := m.GetEvent().GetEvent()
	if e == nil {
		return "", -1
	}
	return string(e.GetData()), e.GetEventNumber()
}

// tenEvents makes a stream of ten events.
func (p *peer) tenEvents() string {
	p.t.Helper()
	stream := newStream("metadata")
	require.Equal(p.t, messages.Success, p.append(stream, -1, "a", "b", "c", "d", "e", "f", "g", "h", "i", "j").GetResult())
	return stream
}

// TestMaxCount: the last events count, also when there are new ones.
func TestMaxCount(t *testing.T) {
	ctx := within(t)
	srv := serve(t)
	p := dialPeer(t, srv)
	client := srv.Client(t)
	stream := p.tenEvents()
	p.setMetadata(stream, `{"$maxCount":3}`)
	good := func(last, next int64, end bool, numbers ...int64) page {
		return page{result: messages.ReadStreamSuccess, numbers: numbers, next: next, last: last, end: end}
	}
	require.Equal(t, good(9, 7, false), p.forward(stream, 0, 7))
	require.Equal(t, good(9, 8, false, 7), p.forward(stream, 0, 8))
	require.Equal(t, good(9, 10, true, 7, 8, 9), p.forward(stream, 0, 100))
	require.Equal(t, good(9, 9, false, 8), p.forward(stream, 8, 1))
	require.Equal(t, good(9, -1, true, 9, 8, 7), p.backward(stream, -1, 3))
	require.Equal(t, good(9, 7, false, 9, 8), p.backward(stream, 9, 2))
	require.Equal(t, good(9, -1, true), p.backward(stream, 6, 5))
	require.Equal(t, good(9, -1, true, 8, 7), p.backward(stream, 8, 5))
	_, err := client.ReadEvent(ctx, stream, eventstore.At(6))
	require.ErrorIs(t, err, eventstore.ErrEventNotFound)
	_, err = client.ReadEvent(ctx, stream, eventstore.At(7))
	require.NoError(t, err)

	// It is hidden, and not gone: versions and ids are as before.
	wrong(t, p.append(stream, 6, "new"), 9)
	recognized(t, p.append(stream, -1, "a", "b"), 0, 1)
	written(t, p.append(stream, 9, "k"), 10, 10)
	require.Equal(t, good(10, 11, true, 8, 9, 10), p.forward(stream, 0, 100))

	// The higher of two limits counts, and a wider one brings events back.
	p.setMetadata(stream, `{"$maxCount":3,"$tb":10}`)
	require.Equal(t, good(10, 11, true, 10), p.forward(stream, 0, 100))
	p.setMetadata(stream, `{"$maxCount":9,"$tb":1}`)
	require.Equal(t, good(10, 11, true, 2, 3, 4, 5, 6, 7, 8, 9, 10), p.forward(stream, 0, 100))
	p.setMetadata(stream, `{"$maxCount":100}`)
	require.Len(t, p.forward(stream, 0, 100).numbers, 11)
	p.setMetadata(stream, `{"$maxCount":1}`)
	require.Equal(t, good(10, -1, true, 10), p.backward(stream, -1, 1))
}

// TestMaxAge waits for events to become too old.
func TestMaxAge(t *testing.T) {
	srv := serve(t)
	p := dialPeer(t, srv)
	stream := p.tenEvents()
	p.setMetadata(stream, `{"$maxAge":1}`)
	gone := page{result: messages.ReadStreamSuccess, next: 3, last: 9}
	require.Eventually(t, func() bool {
		page := p.forward(stream, 0, 3)
		return len(page.numbers) == 0 && page.next == gone.next
	}, hang, 20*time.Millisecond)
	require.Equal(t, gone, p.forward(stream, 0, 3))
	end := page{result: messages.ReadStreamSuccess, next: 10, last: 9, end: true}
	require.Eventually(t, func() bool { return len(p.forward(stream, 0, 10).numbers) == 0 }, hang, 20*time.Millisecond)
	require.Equal(t, end, p.forward(stream, 0, 10))
	end.next = -1
	require.Equal(t, end, p.backward(stream, -1, 3))
	require.Equal(t, end, p.backward(stream, 5, 3))
	for _, number := range []int64{-1, 0, 9} {
		require.Equal(t, messages.ReadEventNotFound, p.readEvent(stream, number).GetResult())
	}
	link := p.links("9@"+stream, "-1@"+stream)
	require.Empty(t, target(p.resolvedEvent(link, 0).GetEvent()))
	require.Empty(t, target(p.resolvedEvent(link, 1).GetEvent()))
	wrong(t, p.append(stream, 8, "new"), 9)
	recognized(t, p.append(stream, 8, "j"), 9, 9)

	// A longer age brings them back, and one that reaches behind the year 1 is an error.
	p.setMetadata(stream, `{"$maxAge":3600}`)
	require.Len(t, p.forward(stream, 0, 10).numbers, 10)
	p.setMetadata(stream, `{"$maxAge":64000000000}`)
	failed := p.forward(stream, 0, 10)
	require.NotEmpty(t, failed.text)
	failed.text = ""
	require.Equal(t, page{result: messages.ReadStreamError, next: -1, last: -1, end: true}, failed)
	require.Equal(t, messages.ReadStreamError, p.backward(stream, -1, 10).result)
	m := p.readEvent(stream, 3)
	require.Equal(t, messages.ReadEventError, m.GetResult())
	require.NotEmpty(t, m.GetError())
	require.Empty(t, target(p.resolvedEvent(link, 0).GetEvent()), "a link is a link all the same")
}

// TestWhatCountsAsMetadata: a single value of a wrong kind makes all of them void.
func TestWhatCountsAsMetadata(t *testing.T) {
	srv := serve(t)
	p := dialPeer(t, srv)
	stream := p.tenEvents()
	const all = 0
	for _, c := range []struct {
		json  string
		first int64 // of the events that can be read
	}{
		{`{"$tb":2}`, 2},
		{`{"$tb":2,"other":{"$tb":5},"$tmp":true,"$cacheControl":-1,"$acl":{}}`, 2},
		{`{"$tb":1,"$tb":2}`, 2},
		{`{"$TB":5,"$tb":2}`, 2},
		{`{"$tb":2} behind it`, 2},
		{"\ufeff\u00a0{\"$tb\":2}", 2},
		{`{"$tb":2,"$maxCount":0}`, 2},
		{`{"$tb":2,"$maxCount":-9223372036854775808,"$maxAge":-922337203685}`, 2},
		{`{"$tb":2,"$maxCount":9223372036854775807}`, 2},
		{`{"$tb":-1,"$maxCount":8}`, 2},
		{`{$tb:2,}`, 2},
		{`{'$tb':0x2,"a":[1,,NaN,/* b */2.e1]}`, 2},
		{`{"$tb":010}`, 8},
		{"{\"$tb\":2,\"a\":\"\t\n\\'\xff\"}", 2},
		{`{"$tb":2`, all},
		{`{"$tb":2,,}`, all},
		{`{/* b */"$tb":2}`, all},
		{"\ufeff\ufeff{\"$tb\":2}", all},
		{`[{"$tb":2}]`, all},
		{`null`, all},
		{``, all},
		{`{"$tb":"2"}`, all},
		{`{"$tb":"x","$tb":2}`, all},
		{`{"$tb":2.0}`, all},
		{`{"$tb":2e0}`, all},
		{`{"$tb":null}`, all},
		{`{"$tb":9223372036854775808}`, all},
		{`{"$tb":2,"$maxCount":-9223372036854775809}`, all},
		{`{"$tb":2,"$maxAge":922337203686}`, all},
		{`{"$tb":2,"$maxAge":-922337203686}`, all},
		{`{"$tb":2,"$cacheControl":"5"}`, all},
		{`{"$tb":2,"$tmp":0}`, all},
		{`{"$tb":2,"$acl":null}`, all},
		{`{"$tb":2,"$acl":{"$r":null}}`, all},
		{`{"$tb":2,"$acl":{"$x":"$all"}}`, all},
		{`{"$tb":2,"$acl":{"$r":["$all",1]}}`, all},
		{`{"$tb":2,"a":1e400}`, all},
		{`{"$tb":2,"a":tru}`, all},
	} {
		p.setMetadata(stream, c.json)
		require.Equal(t, c.first, p.forward(stream, 0, 100).numbers[0], "%q", c.json)
		_, version := p.metadataOf(stream)
		written(t, p.appendEvents("$$"+stream, version, messages.NewEvent{
			ID: uuid.New(), Type: "any", Data: []byte(c.json),
		}), version+1, version+1)
		require.EqualValues(t, all, p.forward(stream, 0, 100).numbers[0], "not JSON by its own word: %q", c.json)
	}
	// The type of the event does not matter.
	written(t, p.appendEvents("$$"+stream, -4, messages.NewEvent{ID: uuid.New(), Type: "any", ContentType: 1, Data: []byte(`{"$tb":3}`)}), 76, 76)
	require.EqualValues(t, 3, p.forward(stream, 0, 100).numbers[0])
}

// TestMetastream: only its last event can be read, and it belongs to its stream.
func TestMetastream(t *testing.T) {
	srv := serve(t)
	p := dialPeer(t, srv)
	stream := p.in(existing)
	json, version := p.metadataOf(stream)
	require.Equal(t, []any{"", int64(-1)}, []any{json, version})
	require.Equal(t, messages.ReadEventSuccess, p.readEvent("$$"+stream, 4).GetResult(), "a success, and no event")
	require.Equal(t, messages.ReadEventNoStream, p.readEvent("$$"+p.in(missing), -1).GetResult())
	require.Equal(t, messages.ReadStreamNoStream, p.forward("$$"+stream, 0, 5).result)
	for n := range int64(3) {
		require.Equal(t, n, p.setMetadata(stream, `{"a":1}`))
	}
	meta := "$$" + stream
	require.Equal(t, page{result: messages.ReadStreamSuccess, numbers: []int64{2}, next: 3, last: 2, end: true}, p.forward(meta, 0, 5))
	require.Equal(t, page{result: messages.ReadStreamSuccess, next: 2, last: 2}, p.forward(meta, 0, 2))
	require.Equal(t, page{result: messages.ReadStreamSuccess, numbers: []int64{2}, next: -1, last: 2, end: true}, p.backward(meta, -1, 5))
	old := p.readEvent(meta, 1)
	require.Equal(t, messages.ReadEventSuccess, old.GetResult())
	require.Nil(t, old.GetEvent().GetEvent())
	wrong(t, p.appendEvents(meta, 1, messages.NewEvent{ID: uuid.New(), Type: "$metadata", ContentType: 1, Data: []byte(`{}`)}), 2)

	// Metadata alone are no stream.
	only := p.in(metadataOnly)
	require.Equal(t, messages.ReadStreamNoStream, p.forward(only, 0, 5).result)
	require.Equal(t, messages.ReadEventNotFound, p.readEvent("$$"+only, 7).GetResult(), "nor is this a success then")
	// A metastream has no metadata of its own.
	require.Equal(t, messages.AccessDenied, p.metadata("$$"+stream, `{"a":1}`).GetResult())
	require.Equal(t, messages.ReadStreamAccessDenied, p.forward("$$$$"+stream, 0, 5).result)
}

// TestMetadataUndelete: metadata that are written to a soft-deleted stream bring it back without its old events.
func TestMetadataUndelete(t *testing.T) {
	srv := serve(t)
	p := dialPeer(t, srv)
	for _, c := range []struct{ json, want string }{
		{`{"a":1}`, `{"a":1,"$tb":3}`},
		{`{"$tb":1,"a":1,"$maxCount":7}`, `{"$tb":3,"a":1,"$maxCount":7}`},
		{` { "a" : [ 1.10 , 1e5 , { } ] , b : 'x\u00e9\/' , } `, `{"a":[1.1,100000.0,{}],"b":"xé/","$tb":3}`},
	} {
		stream := p.in(softDeleted)
		require.EqualValues(t, 1, p.setMetadata(stream, c.json))
		p.undeleted(stream)
		json, version := p.metadataOf(stream)
		require.Equal(t, c.want, json) //nolint:testifylint // the very bytes
		require.EqualValues(t, 2, version, "one more than was told")
		require.Equal(t, page{result: messages.ReadStreamSuccess, next: 3, last: 2}, p.forward(stream, 0, 2))
		require.Equal(t, page{result: messages.ReadStreamSuccess, next: 3, last: 2, end: true}, p.forward(stream, 3, 2))
		written(t, p.append(stream, 2, uuid.NewString()), 3, 3)
		require.Equal(t, []int64{3}, p.forward(stream, 0, 10).numbers)
	}
	// Metadata that are not an object and nothing else stay as they are, and hide nothing then.
	stream := p.in(softDeleted)
	require.EqualValues(t, 1, p.setMetadata(stream, `{"a":1} behind it`))
	p.undeleted(stream)
	require.Equal(t, []int64{0, 1, 2}, p.forward(stream, 0, 10).numbers)
	_, version := p.metadataOf(stream)
	require.EqualValues(t, 1, version)

	// The largest $tb is a soft delete, whoever writes it.
	stream = p.in(existing)
	largest := messages.DeletedNumber
	if p.before40() {
		largest = messages.DeletedNumber32
	}
	p.setMetadata(stream, fmt.Sprintf(`{"$tb":%d,"a":1}`, largest))
	require.Equal(t, page{result: messages.ReadStreamNoStream, next: -1, last: 2, end: true}, p.forward(stream, 0, 10))
	require.Equal(t, messages.StreamDeleted, p.append(stream, -4, uuid.NewString()).GetResult())
	written(t, p.append(stream, -2, uuid.NewString()), 3, 3)
	p.undeleted(stream)
	json, _ := p.metadataOf(stream)
	require.Equal(t, `{"$tb":3,"a":1}`, json) //nolint:testifylint // the very bytes
	// The one below is not.
	p.setMetadata(stream, fmt.Sprintf(`{"$tb":%d}`, largest-1))
	require.Equal(t, page{result: messages.ReadStreamSuccess, next: largest - 1, last: 3}, p.forward(stream, 0, 10))
}
