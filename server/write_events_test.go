package server

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// outcome is an answer to a write without its positions.
type outcome struct {
	result      messages.OperationResult
	first, last int64
	current     int64
	stored      bool // the positions are real ones
}

func (p *peer) outcome(stream string, expected int64, letters string) outcome {
	p.t.Helper()
	m := p.append(stream, expected, letters)
	require.True(p.t, m.HasPosition)
	require.True(p.t, m.HasCurrent)
	if m.Result != messages.Success { // 4.4: the constants of a failure
		require.Equal(p.t, messages.FailedNumber, m.First)
		require.Equal(p.t, messages.FailedNumber, m.Last)
		require.Equal(p.t, messages.FailedNumber, m.Prepare)
		require.Zero(p.t, m.Commit)
		require.Equal(p.t, refusal(m.Result), m.Message)
		return outcome{result: m.Result, current: m.CurrentVersion}
	}
	require.Equal(p.t, m.Prepare, m.Commit)
	require.Empty(p.t, m.Message)
	require.Zero(p.t, m.CurrentVersion)
	if m.Commit < 0 {
		require.EqualValues(p.t, -1, m.Commit)
	}
	return outcome{first: m.First, last: m.Last, stored: m.Commit >= 0}
}

func stored(first, last int64) outcome { return outcome{first: first, last: last, stored: true} }
func again(first, last int64) outcome  { return outcome{first: first, last: last} }
func wrong(current int64) outcome {
	return outcome{result: messages.WrongExpectedVersion, current: current}
}

var gone = outcome{result: messages.StreamDeleted, current: -1}

