package conformance_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// eventOf returns the next event of a subscription to all streams that is in one of these.
func (p *peer) eventOf(id messages.ID, streams ...string) *pb.ResolvedEvent {
	p.t.Helper()
	for {
		e := p.event(id)
		if len(namesOf([]*pb.ResolvedEvent{e}, streams...)) > 0 {
			return e
		}
	}
}

// TestRawSubscriptionToAll: every event in the order of its commit, links resolved for those who want it.
func TestRawSubscriptionToAll(t *testing.T) {
	srv := serve(t)
	p, w, old := dialPeer(t, srv), dialPeer(t, srv), dialRaw(t, srv)
	a, b := newStream("live"), newStream("live")
	links := newStream("links")
	streams := []string{a, b, "$$" + a, "$$" + b, links}
	w.append(a, -1, "a0", "a1")
	plain, confirmation := p.subscribe("", p.admin()...)
	require.Nil(t, confirmation.LastEventNumber)
	require.Positive(t, confirmation.GetLastCommitPosition())
	resolved, _ := p.subscribeBy(resolving(""), p.admin()...)
	narrow, _ := old.subscribe("", p.admin()...)
	name := func(n int, s string) string { return fmt.Sprintf("%d@%s", n, s) }
	last := placeInLog{confirmation.GetLastCommitPosition(), confirmation.GetLastCommitPosition()}
	come := func(wants ...string) {
		t.Helper()
		for _, want := range wants {
			e := p.eventOf(plain, streams...)
			require.Equal(t, []string{want}, namesOf([]*pb.ResolvedEvent{e}, streams...))
			at := placeInLog{e.GetCommitPosition(), e.GetPreparePosition()}
			require.Greater(t, at.commit, last.commit)
			require.Equal(t, at.commit, at.prepare)
			last = at
			r := p.eventOf(resolved, streams...)
			require.Equal(t, e.GetCommitPosition(), r.GetCommitPosition())
			switch want {
			case name(0, links):
				require.Equal(t, []string{name(1, a) + " by " + want}, namesOf([]*pb.ResolvedEvent{r}, streams...))
			case name(1, links):
				require.Equal(t, []string{"nothing by " + want}, namesOf([]*pb.ResolvedEvent{r}, streams...))
			default:
				require.Equal(t, []string{want}, namesOf([]*pb.ResolvedEvent{r}, streams...))
			}
			if e.GetEvent().GetEventNumber() == messages.DeletedNumber {
				want = "2147483647@" + b
			}
			require.Equal(t, []string{want}, namesOf([]*pb.ResolvedEvent{old.eventOf(narrow, streams...)}, streams...))
		}
	}
	w.append(a, 1, "a2")
	w.append(a, 2) // no event, as the next but one and the refused ones
	wrong(t, w.append(a, 0, "x"), 2)
	w.append(b, -1, "b0")
	recognized(t, w.append(b, -1, "b0"), 0, 0)
	w.linkTo(links, "1@"+a, "9@"+a)
	come(name(2, a), name(0, b), name(0, links), name(1, links)) // links are resolved when they are delivered: before the delete
	w.metadata(a, `{"k":1}`)
	w.delete(a, 2, false)
	w.append(a, 2, "a3") // brings the stream back: an event of its metadata comes behind it
	w.delete(b, 0, true)
	wrong(t, w.append(newStream("never"), 7, "x"), -1)
	come(name(0, "$$"+a), name(1, "$$"+a), name(3, a), name(2, "$$"+a), "9223372036854775807@"+b)
	p.unsubscribeFrom(plain)
	p.unsubscribeFrom(resolved)
}

// unsubscribeFrom is unsubscribe, while events may still come.
func (p *peer) unsubscribeFrom(id messages.ID) {
	p.t.Helper()
	p.write(p.frame(id, messages.Raw(messages.UnsubscribeFromStream, nil)))
	for {
		if a := p.reply(id); a.command != messages.StreamEventAppeared {
			require.Equal(p.t, messages.SubscriptionDropped, a.command, "%s", a)
			require.Empty(p.t, a.body)
			return
		}
	}
}

// TestTheNameOfAll is that of a stream without events, and an empty body is a subscription to all.
func TestTheNameOfAll(t *testing.T) {
	srv := serve(t)
	p := dialPeer(t, srv)
	a := p.call(subscribeTo("$all"))
	require.Equal(t, messages.SubscriptionDropped, a.command)
	require.Equal(t, []byte{8, 1}, a.body, "access denied")
	named, confirmation := p.subscribe("$all", p.admin()...)
	require.EqualValues(t, -1, confirmation.GetLastEventNumber())
	require.NotNil(t, confirmation.LastEventNumber)
	ofAll := messages.Raw(messages.SubscribeToStream, nil)
	if p.before40() { // it leaves that without an answer, and wants the name, empty
		ofAll = subscribeTo("")
	}
	all, confirmation := p.subscribeBy(ofAll, p.admin()...)
	require.Nil(t, confirmation.LastEventNumber)
	stream := newStream("named")
	written(t, p.append(stream, -1, "a"), 0, 0)
	require.Nil(t, p.eventOf(all, stream).Link)
	p.unsubscribe(named) // nothing came
	p.unsubscribeFrom(all)
}

