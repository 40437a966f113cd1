package eventstore

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// Delete hides a stream softly: it reads as not found, the next write brings it back with numbers that continue, and its
// metadata is lost. It is allowed on a stream that never existed. Only the Position of the result has a meaning.
//
// A delete whose answer was lost is not simply sent again: the client looks first, and a stream that is gone is a success,
// whoever deleted it; the result is then zero.
func (c *Client) Delete(ctx context.Context, stream string, expected ExpectedVersion, opts ...CallOption) (WriteResult, error) {
	return c.delete(ctx, "delete", stream, expected, false, opts)
}

// HardDelete deletes a stream for ever: its name can never be used again. Otherwise as Delete.
func (c *Client) HardDelete(ctx context.Context, stream string, expected ExpectedVersion, opts ...CallOption) (WriteResult, error) {
	return c.delete(ctx, "hard delete", stream, expected, true, opts)
}

func (c *Client) delete(ctx context.Context, op, stream string, expected ExpectedVersion, hard bool, opts []CallOption) (WriteResult, error) {
	o, err := c.callOptions(opts)
	if err == nil {
		err = checkStream(stream)
	}
	if err == nil {
		err = expected.check()
	}
	if err == nil && expected == StreamExists {
		err = argument("servers before 21.10 delete with an exact version, Any or NoStream only")
	}
	if err != nil {
		return WriteResult{}, &OpError{Op: op, Stream: stream, Err: err}
	}
	if err := c.enter(ctx, false); err != nil {
		return WriteResult{}, &OpError{Op: op, Stream: stream, Err: err}
	}
	defer c.leave(false)
	request := messages.Of(messages.DeleteStream, &pb.DeleteStream{
		EventStreamId:   &stream,
		ExpectedVersion: proto.Int64(int64(expected)),
		RequireLeader:   proto.Bool(!o.anyNode),
		HardDelete:      &hard,
	})
	waits := c.backoff()
	for attempts := 1; ; attempts++ {
		result, err := c.deleteOnce(ctx, op, stream, expected, request, o)
		if err == nil {
			return result, nil
		}
		err.Attempts = max(err.Attempts, attempts)
		if !err.Unknown || ctx.Err() != nil || errors.Is(err, ErrClosed) || c.maxAttempts > 0 && attempts >= c.maxAttempts {
			return WriteResult{}, err
		}
		gone, look := c.isGone(ctx, stream, hard, opts)
		if look != nil {
			err.Err = fmt.Errorf("%w, and looking whether it is gone failed: %w", err.Err, look)
			return WriteResult{}, err
		}
		if gone {
			return WriteResult{}, nil
		}
		if !Retryable(err) { // an answer that is none would come again
			return WriteResult{}, err
		}
		if errors.Is(err, ErrTimeout) && sleep(ctx, waits) != nil { // a loss has pauses of its own
			return WriteResult{}, err
		}
	}
}

func (c *Client) deleteOnce(ctx context.Context, op, stream string, expected ExpectedVersion, r messages.Request, o callOptions) (WriteResult, *OpError) {
	k := c.begin(r, o.credentials)
	defer k.recycle()
	if err := c.do(ctx, k); err != nil {
		return WriteResult{}, k.fail(op, stream, err)
	}
	var m pb.DeleteStreamCompleted
	if err := k.reply.Unmarshal(&m); err != nil {
		e := k.fail(op, stream, fmt.Errorf("%w: %w", ErrProtocol, err))
		e.Unknown = true
		return WriteResult{}, e
	}
	if m.GetResult() == messages.Success {
		return WriteResult{Position: Position{Commit: m.GetCommitPosition(), Prepare: m.GetPreparePosition()}}, nil
	}
	err := resultError(m.GetResult(), m.GetMessage())
	if m.GetResult() == messages.WrongExpectedVersion {
		err = wrongVersion(stream, expected, m.CurrentVersion != nil, m.GetCurrentVersion())
	}
	e := k.fail(op, stream, err)
	e.Unknown = e.Unknown || isTimeout(m.GetResult())
	return WriteResult{}, e
}

// isGone reports whether the stream reads as a delete of this kind leaves it.
func (c *Client) isGone(ctx context.Context, stream string, hard bool, opts []CallOption) (bool, error) {
	_, err := c.ReadEvent(ctx, stream, End, lookUp(opts)...)
	switch {
	case errors.Is(err, ErrStreamDeleted):
		return true, nil
	case errors.Is(err, ErrStreamNotFound):
		return !hard, nil
	case errors.Is(err, ErrEventNotFound):
		return false, nil
	}
	return false, err
}
