package server

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
	"github.com/goeventstore/eventstore/server/internal/store"
)

var scavengeRequest = messages.Raw(messages.ScavengeDatabase, nil)

func (p *peer) scavenge(credentials ...string) *pb.ScavengeDatabaseCompleted {
	p.t.Helper()
	return p.scavenged(p.call(scavengeRequest, credentials...))
}

func (p *peer) scavenged(a answer) *pb.ScavengeDatabaseCompleted {
	p.t.Helper()
	var m pb.ScavengeDatabaseCompleted
	require.Equal(p.t, messages.ScavengeDatabaseCompleted, a.command, "%s", a.body)
	require.NoError(p.t, messages.Reply{Command: a.command, Body: a.body}.Unmarshal(&m))
	return &m
}

// names are the records of the log that are not the server's own.
func (n *node) names(t *testing.T) []string {
	t.Helper()
	names := []string{}
	require.NoError(t, n.store.Log(store.Position{}, n.store.Tip().Commit, func(r *store.Record) bool {
		if r.Kind != store.Event {
			names = append(names, "void")
		} else if !strings.Contains(r.Stream, scavengesStream) {
			names = append(names, fmt.Sprintf("%d@%s", r.Number, r.Stream))
		}
		return true
	}))
	return withoutUsers(names)
}

// TestScavenge: what goes is what nobody can read, but for the last event of a stream, a tombstone and the metadata.
func TestScavenge(t *testing.T) {
	n := run(t)
	p := n.peer(t)
	var want []string
	for stream, c := range map[string]struct {
		metadata string
		then     func(stream string)
		stays    string // the numbers
		meta     string // those of the metadata
	}{
		"plain":     {stays: "0 1 2 3 4"},
		"count":     {metadata: `{"$maxCount":2}`, stays: "3 4", meta: "0"},
		"tb":        {metadata: `{"$tb":3}`, stays: "3 4", meta: "0"},
		"tb behind": {metadata: `{"$tb":50}`, stays: "4", meta: "0"},
		"age":       {metadata: `{"$maxAge":1000000000}`, stays: "0 1 2 3 4", meta: "0"},
		"twice":     {metadata: `{"$tb":3}`, then: func(s string) { p.metadata(s, `{"$tb":2}`) }, stays: "2 3 4", meta: "1"},
		"soft":      {then: func(s string) { p.delete(s, expectAny, false) }, stays: "4", meta: "0"},
		"undeleted": {then: func(s string) { p.delete(s, expectAny, false); p.append(s, expectAny, "z") }, stays: "5", meta: "1"},
		"hard":      {metadata: `{"$tb":3}`, then: func(s string) { p.delete(s, expectAny, true) }, stays: "9223372036854775807"},
		"never":     {then: func(s string) { p.delete(s, expectAny, true) }, stays: "9223372036854775807"},
		"empty":     {then: func(s string) { p.append(s, expectAny, "") }, stays: "0 1 2 3 4"},
	} {
		if stream != "never" {
			p.appended(stream, expectNoStream, "abcde")
		}
		if c.metadata != "" {
			p.metadata(stream, c.metadata)
		}
		if c.then != nil {
			c.then(stream)
		}
		for number := range strings.FieldsSeq(c.stays) {
			want = append(want, number+"@"+stream)
		}
		for number := range strings.FieldsSeq(c.meta) {
			want = append(want, number+"@$$"+stream)
		}
	}
	p.appended("known", expectNoStream, "uvw")
	p.metadata("known", `{"$maxCount":1}`)
	want = append(want, "2@known", "0@$$known")
	before := p.answers()
	require.Greater(t, len(n.names(t)), len(want))
	m := p.scavenge("ops", "changeit")
	require.Equal(t, pb.ScavengeDatabaseCompleted_Success, m.GetResult())
	require.Nil(t, m.Error)
	require.NotNil(t, m.TotalTimeMs)
	require.Positive(t, m.GetTotalSpaceSaved())
	require.ElementsMatch(t, want, n.names(t))
	require.Equal(t, before, p.answers(), "nobody can see it in a stream")
	require.Zero(t, p.scavenge("admin", "changeit").GetTotalSpaceSaved())

	// Numbers and versions go on as if nothing had happened.
	require.EqualValues(t, 5, p.appended("tb behind", 4, "f").First)
	require.EqualValues(t, 5, p.appended("soft", expectNoStream, "f").First)
	require.Equal(t, messages.StreamDeleted, p.append("hard", expectAny, "f").Result)
	require.EqualValues(t, 4, p.append("count", 2, "x").CurrentVersion)
	require.Equal(t, []int64{5}, p.forward("soft", 0, 9).numbers)
	require.Equal(t, completed(0, 2, -1), p.append("known", expectNoStream, "uvw"), "the ids are remembered")
}

