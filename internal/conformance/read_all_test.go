package conformance_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// The tests of this file share the log with whoever else writes to the server: between their events are others.

// all reads a page of all streams as the administrator.
func (p *peer) all(m messages.AllRead) *pb.ReadAllEventsCompleted {
	p.t.Helper()
	return p.allAs(m, p.admin()...)
}

func (p *peer) allAs(m messages.AllRead, credentials ...string) *pb.ReadAllEventsCompleted {
	p.t.Helper()
	m.RequireLeader = true
	want := messages.ReadAllEventsForwardCompleted
	if m.Backward {
		want = messages.ReadAllEventsBackwardCompleted
	}
	var out pb.ReadAllEventsCompleted
	p.call(&m, credentials...).into(p.t, want, &out)
	if out.GetResult() == messages.ReadAllSuccess {
		require.Nil(p.t, out.Result, "a success says nothing")
		require.Nil(p.t, out.Error)
	} else {
		require.Empty(p.t, out.GetEvents())
		require.Equal(p.t, placeInLog{-1, -1}, nextOf(&out))
	}
	return &out
}

// placeInLog is a position.
type placeInLog struct{ commit, prepare int64 }

func beginOf(m *pb.ReadAllEventsCompleted) placeInLog {
	return placeInLog{m.GetCommitPosition(), m.GetPreparePosition()}
}

func nextOf(m *pb.ReadAllEventsCompleted) placeInLog {
	return placeInLog{m.GetNextCommitPosition(), m.GetNextPreparePosition()}
}

// namesOf are the events of a page that are in one of the streams: number@stream, of a link in front of it what it leads to.
func namesOf(events []*pb.ResolvedEvent, streams ...string) (names []string) {
	name := func(e *pb.EventRecord) string { return fmt.Sprintf("%d@%s", e.GetEventNumber(), e.GetEventStreamId()) }
	for _, e := range events {
		switch {
		case e.Link != nil && slices.Contains(streams, e.GetLink().GetEventStreamId()) && e.Event == nil:
			names = append(names, "nothing by "+name(e.GetLink()))
		case e.Link != nil && slices.Contains(streams, e.GetLink().GetEventStreamId()):
			names = append(names, name(e.GetEvent())+" by "+name(e.GetLink()))
		case e.Link == nil && slices.Contains(streams, e.GetEvent().GetEventStreamId()):
			names = append(names, name(e.GetEvent()))
		}
	}
	return names
}

// walk reads from a place on until it has seen n events of the streams.
func (p *peer) walk(m messages.AllRead, n int, streams ...string) (names []string) {
	p.t.Helper()
	for {
		page := p.all(m)
		require.Equal(p.t, messages.ReadAllSuccess, page.GetResult(), "%s", page.GetError())
		require.NotEmpty(p.t, page.GetEvents(), "the end after %q", names)
		require.LessOrEqual(p.t, len(page.GetEvents()), int(m.Count))
		names = append(names, namesOf(page.GetEvents(), streams...)...)
		if len(names) >= n {
			return names
		}
		next := nextOf(page)
		require.NotEqual(p.t, beginOf(page), next)
		m.Commit, m.Prepare = next.commit, next.prepare
	}
}

// TestReadAll: every event in the order of its commit, in both directions and in pages of each size: also what is hidden
// and deleted, and no empty writes.
func TestReadAll(t *testing.T) {
	srv := serve(t)
	p := dialPeer(t, srv)
	a, b := newStream("all"), newStream("all")
	first := p.append(a, -1, "a0").GetCommitPosition()
	p.append(a, 0, "a1", "a2")
	p.append(a, 2) // no event
	p.append(b, -1, "b0")
	p.metadata(a, `{"$maxCount":1}`)
	p.delete(a, 2, false)
	p.append(b, 0, "b1")
	p.delete(b, 1, true)
	want := []string{"0@" + a, "1@" + a, "2@" + a, "0@" + b, "0@$$" + a, "1@$$" + a, "1@" + b, "9223372036854775807@" + b}
	streams := []string{a, b, "$$" + a, "$$" + b}
	for _, count := range []int32{1, 2, 3, 5, 4096} {
		require.Equal(t, want, p.walk(messages.AllRead{Commit: first, Prepare: first, Count: count}, len(want), streams...))
		down := p.walk(messages.AllRead{Commit: -1, Prepare: -1, Count: count, Backward: true}, len(want), streams...)
		slices.Reverse(down)
		require.Equal(t, want, down)
	}
	// The numbers of a client that did not say that it reads 64 bits.
	old := dialRaw(t, srv)
	narrow := old.walk(messages.AllRead{Commit: first, Prepare: first, Count: 100}, len(want), streams...)
	require.Equal(t, "2147483647@"+b, narrow[len(narrow)-1])
}

