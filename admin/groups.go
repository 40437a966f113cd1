package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Group is a persistent subscription as it is at the moment.
type Group struct {
	Stream, Name  string
	Status        string        // "Live", "Behind", ...
	Settings      GroupSettings // zero in a list
	PerSecond     float64
	Processed     int64 // in all
	LastProcessed int64 // the last checkpoint, -1 before the first
	LastKnown     int64 // the last event of the stream that the group knows
	ReadBuffer    int   // zero in a list, as what follows
	LiveBuffer    int64
	RetryBuffer   int
	InFlight      int // with consumers, not acknowledged yet; in a list too
	Connections   int
	Consumers     []Consumer // empty in a list
}

// Lag is how many events the group has not passed with its last checkpoint. What is acknowledged beyond it counts until the
// next one.
func (g *Group) Lag() int64 { return max(g.LastKnown-max(g.LastProcessed, -1), 0) }

// GroupSettings are the settings of a group.
type GroupSettings struct {
	ResolveLinks    bool
	StartFrom       int64
	MessageTimeout  time.Duration
	ExtraStatistics bool
	MaxRetries      int
	LiveBuffer      int
	Buffer          int
	ReadBatch       int
	CheckpointAfter time.Duration
	MinCheckpoint   int
	MaxCheckpoint   int
	MaxSubscribers  int
	Strategy        string // "RoundRobin", "DispatchToSingle", "Pinned", "PinnedByCorrelation"
}

// Consumer is a connection of a group.
type Consumer struct {
	From      string  `json:"from"`
	User      string  `json:"username"`
	PerSecond float64 `json:"averageItemsPerSecond"`
	Processed int64   `json:"totalItemsProcessed"`
	Slots     int     `json:"availableSlots"`
	InFlight  int     `json:"inFlightMessages"`
}

// group is how servers tell of a group. Those of a list have fewer keys.
type group struct {
	Stream        string     `json:"eventStreamId"`
	Name          string     `json:"groupName"`
	Status        string     `json:"status"`
	Config        settings   `json:"config"`
	PerSecond     float64    `json:"averageItemsPerSecond"`
	Processed     int64      `json:"totalItemsProcessed"`
	LastProcessed int64      `json:"lastProcessedEventNumber"`
	LastKnown     int64      `json:"lastKnownEventNumber"`
	ReadBuffer    int        `json:"readBufferCount"`
	LiveBuffer    int64      `json:"liveBufferCount"`
	RetryBuffer   int        `json:"retryBufferCount"`
	InFlight      int        `json:"totalInFlightMessages"`
	Connections   int        `json:"connectionCount"`
	Consumers     []Consumer `json:"connections"`
}

type settings struct {
	ResolveLinks    bool   `json:"resolveLinktos"`
	StartFrom       int64  `json:"startFrom"`
	MessageTimeout  int64  `json:"messageTimeoutMilliseconds"`
	ExtraStatistics bool   `json:"extraStatistics"`
	MaxRetries      int    `json:"maxRetryCount"`
	LiveBuffer      int    `json:"liveBufferSize"`
	Buffer          int    `json:"bufferSize"`
	ReadBatch       int    `json:"readBatchSize"`
	CheckpointAfter int64  `json:"checkPointAfterMilliseconds"`
	MinCheckpoint   int    `json:"minCheckPointCount"`
	MaxCheckpoint   int    `json:"maxCheckPointCount"`
	MaxSubscribers  int    `json:"maxSubscriberCount"`
	Strategy        string `json:"namedConsumerStrategy"`
}

func (g *group) exported() Group {
	c := &g.Config
	return Group{
		Stream: g.Stream, Name: g.Name, Status: g.Status, PerSecond: g.PerSecond, Processed: g.Processed,
		LastProcessed: g.LastProcessed, LastKnown: g.LastKnown, ReadBuffer: g.ReadBuffer, LiveBuffer: g.LiveBuffer,
		RetryBuffer: g.RetryBuffer, InFlight: g.InFlight, Connections: max(g.Connections, len(g.Consumers)), Consumers: g.Consumers,
		Settings: GroupSettings{
			ResolveLinks: c.ResolveLinks, StartFrom: c.StartFrom, MessageTimeout: time.Duration(c.MessageTimeout) * time.Millisecond,
			ExtraStatistics: c.ExtraStatistics, MaxRetries: c.MaxRetries, LiveBuffer: c.LiveBuffer, Buffer: c.Buffer,
			ReadBatch: c.ReadBatch, CheckpointAfter: time.Duration(c.CheckpointAfter) * time.Millisecond,
			MinCheckpoint: c.MinCheckpoint, MaxCheckpoint: c.MaxCheckpoint, MaxSubscribers: c.MaxSubscribers, Strategy: c.Strategy,
		},
	}
}

// Groups returns the groups of all streams.
func (a *Admin) Groups(ctx context.Context) ([]Group, error) {
	return a.groups(ctx, request{op: "list groups", path: "/subscriptions"})
}

// GroupsOf returns the groups of one stream. None is no error.
func (a *Admin) GroupsOf(ctx context.Context, stream string) ([]Group, error) {
	found, err := a.groups(ctx, request{op: "list groups", stream: stream, path: segments("subscriptions", stream)})
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	return found, err
}

func (a *Admin) groups(ctx context.Context, r request) ([]Group, error) {
	var answer []group
	r.method, r.into = http.MethodGet, &answer
	if err := a.do(ctx, r); err != nil {
		return nil, err
	}
	found := make([]Group, len(answer))
	for i := range answer {
		found[i] = answer[i].exported()
	}
	return found, nil
}

