package persistent_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/scripted"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
	"github.com/goeventstore/eventstore/persistent"
)

// What a server would take and choke on is refused before it is sent, and the error says why.
func TestBadSettingsAreRefused(t *testing.T) {
	tests := map[string]func(s *persistent.Settings){
		"ReadBatch of 500 and Buffer of 500: the server reads a batch when the buffer has more room than that": func(s *persistent.Settings) { s.ReadBatch = 500 },
		"ReadBatch of 0: want at least 1":                       func(s *persistent.Settings) { s.ReadBatch = 0 },
		"ReadBatch of -1: want at least 1":                      func(s *persistent.Settings) { s.ReadBatch = -1 },
		"Buffer of 0: want at least 1":                          func(s *persistent.Settings) { s.Buffer = 0 },
		"LiveBuffer of 0: want at least 1":                      func(s *persistent.Settings) { s.LiveBuffer = 0 },
		"the groups that are created after it hang":             func(s *persistent.Settings) { s.LiveBuffer = -1 },
		"MaxRetries of -1: want at least 0":                     func(s *persistent.Settings) { s.MaxRetries = -1 },
		"MaxSubscribers of -1: want at least 0":                 func(s *persistent.Settings) { s.MaxSubscribers = -1 },
		"CheckpointMin of 0":                                    func(s *persistent.Settings) { s.CheckpointMin = 0 },
		"CheckpointMax of -5":                                   func(s *persistent.Settings) { s.CheckpointMax = -5 },
		"MessageTimeout of 0s: want at least 1 ms":              func(s *persistent.Settings) { s.MessageTimeout = 0 },
		"CheckpointAfter of 1µs: want at least 1 ms":            func(s *persistent.Settings) { s.CheckpointAfter = time.Microsecond },
		"MessageTimeout of 600h0m0s: want at most 24 days":      func(s *persistent.Settings) { s.MessageTimeout = 600 * time.Hour },
		"Buffer of 2147483648: want at most 2147483647":         func(s *persistent.Settings) { s.Buffer = math.MaxInt32 + 1 },
		`Strategy "roundrobin": want RoundRobin`:                func(s *persistent.Settings) { s.Strategy = "roundrobin" },
		`Strategy "": want RoundRobin`:                          func(s *persistent.Settings) { s.Strategy = "" },
		"event numbers are not negative, and servers take such": func(s *persistent.Settings) { s.From = eventstore.At(-2) },
		"a group follows event numbers":                         func(s *persistent.Settings) { s.From = eventstore.AtPosition(eventstore.Position{}) },
		"there is nothing behind the largest number":            func(s *persistent.Settings) { s.From = eventstore.After(math.MaxInt64) },
		"DefaultSettings has a value for each":                  func(s *persistent.Settings) { *s = persistent.Settings{} },
	}
	for says, spoil := range tests {
		t.Run(says, func(t *testing.T) {
			s := persistent.DefaultSettings()
			spoil(&s)
			for _, err := range []error{
				persistent.Create(t.Context(), nil, stream, group, s), // without a client: nothing is sent
				persistent.Update(t.Context(), nil, stream, group, s),
			} {
				require.ErrorIs(t, err, eventstore.ErrArgument)
				require.ErrorContains(t, err, says)
				require.False(t, eventstore.MaybeApplied(err))
			}
		})
	}
}

func TestBadNamesAreRefused(t *testing.T) {
	for says, names := range map[string][2]string{
		"the stream's name is empty": {"", group},
		"not $all":                   {eventstore.All, group},
		"nobody can join it":         {stream, ""},
	} {
		_, joined := persistent.Join(t.Context(), nil, persistent.Config{Stream: names[0], Group: names[1]})
		for _, err := range []error{
			persistent.Create(t.Context(), nil, names[0], names[1], persistent.DefaultSettings()),
			persistent.Update(t.Context(), nil, names[0], names[1], persistent.DefaultSettings()),
			persistent.Delete(t.Context(), nil, names[0], names[1]),
			joined,
		} {
			require.ErrorIs(t, err, eventstore.ErrArgument)
			require.ErrorContains(t, err, says)
		}
	}
}

func TestBadConfigsAreRefused(t *testing.T) {
	for says, cfg := range map[string]persistent.Config{
		"Window of -1":               {Window: -1},
		"AckEvery of -1":             {AckEvery: -1},
		"want none below 0":          {StallAfter: -1},
		"AckAfter of 30s: acks":      {AckAfter: 30 * time.Second},
		"RetryDelay of 5s: the serv": {RetryDelay: 5 * time.Second, MessageTimeout: 5 * time.Second},
	} {
		cfg.Stream, cfg.Group = stream, group
		_, err := persistent.Join(t.Context(), nil, cfg)
		require.ErrorIs(t, err, eventstore.ErrArgument)
		require.ErrorContains(t, err, says)
	}
}

