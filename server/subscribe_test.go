package server

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/internal/memnet"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
	"github.com/goeventstore/eventstore/server/internal/store"
)

func TestSubscription(t *testing.T) {
	n := run(t)
	p, w := n.peer(t), n.peer(t)
	w.appended("other", expectAny, "z")
	id, confirmation := p.subscribe("s")
	require.EqualValues(t, -1, confirmation.GetLastEventNumber())
	require.Equal(t, n.store.Tip().Commit, confirmation.GetLastCommitPosition())

	written := w.appended("s", expectAny, "ab")
	first, second := p.event(id), p.event(id)
	require.EqualValues(t, 0, first.Event.Number)
	require.EqualValues(t, 1, second.Event.Number)
	require.Equal(t, first.Commit, first.Prepare)
	require.Less(t, first.Commit, second.Commit)
	require.Equal(t, written.Commit, second.Commit)

	w.append("s", expectAny, "ab")      // idempotent
	w.append("s", 7, "x")               // refused
	w.appended("s", expectAny, "")      // empty
	w.metadata("s", `{"k":1}`)          // another stream
	w.appended("other", expectAny, "y") // another stream
	require.Equal(t, pb.OperationResult_Success, w.delete("s", expectAny, false).GetResult())
	p.quiet()

	own := p.send(&messages.Append{Stream: "s", Expected: expectAny, Events: events("c")})
	require.EqualValues(t, 2, p.event(id).Event.Number, "its own writes too, before or behind the answer")
	require.Equal(t, messages.WriteEventsCompleted, p.reply(own).command)

	a := p.ask(messages.UnsubscribeFromStream, 0, id, "")
	require.Equal(t, messages.SubscriptionDropped, a.command)
	require.Empty(t, a.body)
	w.appended("s", expectAny, "d")
	p.write(packageOf(messages.UnsubscribeFromStream, 0, id, "")) // a second time: no answer
	p.send(messages.Raw(messages.UnsubscribeFromStream, nil))     // an unknown id: no answer
	p.quiet()
}

func TestConfirmations(t *testing.T) {
	n := run(t)
	p := n.peer(t)
	p.appended("s", expectNoStream, "abc")
	p.appended("soft", expectNoStream, "ab")
	p.delete("soft", expectAny, false)
	p.appended("hard", expectNoStream, "ab")
	p.delete("hard", expectAny, true)
	for stream, last := range map[string]int64{
		"s": 2, "none": -1, "soft": 1, "$$soft": 0, "hard": messages.DeletedNumber, "$$hard": messages.DeletedNumber,
	} {
		_, confirmation := p.subscribe(stream)
		require.Equal(t, last, confirmation.GetLastEventNumber(), stream)
	}
	old := n.raw(t) // 32-bit numbers
	for _, stream := range []string{"hard", "$$hard"} {
		_, confirmation := old.subscribe(stream)
		require.Equal(t, messages.DeletedNumber32, confirmation.GetLastEventNumber())
	}
	for _, stream := range []string{"", "$all", "$x"} {
		a := p.call(messages.Of(messages.SubscribeToStream, &pb.SubscribeToStream{EventStreamId: &stream}))
		require.Equal(t, messages.SubscriptionDropped, a.command, stream)
		require.Equal(t, "\x08\x01", string(a.body))
	}
}

// TestHardDeleteIsDelivered: the tombstone is an event with the largest number, and the subscription stays.
func TestHardDeleteIsDelivered(t *testing.T) {
	n := run(t)
	p, old := n.peer(t), n.raw(t)
	p.appended("s", expectNoStream, "ab")
	id, _ := p.subscribe("s")
	oldID, _ := old.subscribe("s")
	position := p.delete("s", expectAny, true).GetCommitPosition()
	e := p.event(id)
	require.Equal(t, messages.DeletedNumber, e.Event.Number)
	require.Equal(t, "$streamDeleted", e.Event.Type)
	require.Zero(t, e.Event.ContentType)
	require.Empty(t, e.Event.Data)
	require.Equal(t, position, e.Commit)
	require.Equal(t, messages.DeletedNumber32, old.event(oldID).Event.Number)
	require.Equal(t, messages.SubscriptionDropped, p.ask(messages.UnsubscribeFromStream, 0, id, "").command)
}

