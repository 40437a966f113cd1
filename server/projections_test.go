package server

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/internal/memnet"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
	"github.com/goeventstore/eventstore/server/internal/store"
)

// runProjected is run with projections.
func runProjected(tb testing.TB) *node {
	tb.Helper()
	network := memnet.New()
	s, err := Start(Config{Listen: network.Listen, Projections: true, DB: folder(tb)})
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, s.Close()) })
	return &node{Server: s, network: network}
}

// indexed is an event of an index stream as a table can hold it.
type indexed struct{ typ, data, metadata string }

// everything returns the log.
func (n *node) everything(tb testing.TB) []store.Record {
	tb.Helper()
	var records []store.Record
	require.NoError(tb, n.store.Log(store.Position{}, n.store.Tip().Commit, func(r *store.Record) bool {
		records = append(records, *r)
		return true
	}))
	return records
}

func decoded(tb testing.TB, r *store.Record) messages.EventRecord {
	tb.Helper()
	var e messages.EventRecord
	require.NoError(tb, e.Decode(r.Encoded, nil))
	return e
}

// isIndex reports whether a stream is one that projections write.
func isIndex(stream string) bool {
	return stream == "$streams" || strings.HasPrefix(stream, "$ce-") || strings.HasPrefix(stream, "$category-") ||
		strings.HasPrefix(stream, "$et-")
}

// indexes waits for the projections and returns their streams.
func (n *node) indexes(tb testing.TB) map[string][]indexed {
	tb.Helper()
	require.NoError(tb, n.WaitForProjections(tb.Context()))
	return n.readIndexes(tb)
}

func (n *node) readIndexes(tb testing.TB) map[string][]indexed {
	tb.Helper()
	streams := map[string][]indexed{}
	for _, r := range n.everything(tb) {
		if isIndex(r.Stream) {
			e := decoded(tb, &r)
			require.EqualValues(tb, len(streams[r.Stream]), e.Number, r.Stream)
			streams[r.Stream] = append(streams[r.Stream], indexed{e.Type, string(e.Data), string(e.Metadata)})
		}
	}
	return streams
}

// admin appends events as the administrator.
func (p *peer) admin(stream string, events ...messages.NewEvent) messages.AppendCompleted {
	p.t.Helper()
	a := p.call(&messages.Append{Stream: stream, Expected: expectAny, Events: events}, "admin", "changeit")
	require.Equal(p.t, messages.WriteEventsCompleted, a.command, "%s", a.body)
	var m messages.AppendCompleted
	require.NoError(p.t, m.Decode(a.body))
	require.Equal(p.t, messages.Success, m.Result, m.Message)
	return m
}

func event(typ, data, metadata string) messages.NewEvent {
	return messages.NewEvent{ID: uuid.New(), Type: typ, ContentType: 1, Data: []byte(data), Metadata: []byte(metadata)}
}

func linkTo(target string) messages.NewEvent {
	return messages.NewEvent{ID: uuid.New(), Type: "$>", Data: []byte(target)}
}

// data are the data of the events of an index stream.
func data(of []indexed) (data []string) {
	for _, e := range of {
		data = append(data, e.data)
	}
	return data
}

// TestLinks has what real servers were seen to do with one event each.
func TestLinks(t *testing.T) {
	n := runProjected(t)
	p := n.peer(t)
	one := event("t", "{}", `{"$correlationId":"c"}`)
	position := p.admin("cat-1", one).Commit
	got := n.indexes(t)
	metadata := func(start, more string) string {
		return fmt.Sprintf(`{"$v":"%s:3","$c":%d,"$p":%[2]d%s,"$causedBy":"%s","$correlationId":"c"}`, start, position, more, one.ID)
	}
	require.Equal(t, map[string][]indexed{
		"$streams":      {{"$>", "0@cat-1", metadata("1:-1:1", "")}},
		"$ce-cat":       {{"$>", "0@cat-1", metadata("2:-1:1", `,"$o":"cat-1"`)}},
		"$category-cat": {{"$@", "cat-1", metadata("3:-1:1", "")}},
		"$et-t":         {{"$>", "0@cat-1", metadata("4:-1:1", "")}},
	}, got)
	for stream := range got {
		for name, want := range map[string]string{stream: "", "$$" + stream: indexMetadata} {
			var m messages.EventReadCompleted
			require.NoError(t, m.Decode(p.call(&messages.EventRead{Stream: name}, "admin", "changeit").body, nil))
			require.Equal(t, messages.ReadEventSuccess, m.Result)
			if want != "" {
				require.Equal(t, want, string(m.Event.Event.Data))
			}
			require.Equal(t, want != "", m.Event.Event.ContentType == 1)
		}
	}
}

