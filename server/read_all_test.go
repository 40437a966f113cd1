package server

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/server/internal/store"
)

// allPage is a page of all streams in a form that a table can hold.
type allPage struct {
	result     messages.ReadAllResult
	events     []string // number@stream
	begin      store.Position
	next       store.Position
	text       string
	prepares   []int64
	lastCommit int64
}

func decodedAllPage(tb testing.TB, body []byte) allPage {
	tb.Helper()
	var m messages.AllPage
	require.NoError(tb, m.Decode(body))
	out := allPage{
		result: m.Result, text: m.Error,
		begin: store.Position{Commit: m.Commit, Prepare: m.Prepare}, next: store.Position{Commit: m.NextCommit, Prepare: m.NextPrepare},
	}
	require.NoError(tb, m.Each(nil, func(e *messages.ResolvedEvent) bool {
		require.True(tb, e.HasPosition)
		out.events = append(out.events, fmt.Sprintf("%d@%s", e.Event.Number, e.Event.Stream))
		out.prepares = append(out.prepares, e.Prepare)
		out.lastCommit = e.Commit
		return true
	}))
	return out
}

// ofUsers are the events that every log begins with.
var ofUsers = []string{"0@$$$user-admin", "0@$$$user-ops", "0@$user-admin", "0@$user-ops", "0@$users", "1@$users"}

// withoutUsers are the events of a page that the test wrote itself.
func withoutUsers(events []string) []string {
	events = slices.DeleteFunc(slices.Clone(events), func(e string) bool { return slices.Contains(ofUsers, e) })
	if len(events) == 0 {
		return nil
	}
	return events
}

// all reads a page as the administrator.
func (p *peer) all(m messages.AllRead) allPage {
	p.t.Helper()
	return p.allAs(m, "admin", "changeit")
}

func (p *peer) allAs(m messages.AllRead, credentials ...string) allPage {
	p.t.Helper()
	a := p.call(&m, credentials...)
	want := messages.ReadAllEventsForwardCompleted
	if m.Backward {
		want = messages.ReadAllEventsBackwardCompleted
	}
	require.Equal(p.t, want, a.command, "%s", a.body)
	return decodedAllPage(p.t, a.body)
}

// tail is all that a log has behind a place.
func (p *peer) tail(from int64) allPage {
	p.t.Helper()
	return p.all(messages.AllRead{Commit: from, Prepare: from, Count: maxReadCount})
}

// TestReadAll walks a log in both directions, in pages of each size.
func TestReadAll(t *testing.T) {
	n := run(t)
	p := n.peer(t)
	begin := n.store.Tip().End
	require.Equal(t, allPage{begin: store.Position{Commit: begin, Prepare: begin}, next: store.Position{Commit: begin, Prepare: begin}}, p.tail(begin))
	p.appended("a", expectAny, "ab")
	p.appended("empty", expectAny, "") // no event
	p.appended("b", expectAny, "c")
	p.metadata("a", `{"$maxCount":1}`) // hides nothing here
	p.delete("a", expectAny, false)
	p.appended("a", expectAny, "d")
	p.delete("a", expectAny, true)
	p.appended("last", expectAny, "")
	want := []string{"0@a", "1@a", "0@b", "0@$$a", "1@$$a", "2@a", "2@$$a", "9223372036854775807@a"}
	all := p.tail(begin)
	require.Equal(t, want, all.events)
	require.True(t, slices.IsSorted(all.prepares))
	end := n.store.Tip().End
	for count := range int32(len(want) + 2) {
		m := messages.AllRead{Count: count + 1, Commit: begin}
		var forward []string
		for {
			page := p.all(m)
			require.Equal(t, store.Position{Commit: m.Commit, Prepare: m.Prepare}, page.begin)
			if len(page.events) == 0 {
				require.Equal(t, page.begin, page.next)
				break
			}
			require.Zero(t, page.next.Prepare)
			require.Greater(t, page.next.Commit, page.lastCommit)
			forward = append(forward, page.events...)
			m.Commit, m.Prepare = page.next.Commit, page.next.Prepare
		}
		require.Equal(t, want, forward)

		m = messages.AllRead{Count: count + 1, Commit: -1, Prepare: -1, Backward: true}
		first := p.all(m)
		require.Equal(t, store.Position{Commit: end, Prepare: end}, first.begin, "the end is told")
		var backward []string
		for {
			page := p.all(m)
			if len(page.events) == 0 {
				require.Equal(t, page.begin, page.next)
				break
			}
			require.Equal(t, store.Position{Commit: page.lastCommit, Prepare: page.prepares[len(page.prepares)-1]}, page.next)
			backward = append(backward, page.events...)
			m.Commit, m.Prepare = page.next.Commit, page.next.Prepare
		}
		slices.Reverse(backward)
		require.Equal(t, append(slices.Clone(ofUsers), want...), backward)
	}
}

