package persistent

import (
	"errors"
	"fmt"

	"github.com/goeventstore/eventstore"
)

// Verdicts of the server.
var (
	// ErrGroupExists says that the stream has a group of that name.
	ErrGroupExists = errors.New("the group exists")
	// ErrGroupNotFound says that the stream has no group of that name, or no longer.
	ErrGroupNotFound = errors.New("no such group")
	// ErrTooManySubscribers says that the group has as many members as its settings allow.
	ErrTooManySubscribers = errors.New("the group has no place for another member")
)

// ErrStale says that messages are no longer this member's to acknowledge or give back; see StaleError.
var ErrStale = errors.New("the message is no longer this member's")

// StaleError is ErrStale with the messages it is about: those that were acknowledged or given back already, and those that were
// delivered before the connection was lost. The server has taken the latter back and delivers them again. The other messages of
// the same call were taken.
type StaleError struct {
	Messages []*Message
	Err      error // why the connection that delivered them is gone, if it just went
}

// Error tells how many messages.
func (e *StaleError) Error() string {
	s := fmt.Sprintf("%v: %d of this call", ErrStale, len(e.Messages))
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Is makes errors.Is(err, ErrStale) hold.
func (e *StaleError) Is(target error) bool { return target == ErrStale }

// Unwrap returns Err.
func (e *StaleError) Unwrap() error { return e.Err }

// errDropped says that the server dropped the member without a reason.
var errDropped = errors.New("the server dropped the member of the group")

// wrap puts the operation and what is known of its attempts around an error.
func wrap(op, stream, group string, err error) *eventstore.OpError {
	e := &eventstore.OpError{Op: op, Stream: stream + "::" + group, Err: err}
	var inner *eventstore.OpError
	if errors.As(err, &inner) {
		e.Addr, e.Attempts, e.Unknown = inner.Addr, inner.Attempts, inner.Unknown
		if err == error(inner) { //nolint:errorlint // only what is directly inside is the same operation
			e.Err = inner.Err
		}
	}
	return e
}

func argument(format string, args ...any) error {
	return fmt.Errorf("%w: %s", eventstore.ErrArgument, fmt.Sprintf(format, args...))
}
