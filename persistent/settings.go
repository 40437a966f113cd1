package persistent

import (
	"errors"
	"math"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/messages/pb"
)

// Strategy decides which member of a group gets an event.
type Strategy string

// The strategies that servers know.
const (
	// RoundRobin gives each member a turn, passing over those whose window is full.
	RoundRobin Strategy = "RoundRobin"
	// DispatchToSingle gives everything to one member, and goes on to the next when its window is full. It stays there.
	DispatchToSingle Strategy = "DispatchToSingle"
	// Pinned gives the events of one source stream to one member, for as long as nobody joins or leaves.
	Pinned Strategy = "Pinned"
	// PinnedByCorrelation is Pinned by the correlation id in the metadata. Servers from 21.10 on.
	PinnedByCorrelation Strategy = "PinnedByCorrelation"
)

// Never switches off a time of Settings.
const Never time.Duration = -1

// Settings are those of a group. Begin with DefaultSettings: most zero values would stop the group, and are refused.
type Settings struct {
	// From is where a group without a checkpoint begins: Start, End (what is written from now on), At or After a number.
	// Default: Start.
	From eventstore.From
	// RawLinks delivers links as they are. Default: resolved to their targets.
	RawLinks bool
	// MessageTimeout is how long a delivered message may stay unanswered before it is tried again. Servers look once a second.
	// It must be longer than the work on a whole window takes: the clock of a message starts when the server sends it, not
	// when Recv returns it. Never: for ever. Default: 30 s.
	MessageTimeout time.Duration
	// MaxRetries is how often a message is tried again before it is parked; 0 parks at the first failure. Default: 10.
	MaxRetries int
	// Buffer is how many events the server holds for the group, those in flight included: the windows of all members fit in only
	// if it is larger than their sum and ReadBatch together. Default: 500.
	Buffer int
	// ReadBatch is how many events the server reads at a time; less than Buffer. Servers read no more than 100. Default: 20.
	ReadBatch int
	// LiveBuffer is how many new events wait while older ones are still read. Default: 500.
	LiveBuffer int
	// CheckpointAfter, CheckpointMin and CheckpointMax say when the group's place is stored: at that interval if at least Min
	// events were processed since, and at once when Max were. A restarted server goes on behind the place that was stored, so what
	// was processed since comes again. Never stores by count alone. Default: 2 s, 10 and 1000.
	CheckpointAfter              time.Duration
	CheckpointMin, CheckpointMax int
	// MaxSubscribers is how many members may join; 0 is without limit, the default.
	MaxSubscribers int
	// Strategy decides who gets an event. Default: RoundRobin.
	Strategy Strategy
	// ExtraStatistics has the server measure how long messages take.
	ExtraStatistics bool
}

// DefaultSettings returns the default of each setting.
func DefaultSettings() Settings {
	return Settings{
		MessageTimeout: 30 * time.Second, MaxRetries: 10,
		Buffer: 500, ReadBatch: 20, LiveBuffer: 500,
		CheckpointAfter: 2 * time.Second, CheckpointMin: 10, CheckpointMax: 1000,
		Strategy: RoundRobin,
	}
}

// check refuses what servers take and then choke on: most of them validate nothing, answer Success, and deliver nothing.
func (s *Settings) check() error {
	var all []error
	bad := func(is bool, format string, args ...any) {
		if is {
			all = append(all, argument(format, args...))
		}
	}
	_, isPosition := s.From.Position()
	number, isNumber := s.From.Number()
	bad(isPosition, "From %q: a group follows event numbers", s.From)
	bad(isNumber && number < 0, "From %q: event numbers are not negative, and servers take such a place as End", s.From)
	bad(isNumber && s.From.Exclusive() && number == math.MaxInt64, "From %q: there is nothing behind the largest number", s.From)
	for _, d := range []struct {
		name string
		d    time.Duration
	}{{"MessageTimeout", s.MessageTimeout}, {"CheckpointAfter", s.CheckpointAfter}} {
		bad(d.d != Never && d.d < time.Millisecond, "%s of %v: want at least 1 ms, since a server takes 0 as never, or the constant Never", d.name, d.d)
		bad(d.d/time.Millisecond > math.MaxInt32, "%s of %v: want at most 24 days, or the constant Never", d.name, d.d)
	}
	for _, n := range []struct {
		name string
		n    int
		min  int
		why  string
	}{
		{"MaxRetries", s.MaxRetries, 0, "0 parks at the first failure"},
		{"Buffer", s.Buffer, 1, "with less the server never delivers anything"},
		{"ReadBatch", s.ReadBatch, 1, "with less than 0 the server never reads what the stream has"},
		{"LiveBuffer", s.LiveBuffer, 1, "with less than 0 the group never delivers, and the groups that are created after it hang"},
		{"CheckpointMin", s.CheckpointMin, 1, "with less the server stores the same place again and again"},
		{"CheckpointMax", s.CheckpointMax, 1, "with less the server stores the place for every message"},
		{"MaxSubscribers", s.MaxSubscribers, 0, "0 is without limit; with less nobody can join"},
	} {
		bad(n.n < n.min, "%s of %d: want at least %d: %s", n.name, n.n, n.min, n.why)
		bad(n.n > math.MaxInt32, "%s of %d: want at most %d", n.name, n.n, math.MaxInt32)
	}
	bad(s.Buffer > 0 && s.ReadBatch >= s.Buffer,
		"ReadBatch of %d and Buffer of %d: the server reads a batch when the buffer has more room than that, so it would never deliver anything", s.ReadBatch, s.Buffer)
	switch s.Strategy {
	case RoundRobin, DispatchToSingle, Pinned, PinnedByCorrelation:
	default:
		bad(true, "Strategy %q: want RoundRobin, DispatchToSingle, Pinned or PinnedByCorrelation, in this spelling", s.Strategy)
	}
	if len(all) > 0 {
		all = append(all, errors.New("DefaultSettings has a value for each"))
	}
	return errors.Join(all...)
}

// message makes the request; that of an update has the same fields.
func (s *Settings) message(stream, group string) *pb.CreatePersistentSubscription {
	from := int64(0)
	if n, ok := s.From.Number(); ok {
		from = n
		if s.From.Exclusive() {
			from++
		}
	} else if s.From.IsEnd() {
		from = -1
	}
	ms := func(d time.Duration) *int32 {
		if d == Never {
			return proto.Int32(0)
		}
		return proto.Int32(int32(d / time.Millisecond))
	}
	n := func(n int) *int32 { return proto.Int32(int32(n)) }
	return &pb.CreatePersistentSubscription{
		SubscriptionGroupName: &group, EventStreamId: &stream,
		ResolveLinkTos: proto.Bool(!s.RawLinks), StartFrom: &from,
		MessageTimeoutMilliseconds: ms(s.MessageTimeout), RecordStatistics: &s.ExtraStatistics,
		LiveBufferSize: n(s.LiveBuffer), ReadBatchSize: n(s.ReadBatch), BufferSize: n(s.Buffer), MaxRetryCount: n(s.MaxRetries),
		PreferRoundRobin:    proto.Bool(s.Strategy == RoundRobin), // for servers that do not know the name of the strategy
		CheckpointAfterTime: ms(s.CheckpointAfter), CheckpointMaxCount: n(s.CheckpointMax), CheckpointMinCount: n(s.CheckpointMin),
		SubscriberMaxCount: n(s.MaxSubscribers), NamedConsumerStrategy: proto.String(string(s.Strategy)),
	}
}
