package canned

import (
	"github.com/google/uuid"

	"github.com/goeventstore/eventstore/messages"
)

// answers are the frames of a server, with a zero correlation id.
type answers struct {
	small [256][]byte // by the request's command, nil for a BadRequest
	page  []byte
	bad   []byte
}

// Config says what a server answers with.
type Config struct {
	Events    int // of a page
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
	if a.page, err = frame(messages.Raw(messages.ReadStreamEventsForwardCompleted, page(cfg))); err != nil {
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

// page is the body of a page.
func page(cfg Config) []byte {
	var b []byte
	event := messages.EventRecord{
		Stream: "page", Type: "happened", ContentType: 1, MetadataType: 1, Data: make([]byte, cfg.EventSize),
		Created: 1, CreatedEpoch: 1,
	}
	for n := range cfg.Events {
		event.Number, event.ID = int64(n), uuid.UUID{byte(n >> 8), byte(n)}
		b = messages.AppendIndexed(b, 1, event.AppendTo(nil), nil)
	}
	last := int64(cfg.Events - 1)
	p := messages.StreamPage{Next: last + 1, Last: last, EndOfStream: true, LastCommit: 1}
	return p.AppendTo(b)
}
