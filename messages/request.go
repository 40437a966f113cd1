package messages

import (
	"fmt"

	"google.golang.org/protobuf/proto"
)

// Request is one message on its way out. The command is part of it, since some commands share a message.
type Request interface {
	Command() Command
	// AppendTo appends the encoded body to b and returns the longer slice. It is called once for every attempt, under a
	// lock of the connection: it must not block.
	AppendTo(b []byte) ([]byte, error)
}

// Reply is one message that came in. Who returns it says how long Body stays valid.
type Reply struct {
	Command Command
	Body    []byte
}

// Of makes a request of a generated message, from package pb or of the caller's own.
func Of(c Command, m proto.Message) Request { return protoRequest{c, m} }

// Raw makes a request of a body that is encoded already, or is none of protobuf, as Ping's.
func Raw(c Command, body []byte) Request { return rawRequest{c, body} }

// Unmarshal decodes the body into a generated message, taking missing required fields as zero.
func (r Reply) Unmarshal(m proto.Message) error {
	if err := (proto.UnmarshalOptions{AllowPartial: true}).Unmarshal(r.Body, m); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrMalformed, r.Command, err)
	}
	return nil
}

type protoRequest struct {
	command Command
	message proto.Message
}

func (r protoRequest) Command() Command { return r.command }

func (r protoRequest) AppendTo(b []byte) ([]byte, error) {
	return proto.MarshalOptions{}.MarshalAppend(b, r.message)
}

type rawRequest struct {
	command Command
	body    []byte
}

func (r rawRequest) Command() Command { return r.command }

func (r rawRequest) AppendTo(b []byte) ([]byte, error) { return append(b, r.body...), nil }
