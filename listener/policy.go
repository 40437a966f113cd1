package listener

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/pause"
)

// Policy says what to do about an event that the handler fails on.
type Policy struct {
	attempts int // 0: no end of them
	then     verdict
	stream   string // of RetryThenPark
}

// verdict is what becomes of an event when its attempts are spent.
type verdict int

const (
	stop verdict = iota
	skip
	park
)

// RetryForever calls the handler until it succeeds: nothing is skipped, and the listener stands until somebody mends what is
// broken. It is the zero Policy.
var RetryForever = Policy{}

// RetryThenStop ends Run with the handler's error after n calls, n at least 1. The checkpoint stays before the event.
func RetryThenStop(n int) Policy { return Policy{attempts: max(n, 1)} }

// RetryThenSkip goes on without the event after n calls, n at least 1. The event is remembered as a link in the stream that
// SkippedStream names, with the error and the attempts: see Failed and Listener.ReplayFailed.
func RetryThenSkip(n int) Policy { return Policy{attempts: max(n, 1), then: skip} }

// RetryThenPark is RetryThenSkip with a stream of the caller's choice. Several listeners may share one, though each with its own is
// easier to look after. It must not be part of what the listener follows, such as a stream of its category: the link would come
// back as the event that it leads to. (When the listener follows $all it leaves this stream out.)
func RetryThenPark(n int, stream string) Policy {
	return Policy{attempts: max(n, 1), then: park, stream: stream}
}

// PanicError is the error of a handler that panicked.
type PanicError struct {
	Value any
	Stack []byte
}

// Error shows the value, not the stack.
func (e *PanicError) Error() string { return fmt.Sprintf("the handler panicked: %v", e.Value) }

// Unwrap returns the value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// guarded calls a handler and makes an error of its panic.
func guarded(call func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return call()
}

// HandlerError ends Run when the policy's calls are spent.
type HandlerError struct {
	Stream   string // of the event's original record
	Number   int64
	Attempts int
	Err      error
}

// Error names the event.
func (e *HandlerError) Error() string {
	return fmt.Sprintf("handle event %d@%s, %d attempts: %v", e.Number, e.Stream, e.Attempts, e.Err)
}

// Unwrap returns the handler's error.
func (e *HandlerError) Unwrap() error { return e.Err }

// trial is an event that the handler fails on.
type trial struct {
	cfg     *Config
	event   eventstore.ResolvedEvent
	calls   int   // that failed
	failure error // of the last of them
	spent   bool  // the policy goes on without the event, which is to be kept before
	waits   backoff.BackOff
}

func newTrial(cfg *Config, e eventstore.ResolvedEvent) *trial {
	return &trial{cfg: cfg, event: e, waits: cfg.Backoff()}
}

// failed notes a failure, of the handler or of keeping the event, and says how long to wait before the next call, or with which
// error to end.
func (t *trial) failed(failure error) (time.Duration, error) {
	d := t.waits.NextBackOff()
	if t.spent {
		if d == backoff.Stop {
			return 0, t.end(errors.Join(t.failure, failure))
		}
		return d, nil
	}
	t.calls++
	t.failure = failure
	policy := t.cfg.OnFailure
	if d != backoff.Stop && (policy.attempts == 0 || t.calls < policy.attempts) {
		return d, nil
	}
	if policy.then == stop {
		return 0, t.end(failure)
	}
	t.spent, t.waits = true, t.cfg.Backoff()
	return 0, nil
}

func (t *trial) end(failure error) error {
	o := t.event.Original()
	return &HandlerError{Stream: o.Stream, Number: o.Number, Attempts: t.calls, Err: failure}
}

// settle waits and calls again after a failure until a call succeeds, the policy ends it, or flow ends. The call handles the
// event, or keeps it when the trial is spent. An error that over knows is no failure.
func (t *trial) settle(ctx, flow context.Context, failure error, call func() error) error {
	for failure != nil {
		if err := over(ctx, failure); err != nil {
			return err
		}
		d, err := t.failed(failure)
		if err != nil {
			return err
		}
		if d > 0 {
			if err := pause.For(flow, d); err != nil {
				return err
			}
		}
		failure = call()
	}
	return nil
}

// over returns the error to end with when a failure is nothing to try again after.
func over(ctx context.Context, failure error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err() // the handler was interrupted: the events come again in the next run
	case errors.Is(failure, errMoved), errors.Is(failure, errLost):
		return failure
	}
	return nil
}
