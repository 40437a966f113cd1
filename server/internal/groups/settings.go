package groups

import (
	"slices"
	"time"
)

// Settings are what a group was created with, in the order and by the names of the event that keeps them.
type Settings struct {
	Stream          string `json:"stream"`
	Group           string `json:"group"`
	ResolveLinks    bool   `json:"resolveLinkTos,omitempty"`
	Statistics      bool   `json:"extraStatistics,omitempty"`
	MessageTimeout  int32  `json:"messageTimeout,omitempty"` // ms, 0 for never
	StartFrom       int64  `json:"startFrom,omitempty"`      // negative: from now on
	LiveBuffer      int32  `json:"liveBufferSize,omitempty"`
	Buffer          int32  `json:"historyBufferSize,omitempty"`
	MaxRetries      int32  `json:"maxRetryCount,omitempty"`
	ReadBatch       int32  `json:"readBatchSize,omitempty"`
	RoundRobin      bool   `json:"preferRoundRobin,omitempty"` // of groups that name no strategy; only old events have it
	CheckpointAfter int32  `json:"checkPointAfter,omitempty"`  // ms, 0 for never by time
	CheckpointMin   int32  `json:"minCheckPointCount,omitempty"`
	CheckpointMax   int32  `json:"maxCheckPointCount,omitempty"`
	MaxConsumers    int32  `json:"maxSubscriberCount,omitempty"` // 0 for any number
	Strategy        string `json:"namedConsumerStrategy,omitempty"`
}

// The names of the strategies.
const (
	RoundRobin          = "RoundRobin"
	DispatchToSingle    = "DispatchToSingle"
	Pinned              = "Pinned"
	PinnedByCorrelation = "PinnedByCorrelation"
)

// KnownStrategy reports whether a strategy has this name, whose case matters.
func KnownStrategy(name string) bool {
	return slices.Contains([]string{RoundRobin, DispatchToSingle, Pinned, PinnedByCorrelation}, name)
}

// Check returns what is wrong with settings that must not be used, as a client is told it, "" when nothing is. A negative
// live buffer stops other groups on a real server, which takes it. Most values that make no sense are those of a group that
// just delivers nothing, as on a real server.
func (s *Settings) Check() string {
	if s.LiveBuffer < 0 {
		return "The live buffer size must not be negative."
	}
	return ""
}

// The limits of what one group holds. A group with larger settings works, with these.
const (
	maxBuffer    = 100_000 // events that are buffered, or kept aside
	maxInFlight  = 100_000 // messages that are outstanding
	maxConsumers = 1000
	maxReplayed  = 10_000 // messages that are retrying before a replay waits
)

// What a read asks for.
const (
	leastRead   = 10
	defaultRead = 20
	mostRead    = 100
)

// buffer is how many events are buffered.
func (s *Settings) buffer() int { return min(int(s.Buffer), maxBuffer) }

// batch is how much room there must be in the buffer before a page is read.
func (s *Settings) batch() int {
	if s.ReadBatch < s.Buffer && s.ReadBatch >= maxBuffer {
		return maxBuffer - 1
	}
	return int(s.ReadBatch)
}

// read is how many events a page has. None are read at all when it is not positive.
func (s *Settings) read() int { return min(max(int(s.ReadBatch), leastRead), s.parkedRead()) }

// parkedRead is how many events a page of the parked stream has.
func (s *Settings) parkedRead() int {
	if s.ReadBatch == 0 {
		return defaultRead
	}
	return min(int(s.ReadBatch), mostRead)
}

func milliseconds(n int32) time.Duration { return time.Duration(n) * time.Millisecond }
