package server

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/goeventstore/eventstore/messages"
)

// feed is a page of events (6), as a real server writes it.
type feed struct {
	Title        string      `json:"title"`
	ID           string      `json:"id"`
	Updated      string      `json:"updated"`
	Stream       string      `json:"streamId,omitempty"`
	Author       author      `json:"author"`
	HeadOfStream bool        `json:"headOfStream"`
	Self         string      `json:"selfUrl,omitempty"`
	ETag         string      `json:"eTag,omitempty"`
	Links        []feedLink  `json:"links"`
	Entries      []feedEntry `json:"entries"`
}

type author struct {
	Name string `json:"name"`
}

var theAuthor = author{"EventStore"}

type feedLink struct {
	URI      string `json:"uri"`
	Relation string `json:"relation"`
}

// feedEntry is one event of a page, or alone.
type feedEntry struct {
	*richEntry
	Title   string      `json:"title"`
	ID      string      `json:"id"`
	Updated string      `json:"updated"`
	Author  author      `json:"author"`
	Summary string      `json:"summary"`
	Content *eventValue `json:"content,omitempty"`
	Links   []feedLink  `json:"links"`
}

// richEntry is what an entry begins with when more of the event is wanted.
type richEntry struct {
	EventID        uuid.UUID `json:"eventId"`
	Type           string    `json:"eventType"`
	Number         int64     `json:"eventNumber"`
	Data           *string   `json:"data,omitempty"`
	Metadata       *string   `json:"metaData,omitempty"`
	LinkMetadata   *string   `json:"linkMetaData,omitempty"`
	Stream         string    `json:"streamId"`
	IsJSON         bool      `json:"isJson"`
	IsMetadata     bool      `json:"isMetaData"`
	IsLinkMetadata bool      `json:"isLinkMetaData"`
	PositionNumber int64     `json:"positionEventNumber"`
	PositionStream string    `json:"positionStreamId"`
}

// eventValue is an event with its data as values.
type eventValue struct {
	Stream   string          `json:"eventStreamId"`
	Number   int64           `json:"eventNumber"`
	Type     string          `json:"eventType"`
	ID       uuid.UUID       `json:"eventId"`
	Data     json.RawMessage `json:"data"`
	Metadata json.RawMessage `json:"metadata"`
}

// How much of the events a page tells, by ?embed=.
const (
	embedNone = iota
	embedContent
	embedRich
	embedBody
	embedPretty
	embedTryHarder
)

var embeds = map[string]int{
	"content": embedContent, "rich": embedRich, "body": embedBody, "pretty": embedPretty, "tryharder": embedTryHarder,
}

func (c *httpCall) embed() int { return embeds[strings.ToLower(c.URL.Query().Get("embed"))] }

// eTagHashes are what a real server has behind the number in an ETag: a hash of the media type.
var eTagHashes = map[string]string{mediaFeed: "-1955838367", mediaJSON: "-1549847642"}

func eTag(number int64, media string) string {
	return strconv.FormatInt(number, 10) + ";" + eTagHashes[media]
}

// changing are the headers of an answer that may be another one later, fixed those of one that never is.
func changing(number int64, media string) []string {
	if eTagHashes[media] == "" {
		return neverCached
	}
	return append([]string{"Etag", `"` + eTag(number, media) + `"`}, neverCached...)
}

func (c *httpCall) fixed(stream string) []string {
	visibility := "private"
	if c.allowed(nil, stream, rightRead) {
		visibility = "public"
	}
	return []string{"Cache-Control", "max-age=31536000, " + visibility, "Vary", "Accept"}
}

// unchanged reports whether the caller has the answer already.
func (c *httpCall) unchanged(number int64) bool {
	return eTagHashes[c.media] != "" && strings.Trim(c.Header.Get("If-None-Match"), `"`) == eTag(number, c.media)
}

// reader reads as a session does that has no connection: by TCP and by HTTP one gets the same.
func (c *httpCall) reader() *session {
	s := &session{server: c.Server, log: c.log}
	s.version.Store(1) // 64-bit numbers
	return s
}