// TestLinksOfDeletes: a delete is indexed in the category, and by the type of no event.
func TestLinksOfDeletes(t *testing.T) {
	n := runProjected(t)
	p := n.peer(t)
	p.appended("a-soft", expectNoStream, "a")
	p.appended("a-hard", expectNoStream, "b")
	require.Equal(t, messages.Success, p.delete("a-soft", expectAny, false).GetResult())
	require.Equal(t, messages.Success, p.delete("a-hard", expectAny, true).GetResult())
	require.Equal(t, messages.Success, p.delete("a-never", expectAny, true).GetResult())
	p.metadata("a-meta", `{"$tb":9223372036854775807,"k":1}`)
	got := n.indexes(t)
	require.Equal(t, []string{
		"0@a-soft", "0@a-hard", "0@$$a-soft", "9223372036854775807@a-hard", "9223372036854775807@a-never", "0@$$a-meta",
	}, data(got["$ce-a"]))
	require.Contains(t, got["$ce-a"][2].metadata, `,"$o":"a-soft","$deleted":-1,"$causedBy":"`)
	require.Contains(t, got["$ce-a"][3].metadata, `,"$o":"a-hard","$deleted":-1,"$causedBy":"`)
	require.Equal(t, []string{
		"0@a-soft", "9223372036854775807@a-hard", "9223372036854775807@a-never", "0@a-meta",
	}, data(got["$et-$deleted"]))
	require.Contains(t, got["$et-$deleted"][0].metadata, `,"$deleted":-1,"$causedBy":"`)
	require.Equal(t, []string{"0@a-soft", "0@a-hard", "0@$$a-soft", "0@$$a-meta"}, data(got["$streams"]))
	require.NotContains(t, got["$streams"][2].metadata, "$deleted")
	require.Equal(t, []string{"a-soft", "a-hard"}, data(got["$category-a"]))
	require.NotContains(t, got, "$et-$streamDeleted")
	require.NotContains(t, got, "$et-$metadata")
}

// TestLinksOfLinks: a user's link is resolved.
func TestLinksOfLinks(t *testing.T) {
	n := runProjected(t)
	p := n.peer(t)
	target := event("t", "{}", `{"$correlationId":"of the target"}`)
	p.admin("a-t", target)
	p.admin("a-gone", event("t", "{}", ""))
	require.Equal(t, messages.Success, p.delete("a-gone", expectAny, false).GetResult())
	p.admin("b-1", linkTo("0@a-t"), linkTo("7@a-t"), linkTo("garbage"), linkTo("-5@a-t"), linkTo("0@b-1"), linkTo("-1@a-t"))
	p.admin("b-2", linkTo("0@a-gone"), linkTo("0@nothing"), linkTo("0@a-t"))
	p.admin("b-3", linkTo("3@a-t"))
	bad := linkTo("0@a-t")
	bad.Metadata = []byte("no JSON")
	p.admin("b-4", bad)
	p.admin("c-1", linkTo("0@$$$$a-t")) // nobody may read that, and the projections go on
	p.admin("c-2", event("t", "{}", ""))
	got := n.indexes(t)
	require.Equal(t, []string{"0@a-t", "-1@", "-1@", "-1@", "0@a-t", "0@a-t", "0@a-t", "-1@"}, data(got["$ce-b"]))
	require.Contains(t, got["$ce-b"][0].metadata, `"$o":"b-1","$causedBy":"`+target.ID.String()+`","$correlationId":"of the target"}`)
	require.True(t, strings.HasSuffix(got["$ce-b"][1].metadata, `"$o":"b-1"}`), got["$ce-b"][1].metadata)
	require.Equal(t, []string{"0@a-t", "0@a-gone", "0@$$a-gone", "0@b-1", "0@b-3", "0@c-2"}, data(got["$streams"]))
	require.Equal(t, []string{"b-1", "b-3"}, data(got["$category-b"]))
	require.Equal(t, []string{"0@a-t", "0@a-gone", "0@c-2"}, data(got["$et-t"]))
	require.NotContains(t, got, "$et-$>")
}

