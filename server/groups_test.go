package server

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
	"github.com/goeventstore/eventstore/server/internal/groups"
)

var adminUser = &user{login: "admin", roles: []string{roleAdmins, "admin"}}

// usualGroup are the settings of the group g of a stream.
func usualGroup(stream string) *groups.Settings {
	return &groups.Settings{
		Stream: stream, Group: "g", MessageTimeout: 30_000, LiveBuffer: 500, Buffer: 500, MaxRetries: 10, ReadBatch: 20,
		CheckpointAfter: 2000, CheckpointMin: 10, CheckpointMax: 1000, Strategy: groups.RoundRobin,
	}
}

type groupAnswer struct {
	result groupResult
	reason string
}

// managed waits for the result of a change.
func managed(do func(done groupDone)) groupAnswer {
	answer := make(chan groupAnswer, 1)
	do(func(result groupResult, reason string) { answer <- groupAnswer{result, reason} })
	return <-answer
}

func (n *node) group(tb testing.TB, settings *groups.Settings) {
	tb.Helper()
	require.Equal(tb, groupAnswer{groupSuccess, ""}, managed(func(done groupDone) { n.groups.create(adminUser, settings, done) }))
}

// groupMember is a consumer of the group g of a stream.
type groupMember struct {
	*peer
	id     messages.ID
	stream string
}

func (p *peer) connect(stream string, window int32) *groupMember {
	p.t.Helper()
	group := "g"
	m := &groupMember{p, messages.ID(uuid.New()), stream} // the ids of two peers are the same, and a group goes by them
	p.write(frame(p.t, m.id, messages.Of(messages.ConnectToPersistentSubscription, &pb.ConnectToPersistentSubscription{
		SubscriptionId: &group, EventStreamId: &stream, AllowedInFlightMessages: &window,
	})))
	a := p.reply(m.id)
	require.Equal(p.t, messages.PersistentSubscriptionConfirmation, a.command, "%x", a.body)
	return m
}

// got is a message as a table can hold it.
type got struct {
	subject, link string
	retries       int32
}

func (m *groupMember) message() (got, uuid.UUID) {
	m.t.Helper()
	a := m.reply(m.id)
	require.Equal(m.t, messages.PersistentSubscriptionStreamEventAppeared, a.command, "%x", a.body)
	var e pb.PersistentSubscriptionStreamEventAppeared
	a.into(m.t, &e)
	name := func(r *pb.EventRecord) string {
		if r == nil {
			return ""
		}
		return fmt.Sprintf("%d@%s", r.GetEventNumber(), r.GetEventStreamId())
	}
	original := e.GetEvent().GetLink()
	if original == nil {
		original = e.GetEvent().GetEvent()
	}
	id, err := messages.ParseGUID(original.GetEventId())
	require.NoError(m.t, err)
	return got{name(e.GetEvent().GetEvent()), name(e.GetEvent().GetLink()), e.GetRetryCount()}, id
}

func (m *groupMember) gets(want ...got) (ids []uuid.UUID) {
	m.t.Helper()
	for _, w := range want {
		g, id := m.message()
		require.Equal(m.t, w, g)
		ids = append(ids, id)
	}
	return ids
}

func wireIDs(ids []uuid.UUID) (wire [][]byte) {
	for _, id := range ids {
		wire = append(wire, messages.AppendGUID(nil, id))
	}
	return wire
}

func (m *groupMember) ack(ids ...uuid.UUID) {
	m.t.Helper()
	m.write(frame(m.t, m.id, messages.Of(messages.PersistentSubscriptionAckEvents, &pb.PersistentSubscriptionAckEvents{
		SubscriptionId: proto.String(m.stream + "::g"), ProcessedEventIds: wireIDs(ids),
	})))
}

func (m *groupMember) park(text string, ids ...uuid.UUID) {
	m.t.Helper()
	m.write(frame(m.t, m.id, messages.Of(messages.PersistentSubscriptionNakEvents, &pb.PersistentSubscriptionNakEvents{
		SubscriptionId: proto.String(m.stream + "::g"), ProcessedEventIds: wireIDs(ids), Message: &text,
		Action: pb.PersistentSubscriptionNakEvents_Park.Enum(),
	})))
}

// settle has everything that was asked for take effect: the session's requests, the writer, the groups.
func (m *groupMember) settle() {
	m.t.Helper()
	require.Equal(m.t, messages.Pong, m.call(messages.Raw(messages.Ping, nil)).command)
	m.appended("settle", expectAny, "")
}

