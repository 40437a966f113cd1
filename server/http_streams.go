package server

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/goeventstore/eventstore/messages"
)

// The media types of streams.
const (
	mediaFeed        = "application/vnd.eventstore.atom+json"
	mediaEvent       = "application/vnd.eventstore.event+json"
	mediaEvents      = "application/vnd.eventstore.events+json"
	mediaDescription = "application/vnd.eventstore.streamdesc+json"
	mediaRaw         = "application/octet-stream"
)

// feedMedia are those of pages, eventMedia of single events. Neither has a form in XML, which a real server prefers.
var (
	feedMedia  = []string{mediaDescription, mediaFeed, mediaJSON}
	eventMedia = []string{mediaFeed, mediaJSON, mediaEvent, mediaRaw}
	postMedia  = []string{mediaFeed, mediaJSON, mediaEvent, mediaEvents, mediaRaw}
)

// The limits of a post.
const (
	maxPost      = 16 << 20
	maxPostEvent = 4 << 20 // data and metadata together
	feedPageSize = 20
)

func (a *httpAPI) streamRoutes() []route {
	get := func(path string, gives []string, serve func(*httpCall) httpAnswer) route {
		return route{method: http.MethodGet, path: path, serve: serve, gives: gives}
	}
	page := func(path string, serve func(*httpCall, pageRequest) httpAnswer) []route {
		backward := func(c *httpCall) httpAnswer { return serve(c, c.pageRequest(true)) }
		return []route{
			get(path+"/{from}/{count}", feedMedia, backward),
			get(path+"/{from}/backward/{count}", feedMedia, backward),
			get(path+"/{from}/forward/{count}", feedMedia, func(c *httpCall) httpAnswer { return serve(c, c.pageRequest(false)) }),
		}
	}
	const stream, metadata, all = "/streams/{stream}", "/streams/{stream}/metadata", "/streams/$all"
	return slices.Concat(
		[]route{
			{method: http.MethodPost, path: stream, serve: (*httpCall).postEvents, takes: postMedia},
			{method: http.MethodPost, path: stream + "/incoming/{id}", serve: (*httpCall).postIdempotently, takes: []string{mediaFeed, mediaJSON}},
			{method: http.MethodDelete, path: stream, serve: (*httpCall).deleteStream},
			get(stream, feedMedia, func(c *httpCall) httpAnswer { return c.streamPage(c.vars[0], c.pageRequest(true)) }),
			get(stream+"/{number}", eventMedia, func(c *httpCall) httpAnswer { return c.streamEvent(c.vars[0], c.vars[1]) }),
		},
		page(stream, func(c *httpCall, p pageRequest) httpAnswer { return c.streamPage(c.vars[0], p) }),
		[]route{
			{method: http.MethodPost, path: metadata, serve: (*httpCall).postMetadata, takes: postMedia},
			get(metadata, eventMedia, func(c *httpCall) httpAnswer { return c.metadataEvent("head") }),
			get(metadata+"/{number}", eventMedia, func(c *httpCall) httpAnswer { return c.metadataEvent(c.vars[1]) }),
		},
		page(metadata, func(c *httpCall, p pageRequest) httpAnswer { return c.streamPage(metaPrefix+c.vars[0], p) }),
		[]route{get(all, feedMedia, func(c *httpCall) httpAnswer { return c.allPage(c.pageRequest(true)) })},
		page(all, (*httpCall).allPage),
	)
}

func badRequest(format string, args ...any) httpAnswer {
	return httpAnswer{status: http.StatusBadRequest, reason: fmt.Sprintf(format, args...)}
}

// wholeNumber reads a number as .NET does from a URL.
func wholeNumber(text string) (int64, bool) {
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil
}

// The headers of requests.
const (
	headerExpectedVersion = "ES-ExpectedVersion"
	headerEventType       = "ES-EventType"
	headerEventID         = "ES-EventId"
	headerHardDelete      = "ES-HardDelete"
	headerResolveLinks    = "ES-ResolveLinkTos"
	headerRequireMaster   = "ES-RequiresMaster"
)

func badHeader(name string) *httpAnswer {
	answer := badRequest("%s header in wrong format.", name)
	return &answer
}

// flag reads a header that says true or false.
func (c *httpCall) flag(name string, standard bool) (value bool, refusal *httpAnswer) {
	switch text := c.Header.Get(name); {
	case text == "":
		return standard, nil
	case strings.EqualFold(text, "true"):
		return true, nil
	case strings.EqualFold(text, "false"):
		return false, nil
	}
	return false, badHeader(name)
}