// TestReadAllPositions: forward what is at a place belongs to it, backward it does not; and where no record is there is no
// place to read from.
func TestReadAllPositions(t *testing.T) {
	srv := serve(t)
	p := dialPeer(t, srv)
	s := newStream("positions")
	var at []int64
	for i := range 4 {
		at = append(at, p.append(s, int64(i-1), fmt.Sprint(i)).GetCommitPosition())
	}
	name := func(i int) string { return fmt.Sprintf("%d@%s", i, s) }
	for _, test := range []struct {
		commit, prepare   int64
		forward, backward string
	}{
		{at[1], at[1], name(1), name(0)},
		{at[1], at[1] + 1, name(2), name(0)},
		{at[1], math.MaxInt64, name(2), name(0)},
		{at[2], 0, name(2), name(0)}, // backward: it skips what ends here
		{at[2], at[2] - 1, name(2), name(0)},
	} {
		m := messages.AllRead{Commit: test.commit, Prepare: test.prepare, Count: 100}
		require.Equal(t, test.forward, p.walk(m, 1, s)[0], "%+v", m)
		m.Backward = true
		if test.prepare < test.commit && between(p, at[1], at[2]) {
			continue // what ends here is somebody else's
		}
		require.Equal(t, test.backward, p.walk(m, 1, s)[0], "%+v", m)
	}

	page := p.all(messages.AllRead{Commit: at[1], Prepare: at[1], Count: 1})
	require.Equal(t, placeInLog{at[1], at[1]}, beginOf(page))
	require.Equal(t, []string{name(1)}, namesOf(page.GetEvents(), s))
	require.Equal(t, at[1], page.GetEvents()[0].GetCommitPosition())
	require.Equal(t, at[1], page.GetEvents()[0].GetPreparePosition())
	require.Greater(t, page.GetNextCommitPosition(), at[1])
	require.LessOrEqual(t, page.GetNextCommitPosition(), at[2])
	require.Zero(t, page.GetNextPreparePosition())
	// Back from there the event is skipped, and from the same place twice it is not.
	after := page.GetNextCommitPosition()
	page = p.all(messages.AllRead{Commit: after, Prepare: after, Count: 1, Backward: true})
	require.Equal(t, []string{name(1)}, namesOf(page.GetEvents(), s))
	require.Equal(t, placeInLog{at[1], at[1]}, nextOf(page))
	page = p.all(messages.AllRead{Commit: after, Count: 1, Backward: true})
	require.Empty(t, namesOf(page.GetEvents(), name(1)))

	for _, backward := range []bool{false, true} {
		text := "Log record at actual pos "
		if backward {
			text = "Log record that ends at actual pos "
		}
		for _, m := range []messages.AllRead{{Commit: at[1] + 1, Prepare: at[1] + 1}, {Commit: at[1] + 1, Prepare: at[1]}} {
			m.Count, m.Backward = 1, backward
			page := p.all(m)
			require.Equal(t, messages.ReadAllError, page.GetResult(), "%+v", m)
			require.Equal(t, placeInLog{m.Commit, m.Prepare}, beginOf(page))
			const chunk = 256 << 20 // what a file of a real server's log holds
			require.Contains(t, page.GetError(), fmt.Sprint(text, m.Commit%chunk, " has "), "%+v", m)
		}
		for _, m := range []messages.AllRead{
			{Commit: -1}, {Prepare: -1}, {Commit: -2, Prepare: -2}, {Commit: -1, Prepare: -2}, {Commit: math.MinInt64, Prepare: 5},
		} {
			m.Count, m.Backward = 1, backward
			page := p.all(m)
			require.Equal(t, messages.ReadAllError, page.GetResult(), "%+v", m)
			require.Equal(t, "Invalid position.", page.GetError())
			require.Equal(t, placeInLog{m.Commit, m.Prepare}, beginOf(page))
		}
		for _, count := range []int32{0, -1, math.MinInt32} {
			for _, place := range []int64{0, 5, at[1], at[1] + 1, 1 << 62} { // also where no record is
				page := p.all(messages.AllRead{Commit: place, Prepare: place, Count: count, Backward: backward})
				require.Equal(t, messages.ReadAllSuccess, page.GetResult())
				require.Empty(t, page.GetEvents())
				require.Equal(t, placeInLog{place, place}, nextOf(page))
			}
		}
		for _, count := range []int32{4097, math.MaxInt32} {
			page := p.allAs(messages.AllRead{Commit: -1, Prepare: -1, Count: count, Backward: backward}) // whoever it is
			require.Equal(t, messages.ReadAllError, page.GetResult())
			require.Equal(t, "Read size too big, should be less than 4096 items", page.GetError())
			require.Equal(t, placeInLog{-1, -1}, beginOf(page))
		}
		require.Equal(t, messages.ReadAllSuccess, p.all(messages.AllRead{Commit: at[1], Prepare: at[1], Count: 4096, Backward: backward}).GetResult())
	}
	// Before the first record: forward that is inside of one, backward nothing can end there.
	require.Equal(t, messages.ReadAllError, p.all(messages.AllRead{Commit: 5, Prepare: 5, Count: 1}).GetResult())
	for _, m := range []messages.AllRead{{}, {Commit: 5, Prepare: 5}, {Commit: 7, Prepare: 1 << 62}} {
		m.Count, m.Backward = 1, true
		page := p.all(m)
		require.Equal(t, messages.ReadAllSuccess, page.GetResult())
		require.Empty(t, page.GetEvents())
		require.Equal(t, beginOf(page), nextOf(page))
	}
	require.Equal(t, messages.ReadAllError, p.all(messages.AllRead{Commit: 8, Prepare: 8, Count: 1, Backward: true}).GetResult())
}

