package eventstore

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/goeventstore/eventstore/messages"
)

// All is the name that stands for the log of all events where a stream is named.
const All = "$all"

// EventData is an event to be written.
type EventData struct {
	ID             uuid.UUID // zero: made once for the whole operation; the caller's slice is not written to
	Type           string    // must not be empty
	JSON           bool      // how servers and tools show Data; it is not validated
	Data, Metadata []byte

	err error // of JSONEvent
}

// JSONEvent makes an event of v encoded as JSON, with a new id. When v cannot be encoded the append that gets the event
// returns the error.
func JSONEvent(eventType string, v any) EventData {
	data, err := json.Marshal(v)
	if err != nil {
		err = fmt.Errorf("encode event %q as JSON: %w", eventType, err)
	}
	return EventData{ID: uuid.New(), Type: eventType, JSON: true, Data: data, err: err}
}

// Event is a recorded event.
type Event struct {
	Stream         string
	Number         int64 // counts from 0 in its stream
	ID             uuid.UUID
	Type           string
	JSON           bool
	Data, Metadata []byte    // share memory with the other events of their page; see ResolvedEvent.Clone
	Created        time.Time // UTC, to 100 ns
}

// Decode decodes the event's data from JSON into v.
func (e *Event) Decode(v any) error {
	if err := json.Unmarshal(e.Data, v); err != nil {
		return fmt.Errorf("decode %s %d@%s: %w", e.Type, e.Number, e.Stream, err)
	}
	return nil
}

// ResolvedEvent is an event as it was read: the record itself, or a link and its target.
type ResolvedEvent struct {
	Event    *Event   // the target of a link, or the event itself; nil when a link cannot be resolved
	Link     *Event   // the link that was followed, when there is one
	Position Position // in the log; known for live events and those of $all
	All      bool     // read from $all: its checkpoint is the position
}

// Original returns the record that was read, the link if there is one. Checkpoints, acks and positions go by it.
func (r ResolvedEvent) Original() *Event {
	if r.Link != nil {
		return r.Link
	}
	return r.Event
}

// Checkpoint returns the place behind this event: where to go on when it was handled.
func (r ResolvedEvent) Checkpoint() From {
	if r.All {
		return AfterPosition(r.Position)
	}
	return After(r.Original().Number)
}

// Clone returns a copy that shares no memory with its page, so that keeping it does not keep the page.
func (r ResolvedEvent) Clone() ResolvedEvent {
	r.Event, r.Link = r.Event.clone(), r.Link.clone()
	return r
}

func (e *Event) clone() *Event {
	if e == nil {
		return nil
	}
	c := *e
	c.Stream, c.Type = strings.Clone(e.Stream), strings.Clone(e.Type)
	c.Data, c.Metadata = slices.Clone(e.Data), slices.Clone(e.Metadata)
	return &c
}

// DecodeEvent makes a ResolvedEvent of a record from the wire. Data and Metadata alias what the record aliases.
func DecodeEvent(r *messages.ResolvedEvent) ResolvedEvent {
	var e ResolvedEvent
	s := slab{chunk: 1}
	s.decode(r, &e)
	return e
}

// EventDecoder is DecodeEvent for many: the events share memory, 30 to a piece of 4 KiB, so that they cost one allocation together. The
// zero value is ready. It is not safe for concurrent use.
type EventDecoder struct{ slab slab }

// Decode makes a ResolvedEvent of a record from the wire. Data and Metadata alias what the record aliases.
func (d *EventDecoder) Decode(r *messages.ResolvedEvent) ResolvedEvent {
	var e ResolvedEvent
	d.slab.chunk = 30
	d.slab.decode(r, &e)
	return e
}

// Lend is Decode for an event that is valid until the next one, with all that it points to: it allocates nothing.
func (d *EventDecoder) Lend(r *messages.ResolvedEvent) ResolvedEvent {
	var e ResolvedEvent
	d.slab.chunk = 2
	d.slab.events = d.slab.events[:0]
	d.slab.decode(r, &e)
	return e
}

// slab has room for the events of a page, so that they cost one allocation together.
type slab struct {
	events []Event
	chunk  int // how many at a time
}

// decode makes e of r, in place: a ResolvedEvent is too large for registers.
func (s *slab) decode(r *messages.ResolvedEvent, e *ResolvedEvent) {
	e.Event, e.Link, e.All = nil, nil, false
	e.Position.Commit, e.Position.Prepare = r.Commit, r.Prepare
	if r.HasEvent {
		e.Event = s.add(&r.Event)
	}
	if r.HasLink {
		e.Link = s.add(&r.Link)
	}
}

func (s *slab) add(r *messages.EventRecord) *Event {
	if len(s.events) == cap(s.events) {
		s.events = make([]Event, 0, s.chunk) // a new one, as the events handed out keep their place
	}
	s.events = s.events[:len(s.events)+1]
	e := &s.events[len(s.events)-1]
	e.Stream, e.Number, e.ID, e.Type, e.JSON = r.Stream, r.Number, r.ID, r.Type, r.ContentType == 1
	e.Data, e.Metadata, e.Created = r.Data, r.Metadata, r.CreatedTime()
	return e
}

// empty reports a record without event and link, which servers send for what is not there.
func (r *ResolvedEvent) empty() bool {
	o := r.Link
	if o == nil {
		o = r.Event
	}
	return o == nil || o.Stream == "" && o.Type == ""
}