// TestWhatIsIndexed: names and types.
func TestWhatIsIndexed(t *testing.T) {
	n := runProjected(t)
	p := n.peer(t)
	for _, stream := range []string{"plain", "q-y-z", "-d", "e-", "$sys-1", "$ce-x"} {
		p.admin(stream, event("t", "{}", ""))
	}
	p.admin("q-r", event("$dollar", "{}", ""), event("$@", "q-y-z", ""), event("$streamDeleted", "", ""))
	p.metadata("q-r", `{"k":1}`)
	p.metadata("q-r", `no JSON`)
	p.metadata("q-r", `{"$tb":1}`)
	p.metadata("$sys-1", `{"k":1}`)
	p.admin("$$q-r", event("other", "{}", ""))
	got := n.indexes(t)
	require.Equal(t, []string{"0@plain", "0@q-y-z", "0@-d", "0@e-", "0@q-r", "0@$$q-r"}, data(got["$streams"]))
	require.Equal(t, []string{"0@q-y-z", "0@q-r", "1@q-r", "2@q-r"}, data(got["$ce-q"]))
	require.Equal(t, []string{"q-y-z", "q-r"}, data(got["$category-q"]))
	require.Equal(t, []string{"0@e-"}, data(got["$ce-e"]))
	require.Equal(t, []string{"0@plain", "0@q-y-z", "0@-d", "0@e-"}, data(got["$et-t"]))
	require.Equal(t, []string{"0@q-r", "2@q-r"}, data(got["$et-$metadata"]), "what is no JSON is passed over")
	require.Equal(t, []string{"3@q-r"}, data(got["$et-other"]))
	require.Equal(t, []string{"1@q-r"}, data(got["$et-$@"]))
	require.Equal(t, []string{"2@q-r"}, data(got["$et-$deleted"]))
	require.ElementsMatch(t, []string{
		"$streams", "$ce-q", "$ce-e", "$ce-x", "$category-q", "$category-e", "$et-t", "$et-$metadata", "$et-other", "$et-$@",
		"$et-$dollar", "$et-$deleted",
	}, keys(got))
}

func keys(m map[string][]indexed) (names []string) {
	for name := range m {
		names = append(names, name)
	}
	return names
}

// TestQuoting has names as a real server was seen to quote them, and what it makes a text.
func TestQuoting(t *testing.T) {
	for name, want := range map[string]string{
		"plain-1": `"plain-1"`, "": `""`, "\"é<\u0085\u2028\x7f-x\\\t\x01": `"\"é<\u0085\u2028` + "\x7f" + `-x\\\t\u0001"`,
	} {
		got := appendQuoted([]byte("b"), name)
		require.Equal(t, "b"+want, string(got))
		var back string
		require.NoError(t, json.Unmarshal(got[1:], &back))
		require.Equal(t, name, back)
	}
	for metadata, want := range map[string]string{
		`{"$correlationId":"x\"y"}`: `x"y`, `{"a":{"$correlationId":1},"$correlationId":5}`: "5", `{"$correlationId":true}`: "True",
		`{"$correlationId":false}`: "False", `{"$correlationId":null}`: "", `{"$correlationId":{"a":1,"b":[1,2]}}`: "{\n  \"a\": 1,\n  \"b\": [\n    1,\n    2\n  ]\n}",
		`{"$correlationId":"late"`: "late", `[1]`: "", `{"$correlationId":"a","$correlationId":"b"}`: "a", `nope $correlationId`: "", ``: "",
		`{"$correlationId"`: "", `{"$correlationId":`: "", `["$correlationId"]`: "",
	} {
		e := messages.EventRecord{Stream: "s", Type: "t", ContentType: 1, Metadata: []byte(metadata)}
		require.Equal(t, want, correlationOf(&store.Record{Encoded: e.AppendTo(nil)}), metadata)
		e.ContentType = 0
		require.Empty(t, correlationOf(&store.Record{Encoded: e.AppendTo(nil)}), metadata)
	}
}

