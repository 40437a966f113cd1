package messages

import "google.golang.org/protobuf/encoding/protowire"

// AllRead is the request for a page of all streams, ReadAllEvents in either direction.
type AllRead struct {
	Commit, Prepare int64 // -1 in both is the end of the log
	Count           int32 // at most 4096
	ResolveLinks    bool
	RequireLeader   bool
	Backward        bool // not a field: it decides the command
}

// Command implements Request.
func (m *AllRead) Command() Command {
	if m.Backward {
		return ReadAllEventsBackward
	}
	return ReadAllEventsForward
}

// AppendTo implements Request.
func (m *AllRead) AppendTo(b []byte) ([]byte, error) {
	b = appendInt(b, 1, m.Commit)
	b = appendInt(b, 2, m.Prepare)
	b = appendInt(b, 3, int64(m.Count))
	b = appendBool(b, 4, m.ResolveLinks)
	return appendBool(b, 5, m.RequireLeader), nil
}

// Decode reads a request into m; Backward is the caller's, who knows the command.
func (m *AllRead) Decode(b []byte) error {
	*m = AllRead{Backward: m.Backward}
	f := fields{rest: b}
	for f.next() {
		switch {
		case f.is(1, varint):
			m.Commit = int64(f.u)
		case f.is(2, varint):
			m.Prepare = int64(f.u)
		case f.is(3, varint):
			m.Count = int32(f.u)
		case f.is(4, varint):
			m.ResolveLinks = protowire.DecodeBool(f.u)
		case f.is(5, varint):
			m.RequireLeader = protowire.DecodeBool(f.u)
		}
	}
	return f.fail("ReadAllEvents")
}

// AllPage is the answer to an AllRead or to a FilteredReadAllEvents, without its events, as StreamPage is for a stream. An
// unfiltered one that is empty is the end.
type AllPage struct {
	Commit, Prepare         int64 // where the page begins
	NextCommit, NextPrepare int64 // where the next one begins
	Result                  ReadAllResult
	Error                   string
	Count                   int // how many events the page has

	Filtered    bool // not a field: this is the answer to a FilteredReadAllEvents, whose last fields have other numbers
	EndOfStream bool // of a filtered page, which may be empty without being the end

	body   []byte
	record *ResolvedEvent // what Each decodes into, kept from page to page
}

// Decode reads the page in body, which m keeps and Each reads.
func (m *AllPage) Decode(body []byte) error {
	*m = AllPage{body: body, record: m.record, Filtered: m.Filtered}
	f := fields{rest: body}
	result := protowire.Number(6)
	if m.Filtered {
		result = 7
	}
	for f.next() {
		switch {
		case f.is(1, varint):
			m.Commit = int64(f.u)
		case f.is(2, varint):
			m.Prepare = int64(f.u)
		case f.is(3, text):
			m.Count++
		case f.is(4, varint):
			m.NextCommit = int64(f.u)
		case f.is(5, varint):
			m.NextPrepare = int64(f.u)
		case f.is(result, varint):
			m.Result = ReadAllResult(f.u)
		case f.is(result+1, text):
			m.Error = string(f.b)
		case m.Filtered && f.is(6, varint):
			m.EndOfStream = protowire.DecodeBool(f.u)
		}
	}
	return f.fail("ReadAllEventsCompleted")
}

// Each is StreamPage's Each.
func (m *AllPage) Each(names *Names, yield func(*ResolvedEvent) bool) error {
	return m.Events().each(&m.record, names, yield)
}

// Events is StreamPage's Events.
func (m *AllPage) Events() Events {
	return Events{rest: m.body, key: 3<<3 | text, message: "ReadAllEventsCompleted"}
}

// AppendHead appends what precedes the events of a page, which AppendResolved writes as fields 3.
func (m *AllPage) AppendHead(b []byte) []byte {
	b = appendInt(b, 1, m.Commit)
	return appendInt(b, 2, m.Prepare)
}

// AppendTo appends what follows the events of a page. Success is left out, and so is an error without a text, as a real
// server does.
func (m *AllPage) AppendTo(b []byte) []byte {
	b = appendInt(b, 4, m.NextCommit)
	b = appendInt(b, 5, m.NextPrepare)
	if m.Result != ReadAllSuccess {
		b = appendInt(b, 6, int64(m.Result))
	}
	if m.Error != "" {
		b = appendString(b, 7, m.Error)
	}
	return b
}