// TestReadAllPositions has the table of 4.10.
func TestReadAllPositions(t *testing.T) {
	n := run(t)
	p := n.peer(t)
	begin := n.store.Tip().End
	p.appended("s", expectAny, "abc")
	at := p.tail(begin).prepares
	end := n.store.Tip().End
	e0, e1, e2 := "0@s", "1@s", "2@s"
	failed := func(commit, prepare int64, text string) allPage {
		return allPage{
			result: messages.ReadAllError, begin: store.Position{Commit: commit, Prepare: prepare},
			next: store.Position{Commit: -1, Prepare: -1}, text: text,
		}
	}
	beyond := func(position int64) string { return fmt.Sprintf(textBeyondTheEnd, position, end) }
	begins := func(position int64) string { return fmt.Sprintf(textNoRecordBegins, position) }
	ends := func(position int64) string { return fmt.Sprintf(textNoRecordEnds, position) }
	type want struct {
		events []string
		text   string
	}
	for _, test := range []struct {
		commit, prepare   int64
		forward, backward want
	}{
		{0, 0, want{[]string{e0, e1, e2}, ""}, want{}},
		{0, math.MaxInt64, want{[]string{e0, e1, e2}, ""}, want{}},
		{at[0], at[0], want{[]string{e0, e1, e2}, ""}, want{}},
		{at[0], 0, want{[]string{e0, e1, e2}, ""}, want{}},
		{at[1], at[1], want{[]string{e1, e2}, ""}, want{[]string{e0}, ""}},
		{at[1], 0, want{[]string{e1, e2}, ""}, want{}}, // backward: not what ends here
		{at[1], at[1] - 1, want{[]string{e1, e2}, ""}, want{}},
		{at[1], at[1] + 1, want{[]string{e2}, ""}, want{[]string{e0}, ""}},
		{at[1], math.MaxInt64, want{[]string{e2}, ""}, want{[]string{e0}, ""}},
		{at[1] + 1, at[1] + 1, want{nil, begins(at[1] + 1)}, want{nil, ends(at[1] + 1)}},
		{at[1] + 1, at[1], want{nil, begins(at[1] + 1)}, want{nil, ends(at[1] + 1)}},
		{at[1] - 1, at[1] - 1, want{nil, begins(at[1] - 1)}, want{nil, ends(at[1] - 1)}},
		{at[2], at[2] + 1, want{}, want{[]string{e1, e0}, ""}},
		{at[2] + 1, at[2] + 1, want{}, want{nil, ends(at[2] + 1)}}, // behind the last commit forward looks at nothing
		{end, end, want{}, want{[]string{e2, e1, e0}, ""}},
		{end, 0, want{}, want{[]string{e1, e0}, ""}},
		{end + 1, end + 1, want{}, want{nil, beyond(end + 1)}},
		{math.MaxInt64, math.MaxInt64, want{}, want{nil, beyond(math.MaxInt64)}},
		{1, 1, want{nil, begins(1)}, want{}},
		{5, 5, want{nil, begins(5)}, want{}},
		{7, 7, want{nil, begins(7)}, want{}},
		{8, 8, want{nil, begins(8)}, want{nil, ends(8)}},
		{begin - 1, begin - 1, want{nil, begins(begin - 1)}, want{nil, ends(begin - 1)}},
		{-1, 0, want{nil, textInvalidPosition}, want{nil, textInvalidPosition}},
		{0, -1, want{nil, textInvalidPosition}, want{nil, textInvalidPosition}},
		{-2, -2, want{nil, textInvalidPosition}, want{nil, textInvalidPosition}},
		{-1, -2, want{nil, textInvalidPosition}, want{nil, textInvalidPosition}},
		{math.MinInt64, math.MaxInt64, want{nil, textInvalidPosition}, want{nil, textInvalidPosition}},
	} {
		for _, backward := range []bool{false, true} {
			want := test.forward
			if backward {
				want = test.backward
			}
			got := p.all(messages.AllRead{Commit: test.commit, Prepare: test.prepare, Count: 10, Backward: backward})
			where := fmt.Sprintf("(%d, %d) backward %t", test.commit, test.prepare, backward)
			if want.text != "" {
				require.Equal(t, failed(test.commit, test.prepare, want.text), got, where)
				continue
			}
			require.Equal(t, messages.ReadAllSuccess, got.result, "%s: %s", where, got.text)
			require.Equal(t, want.events, withoutUsers(got.events), where)
			if len(got.events) == 0 {
				require.Equal(t, got.begin, got.next, where)
			}
		}
	}
	for body, m := range map[string]messages.AllRead{
		"\x08\x00\x10\x00\x20\x00\x28\x00": {Backward: true, Count: 3}, // fields 6 and 7 are left out
		"\x08\x03\x10\x04\x20\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x28\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x30\x02\x3a\x31" + textReadTooBig: {Commit: 3, Prepare: 4, Count: maxReadCount + 1},
	} {
		require.Equal(t, body, string(p.call(&m, "admin", "changeit").body))
	}
}