func (c *httpCall) expectedVersion() (int64, *httpAnswer) {
	text := c.Header.Get(headerExpectedVersion)
	if text == "" {
		return expectAny, nil
	}
	n, ok := wholeNumber(text)
	if !ok || n < expectStreamExists {
		return 0, badHeader(headerExpectedVersion)
	}
	return n, nil
}

// eventID reads the id of an event, zero when there is none.
func (c *httpCall) eventID() (uuid.UUID, *httpAnswer) {
	text := c.Header.Get(headerEventID)
	if text == "" {
		return uuid.UUID{}, nil
	}
	id, err := uuid.Parse(text)
	if err != nil || id == (uuid.UUID{}) {
		return id, badHeader(headerEventID)
	}
	return id, nil
}

// hasIdentities reports whether the events of a body have their ids and types with them.
func (c *httpCall) hasIdentities() bool { return c.body != mediaJSON && c.body != mediaRaw }

// postEvents writes events to a stream: a batch that says all of itself, or the body as one event that the headers describe.
func (c *httpCall) postEvents() httpAnswer {
	eventType := c.Header.Get(headerEventType)
	if !c.hasIdentities() && eventType == "" {
		return badRequest("Must include an event type with the request either in body or as ES-EventType header.")
	}
	id, refusal := c.eventID()
	if refusal != nil {
		return *refusal
	}
	if !c.hasIdentities() && id == (uuid.UUID{}) {
		to := c.link(c.URL.EscapedPath() + "/incoming/" + uuid.NewString())
		return httpAnswer{
			status: http.StatusTemporaryRedirect, media: mediaPlain, header: []string{"Location", to},
			body: []byte("Forwarding to idempotent URI"),
		}
	}
	return c.post(c.vars[0], id, eventType)
}

// postIdempotently writes one event whose id is in the path, where the caller was sent to.
func (c *httpCall) postIdempotently() httpAnswer {
	id, err := uuid.Parse(c.vars[1])
	if err != nil {
		return badRequest("Invalid request. Unable to parse guid")
	}
	return c.post(c.vars[0], id, c.Header.Get(headerEventType))
}

func (c *httpCall) postMetadata() httpAnswer {
	if strings.HasPrefix(c.vars[0], metaPrefix) {
		return badRequest("Invalid request. Stream must be non-empty string and should not be metastream")
	}
	id, refusal := c.eventID()
	if refusal != nil {
		return *refusal
	}
	if eventType := c.Header.Get(headerEventType); eventType != "" && eventType != typeMetadata {
		return badRequest("Bad Request. You should not include an event type for metadata.")
	}
	return c.post(metaPrefix+c.vars[0], id, typeMetadata)
}

// post writes what is in the body.
func (c *httpCall) post(stream string, id uuid.UUID, eventType string) httpAnswer {
	expected, refusal := c.expectedVersion()
	if refusal == nil {
		_, refusal = c.flag(headerRequireMaster, false)
	}
	if refusal != nil {
		return *refusal
	}
	body, refusal := c.text(maxPost)
	if refusal != nil {
		return *refusal
	}
	var events []messages.NewEvent
	if c.hasIdentities() {
		events = parseEvents(body)
	} else {
		events = []messages.NewEvent{{ID: id, Type: eventType, Data: body}}
		if c.body == mediaJSON {
			events[0].ContentType = 1
		}
	}
	if len(events) == 0 {
		return badRequest("Write request body invalid.")
	}
	for i := range events {
		switch e := &events[i]; {
		case e.ID == uuid.UUID{}:
			return badRequest("Empty eventId provided.")
		case e.Type == "":
			return badRequest("Empty eventType provided.")
		case len(e.Data)+len(e.Metadata) > maxPostEvent:
			return httpAnswer{status: http.StatusRequestEntityTooLarge, reason: "Too large events received. Limit is 4mb"}
		}
	}
	return c.write(&messages.Append{Stream: stream, Expected: expected, Events: events})
}

// write asks the writer and says what became of it.
func (c *httpCall) write(m *messages.Append) httpAnswer {
	if !acceptable(m) {
		return httpAnswer{status: http.StatusInternalServerError}
	}
	if !c.allowed(c.user, m.Stream, rightWrite) {
		return denied
	}
	r := c.writer.request()
	r.command, r.write = messages.WriteEvents, *m
	a, err := c.writer.ask(r)
	switch {
	case err != nil:
		return httpAnswer{status: http.StatusServiceUnavailable}
	case a.Result == messages.Success:
		to := c.link("/streams/" + escaped(m.Stream) + "/" + strconv.FormatInt(a.First, 10))
		return httpAnswer{status: http.StatusCreated, media: mediaPlain, header: []string{"Location", to}}
	}
	answer := refusedAs(a.Result)
	if a.Result == messages.WrongExpectedVersion {
		answer.header = []string{"Es-Currentversion", strconv.FormatInt(a.CurrentVersion, 10)}
	}
	return answer
}

