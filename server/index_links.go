package server

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/server/internal/store"
)

// projectionID is one of the system projections.
type projectionID int

const (
	byStream        projectionID = iota // $streams: the first event of each stream
	byCategory                          // $by_category: the events of a category
	categoryStreams                     // $stream_by_category: the streams of a category
	byType                              // $by_event_type
	projectionsCount
)

// projection is what the links of one look like.
type projection struct {
	name   string
	prefix string // of its index streams; the whole name of $streams
	typ    string // of its links
	start  string // of their metadata: the version has the number, which is what it is by chance on a real server
}

// projections are the system projections of a 4.1 server, in the order in which they get the links of one event. A 5.0
// server has one more, $by_correlation_id.
var projections = [projectionsCount]projection{
	byStream:        {"$streams", "$streams", typeLink, `{"$v":"1:-1:1:3","$c":`},
	byCategory:      {"$by_category", "$ce-", typeLink, `{"$v":"2:-1:1:3","$c":`},
	categoryStreams: {"$stream_by_category", "$category-", typeStreamReference, `{"$v":"3:-1:1:3","$c":`},
	byType:          {"$by_event_type", "$et-", typeLink, `{"$v":"4:-1:1:3","$c":`},
}

const (
	// typeStreamReference is the type of the events that name a stream.
	typeStreamReference = "$@"
	// typeDeleted stands in $et- for the type of the events that delete a stream, softly or not.
	typeDeleted = "$deleted"
)

// indexMetadata are the metadata of an index stream: anybody may read it.
const indexMetadata = `{"$acl":{"$r":"$all","$mr":"$all"}}`

// source is an event as the projections see it: links are resolved for them.
type source struct {
	record      *store.Record // where it stands: the link
	event       *store.Record // what it is: the link's target, nil when there is none
	owner       string        // its stream, of a metadata event the one that they are of
	deletes     bool          // it deletes its owner
	correlation string        // $correlationId of its metadata
}

// index adds the links that a record gives to the batch.
func (p *projector) index(r *store.Record) error {
	// What stands in system streams is indexed nowhere, metadata of user streams are.
	owner, isMeta := strings.CutPrefix(r.Stream, metaPrefix)
	if r.Kind != store.Event || strings.HasPrefix(owner, "$") {
		return nil
	}
	s := source{record: r, event: r, owner: owner}
	if r.Type == typeLink {
		target, ok, err := p.follow(r)
		if err != nil || !ok {
			return err
		}
		s.event = target
	}
	if s.event != nil {
		var ok bool
		if s.deletes, ok = p.server.dialect.deletes(s.event, isMeta); !ok {
			return nil
		}
		s.correlation = correlationOf(s.event)
	}
	p.link(&s)
	return nil
}

// follow returns the target of a user's link, nil when it is not there. A link to a stream that is deleted or was never
// written is passed over, and so is one whose metadata are not those of a link.
func (p *projector) follow(r *store.Record) (target *store.Record, ok bool, err error) {
	var e messages.EventRecord
	if err := e.Decode(r.Encoded, nil); err != nil {
		return nil, false, err
	}
	if len(e.Metadata) > 0 {
		r := newTextReader(e.Metadata)
		if !r.skipValue() || r.kind != jsonObjectEnd {
			return nil, false, nil
		}
	}
	number, stream, ok := parseLink(e.Data)
	if !ok || number < -1 {
		return nil, true, nil
	}
	// As of the link, so that it does not depend on how far behind the projector is.
	v := p.server.view()
	v.at = r.Commit
	result, target, err := v.event(stream, number)
	if unreadable := readError(""); errors.As(err, &unreadable) {
		err = nil
	}
	return target, result != messages.ReadEventNoStream && result != messages.ReadEventStreamDeleted, err
}

// deletes reports whether an event deletes the stream that it is in, or whose metadata it is among. Metadata that a real
// server cannot read are passed over by it, so that ok is false.
func (d *Dialect) deletes(r *store.Record, isMeta bool) (deletes, ok bool) {
	if !isMeta {
		return r.Type == typeStreamDeleted, true
	}
	if r.Type != typeMetadata {
		return false, true
	}
	var e messages.EventRecord
	if err := e.Decode(r.Encoded, nil); err != nil {
		return false, false
	}
	e.ContentType = 1 // of no account here
	m := parseMetadata(&e)
	return m.truncateBefore == d.softDelete(), m != noMetadata
}

// link adds what each projection makes of an event.
func (p *projector) link(s *source) {
	r, e := s.record, s.event
	for id := range projectionsCount {
		if p.sees(id, r) {
			p.seen[id]++
		}
	}
	if r.Number == 0 {
		p.add(byStream, "", "", s, func(b []byte) []byte { return appendLinkData(b, 0, r.Stream) })
	}
	if category := categoryOf(r.Stream); category != "" && r.Number == 0 {
		p.add(categoryStreams, category, "", s, func(b []byte) []byte { return append(b, r.Stream...) })
	}
	origin := r.Stream
	if s.deletes {
		origin = s.owner
	}
	if category := categoryOf(origin); category != "" {
		p.add(byCategory, category, origin, s, func(b []byte) []byte {
			switch {
			case e == nil:
				return append(b, "-1@"...)
			case e.Type == typeLink: // a link to a link
				return append(b, dataOf(e.Encoded)...)
			default:
				return appendLinkData(b, e.Number, e.Stream)
			}
		})
	}
	if r.Type != typeLink {
		typ := r.Type
		if s.deletes {
			typ = typeDeleted
		}
		// It names the stream also of what stands in the metastream.
		p.add(byType, typ, "", s, func(b []byte) []byte { return appendLinkData(b, r.Number, s.owner) })
	}
}