func TestReadAllParameters(t *testing.T) {
	n := run(t)
	p := n.peer(t)
	p.appended("s", expectAny, "abc")
	end := n.store.Tip().End
	at := func(position int64) store.Position { return store.Position{Commit: position, Prepare: position} }
	for _, backward := range []bool{false, true} {
		for _, count := range []int32{0, -1, math.MinInt32} { // whatever the place is
			for _, place := range []int64{0, 5, end, end + 5} {
				got := p.all(messages.AllRead{Commit: place, Prepare: place, Count: count, Backward: backward})
				require.Equal(t, allPage{begin: at(place), next: at(place)}, got)
			}
		}
		for _, count := range []int32{maxReadCount + 1, math.MaxInt32} { // before the rights and the place
			got := p.allAs(messages.AllRead{Commit: -1, Prepare: -1, Count: count, Backward: backward})
			require.Equal(t, allPage{result: messages.ReadAllError, begin: at(-1), next: at(-1), text: textReadTooBig}, got)
		}
		for _, who := range [][]string{nil, {"ops", "changeit"}} {
			got := p.allAs(messages.AllRead{Commit: 5, Prepare: 5, Count: 1, Backward: backward}, who...)
			require.Equal(t, allPage{result: messages.ReadAllAccessDenied, begin: at(5), next: at(-1)}, got)
			got = p.allAs(messages.AllRead{Commit: -1, Prepare: -1, Count: 1, Backward: backward}, who...)
			require.Equal(t, allPage{result: messages.ReadAllAccessDenied, begin: at(end), next: at(-1)}, got, "it tells the end")
			got = p.allAs(messages.AllRead{Commit: -2, Prepare: 0, Count: 1, Backward: backward}, who...)
			require.Equal(t, textInvalidPosition, got.text, "the place is checked before the rights")
		}
	}
	require.Equal(t, allPage{begin: at(end), next: at(end)}, p.all(messages.AllRead{Commit: -1, Prepare: -1, Count: 1}))
	for _, command := range []messages.Command{messages.ReadAllEventsForward, messages.ReadAllEventsBackward} {
		a := p.call(messages.Raw(command, []byte("\x08\xff")))
		require.Equal(t, messages.BadRequest, a.command)
		a = p.call(messages.Raw(command, []byte("\x20\x02"))) // a boolean of 2
		require.Equal(t, messages.BadRequest, a.command)
		a = p.call(messages.Raw(command, nil), "admin", "changeit") // all left out
		require.Equal(t, "\x08\x00\x10\x00\x20\x00\x28\x00", string(a.body))
	}
}

