package conformance_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

const basic = "cluster-4.1.4/basic-identified.jsonl"

// TestReplayFindsWhatIsWrong plays recordings that were tampered with: the replayer must tell what and where.
func TestReplayFindsWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		doctor func(t *testing.T, lines []line) []line
		want   []difference
	}{
		"a field": {
			doctor: changed(31, func(m *pb.WriteEventsCompleted) { m.CurrentVersion = proto.Int64(5) }),
			want:   []difference{{31, "current_version", "5", "-1"}},
		},
		"an enum": {
			doctor: changed(44, func(m *pb.ReadEventCompleted) { m.Result = messages.ReadEventNoStream.Enum() }),
			want:   []difference{{44, "result", "NoStream", "NotFound"}},
		},
		"a field that is not there": {
			doctor: changed(59, func(m *pb.ReadStreamEventsCompleted) { m.Error = nil }),
			want:   []difference{{59, "error", absent, `""`}},
		},
		"a field that is there": {
			doctor: changed(14, func(m *pb.WriteEventsCompleted) { m.Message = proto.String("") }),
			want:   []difference{{14, "message", `""`, absent}},
		},
		"a nested message that is not there": {
			doctor: changed(44, func(m *pb.ReadEventCompleted) { m.Event = nil }),
			want:   []difference{{44, "event", absent, "a ResolvedIndexedEvent"}},
		},
		"an event of a page": {
			doctor: changed(53, func(m *pb.ReadStreamEventsCompleted) { m.Events[1].Event.Metadata = []byte("x") }),
			want:   []difference{{53, "events[1].event.metadata", `"x"`, `""`}},
		},
		"an event of a page too many": {
			doctor: changed(53, func(m *pb.ReadStreamEventsCompleted) { m.Events = append(m.Events, m.Events[0]) }),
			want:   []difference{{53, "events[2]", "a ResolvedIndexedEvent", absent}},
		},
		"an event id that the client chose": {
			doctor: changed(38, func(m *pb.ReadEventCompleted) {
				m.Event.Event.EventId = messages.AppendGUID(nil, uuid.MustParse("29c74bbc-09b8-4b17-9b1f-f8bd7c1b9d35"))
			}),
			want: []difference{{38, "event.event.event_id", "29c74bbc-09b8-4b17-9b1f-f8bd7c1b9d35", "875dc8ba-0331-673a-44a8-152b404c4fa1"}},
		},
		"the times of one event": {
			doctor: changed(38, func(m *pb.ReadEventCompleted) { *m.Event.Event.CreatedEpoch++ }),
			want:   []difference{{38, "event.event.created_epoch", "any", "any"}},
		},
		"a position that is known": { // that of frame 11
			doctor: changed(56, func(m *pb.ReadStreamEventsCompleted) { m.LastCommitPosition = proto.Int64(5313138) }),
			want:   []difference{{56, "last_commit_position", "5313138", "any"}},
		},
		"a position before one that was earlier": {
			doctor: changed(133, func(m *pb.WriteEventsCompleted) { m.CommitPosition = proto.Int64(5313139) }),
			want:   []difference{{133, "commit_position", "5313139", "any"}},
		},
		"a constant in the place of a position": {
			doctor: changed(14, func(m *pb.WriteEventsCompleted) { m.CommitPosition = proto.Int64(0) }),
			want:   []difference{{14, "commit_position", "0", "-1"}},
		},
		"another command": {
			doctor: func(t *testing.T, lines []line) []line {
				t.Helper()
				at(t, lines, 74).command = messages.SubscriptionDropped
				return lines
			},
			want: []difference{{74, "command", "SubscriptionDropped", "any"}},
		},
		"a text": {
			doctor: func(t *testing.T, lines []line) []line { t.Helper(); at(t, lines, 4).body = []byte("x"); return lines },
			want:   []difference{{4, "body", `"x"`, `""`}},
		},
		"a frame is missing in the recording": {
			doctor: func(t *testing.T, lines []line) []line {
				t.Helper()
				return slices.DeleteFunc(lines, func(l line) bool { return l.n == 34 })
			},
			want: []difference{{25, "frame", none, "StreamEventAppeared"}},
		},
		"an answer is missing in the recording": {
			doctor: func(t *testing.T, lines []line) []line {
				t.Helper()
				return slices.DeleteFunc(lines, func(l line) bool { return l.n == 129 })
			},
			want: []difference{{128, "frame", none, "ReadEventCompleted"}},
		},
		"a frame too many in the recording": {
			doctor: func(t *testing.T, lines []line) []line {
				t.Helper()
				return slices.Insert(lines, 35, *at(t, lines, 35))
			},
			want: []difference{{35, "frame", "WriteEventsCompleted", none}},
		},
		"the order of one correlation id": {
			doctor: func(t *testing.T, lines []line) []line {
				t.Helper()
				a, b := at(t, lines, 24), at(t, lines, 25)
				a.body, b.body = b.body, a.body
				return lines
			},
			want: []difference{
				{24, "event.event.event_number", "2", "1"},
				{24, "event.event.event_id", "any", "any"},
				{24, "event.event.event_type", `"t3"`, `"t2"`},
				{24, "event.event.data_content_type", "0", "1"},
				{24, "event.event.metadata_content_type", "0", "1"},
				{24, "event.event.data", "0001", `"{\"a\":1}"`},
				{24, "event.commit_position", "any", "any"}, // the reply to the write has told that of the second event
				{24, "event.prepare_position", "any", "any"},
				{25, "event.event.event_number", "1", "2"},
				{25, "event.event.event_id", "any", "any"},
				{25, "event.event.event_type", `"t2"`, `"t3"`},
				{25, "event.event.data_content_type", "1", "0"},
				{25, "event.event.metadata_content_type", "1", "0"},
				{25, "event.event.data", `"{\"a\":1}"`, "0001"},
			},
		},
		"the order of two correlation ids is free": {
			doctor: func(t *testing.T, lines []line) []line {
				t.Helper()
				a, b := at(t, lines, 10), at(t, lines, 11)
				a.n, b.n = b.n, a.n
				*a, *b = *b, *a
				return lines
			},
		},
		"nothing": {
			doctor: func(t *testing.T, lines []line) []line { t.Helper(); return lines },
		},
	} {
		t.Run(name, func(t *testing.T) {
			rec, lines := recorded(t, basic)
			p := newPlayer(t, eventstoretest.Run(t, eventstoretest.ForceEmbedded()), rec, c.doctor(t, lines))
			p.wait = 3 * time.Second // what is too many in a recording never comes
			p.play()
			require.Empty(t, p.problems)
			found := slices.DeleteFunc(p.found, func(d difference) bool {
				return slices.ContainsFunc(rec.diffs, func(e expected) bool { return e.is(d) })
			})
			require.Len(t, found, len(c.want), "%v", found)
			for i, want := range c.want {
				if want.recorded == "any" {
					want.recorded = found[i].recorded
				}
				if want.ours == "any" {
					want.ours = found[i].ours
				}
				require.Equal(t, want, found[i])
			}
		})
	}
}

