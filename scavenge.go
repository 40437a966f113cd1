package eventstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// ErrScavengeInProgress says that the server scavenges already.
var ErrScavengeInProgress = errors.New("a scavenge is in progress")

// ScavengeResult tells of a scavenge.
type ScavengeResult struct {
	ID    string        // of one that was started; servers before 5.0 have none
	Took  time.Duration // of one that has finished, before 5.0
	Saved int64         // bytes, likewise
}

// Scavenge has the server remove for good what deletes, truncation and age have hidden. It is for administrators and operators;
// else the error is ErrAccessDenied. Servers before 5.0 answer when it has finished, which may take hours: only ctx and
// the connection's end limit the wait, and a scavenge whose answer was lost goes on (MaybeApplied). Later ones answer at once.
func (c *Client) Scavenge(ctx context.Context, opts ...CallOption) (ScavengeResult, error) {
	const op = "scavenge"
	o, err := c.callOptions(opts)
	if err == nil {
		err = c.enter(ctx, o.within)
	}
	if err != nil {
		return ScavengeResult{}, &OpError{Op: op, Err: err}
	}
	defer c.leave(o.within)
	k := c.begin(messages.Raw(messages.ScavengeDatabase, nil), o.credentials)
	defer k.recycle()
	k.untimed = true
	if err := c.do(ctx, k); err != nil {
		return ScavengeResult{}, k.fail(op, "", err)
	}
	result, err := scavenged(k.reply.Body)
	if err != nil {
		e := k.fail(op, "", err)
		e.Unknown = e.Unknown || errors.Is(err, ErrProtocol) // an answer that does not tell
		return result, e
	}
	return result, nil
}

// scavenged reads either kind of answer: only the older one has the fields 3 and 4, which it always writes.
func scavenged(body []byte) (ScavengeResult, error) {
	var m pb.ScavengeDatabaseCompleted
	if err := (proto.UnmarshalOptions{AllowPartial: true}).Unmarshal(body, &m); err != nil {
		return ScavengeResult{}, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	switch m.GetResult() {
	case pb.ScavengeDatabaseCompleted_Success:
	case pb.ScavengeDatabaseCompleted_InProgress:
		return ScavengeResult{}, ErrScavengeInProgress
	case pb.ScavengeDatabaseCompleted_Failed:
		if m.TotalTimeMs == nil || m.GetError() == "Access denied." {
			return ScavengeResult{}, ErrAccessDenied
		}
		return ScavengeResult{}, &ServerError{Command: messages.ScavengeDatabase, Message: m.GetError()}
	default:
		return ScavengeResult{}, fmt.Errorf("%w: result %s %s", ErrProtocol, m.GetResult(), m.GetError())
	}
	if m.TotalTimeMs == nil {
		return ScavengeResult{ID: m.GetError()}, nil // the field has this number there
	}
	return ScavengeResult{Took: time.Duration(m.GetTotalTimeMs()) * time.Millisecond, Saved: m.GetTotalSpaceSaved()}, nil
}