// streamPage tells of some events of a stream.
func (c *httpCall) streamPage(stream string, p pageRequest) httpAnswer {
	if c.media == mediaDescription {
		return c.description(stream)
	}
	m := messages.StreamRead{Stream: stream, From: -1, Backward: p.backward}
	if ok := p.from == "" || p.from == "head" && p.backward; !ok {
		if m.From, ok = wholeNumber(p.from); !ok || m.From < 0 {
			return badRequest("'%s' is not valid event number", p.from)
		}
	}
	var ok bool
	if m.Count, ok = p.size(); !ok {
		return badRequest("'%s' is not valid count. Should be positive integer", p.count)
	}
	var refusal *httpAnswer
	if m.ResolveLinks, refusal = c.flag(headerResolveLinks, true); refusal == nil {
		_, refusal = c.flag(headerRequireMaster, false)
	}
	if refusal != nil {
		return *refusal
	}
	page, events, err := c.readPage(&m)
	switch {
	case err != nil:
		return failed(c.reader().errorText(err))
	case page.Result != messages.ReadStreamSuccess:
		return unread(page.Result, page.Error)
	case c.unchanged(page.Last):
		return httpAnswer{status: http.StatusNotModified, media: mediaPlain}
	}
	f, atEnd := c.streamFeed(&m, &page, events)
	header := c.fixed(stream)
	if atEnd {
		header = changing(page.Last, c.media)
	}
	return httpAnswer{status: http.StatusOK, media: c.media, header: header, body: encodeIndented(f)}
}

// readPage reads as ReadStreamEvents does. The events belong to the caller.
func (c *httpCall) readPage(m *messages.StreamRead) (p messages.StreamPage, events []messages.ResolvedEvent, err error) {
	s := c.reader()
	if p, refused := s.refusedPage(m, c.user); refused {
		return p, nil, nil
	}
	var may func(stream string) bool
	if m.ResolveLinks {
		may = s.readableBy(c.user)
	}
	p, b, err := c.view().page(m, nil, may)
	switch {
	case errors.Is(err, errTargetDenied):
		return failedPage(messages.ReadStreamAccessDenied, -1, ""), nil, nil
	case err != nil:
		return p, nil, err
	case len(b) > messages.MaxFrame:
		return failedPage(messages.ReadStreamError, -1, textPageTooLarge), nil, nil
	}
	decoded := p
	if err := decoded.Decode(p.AppendTo(b)); err != nil {
		return p, nil, err
	}
	var names messages.Names
	err = decoded.Each(&names, func(e *messages.ResolvedEvent) bool {
		events = append(events, *e)
		return true
	})
	return p, events, err
}

// unread is the answer to a read that has no page.
func unread(result messages.ReadStreamResult, text string) httpAnswer {
	switch result {
	case messages.ReadStreamNoStream:
		return httpAnswer{status: http.StatusNotFound, media: mediaPlain}
	case messages.ReadStreamStreamDeleted:
		return httpAnswer{status: http.StatusGone, reason: "Deleted", media: mediaPlain}
	case messages.ReadStreamAccessDenied:
		return denied
	default:
		return failed(text)
	}
}

func failed(text string) httpAnswer {
	return httpAnswer{status: http.StatusInternalServerError, reason: text, media: mediaPlain}
}

// streamFeed makes the feed of a page, and tells whether more may be in it later.
func (c *httpCall) streamFeed(m *messages.StreamRead, p *messages.StreamPage, events []messages.ResolvedEvent) (f *feed, changes bool) {
	self := c.link("/streams/" + escaped(m.Stream))
	f = &feed{
		Title: "Event stream '" + m.Stream + "'", ID: self, Stream: m.Stream, Author: theAuthor, Updated: updated(events, 0),
		Entries: c.entries(events, !m.Backward), HeadOfStream: p.EndOfStream,
	}
	count := int64(m.Count)
	at := func(from int64, way string) string {
		return self + "/" + strconv.FormatInt(from, 10) + "/" + way + "/" + strconv.FormatInt(count, 10)
	}
	f.Links = []feedLink{{self, "self"}, {self + "/head/backward/" + strconv.FormatInt(count, 10), "first"}}
	from := m.From
	var next, previous int64
	var older bool
	newer := true
	if m.Backward {
		f.HeadOfStream, f.Self = from == -1, self
		if from == -1 {
			from = p.Last
			f.ETag = eTag(p.Last, mediaFeed)
		}
		changes = f.HeadOfStream || from > p.Last
		next, previous = from-count, min(from, p.Last)+1
		older = !p.EndOfStream && next >= 0
	} else {
		end := from + count // it may overflow
		changes = end >= from && p.Last+1 < end
		next, previous = from-1, min(end-1, p.Last)+1
		older, newer = next >= 0, !p.EndOfStream || len(events) > 0
	}
	if older {
		f.Links = append(f.Links, feedLink{at(0, "forward"), "last"}, feedLink{at(next, "backward"), "next"})
	}
	if newer {
		f.Links = append(f.Links, feedLink{at(previous, "forward"), "previous"})
	}
	f.Links = append(f.Links, feedLink{self + "/metadata", "metadata"})
	return f, changes
}