// TestReadAllTransaction: its events stand where it was committed, each page may end in the middle of it. The log is that of
// the recording of a real server.
func TestReadAllTransaction(t *testing.T) {
	const before, begin, one, two, between, three, tail, commit, after, end = 3796, 3903, 4006, 4118, 4230, 4346, 4458, 4561, 4627, 4745
	m := store.NewMemory(before)
	event := func(stream string, number, commit, prepare, end int64) {
		e := messages.EventRecord{Stream: stream, Number: number}
		if commit == prepare {
			e.Data = make([]byte, end-commit-recordSize(stream, &messages.NewEvent{})) // as large as it was
		}
		require.NoError(t, m.Stage(end, store.Record{Stream: stream, Number: number, Commit: commit, Prepare: prepare, Encoded: e.AppendTo(nil)}))
	}
	pending := func(at, end int64) {
		require.NoError(t, m.Stage(end, store.Record{Kind: store.Pending, Commit: at, Prepare: at}))
	}
	event("before", 0, before, before, begin)
	pending(begin, one)
	pending(one, two)
	pending(two, between)
	event("between", 0, between, between, three)
	pending(three, tail)
	pending(tail, commit)
	require.NoError(t, m.Commit())
	read := func(m2 messages.AllRead) allPage {
		tip := m.Tip()
		r := allReader{
			view: view{store: m, at: tip.Commit, end: tip.End, dialect: new(Dialect)}, left: m2.Count,
			page: messages.AllPage{Commit: m2.Commit, Prepare: m2.Prepare, NextCommit: m2.Commit, NextPrepare: m2.Prepare},
		}
		r.b = r.page.AppendHead(nil)
		require.NoError(t, r.read(&m2))
		return decodedAllPage(t, r.page.AppendTo(r.b))
	}
	open := read(messages.AllRead{Commit: commit, Prepare: commit, Count: 9, Backward: true})
	require.Equal(t, []string{"0@between", "0@before"}, open.events)
	open = read(messages.AllRead{Commit: tail, Prepare: tail, Count: 9})
	require.Equal(t, store.Position{Commit: tail, Prepare: tail}, open.next)
	require.Empty(t, open.text, "behind the last commit")

	event("tx", 0, commit, one, after)
	event("tx", 1, commit, two, after)
	event("tx", 2, commit, three, after)
	event("after", 0, after, after, end)
	require.NoError(t, m.Commit())
	for _, test := range []struct {
		backward bool
		from     store.Position
		event    string
		next     store.Position
	}{
		{false, store.Position{Commit: begin, Prepare: begin}, "0@between", store.Position{Commit: three}},
		{false, store.Position{Commit: one, Prepare: math.MaxInt64}, "0@between", store.Position{Commit: three}},
		{false, store.Position{Commit: three}, "0@tx", store.Position{Commit: commit, Prepare: two}},
		{false, store.Position{Commit: tail, Prepare: tail}, "0@tx", store.Position{Commit: commit, Prepare: two}},
		{false, store.Position{Commit: commit, Prepare: two}, "1@tx", store.Position{Commit: commit, Prepare: between}},
		{false, store.Position{Commit: commit, Prepare: between}, "2@tx", store.Position{Commit: commit, Prepare: tail}},
		{false, store.Position{Commit: commit, Prepare: one + 1}, "1@tx", store.Position{Commit: commit, Prepare: between}},
		{false, store.Position{Commit: commit, Prepare: tail}, "0@after", store.Position{Commit: end}},
		{false, store.Position{Commit: commit, Prepare: commit}, "0@after", store.Position{Commit: end}},

		{true, store.Position{Commit: end, Prepare: end}, "0@after", store.Position{Commit: after, Prepare: after}},
		{true, store.Position{Commit: end, Prepare: after}, "2@tx", store.Position{Commit: after, Prepare: three}},
		{true, store.Position{Commit: after, Prepare: after}, "2@tx", store.Position{Commit: after, Prepare: three}},
		{true, store.Position{Commit: after, Prepare: tail}, "2@tx", store.Position{Commit: after, Prepare: three}},
		{true, store.Position{Commit: after, Prepare: tail - 1}, "1@tx", store.Position{Commit: after, Prepare: two}},
		{true, store.Position{Commit: after, Prepare: three}, "1@tx", store.Position{Commit: after, Prepare: two}},
		{true, store.Position{Commit: after, Prepare: two}, "0@tx", store.Position{Commit: after, Prepare: one}},
		{true, store.Position{Commit: after, Prepare: one}, "0@between", store.Position{Commit: between, Prepare: between}},
		{true, store.Position{Commit: after}, "0@between", store.Position{Commit: between, Prepare: between}},
		{true, store.Position{Commit: commit, Prepare: commit}, "0@between", store.Position{Commit: between, Prepare: between}},
		{true, store.Position{Commit: between, Prepare: between}, "0@before", store.Position{Commit: before, Prepare: before}},
	} {
		got := read(messages.AllRead{Commit: test.from.Commit, Prepare: test.from.Prepare, Count: 1, Backward: test.backward})
		require.Equal(t, []string{test.event}, got.events, test)
		require.Equal(t, test.next, got.next, test)
	}
	all := []string{"0@before", "0@between", "0@tx", "1@tx", "2@tx", "0@after"}
	require.Equal(t, all, read(messages.AllRead{Commit: before, Count: 9}).events)
	slices.Reverse(all)
	require.Equal(t, all, read(messages.AllRead{Commit: end, Prepare: end, Count: 9, Backward: true}).events)
}

