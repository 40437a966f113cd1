package eventstore

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// Transaction is an explicit transaction on one stream: writes that appear together when it is committed, and never if it is
// not. There is no other way to end one.
//
// It is there for those who have it already. A single Append of many events is as atomic, is repeated safely when an answer is
// lost, and checks the version when it is sent, where a transaction does so at the commit only. Servers with a new log
// format refuse transactions with ErrInvalidTransaction.
//
// None of its calls is sent again when its answer was lost: MaybeApplied tells. To write again then would write twice; to
// commit again is safe, as long as the server has not been restarted.
type Transaction struct {
	c        *Client
	id       int64
	stream   string // "" when it was not started here
	expected ExpectedVersion
	opts     []CallOption
}

// StartTransaction begins a transaction on a stream. The expected version is checked at the commit.
func (c *Client) StartTransaction(ctx context.Context, stream string, expected ExpectedVersion, opts ...CallOption) (*Transaction, error) {
	const op = "start transaction"
	o, err := c.callOptions(opts)
	if err == nil {
		err = checkStream(stream)
	}
	if err == nil {
		err = expected.check()
	}
	if err == nil && expected == StreamExists {
		err = argument("a transaction expects an exact version, Any or NoStream only")
	}
	if err != nil {
		return nil, &OpError{Op: op, Stream: stream, Err: err}
	}
	var m pb.TransactionStartCompleted
	request := messages.Of(messages.TransactionStart, &pb.TransactionStart{
		EventStreamId: &stream, ExpectedVersion: proto.Int64(int64(expected)), RequireLeader: proto.Bool(!o.anyNode),
	})
	if err := c.transact(ctx, op, stream, expected, request, o, &m); err != nil {
		return nil, err
	}
	return &Transaction{c: c, id: m.GetTransactionId(), stream: stream, expected: expected, opts: opts}, nil
}

// ContinueTransaction returns the transaction with this ID, which may have been started by another client.
func (c *Client) ContinueTransaction(id int64, opts ...CallOption) *Transaction {
	return &Transaction{c: c, id: id, expected: Any, opts: opts}
}

// ID is what ContinueTransaction wants.
func (t *Transaction) ID() int64 { return t.id }

// Write adds events to the transaction. A server takes them for any ID, also for one that it does not know.
func (t *Transaction) Write(ctx context.Context, events []EventData) error {
	const op = "write to transaction"
	o, err := t.c.callOptions(t.opts)
	if err == nil && t.id < 0 {
		err = argument("transaction %d: there are no negative ones", t.id)
	}
	m := &pb.TransactionWrite{TransactionId: &t.id, RequireLeader: proto.Bool(!o.anyNode)}
	for i := 0; err == nil && i < len(events); i++ {
		m.Events, err = appendNewEvent(m.Events, &events[i])
		if err != nil {
			err = fmt.Errorf("event %d of %d: %w", i, len(events), err)
		}
	}
	if err != nil {
		return &OpError{Op: op, Stream: t.stream, Err: err}
	}
	var answer pb.TransactionWriteCompleted
	return t.c.transact(ctx, op, t.stream, t.expected, messages.Of(messages.TransactionWrite, m), o, &answer)
}

func appendNewEvent(to []*pb.NewEvent, e *EventData) ([]*pb.NewEvent, error) {
	if err := e.check(); err != nil {
		return to, err
	}
	id := e.ID
	if id == (uuid.UUID{}) {
		var err error
		if id, err = uuid.NewRandom(); err != nil {
			return to, fmt.Errorf("make an event id: %w", err)
		}
	}
	contentType := int32(0)
	if e.JSON {
		contentType = 1
	}
	data := e.Data
	if data == nil {
		data = []byte{} // a required field
	}
	return append(to, &pb.NewEvent{
		EventId: messages.AppendGUID(nil, id), EventType: &e.Type, DataContentType: &contentType, MetadataContentType: proto.Int32(0),
		Data: data, Metadata: e.Metadata,
	}), nil
}

// Commit makes the writes of the transaction appear, if its stream is where StartTransaction expected it; else the error is a
// *WrongVersionError. To commit again is a success whose Position is -1/-1. An ID that the server does not know is
// ErrAccessDenied.
func (t *Transaction) Commit(ctx context.Context) (WriteResult, error) {
	const op = "commit transaction"
	o, err := t.c.callOptions(t.opts)
	if err == nil && t.id < 0 {
		err = argument("transaction %d: there are no negative ones", t.id)
	}
	if err != nil {
		return WriteResult{}, &OpError{Op: op, Stream: t.stream, Err: err}
	}
	var m pb.TransactionCommitCompleted
	request := messages.Of(messages.TransactionCommit, &pb.TransactionCommit{TransactionId: &t.id, RequireLeader: proto.Bool(!o.anyNode)})
	if err := t.c.transact(ctx, op, t.stream, t.expected, request, o, &m); err != nil {
		return WriteResult{}, err
	}
	return WriteResult{
		First: ExpectedVersion(m.GetFirstEventNumber()), Last: ExpectedVersion(m.GetLastEventNumber()),
		Position: Position{Commit: m.GetCommitPosition(), Prepare: m.GetPreparePosition()},
	}, nil
}

// completion is what the answers to the steps of a transaction have in common.
type completion interface {
	proto.Message
	GetResult() pb.OperationResult
	GetMessage() string
}

// transact makes one step of a transaction and decodes its answer into m.
func (c *Client) transact(ctx context.Context, op, stream string, expected ExpectedVersion, r messages.Request, o callOptions, m completion) error {
	if err := c.enter(ctx, o.within); err != nil {
		return &OpError{Op: op, Stream: stream, Err: err}
	}
	defer c.leave(o.within)
	k := c.begin(r, o.credentials)
	defer k.recycle()
	if err := c.do(ctx, k); err != nil {
		return k.fail(op, stream, err)
	}
	if err := k.reply.Unmarshal(m); err != nil {
		e := k.fail(op, stream, fmt.Errorf("%w: %w", ErrProtocol, err))
		e.Unknown = true
		return e
	}
	err := resultError(m.GetResult(), m.GetMessage())
	if err == nil {
		return nil
	}
	if m.GetResult() == messages.WrongExpectedVersion {
		err = wrongVersion(stream, expected, false, 0)
	}
	e := k.fail(op, stream, err)
	e.Unknown = e.Unknown || isTimeout(m.GetResult())
	return e
}
