package canned

import (
	"bytes"
	"encoding/binary"

	"github.com/google/uuid"

	"github.com/goeventstore/eventstore/messages"
)

// answers are what a server answers with, in frames that are encoded but for their correlation ids.
type answers struct {
	small [256][]byte // by the request's command, nil for a BadRequest
	bad   []byte

	events run // of the stream, as a page holds them
	pushed run // the same, each in the frame that a group delivers it in
}

// run is a number of pieces, one behind the other.
type run struct {
	bytes  []byte
	starts []int // where each begins, and the last ends
}

func (r *run) end() { r.starts = append(r.starts, len(r.bytes)) }

func (r *run) len() int { return len(r.starts) - 1 }

func (r *run) slice(from, to int) []byte { return r.bytes[r.starts[from]:r.starts[to]] }

// Config says what a server answers with: the events of a stream, whatever the stream's name. The data of each is its
// number in 8 bytes, little-endian, as far as there is room for it, and then the letter x; its id is its number and one in 4
// bytes, big-endian, and then zeros.
type Config struct {
	Events    int // of the stream
	EventSize int // bytes of data of each
}

func newAnswers(cfg Config) (*answers, error) {
	a := new(answers)
	for request, answer := range map[messages.Command]messages.Command{
		messages.HeartbeatRequest: messages.HeartbeatResponse,
		messages.IdentifyClient:   messages.ClientIdentified,
		messages.Authenticate:     messages.Authenticated,
	} {
		if err := a.add(request, messages.Raw(answer, nil)); err != nil {
			return nil, err
		}
	}
	success, err := (&messages.AppendCompleted{HasPosition: true, HasCurrent: true}).AppendTo(nil)
	if err != nil {
		return nil, err
	}
	if err := a.add(messages.WriteEvents, messages.Raw(messages.WriteEventsCompleted, success)); err != nil {
		return nil, err
	}
	if err := a.record(cfg); err != nil {
		return nil, err
	}
	a.bad, err = frame(messages.Raw(messages.BadRequest, []byte("not in the can")))
	return a, err
}

func (a *answers) add(request messages.Command, answer messages.Request) (err error) {
	a.small[request], err = frame(answer)
	return err
}

func frame(r messages.Request) ([]byte, error) {
	return messages.AppendFrame(nil, messages.ID{}, nil, r)
}

// record makes the events.
func (a *answers) record(cfg Config) error {
	event := messages.EventRecord{
		Stream: "page", Type: "happened", ContentType: 1, MetadataType: 1,
		Data: bytes.Repeat([]byte("x"), cfg.EventSize), Created: 1, CreatedEpoch: 1,
	}
	var number [8]byte
	a.events.end()
	a.pushed.end()
	for n := range cfg.Events {
		binary.LittleEndian.PutUint64(number[:], uint64(n))
		copy(event.Data, number[:])
		event.Number, event.ID = int64(n), uuid.UUID{}
		binary.BigEndian.PutUint32(event.ID[:], uint32(n)+1)
		record := event.AppendTo(nil)
		a.events.bytes = messages.AppendIndexed(a.events.bytes, 1, record, nil)
		a.events.end()
		push, err := frame(messages.Raw(messages.PersistentSubscriptionStreamEventAppeared, messages.AppendPersistentEvent(nil, record, nil, 0)))
		if err != nil {
			return err
		}
		a.pushed.bytes = append(a.pushed.bytes, push...)
		a.pushed.end()
	}
	return nil
}

// page is the body of a page, in two pieces: events, which are not copied, and what follows them, appended to b.
func (a *answers) page(b []byte, from int64, count int32) (events, rest []byte) {
	last := int64(a.events.len() - 1)
	first := min(max(from, 0), last+1)
	next := min(first+int64(max(count, 0)), last+1)
	p := messages.StreamPage{Next: next, Last: last, EndOfStream: next > last, LastCommit: 1}
	return a.events.slice(int(first), int(next)), p.AppendTo(b)
}