// TestReplaySeesAConnectionThatStaysOpen.
func TestReplaySeesAConnectionThatStaysOpen(t *testing.T) {
	t.Parallel() // it waits for what does not come
	lines, err := parseVectors([]byte("connection\n> 170000000300000102030405060708090a0b0c0d0e0f68656c6c6f\n" +
		"< 170000000400000102030405060708090a0b0c0d0e0f68656c6c6f\nclosed\n"))
	require.NoError(t, err)
	p := newPlayer(t, eventstoretest.Run(t, eventstoretest.ForceEmbedded()), &recording{}, lines)
	p.wait = 3 * time.Second
	p.play()
	require.Empty(t, p.problems)
	require.Equal(t, []difference{{4, "connection", "closed", "open"}}, p.found)
}

// TestWhatRecordingsTell plays each kind of line that is no frame.
func TestWhatRecordingsTell(t *testing.T) {
	const raw = `"dir": "c2s", "raw": "64000000", "rawlen": 4, "note": "in the middle of a frame"`
	lines, err := parseJSONL([]byte(`{"n": 1, "event": "step", "what": "said"}
{"n": 2, "event": "connected", "conn": "a"}
{"n": 3, "conn": "a", "dir": "c2s", "cmd": 195, "name": "UnsubscribeFromStream", "flags": 0, "corr": "6573bcff770d0c5b151470f56644688d", "auth": null, "payload": ""}
{"n": 4, "event": "no answer", "conn": "a", "corr": "6573bcff770d0c5b151470f56644688d", "waited_ms": 1000}
{"n": 5, "conn": "a", "dir": "s2c", "cmd": 1, "name": "HeartbeatRequest", "flags": 0, "corr": "0073bcff770d0c5b151470f56644688d", "auth": null, "payload": ""}
{"n": 6, "conn": "a", "dir": "c2s", "cmd": 2, "name": "HeartbeatResponse", "flags": 0, "corr": "0073bcff770d0c5b151470f56644688d", "auth": null, "payload": ""}
{"n": 7, "event": "connection ended", "conn": "a", "how": "client closed", "rest": ""}
{"n": 8, "event": "connected", "conn": "b"}
{"n": 9, "conn": "b", ` + raw + `}
{"n": 10, "event": "still open", "conn": "b", "ping_answered": null}
{"n": 11, "event": "connected", "conn": "c"}
{"n": 12, "conn": "c", "dir": "c2s", "raw": "00000000", "rawlen": 4, "note": "no frame"}
{"n": 13, "event": "connection ended", "conn": "c", "how": "server closed (FIN)", "rest": ""}
{"n": 14, "event": "http", "request": "GET /"}
{"event": "tally", "count": 1}
`))
	require.NoError(t, err)
	p := newPlayer(t, eventstoretest.Run(t, eventstoretest.ForceEmbedded()), &recording{}, lines)
	p.play()
	require.Equal(t, []string{"line 14 is nothing that can be played, and not left out"}, p.problems)
	require.Empty(t, p.found)

	rec := &recording{outs: []leftOut{{lineRange{14, 14}, 5, "HTTP"}}}
	p = newPlayer(t, eventstoretest.Run(t, eventstoretest.ForceEmbedded()), rec, lines)
	p.play()
	require.Empty(t, p.problems)
}