// between reports whether something else than one of our events was written between two of them.
func between(p *peer, first, second int64) bool {
	p.t.Helper()
	return p.all(messages.AllRead{Commit: first, Prepare: first, Count: 1}).GetNextCommitPosition() != second
}

// TestReadAllAtTheEnd: an empty page, whose next is the same; beyond it that is so forward only.
func TestReadAllAtTheEnd(t *testing.T) {
	srv := serve(t)
	p := dialPeer(t, srv)
	last := p.append(newStream("end"), -1, "a").GetCommitPosition()
	page := p.all(messages.AllRead{Commit: -1, Prepare: -1, Count: 5})
	require.Empty(t, page.GetEvents())
	require.Equal(t, beginOf(page), nextOf(page))
	require.Greater(t, page.GetCommitPosition(), last)
	require.Equal(t, page.GetCommitPosition(), page.GetPreparePosition())
	for _, place := range []int64{1 << 62, math.MaxInt64} {
		page = p.all(messages.AllRead{Commit: place, Prepare: place, Count: 5})
		require.Equal(t, messages.ReadAllSuccess, page.GetResult())
		require.Empty(t, page.GetEvents())
		require.Equal(t, placeInLog{place, place}, nextOf(page))
		page = p.all(messages.AllRead{Commit: place, Prepare: place, Count: 5, Backward: true})
		require.Equal(t, messages.ReadAllError, page.GetResult())
		require.Regexp(t, fmt.Sprintf(`^Requested position %d is greater than writer checkpoint \d+ when requesting to read previous record from TF\.$`, place), page.GetError())
	}
}