// answers is what the streams look like from outside.
func (p *peer) answers() []string {
	p.t.Helper()
	var all []string
	for _, stream := range []string{"plain", "count", "tb", "tb behind", "age", "twice", "soft", "undeleted", "hard", "never", "empty", "none"} {
		for _, name := range []string{stream, "$$" + stream} {
			forward, backward, last := p.forward(name, 0, 9), p.backward(name, -1, 2), p.readEvent(name, -1)
			all = append(all, fmt.Sprint(name, forward, backward, last.Result, p.readEvent(name, 3).Result))
		}
	}
	return all
}

// TestScavengeByAge: what has expired goes, but for the last event.
func TestScavengeByAge(t *testing.T) {
	now := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	n := run(t)
	n.writer.now = func() time.Time { return now }
	p := n.peer(t)
	for _, letter := range []string{"a", "b", "c", "d"} {
		p.appended("old", expectAny, letter)
		p.appended("new", expectAny, letter)
		now = now.Add(time.Hour)
	}
	p.metadata("old", `{"$maxAge":60}`)
	p.metadata("new", `{"$maxAge":9000}`)
	p.scavenge("admin", "changeit")
	require.ElementsMatch(t, []string{"3@old", "2@new", "3@new", "0@$$old", "0@$$new"}, n.names(t))
}

// TestScavengeOfAnAgeWithoutAnEnd: an age that reaches back behind the year 1 hides everything, and removes nothing.
func TestScavengeOfAnAgeWithoutAnEnd(t *testing.T) {
	n := run(t)
	p := n.peer(t)
	p.appended("s", expectAny, "abc")
	p.metadata("s", `{"$maxAge":800000000000}`)
	require.Equal(t, pb.ScavengeDatabaseCompleted_Success, p.scavenge("admin", "changeit").GetResult())
	require.ElementsMatch(t, []string{"0@s", "1@s", "2@s", "0@$$s"}, n.names(t))
}

// TestScavengedPlacesAreStillPlaces: from wherever a page of all streams began or went on before, it goes on behind a
// scavenge, without what that removed.
func TestScavengedPlacesAreStillPlaces(t *testing.T) {
	n := run(t)
	p := n.peer(t)
	begin := n.store.Tip().End
	write := func(stream string) {
		for _, letters := range []string{"ab", "", "cd", "e"} {
			p.appended(stream, expectAny, letters)
		}
	}
	write("a")
	one, other := p.start("t", expectAny), p.start("t", expectAny)
	p.addTo(one, "ab")
	write("b")
	p.addTo(other, "c")
	p.addTo(one, "c")
	p.commit(one)
	write("c")
	type read struct{ forward, backward []string }
	pages := map[store.Position]read{} // what is behind and before each place
	there := func(place store.Position) read {
		forward := p.all(messages.AllRead{Commit: place.Commit, Prepare: place.Prepare, Count: maxReadCount})
		require.Equal(t, messages.ReadAllSuccess, forward.result, "%v: %s", place, forward.text)
		backward := p.all(messages.AllRead{Commit: place.Commit, Prepare: place.Prepare, Count: maxReadCount, Backward: true})
		require.Equal(t, messages.ReadAllSuccess, backward.result, "%v: %s", place, backward.text)
		return read{withoutUsers(forward.events), withoutUsers(backward.events)}
	}
	for _, backward := range []bool{false, true} {
		m := messages.AllRead{Commit: begin, Count: 1, Backward: backward}
		if backward {
			m.Commit, m.Prepare = -1, -1
		}
		for {
			page := p.all(m)
			if len(page.events) == 0 {
				break
			}
			m.Commit, m.Prepare = page.next.Commit, page.next.Prepare
			pages[page.next] = read{}
		}
	}
	require.Greater(t, len(pages), 18)
	for place := range pages {
		pages[place] = there(place)
	}
	last := n.store.Tip().Commit
	for _, stream := range []string{"a", "b", "c", "t"} {
		p.metadata(stream, `{"$maxCount":1}`)
	}
	p.scavenge("admin", "changeit")
	require.Equal(t, []string{"4@a", "4@b", "2@t", "4@c"}, p.all(messages.AllRead{Commit: begin, Count: 4}).events)
	for place, before := range pages {
		now := there(place)
		left := func(events []string) []string {
			out := slices.DeleteFunc(slices.Clone(events), func(e string) bool {
				return !slices.Contains([]string{"4@a", "4@b", "2@t", "4@c"}, e)
			})
			return append([]string{}, out...)
		}
		require.ElementsMatch(t, left(before.forward), left(now.forward), "%v", place)
		require.Equal(t, left(before.backward), left(now.backward), "%v", place)
	}
	// Behind what was scavenged a place is one where a record begins, as ever.
	require.Equal(t, messages.ReadAllSuccess, p.tail(last-1).result)
	require.Equal(t, messages.ReadAllError, p.tail(n.store.Tip().Commit-1).result)
	require.Greater(t, n.store.Tip().Commit, n.store.ScavengedTo())
}

