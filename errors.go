package eventstore

import (
	"errors"
	"fmt"
	"strings"

	"github.com/goeventstore/eventstore/conn"
	"github.com/goeventstore/eventstore/messages"
)

// Errors of a client's life.
var (
	// ErrClosed says that the client was closed, or is draining after Shutdown was called.
	ErrClosed = errors.New("the client is closed")
	// ErrConnectionLost says that the connection ended while the operation was under way.
	ErrConnectionLost = conn.ErrLost
	// ErrRefused ends Connect at once: the port does not speak the protocol the way it was addressed. It speaks HTTP, or TLS
	// where the target is plain, or the other way round, or its certificate is not accepted.
	ErrRefused = conn.ErrRefused
	// ErrTimeout says that an attempt had no answer within the time of WithTimeout.
	ErrTimeout = conn.ErrTimeout
	// ErrRetriesExhausted says that the attempts allowed by WithMaxAttempts are spent; the last failure is beside it.
	ErrRetriesExhausted = errors.New("all attempts are spent")
	// ErrOverflow ends an Exchange whose window was full when more came.
	ErrOverflow = errors.New("more came than the window holds")
	// ErrArgument says that a call was refused before anything was sent, because of what it was given.
	ErrArgument = errors.New("invalid argument")
	// ErrTooLarge says that an event or a request is over the limits of the protocol, and nothing was sent; or that the answer
	// is, as with a single event that does not fit a frame, and asking again is no use.
	ErrTooLarge = errors.New("too large")
	// ErrQueueFull says that as many calls wait as WithQueue allows. Nothing was sent.
	ErrQueueFull = errors.New("too many calls wait")
	// ErrDisconnected says, with WithFailFast, that there is no connection. It is an ErrConnectionLost too.
	ErrDisconnected = errors.New("not connected")
	// ErrReadOnly says that the client was made with WithReadOnly. Nothing was sent.
	ErrReadOnly = errors.New("the client is read-only")
	// ErrProtocol says that the server answered with something that is no answer to the request.
	ErrProtocol = errors.New("unexpected answer")
)

// The server's verdicts.
var (
	// ErrWrongVersion says that the stream was not where the caller expected; see WrongVersionError.
	ErrWrongVersion = errors.New("wrong expected version")
	// ErrStreamNotFound says that there is no such stream, or that it is soft-deleted.
	ErrStreamNotFound = errors.New("stream not found")
	// ErrStreamDeleted says that the stream is deleted for ever.
	ErrStreamDeleted = errors.New("stream deleted")
	// ErrEventNotFound says that the stream has no event of this number: not yet, or truncated.
	ErrEventNotFound = errors.New("event not found")
	// ErrAccessDenied says that the user may not do this.
	ErrAccessDenied = errors.New("access denied")
	// ErrNotAuthenticated says that the server does not accept the login and password.
	ErrNotAuthenticated = errors.New("not authenticated")
	// ErrNotReady says that the server, or its cluster, does not take requests yet, or no longer.
	ErrNotReady = errors.New("the server is not ready")
	// ErrBusy says that the server is too busy.
	ErrBusy = errors.New("the server is too busy")
	// ErrNotLeader says that the node does not lead its cluster, and the request wants the leader.
	ErrNotLeader = errors.New("the node is not the leader")
	// ErrInvalidTransaction says that the server knows no such transaction, or none at all any more.
	ErrInvalidTransaction = errors.New("invalid transaction")
	// ErrMetadata says that what is stored as metadata or settings is not what a server reads as such.
	ErrMetadata = errors.New("malformed metadata")
	// ErrServerReadOnly says that the node takes no writes.
	ErrServerReadOnly = errors.New("the node is read-only")
)

// OpError is around the error of every operation that failed.
type OpError struct {
	Op       string // the operation: "append", "read", ...
	Stream   string // the stream, if it has one
	Addr     string // the server of the last attempt, "" when none was made
	Attempts int    // how often it was sent
	Unknown  bool   // a write that may have been applied; see MaybeApplied
	Err      error
}