// TestDecisionProcedure has the rows of 4.3: what was there before, a write, and its outcome. Letters are event ids; in
// before, "abc" is one write with Any, "-" a soft delete, "!" a hard one, "m" metadata, "2:ab" a write to another stream,
// "0=ab" a write with an exact version.
func TestDecisionProcedure(t *testing.T) {
	tests := []struct {
		what     string
		before   []string
		expected int64
		letters  string
		want     outcome
		last     int64 // of the stream afterwards, in the store
	}{
		{"1: hard-deleted, any", []string{"a", "!"}, -2, "b", gone, 0},
		{"1: hard-deleted, none", []string{"a", "!"}, -1, "b", gone, 0},
		{"1: hard-deleted, exists", []string{"a", "!"}, -4, "b", gone, 0},
		{"1: hard-deleted, exact", []string{"a", "!"}, 0, "b", gone, 0},
		{"1: hard-deleted, the old id", []string{"a", "!"}, -1, "a", gone, 0},
		{"1: hard-deleted, nothing to write", []string{"a", "!"}, -2, "", gone, 0},
		{"1: hard-deleted before it was written", []string{"!"}, -1, "a", gone, -1},

		{"2: exists, there", []string{"a"}, -4, "b", stored(1, 1), 1},
		{"2: exists, not there", nil, -4, "a", wrong(-1), -1},
		{"2: exists, soft-deleted", []string{"a", "-"}, -4, "b", gone, 0},
		{"2: exists, metadata only", []string{"m"}, -4, "a", stored(0, 0), 0},
		{"2: exists, after an empty write", []string{""}, -4, "a", wrong(-1), -1},

		{"3: any, new stream", nil, -2, "ab", stored(0, 1), 1},
		{"3: any, the same batch", []string{"ab"}, -2, "ab", again(0, 1), 1},
		{"3: exists, the same batch", []string{"ab"}, -4, "ab", again(0, 1), 1},
		{"3: any, the batch of an exact write", []string{"-1=ab"}, -2, "ab", again(0, 1), 1},
		{"3: any, part of it", []string{"ab"}, -2, "b", again(1, 1), 1},
		{"3: any, old then new", []string{"ab"}, -2, "ax", wrong(1), 1},
		{"3: any, new then old", []string{"ab"}, -2, "xa", stored(2, 3), 3},
		{"3: any, one id twice", nil, -2, "xx", stored(0, 1), 1},
		{"3: any, one id twice, again", []string{"xx"}, -2, "xx", again(0, 0), 1},
		{"3: any, not adjacent", []string{"abd"}, -2, "ad", again(0, 2), 2},
		{"3: any, old ids in descending order", []string{"abd"}, -2, "da", wrong(2), 2},
		{"3: any, used in another stream", []string{"2:a"}, -2, "a", stored(0, 0), 0},
		{"3: any, used in another stream, again", []string{"2:a", "a"}, -2, "a", stored(1, 1), 1},
		{"3: any, soft-deleted, the old id", []string{"a", "-"}, -2, "a", again(0, 0), 0},
		{"3: any, soft-deleted, a new id", []string{"ab", "-"}, -2, "c", stored(2, 2), 2},
		{"3: any, soft-deleted before it was written", []string{"-"}, -2, "a", stored(0, 0), 0},

		{"4: none, the same batch", []string{"-1=ab"}, -1, "ab", again(0, 1), 1},
		{"4: none, the batch of any", []string{"a"}, -1, "a", again(0, 0), 0},
		{"4: none, later events behind", []string{"-1=ab", "c"}, -1, "ab", again(0, 1), 2},
		{"4: none, its first event", []string{"-1=ab"}, -1, "a", again(0, 0), 1},
		{"4: none, its second event", []string{"-1=ab"}, -1, "b", wrong(1), 1},
		{"4: exact, its second event", []string{"-1=ab"}, 0, "b", again(1, 1), 1},
		{"4: none, swapped", []string{"-1=ab"}, -1, "ba", wrong(1), 1},
		{"4: none, one more", []string{"-1=ab"}, -1, "abx", wrong(1), 1},
		{"4: none, other second", []string{"-1=ab"}, -1, "ax", wrong(1), 1},
		{"4: none, other ids", []string{"-1=a"}, -1, "x", wrong(0), 0},
		{"4: exact, other ids", []string{"-1=ab"}, 0, "x", wrong(1), 1},
		{"4: none, the stored id counts when the memory has another", []string{"2:a", "a"}, -1, "a", again(0, 0), 0},
		{"4: none, soft-deleted, the old id", []string{"a", "-"}, -1, "a", again(0, 0), 0},
		{"4: none, soft-deleted, a new id", []string{"ab", "-"}, -1, "c", stored(2, 2), 2},
		{"4: none, soft-deleted, old then new", []string{"ab", "-"}, -1, "ax", wrong(1), 1},
		{"4: exact, soft-deleted, behind", []string{"abc", "-"}, 1, "x", wrong(2), 2},
		{"4: none, no events", []string{"a"}, -1, "", wrong(0), 0},

		{"5: exact, not there", nil, 0, "a", wrong(-1), -1},
		{"5: exact, beyond the end", []string{"ab"}, 7, "x", wrong(1), 1},
		{"5: exact, the largest number", nil, messages.DeletedNumber, "a", wrong(-1), -1},
		{"5: exact, over 32 bits", []string{"a"}, 1<<31 + 5, "x", wrong(0), 0},
		{"5: exact, soft-deleted, beyond", []string{"abc", "-"}, 3, "x", wrong(2), 2},
		{"5: exact, the first write beyond, its id known", []string{"a"}, 5, "a", wrong(0), 0},

		{"6: none, new stream", nil, -1, "abc", stored(0, 2), 2},
		{"6: exact, current", []string{"ab"}, 1, "c", stored(2, 2), 2},
		{"6: exact, current, the same ids again", []string{"-1=ab"}, 1, "ab", stored(2, 3), 3},
		{"6: exact, soft-deleted, the old last", []string{"abc", "-"}, 2, "x", stored(3, 3), 3},
		{"6: none, soft-deleted before it was written", []string{"-"}, -1, "a", stored(0, 0), 0},

		{"empty: any, no stream", nil, -2, "", stored(0, -1), -1},
		{"empty: none, no stream", nil, -1, "", stored(0, -1), -1},
		{"empty: exists, no stream", nil, -4, "", wrong(-1), -1},
		{"empty: exact, no stream", nil, 0, "", wrong(-1), -1},
		{"empty: any", []string{"abc"}, -2, "", stored(3, 2), 2},
		{"empty: exists", []string{"abc"}, -4, "", stored(3, 2), 2},
		{"empty: exact", []string{"abc"}, 2, "", stored(3, 2), 2},
		{"empty: behind", []string{"abc"}, 0, "", wrong(2), 2},
		{"empty: none", []string{"abc"}, -1, "", wrong(2), 2},
		{"empty: beyond", []string{"abc"}, 3, "", wrong(2), 2},
		{"empty: soft-deleted", []string{"abc", "-"}, -2, "", stored(3, 2), 2},
	}
	for _, test := range tests {
		t.Run(test.what, func(t *testing.T) {
			n := run(t)
			p := n.peer(t)
			for _, step := range test.before {
				p.prepare("s", step)
			}
			require.Equal(t, test.want, p.outcome("s", test.expected, test.letters))
			head, err := n.store.Head("s", n.store.Tip().Commit)
			require.NoError(t, err)
			require.Equal(t, test.last, head.Last)
		})
	}
}