// Group returns one group with all that the server tells of it.
func (a *Admin) Group(ctx context.Context, stream, name string) (Group, error) {
	var answer group
	err := a.do(ctx, request{
		op: "get group " + name, stream: stream, method: http.MethodGet, path: segments("subscriptions", stream, name, "info"), into: &answer,
	})
	return answer.exported(), err
}

// ReplayParked has all parked messages of a group delivered again.
func (a *Admin) ReplayParked(ctx context.Context, stream, name string) error {
	return a.replay(ctx, stream, name, "")
}

// firstWithStopAt is the version of servers that take a place to stop at.
const firstWithStopAt = 20

// ReplayParkedUpTo is ReplayParked for the parked messages with numbers below stopAt. A server before version 20 would replay
// them all: it is not asked to, and the error is ErrUnsupported.
func (a *Admin) ReplayParkedUpTo(ctx context.Context, stream, name string, stopAt int64) error {
	info, err := a.Info(ctx)
	if err != nil {
		return err
	}
	major, _, _ := strings.Cut(info.Version, ".")
	if n, err := strconv.Atoi(major); err == nil && n < firstWithStopAt {
		return a.failed("replay parked messages of group "+name, stream, fmt.Errorf("%w: version %s", ErrUnsupported, info.Version))
	}
	return a.replay(ctx, stream, name, query("stopAt", strconv.FormatInt(stopAt, 10)))
}

func (a *Admin) replay(ctx context.Context, stream, name, query string) error {
	return a.do(ctx, request{
		op: "replay parked messages of group " + name, stream: stream, method: http.MethodPost,
		path: segments("subscriptions", stream, name, "replayParked") + query,
	})
}

func query(name, value string) string { return "?" + url.Values{name: {value}}.Encode() }

// ParkedStream is the name of the stream that the parked messages of a group are in, as links to them.
func ParkedStream(stream, name string) string {
	return "$persistentsubscription-" + stream + "::" + name + "-parked"
}

// ParkedMessage is a message that was parked.
type ParkedMessage struct {
	Number int64 // in the stream of parked messages
	// The message itself. A link that leads nowhere any more has only stream and number.
	Stream      string
	EventNumber int64
	EventID     uuid.UUID
	EventType   string
	Reason      string    // why it was parked
	Added       time.Time // when
}

// maxParked is how many of the parked messages Parked returns at most.
const maxParked = 1000

// Parked returns the newest parked messages of a group, the newest first, at most so many, up to 1,000.
func (a *Admin) Parked(ctx context.Context, stream, name string, count int) ([]ParkedMessage, error) {
	var answer struct {
		Entries []struct {
			EventID        uuid.UUID `json:"eventId"`
			EventType      string    `json:"eventType"`
			EventNumber    int64     `json:"eventNumber"`
			StreamID       string    `json:"streamId"`
			PositionNumber int64     `json:"positionEventNumber"`
			LinkMetadata   string    `json:"linkMetaData"`
			Title          string    `json:"title"`
		} `json:"entries"`
	}
	path := segments("streams", ParkedStream(stream, name), "head", "backward", strconv.Itoa(min(max(count, 1), maxParked)))
	err := a.do(ctx, request{
		op: "read parked messages of group " + name, stream: stream, method: http.MethodGet, path: path + "?embed=body",
		accept: "application/vnd.eventstore.atom+json", into: &answer,
	})
	if errors.Is(err, ErrNotFound) {
		return nil, nil // nothing was ever parked
	}
	found := make([]ParkedMessage, len(answer.Entries))
	for i, e := range answer.Entries {
		m := ParkedMessage{Number: e.PositionNumber, Stream: e.StreamID, EventNumber: e.EventNumber, EventID: e.EventID, EventType: e.EventType}
		if e.StreamID == "" {
			number, of, _ := strings.Cut(e.Title, "@")
			m.Stream, m.Number = of, -1
			m.EventNumber, _ = strconv.ParseInt(number, 10, 64)
		}
		var why struct {
			Added  time.Time `json:"added"`
			Reason string    `json:"reason"`
		}
		if json.Unmarshal([]byte(e.LinkMetadata), &why) == nil {
			m.Reason, m.Added = why.Reason, why.Added
		}
		found[i] = m
	}
	return found, err
}

// ParkedCount returns how many messages of a group are parked.
func (a *Admin) ParkedCount(ctx context.Context, stream, name string) (int64, error) {
	of := ParkedStream(stream, name)
	op := "count parked messages of group " + name
	var head struct {
		ETag string `json:"eTag"`
	}
	err := a.do(ctx, request{
		op: op, stream: stream, method: http.MethodGet, path: segments("streams", of, "head", "backward", "1"),
		accept: "application/vnd.eventstore.atom+json", into: &head,
	})
	if errors.Is(err, ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	number, _, _ := strings.Cut(head.ETag, ";")
	last, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return 0, a.failed(op, stream, fmt.Errorf("the eTag %q has no number", head.ETag))
	}
	var metadata struct {
		TruncateBefore int64 `json:"$tb"`
	}
	err = a.do(ctx, request{op: op, stream: stream, method: http.MethodGet, path: segments("streams", of, "metadata"), into: &metadata})
	return max(last+1-metadata.TruncateBefore, 0), err
}