// updated is the time of one of the events of a page, the year 1 when there is none.
func updated(events []messages.ResolvedEvent, i int) string {
	if i >= 0 && i < len(events) && events[i].HasEvent {
		return events[i].Event.CreatedTime().Format(httpTime)
	}
	return time.Time{}.Format(httpTime)
}

// entries are the events of a page, the newest first.
func (c *httpCall) entries(events []messages.ResolvedEvent, turned bool) []feedEntry {
	embed := c.embed()
	all := make([]feedEntry, len(events))
	for i := range events {
		at := i
		if turned {
			at = len(events) - 1 - i
		}
		all[at] = c.entry(&events[i], embed, false)
	}
	return all
}

func (c *httpCall) entry(e *messages.ResolvedEvent, embed int, alone bool) feedEntry {
	original, stream, number := &e.Event, e.Event.Stream, e.Event.Number
	out := feedEntry{Author: theAuthor, Summary: e.Event.Type}
	if e.HasLink {
		original, stream, number, out.Summary = &e.Link, e.Link.Stream, e.Link.Number, typeLink
		if n, target, ok := parseLink(e.Link.Data); ok {
			stream, number = target, n
		}
	}
	if embed > embedContent && e.HasEvent {
		out.richEntry = rich(e, original, embed)
	}
	if (alone || embed == embedContent) && !e.HasLink && e.Event.ContentType == 1 {
		out.Content = valueOf(&e.Event)
	}
	self := c.link("/streams/" + escaped(stream) + "/" + strconv.FormatInt(number, 10))
	out.Title, out.ID = strconv.FormatInt(number, 10)+"@"+stream, self
	out.Updated = original.CreatedTime().Format(httpTime)
	out.Links = []feedLink{{self, "edit"}, {self, "alternate"}}
	return out
}

// rich is what more an entry tells of an event.
func rich(e *messages.ResolvedEvent, original *messages.EventRecord, embed int) *richEntry {
	r := &richEntry{
		EventID: e.Event.ID, Type: e.Event.Type, Number: e.Event.Number, Stream: e.Event.Stream, IsJSON: e.Event.ContentType == 1,
		PositionNumber: original.Number, PositionStream: original.Stream,
	}
	if embed < embedBody {
		return r
	}
	text := func(b []byte) (*string, bool) {
		s, isObject := string(b), false
		if embed >= embedPretty && firstOf(b) == '{' {
			var pretty []byte
			if pretty, isObject = laidOut(b); isObject {
				s = string(pretty)
			}
		}
		return &s, isObject
	}
	if r.IsJSON {
		r.Data, _ = text(e.Event.Data)
	} else if embed == embedTryHarder {
		r.Data, r.IsJSON = text(e.Event.Data)
	}
	if len(e.Event.Metadata) > 0 {
		r.Metadata, _ = text(e.Event.Metadata)
		r.IsMetadata = true
	}
	if e.HasLink {
		r.LinkMetadata, _ = text(e.Link.Metadata)
		r.IsLinkMetadata = len(e.Link.Metadata) > 0
	}
	return r
}

// laidOut is JSON as a real server lays it out, unless that makes it much longer: every byte may stand behind as many blanks as
// it is deep.
func laidOut(b []byte) (out []byte, ok bool) { return indented(b, 8*len(b)+4096) }

// valueOf is an event with JSON as it is and all else as a text, and JSON too that nobody would want to have laid out.
func valueOf(e *messages.EventRecord) *eventValue {
	value := func(b []byte) json.RawMessage {
		if e.ContentType == 1 && string(b) != "null" {
			if out, ok := laidOut(b); ok {
				return out
			}
		}
		text, _ := json.Marshal(string(b)) // of a text it cannot fail
		return text
	}
	return &eventValue{e.Stream, e.Number, e.Type, e.ID, value(e.Data), value(e.Metadata)}
}

