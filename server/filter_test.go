package server

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
	"github.com/goeventstore/eventstore/server/internal/store"
)

func filterOf(context pb.Filter_FilterContext, kind pb.Filter_FilterType, data ...string) *pb.Filter {
	return &pb.Filter{Context: &context, Type: &kind, Data: data}
}

// eachKind writes to the streams a-1, b-1 and a-2 in turns, so many events, of the types t0, t1, t2, t0...
func (p *peer) eachKind(n int) {
	p.t.Helper()
	for i := range n {
		e := events("x")
		e[0].ID, e[0].Type = eventID(fmt.Sprint(i)), fmt.Sprint("t", i%3)
		stream := []string{"a-1", "b-1", "a-2"}[i%3]
		a := p.call(&messages.Append{Stream: stream, Expected: expectAny, Events: e})
		require.Equal(p.t, messages.WriteEventsCompleted, a.command)
	}
}

// everyPage reads all pages of a filtered read, and requires that none is longer than it may be, and that they come to an end.
func (p *peer) everyPage(m *pb.FilteredReadAllEvents, backward bool) (events []string, pages int) {
	p.t.Helper()
	command, want := messages.FilteredReadAllEventsForward, messages.FilteredReadAllEventsForwardCompleted
	at := store.Position{}
	if backward {
		command, want = messages.FilteredReadAllEventsBackward, messages.FilteredReadAllEventsBackwardCompleted
		at = store.Position{Commit: -1, Prepare: -1}
	}
	for pages = 1; ; pages++ {
		require.Less(p.t, pages, 100)
		m.CommitPosition, m.PreparePosition = &at.Commit, &at.Prepare
		a := p.call(messages.Of(command, m), admin...)
		require.Equal(p.t, want, a.command, "%s", a.body)
		var page pb.FilteredReadAllEventsCompleted
		a.into(p.t, &page)
		require.Empty(p.t, page.ProtoReflect().GetUnknown())
		require.Nil(p.t, page.Result, "a success is left out")
		require.NotNil(p.t, page.IsEndOfStream)
		if at.Commit >= 0 {
			begins := store.Position{Commit: page.GetCommitPosition(), Prepare: page.GetPreparePosition()}
			require.Equal(p.t, at, begins)
		}
		require.LessOrEqual(p.t, len(page.GetEvents()), int(m.GetMaxCount()))
		for _, e := range page.GetEvents() {
			events = append(events, fmt.Sprintf("%d@%s", e.GetEvent().GetEventNumber(), e.GetEvent().GetEventStreamId()))
		}
		if page.GetIsEndOfStream() {
			return withoutUsers(events), pages
		}
		at = store.Position{Commit: page.GetNextCommitPosition(), Prepare: page.GetNextPreparePosition()}
	}
}