// TestSoftDeleteIsNotDelivered but on the metastream; an undeleting write comes before its metadata.
func TestSoftDeleteIsNotDelivered(t *testing.T) {
	n := run(t)
	p := n.peer(t)
	p.appended("s", expectNoStream, "a")
	id, _ := p.subscribe("s")
	meta, _ := p.subscribe("$$s")
	p.delete("s", expectAny, false)
	deleted := p.event(meta)
	require.Equal(t, `{"$tb":9223372036854775807}`, string(deleted.Event.Data))
	p.appended("s", expectAny, "b")
	written, undeleted := p.event(id), p.event(meta)
	require.EqualValues(t, 1, written.Event.Number)
	require.Equal(t, `{"$tb":1}`, string(undeleted.Event.Data))
	require.Less(t, written.Commit, undeleted.Commit)
	p.quiet()
}

// TestSameIDTwice: every registration delivers, and only the last can be removed.
func TestSameIDTwice(t *testing.T) {
	n := run(t)
	p, w := n.peer(t), n.peer(t)
	id, _ := p.subscribe("a")
	subscribe := frame(t, id, messages.Raw(messages.SubscribeToStream, []byte("\x0a\x01a")))
	p.write(subscribe)
	require.Equal(t, messages.SubscriptionConfirmation, p.reply(id).command)
	w.appended("a", expectAny, "x")
	require.EqualValues(t, 0, p.event(id).Event.Number)
	require.EqualValues(t, 0, p.event(id).Event.Number)
	require.Equal(t, messages.SubscriptionDropped, p.ask(messages.UnsubscribeFromStream, 0, id, "").command)
	w.appended("a", expectAny, "y")
	require.EqualValues(t, 1, p.event(id).Event.Number)
	p.write(packageOf(messages.UnsubscribeFromStream, 0, id, ""))
	p.quiet()
	w.appended("a", expectAny, "z")
	require.EqualValues(t, 2, p.event(id).Event.Number, "the first one cannot be removed any more")
	p.quiet()
}

func TestSubscriptionToAll(t *testing.T) {
	n := run(t)
	p, w := n.peer(t), n.peer(t)
	w.appended("before", expectAny, "z")
	id := p.send(messages.Raw(messages.SubscribeToStream, nil), "admin", "changeit")
	a := p.reply(id)
	require.Equal(t, messages.SubscriptionConfirmation, a.command)
	var confirmation pb.SubscriptionConfirmation
	a.into(t, &confirmation)
	require.Nil(t, confirmation.LastEventNumber)
	require.Equal(t, n.store.Tip().Commit, confirmation.GetLastCommitPosition())
	w.appended("a", expectAny, "a")
	w.appended("a", expectAny, "") // no event
	w.appended("b", expectAny, "bc")
	w.delete("a", expectAny, false)
	w.delete("b", expectAny, true)
	for _, want := range []string{"0@a", "0@b", "1@b", "0@$$a", "9223372036854775807@b"} {
		e := p.event(id)
		require.Equal(t, want, fmt.Sprintf("%d@%s", e.Event.Number, e.Event.Stream))
	}
	p.quiet()
}

// TestNoEventIsLostBehindTheConfirmation: a writer runs all the time, and a subscription begins exactly behind the number
// that its confirmation tells.
func TestNoEventIsLostBehindTheConfirmation(t *testing.T) {
	n := run(t)
	stop, stopped := make(chan struct{}), make(chan struct{})
	w := n.peer(t)
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				w.call(&messages.Append{Stream: "s", Expected: expectAny, Events: []messages.NewEvent{{ID: uuid.New(), Type: "t"}}})
			}
		}
	}()
	for range 50 {
		p := n.peer(t)
		id, confirmation := p.subscribe("s")
		next := confirmation.GetLastEventNumber() + 1
		for range 5 {
			e := p.event(id)
			require.Equal(t, next, e.Event.Number)
			require.Greater(t, e.Commit, confirmation.GetLastCommitPosition())
			next++
		}
		require.NoError(t, p.conn.Close())
	}
	close(stop)
	<-stopped
}