// prepare does a step of the table above.
func (p *peer) prepare(stream, step string) {
	p.t.Helper()
	other, letters, elsewhere := strings.Cut(step, ":")
	version, exact, isExact := strings.Cut(step, "=")
	switch {
	case step == "-":
		require.Equal(p.t, pb.OperationResult_Success, p.delete(stream, expectAny, false).GetResult())
	case step == "!":
		require.Equal(p.t, pb.OperationResult_Success, p.delete(stream, expectAny, true).GetResult())
	case step == "m":
		require.Equal(p.t, messages.Success, p.metadata(stream, `{"a":1}`).Result)
	case elsewhere:
		p.appended(other, expectAny, letters)
	case isExact:
		require.Equal(p.t, "-1", version)
		p.appended(stream, expectNoStream, exact)
	default:
		p.appended(stream, expectAny, step)
	}
}

// TestIdempotentWritesAreNotCompared: the ids decide, the data do not.
func TestIdempotentWritesAreNotCompared(t *testing.T) {
	p := run(t).peer(t)
	p.appended("s", expectNoStream, "a")
	a := p.call(&messages.Append{Stream: "s", Expected: expectNoStream, Events: []messages.NewEvent{
		{ID: eventID("a"), Type: "other", Data: []byte("other")},
	}})
	var m messages.AppendCompleted
	require.NoError(t, m.Decode(a.body))
	require.Equal(t, messages.AppendCompleted{HasPosition: true, Prepare: -1, Commit: -1, HasCurrent: true}, m)
	require.Equal(t, "t", p.readEvent("s", 0).Event.Event.Type)
}

// TestForgottenIDs: with Any an id counts for as long as the memory has it, with an exact version for ever.
func TestForgottenIDs(t *testing.T) {
	n := run(t)
	p := n.peer(t)
	p.appended("s", expectNoStream, "a")
	long := strings.Repeat("x", 1<<20) // one id costs 2 MiB
	for i := range 5 {
		p.appended(long, expectAny, string(rune('c'+i)))
	}
	require.Equal(t, again(0, 0), p.outcome("s", expectNoStream, "a"))
	require.Equal(t, stored(1, 1), p.outcome("s", expectAny, "a"))
}

func TestPositionsGrowByTheRecord(t *testing.T) {
	n := run(t)
	p, start := n.peer(t), n.store.Tip().End
	// Sizes as recorded: 112 bytes for a stream of 14 characters, a type of 1 and 7 bytes of data.
	first := p.appended("w-any-fa9e9fc5", expectAny, "a")
	require.Equal(t, start, first.Commit)
	second := p.appended("w-no-430c3bab", expectNoStream, "bcd")
	require.Equal(t, start+112+2*111, second.Commit, "of the last event of the batch")
	empty := p.appended("w-empty-68dc8459", expectAny, "")
	require.Equal(t, second.Commit+111, empty.Commit)
	next := p.appended("w-empty-68dc8459", expectAny, "")
	require.Equal(t, empty.Commit+106, next.Commit)
	require.EqualValues(t, 407, recordSize("W-"+strings.Repeat("n", 306), &messages.NewEvent{Type: "t", Data: []byte(`{"a":1}`)}))
}

