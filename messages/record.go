package messages

import (
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/encoding/protowire"
)

// EventRecord is an event as a server stored it. Data and Metadata alias the decoded bytes.
type EventRecord struct {
	Stream       string
	Number       int64
	ID           uuid.UUID
	Type         string
	ContentType  int32 // 1 is JSON, all else binary
	MetadataType int32
	Data         []byte
	Metadata     []byte
	Created      int64 // .NET ticks: 100 ns since the year 1, UTC; 0 when absent
	CreatedEpoch int64 // milliseconds since 1970, UTC; 0 when absent
}

// ticksAt1970 is the .NET tick count of the Unix epoch.
const ticksAt1970 = 621355968000000000

// Ticks returns t as .NET ticks.
func Ticks(t time.Time) int64 { return t.Unix()*1e7 + int64(t.Nanosecond())/100 + ticksAt1970 }

// CreatedTime returns when the server stored the event, in UTC: from the ticks if they came, which are exact to 100 ns,
// else from the milliseconds, else the zero time.
func (e *EventRecord) CreatedTime() time.Time {
	switch {
	case e.Created != 0:
		t := e.Created - ticksAt1970
		return time.Unix(t/1e7, t%1e7*100).UTC()
	case e.CreatedEpoch != 0:
		return time.UnixMilli(e.CreatedEpoch).UTC()
	}
	return time.Time{}
}

// AppendTo appends the encoded record, every field written as a real server does.
func (e *EventRecord) AppendTo(b []byte) []byte {
	b = appendString(b, 1, e.Stream)
	b = appendInt(b, 2, e.Number)
	b = AppendGUID(append(b, tag(3, text), 16), e.ID)
	b = appendString(b, 4, e.Type)
	b = appendInt(b, 5, int64(e.ContentType))
	b = appendInt(b, 6, int64(e.MetadataType))
	b = appendBytes(b, 7, e.Data)
	b = appendBytes(b, 8, e.Metadata)
	b = appendInt(b, 9, e.Created)
	return appendInt(b, 10, e.CreatedEpoch)
}

// Decode reads a record into e, fields that did not come left as they are.
func (e *EventRecord) Decode(b []byte, names *Names) error {
	if e.inOrder(b, names) {
		return nil
	}
	f := fields{rest: b}
	for f.next() {
		switch f.key {
		case 1<<3 | text:
			e.Stream = names.String(f.b)
		case 2<<3 | varint:
			e.Number = int64(f.u)
		case 3<<3 | text:
			id, err := ParseGUID(f.b)
			if err != nil {
				return err
			}
			e.ID = id
		case 4<<3 | text:
			e.Type = names.String(f.b)
		case 5<<3 | varint:
			e.ContentType = int32(f.u)
		case 6<<3 | varint:
			e.MetadataType = int32(f.u)
		case 7<<3 | text:
			e.Data = f.b[:len(f.b):len(f.b)]
		case 8<<3 | text:
			e.Metadata = f.b[:len(f.b):len(f.b)]
		case 9<<3 | varint:
			e.Created = int64(f.u)
		case 10<<3 | varint:
			e.CreatedEpoch = int64(f.u)
		}
	}
	return f.fail("EventRecord")
}

// inOrder reads a record as servers write it, each field at most once and in the order of the numbers. It returns false
// for any other, of which it may have read some fields: whoever reads all of them gets the same.
func (e *EventRecord) inOrder(b []byte, names *Names) bool {
	var v uint64
	if field, rest, ok := cut(b, 1<<3|text); ok {
		e.Stream, b = names.String(field), rest
	}
	if startsWith(b, 2<<3|varint) {
		v, b = value(b)
		e.Number = int64(v)
	}
	if startsWith(b, 3<<3|text) {
		if len(b) < 2+16 || b[1] != 16 {
			return false
		}
		e.ID, b = parseGUID(b[2:2+16]), b[2+16:]
	}
	if field, rest, ok := cut(b, 4<<3|text); ok {
		e.Type, b = names.String(field), rest
	}
	if startsWith(b, 5<<3|varint) {
		v, b = value(b)
		e.ContentType = int32(v)
	}
	if startsWith(b, 6<<3|varint) {
		v, b = value(b)
		e.MetadataType = int32(v)
	}
	if field, rest, ok := cut(b, 7<<3|text); ok {
		e.Data, b = field[:len(field):len(field)], rest
	}
	if field, rest, ok := cut(b, 8<<3|text); ok {
		e.Metadata, b = field[:len(field):len(field)], rest
	}
	if startsWith(b, 9<<3|varint) {
		v, b = value(b)
		e.Created = int64(v)
	}
	if startsWith(b, 10<<3|varint) {
		v, b = value(b)
		e.CreatedEpoch = int64(v)
	}
	return len(b) == 0
}