// TestASlowSubscriberIsNotCut: a subscriber that does not read costs its cursor, however much is written meanwhile, and
// gets everything in order when it reads again.
func TestASlowSubscriberIsNotCut(t *testing.T) {
	const count, size = 2000, 16 << 10 // three times what may be pending of replies
	n := run(t)
	p, w := n.peer(t), n.peer(t)
	id, _ := p.subscribe("s")
	data := make([]byte, size)
	for range count / 10 {
		batch := make([]messages.NewEvent, 10)
		for i := range batch {
			batch[i] = messages.NewEvent{ID: uuid.New(), Type: "t", Data: data}
		}
		w.call(&messages.Append{Stream: "s", Expected: expectAny, Events: batch})
	}
	n.mu.Lock()
	for s := range n.sessions {
		s.out.mu.Lock()
		require.Less(t, s.out.bytes, 64<<10)
		s.out.mu.Unlock()
	}
	n.mu.Unlock()
	for i := range int64(count) {
		require.Equal(t, i, p.event(id).Event.Number)
	}
	p.quiet()
}

// TestManySubscriptions: 5,000 on one connection, each with its own events.
func TestManySubscriptions(t *testing.T) {
	const count = 5000
	n := run(t, memnet.WithBuffer(4<<20))
	p, w := n.peer(t), n.peer(t)
	goroutines := runtime.NumGoroutine()
	streams := make(map[messages.ID]string)
	for i := range count {
		stream := fmt.Sprintf("s-%d", i%500) // ten to each stream
		id, _ := p.subscribe(stream)
		streams[id] = stream
	}
	require.LessOrEqual(t, runtime.NumGoroutine(), goroutines+2)
	for i := range 500 {
		w.appended(fmt.Sprintf("s-%d", i), expectAny, "a")
	}
	seen := make(map[messages.ID]bool)
	for range count {
		a := p.next()
		var e messages.ResolvedEvent
		require.NoError(t, messages.DecodeAppeared(a.body, nil, &e))
		require.Equal(t, streams[a.id], e.Event.Stream)
		require.False(t, seen[a.id])
		seen[a.id] = true
	}
	p.quiet()
	require.NoError(t, p.conn.Close())
}

// TestFairness: a subscription with much to say does not keep the others waiting.
func TestFairness(t *testing.T) {
	n := run(t)
	p, w := n.peer(t), n.peer(t)
	much, _ := p.subscribe("much")
	little, _ := p.subscribe("little")
	data := make([]byte, 8<<10)
	for range 500 {
		w.call(&messages.Append{Stream: "much", Expected: expectAny, Events: []messages.NewEvent{{ID: uuid.New(), Type: "t", Data: data}}})
	}
	w.appended("little", expectAny, "a")
	before := 0
	for {
		a := p.next()
		if a.id == little {
			break
		}
		require.Equal(t, much, a.id)
		before++
	}
	require.Less(t, before, 450)
}

// linkTo writes events that are links to a stream: a number each.
func (p *peer) linkTo(links string, data ...string) {
	p.t.Helper()
	var made []messages.NewEvent
	for _, target := range data {
		made = append(made, messages.NewEvent{ID: uuid.New(), Type: typeLink, Data: []byte(target)})
	}
	a := p.call(&messages.Append{Stream: links, Expected: expectAny, Events: made}, "admin", "changeit")
	var m messages.AppendCompleted
	require.NoError(p.t, m.Decode(a.body))
	require.Equal(p.t, messages.Success, m.Result, m.Message)
}