// TestReadAllNumbers: a client with 32-bit numbers gets the tombstone's as one.
func TestReadAllNumbers(t *testing.T) {
	n := run(t)
	p, old := n.peer(t), n.raw(t)
	p.appended("s", expectNoStream, "a")
	p.delete("s", expectAny, true)
	require.Equal(t, []string{"9223372036854775807@s"}, p.all(messages.AllRead{Commit: -1, Prepare: -1, Count: 1, Backward: true}).events)
	require.Equal(t, []string{"0@s", "2147483647@s"}, withoutUsers(old.all(messages.AllRead{Count: 9}).events))
}

// TestReadAllOverAFrame: a page that no frame can carry is sent all the same, and ends with the event that is too much. In virtual time:
// no heartbeat comes in between.
func TestReadAllOverAFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := run(t)
		p := n.peer(t)
		begin := n.store.Tip().End
		p.large()
		require.Len(t, p.all(messages.AllRead{Commit: begin, Count: 1}).events, 1)
		up := decodedAllPage(t, p.oversize(&messages.AllRead{Commit: begin, Count: 9}, "admin", "changeit"))
		require.Equal(t, []string{"0@s", "1@s", "2@s", "3@s", "4@s"}, up.events)
		require.Equal(t, []string{"5@s"}, p.all(messages.AllRead{Commit: up.next.Commit, Prepare: up.next.Prepare, Count: 9}).events)
		down := decodedAllPage(t, p.oversize(&messages.AllRead{Commit: -1, Prepare: -1, Count: 9, Backward: true}, "admin", "changeit"))
		require.Equal(t, []string{"5@s", "4@s", "3@s", "2@s", "1@s"}, down.events)
		rest := p.all(messages.AllRead{Commit: down.next.Commit, Prepare: down.next.Prepare, Count: 9, Backward: true})
		require.Equal(t, []string{"0@s"}, withoutUsers(rest.events))
		p.quiet()
	})
}