// TestFilteredReads: what each filter picks of the whole log, both ways, whatever the size of the pages and of the window.
func TestFilteredReads(t *testing.T) {
	p := speaking(t, Dialect{Filtered: true}).peer(t)
	p.eachKind(9)
	p.links("links", "0@a-1")
	const everything = "0@a-1 0@b-1 0@a-2 1@a-1 1@b-1 1@a-2 2@a-1 2@b-1 2@a-2 0@links"
	for _, c := range []struct {
		name   string
		filter *pb.Filter
		want   string
	}{
		{"a prefix", filterOf(pb.Filter_StreamId, pb.Filter_Prefix, "b"), "0@b-1 1@b-1 2@b-1"},
		{"any of the prefixes", filterOf(pb.Filter_StreamId, pb.Filter_Prefix, "b", "a-2", "x"), "0@b-1 0@a-2 1@b-1 1@a-2 2@b-1 2@a-2"},
		{"a type's prefix", filterOf(pb.Filter_EventType, pb.Filter_Prefix, "t1"), "0@b-1 1@b-1 2@b-1"},
		{"a pattern anywhere", filterOf(pb.Filter_StreamId, pb.Filter_Regex, "-2$"), "0@a-2 1@a-2 2@a-2"},
		{"the first pattern alone", filterOf(pb.Filter_StreamId, pb.Filter_Regex, "^b", "^a"), "0@b-1 1@b-1 2@b-1"},
		{"a type's pattern", filterOf(pb.Filter_EventType, pb.Filter_Regex, "^t[02]$"), "0@a-1 0@a-2 1@a-1 1@a-2 2@a-1 2@a-2"},
		{"a link counts as itself", filterOf(pb.Filter_EventType, pb.Filter_Prefix, "$>"), "0@links"},
		{"nothing", filterOf(pb.Filter_StreamId, pb.Filter_Prefix, "none"), ""},
		{"no data picks everything", filterOf(pb.Filter_EventType, pb.Filter_Prefix), everything},
		{"and so does no filter", nil, everything},
	} {
		for _, window := range []int32{0, 1, 4, 1000} {
			for _, count := range []int32{1, 2, 100} {
				for _, backward := range []bool{false, true} {
					got, pages := p.everyPage(&pb.FilteredReadAllEvents{
						MaxCount: &count, MaxSearchWindow: &window, Filter: c.filter,
					}, backward)
					want := strings.Fields(c.want)
					if backward {
						slices.Reverse(want)
					}
					require.Equal(t, withoutUsers(want), got, "%s, window %d, count %d, backward %v", c.name, window, count, backward)
					seen := len(strings.Fields(everything)) + len(ofUsers)
					switch {
					case window == 1 || window == 0 && count == 1:
						require.Equal(t, seen+1, pages, "%s, window %d, count %d: a page an event, and the empty one", c.name, window, count)
					case window == 4 && count == 100:
						require.Equal(t, (seen+3)/4+b2i(seen%4 == 0), pages, "%s: four events a page", c.name)
					case window == 1000 && c.want == "" || count == 100:
						require.Equal(t, 1, pages, "%s, window %d, count %d", c.name, window, count)
					}
				}
			}
		}
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// TestFilteredReadsResolve: the event behind a link that was picked comes with it.
func TestFilteredReadsResolve(t *testing.T) {
	p := speaking(t, Dialect{Filtered: true}).peer(t)
	p.eachKind(1)
	p.links("links", "0@a-1")
	var page pb.FilteredReadAllEventsCompleted
	p.call(messages.Of(messages.FilteredReadAllEventsForward, &pb.FilteredReadAllEvents{
		MaxCount: proto.Int32(100), ResolveLinkTos: proto.Bool(true), Filter: filterOf(pb.Filter_StreamId, pb.Filter_Prefix, "links"),
	}), admin...).into(t, &page)
	require.Len(t, page.GetEvents(), 1)
	require.Equal(t, "a-1", page.GetEvents()[0].GetEvent().GetEventStreamId())
	require.Equal(t, "links", page.GetEvents()[0].GetLink().GetEventStreamId())
}

// TestFilteredReadsThatFail: the results, with their own numbers of fields, and what is no request at all.
func TestFilteredReadsThatFail(t *testing.T) {
	p := speaking(t, Dialect{Filtered: true}).peer(t)
	read := func(m *pb.FilteredReadAllEvents, credentials ...string) string {
		var page pb.FilteredReadAllEventsCompleted
		p.call(messages.Of(messages.FilteredReadAllEventsForward, m), credentials...).into(t, &page)
		require.Empty(t, page.GetEvents())
		require.False(t, page.GetIsEndOfStream())
		return fmt.Sprint(page.GetResult(), " ", page.GetError())
	}
	require.Equal(t, "AccessDenied ", read(&pb.FilteredReadAllEvents{MaxCount: proto.Int32(1)}))
	require.Equal(t, "Error "+textReadTooBig, read(&pb.FilteredReadAllEvents{MaxCount: proto.Int32(4097)}, admin...))
	require.Equal(t, "Error "+textInvalidPosition, read(&pb.FilteredReadAllEvents{MaxCount: proto.Int32(1), CommitPosition: proto.Int64(-2)}, admin...))
	require.Equal(t, "Success ", read(&pb.FilteredReadAllEvents{}, admin...), "nothing was asked for, so that nobody can tell where the end is")
	for _, f := range filtersThatAreNone {
		p.refusal(messages.Of(messages.FilteredReadAllEventsForward, &pb.FilteredReadAllEvents{MaxCount: proto.Int32(1), Filter: f}),
			"FilteredReadAllEventsForward", admin...)
		p.refusal(messages.Of(messages.FilteredReadAllEventsBackward, &pb.FilteredReadAllEvents{MaxCount: proto.Int32(1), Filter: f}),
			"FilteredReadAllEventsBackward", admin...)
		p.refusal(messages.Of(messages.FilteredSubscribeToStream, &pb.FilteredSubscribeToStream{Filter: f}), "FilteredSubscribeToStream", admin...)
	}
	p.refusal(messages.Raw(messages.FilteredReadAllEventsForward, []byte{7<<3 | 2, 5}), "FilteredReadAllEventsForward", admin...)
	p.refusal(messages.Raw(messages.FilteredSubscribeToStream, []byte{2 << 3, 2}), "FilteredSubscribeToStream", admin...)
	p.refusal(messages.Raw(messages.CheckpointReached, nil), "CheckpointReached")

	older := run(t).peer(t)
	for command, number := range map[messages.Command]string{
		messages.FilteredReadAllEventsForward: "186", messages.FilteredReadAllEventsBackward: "188",
		messages.FilteredSubscribeToStream: "210", messages.CheckpointReached: "211",
	} {
		older.refusal(messages.Raw(command, nil), number, admin...)
	}
}

var filtersThatAreNone = []*pb.Filter{
	filterOf(pb.Filter_StreamId, pb.Filter_Regex, "("),
	filterOf(pb.Filter_StreamId, pb.Filter_Regex, "(?=x)"), // .NET has it, and we have not
	filterOf(pb.Filter_StreamId, pb.Filter_Regex, strings.Repeat("x", maxPattern+1)),
	filterOf(2, pb.Filter_Prefix, "x"),
	filterOf(pb.Filter_StreamId, 2, "x"),
	filterOf(-1, pb.Filter_Prefix, "x"),
}

// TestFilteredSubscriptions: the events that are picked, and a checkpoint whenever so many were seen.
func TestFilteredSubscriptions(t *testing.T) {
	for _, c := range []struct {
		interval int32
		want     string // * is a checkpoint
	}{
		{-1, "* b * * * b * * * b *"}, // each event, as with 1
		{0, "* b * * * b * * * b *"},
		{1, "* b * * * b * * * b *"},
		{2, "b * * b * b *"},
		{4, "b * b b *"},
		{1000, "b b b"},
	} {
		t.Run(fmt.Sprint(c.interval), func(t *testing.T) {
			n := speaking(t, Dialect{Filtered: true})
			p, w := n.peer(t), n.peer(t)
			id := p.send(messages.Of(messages.FilteredSubscribeToStream, &pb.FilteredSubscribeToStream{
				EventStreamId: proto.String(""), ResolveLinkTos: proto.Bool(false), CheckpointInterval: &c.interval,
				Filter: filterOf(pb.Filter_StreamId, pb.Filter_Prefix, "b"),
			}), admin...)
			a := p.reply(id)
			require.Equal(t, messages.SubscriptionConfirmation, a.command, "%s", a.body)
			var confirmation pb.SubscriptionConfirmation
			a.into(t, &confirmation)
			require.Nil(t, confirmation.LastEventNumber, "it is of all streams")
			behind := confirmation.GetLastCommitPosition()
			w.eachKind(8)

			var got []string
			places := n.places(t, behind)
			for range strings.FieldsSeq(c.want) {
				switch a := p.reply(id); a.command {
				case messages.CheckpointReached:
					var m pb.CheckpointReached
					a.into(t, &m)
					require.Equal(t, m.GetCommitPosition(), m.GetPreparePosition())
					interval := max(int(c.interval), 1)
					n := strings.Count(strings.Join(got, ""), "*") + 1
					require.Equal(t, places[n*interval-1], m.GetCommitPosition(), "checkpoint %d", n)
					got = append(got, "*")
				case messages.StreamEventAppeared:
					var m pb.StreamEventAppeared
					a.into(t, &m)
					got = append(got, m.GetEvent().GetEvent().GetEventStreamId()[:1])
				default:
					require.Fail(t, a.command.String())
				}
			}
			require.Equal(t, c.want, strings.Join(got, " "))
			p.quiet()
			p.write(frame(t, id, messages.Raw(messages.UnsubscribeFromStream, nil)))
			require.Equal(t, messages.SubscriptionDropped, p.reply(id).command)
			w.appended("b-9", expectNoStream, "z")
			p.quiet()
		})
	}
}

// places are the positions of the events behind one.
func (n *node) places(t *testing.T, behind int64) (places []int64) {
	t.Helper()
	require.NoError(t, n.store.Log(store.Position{Commit: behind + 1}, n.store.Tip().Commit, func(r *store.Record) bool {
		places = append(places, r.Commit)
		return true
	}))
	return places
}

// TestFilteredSubscriptionToOneStream: events of that stream alone are seen.
func TestFilteredSubscriptionToOneStream(t *testing.T) {
	n := speaking(t, Dialect{Filtered: true})
	p, w := n.peer(t), n.peer(t)
	subscribe := &pb.FilteredSubscribeToStream{
		EventStreamId: proto.String("a-1"), CheckpointInterval: proto.Int32(2), Filter: filterOf(pb.Filter_EventType, pb.Filter_Prefix, "x"),
	}
	id := p.send(messages.Of(messages.FilteredSubscribeToStream, subscribe))
	require.Equal(t, messages.SubscriptionConfirmation, p.reply(id).command)
	w.eachKind(12) // 4 of them to a-1
	require.Equal(t, messages.CheckpointReached, p.reply(id).command)
	require.Equal(t, messages.CheckpointReached, p.reply(id).command)
	p.quiet()
	subscribe.EventStreamId = proto.String("$x")
	require.Equal(t, messages.SubscriptionDropped, p.call(messages.Of(messages.FilteredSubscribeToStream, subscribe)).command)
}
