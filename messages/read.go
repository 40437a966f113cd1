package messages

import "google.golang.org/protobuf/encoding/protowire"

// StreamRead is the request for a page of a stream, ReadStreamEvents in either direction.
type StreamRead struct {
	Stream        string
	From          int64 // -1 is the last event, backward only
	Count         int32 // at most 4096
	ResolveLinks  bool
	RequireLeader bool
	Backward      bool // not a field: it decides the command
}

// Command implements Request.
func (m *StreamRead) Command() Command {
	if m.Backward {
		return ReadStreamEventsBackward
	}
	return ReadStreamEventsForward
}

// AppendTo implements Request.
func (m *StreamRead) AppendTo(b []byte) ([]byte, error) {
	b = appendString(b, 1, m.Stream)
	b = appendInt(b, 2, m.From)
	b = appendInt(b, 3, int64(m.Count))
	b = appendBool(b, 4, m.ResolveLinks)
	return appendBool(b, 5, m.RequireLeader), nil
}

// Decode reads a request into m; Backward is the caller's, who knows the command.
func (m *StreamRead) Decode(b []byte, names *Names) error {
	*m = StreamRead{Backward: m.Backward}
	f := fields{rest: b}
	for f.next() {
		switch f.key {
		case 1<<3 | text:
			m.Stream = names.String(f.b)
		case 2<<3 | varint:
			m.From = int64(f.u)
		case 3<<3 | varint:
			m.Count = int32(f.u)
		case 4<<3 | varint:
			m.ResolveLinks = protowire.DecodeBool(f.u)
		case 5<<3 | varint:
			m.RequireLeader = protowire.DecodeBool(f.u)
		}
	}
	return f.fail("ReadStreamEvents")
}

// StreamPage is the answer to a StreamRead, without its events: Decode counts them, Each decodes them, and finds the
// malformed ones. It is not safe for concurrent use.
type StreamPage struct {
	Result      ReadStreamResult
	Next        int64 // where the next page begins, -1 at the end of a backward read
	Last        int64 // the last event number of the stream
	EndOfStream bool
	LastCommit  int64 // the global log position, no place of the stream
	Error       string
	Count       int // how many events the page has

	body   []byte
	record *ResolvedEvent // what Each decodes into, kept from page to page
}

// Decode reads the page in body, which m keeps and Each reads.
func (m *StreamPage) Decode(body []byte) error {
	*m = StreamPage{body: body, record: m.record}
	f := fields{rest: body}
	m.Count, f.rest = skipAll(body, 1<<3|text)
	for f.next() {
		switch f.key {
		case 1<<3 | text:
			m.Count++
		case 2<<3 | varint:
			m.Result = ReadStreamResult(f.u)
		case 3<<3 | varint:
			m.Next = int64(f.u)
		case 4<<3 | varint:
			m.Last = int64(f.u)
		case 5<<3 | varint:
			m.EndOfStream = protowire.DecodeBool(f.u)
		case 6<<3 | varint:
			m.LastCommit = int64(f.u)
		case 7<<3 | text:
			m.Error = string(f.b)
		}
	}
	return f.fail("ReadStreamEventsCompleted")
}

// Each decodes the page's events, one after the other into the same record, until yield returns false. What the record
// aliases is the page's body; the record itself is used again for the next event.
func (m *StreamPage) Each(names *Names, yield func(*ResolvedEvent) bool) error {
	return m.Events().each(&m.record, names, yield)
}

// Events returns the page's events, to be decoded one by one.
func (m *StreamPage) Events() Events {
	return Events{rest: m.body, key: 1<<3 | text, message: "ReadStreamEventsCompleted"}
}

// Events are the events of a page that are still to be decoded. The zero value has none.
type Events struct {
	rest    []byte // of the page's body
	key     byte   // of the fields that are events
	message string
}

// Next decodes the next event into e, which aliases the page's body. It returns false behind the last, and with an error.
func (p *Events) Next(e *ResolvedEvent, names *Names) (bool, error) {
	for {
		event, rest, ok := cut(p.rest, p.key)
		if !ok {
			f := fields{rest: p.rest}
			if !f.next() {
				return false, f.fail(p.message)
			}
			if rest = f.rest; f.key == uint64(p.key) {
				event, ok = f.b, true
			}
		}
		if p.rest = rest; ok {
			e.reset()
			err := e.Decode(event, names)
			return err == nil, err
		}
	}
}

func (p Events) each(record **ResolvedEvent, names *Names, yield func(*ResolvedEvent) bool) error {
	e := *record
	if e == nil {
		e = new(ResolvedEvent)
	}
	*record = nil // an Each inside of yield takes another one
	defer func() { *record = e }()
	for {
		if ok, err := p.Next(e, names); !ok || !yield(e) {
			return err
		}
	}
}

// AppendTo appends what follows the events of a page, which AppendIndexed wrote before as fields 1. The error text is
// always present, empty on success, as a real server writes it.
func (m *StreamPage) AppendTo(b []byte) []byte {
	b = appendInt(b, 2, int64(m.Result))
	b = appendInt(b, 3, m.Next)
	b = appendInt(b, 4, m.Last)
	b = appendBool(b, 5, m.EndOfStream)
	b = appendInt(b, 6, m.LastCommit)
	return appendString(b, 7, m.Error)
}

// EventRead is the request for one event, ReadEvent.
type EventRead struct {
	Stream        string
	Number        int64 // -1 is the last event
	ResolveLinks  bool
	RequireLeader bool
}

// Command implements Request.
func (*EventRead) Command() Command { return ReadEvent }

// AppendTo implements Request.
func (m *EventRead) AppendTo(b []byte) ([]byte, error) {
	b = appendString(b, 1, m.Stream)
	b = appendInt(b, 2, m.Number)
	b = appendBool(b, 3, m.ResolveLinks)
	return appendBool(b, 4, m.RequireLeader), nil
}

// Decode reads a request into m.
func (m *EventRead) Decode(b []byte, names *Names) error {
	*m = EventRead{}
	f := fields{rest: b}
	for f.next() {
		switch f.key {
		case 1<<3 | text:
			m.Stream = names.String(f.b)
		case 2<<3 | varint:
			m.Number = int64(f.u)
		case 3<<3 | varint:
			m.ResolveLinks = protowire.DecodeBool(f.u)
		case 4<<3 | varint:
			m.RequireLeader = protowire.DecodeBool(f.u)
		}
	}
	return f.fail("ReadEvent")
}

// EventReadCompleted is the answer to an EventRead. Failures carry an empty event; so does a success for the metadata of
// a stream that has none (HasEvent and HasLink false then).
type EventReadCompleted struct {
	Result ReadEventResult
	Event  ResolvedEvent
	Error  string
}

// Decode reads an answer into m.
func (m *EventReadCompleted) Decode(b []byte, names *Names) error {
	*m = EventReadCompleted{}
	f := fields{rest: b}
	for f.next() {
		switch f.key {
		case 1<<3 | varint:
			m.Result = ReadEventResult(f.u)
		case 2<<3 | text:
			if err := m.Event.Decode(f.b, names); err != nil {
				return err
			}
		case 3<<3 | text:
			m.Error = string(f.b)
		}
	}
	return f.fail("ReadEventCompleted")
}

// AppendEventRead appends the answer to an EventRead: event and link are encoded records, nil when there is none, and the
// text is left out when empty.
func AppendEventRead(b []byte, result ReadEventResult, event, link []byte, errText string) []byte {
	b = appendInt(b, 1, int64(result))
	b = AppendIndexed(b, 2, event, link)
	if errText != "" {
		b = appendString(b, 3, errText)
	}
	return b
}