// categoryOf is what stands before the first dash of a stream's name, and "" for a stream without a category.
func categoryOf(stream string) string {
	if dash := strings.IndexByte(stream, '-'); dash > 0 && stream[0] != '$' {
		return stream[:dash]
	}
	return ""
}

func appendLinkData(b []byte, number int64, stream string) []byte {
	b = strconv.AppendInt(b, number, 10)
	b = append(b, '@')
	return append(b, stream...)
}

// add adds a link of a projection to the batch. An origin is told in its metadata.
func (p *projector) add(id projectionID, name, origin string, s *source, data func([]byte) []byte) {
	if !p.sees(id, s.record) {
		return
	}
	b := p.batch.buf
	start := len(b)
	b = data(b)
	end := len(b)
	b = append(b, projections[id].start...)
	b = strconv.AppendInt(b, s.record.Commit, 10)
	b = append(b, `,"$p":`...)
	b = strconv.AppendInt(b, s.record.Prepare, 10)
	if origin != "" {
		b = append(b, `,"$o":`...)
		b = appendQuoted(b, origin)
	}
	if s.deletes && (id == byCategory || id == byType) {
		b = append(b, `,"$deleted":-1`...)
	}
	if s.event != nil {
		b = append(b, `,"$causedBy":"`...)
		b = appendUUID(b, s.event.ID)
		b = append(b, '"')
	}
	if s.correlation != "" {
		b = append(b, `,"$correlationId":`...)
		b = appendQuoted(b, s.correlation)
	}
	b = append(b, '}')
	p.batch.buf = b
	p.batch.links = append(p.batch.links, link{
		stream: p.names.of(id, name), typ: projections[id].typ, data: b[start:end:end], metadata: b[end:len(b):len(b)],
	})
}

func appendUUID(b []byte, id uuid.UUID) []byte {
	b = hex.AppendEncode(b, id[:4])
	for i := 4; i < 10; i += 2 {
		b = hex.AppendEncode(append(b, '-'), id[i:i+2])
	}
	return hex.AppendEncode(append(b, '-'), id[10:])
}

// correlationOf returns what an event's metadata say of $correlationId, as a text; "" when they say nothing.
func correlationOf(r *store.Record) string {
	const key = "$correlationId"
	if !bytes.Contains(r.Encoded, []byte(key)) {
		return ""
	}
	var e messages.EventRecord
	if err := e.Decode(r.Encoded, nil); err != nil || e.ContentType != 1 {
		return ""
	}
	// The first one counts, whatever comes behind it.
	m := newTextReader(e.Metadata)
	if !m.is(jsonObject) {
		return ""
	}
	for m.is(jsonMember) {
		if m.text == key {
			return m.asText()
		}
		if !m.skipValue() {
			return ""
		}
	}
	return ""
}

// asText reads a value and returns it as the library makes a text of it: of null none.
func (r *jsonReader) asText() string {
	value, ok := r.copyValue([]byte{':'})
	switch {
	case !ok || r.kind == jsonNull || r.kind == jsonUndefined:
		return ""
	case r.kind == jsonText:
		return r.text
	case r.kind == jsonBoolean:
		return strings.ToUpper(r.literal[:1]) + r.literal[1:]
	case r.kind == jsonObjectEnd || r.kind == jsonArrayEnd:
		var out bytes.Buffer
		_ = json.Indent(&out, value[1:], "", "  ") // it was just written
		return out.String()
	default:
		return r.literal
	}
}

// causeOf returns the place of the event that a projection wrote a link for.
func causeOf(r *store.Record) (cause store.Position, ok bool) {
	for i := range projections {
		p := &projections[i]
		if r.Kind != store.Event || r.Type != p.typ || !strings.HasPrefix(r.Stream, p.prefix) {
			continue
		}
		var e messages.EventRecord
		var m struct {
			Commit  *int64 `json:"$c"`
			Prepare *int64 `json:"$p"`
		}
		// Others may write there too, and say what they want.
		ok = e.Decode(r.Encoded, nil) == nil && bytes.HasPrefix(e.Metadata, []byte(p.start)) &&
			json.Unmarshal(e.Metadata, &m) == nil && m.Commit != nil && m.Prepare != nil && *m.Commit < r.Commit
		if ok {
			return store.Position{Commit: *m.Commit, Prepare: *m.Prepare}, true
		}
	}
	return store.Position{}, false
}

// writeLink stages a link behind the last event of its stream, as a write by the server. A new stream begins with its
// metadata. To one that was hard-deleted nothing can be written, and the others go on without it.
func (w *writer) writeLink(l *link, now time.Time) error {
	info, err := w.staged().info(l.stream)
	if err != nil || info.deleted {
		return err
	}
	if info.last < 0 {
		e := messages.NewEvent{ID: w.newID(), Type: typeMetadata, ContentType: 1, Data: []byte(indexMetadata)}
		if _, err := w.stage(metaPrefix+l.stream, info.head.Meta+1, &e, now); err != nil {
			return err
		}
	}
	e := messages.NewEvent{ID: w.newID(), Type: l.typ, Data: l.data, Metadata: l.metadata}
	if _, err := w.stage(l.stream, info.last+1, &e, now); err != nil {
		return err
	}
	if info.softDeleted && info.last >= 0 {
		return w.undelete(undeletion{stream: l.stream, from: info.last + 1}, now)
	}
	return nil
}
