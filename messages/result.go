package messages

import "github.com/goeventstore/eventstore/messages/pb"

// OperationResult is the outcome of a write, a delete or a transaction. Its three time-outs do not tell whether the
// events are stored.
type OperationResult = pb.OperationResult

// ReadEventResult is the outcome of reading one event.
type ReadEventResult = pb.ReadEventCompleted_ReadEventResult

// ReadStreamResult is the outcome of reading a page of a stream. Its NotModified never appears over TCP.
type ReadStreamResult = pb.ReadStreamEventsCompleted_ReadStreamResult

// ReadAllResult is the outcome of reading a page of all streams. Its NotModified never appears over TCP.
type ReadAllResult = pb.ReadAllEventsCompleted_ReadAllResult

// The outcomes, under shorter names than the generated ones.
const (
	Success              = pb.OperationResult_Success
	PrepareTimeout       = pb.OperationResult_PrepareTimeout
	CommitTimeout        = pb.OperationResult_CommitTimeout
	ForwardTimeout       = pb.OperationResult_ForwardTimeout
	WrongExpectedVersion = pb.OperationResult_WrongExpectedVersion
	StreamDeleted        = pb.OperationResult_StreamDeleted
	InvalidTransaction   = pb.OperationResult_InvalidTransaction
	AccessDenied         = pb.OperationResult_AccessDenied

	ReadEventSuccess       = pb.ReadEventCompleted_Success
	ReadEventNotFound      = pb.ReadEventCompleted_NotFound
	ReadEventNoStream      = pb.ReadEventCompleted_NoStream
	ReadEventStreamDeleted = pb.ReadEventCompleted_StreamDeleted
	ReadEventError         = pb.ReadEventCompleted_Error
	ReadEventAccessDenied  = pb.ReadEventCompleted_AccessDenied

	ReadStreamSuccess       = pb.ReadStreamEventsCompleted_Success
	ReadStreamNoStream      = pb.ReadStreamEventsCompleted_NoStream
	ReadStreamStreamDeleted = pb.ReadStreamEventsCompleted_StreamDeleted
	ReadStreamNotModified   = pb.ReadStreamEventsCompleted_NotModified
	ReadStreamError         = pb.ReadStreamEventsCompleted_Error
	ReadStreamAccessDenied  = pb.ReadStreamEventsCompleted_AccessDenied

	ReadAllSuccess      = pb.ReadAllEventsCompleted_Success
	ReadAllNotModified  = pb.ReadAllEventsCompleted_NotModified
	ReadAllError        = pb.ReadAllEventsCompleted_Error
	ReadAllAccessDenied = pb.ReadAllEventsCompleted_AccessDenied
)

// The numbers with a meaning of their own.
const (
	// DeletedNumber is the number of a tombstone, and the last number of a hard-deleted stream.
	DeletedNumber int64 = 1<<63 - 1
	// DeletedNumber32 is the same on a connection with 32-bit numbers (servers before 3.9.4, and any client that
	// did not identify itself).
	DeletedNumber32 int64 = 1<<31 - 1
	// FailedNumber stands where a failed write has no number.
	FailedNumber int64 = -1 << 31
)