// ResolvedEvent is an event as it is delivered: both ResolvedIndexedEvent, without positions, and ResolvedEvent of the
// protocol. With links resolved, Link is the record that was read and Event its target; a link without a target has
// HasEvent false, although the schema calls the field required.
type ResolvedEvent struct {
	HasEvent, HasLink bool
	HasPosition       bool
	Event, Link       EventRecord
	Commit, Prepare   int64
}

// reset makes r the zero value again. It is large, and mostly there is no link.
func (r *ResolvedEvent) reset() {
	if r.HasLink {
		r.Link = EventRecord{}
	}
	r.HasEvent, r.HasLink, r.HasPosition, r.Commit, r.Prepare = false, false, false, 0, 0
	r.Event = EventRecord{}
}

// Decode reads a ResolvedIndexedEvent or a ResolvedEvent. Fields of r that did not come are left as they are.
func (r *ResolvedEvent) Decode(b []byte, names *Names) error {
	if r.inOrder(b, names) {
		return nil
	}
	f := fields{rest: b}
	for f.next() {
		switch f.key {
		case 1<<3 | text:
			r.HasEvent = true
			if err := r.Event.Decode(f.b, names); err != nil {
				return err
			}
		case 2<<3 | text:
			r.HasLink = true
			if err := r.Link.Decode(f.b, names); err != nil {
				return err
			}
		case 3<<3 | varint:
			r.HasPosition = true
			r.Commit = int64(f.u)
		case 4<<3 | varint:
			r.HasPosition = true
			r.Prepare = int64(f.u)
		}
	}
	return f.fail("ResolvedEvent")
}

// inOrder is EventRecord's.
func (r *ResolvedEvent) inOrder(b []byte, names *Names) bool {
	var v uint64
	if field, rest, ok := cut(b, 1<<3|text); ok {
		if r.HasEvent, b = true, rest; !r.Event.inOrder(field, names) {
			return false
		}
	}
	if field, rest, ok := cut(b, 2<<3|text); ok {
		if r.HasLink, b = true, rest; !r.Link.inOrder(field, names) {
			return false
		}
	}
	if startsWith(b, 3<<3|varint) {
		v, b = value(b)
		r.HasPosition, r.Commit = true, int64(v)
	}
	if startsWith(b, 4<<3|varint) {
		v, b = value(b)
		r.HasPosition, r.Prepare = true, int64(v)
	}
	return len(b) == 0
}

// AppendIndexed appends a ResolvedIndexedEvent as field num: a page's event is its field 1, the answer to ReadEvent has
// it as field 2. Event and link are encoded records; nil leaves the one out.
func AppendIndexed(b []byte, num protowire.Number, event, link []byte) []byte {
	size := 0
	if event != nil {
		size += sizeText(len(event))
	}
	if link != nil {
		size += sizeText(len(link))
	}
	return appendRecords(appendHead(b, num, size), event, link)
}

// AppendResolved appends a ResolvedEvent, which has positions, as field num; see AppendIndexed.
func AppendResolved(b []byte, num protowire.Number, event, link []byte, commit, prepare int64) []byte {
	size := sizeInt(commit) + sizeInt(prepare)
	if event != nil {
		size += sizeText(len(event))
	}
	if link != nil {
		size += sizeText(len(link))
	}
	b = appendRecords(appendHead(b, num, size), event, link)
	b = appendInt(b, 3, commit)
	return appendInt(b, 4, prepare)
}

func appendRecords(b, event, link []byte) []byte {
	if event != nil {
		b = appendBytes(b, 1, event)
	}
	if link != nil {
		b = appendBytes(b, 2, link)
	}
	return b
}
