package conformance_test

import (
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// links writes a stream of links with these data, and returns its name.
func (p *peer) links(data ...string) string {
	p.t.Helper()
	stream := newStream("links")
	var events []messages.NewEvent
	for _, d := range data {
		events = append(events, messages.NewEvent{ID: uuid.New(), Type: "$>", Data: []byte(d)})
	}
	require.Equal(p.t, messages.Success, p.appendEvents(stream, -1, events...).GetResult())
	return stream
}

func (p *peer) resolvedPage(backward bool, stream string, from int64, count int32, credentials ...string) *pb.ReadStreamEventsCompleted {
	p.t.Helper()
	r := &messages.StreamRead{Stream: stream, From: from, Count: count, Backward: backward, ResolveLinks: true, RequireLeader: true}
	answer := messages.ReadStreamEventsForwardCompleted
	if backward {
		answer = messages.ReadStreamEventsBackwardCompleted
	}
	var m pb.ReadStreamEventsCompleted
	p.call(r, credentials...).into(p.t, answer, &m)
	return &m
}

func (p *peer) resolvedEvent(stream string, number int64, credentials ...string) *pb.ReadEventCompleted {
	p.t.Helper()
	var m pb.ReadEventCompleted
	p.call(&messages.EventRead{Stream: stream, Number: number, ResolveLinks: true, RequireLeader: true}, credentials...).
		into(p.t, messages.ReadEventCompleted, &m)
	return &m
}

// target is where a resolved event leads to, as a link would say it; "" for nowhere.
func target(e *pb.ResolvedIndexedEvent) string {
	if e.GetEvent() == nil {
		return ""
	}
	return fmt.Sprintf("%d@%s", e.GetEvent().GetEventNumber(), e.GetEvent().GetEventStreamId())
}

// TestLinks: what leads somewhere comes with its target, all else as the link alone.
func TestLinks(t *testing.T) {
	srv := serve(t)
	p := dialPeer(t, srv)
	s, soft, hard, none := p.in(existing), p.in(softDeleted), p.in(hardDeleted), p.in(missing)
	truncated, counted := p.in(existing), p.in(existing)
	require.Equal(t, messages.Success, p.metadata(truncated, `{"$tb":1}`).GetResult())
	require.Equal(t, messages.Success, p.metadata(counted, `{"$maxCount":2}`).GetResult())
	require.Equal(t, messages.Success, p.metadata(counted, `{"$maxCount":1}`).GetResult())
	one := p.links("0@" + s)
	at := newStream("a@b@c")
	written(t, p.append(at, -1, "a"), 0, 0)
	cases := []struct{ data, target string }{
		{"0@" + s, "0@" + s},
		{"2@" + s, "2@" + s},
		{"-1@" + s, "2@" + s},
		{"0@" + at, "0@" + at},
		{"0@" + one, "0@" + one}, // one step only
		{"1@" + truncated, "1@" + truncated},
		{"2@" + counted, "2@" + counted},
		{"1@$$" + counted, "1@$$" + counted},
		{" 1@" + s, "1@" + s},
		{"1 @" + s, "1@" + s},
		{"\t\n\v\f\r01 @" + s, "1@" + s},
		{"+1@" + s, "1@" + s},
		{"-0@" + s, "0@" + s},
		{"1\x00@" + s, "1@" + s},
		{"3@" + s, ""},
		{"-2@" + s, ""},
		{"0@" + none, ""},
		{"0@" + soft, ""},
		{"-1@" + soft, ""},
		{"0@" + hard, ""},
		{"9223372036854775807@" + hard, ""},
		{"0@" + truncated, ""},
		{"1@" + counted, ""},
		{"0@$$" + counted, ""},
		{"0@$$" + s, ""},
		{"9223372036854775808@" + s, ""},
		{"\u00a01@" + s, ""},
		{"\ufeff1@" + s, ""},
		{"1.0@" + s, ""},
		{"0x1@" + s, ""},
		{"1,000@" + s, ""},
		{"- 1@" + s, ""},
		{"x@" + s, ""},
		{"@" + s, ""},
		{"1@" + s + " ", ""},
		{"1@", ""},
		{"1", ""},
		{"", ""},
	}
	var data []string
	for _, c := range cases {
		data = append(data, c.data)
	}
	stream := p.links(data...)
	check := func(n int, e *pb.ResolvedIndexedEvent) {
		t.Helper()
		require.Equal(t, cases[n].target, target(e), "%q", cases[n].data)
		require.EqualValues(t, n, e.GetLink().GetEventNumber())
		require.Equal(t, "$>", e.GetLink().GetEventType())
		require.Equal(t, cases[n].data, string(e.GetLink().GetData()))
	}
	last := len(cases) - 1
	up, down := p.resolvedPage(false, stream, 0, 100), p.resolvedPage(true, stream, -1, 100)
	for _, m := range []*pb.ReadStreamEventsCompleted{up, down} {
		require.Len(t, m.GetEvents(), len(cases))
		require.Equal(t, []any{messages.ReadStreamSuccess, int64(last), true, ""},
			[]any{m.GetResult(), m.GetLastEventNumber(), m.GetIsEndOfStream(), m.GetError()})
	}
	require.EqualValues(t, len(cases), up.GetNextEventNumber(), "by the numbers of the links")
	for n := range cases {
		check(n, up.GetEvents()[n])
		check(n, down.GetEvents()[last-n])
		m := p.resolvedEvent(stream, int64(n))
		require.Equal(t, messages.ReadEventSuccess, m.GetResult())
		check(n, m.GetEvent())
		// Unless it is asked for nothing is resolved.
		raw := p.readEvent(stream, int64(n))
		require.Nil(t, raw.GetEvent().GetLink())
		require.Equal(t, cases[n].data, string(raw.GetEvent().GetEvent().GetData()))
	}
	// What is no link is no link, whatever is asked.
	require.Nil(t, p.resolvedEvent(s, 0).GetEvent().GetLink())
	written(t, p.appendEvents(s, 2, messages.NewEvent{ID: uuid.New(), Type: "$@", Data: []byte("0@" + at)}), 3, 3)
	m := p.resolvedEvent(s, 3)
	require.Nil(t, m.GetEvent().GetLink())
	require.Equal(t, "$@", m.GetEvent().GetEvent().GetEventType())
}

// TestLinksFollowTheirTargets: a link leads to what can be read now.
func TestLinksFollowTheirTargets(t *testing.T) {
	srv := serve(t)
	p := dialPeer(t, srv)
	s := newStream("later")
	stream := p.links("0@"+s, "-1@"+s)
	leadTo := func(want ...string) {
		t.Helper()
		for n, w := range want {
			require.Equal(t, w, target(p.resolvedEvent(stream, int64(n)).GetEvent()))
		}
	}
	leadTo("", "")
	written(t, p.append(s, -1, "a", "b"), 0, 1)
	leadTo("0@"+s, "1@"+s)
	require.Equal(t, messages.Success, p.delete(s, 1, false).GetResult())
	leadTo("", "")
	written(t, p.append(s, 1, "c"), 2, 2)
	p.undeleted(s)
	leadTo("", "2@"+s)
	require.Equal(t, messages.Success, p.delete(s, 2, true).GetResult())
	leadTo("", "")
}

// TestLinksToWhatMayNotBeRead: one of them refuses the whole page, and one that names no event does not. What nobody may read,
// not even the server, ends the projections of a real one for good: they read all streams and resolve the links.
func TestLinksToWhatMayNotBeRead(t *testing.T) {
	srv := serve(t)
	p := dialPeer(t, srv)
	s := p.in(existing)
	secret := "$" + newStream("secret")
	for _, data := range []string{"0@" + secret, "-1@" + secret, "-2@" + secret, "7@" + secret, "0@$$" + secret, "0@$$$$" + s} {
		stream := p.links("0@"+s, data, "1@"+s)
		for _, backward := range []bool{false, true} {
			m := p.resolvedPage(backward, stream, 2, 3)
			if backward {
				require.Equal(t, messages.ReadStreamAccessDenied, m.GetResult(), data)
				require.Empty(t, m.GetEvents())
				require.Equal(t, []any{int64(-1), int64(-1), true, ""},
					[]any{m.GetNextEventNumber(), m.GetLastEventNumber(), m.GetIsEndOfStream(), m.GetError()})
			} else {
				require.Equal(t, messages.ReadStreamSuccess, m.GetResult(), "the page is without it")
			}
		}
		m := p.resolvedEvent(stream, 1)
		require.Equal(t, messages.ReadEventAccessDenied, m.GetResult(), data)
		require.Nil(t, m.GetEvent().GetEvent())
		require.Nil(t, m.GetEvent().GetLink())
		require.Equal(t, messages.ReadEventSuccess, p.readEvent(stream, 1).GetResult(), "as it is")
		if data != "0@$$$$"+s { // nobody's
			admin := p.resolvedPage(false, stream, 0, 3, p.admin()...)
			require.Equal(t, messages.ReadStreamSuccess, admin.GetResult(), data)
			require.Len(t, admin.GetEvents(), 3)
		}
	}
	stream := p.links("x@" + secret)
	require.Equal(t, messages.ReadEventSuccess, p.resolvedEvent(stream, 0).GetResult())
}

// TestClientResolvesLinks: the same by the client, which tells a link by what it holds.
func TestClientResolvesLinks(t *testing.T) {
	ctx := within(t)
	srv := serve(t)
	p := dialPeer(t, srv)
	client := srv.Client(t)
	s := p.in(existing)
	stream := p.links("2@"+s, "9@"+s, "0@"+s)
	var events []eventstore.ResolvedEvent
	for e, err := range client.ReadStream(ctx, stream, eventstore.Start, eventstore.PageSize(2)) {
		require.NoError(t, err)
		events = append(events, e)
	}
	require.Len(t, events, 3)
	for n, e := range events {
		require.EqualValues(t, n, e.Link.Number)
		require.Equal(t, stream, e.Link.Stream)
	}
	require.EqualValues(t, 2, events[0].Event.Number)
	require.Nil(t, events[1].Event)
	require.EqualValues(t, 0, events[2].Event.Number)
	e, err := client.ReadEvent(ctx, stream, eventstore.At(1))
	require.NoError(t, err)
	require.Nil(t, e.Event)
	require.NotNil(t, e.Link)
	e, err = client.ReadEvent(ctx, stream, eventstore.At(0), eventstore.RawLinks())
	require.NoError(t, err)
	require.Nil(t, e.Link)
	require.Equal(t, stream, e.Event.Stream)
}
