package messages_test

import (
	"bytes"
	"fmt"

	"github.com/google/uuid"

	"github.com/goeventstore/eventstore/messages"
)

// sampleRecord is event i of a stream, with size bytes of data.
func sampleRecord(i, size int) messages.EventRecord {
	return messages.EventRecord{
		Stream: "account-00001", Number: int64(i), ID: uuid.UUID{15: byte(i), 14: byte(i >> 8)}, Type: fmt.Sprintf("type-%d", i%3),
		ContentType: 1, MetadataType: 1, Data: bytes.Repeat([]byte("x"), size), Metadata: []byte(`{"user":"someone"}`),
		Created: 639308434350220850, CreatedEpoch: 1795246635022,
	}
}

// samplePage is the body of a page of n events of one stream.
func samplePage(n, size int) []byte {
	var b []byte
	for i := range n {
		e := sampleRecord(i, size)
		b = messages.AppendIndexed(b, 1, e.AppendTo(nil), nil)
	}
	p := messages.StreamPage{Next: int64(n), Last: int64(n) - 1, EndOfStream: true, LastCommit: 139466877}
	return p.AppendTo(b)
}

// sampleAppend is a request to write n events.
func sampleAppend(n, size int) *messages.Append {
	m := &messages.Append{Stream: "account-00001", Expected: -2, RequireLeader: true}
	for i := range n {
		e := sampleRecord(i, size)
		m.Events = append(m.Events, messages.NewEvent{ID: e.ID, Type: e.Type, ContentType: 1, MetadataType: 1, Data: e.Data, Metadata: e.Metadata})
	}
	return m
}

func sampleAppeared(size int) []byte {
	e := sampleRecord(7, size)
	return messages.AppendAppeared(nil, e.AppendTo(nil), e.AppendTo(nil), 139466877, 139466877)
}

// sampleReply is the answer to a request of one event.
var sampleReply = &messages.AppendCompleted{First: 7, Last: 7, HasPosition: true, Prepare: 139466877, Commit: 139466877, HasCurrent: true}

// endless gives the same bytes over and over.
type endless struct {
	b  []byte
	at int
}

func (e *endless) Read(b []byte) (int, error) {
	n := 0
	for n < len(b) {
		c := copy(b[n:], e.b[e.at:])
		n += c
		e.at = (e.at + c) % len(e.b)
	}
	return n, nil
}