// What the settings are on the wire. All fields are written.
func TestSettingsOnTheWire(t *testing.T) {
	want := &pb.CreatePersistentSubscription{
		SubscriptionGroupName: proto.String(group), EventStreamId: proto.String(stream), ResolveLinkTos: proto.Bool(true),
		StartFrom: proto.Int64(0), MessageTimeoutMilliseconds: proto.Int32(30000), RecordStatistics: proto.Bool(false),
		LiveBufferSize: proto.Int32(500), ReadBatchSize: proto.Int32(20), BufferSize: proto.Int32(500), MaxRetryCount: proto.Int32(10),
		PreferRoundRobin: proto.Bool(true), CheckpointAfterTime: proto.Int32(2000), CheckpointMaxCount: proto.Int32(1000),
		CheckpointMinCount: proto.Int32(10), SubscriberMaxCount: proto.Int32(0), NamedConsumerStrategy: proto.String("RoundRobin"),
	}
	other := proto.CloneOf(want)
	other.StartFrom, other.ResolveLinkTos, other.RecordStatistics = proto.Int64(8), proto.Bool(false), proto.Bool(true)
	other.MessageTimeoutMilliseconds, other.CheckpointAfterTime = proto.Int32(0), proto.Int32(0)
	other.PreferRoundRobin, other.NamedConsumerStrategy = proto.Bool(false), proto.String("Pinned")
	s := persistent.DefaultSettings()
	s.From, s.RawLinks, s.ExtraStatistics = eventstore.After(7), true, true
	s.MessageTimeout, s.CheckpointAfter, s.Strategy = persistent.Never, persistent.Never, persistent.Pinned
	end := persistent.DefaultSettings()
	end.From = eventstore.End
	last := proto.CloneOf(want)
	last.StartFrom = proto.Int64(-1)
	played(t, func(p *scripted.Peer) {
		for _, want := range []*pb.CreatePersistentSubscription{want, other, last} {
			f := p.Want(messages.CreatePersistentSubscription)
			var got pb.CreatePersistentSubscription
			if err := proto.Unmarshal(f.Body, &got); err != nil || !proto.Equal(want, &got) {
				t.Errorf("got %v, %v, want %v", &got, err, want)
			}
			p.Send(messages.CreatePersistentSubscriptionCompleted, f.ID, "")
			f = p.Want(messages.UpdatePersistentSubscription) // its fields are the same
			got.Reset()
			if err := proto.Unmarshal(f.Body, &got); err != nil || !proto.Equal(want, &got) {
				t.Errorf("got %v, %v, want %v", &got, err, want)
			}
			p.Send(messages.UpdatePersistentSubscriptionCompleted, f.ID, "")
		}
		attend(p)
	}, func(t *testing.T, c *eventstore.Client) {
		for _, s := range []persistent.Settings{persistent.DefaultSettings(), s, end} {
			require.NoError(t, persistent.Create(t.Context(), c, stream, group, s))
			require.NoError(t, persistent.Update(t.Context(), c, stream, group, s))
		}
	})
}

// Each result of the three requests.
func TestManagementResults(t *testing.T) {
	calls := map[string]func(t *testing.T, c *eventstore.Client) error{
		"create": func(t *testing.T, c *eventstore.Client) error {
			t.Helper()
			return persistent.Create(t.Context(), c, stream, group, persistent.DefaultSettings())
		},
		"update": func(t *testing.T, c *eventstore.Client) error {
			t.Helper()
			return persistent.Update(t.Context(), c, stream, group, persistent.DefaultSettings())
		},
		"delete": func(t *testing.T, c *eventstore.Client) error {
			t.Helper()
			return persistent.Delete(t.Context(), c, stream, group)
		},
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			played(t, func(p *scripted.Peer) {
				for result := range byte(5) {
					f := p.Next()
					p.Send(f.Command+1, f.ID, string([]byte{0x08, result, 0x12, 3, 'w', 'h', 'y'}))
				}
				f := p.Next()
				p.Send(f.Command+1, f.ID, "\x12\x05")
				p.Next() // and no answer: the connection is closed
			}, func(t *testing.T, c *eventstore.Client) {
				require.NoError(t, call(t, c))
				err := call(t, c)
				if name == "create" {
					require.ErrorIs(t, err, persistent.ErrGroupExists)
				} else {
					require.ErrorIs(t, err, persistent.ErrGroupNotFound)
				}
				require.ErrorContains(t, err, name+` group "orders::billing"`)
				require.False(t, eventstore.MaybeApplied(err))
				var refused *eventstore.ServerError
				require.ErrorAs(t, call(t, c), &refused)
				require.Equal(t, "why", refused.Message)
				err = call(t, c)
				require.ErrorIs(t, err, eventstore.ErrAccessDenied)
				require.ErrorContains(t, err, "why")
				require.ErrorIs(t, call(t, c), eventstore.ErrProtocol)
				require.ErrorIs(t, call(t, c), eventstore.ErrProtocol)
				err = call(t, c)
				require.ErrorIs(t, err, eventstore.ErrConnectionLost)
				require.True(t, eventstore.MaybeApplied(err))
				require.ErrorContains(t, err, "may have been applied")
			})
		})
	}
}
