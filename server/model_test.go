package server

import (
	"flag"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/goeventstore/eventstore/internal/faultnet"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// The model of a server is plain and slow: it says what protocol 4 says, in its order, and shares nothing with the server.

const softly = math.MaxInt64 // the $tb of a soft-deleted stream

// modelMetadata is what a metadata event says. What is no JSON says nothing.
type modelMetadata struct {
	maxCount int64
	tb       int64
	hasTB    bool
	broken   bool
}

func (m modelMetadata) json() string {
	var keys []string
	if m.maxCount > 0 {
		keys = append(keys, fmt.Sprintf(`"$maxCount":%d`, m.maxCount))
	}
	if m.hasTB {
		keys = append(keys, fmt.Sprintf(`"$tb":%d`, m.tb))
	}
	if m.broken {
		return "not json"
	}
	return "{" + strings.Join(keys, ",") + "}"
}

// modelStream is a stream with its metastream.
type modelStream struct {
	ids  []string // by number
	gone map[int]bool
	meta []modelMetadata
	hard bool
	// forgotten: the metadata of a hard-deleted stream were scavenged.
	forgotten bool
}

func (s *modelStream) last() int64 { return int64(len(s.ids)) - 1 }

func (s *modelStream) now() modelMetadata {
	if len(s.meta) == 0 || s.meta[len(s.meta)-1].broken {
		return modelMetadata{}
	}
	return s.meta[len(s.meta)-1]
}

func (s *modelStream) soft() bool { return s.now().tb == softly }

// undelete adds the metadata that bring a soft-deleted stream back with what was written from a number on.
func (s *modelStream) undelete(from int64) {
	m := s.meta[len(s.meta)-1]
	if m.broken {
		return
	}
	m.tb, m.hasTB = from, true
	s.meta = append(s.meta, m)
}

type modelServer struct {
	streams map[string]*modelStream
	first   map[string]string // where an id was used first, "number@stream"
}

// modelAnswer is what a write is answered.
type modelAnswer struct {
	result      messages.OperationResult
	first, last int64
	current     int64 // of a refusal
	stored      bool
}

func modelRefusal(result messages.OperationResult, current int64) modelAnswer {
	return modelAnswer{result: result, first: math.MinInt32, last: math.MinInt32, current: current}
}

// write is 4.3, with its numbers.
func (m *modelServer) write(name string, expected int64, ids []string) modelAnswer {
	s := m.streams[name]
	wrong := modelRefusal(messages.WrongExpectedVersion, s.last())
	if s.hard { // 1
		return modelRefusal(messages.StreamDeleted, -1)
	}
	if expected == -4 { // 2
		if s.soft() {
			return modelRefusal(messages.StreamDeleted, -1)
		}
		if s.last() < 0 && len(s.meta) == 0 {
			return wrong
		}
	}
	switch {
	case expected == -2 || expected == -4: // 3
		var numbers []int64
		for _, id := range ids {
			number, stream, _ := strings.Cut(m.first[id], "@")
			if stream != name {
				break
			}
			n, _ := strconv.ParseInt(number, 10, 64)
			numbers = append(numbers, n)
		}
		switch {
		case len(ids) == 0 || len(numbers) == 0:
		case len(numbers) < len(ids):
			return wrong
		case numbers[len(numbers)-1] < numbers[0]: // never answered by a real server
			return wrong
		default:
			return modelAnswer{first: numbers[0], last: numbers[len(numbers)-1]}
		}
	case expected < s.last(): // 4
		for i, id := range ids {
			n := expected + 1 + int64(i)
			at := n <= s.last() && !s.gone[int(n)] && s.ids[n] == id
			if at || m.first[id] == fmt.Sprintf("%d@%s", n, name) {
				continue
			}
			if i == 0 && expected == -1 && s.soft() {
				return m.store(name, ids)
			}
			return wrong
		}
		if len(ids) == 0 {
			return wrong
		}
		return modelAnswer{first: expected + 1, last: expected + int64(len(ids))}
	case expected > s.last(): // 5
		return wrong
	}
	return m.store(name, ids) // 6
}

func (m *modelServer) store(name string, ids []string) modelAnswer {
	s := m.streams[name]
	was := s.last()
	for _, id := range ids {
		if _, known := m.first[id]; !known {
			m.first[id] = fmt.Sprintf("%d@%s", len(s.ids), name)
		}
		s.ids = append(s.ids, id)
	}
	if s.soft() {
		s.undelete(was + 1)
	}
	return modelAnswer{first: was + 1, last: s.last(), stored: true}
}

// writeMetadata is a write of one new event to the metastream with Any.
func (m *modelServer) writeMetadata(name string, to modelMetadata) modelAnswer {
	s := m.streams[name]
	if s.hard && (len(s.meta) == 0 || s.forgotten) {
		return modelRefusal(messages.StreamDeleted, -1)
	}
	soft := s.soft()
	s.meta = append(s.meta, to)
	number := int64(len(s.meta)) - 1
	switch {
	case soft && s.hard:
		s.undelete(math.MinInt64)
	case soft:
		s.undelete(s.last() + 1)
	}
	return modelAnswer{first: number, last: number, stored: true}
}

// delete is 4.11.
func (m *modelServer) delete(name string, expected int64, hard bool) modelAnswer {
	s := m.streams[name]
	switch {
	case s.hard:
		return modelRefusal(messages.StreamDeleted, -1)
	case expected == -2, expected == s.last(), expected == -1 && s.soft():
	default:
		return modelRefusal(messages.WrongExpectedVersion, s.last())
	}
	if hard {
		s.hard = true
	} else {
		s.meta = append(s.meta, modelMetadata{tb: softly, hasTB: true})
	}
	return modelAnswer{stored: true}
}

// scavenge is 4.15.
func (m *modelServer) scavenge() {
	for _, s := range m.streams {
		for n := range s.ids {
			if s.hard || int64(n) < s.min() && int64(n) < s.last() {
				s.gone[n] = true
			}
		}
		s.forgotten = s.forgotten || s.hard
	}
}

func (s *modelStream) min() int64 {
	low := s.now().tb
	if s.now().maxCount > 0 {
		low = max(low, s.last()-s.now().maxCount+1)
	}
	return low
}

// view is a stream as reads see it, a metastream too.
type modelView struct {
	events  map[int64]string
	last    int64
	min     int64
	missing bool
	deleted bool
	quirk   bool // 4.7
}

func (m *modelServer) view(name string) modelView {
	owner, isMeta := strings.CutPrefix(name, "$$")
	s := m.streams[owner]
	v := modelView{events: map[int64]string{}, last: s.last(), min: s.min(), missing: s.soft(), deleted: s.hard}
	for n, id := range s.ids {
		if !s.gone[n] {
			v.events[int64(n)] = id
		}
	}
	if isMeta {
		v.events, v.last, v.missing = map[int64]string{}, int64(len(s.meta))-1, false
		v.min = max(0, v.last)
		for n, meta := range s.meta {
			v.events[int64(n)] = meta.json()
		}
		v.quirk = s.last() >= 0 || s.hard
	}
	v.missing = v.missing || v.last < 0
	return v
}

// page is 4.8.
func (v modelView) page(backward bool, from, count int64) string {
	switch {
	case v.deleted:
		return modelPage(messages.ReadStreamStreamDeleted, nil, -1, math.MaxInt64, true)
	case v.missing:
		return modelPage(messages.ReadStreamNoStream, nil, -1, v.last, true)
	}
	var events []string
	if !backward {
		end := from + count - 1
		if end < v.min {
			return modelPage(messages.ReadStreamSuccess, nil, v.min, v.last, false)
		}
		next := int64(-1)
		for n := max(from, v.min); n <= end; n++ {
			if id, ok := v.events[n]; ok {
				events, next = append(events, fmt.Sprint(n, id)), n+1
			}
		}
		if next < 0 {
			next = min(end+1, v.last+1)
		}
		return modelPage(messages.ReadStreamSuccess, events, next, v.last, end >= v.last)
	}
	if from == -1 {
		from = v.last
	}
	if from < v.min {
		return modelPage(messages.ReadStreamSuccess, nil, -1, v.last, true)
	}
	start, end := max(0, from-count+1), false
	if start <= v.min {
		start, end = v.min, true
	}
	for n := from; n >= start; n-- {
		if id, ok := v.events[n]; ok {
			events = append(events, fmt.Sprint(n, id))
		}
	}
	_, there := v.events[start]
	end = end || start == 0 || start <= v.last && !there
	next := int64(-1)
	if !end {
		next = min(start-1, v.last)
	}
	return modelPage(messages.ReadStreamSuccess, events, next, v.last, end)
}

func modelPage(result messages.ReadStreamResult, events []string, next, last int64, end bool) string {
	return fmt.Sprintf("%s %v, next %d, last %d, end %t", result, events, next, last, end)
}

// event is 4.7.
func (v modelView) event(number int64) string {
	missing := messages.ReadEventNotFound
	switch {
	case v.deleted:
		return messages.ReadEventStreamDeleted.String()
	case v.missing:
		missing = messages.ReadEventNoStream
	default:
		if number == -1 {
			number = v.last
		}
		if id, ok := v.events[number]; ok && number >= v.min {
			return fmt.Sprint(messages.ReadEventSuccess, number, id)
		}
	}
	if v.quirk {
		return messages.ReadEventSuccess.String()
	}
	return missing.String()
}

// modelStep is a step of a run. All is in it that the run needs, so that a run with fewer or smaller steps is one too.
type modelStep struct {
	kind     string
	stream   string
	expected int64 // as it is, or from the last number on when exact
	exact    bool
	ids      string // letters
	metadata modelMetadata
	from     int64
	count    int64
}

// GoString writes the step as rapid shows it.
func (s modelStep) GoString() string { return s.String() }

func (s modelStep) String() string {
	switch s.kind {
	case "write", "transaction", "delete", "hard delete":
		expected := fmt.Sprint(s.expected)
		if s.exact {
			expected = fmt.Sprintf("last%+d", s.expected)
		}
		return fmt.Sprintf("%s %q to %s expecting %s", s.kind, s.ids, s.stream, expected)
	case "metadata":
		return fmt.Sprintf("metadata of %s: %s", s.stream, s.metadata.json())
	case "scavenge":
		return s.kind
	}
	return fmt.Sprintf("%s of %s: %d from %d", s.kind, s.stream, s.count, s.from)
}

var anyModelStep = rapid.Custom(func(t *rapid.T) modelStep {
	s := modelStep{
		kind: rapid.SampledFrom([]string{
			"write", "write", "write", "write", "metadata", "forward", "backward", "event", "delete", "transaction", "scavenge", "hard delete",
		}).Draw(t, "kind"),
		stream: rapid.SampledFrom([]string{"s", "t"}).Draw(t, "stream"),
	}
	switch s.kind {
	case "write", "transaction", "delete", "hard delete":
		s.exact = rapid.Bool().Draw(t, "exact")
		switch {
		case s.exact:
			s.expected = rapid.Int64Range(-3, 1).Draw(t, "expected")
		case s.kind == "write":
			s.expected = rapid.SampledFrom([]int64{-2, -2, -1, -4}).Draw(t, "expected")
		default:
			s.expected = rapid.SampledFrom([]int64{-2, -1}).Draw(t, "expected")
		}
		if strings.HasSuffix(s.kind, "delete") {
			break
		}
		s.ids = rapid.StringOfN(rapid.SampledFrom([]rune("abcdefgh")), 0, 3, -1).Draw(t, "ids")
	case "metadata":
		s.metadata = modelMetadata{
			maxCount: rapid.Int64Range(0, 3).Draw(t, "$maxCount"),
			tb:       rapid.SampledFrom([]int64{0, 1, 2, 4, 50, softly}).Draw(t, "$tb"),
			broken:   rapid.IntRange(0, 5).Draw(t, "broken") == 5,
		}
		s.metadata.hasTB = s.metadata.tb > 0
	case "scavenge":
	default:
		if rapid.Bool().Draw(t, "metastream") {
			s.stream = "$$" + s.stream
		}
		s.from = rapid.Int64Range(0, 12).Draw(t, "from")
		s.count = rapid.Int64Range(1, 5).Draw(t, "count")
	}
	return s
})

// manyModelSteps are some 30: rapid's slices have about 6 elements; in pieces a run is longer and shrinks as well.
var manyModelSteps = rapid.SliceOfN(rapid.SliceOfN(anyModelStep, 1, -1), 1, -1)

// modelRun plays steps to a server and to the model.
type modelRun struct {
	p      *peer
	m      modelServer
	before int64 // the last position
}

// step returns what the server answered and what the model says.
func (r *modelRun) step(s modelStep) (got, want string) {
	expected := s.expected
	if s.exact { // the values below -1 have meanings of their own
		expected = max(r.m.streams[s.stream].last()+s.expected, -1)
	}
	ids := strings.Split(s.ids, "")
	switch s.kind {
	case "write":
		return r.told(r.p.append(s.stream, expected, s.ids)), fmt.Sprint(r.m.write(s.stream, expected, ids))
	case "metadata":
		return r.told(r.p.metadata(s.stream, s.metadata.json())), fmt.Sprint(r.m.writeMetadata(s.stream, s.metadata))
	case "transaction":
		transaction := r.p.start(s.stream, expected)
		r.p.addTo(transaction, s.ids[:len(s.ids)/2])
		r.p.addTo(transaction, s.ids[len(s.ids)/2:])
		for range 2 { // the second commit is decided like the first
			answer := r.m.write(s.stream, expected, ids)
			answer.current = 0 // is not told
			got, want = got+r.committed(r.p.commit(transaction)), want+fmt.Sprint(answer)
		}
		return got, want
	case "delete", "hard delete":
		hard := s.kind == "hard delete"
		answer := r.m.delete(s.stream, expected, hard)
		answer.first, answer.last, answer.current = 0, 0, 0
		return r.deleted(r.p.delete(s.stream, expected, hard)), fmt.Sprint(answer)
	case "scavenge":
		r.m.scavenge()
		return r.p.scavenge("admin", "changeit").GetResult().String(), pb.ScavengeDatabaseCompleted_Success.String()
	case "event":
		return r.event(s.stream, s.from-1), r.m.view(s.stream).event(s.from - 1)
	case "backward":
		return r.page(s.stream, true, s.from-1, s.count), r.m.view(s.stream).page(true, s.from-1, s.count)
	default:
		return r.page(s.stream, false, s.from, s.count), r.m.view(s.stream).page(false, s.from, s.count)
	}
}

// stored tells whether a position is one of something new, behind all others.
func (r *modelRun) stored(prepare, commit int64) bool {
	isNew := prepare == commit && commit > r.before
	if isNew {
		r.before = commit
	}
	return isNew
}

func (r *modelRun) told(a messages.AppendCompleted) string {
	return fmt.Sprint(modelAnswer{a.Result, a.First, a.Last, a.CurrentVersion, r.stored(a.Prepare, a.Commit)})
}

func (r *modelRun) committed(a *pb.TransactionCommitCompleted) string {
	return fmt.Sprint(modelAnswer{
		a.GetResult(), a.GetFirstEventNumber(), a.GetLastEventNumber(), 0, r.stored(a.GetPreparePosition(), a.GetCommitPosition()),
	})
}

func (r *modelRun) deleted(a *pb.DeleteStreamCompleted) string {
	return fmt.Sprint(modelAnswer{result: a.GetResult(), stored: r.stored(a.GetPreparePosition(), a.GetCommitPosition())})
}

// name is what the model calls an event: the letter of its id, or what it says of a stream.
func (r *modelRun) name(e *messages.EventRecord) string {
	if e.Type == "$metadata" {
		return string(e.Data)
	}
	for _, letter := range "abcdefgh" {
		if e.ID == eventID(string(letter)) {
			return string(letter)
		}
	}
	return e.ID.String()
}

func (r *modelRun) page(stream string, backward bool, from, count int64) string {
	command := messages.StreamRead{Stream: stream, From: from, Count: int32(count), Backward: backward}
	var page messages.StreamPage
	require.NoError(r.p.t, page.Decode(r.p.call(&command).body))
	var events []string
	require.NoError(r.p.t, page.Each(nil, func(e *messages.ResolvedEvent) bool {
		events = append(events, fmt.Sprint(e.Event.Number, r.name(&e.Event)))
		return true
	}))
	return modelPage(page.Result, events, page.Next, page.Last, page.EndOfStream)
}

func (r *modelRun) event(stream string, number int64) string {
	m := r.p.readEvent(stream, number)
	if m.Result == messages.ReadEventSuccess && m.Event.Event.ID != uuid.Nil {
		return fmt.Sprint(m.Result, m.Event.Event.Number, r.name(&m.Event.Event))
	}
	return m.Result.String()
}

// follow plays steps to a new server. Behind each of them all streams must be what the model says, both ways.
func follow(t *testing.T, r *rapid.T, steps []modelStep) {
	t.Helper()
	n := run(t)
	defer func() { _ = n.Close() }()
	one := modelRun{p: n.peer(t), m: modelServer{first: map[string]string{}, streams: map[string]*modelStream{
		"s": {gone: map[int]bool{}}, "t": {gone: map[int]bool{}},
	}}}
	for i, s := range steps {
		if got, want := one.step(s); got != want {
			r.Fatalf("step %d, %v: the server says %s, and the model %s", i, s, got, want)
		}
		for _, stream := range []string{"s", "t", "$$s", "$$t"} {
			view := one.m.view(stream)
			for _, backward := range []bool{false, true} {
				from := map[bool]int64{true: -1}[backward]
				if got, want := one.page(stream, backward, from, 4000), view.page(backward, from, 4000); got != want {
					r.Fatalf("behind step %d, %v: %s is %s, and in the model %s", i, s, stream, got, want)
				}
			}
		}
	}
}

// TestTheServerFollowsItsModel: writes with every expected version and ids that come again, deletes, metadata, transactions
// and scavenges are answered as the model says, and leave what it says. SEEDS is how many runs of 20, SEED only one.
func TestTheServerFollowsItsModel(t *testing.T) { followModel(t, "20", 20) }

// TestTheServerOnDiskFollowsItsModel is the same with a log on disk.
func TestTheServerOnDiskFollowsItsModel(t *testing.T) {
	t.Setenv(onDisk, "1")
	followModel(t, "5", 4)
}

func followModel(t *testing.T, checks string, seeds int) {
	t.Helper()
	set := func(name, value string) {
		f := flag.Lookup(name)
		before := f.Value.String()
		require.NoError(t, f.Value.Set(value))
		t.Cleanup(func() { require.NoError(t, f.Value.Set(before)) })
	}
	steps := 0
	property := func(r *rapid.T) {
		drawn := slices.Concat(manyModelSteps.Draw(r, "steps")...)
		steps += len(drawn)
		follow(t, r, drawn)
	}
	set("rapid.nofailfile", "true")
	if flag.Lookup("rapid.seed").Value.String() != "0" {
		rapid.Check(t, property) // as rapid said how to repeat it
		return
	}
	set("rapid.checks", checks)
	for seed := range faultnet.Seeds(t, seeds) {
		set("rapid.seed", strconv.FormatUint(seed<<20|1, 10)) // its checks have seeds behind it, and 0 is none
		rapid.Check(t, property)
	}
	t.Logf("%d steps", steps)
}