func TestGroupReplay(t *testing.T) {
	n := run(t)
	p := n.peer(t)
	p.appended("s", expectNoStream, "abcd")
	n.group(t, usualGroup("s"))
	m := p.connect("s", 10)
	ids := m.gets(got{subject: "0@s"}, got{subject: "1@s"}, got{subject: "2@s"}, got{subject: "3@s"})
	m.park("why", ids[2], ids[0], ids[1])
	m.ack(ids[3])
	m.settle()
	parked := parkedStreamOf("s")
	require.Equal(t, groupDoesNotExist, first(n.groups.replay(adminUser, "s", "nope", -1)))
	require.Equal(t, groupAccessDenied, first(n.groups.replay(nil, "s", "g", -1)))
	require.Equal(t, groupSuccess, first(n.groups.replay(adminUser, "s", "g", 2)), "up to 2")
	ids = m.gets(got{"0@s", "1@" + parked, 0}, got{"2@s", "0@" + parked, 0})
	m.ack(ids[0])
	m.settle()
	const hidden = `{"$tb":2,"$acl":{"$r":"$admins","$w":"$admins","$d":"$admins","$mr":"$admins","$mw":"$admins"}}`
	require.Equal(t, []string{hidden}, []string{m.metadataOf(parked)}, "to the letter")

	require.Equal(t, groupSuccess, first(n.groups.replay(adminUser, "s", "g", -1)), "the rest")
	m.gets(got{"1@s", "2@" + parked, 0})
	// What was replayed and not acked is not forgotten with an update.
	require.Equal(t, groupAnswer{groupSuccess, ""}, managed(func(done groupDone) { n.groups.update(adminUser, usualGroup("s"), done) }))
	require.Equal(t, messages.SubscriptionDropped, m.reply(m.id).command)
	m = p.connect("s", 10)
	m.gets(got{"1@s", "2@" + parked, 0}, got{"2@s", "0@" + parked, 0}, got{subject: "0@s"})
}

func first(result groupResult, _ string) groupResult { return result }

func parkedStreamOf(stream string) string { return "$persistentsubscription-" + stream + "::g-parked" }

func (p *peer) metadataOf(stream string) string {
	p.t.Helper()
	a := p.call(&messages.EventRead{Stream: "$$" + stream, Number: -1, RequireLeader: true}, "admin", "changeit")
	var m messages.EventReadCompleted
	require.NoError(p.t, m.Decode(a.body, nil))
	return string(m.Event.Event.Data)
}

// TestGroupsAreKnownAgain: from the log alone, behind their checkpoints.
func TestGroupsAreKnownAgain(t *testing.T) {
	n := run(t)
	p := n.peer(t)
	p.appended("s", expectNoStream, "abc")
	settings := usualGroup("s")
	settings.CheckpointMin, settings.CheckpointMax, settings.Statistics = 1, 1, true
	n.group(t, settings)
	n.group(t, usualGroup("t"))
	m := p.connect("s", 10)
	ids := m.gets(got{subject: "0@s"}, got{subject: "1@s"}, got{subject: "2@s"})
	m.ack(ids[:2]...)
	m.settle()

	again := newGroupService(n.Server)
	require.NoError(t, again.load())
	require.Equal(t, *settings, *again.find("s", "g").Settings())
	require.NotNil(t, again.find("t", "g"))
	stats, ok := again.stats("s", "g")
	require.True(t, ok)
	require.Equal(t, 1, stats.Buffered, "2 alone")
	require.Len(t, again.allStats(""), 2)
	require.Len(t, again.allStats("t"), 1)

	// What an old server kept, and what nobody can use.
	_, err := n.writeOwn(groupsStream, expectAny, jsonEvent(typeGroups, []byte(`{"version":"1","entries":[
		{"stream":"a","group":"g","preferRoundRobin":true},{"stream":"b","group":"g"},{"stream":"c","group":"g","namedConsumerStrategy":"x"},
		{"stream":"d","group":"g","liveBufferSize":-1},{"stream":"a","group":"g"}]}`)))
	require.NoError(t, err)
	again = newGroupService(n.Server)
	require.NoError(t, again.load())
	require.Len(t, again.entries, 2)
	require.Equal(t, groups.RoundRobin, again.find("a", "g").Settings().Strategy)
	require.Equal(t, groups.DispatchToSingle, again.find("b", "g").Settings().Strategy)
}