// TestLearned: what the server makes up is followed through texts, requests and answers.
func TestLearned(t *testing.T) {
	k := newLearned()
	const theirs, mine, other = "23eb2514-a105-48db-b471-b9cf9cf9cb49", "0b6f6d1c-52a4-4a3c-8e54-3a5ef2f1d0aa", "77b1a1c9-6a86-4d0b-b1a7-5ad5cbfb5c70"
	require.True(t, k.text(exchange{}, []byte("$scavenges-"+theirs), []byte("$scavenges-"+mine)))
	require.True(t, k.text(exchange{}, []byte(`{"id":"`+theirs+`","at":"2026-01-21T07:52:20.619788+00:00"}`), []byte(`{"id":"`+mine+`","at":"2027-01-01T00:00:00Z"}`)))
	require.False(t, k.text(exchange{}, []byte("$scavenges-"+theirs), []byte("$scavenges-"+other)), "another than before")
	require.False(t, k.text(exchange{}, []byte("$scavenges-"+other), []byte("$scavenges-"+mine)), "two that are one")
	require.False(t, k.text(exchange{}, []byte("2026-01-21T07:52:20.619788+00:00"), []byte("2027-01-01T00:00:01Z")))
	require.False(t, k.text(exchange{}, []byte("a"+theirs), []byte("b"+mine)))
	require.False(t, k.text(exchange{}, []byte(theirs), []byte("2027-01-01T00:00:00Z")))
	require.False(t, k.text(exchange{}, []byte{0xff}, []byte{0xfe}))
	require.True(t, k.position(exchange{}, 1000, 50))
	link := func(version string, commit, prepare int) []byte {
		return fmt.Appendf(nil, `{"$v":"%s","$c":%d,"$p":%d}`, version, commit, prepare)
	}
	require.True(t, k.text(exchange{}, link("3:-1:4:3", 1000, 990), link("2:-1:1:3", 50, 49)))
	require.False(t, k.text(exchange{}, link("3:-1:4:3", 1000, 990), link("4:-1:1:3", 50, 49)), "another version than before")
	require.False(t, k.text(exchange{}, link("3:-1:4:3", 1000, 990), link("2:-1:1:3", 51, 49)), "another position than before")
	require.False(t, k.text(exchange{}, link("3:-1:4:3", 1000, 991), link("2:-1:1:3", 50, 48)), "before what it was behind")
	require.False(t, k.text(exchange{}, []byte(`{"$c":1000}`), []byte(`{"$p":50}`)))
	require.Equal(t, `{"$c":50,"$p":49,"$p":7}`, k.filledText(`{"$c":1000,"$p":990,"$p":7}`))

	stream, id := "$scavenges-"+theirs, messages.AppendGUID(nil, uuid.MustParse(theirs))
	for command, m := range map[messages.Command]proto.Message{
		messages.ReadAllEventsForward: &pb.ReadAllEvents{CommitPosition: proto.Int64(1000), PreparePosition: proto.Int64(-1)},
		messages.TransactionCommit:    &pb.TransactionCommit{TransactionId: proto.Int64(1000)},
		messages.ReadEvent:            &pb.ReadEvent{EventStreamId: &stream},
		messages.PersistentSubscriptionAckEvents: &pb.PersistentSubscriptionAckEvents{
			SubscriptionId: proto.String("s"), ProcessedEventIds: [][]byte{id},
		},
	} {
		body, err := proto.MarshalOptions{AllowPartial: true}.Marshal(m)
		require.NoError(t, err)
		filled, err := k.request(&line{command: command, body: body})
		require.NoError(t, err)
		require.NotEqual(t, body, filled, "%s", command)
		again := messageOf(command)
		require.NoError(t, decode(filled, again))
		switch m := again.(type) {
		case *pb.ReadAllEvents:
			require.EqualValues(t, 50, m.GetCommitPosition())
			require.EqualValues(t, -1, m.GetPreparePosition())
		case *pb.TransactionCommit:
			require.EqualValues(t, 50, m.GetTransactionId())
		case *pb.ReadEvent:
			require.Equal(t, "$scavenges-"+mine, m.GetEventStreamId())
		case *pb.PersistentSubscriptionAckEvents:
			require.Equal(t, messages.AppendGUID(nil, uuid.MustParse(mine)), m.GetProcessedEventIds()[0])
		}
	}
}