// TestIndexStreamsThatUsersChange: the projections go on whatever becomes of their streams.
func TestIndexStreamsThatUsersChange(t *testing.T) {
	n := runProjected(t)
	p := n.peer(t)
	remove := func(stream string, hard bool) {
		require.Equal(t, messages.Success, p.delete(stream, expectAny, hard, "admin", "changeit").GetResult())
	}
	p.admin("a-1", event("t", "{}", ""), event("t", "{}", ""))
	n.indexes(t)
	remove("$ce-a", false)
	remove("$et-t", true)
	p.admin("$streams", event("foreign", "{}", ""))
	remove("$category-b", false) // before it was written
	p.admin("a-1", event("t", "{}", ""))
	p.admin("b-1", event("t", "{}", ""))
	require.NoError(t, n.WaitForProjections(t.Context()))

	page := func(stream string) page {
		return p.page(messages.StreamRead{Stream: stream, Count: 100}, "admin", "changeit")
	}
	require.Equal(t, []int64{2}, page("$ce-a").numbers, "a link recreates it")
	require.Equal(t, messages.ReadStreamStreamDeleted, page("$et-t").result)
	require.Equal(t, []int64{0, 1, 2}, page("$streams").numbers)
	require.Equal(t, []int64{0}, page("$category-b").numbers)
	require.Equal(t, []int64{0}, page("$ce-b").numbers)
}

// TestProjectionsArePushed: a subscription sees the links.
func TestProjectionsArePushed(t *testing.T) {
	n := runProjected(t)
	p := n.peer(t)
	id, _ := p.subscribe("$ce-a", "admin", "changeit")
	for i := range int64(3) {
		p.admin("a-1", event("t", "{}", ""))
		e := p.event(id)
		require.Equal(t, fmt.Sprint(i, "@a-1"), string(e.Event.Data))
		require.Greater(t, e.Commit, n.everything(t)[0].Commit)
	}
}

// TestProjectionsResume: what is not indexed yet is indexed by the next projector, and nothing twice.
func TestProjectionsResume(t *testing.T) {
	n := run(t)
	p := n.peer(t)
	var want []string
	for i := range 50 {
		stream := fmt.Sprint("a-", i%7)
		p.admin(stream, event("t", "{}", ""))
		want = append(want, fmt.Sprint(i/7, "@", stream))
	}
	// Not by a projection: it is behind all that there is.
	p.admin("$ce-a", event("$>", "0@a-1", `{"$v":"2:-1:1:3","$c":9223372036854775807,"$p":1}`))
	for more := true; more; {
		p.admin("$system", event("t", "{}", "")) // gives no link
		// As if the server had ended after one batch.
		projector := newProjector(n.Server)
		projector.limit = 7
		require.NoError(t, projector.resume())
		var err error
		more, err = projector.step()
		require.NoError(t, err)
	}
	got := n.readIndexes(t)
	require.Equal(t, want, data(got["$et-t"]))
	require.Equal(t, want, data(got["$ce-a"])[1:])
	require.Len(t, got["$streams"], 7)
	require.Len(t, got["$category-a"], 7)
}

// TestProjectionsOfATransaction: its events are indexed where it is committed, each with its own place.
func TestProjectionsOfATransaction(t *testing.T) {
	n := runProjected(t)
	p := n.peer(t)
	transaction := p.start("a-1", expectAny)
	p.addTo(transaction, "x")
	p.appended("a-2", expectAny, "y")
	p.addTo(transaction, "z")
	require.Equal(t, []string{"0@a-2"}, data(n.indexes(t)["$ce-a"]))
	commit := p.commit(transaction).GetCommitPosition()
	links := n.indexes(t)["$ce-a"]
	require.Equal(t, []string{"0@a-2", "0@a-1", "1@a-1"}, data(links))
	var prepares []int64
	for _, l := range links[1:] {
		var m struct {
			Commit  int64 `json:"$c"`
			Prepare int64 `json:"$p"`
		}
		require.NoError(t, json.Unmarshal([]byte(l.metadata), &m))
		require.Equal(t, commit, m.Commit)
		prepares = append(prepares, m.Prepare)
	}
	require.Less(t, transaction, prepares[0])
	require.Less(t, prepares[0], prepares[1])
	require.Less(t, prepares[1], commit)
}

