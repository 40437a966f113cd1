package eventstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/goeventstore/eventstore/messages"
)

// readBackLimit is how far back from the last event a read-back looks for events written with Any or StreamExists.
const readBackLimit = MaxPageSize

// errUndecided says that what a stream holds does not tell whether an append is in it.
var errUndecided = errors.New("the stream does not tell whether an earlier attempt was stored")

// readBack decides an append that was sent again and is then refused with a wrong version, by the ids that the stream holds:
//
//   - with an exact version n, the batch is at n+1 or nowhere, now and for ever;
//   - with NoStream, it is what the stream begins with, or nowhere, if the stream's beginning can be read;
//   - with Any and StreamExists, it may be anywhere: it is looked for in the last 4,096 events.
//
// Its own events are a success, and somebody else's in their place are the refusal it got. Else refused stays as it is: it may
// have been applied.
func (c *Client) readBack(ctx context.Context, refused *OpError, expected ExpectedVersion, events []messages.NewEvent, opts []CallOption) (WriteResult, error) {
	var first int64
	var stored bool
	err := errUndecided
	switch {
	case len(events) == 0: // nothing to recognize it by
	case expected >= 0:
		first, stored, err = c.startsWith(ctx, refused.Stream, int64(expected)+1, events, opts)
	case expected == NoStream:
		first, stored, err = c.startsWith(ctx, refused.Stream, 0, events, opts)
	default:
		first, stored, err = c.lookBack(ctx, refused.Stream, events, opts)
	}
	switch {
	case err != nil:
		refused.Err = fmt.Errorf("%w (reading back: %w)", refused.Err, err)
		return WriteResult{}, refused
	case !stored:
		refused.Unknown = false
		return WriteResult{}, refused
	}
	return WriteResult{
		First:    ExpectedVersion(first),
		Last:     ExpectedVersion(first) + ExpectedVersion(len(events)) - 1,
		Position: Position{Commit: -1, Prepare: -1}, // as a server answers a write that it recognizes
	}, nil
}

// startsWith reports whether the stream from this number on begins with the events. It is undecided when events are missing
// there that may have been stored and truncated since, or may still be.
func (c *Client) startsWith(ctx context.Context, stream string, from int64, events []messages.NewEvent, opts []CallOption) (first int64, stored bool, err error) {
	read := lookUp(opts, RawLinks(), Limit(int64(len(events))))
	n := 0
	for e, err := range c.ReadStream(ctx, stream, At(from), read...) {
		if err != nil {
			return 0, false, err
		}
		o := e.Original()
		if n == 0 {
			first = o.Number
		}
		if o.ID != events[n].ID {
			if first > from { // what stood in front of it is gone
				return 0, false, errUndecided
			}
			return 0, false, nil
		}
		n++
	}
	if n < len(events) {
		return 0, false, errUndecided
	}
	return first, true, nil
}

// lookBack looks for the events, one behind the other, among the last ones of the stream. Not to find them decides nothing.
func (c *Client) lookBack(ctx context.Context, stream string, events []messages.NewEvent, opts []CallOption) (first int64, stored bool, err error) {
	read := lookUp(opts, RawLinks(), Backward(), Limit(readBackLimit))
	next := len(events) - 1 // to be found
	for e, err := range c.ReadStream(ctx, stream, End, read...) {
		if err != nil {
			return 0, false, err
		}
		o := e.Original()
		switch {
		case o.ID == events[next].ID:
			next--
		case o.ID == events[len(events)-1].ID:
			next = len(events) - 2 // the run that had begun was another one
		default:
			next = len(events) - 1
		}
		if next < 0 {
			return o.Number, true, nil
		}
	}
	return 0, false, errUndecided
}
