package eventstore

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/goeventstore/eventstore/messages"
)

// WriteResult tells where events were stored.
type WriteResult struct {
	First, Last ExpectedVersion // numbers of the first and last event; Last is what to expect next time
	Position    Position        // of the last event in the log; -1/-1 when a repeated write was recognized as stored before
}

// maxEventSize is what a server takes for data, metadata and twice the characters of the type: 16 MiB less 10,000.
const maxEventSize = 16<<20 - 10_000

// Append writes events to a stream, all or none, if the stream is where the caller expects it; else the error is a
// *WrongVersionError. It waits for the answer, or until ctx ends. Events without an id get one, kept over all
// attempts, so that an append that is sent again after a lost connection is stored once: with an exact version for ever, with
// Any and StreamExists as far as the server remembers ids. A 4.1 server that was restarted remembers none, and may then store
// the events twice. When an append fails and MaybeApplied says so, nobody knows whether the events are stored. No events at
// all is a check of the version, which creates nothing.
//
// The events and their bytes belong to the client until Append returns.
func (c *Client) Append(ctx context.Context, stream string, expected ExpectedVersion, events []EventData, opts ...CallOption) (WriteResult, error) {
	k, err := c.newAppend(stream, expected, events, opts)
	if err != nil {
		return WriteResult{}, err
	}
	defer k.recycle()
	if err := c.enterAppend(ctx, k); err != nil {
		return WriteResult{}, &OpError{Op: "append", Stream: stream, Err: err}
	}
	defer c.leaveAppend(k)
	return k.appended(ctx, c.do(ctx, k))
}

// newAppend takes a call from the pool that is ready to be sent; there is none beside an error.
func (c *Client) newAppend(stream string, expected ExpectedVersion, events []EventData, opts []CallOption) (*call, error) {
	o, err := c.callOptions(opts)
	if err != nil {
		return nil, &OpError{Op: "append", Stream: stream, Err: err}
	}
	k := c.beginAppend(o.credentials)
	k.append.RequireLeader, k.opts = !o.anyNode, opts
	if err := k.prepareAppend(stream, expected, events); err != nil {
		k.recycle()
		return nil, &OpError{Op: "append", Stream: stream, Err: err}
	}
	return k, nil
}

// appended is the outcome of an append that was settled with err.
func (k *call) appended(ctx context.Context, err error) (WriteResult, error) {
	stream, expected := k.append.Stream, ExpectedVersion(k.append.Expected)
	if err != nil {
		return WriteResult{}, k.fail("append", stream, err)
	}
	m := &k.completed
	switch m.Result {
	case messages.Success:
		return WriteResult{First: ExpectedVersion(m.First), Last: ExpectedVersion(m.Last), Position: Position{Commit: m.Commit, Prepare: m.Prepare}}, nil
	case messages.WrongExpectedVersion:
		failed := k.fail("append", stream, wrongVersion(stream, expected, m.HasCurrent, m.CurrentVersion))
		if !failed.Unknown {
			return WriteResult{}, failed
		}
		// An earlier attempt may be what the stream has moved on by.
		return k.c.readBack(ctx, failed, expected, k.append.Events, k.opts)
	}
	return WriteResult{}, k.fail("append", stream, resultError(m.Result, m.Message))
}

func wrongVersion(stream string, expected ExpectedVersion, known bool, actual int64) error {
	e := &WrongVersionError{Stream: stream, Expected: expected, Actual: Any}
	if known {
		e.Actual = ExpectedVersion(actual)
	}
	return e
}

func (k *call) prepareAppend(stream string, expected ExpectedVersion, events []EventData) error {
	if err := checkStream(stream); err != nil {
		return err
	}
	if err := expected.check(); err != nil {
		return err
	}
	k.append.Stream = stream
	k.append.Expected = int64(expected)
	for i := range events {
		e := &events[i]
		if err := e.check(); err != nil {
			return fmt.Errorf("event %d of %d: %w", i, len(events), err)
		}
		id := e.ID
		if id == (uuid.UUID{}) {
			id = newEventID()
		}
		contentType := int32(0)
		if e.JSON {
			contentType = 1
		}
		k.append.Events = append(k.append.Events, messages.NewEvent{
			ID: id, Type: e.Type, ContentType: contentType, Data: e.Data, Metadata: e.Metadata,
		})
	}
	return nil
}

func checkStream(stream string) error {
	switch stream {
	case "":
		return argument("the stream's name is empty")
	case "$$":
		return argument(`the stream "$$": a write to it ends a real server`)
	}
	return nil
}

func (e *EventData) check() error {
	if e.err != nil {
		return e.err
	}
	if e.Type == "" {
		return argument("its type is empty")
	}
	size := len(e.Data) + len(e.Metadata)
	if size+2*len(e.Type) <= maxEventSize { // a character has at least one byte: no need to count
		return nil
	}
	if size += 2 * utf16Length(e.Type); size > maxEventSize {
		return fmt.Errorf("%w: data, metadata and twice the type's characters have %d bytes, a server takes %d", ErrTooLarge, size, maxEventSize)
	}
	return nil
}

func utf16Length(s string) int {
	n := 0
	for _, r := range s {
		if r == utf8.RuneError {
			n++
			continue
		}
		n += utf16.RuneLen(r)
	}
	return n
}

// newEventID makes a random id, which costs a fifth of what it does with the system's generator: this one is seeded by it, a
// thread each, and nobody gains by guessing an event's id.
func newEventID() (id uuid.UUID) {
	binary.LittleEndian.PutUint64(id[:8], rand.Uint64())
	binary.LittleEndian.PutUint64(id[8:], rand.Uint64())
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id
}