// TestLinksOverASubscription: a target is looked up when the link comes.
func TestLinksOverASubscription(t *testing.T) {
	srv := serve(t)
	p := dialPeer(t, srv)
	target, soft, hidden, links := newStream("target"), p.in(softDeleted), newStream("hidden"), newStream("links")
	hard := p.in(hardDeleted)
	p.append(target, -1, "a", "b")
	p.append(hidden, -1, "a", "b", "c")
	p.metadata(hidden, `{"$tb":2}`)
	plain, _ := p.subscribe(links)
	id, _ := p.subscribeBy(resolving(links))
	for i, link := range []struct{ data, want string }{
		{"0@" + target, "0@" + target},
		{"-1@" + target, "1@" + target},
		{"+1@" + target, "1@" + target},
		{"2@" + target, ""},
		{"-2@" + target, ""},
		{"0@" + soft, ""},
		{"0@" + hard, ""},
		{"1@" + hidden, ""},
		{"2@" + hidden, "2@" + hidden},
		{"0@" + newStream("missing"), ""},
		{"0@", ""},
		{"nonsense", ""},
		{"", ""},
		{"0@" + links, "0@" + links}, // a link, and not followed any further
	} {
		p.linkTo(links, link.data)
		e := p.event(plain)
		require.Nil(t, e.Link, link.data)
		require.Equal(t, link.data, string(e.GetEvent().GetData()))
		r := p.event(id)
		require.EqualValues(t, i, r.GetLink().GetEventNumber(), link.data)
		require.Equal(t, e.GetCommitPosition(), r.GetCommitPosition())
		require.Equal(t, e.GetPreparePosition(), r.GetPreparePosition())
		if link.want == "" {
			require.Nil(t, r.Event, link.data)
			continue
		}
		require.Equal(t, link.want, fmt.Sprintf("%d@%s", r.GetEvent().GetEventNumber(), r.GetEvent().GetEventStreamId()), link.data)
	}
	// What is no link comes as it is.
	p.append(links, -2, "event")
	require.Nil(t, p.event(id).Link)
}

// TestHiddenEventsAreLive: what hides events from reads does not hide them from subscriptions.
func TestHiddenEventsAreLive(t *testing.T) {
	srv := serve(t)
	p := dialPeer(t, srv)
	for _, metadata := range []string{`{"$maxCount":1}`, `{"$tb":1000}`, `{"$maxAge":1}`} {
		stream := newStream("hidden")
		p.append(stream, -1, stream+"0", stream+"1")
		p.metadata(stream, metadata)
		id, confirmation := p.subscribe(stream)
		require.EqualValues(t, 1, confirmation.GetLastEventNumber())
		written(t, p.append(stream, 1, stream+"2", stream+"3", stream+"4"), 2, 4)
		for number := range int64(3) {
			require.Equal(t, 2+number, p.event(id).GetEvent().GetEventNumber())
		}
		p.unsubscribe(id)
	}
}

// TestSameIDTwice: two subscriptions of one id deliver, and only the last can be removed.
func TestSameIDTwice(t *testing.T) {
	srv := serve(t)
	p, w := dialPeer(t, srv), dialPeer(t, srv)
	one, two := newStream("twice"), newStream("twice")
	id, _ := p.subscribe(one)
	for _, stream := range []string{one, two} {
		p.write(p.frame(id, subscribeTo(stream)))
		require.Equal(t, messages.SubscriptionConfirmation, p.reply(id).command)
	}
	w.append(one, -1, "a")
	require.Equal(t, one, p.event(id).GetEvent().GetEventStreamId())
	require.Equal(t, one, p.event(id).GetEvent().GetEventStreamId())
	w.append(two, -1, "b")
	require.Equal(t, two, p.event(id).GetEvent().GetEventStreamId())
	p.unsubscribe(id)
	w.append(two, 0, "c")
	p.write(p.frame(id, messages.Raw(messages.UnsubscribeFromStream, nil))) // a second time: no answer
	p.alive()
	w.append(one, 0, "d")
	for range 2 {
		e := p.event(id).GetEvent()
		require.EqualValues(t, 1, e.GetEventNumber())
		require.Equal(t, one, e.GetEventStreamId())
	}
}

// TestMetastreamOfADeletedStream: it is confirmed as deleted too, and a later event of it does not come.
func TestMetastreamOfADeletedStream(t *testing.T) {
	srv := serve(t)
	p := dialPeer(t, srv)
	stream := newStream("meta")
	p.append(stream, -1, "a")
	p.metadata(stream, `{"k":1}`)
	before, confirmation := p.subscribe("$$" + stream)
	require.Zero(t, confirmation.GetLastEventNumber())
	p.delete(stream, 0, true)
	after, confirmation := p.subscribe("$$" + stream)
	require.Equal(t, messages.DeletedNumber, confirmation.GetLastEventNumber())
	require.Equal(t, messages.Success, p.metadata(stream, `{"k":2}`).GetResult())
	require.EqualValues(t, 1, p.event(before).GetEvent().GetEventNumber())
	p.unsubscribe(after) // nothing came
}
