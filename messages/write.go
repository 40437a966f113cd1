package messages

import (
	"github.com/google/uuid"
	"google.golang.org/protobuf/encoding/protowire"
)

// NewEvent is an event to be written. When decoded, Data and Metadata alias the decoded bytes.
type NewEvent struct {
	ID           uuid.UUID
	Type         string
	ContentType  int32 // 1 is JSON, the server stores all else as 0
	MetadataType int32 // ignored by servers: reads repeat ContentType
	Data         []byte
	Metadata     []byte // nil is not sent, and stored as empty
}

func (e *NewEvent) size() int {
	n := sizeText(16) + sizeText(len(e.Type)) + sizeInt(int64(e.ContentType)) + sizeInt(int64(e.MetadataType)) + sizeText(len(e.Data))
	if e.Metadata != nil {
		n += sizeText(len(e.Metadata))
	}
	return n
}

// Append is the WriteEvents request.
type Append struct {
	Stream        string
	Expected      int64
	Events        []NewEvent
	RequireLeader bool
}

// Command implements Request.
func (*Append) Command() Command { return WriteEvents }

// AppendTo implements Request.
func (m *Append) AppendTo(b []byte) ([]byte, error) {
	b = appendString(b, 1, m.Stream)
	b = appendInt(b, 2, m.Expected)
	for i := range m.Events {
		e := &m.Events[i]
		b = appendHead(b, 3, e.size())
		b = AppendGUID(append(b, tag(1, text), 16), e.ID)
		b = appendString(b, 2, e.Type)
		b = appendInt(b, 3, int64(e.ContentType))
		b = appendInt(b, 4, int64(e.MetadataType))
		b = appendBytes(b, 5, e.Data)
		if e.Metadata != nil {
			b = appendBytes(b, 6, e.Metadata)
		}
	}
	return appendBool(b, 4, m.RequireLeader), nil
}

// Decode reads a request into m, whose Events slice it uses again.
func (m *Append) Decode(b []byte, names *Names) error {
	*m = Append{Events: m.Events[:0]}
	f := fields{rest: b}
	for f.next() {
		switch f.key {
		case 1<<3 | text:
			m.Stream = names.String(f.b)
		case 2<<3 | varint:
			m.Expected = int64(f.u)
		case 3<<3 | text:
			var e NewEvent
			if err := e.decode(f.b, names); err != nil {
				return err
			}
			m.Events = append(m.Events, e)
		case 4<<3 | varint:
			m.RequireLeader = protowire.DecodeBool(f.u)
		}
	}
	return f.fail("WriteEvents")
}

func (e *NewEvent) decode(b []byte, names *Names) error {
	f := fields{rest: b}
	for f.next() {
		switch f.key {
		case 1<<3 | text:
			id, err := ParseGUID(f.b)
			if err != nil {
				return err
			}
			e.ID = id
		case 2<<3 | text:
			e.Type = names.String(f.b)
		case 3<<3 | varint:
			e.ContentType = int32(f.u)
		case 4<<3 | varint:
			e.MetadataType = int32(f.u)
		case 5<<3 | text:
			e.Data = f.b[:len(f.b):len(f.b)]
		case 6<<3 | text:
			e.Metadata = f.b[:len(f.b):len(f.b)]
		}
	}
	return f.fail("NewEvent")
}

// AppendCompleted is the answer to WriteEvents.
type AppendCompleted struct {
	Result         OperationResult
	Message        string
	First, Last    int64
	HasPosition    bool // Prepare and Commit came
	Prepare        int64
	Commit         int64
	HasCurrent     bool // Current came: servers from 4.0 on
	CurrentVersion int64
}

// Command implements Request: a server sends the answer as it is.
func (*AppendCompleted) Command() Command { return WriteEventsCompleted }

// AppendTo implements Request.
func (m *AppendCompleted) AppendTo(b []byte) ([]byte, error) {
	b = appendInt(b, 1, int64(m.Result))
	if m.Message != "" {
		b = appendString(b, 2, m.Message)
	}
	b = appendInt(b, 3, m.First)
	b = appendInt(b, 4, m.Last)
	if m.HasPosition {
		b = appendInt(b, 5, m.Prepare)
		b = appendInt(b, 6, m.Commit)
	}
	if m.HasCurrent {
		b = appendInt(b, 7, m.CurrentVersion)
	}
	return b, nil
}

// Decode reads an answer into m.
func (m *AppendCompleted) Decode(b []byte) error {
	*m = AppendCompleted{}
	if m.success(b) {
		return nil
	}
	*m = AppendCompleted{}
	f := fields{rest: b}
	for f.next() {
		switch f.key {
		case 1<<3 | varint:
			m.Result = OperationResult(f.u)
		case 2<<3 | text:
			m.Message = string(f.b)
		case 3<<3 | varint:
			m.First = int64(f.u)
		case 4<<3 | varint:
			m.Last = int64(f.u)
		case 5<<3 | varint:
			m.Prepare, m.HasPosition = int64(f.u), true
		case 6<<3 | varint:
			m.Commit, m.HasPosition = int64(f.u), true
		case 7<<3 | varint:
			m.CurrentVersion, m.HasCurrent = int64(f.u), true
		}
	}
	return f.fail("WriteEventsCompleted")
}

// success reads the answer that nearly every append gets: the fields that a success has, in their order, each in its
// shortest form. False for any other.
func (m *AppendCompleted) success(b []byte) bool {
	var v [5]uint64
	if len(b) < 2 || b[0] != 1<<3|varint || b[1] != byte(Success) {
		return false
	}
	b = b[2:]
	for i := range v {
		if len(b) < 2 || b[0] != byte(i+3)<<3|varint {
			if i != 4 {
				return false
			}
			break // an older server's
		}
		n := 1
		if v[i] = uint64(b[1]); b[1] >= 0x80 {
			if v[i], n = protowire.ConsumeVarint(b[1:]); n < 0 {
				return false
			}
		}
		b = b[1+n:]
		m.HasCurrent = i == 4
	}
	m.HasPosition = true
	m.First, m.Last, m.Prepare, m.Commit, m.CurrentVersion = int64(v[0]), int64(v[1]), int64(v[2]), int64(v[3]), int64(v[4])
	return len(b) == 0
}