// TestGroupIsRecreated: with the delete still on its way to the log, the old checkpoint does not count.
func TestGroupIsRecreated(t *testing.T) {
	n := run(t)
	p := n.peer(t)
	p.appended("s", expectNoStream, "ab")
	settings := usualGroup("s")
	settings.CheckpointMin, settings.CheckpointMax = 1, 1
	for range 50 {
		n.group(t, settings)
		m := p.connect("s", 10)
		m.ack(m.gets(got{subject: "0@s"}, got{subject: "1@s"})...)
		m.settle()
		n.groups.delete(adminUser, "s", "g", func(groupResult, string) {})
		require.Equal(t, messages.SubscriptionDropped, m.reply(m.id).command)
		require.Equal(t, groupAnswer{groupSuccess, ""}, managed(func(done groupDone) { n.groups.create(adminUser, settings, done) }))
		m = p.connect("s", 10)
		m.gets(got{subject: "0@s"}, got{subject: "1@s"})
		require.Equal(t, groupAnswer{groupSuccess, ""}, managed(func(done groupDone) { n.groups.delete(adminUser, "s", "g", done) }))
		require.Equal(t, messages.SubscriptionDropped, m.reply(m.id).command)
	}
}

func TestGroupRefusals(t *testing.T) {
	n := run(t)
	settings := usualGroup("s")
	settings.LiveBuffer = -1
	create := func() groupAnswer {
		return managed(func(done groupDone) { n.groups.create(adminUser, settings, done) })
	}
	require.Equal(t, groupAnswer{groupFail, "The live buffer size must not be negative."}, create())
	settings.LiveBuffer = 0
	for i := range maxGroups {
		settings.Group = fmt.Sprint(i)
		n.groups.mu.Lock()
		g, err := n.groups.add(settings) // without an event that keeps them all, each time
		n.groups.mu.Unlock()
		require.NoError(t, err)
		require.NotNil(t, g)
	}
	settings.Group = "one more"
	require.Equal(t, groupAnswer{groupFail, textTooMany}, create())
}

// TestGroupSlowConsumer: a consumer with a large window that does not read holds nobody up.
func TestGroupSlowConsumer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // or heartbeats go unanswered where 2,000 appends take seconds
		n := run(t)
		w := n.peer(t)
		n.group(t, usualGroup("s"))
		slow := n.peer(t).connect("s", 100_000)
		fast := n.peer(t).connect("s", 1)
		for i := range 2000 {
			w.appended("s", expectAny, letters(i))
			if i%2 == 1 {
				g, id := fast.message()
				require.Zero(t, g.retries)
				fast.ack(id)
				fast.settle()
			}
		}
		seen := 0
		for ; seen < 1000; seen++ {
			_, _ = slow.message()
		}
		slow.write(frame(t, slow.id, messages.Raw(messages.UnsubscribeFromStream, nil)))
		require.Equal(t, messages.SubscriptionDropped, slow.reply(slow.id).command)
	})
}

// letters names an event id for each number.
func letters(i int) string { return string(rune(0x4E00 + i)) }

// TestGroupTick: what times out comes again on the server's own clock.
func TestGroupTick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := run(t)
		p := n.peer(t)
		p.appended("s", expectNoStream, "a")
		settings := usualGroup("s")
		settings.MessageTimeout = 2500
		n.group(t, settings)
		began := time.Now()
		m := p.connect("s", 1)
		m.gets(got{subject: "0@s"}, got{subject: "0@s", retries: 1}, got{subject: "0@s", retries: 2})
		require.Equal(t, 6*time.Second, time.Since(began).Truncate(time.Second))
	})
}

// TestGroupBodies: whatever the body is, it is answered, or passed over, and the connection lives.
func TestGroupBodies(t *testing.T) {
	n := run(t)
	n.group(t, usualGroup("s"))
	p := n.peer(t)
	id := strings.Repeat("i", 16)
	for _, command := range []messages.Command{messages.PersistentSubscriptionAckEvents, messages.PersistentSubscriptionNakEvents} {
		for body, bad := range map[string]bool{
			"": true, "\x0a\x04s::g": true, "\x0a\x04s::g\x12\x10" + id: false, "\x0a\x04s::g\x12\x10" + id + "\x12\x0f" + id[1:]: true,
			"\x0a\x04s::g\x12\x00": true, "\x0a\x04s::g\x10\x01": true, "\x0a\x04s::g\x12\x10" + id + "\xff": true,
			"\x0a\x02\xff\xff\x12\x10" + id: false, "\x0a\x04s::g\x12\x10" + id + "\x28\x01": false, // an unknown field
			"\x12\x10" + id:                                  command == messages.PersistentSubscriptionAckEvents,
			"\x0a\x04s::g\x12\x10" + id + "\x20\x05":         command == messages.PersistentSubscriptionNakEvents,
			"\x0a\x04s::g\x12\x10" + id + "\x22\x01x":        command == messages.PersistentSubscriptionNakEvents,
			"\x0a\x04s::g\x12\x10" + id + "\x1a\x02\xff\xff": false,
		} {
			sent := p.send(messages.Raw(command, []byte(body)))
			if bad {
				require.Equal(t, messages.BadRequest, p.reply(sent).command, "%s %q", command, body)
			}
			p.quiet()
		}
	}
	for _, command := range []messages.Command{
		messages.CreatePersistentSubscription, messages.UpdatePersistentSubscription, messages.DeletePersistentSubscription,
		messages.ConnectToPersistentSubscription,
	} {
		require.Equal(t, messages.BadRequest, p.call(messages.Raw(command, []byte("\x0a\xff"))).command)
	}
}