// TestLinksAreResolved for those who want it, in a stream and in all: what cannot be found is delivered as the link alone,
// and nobody asks whether a target may be read.
func TestLinksAreResolved(t *testing.T) {
	n := run(t)
	p, w := n.peer(t), n.peer(t)
	w.appended("target", expectNoStream, "ab")
	w.appended("soft", expectNoStream, "a")
	w.delete("soft", expectAny, false)
	w.appended("hard", expectNoStream, "a")
	w.delete("hard", expectAny, true)
	w.call(&messages.Append{Stream: "$secret", Expected: expectAny, Events: events("s")}, "admin", "changeit")
	plain, _ := p.subscribe("links")
	resolving, _ := p.subscribeTo("links", true)
	all, _ := p.subscribeTo("", true, "admin", "changeit")
	links := []string{"1@target", "-1@target", "7@target", "0@soft", "0@hard", "0@$secret", "0@none", "nonsense", "-2@target", "0@links"}
	w.linkTo("links", links...)
	want := []string{"1@target", "1@target", "", "", "", "0@$secret", "", "", "", "0@links"}
	for i, link := range links {
		e := p.event(plain)
		require.True(t, e.HasEvent)
		require.False(t, e.HasLink)
		require.Equal(t, link, string(e.Event.Data))
		for _, id := range []messages.ID{resolving, all} {
			r := p.event(id)
			require.True(t, r.HasLink, link)
			require.Equal(t, e.Event, r.Link)
			require.Equal(t, want[i] != "", r.HasEvent, link)
			if r.HasEvent {
				require.Equal(t, want[i], fmt.Sprintf("%d@%s", r.Event.Number, r.Event.Stream))
			}
			require.Equal(t, [2]int64{e.Commit, e.Prepare}, [2]int64{r.Commit, r.Prepare}, "of the link")
		}
	}
	w.appended("links", expectAny, "a") // no link
	for _, id := range []messages.ID{plain, resolving, all} {
		e := p.event(id)
		require.True(t, e.HasEvent)
		require.False(t, e.HasLink)
	}
	p.quiet()
}

// TestWhatIsHiddenIsDelivered: $maxCount, $tb and $maxAge hide events from reads, not from subscriptions.
func TestWhatIsHiddenIsDelivered(t *testing.T) {
	n := run(t)
	p, w := n.peer(t), n.peer(t)
	for i, metadata := range []string{`{"$maxCount":1}`, `{"$tb":100}`, `{"$maxAge":1}`} {
		stream := fmt.Sprint("hidden-", i)
		w.appended(stream, expectNoStream, "ab")
		w.metadata(stream, metadata)
		id, confirmation := p.subscribe(stream)
		require.EqualValues(t, 1, confirmation.GetLastEventNumber())
		w.appended(stream, expectAny, "cde")
		for number := range int64(3) {
			require.Equal(t, 2+number, p.event(id).Event.Number)
		}
	}
	p.quiet()
}

// TestMetastreamOfADeletedStream: it may go on, and who subscribes to it then hears nothing of that.
func TestMetastreamOfADeletedStream(t *testing.T) {
	n := run(t)
	p, w := n.peer(t), n.peer(t)
	w.appended("s", expectNoStream, "a")
	w.metadata("s", `{"a":1}`)
	before, _ := p.subscribe("$$s")
	w.delete("s", expectAny, true)
	after, confirmation := p.subscribe("$$s")
	require.Equal(t, messages.DeletedNumber, confirmation.GetLastEventNumber())
	require.Equal(t, messages.Success, w.metadata("s", `{"a":2}`).Result)
	require.EqualValues(t, 1, p.event(before).Event.Number)
	p.quiet()
	require.Equal(t, messages.SubscriptionDropped, p.ask(messages.UnsubscribeFromStream, 0, after, "").command)
}