func recorded(t *testing.T, path string) (*recording, []line) {
	t.Helper()
	lines, err := readCapture(filepath.Join(capturesDir, filepath.FromSlash(path)))
	require.NoError(t, err)
	return recordingOf(t, path), lines
}

// recordingOf is what the manifest says of a file.
func recordingOf(t *testing.T, path string) *recording {
	t.Helper()
	m, err := readManifest(capturesDir)
	require.NoError(t, err)
	i := slices.IndexFunc(m.files, func(r *recording) bool { return r.path == path })
	require.NotEqual(t, -1, i)
	return m.files[i]
}

func at(t *testing.T, lines []line, n int) *line {
	t.Helper()
	i := slices.IndexFunc(lines, func(l line) bool { return l.n == n })
	require.NotEqual(t, -1, i)
	return &lines[i]
}

// changed changes the message of one frame.
func changed[M any, P interface {
	*M
	proto.Message
}](n int, change func(P)) func(*testing.T, []line) []line {
	return func(t *testing.T, lines []line) []line {
		t.Helper()
		l := at(t, lines, n)
		m := P(new(M))
		require.NoError(t, decode(l.body, m))
		change(m)
		var err error
		l.body, err = proto.MarshalOptions{AllowPartial: true}.Marshal(m)
		require.NoError(t, err)
		return lines
	}
}