func TestScavengeIsForOperators(t *testing.T) {
	n := run(t)
	p := n.peer(t)
	p.appended("s", expectAny, "ab")
	p.metadata("s", `{"$maxCount":1}`)
	m := p.scavenge()
	require.Equal(t, pb.ScavengeDatabaseCompleted_Failed, m.GetResult())
	require.Equal(t, textAccessDenied, m.GetError())
	require.Len(t, n.names(t), 3)
	require.EqualValues(t, 0, n.view().must(t, scavengesStream).last, "it leaves a trace")
}

func (v view) must(t *testing.T, stream string) streamInfo {
	t.Helper()
	info, err := v.info(stream)
	require.NoError(t, err)
	return info
}

// TestOneScavengeAtATime: the second of two in one segment is told so before the first one is through.
func TestOneScavengeAtATime(t *testing.T) {
	p := run(t).peer(t)
	first, second, third := p.id(), p.id(), p.id()
	admin := []string{"admin", "changeit"}
	p.write(slices.Concat(
		frame(t, first, scavengeRequest, admin...), frame(t, second, scavengeRequest, admin...), frame(t, third, scavengeRequest),
	))
	for _, id := range []messages.ID{second, third} { // also who may not
		a := p.next()
		require.Equal(t, id, a.id)
		m := p.scavenged(a)
		require.Equal(t, pb.ScavengeDatabaseCompleted_InProgress, m.GetResult())
		require.Equal(t, textScavengeInProgress, m.GetError())
		require.Zero(t, m.GetTotalTimeMs())
	}
	require.Equal(t, pb.ScavengeDatabaseCompleted_Success, p.scavenged(p.reply(first)).GetResult())
	require.Equal(t, pb.ScavengeDatabaseCompleted_Success, p.scavenge(admin...).GetResult())
}

// TestScavengeIsInterrupted: the end of the server does not wait for it.
func TestScavengeIsInterrupted(t *testing.T) {
	n := run(t)
	p := n.peer(t)
	for i := range 200 {
		p.appended(fmt.Sprint("s", i), expectAny, "abcdefghij")
	}
	p.send(scavengeRequest, "admin", "changeit")
	require.NoError(t, n.Close())
}

// TestTracesThatCannotBeWritten: a scavenge runs all the same.
func TestTracesThatCannotBeWritten(t *testing.T) {
	p := run(t).peer(t)
	hard := true
	stream, version := scavengesStream, expectAny
	a := p.call(messages.Of(messages.DeleteStream, &pb.DeleteStream{EventStreamId: &stream, ExpectedVersion: &version, HardDelete: &hard}),
		"admin", "changeit")
	require.Equal(t, messages.DeleteStreamCompleted, a.command)
	require.Equal(t, pb.ScavengeDatabaseCompleted_Success, p.scavenge("admin", "changeit").GetResult())
}

// TestScavengeFreesMemory: of 100 events one stays, and so does about a hundredth of what they took.
func TestScavengeFreesMemory(t *testing.T) {
	t.Setenv(onDisk, "") // there is nothing to free in memory then
	n := run(t)
	p := n.peer(t)
	p.metadata("s", `{"$maxCount":200}`)
	heap := func() int64 {
		for range 3 { // a pool, and with it the server of an earlier test, is let go in the second
			runtime.GC()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	empty := heap()
	batch := make([]messages.NewEvent, 500)
	for range 40 {
		for i := range batch {
			batch[i] = messages.NewEvent{ID: uuid.New(), Type: "t", Data: make([]byte, 1000)}
		}
		p.call(&messages.Append{Stream: "s", Expected: expectAny, Events: batch})
	}
	for i := range batch {
		batch[i] = messages.NewEvent{}
	}
	full := heap() - empty
	require.Greater(t, full, int64(20_000_000))
	p.scavenge("admin", "changeit")
	require.Equal(t, int64(19_800), p.forward("s", 0, 1).next)
	ids := int64(20_000 * 150) // are remembered all the same
	require.Less(t, heap()-empty, full/20+ids+1<<20)
}

func TestTimeSpans(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "00:00:00", 58_700: "00:00:00.0000587", time.Second: "00:00:01", 61*time.Minute + 1500*time.Millisecond: "01:01:01.5000000",
		25*time.Hour + time.Minute: "1.01:01:00",
	} {
		require.Equal(t, want, timeSpan(d))
	}
}