// description says in which forms a stream can be had. It is for callers that did not ask for one of them.
func (c *httpCall) description(stream string) httpAnswer {
	type form struct {
		Href  string   `json:"href"`
		Types []string `json:"supportedContentTypes"`
	}
	path := "/streams/" + escaped(stream)
	type links struct {
		Self   form `json:"self"`
		Stream form `json:"stream"`
	}
	answer := httpAnswer{status: http.StatusOK, reason: "Description Document", media: mediaDescription, body: encodeIndented(struct {
		Title       string `json:"title"`
		Description string `json:"description"`
		Links       links  `json:"_links"`
	}{
		"Description document for '" + stream + "'",
		"The description document will be presented when no accept header is present or it was requested",
		links{form{path, []string{mediaDescription}}, form{path, []string{"application/atom+xml", mediaFeed}}},
	})}
	switch accept := c.Header.Get("Accept"); {
	case accept == "":
		answer.status, answer.reason = http.StatusNotAcceptable, "We are unable to represent the stream in the format requested."
	case strings.Contains(accept, "*/*"):
		answer.status = http.StatusNotAcceptable
	}
	return answer
}

func (c *httpCall) metadataEvent(number string) httpAnswer {
	if strings.HasPrefix(c.vars[0], metaPrefix) {
		return badRequest("Stream must be non-empty string and should not be metastream")
	}
	return c.streamEvent(metaPrefix+c.vars[0], number)
}

// noEvent is the body of the answers about events that are not told.
var noEvent = []byte("{}")

// streamEvent tells of one event, by its number or as the last one.
func (c *httpCall) streamEvent(stream, number string) httpAnswer {
	m := messages.EventRead{Stream: stream, Number: -1}
	if number != "head" {
		var ok bool
		if m.Number, ok = wholeNumber(number); !ok || m.Number < 0 {
			return badRequest("'%s' is not valid event number", number)
		}
	}
	var refusal *httpAnswer
	if m.ResolveLinks, refusal = c.flag(headerResolveLinks, true); refusal == nil {
		_, refusal = c.flag(headerRequireMaster, false)
	}
	if refusal != nil {
		return *refusal
	}
	s, v := c.reader(), c.view()
	result, found, err := s.resolvedEvent(v, &m, c.user)
	if err == nil && (result == messages.ReadEventNoStream || result == messages.ReadEventNotFound) {
		result, err = v.missing(stream, result)
	}
	if err != nil {
		answer := failed(s.errorText(err))
		answer.body = noEvent
		return answer
	}
	switch result {
	case messages.ReadEventSuccess:
		return c.eventAnswer(&m, found)
	case messages.ReadEventStreamDeleted:
		return httpAnswer{status: http.StatusGone, reason: "Deleted", media: mediaPlain, body: noEvent}
	case messages.ReadEventAccessDenied:
		return httpAnswer{status: http.StatusUnauthorized, media: mediaPlain, body: noEvent}
	default:
		return httpAnswer{status: http.StatusNotFound, media: mediaPlain, body: noEvent}
	}
}

func (c *httpCall) eventAnswer(m *messages.EventRead, found resolved) httpAnswer {
	e, err := decodeResolved(found.event, found.link)
	switch {
	case err != nil:
		return failed(textReadFailed)
	case !e.HasEvent && e.HasLink:
		return httpAnswer{status: http.StatusNotFound, media: mediaPlain, body: noEvent}
	}
	answer := httpAnswer{status: http.StatusOK, media: c.media, header: c.fixed(m.Stream)}
	original := e.Event.Number
	if e.HasLink {
		original = e.Link.Number
	}
	switch {
	case m.Number == -1 && e.HasEvent:
		answer.header = changing(original, c.media)
	case m.Number == -1:
		answer.header = neverCached
	}
	switch {
	case !e.HasEvent: // the quirk of metadata that are missing (4.7)
		answer.body = noEvent
	case c.media == mediaFeed:
		answer.body = encodeIndented(c.entry(&e, c.embed(), true))
	case c.media == mediaRaw:
		answer.body = e.Event.Data
	case c.media == mediaEvent:
		answer.body = encodeIndented(valueOf(&e.Event))
	default:
		answer.body = valueOf(&e.Event).Data
	}
	return answer
}

// decodeResolved decodes an event and the link to it, either of which may be nil.
func decodeResolved(event, link []byte) (e messages.ResolvedEvent, err error) {
	var names messages.Names
	if e.HasEvent = event != nil; e.HasEvent {
		err = e.Event.Decode(event, &names)
	}
	if e.HasLink = link != nil; e.HasLink && err == nil {
		err = e.Link.Decode(link, &names)
	}
	return e, err
}