var denied = httpAnswer{status: http.StatusUnauthorized, media: mediaPlain}

// refusedAs is the answer to a write or a delete that was not done.
func refusedAs(result messages.OperationResult) httpAnswer {
	switch result {
	case messages.WrongExpectedVersion:
		return httpAnswer{status: http.StatusBadRequest, reason: "Wrong expected EventNumber", media: mediaPlain}
	case messages.StreamDeleted:
		return httpAnswer{status: http.StatusGone, reason: "Stream deleted", media: mediaPlain}
	case messages.AccessDenied:
		return denied
	default:
		return httpAnswer{status: http.StatusInternalServerError, media: mediaPlain}
	}
}

func (c *httpCall) deleteStream() httpAnswer {
	stream := c.vars[0]
	expected, refusal := c.expectedVersion()
	if refusal == nil {
		_, refusal = c.flag(headerRequireMaster, false)
	}
	var hard bool
	if refusal == nil {
		hard, refusal = c.flag(headerHardDelete, false)
	}
	switch {
	case refusal != nil:
		return *refusal
	case expected < expectAny:
		return httpAnswer{status: http.StatusInternalServerError}
	case !c.allowed(c.user, stream, rightDelete):
		return denied
	}
	r := c.writer.request()
	r.command, r.hard = messages.DeleteStream, hard
	r.write.Stream, r.write.Expected = stream, expected
	a, err := c.writer.ask(r)
	switch {
	case err != nil:
		return httpAnswer{status: http.StatusServiceUnavailable}
	case a.Result == messages.Success:
		return httpAnswer{status: http.StatusNoContent, reason: "Stream deleted", media: mediaPlain}
	}
	return refusedAs(a.Result)
}

// parseEvents reads a batch, nil when it is none. Laying its JSON out must not make it much larger than a post may be.
func parseEvents(body []byte) []messages.NewEvent {
	var batch []struct {
		EventID        uuid.UUID `json:"eventId"`
		EventType      string    `json:"eventType"`
		Data, Metadata json.RawMessage
	}
	if json.Unmarshal(body, &batch) != nil {
		return nil
	}
	left := 2 * maxPost
	events := make([]messages.NewEvent, len(batch))
	for i := range batch {
		data, dataIsJSON := eventBytes(batch[i].Data, left)
		left -= len(data)
		metadata, metadataIsJSON := eventBytes(batch[i].Metadata, left)
		left -= len(metadata)
		if left < 0 {
			return nil
		}
		events[i] = messages.NewEvent{ID: batch[i].EventID, Type: batch[i].EventType, Data: data, Metadata: metadata}
		if dataIsJSON || metadataIsJSON {
			events[i].ContentType = 1
		}
	}
	return events
}

// eventBytes is what a value of a batch is stored as: an object or an array as JSON, and so is a text that holds one, another
// text as it is, and all else as nothing. What gets longer than left is cut off there, one byte behind.
func eventBytes(value json.RawMessage, left int) (b []byte, isJSON bool) {
	if len(value) == 0 {
		return nil, false
	}
	switch value[0] {
	case '{', '[':
		b, _ = indented(value, left)
		return b, true
	case '"':
		var text string
		if json.Unmarshal(value, &text) != nil {
			return nil, false
		}
		if first := firstOf([]byte(text)); (first == '{' || first == '[') && json.Valid([]byte(text)) {
			b, _ = indented([]byte(text), left)
			return b, true
		}
		return []byte(text), false
	}
	return nil, false
}

// pageRequest is which page is wanted, as the path says it.
type pageRequest struct {
	from, count string // "" when the path does not say
	backward    bool
}

func (c *httpCall) pageRequest(backward bool) pageRequest {
	p := pageRequest{backward: backward}
	if n := strings.Count(c.URL.EscapedPath(), "/"); n >= 4 && len(c.vars) >= 2 {
		p.from, p.count = c.vars[len(c.vars)-2], c.vars[len(c.vars)-1]
	}
	return p
}

// size reads how many events are wanted.
func (p *pageRequest) size() (int32, bool) {
	if p.count == "" {
		return feedPageSize, true
	}
	n, ok := wholeNumber(p.count)
	return int32(n), ok && n > 0 && n <= math.MaxInt32
}