// TestProjectionsBehindAScavenge: they go on where they were, whatever is left there, and nothing goes that they have not
// seen.
func TestProjectionsBehindAScavenge(t *testing.T) {
	n := runProjected(t)
	p := n.peer(t)
	transaction := p.start("a-1", expectAny)
	p.addTo(transaction, "xyz")
	p.commit(transaction)
	p.metadata("a-1", `{"$maxCount":1}`)
	p.appended("a-1", expectAny, "b")
	for _, letters := range []string{"cd", "ef", "gh"} {
		require.Equal(t, pb.ScavengeDatabaseCompleted_Success, p.scavenge("admin", "changeit").GetResult())
		p.appended("a-1", expectAny, letters)
	}
	var links []string
	for i := range 10 {
		links = append(links, fmt.Sprint(i, "@a-1"))
	}
	require.Equal(t, links, data(n.indexes(t)["$ce-a"]))
}

// TestWaitForProjections: it ends when the context does or the server is closed, and not later.
func TestWaitForProjections(t *testing.T) {
	require.NoError(t, run(t).WaitForProjections(t.Context()), "there are none")
	n := run(t)
	n.projector = newProjector(n.Server) // one that does nothing by itself
	_, err := n.projector.step()
	require.NoError(t, err)
	require.NoError(t, n.WaitForProjections(t.Context()), "there is nothing new")
	n.peer(t).appended("s", expectNoStream, "a")
	ended, end := context.WithCancel(t.Context())
	end()
	require.ErrorIs(t, n.WaitForProjections(ended), context.Canceled)
	waiting := make(chan error, 1)
	go func() { waiting <- n.WaitForProjections(t.Context()) }()
	require.NoError(t, n.Close())
	require.ErrorIs(t, <-waiting, errServerClosed)
}

// TestProjectionsAreExact: while writers write and delete at random, the index streams become what a plain function
// makes of the log, in its order, each link once.
func TestProjectionsAreExact(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	n := runProjected(t)
	var writers sync.WaitGroup
	for i := range uint64(4) {
		p := n.peer(t)
		writers.Go(func() { writeAtRandom(p, rand.New(rand.NewPCG(seed, i))) })
	}
	writers.Wait()
	require.False(t, t.Failed())
	got := n.indexes(t)
	want := reference(t, n.everything(t))
	require.ElementsMatch(t, keys(want), keys(got))
	for stream := range want {
		require.Equal(t, want[stream], got[stream], stream)
	}
	require.Greater(t, len(got), 8)
}

var randomStreams = []string{"a-1", "a-2", "a-3", "b-1", "b-2-x", "c-", "-d", "plain", "$sys-1", "e-1", "e-2", "e-3"}

func writeAtRandom(p *peer, r *rand.Rand) {
	pick := func() string { return randomStreams[r.IntN(len(randomStreams))] }
	for range 250 {
		stream := pick()
		var request messages.Request
		switch k := r.IntN(22); {
		case k > 19:
			if strings.HasPrefix(stream, "$") {
				continue
			}
			transaction := p.start(stream, expectAny)
			p.addTo(transaction, "ab")
			p.call(&messages.Append{Stream: pick(), Expected: expectAny, Events: []messages.NewEvent{event("t", "{}", "")}}, "admin", "changeit")
			p.addTo(transaction, "c")
			p.commit(transaction)
			continue
		case k < 11:
			events := make([]messages.NewEvent, 1+r.IntN(4))
			for i := range events {
				events[i] = event([]string{"t", "u", "$v"}[r.IntN(3)], "{}", []string{"", `{"$correlationId":"x"}`}[r.IntN(2)])
			}
			request = &messages.Append{Stream: stream, Expected: expectAny, Events: events}
		case k < 15:
			request = &messages.Append{Stream: stream, Expected: expectAny, Events: []messages.NewEvent{
				linkTo(fmt.Sprintf("%d@%s", r.IntN(12)-2, pick())),
			}}
		case k < 17:
			request = &messages.Append{Stream: "$$" + stream, Expected: expectAny, Events: []messages.NewEvent{
				event("$metadata", []string{`{"$tb":3}`, `{"k":1}`, `{"$tb":9223372036854775807}`, "no JSON"}[r.IntN(4)], ""),
			}}
		case k < 19:
			p.delete(stream, expectAny, false, "admin", "changeit")
			continue
		default:
			if strings.HasPrefix(stream, "e-") {
				p.delete(stream, expectAny, true, "admin", "changeit")
			}
			continue
		}
		p.call(request, "admin", "changeit")
	}
}