// TestGroupsOfManyConnections: a session that ends takes its consumers along, of all groups.
func TestGroupsOfManyConnections(t *testing.T) {
	n := run(t)
	w := n.peer(t)
	w.appended("s", expectNoStream, "ab")
	w.appended("t", expectNoStream, "ab")
	n.group(t, usualGroup("s"))
	n.group(t, usualGroup("t"))
	p := n.peer(t)
	a, b := p.connect("s", 1), p.connect("t", 1)
	a.gets(got{subject: "0@s"})
	b.gets(got{subject: "0@t"})
	require.NoError(t, p.conn.Close())
	require.Eventually(t, func() bool {
		n.groups.mu.Lock()
		defer n.groups.mu.Unlock()
		return len(n.groups.bySession) == 0 && len(n.groups.byID) == 0
	}, time.Minute, time.Millisecond)
	q := n.peer(t)
	q.connect("s", 2).gets(got{subject: "0@s", retries: 1}, got{subject: "1@s"})
	q.connect("t", 2).gets(got{subject: "0@t", retries: 1}, got{subject: "1@t"})
}

// BenchmarkGroup delivers events of 256 bytes to a consumer with a window of 1,000, which acks them 100 at a time. An operation
// is one event, written, delivered and acked.
func BenchmarkGroup(b *testing.B) {
	const each, window = 100, 1000
	s, err := Start(Config{DB: folder(b)})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, s.Close()) })
	n := &node{Server: s}
	n.group(b, usualGroup("bench"))
	conn := dialTo(b, s)
	r := messages.NewReader(conn, 256<<10)
	group, stream, size := "g", "bench", int32(window)
	hello, err := messages.AppendFrame(nil, messages.ID{1}, nil, messages.Of(messages.ConnectToPersistentSubscription,
		&pb.ConnectToPersistentSubscription{SubscriptionId: &group, EventStreamId: &stream, AllowedInFlightMessages: &size}))
	require.NoError(b, err)
	_, err = conn.Write(hello)
	require.NoError(b, err)
	f, err := r.Next()
	require.NoError(b, err)
	require.Equal(b, messages.PersistentSubscriptionConfirmation, f.Command)
	events := make([]messages.NewEvent, each)
	for i := range events {
		events[i] = messages.NewEvent{Type: "happened", ContentType: 1, Data: make([]byte, 256)}
	}
	request := &messages.Append{Stream: "bench", Expected: expectAny, Events: events}
	var out []byte
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; i < b.N; i += each {
		ack := []byte("\x0a\x08bench::g")
		ack[1] = 8
		for k := range events {
			binary.BigEndian.PutUint64(events[k].ID[:], uint64(i+k+1))
			ack = append(ack, 0x12, 16)
			ack = messages.AppendGUID(ack, events[k].ID)
		}
		if out, err = messages.AppendFrame(out[:0], messages.ID{3}, nil, request); err != nil {
			b.Fatal(err)
		}
		if _, err := conn.Write(out); err != nil {
			b.Fatal(err)
		}
		for seen := 0; seen < each+1; { // and the answer
			f, err := r.Next()
			if err != nil {
				b.Fatal(err)
			}
			if f.Command != messages.HeartbeatRequest {
				seen++
			}
		}
		if out, err = messages.AppendFrame(out[:0], messages.ID{1}, nil, messages.Raw(messages.PersistentSubscriptionAckEvents, ack)); err != nil {
			b.Fatal(err)
		}
		if _, err := conn.Write(out); err != nil {
			b.Fatal(err)
		}
	}
}