func TestWriteContents(t *testing.T) {
	p := run(t).peer(t)
	a := p.call(&messages.Append{Stream: "s", Expected: expectNoStream, Events: []messages.NewEvent{
		{ID: eventID("a"), Type: "t", ContentType: 1, MetadataType: 0, Data: []byte("not json"), Metadata: []byte("m")},
		{ID: eventID("b"), Type: "t", ContentType: 2, MetadataType: 1, Data: []byte("x")},
		{ID: eventID("c"), Type: "Größe ✓ x", Data: nil},
	}})
	require.Equal(t, messages.WriteEventsCompleted, a.command)
	var got []messages.EventRecord
	for n := range int64(3) {
		got = append(got, p.readEvent("s", n).Event.Event)
	}
	require.EqualValues(t, 1, got[0].ContentType)
	require.EqualValues(t, 1, got[0].MetadataType, "it repeats the data's")
	require.Equal(t, "not json", string(got[0].Data), "JSON is not checked")
	require.Equal(t, "m", string(got[0].Metadata))
	require.EqualValues(t, 0, got[1].ContentType)
	require.EqualValues(t, 0, got[1].MetadataType)
	require.NotNil(t, got[1].Metadata, "missing metadata come as empty")
	require.Empty(t, got[1].Metadata)
	require.Equal(t, "Größe ✓ x", got[2].Type)
	for _, e := range got {
		require.Equal(t, got[0].Created, e.Created)
		require.Equal(t, e.CreatedEpoch, e.CreatedTime().UnixMilli())
	}
}

func TestRefusedWrites(t *testing.T) {
	event := messages.NewEvent{ID: eventID("a"), Type: "t", Data: []byte("x")}
	with := func(change func(*messages.NewEvent)) []messages.NewEvent {
		e := event
		change(&e)
		return []messages.NewEvent{e}
	}
	tests := map[string]messages.Append{
		"no stream":            {Expected: expectAny, Events: []messages.NewEvent{event}},
		"the stream $$":        {Stream: "$$", Expected: expectAny, Events: []messages.NewEvent{event}},
		"expected -3":          {Stream: "s", Expected: -3, Events: []messages.NewEvent{event}},
		"expected -5":          {Stream: "s", Expected: -5, Events: []messages.NewEvent{event}},
		"no type":              {Stream: "s", Expected: expectAny, Events: with(func(e *messages.NewEvent) { e.Type = "" })},
		"no id":                {Stream: "s", Expected: expectAny, Events: with(func(e *messages.NewEvent) { e.ID = uuid.UUID{} })},
		"an event too large":   {Stream: "s", Expected: expectAny, Events: with(func(e *messages.NewEvent) { e.Data = make([]byte, maxEventSize-1) })},
		"its metadata counted": {Stream: "s", Expected: expectAny, Events: with(func(e *messages.NewEvent) { e.Metadata = make([]byte, maxEventSize-2) })},
		"the second of two":    {Stream: "s", Expected: expectAny, Events: append(events("b"), with(func(e *messages.NewEvent) { e.Type = "" })...)},
	}
	p := run(t).peer(t)
	for name, request := range tests {
		a := p.call(&request)
		require.Equal(t, messages.BadRequest, a.command, name)
		require.Equal(t, "Could not unwrap network package for command WriteEvents.\n", string(a.body), name)
	}
	require.Equal(t, messages.ReadStreamNoStream, p.forward("s", 0, 1).result)
	largest := with(func(e *messages.NewEvent) { e.Data = make([]byte, maxEventSize-2) })
	a := p.call(&messages.Append{Stream: "s", Expected: expectAny, Events: largest})
	require.Equal(t, messages.WriteEventsCompleted, a.command)
}