// reference is what the projections make of a log.
func reference(tb testing.TB, log []store.Record) map[string][]indexed {
	tb.Helper()
	streams := map[string]*referenceStream{}
	out := map[string][]indexed{}
	for i := range log {
		r := &log[i]
		if r.Kind != store.Event {
			continue
		}
		e := decoded(tb, r)
		user, isMeta := strings.CutPrefix(r.Stream, "$$")
		of := func(name string) *referenceStream {
			if streams[name] == nil {
				streams[name] = &referenceStream{}
			}
			return streams[name]
		}
		of(r.Stream).add(&e)
		var m struct {
			TruncateBefore int64 `json:"$tb"`
		}
		readable := json.Unmarshal(e.Data, &m) == nil
		if isMeta {
			of(user).hidden = m.TruncateBefore
		}
		if strings.HasPrefix(user, "$") {
			continue
		}
		target := &e
		if e.Type == "$>" {
			var skip bool
			if target, skip = targetIn(streams, string(e.Data)); skip {
				continue
			}
		}
		deleted := false
		switch {
		case isMeta && target != nil && target.Type == "$metadata":
			if !readable {
				continue
			}
			deleted = m.TruncateBefore == messages.DeletedNumber
		case target != nil && target.Type == "$streamDeleted":
			deleted = true
		}
		add := func(version int, stream, typ, data string, origin string, tellDeleted bool) {
			metadata := fmt.Sprintf(`{"$v":"%d:-1:1:3","$c":%d,"$p":%d`, version, r.Commit, r.Prepare)
			if origin != "" {
				metadata += `,"$o":"` + origin + `"`
			}
			if deleted && tellDeleted {
				metadata += `,"$deleted":-1`
			}
			if target != nil {
				metadata += `,"$causedBy":"` + target.ID.String() + `"`
				if strings.Contains(string(target.Metadata), "$correlationId") && target.ContentType == 1 {
					metadata += `,"$correlationId":"x"`
				}
			}
			out[stream] = append(out[stream], indexed{typ, data, metadata + "}"})
		}
		if e.Number == 0 {
			add(1, "$streams", "$>", "0@"+e.Stream, "", false)
		}
		origin := e.Stream
		if deleted {
			origin = user
		}
		if category, _, ok := strings.Cut(origin, "-"); ok && category != "" && origin[0] != '$' {
			switch {
			case target == nil:
				add(2, "$ce-"+category, "$>", "-1@", origin, true)
			case target.Type == "$>":
				add(2, "$ce-"+category, "$>", string(target.Data), origin, true)
			default:
				add(2, "$ce-"+category, "$>", fmt.Sprint(target.Number, "@", target.Stream), origin, true)
			}
		}
		if category, _, ok := strings.Cut(e.Stream, "-"); ok && category != "" && e.Stream[0] != '$' && e.Number == 0 {
			add(3, "$category-"+category, "$@", e.Stream, "", false)
		}
		switch {
		case e.Type == "$>":
		case deleted:
			add(4, "$et-$deleted", "$>", fmt.Sprint(e.Number, "@", user), "", true)
		default:
			add(4, "$et-"+e.Type, "$>", fmt.Sprint(e.Number, "@", user), "", true)
		}
	}
	return out
}

// referenceStream is a stream at some point of the log.
type referenceStream struct {
	events  []messages.EventRecord
	hidden  int64
	deleted bool
}

func (s *referenceStream) add(e *messages.EventRecord) {
	if e.Number == messages.DeletedNumber {
		s.deleted = true
		return
	}
	s.events = append(s.events, *e)
}

// targetIn is the target of a link, nil when there is none. One to a stream that is not there is skipped.
func targetIn(streams map[string]*referenceStream, data string) (target *messages.EventRecord, skip bool) {
	var number int
	var name string
	if _, err := fmt.Sscanf(strings.Replace(data, "@", " ", 1), "%d %s", &number, &name); err != nil || number < -1 {
		return nil, false
	}
	s := streams[name]
	if s == nil || s.deleted || len(s.events) == 0 || s.hidden == messages.DeletedNumber {
		return nil, true
	}
	if number == -1 {
		number = len(s.events) - 1
	}
	if number >= len(s.events) || int64(number) < s.hidden {
		return nil, false
	}
	return &s.events[number], false
}