// TestReadAllBehindTheLastEvent: a write and a transaction without events are in the log, and are no events. A page that reaches the end
// leads behind the last event and no further, and the next one stays there. What a subscription confirms goes by the transaction's
// commit and not by the write: only behind the former no page says that what was confirmed is reached.
func TestReadAllBehindTheLastEvent(t *testing.T) {
	srv := serve(t)
	p := dialPeer(t, srv)
	for name, nothing := range map[string]func(s string, last int64) (position int64, confirmed bool){
		"a write": func(s string, last int64) (int64, bool) { return p.append(s, last).GetCommitPosition(), false },
		"a transaction": func(s string, last int64) (int64, bool) {
			m := p.commit(p.start(s, last))
			require.Equal(t, messages.Success, m.GetResult(), "%s", m.GetMessage())
			return m.GetCommitPosition(), true
		},
	} {
		s := newStream("behind")
		for try := 0; ; try++ {
			last := p.append(s, int64(try)-1, "a").GetCommitPosition()
			position, confirms := nothing(s, int64(try))
			page := p.all(messages.AllRead{Commit: last, Prepare: last, Count: 1})
			next := nextOf(page)
			rest := p.all(messages.AllRead{Commit: next.commit, Prepare: next.prepare, Count: 5})
			_, subscribed := p.subscribe("", p.admin()...)
			confirmed := subscribed.GetLastCommitPosition()
			end := p.all(messages.AllRead{Commit: -1, Prepare: -1, Count: 1}).GetCommitPosition()
			if (len(rest.GetEvents()) > 0 || confirmed > position) && try < 100 {
				continue // somebody else has written meanwhile
			}
			require.Len(t, page.GetEvents(), 1, name)
			require.Greater(t, next.commit, last, name)
			require.LessOrEqual(t, next.commit, position, name)
			require.Empty(t, rest.GetEvents(), name)
			require.Equal(t, next, nextOf(rest), name)
			require.Greater(t, end, position, name)
			if confirms {
				require.Equal(t, position, confirmed, name)
			} else {
				require.Equal(t, last, confirmed, name)
			}
			break
		}
	}
}

func TestReadAllIsDenied(t *testing.T) {
	srv := serve(t)
	p := dialPeer(t, srv)
	for _, backward := range []bool{false, true} {
		page := p.allAs(messages.AllRead{Commit: 5, Prepare: 7, Count: 1, Backward: backward})
		require.Equal(t, messages.ReadAllAccessDenied, page.GetResult())
		require.Nil(t, page.Error)
		require.Equal(t, placeInLog{5, 7}, beginOf(page))
		page = p.allAs(messages.AllRead{Commit: -1, Prepare: -1, Count: 1, Backward: backward})
		require.Equal(t, messages.ReadAllAccessDenied, page.GetResult())
		require.Positive(t, page.GetCommitPosition(), "it tells the end of the log")
		page = p.allAs(messages.AllRead{Commit: -2, Count: 1, Backward: backward})
		require.Equal(t, "Invalid position.", page.GetError(), "that is looked at first")
	}
	for _, command := range []messages.Command{messages.ReadAllEventsForward, messages.ReadAllEventsBackward} {
		p.refused(p.call(messages.Raw(command, []byte{0xff, 0xff, 0xff})), command.String())
		p.refused(p.call(messages.Raw(command, []byte("\x20\x02"))), command.String()) // a boolean of 2
		a := p.call(messages.Raw(command, nil), p.admin()...)                          // all is left out: nothing from (0, 0)
		require.Equal(t, "\x08\x00\x10\x00\x20\x00\x28\x00", string(a.body))
	}
}

// linkTo writes events that are links, to what their data say.
func (p *peer) linkTo(stream string, data ...string) *pb.WriteEventsCompleted {
	p.t.Helper()
	var events []messages.NewEvent
	for _, target := range data {
		events = append(events, messages.NewEvent{ID: uuid.New(), Type: "$>", Data: []byte(target)})
	}
	m := p.appendEvents(stream, -2, events...)
	require.Equal(p.t, messages.Success, m.GetResult(), "%s", m.GetMessage())
	return m
}

func TestReadAllResolvesLinks(t *testing.T) {
	srv := serve(t)
	p := dialPeer(t, srv)
	target, gone, links := newStream("target"), newStream("gone"), newStream("links")
	first := p.append(target, -1, "a", "b").GetCommitPosition()
	p.append(gone, -1, "x")
	p.delete(gone, 0, true)
	p.linkTo(links, "1@"+target, "7@"+target, "0@"+gone, "nonsense")
	name := func(i int) string { return fmt.Sprintf("%d@%s", i, links) }
	plain := []string{name(0), name(1), name(2), name(3)}
	resolved := []string{"1@" + target + " by " + name(0), "nothing by " + name(1), "nothing by " + name(2), "nothing by " + name(3)}
	m := messages.AllRead{Commit: first, Prepare: first, Count: 100}
	require.Equal(t, plain, p.walk(m, 4, links))
	m.ResolveLinks = true
	require.Equal(t, resolved, p.walk(m, 4, links))
	// One by one, since a page would reach links of others, who may not let anybody read their targets.
	down := p.walk(messages.AllRead{Commit: -1, Prepare: -1, Count: 1, Backward: true, ResolveLinks: true}, 4, links)
	slices.Reverse(down)
	require.Equal(t, resolved, down)
}