// Error tells what failed, where, after how many attempts and why.
func (e *OpError) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Stream != "" {
		fmt.Fprintf(&b, " %q", e.Stream)
	}
	if e.Addr != "" {
		b.WriteString(" at " + e.Addr)
	}
	if e.Attempts > 1 {
		fmt.Fprintf(&b, ", attempt %d", e.Attempts)
	}
	if e.Unknown {
		b.WriteString(", may have been applied")
	}
	b.WriteString(": ")
	b.WriteString(e.Err.Error())
	b.WriteString(e.hint())
	return b.String()
}

// hint explains a refusal that surprises. Of errors around one another it is in the innermost that names the stream.
func (e *OpError) hint() string {
	var inner *OpError
	switch {
	case !strings.HasPrefix(e.Stream, "$") || !errors.Is(e.Err, ErrAccessDenied) || errors.As(e.Err, &inner) && inner.Stream != "":
		return ""
	case e.Stream == All:
		return everything
	}
	return systemStreams
}

// everything is what surprises those who follow all streams.
const everything = " ($all is for administrators, unless its metadata or the system settings say otherwise)"

// systemStreams is what surprises those who follow a category before it has its first event.
const systemStreams = " (streams whose names begin with $ are for administrators, unless $settings or their metadata say otherwise; " +
	"those of projections say so from their first event on)"

// Unwrap returns Err.
func (e *OpError) Unwrap() error { return e.Err }

// WrongVersionError is ErrWrongVersion with the numbers.
type WrongVersionError struct {
	Stream   string
	Expected ExpectedVersion
	Actual   ExpectedVersion // the last event's number, NoStream when there is none, Any when the server does not say (before 4.0)
}

// Error names the expected and, if known, the actual version.
func (e *WrongVersionError) Error() string {
	if e.Actual == Any {
		return fmt.Sprintf("%v: expected %v", ErrWrongVersion, e.Expected)
	}
	return fmt.Sprintf("%v: expected %v, the stream is at %v", ErrWrongVersion, e.Expected, e.Actual)
}

// Is makes errors.Is(err, ErrWrongVersion) hold.
func (e *WrongVersionError) Is(target error) bool { return target == ErrWrongVersion }

// ServerError is a refusal in the server's own words: BadRequest, or a read that failed.
type ServerError struct {
	Command messages.Command // what was asked
	Message string
}

// Error quotes the server.
func (e *ServerError) Error() string {
	return fmt.Sprintf("the server refused %s: %s", e.Command, strings.TrimSpace(e.Message))
}

// MaybeApplied reports whether err is of a write that may have been applied all the same: it was sent, and the answer did
// not come or does not tell. Sending the same events again with the same ids and an exact expected version is safe.
func MaybeApplied(err error) bool {
	var op *OpError
	return errors.As(err, &op) && op.Unknown
}

// Retryable reports whether the same call may succeed when it is made again later: the failure was of the connection, of
// time or of a busy server, and not the server's verdict, a wrong argument or the end of the caller's context.
func Retryable(err error) bool {
	for _, target := range []error{ErrConnectionLost, ErrTimeout, ErrNotReady, ErrBusy, ErrNotLeader, ErrOverflow, ErrQueueFull} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// disconnected is ErrDisconnected and ErrConnectionLost with the cause.
type disconnected struct{ cause error }

func (e disconnected) Error() string {
	if e.cause == nil {
		return ErrDisconnected.Error()
	}
	return fmt.Sprintf("%v: %v", ErrDisconnected, e.cause)
}

func (e disconnected) Is(target error) bool {
	return target == ErrDisconnected || target == ErrConnectionLost
}

func (e disconnected) Unwrap() error { return e.cause }

func argument(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrArgument, fmt.Errorf(format, args...))
}