// TestNamesAloneDeny: what no list of rights can allow, and what the built-in ones do not.
func TestNamesAloneDeny(t *testing.T) {
	p := run(t).peer(t)
	for name, test := range map[string]struct {
		stream string
		admin  bool
		denied bool
	}{
		"all, anonymous":                  {"$all", false, true},
		"all, admin":                      {"$all", true, true},
		"a system stream, anonymous":      {"$x", false, true},
		"a system stream, admin":          {"$x", true, false},
		"metadata, anonymous":             {"$$x", false, false},
		"metadata of a system stream":     {"$$$x", false, true},
		"metadata of a metastream":        {"$$$$x", false, true},
		"metadata of a metastream, admin": {"$$$$x", true, true},
		"metadata of all":                 {"$$$all", false, true},
		"metadata of all, admin":          {"$$$all", true, false},
	} {
		credentials := []string{}
		if test.admin {
			credentials = []string{"admin", "changeit"}
		}
		a := p.call(&messages.Append{Stream: test.stream, Expected: expectAny, Events: events("a")}, credentials...)
		var m messages.AppendCompleted
		require.NoError(t, m.Decode(a.body), name)
		require.Equal(t, test.denied, m.Result == messages.AccessDenied, name)
		if test.denied {
			require.Equal(t, refused(messages.AccessDenied, -1), m, name)
		}
	}
}

// TestTheSameWriteTwiceInOneSegment: the second is not decided while the first is not committed, and is told so when the
// server next looks for what is over 2 s old, which it does each second of its life.
func TestTheSameWriteTwiceInOneSegment(t *testing.T) {
	for at, want := range map[time.Duration]time.Duration{
		0: 2 * time.Second, time.Millisecond: 3 * time.Second, 900 * time.Millisecond: 3 * time.Second, time.Second: 3 * time.Second,
	} {
		for _, expected := range []int64{expectNoStream, expectAny} {
			synctest.Test(t, func(t *testing.T) {
				n := run(t)
				began := time.Now()
				p := n.peer(t)
				time.Sleep(at)
				request := &messages.Append{Stream: "s", Expected: expected, Events: events("a")}
				first, second, third := p.id(), p.id(), p.id()
				p.write(slices.Concat(frame(t, first, request), frame(t, second, request), frame(t, third, messages.Raw(messages.Ping, nil))))
				var m messages.AppendCompleted
				require.NoError(t, m.Decode(p.reply(first).body))
				require.Equal(t, completed(0, 0, m.Commit), m)
				require.Equal(t, messages.Pong, p.reply(third).command)
				require.Equal(t, at, time.Since(began))
				require.NoError(t, m.Decode(p.reply(second).body))
				require.Equal(t, refused(messages.CommitTimeout, -1), m)
				require.Equal(t, want, time.Since(began), "sent after %s", at)
				require.Equal(t, completed(0, 0, -1), p.append("s", expected, "a"))
			})
		}
	}
}

// TestWhatTimesOutIsForgottenWithItsConnection: nobody waits for it, and it hurts nobody when it is due.
func TestWhatTimesOutIsForgottenWithItsConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := run(t)
		p, other := n.peer(t), n.peer(t)
		request := &messages.Append{Stream: "s", Expected: expectAny, Events: events("a")}
		first, second := p.id(), p.id()
		p.write(slices.Concat(frame(t, first, request), frame(t, second, request)))
		p.reply(first)
		require.NoError(t, p.conn.Close())
		time.Sleep(4 * time.Second)
		other.appended("s", 0, "b")
		p = n.peer(t)
		p.write(slices.Concat(frame(t, first, request), frame(t, second, request))) // both are known now
		p.reply(first)
		p.reply(second)
		began := time.Now()
		require.NoError(t, n.Close())
		require.Zero(t, time.Since(began))
	})
}