// TestTransactionIsDelivered at its commit, in its order, by a cursor that may stop in the middle of it.
func TestTransactionIsDelivered(t *testing.T) {
	m := store.NewMemory(100)
	event := func(stream string, number, commit, prepare, end int64, size int) {
		e := messages.EventRecord{Stream: stream, Number: number, Data: make([]byte, size)}
		require.NoError(t, m.Stage(end, store.Record{Stream: stream, Number: number, Commit: commit, Prepare: prepare, Encoded: e.AppendTo(nil)}))
	}
	pending := func(at, end int64) {
		require.NoError(t, m.Stage(end, store.Record{Kind: store.Pending, Commit: at, Prepare: at}))
	}
	c := &session{server: new(Server), out: newOutput()}
	c.version.Store(1)
	deliver := func(sub *subscription) (places []store.Position) {
		tip := m.Tip()
		var b batch
		_, err := c.deliver(sub, view{store: m, at: tip.Commit, end: tip.End}, &b)
		require.NoError(t, err)
		for rest := b.events; len(rest) > 0; {
			size := 4 + int(binary.LittleEndian.Uint32(rest))
			f, err := messages.ParseFrame(rest[4:size])
			require.NoError(t, err)
			var e messages.ResolvedEvent
			require.NoError(t, messages.DecodeAppeared(f.Body, nil, &e))
			places = append(places, store.Position{Commit: e.Commit, Prepare: e.Prepare})
			rest = rest[size:]
		}
		return places
	}
	all, one := &subscription{session: c}, &subscription{session: c, stream: "tx"}
	pending(100, 110)
	pending(110, 120)
	event("between", 0, 120, 120, 130, 0)
	pending(130, 140)
	require.NoError(t, m.Commit())
	require.Equal(t, []store.Position{{Commit: 120, Prepare: 120}}, deliver(all))
	require.Empty(t, deliver(one))
	event("tx", 0, 140, 110, 150, pumpTurn)
	event("tx", 1, 140, 130, 150, pumpTurn)
	event("after", 0, 150, 150, 160, 0)
	require.NoError(t, m.Commit())
	require.Equal(t, []store.Position{{Commit: 140, Prepare: 110}}, deliver(all))
	require.Equal(t, []store.Position{{Commit: 140, Prepare: 130}}, deliver(all))
	require.Equal(t, []store.Position{{Commit: 150, Prepare: 150}}, deliver(all))
	require.Empty(t, deliver(all))
	require.Equal(t, []store.Position{{Commit: 140, Prepare: 110}}, deliver(one))
	require.Equal(t, []store.Position{{Commit: 140, Prepare: 130}}, deliver(one))
	require.Empty(t, deliver(one))
}

// TestBothOrdersOfAnOwnWrite: whoever subscribes and writes on one connection meets the event before the answer and behind
// it, as with a real server; a confirmation is always first.
func TestBothOrdersOfAnOwnWrite(t *testing.T) {
	n := run(t)
	p := n.peer(t)
	sub, _ := p.subscribe("s")
	before, behind := 0, 0
	for range 100 {
		p.write(frame(t, p.id(), &messages.Append{Stream: "s", Expected: expectAny, Events: []messages.NewEvent{{ID: uuid.New(), Type: "t"}}}))
		first, second := p.next(), p.next()
		if first.id == sub {
			before++
		} else {
			behind++
		}
		require.ElementsMatch(t, []messages.Command{messages.StreamEventAppeared, messages.WriteEventsCompleted},
			[]messages.Command{first.command, second.command})
	}
	require.Greater(t, before, 20)
	require.Greater(t, behind, 20)
	// In one segment: write, subscribe, write.
	for range 100 {
		var b []byte
		event := []messages.NewEvent{{ID: uuid.New(), Type: "t"}}
		b = append(b, frame(t, p.id(), &messages.Append{Stream: "t", Expected: expectAny, Events: event})...)
		id := p.id()
		b = append(b, frame(t, id, messages.Raw(messages.SubscribeToStream, []byte("\x0a\x01t")))...)
		event = []messages.NewEvent{{ID: uuid.New(), Type: "t"}}
		b = append(b, frame(t, p.id(), &messages.Append{Stream: "t", Expected: expectAny, Events: event})...)
		p.write(b)
		require.Equal(t, messages.SubscriptionConfirmation, p.reply(id).command)
	}
}

// TestIdleSubscriptionsCostNothing: with 5,000 of them on one connection a write to another stream looks at none.
func TestIdleSubscriptionsCostNothing(t *testing.T) {
	const count = 5000
	n := run(t, memnet.WithBuffer(4<<20))
	p, w := n.peer(t), n.peer(t)
	for i := range count {
		p.subscribe(fmt.Sprintf("idle-%d", i%50))
	}
	p.quiet()
	targets := n.subscriptions.appendTo(nil, []string{"busy"})
	require.Empty(t, targets, "nobody is looked at")
	w.appended("busy", expectAny, "a")
	n.mu.Lock()
	for s := range n.sessions {
		s.out.mu.Lock()
		require.Empty(t, s.out.dirty)
		s.out.mu.Unlock()
	}
	n.mu.Unlock()
	p.quiet()
}
