package conformance_test

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// groupOf are the settings of the official client for the group g of a stream, from its beginning.
func groupOf(stream string, change ...func(*pb.CreatePersistentSubscription)) *pb.CreatePersistentSubscription {
	m := &pb.CreatePersistentSubscription{
		SubscriptionGroupName: proto.String("g"), EventStreamId: &stream, ResolveLinkTos: proto.Bool(false), StartFrom: proto.Int64(0),
		MessageTimeoutMilliseconds: proto.Int32(30_000), RecordStatistics: proto.Bool(false), LiveBufferSize: proto.Int32(500),
		ReadBatchSize: proto.Int32(20), BufferSize: proto.Int32(500), MaxRetryCount: proto.Int32(10), PreferRoundRobin: proto.Bool(true),
		CheckpointAfterTime: proto.Int32(2000), CheckpointMaxCount: proto.Int32(1000), CheckpointMinCount: proto.Int32(10),
		SubscriberMaxCount: proto.Int32(0), NamedConsumerStrategy: proto.String("RoundRobin"),
	}
	for _, c := range change {
		c(m)
	}
	return m
}

// managed is an answer to a request about a group: the three messages are the same.
type managed struct {
	result int32
	reason string
}

func (p *peer) managed(id messages.ID, command messages.Command) managed {
	p.t.Helper()
	var m pb.CreatePersistentSubscriptionCompleted
	a := p.reply(id)
	require.Equal(p.t, command, a.command, "%s", a.body)
	require.NoError(p.t, decode(a.body, &m))
	return managed{int32(m.GetResult()), m.GetReason()}
}

func (p *peer) createGroup(m *pb.CreatePersistentSubscription, credentials ...string) managed {
	p.t.Helper()
	id := p.send(messages.Of(messages.CreatePersistentSubscription, m), credentials...)
	return p.managed(id, messages.CreatePersistentSubscriptionCompleted)
}

func (p *peer) updateGroup(m *pb.CreatePersistentSubscription, credentials ...string) managed {
	p.t.Helper()
	b, err := proto.Marshal(m)
	require.NoError(p.t, err)
	id := p.send(messages.Raw(messages.UpdatePersistentSubscription, b), credentials...)
	return p.managed(id, messages.UpdatePersistentSubscriptionCompleted)
}

func (p *peer) deleteGroup(stream, group string, credentials ...string) managed {
	p.t.Helper()
	id := p.send(messages.Of(messages.DeletePersistentSubscription, &pb.DeletePersistentSubscription{
		SubscriptionGroupName: &group, EventStreamId: &stream,
	}), credentials...)
	return p.managed(id, messages.DeletePersistentSubscriptionCompleted)
}

// group makes the group g of a stream, which is deleted with the test.
func (p *peer) group(stream string, change ...func(*pb.CreatePersistentSubscription)) {
	p.t.Helper()
	require.Equal(p.t, managed{}, p.createGroup(groupOf(stream, change...), p.admin()...))
	p.t.Cleanup(func() { p.deleteGroup(stream, "g", p.admin()...) })
}

// consumer is a connection to the group g of a stream.
type consumer struct {
	*peer
	id     messages.ID
	stream string
}

func connectTo(stream, group string, window int32) messages.Request {
	return messages.Of(messages.ConnectToPersistentSubscription, &pb.ConnectToPersistentSubscription{
		SubscriptionId: &group, EventStreamId: &stream, AllowedInFlightMessages: &window,
	})
}

func (p *peer) connect(stream string, window int32, credentials ...string) *consumer {
	p.t.Helper()
	c := &consumer{peer: p, id: p.send(connectTo(stream, "g", window), credentials...), stream: stream}
	var m pb.PersistentSubscriptionConfirmation
	p.reply(c.id).into(p.t, messages.PersistentSubscriptionConfirmation, &m)
	require.Equal(p.t, stream+"::g", m.GetSubscriptionId())
	return c
}

// message is what came for a consumer.
type message struct {
	number  int64 // of the original
	subject string
	retries *int32 // older servers do not tell
	id      uuid.UUID
}

func (c *consumer) message() message {
	c.t.Helper()
	var m pb.PersistentSubscriptionStreamEventAppeared
	c.reply(c.id).into(c.t, messages.PersistentSubscriptionStreamEventAppeared, &m)
	original := m.GetEvent().GetLink()
	if original == nil {
		original = m.GetEvent().GetEvent()
	}
	id, err := messages.ParseGUID(original.GetEventId())
	require.NoError(c.t, err)
	subject := "nothing"
	if e := m.GetEvent().GetEvent(); e != nil {
		subject = fmt.Sprintf("%d@%s", e.GetEventNumber(), e.GetEventStreamId())
	}
	if m.RetryCount == nil {
		require.True(c.t, c.before40(), "an answer without a count of retries")
	}
	return message{original.GetEventNumber(), subject, m.RetryCount, id}
}

// isRetry checks how often it was tried before, if the server tells.
func (m message) isRetry(t *testing.T, want int32) {
	t.Helper()
	if m.retries != nil {
		require.Equal(t, want, *m.retries)
	}
}

// messages checks the numbers of what comes next, and returns it.
func (c *consumer) messages(numbers ...int64) []message {
	c.t.Helper()
	var got []message
	for _, number := range numbers {
		m := c.message()
		require.Equal(c.t, number, m.number)
		got = append(got, m)
	}
	return got
}

func idsOf(got ...message) (ids [][]byte) {
	for _, m := range got {
		ids = append(ids, messages.AppendGUID(nil, m.id))
	}
	return ids
}

func (c *consumer) ack(got ...message) { c.ackAs(c.id, got...) }

func (c *consumer) ackAs(id messages.ID, got ...message) {
	c.t.Helper()
	c.write(c.frame(id, messages.Of(messages.PersistentSubscriptionAckEvents, &pb.PersistentSubscriptionAckEvents{
		SubscriptionId: proto.String(c.stream + "::g"), ProcessedEventIds: idsOf(got...),
	})))
}

func (c *consumer) nak(action pb.PersistentSubscriptionNakEvents_NakAction, text string, got ...message) {
	c.t.Helper()
	c.write(c.frame(c.id, messages.Of(messages.PersistentSubscriptionNakEvents, &pb.PersistentSubscriptionNakEvents{
		SubscriptionId: proto.String(c.stream + "::g"), ProcessedEventIds: idsOf(got...), Message: &text, Action: &action,
	})))
}

// silent checks that nothing comes for the consumer by the time that a read is answered, and another moment.
func (c *consumer) silent() {
	c.t.Helper()
	_, err := c.take(100*time.Millisecond, withID(c.id))
	require.ErrorIs(c.t, err, errNothing)
}

// isDropped checks that the subscription ends, with the empty drop of every server.
func (c *consumer) isDropped() {
	c.t.Helper()
	a := c.reply(c.id)
	require.Equal(c.t, messages.SubscriptionDropped, a.command)
	require.Empty(c.t, a.body)
}

func (c *consumer) leave() {
	c.t.Helper()
	c.write(c.frame(c.id, messages.Raw(messages.UnsubscribeFromStream, nil)))
	c.isDropped()
}

func TestGroupResults(t *testing.T) {
	t.Parallel()
	p := dialPeer(t, serve(t))
	stream := newStream("group")
	denied := managed{3, "You do not have permissions to create streams"}
	require.Equal(t, denied, p.createGroup(groupOf(stream)))
	require.Equal(t, denied, p.deleteGroup(stream, "g"))
	require.Equal(t, managed{3, "You do not have permissions to update the subscription"}, p.updateGroup(groupOf(stream)))

	p.group(stream)
	require.Equal(t, managed{1, "Group 'g' already exists."}, p.createGroup(groupOf(stream), p.admin()...))
	require.Equal(t, managed{}, p.updateGroup(groupOf(stream), p.admin()...))
	strategy := func(name string) *pb.CreatePersistentSubscription {
		return groupOf(stream, func(m *pb.CreatePersistentSubscription) {
			m.NamedConsumerStrategy = &name
			if name == "Nope" {
				m.SubscriptionGroupName = proto.String("h")
			}
		})
	}
	unknown := managed{2, "Consumer strategy Nope does not exist."}
	require.Equal(t, unknown, p.createGroup(strategy("Nope"), p.admin()...))
	require.Equal(t, managed{2, "Consumer strategy pinned does not exist."}, p.updateGroup(strategy("pinned"), p.admin()...))
	for _, name := range []string{"", "$all"} {
		require.Equal(t, managed{2, "Bad stream name."}, p.createGroup(groupOf(name), p.admin()...))
		require.Equal(t, managed{1, "Group 'g' does not exist."}, p.updateGroup(groupOf(name), p.admin()...))
	}
	require.Equal(t, managed{}, p.deleteGroup(stream, "g", p.admin()...))
	missing := managed{1, "Group 'g' does not exist."}
	require.Equal(t, missing, p.deleteGroup(stream, "g", p.admin()...))
	require.Equal(t, missing, p.updateGroup(groupOf(stream), p.admin()...))
}

func TestGroupConnections(t *testing.T) {
	t.Parallel()
	p := dialPeer(t, serve(t))
	stream := newStream("group")
	p.group(stream, func(m *pb.CreatePersistentSubscription) { m.SubscriberMaxCount = proto.Int32(1) })
	reason := func(r messages.Request, credentials ...string) pb.SubscriptionDropped_SubscriptionDropReason {
		var m pb.SubscriptionDropped
		p.call(r, credentials...).into(t, messages.SubscriptionDropped, &m)
		require.NotNil(t, m.Reason)
		return m.GetReason()
	}
	require.Equal(t, pb.SubscriptionDropped_NotFound, reason(connectTo(stream, "h", 1)))
	require.Equal(t, pb.SubscriptionDropped_NotFound, reason(connectTo(newStream("no"), "g", 1)))
	c := p.connect(stream, 1)
	require.Equal(t, pb.SubscriptionDropped_SubscriberMaxCountReached, reason(connectTo(stream, "g", 1)))
	c.leave()
	p.connect(stream, 1).leave()
	p.metadata(stream, `{"$acl":{"$r":"$admins"}}`)
	require.Equal(t, pb.SubscriptionDropped_AccessDenied, reason(connectTo(stream, "g", 1)))
	p.connect(stream, 1, p.admin()...).leave()
	p.refused(p.call(connectTo(stream, "", 1)), "ConnectToPersistentSubscription")
	p.refused(p.call(connectTo(stream, "g", -1)), "ConnectToPersistentSubscription")
	p.write(p.frame(p.id(), messages.Raw(messages.UnsubscribeFromStream, nil)))
	p.alive()
}

func TestGroupWindow(t *testing.T) {
	t.Parallel()
	p := dialPeer(t, serve(t))
	stream := newStream("group")
	p.append(stream, -1, "a", "b", "c", "d")
	p.group(stream)
	c := p.connect(stream, 2)
	got := c.messages(0, 1)
	c.silent()
	c.ack(got[0])
	got = append(got, c.messages(2)...)
	c.ack(got[0]) // stale
	c.ack(message{id: uuid.New()})
	c.silent()
	c.ack(got[1:]...)
	got = c.messages(3)
	p.append(stream, -2, "e", "f")
	got = append(got, c.messages(4)...)
	c.silent()
	// Another subscription's ack takes the message and leaves the slot.
	c.ackAs(messages.ID{1, 2, 3}, got[0])
	c.silent()
	c.ack(got[0])
	c.messages(5)
	for _, r := range []messages.Request{
		messages.Of(messages.PersistentSubscriptionAckEvents, &pb.PersistentSubscriptionAckEvents{SubscriptionId: proto.String(stream + "::g")}),
		messages.Raw(messages.PersistentSubscriptionAckEvents, []byte("\x0a\x01x\x12\x01y")),
	} {
		p.refused(p.call(r), "PersistentSubscriptionAckEvents")
	}
	p.refused(p.call(messages.Raw(messages.PersistentSubscriptionNakEvents, nil)), "PersistentSubscriptionNakEvents")
	c.leave()
}

func TestGroupNaks(t *testing.T) {
	t.Parallel()
	srv := serve(t)
	for action, want := range map[pb.PersistentSubscriptionNakEvents_NakAction]struct {
		number  int64
		retries int32
	}{
		pb.PersistentSubscriptionNakEvents_Unknown: {number: 0, retries: 1},
		pb.PersistentSubscriptionNakEvents_Retry:   {number: 0, retries: 1},
		pb.PersistentSubscriptionNakEvents_Skip:    {number: 1},
		pb.PersistentSubscriptionNakEvents_Stop:    {number: 1},
		pb.PersistentSubscriptionNakEvents_Park:    {number: 1},
	} {
		t.Run(action.String(), func(t *testing.T) {
			p := dialPeer(t, srv)
			stream := newStream("group")
			p.append(stream, -1, "a", "b")
			p.group(stream)
			c := p.connect(stream, 1)
			c.nak(action, "why", c.message())
			got := c.message()
			require.Equal(t, want.number, got.number)
			got.isRetry(t, want.retries)
			var parked []string
			if action == pb.PersistentSubscriptionNakEvents_Park {
				parked = []string{"0@" + stream}
				p.isParked(stream, 0, "Client explicitly NAK'ed message.\nwhy", 0)
			}
			require.Equal(t, parked, p.parkedLinks(stream))
			c.leave()
		})
	}
}

func parkedStream(stream string) string { return "$persistentsubscription-" + stream + "::g-parked" }

// parked reads the parked stream of a group.
func (p *peer) parked(stream string) []*pb.ResolvedIndexedEvent {
	p.t.Helper()
	var m pb.ReadStreamEventsCompleted
	a := p.call(&messages.StreamRead{Stream: parkedStream(stream), Count: 100, RequireLeader: true}, p.admin()...)
	a.into(p.t, messages.ReadStreamEventsForwardCompleted, &m)
	return m.GetEvents()
}

func (p *peer) parkedLinks(stream string) (links []string) {
	p.t.Helper()
	for _, e := range p.parked(stream) {
		require.Equal(p.t, "$>", e.GetEvent().GetEventType())
		require.Zero(p.t, e.GetEvent().GetDataContentType())
		links = append(links, string(e.GetEvent().GetData()))
	}
	return links
}

// isParked waits for the n-th parked message of a group and checks its metadata to the letter.
func (p *peer) isParked(stream string, n int, reason string, number int64) {
	p.t.Helper()
	require.Eventually(p.t, func() bool { return len(p.parked(stream)) > n }, hang, 10*time.Millisecond)
	metadata := string(p.parked(stream)[n].GetEvent().GetMetadata())
	added := regexp.MustCompile(`"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,7})?[+-]\d\d:\d\d"`)
	want := "{\n  \"added\": TIME,\n  \"reason\": \"" + regexp.MustCompile("\n").ReplaceAllString(reason, `\n`) + "\""
	if number != 0 {
		want += fmt.Sprintf(",\n  \"subscriptionEventNumber\": %d", number)
	}
	require.Equal(p.t, want+"\n}", added.ReplaceAllString(metadata, "TIME"))
}

func TestGroupRetries(t *testing.T) {
	t.Parallel()
	p := dialPeer(t, serve(t))
	stream := newStream("group")
	p.append(stream, -1, "a", "b")
	p.group(stream, func(m *pb.CreatePersistentSubscription) { m.MaxRetryCount = proto.Int32(2) })
	c := p.connect(stream, 2)
	got := c.messages(0, 1)
	c.ack(got[0])
	for retries := range int32(3) {
		got[1].isRetry(t, retries)
		c.nak(pb.PersistentSubscriptionNakEvents_Retry, "", got[1])
		if retries < 2 {
			got[1] = c.messages(1)[0]
		}
	}
	p.isParked(stream, 0, "Reached retry count of 2", 1)
	c.silent()
	c.leave()
}

// TestGroupTimeout: what is not acked in time comes again, and is parked in the end.
func TestGroupTimeout(t *testing.T) {
	t.Parallel()
	p := dialPeer(t, serve(t))
	stream := newStream("group")
	p.append(stream, -1, "a")
	p.group(stream, func(m *pb.CreatePersistentSubscription) {
		m.MessageTimeoutMilliseconds, m.MaxRetryCount = proto.Int32(500), proto.Int32(1)
	})
	c := p.connect(stream, 1)
	c.message().isRetry(t, 0)
	c.message().isRetry(t, 1)
	p.isParked(stream, 0, "Reached retry count of 1", 0)
	c.leave()
}

func TestGroupStrategies(t *testing.T) {
	t.Parallel()
	srv := serve(t)
	for strategy, want := range map[string][2][]int64{
		"RoundRobin":       {{0, 2}, {1, 3, 4, 5}},
		"DispatchToSingle": {{0, 1}, {2, 3, 4, 5}},
	} {
		t.Run(strategy, func(t *testing.T) {
			p, q := dialPeer(t, srv), dialPeer(t, srv)
			stream := newStream("group")
			p.group(stream, func(m *pb.CreatePersistentSubscription) { m.NamedConsumerStrategy = &strategy })
			a := p.connect(stream, 2)
			b := q.connect(stream, 9)
			p.append(stream, -1, "a", "b", "c", "d", "e", "f")
			got := a.messages(want[0]...)
			b.messages(want[1]...)
			a.silent()
			a.ack(got[0])
			p.append(stream, -2, "g")
			if strategy == "DispatchToSingle" { // stays with the second
				b.messages(6)
			} else {
				a.messages(6)
			}
			a.leave()
		})
	}
}

// TestGroupPinned: streams whose names hash to the same bucket have the same consumer. These two do, on every server, and
// would be apart otherwise, since a new bucket goes to the consumer with the fewest.
func TestGroupPinned(t *testing.T) {
	t.Parallel()
	srv := serve(t)
	p, q := dialPeer(t, srv), dialPeer(t, srv)
	stream := newStream("group")
	p.group(stream, func(m *pb.CreatePersistentSubscription) { m.NamedConsumerStrategy = proto.String("Pinned") })
	a, b := p.connect(stream, 9), q.connect(stream, 9)
	link := func(to string) messages.NewEvent {
		return messages.NewEvent{ID: uuid.New(), Type: "$>", Data: []byte("0@" + to)}
	}
	// pin-0 and pin-same-757 are in bucket 422, pin-1 is in 379.
	p.appendEvents(stream, -1, link("pin-0"), link("pin-same-757"), link("pin-1"), link("pin-0"), link("pin-1"))
	a.messages(0, 1, 3)
	b.messages(2, 4)
	a.leave()
	b.messages(0, 1, 3)
	b.leave()
}

// TestGroupConsumerLeaves: what it had goes to the others, with retry 1 and before all else.
func TestGroupConsumerLeaves(t *testing.T) {
	t.Parallel()
	srv := serve(t)
	p, q := dialPeer(t, srv), dialPeer(t, srv)
	stream := newStream("group")
	p.append(stream, -1, "a", "b", "c", "d", "e")
	q.group(stream)
	a := p.connect(stream, 2)
	a.messages(0, 1)
	b := q.connect(stream, 2)
	got := b.messages(2, 3)
	_ = p.conn.Close()
	b.silent()
	b.ack(got...)
	got = b.messages(0, 1)
	got[0].isRetry(t, 1)
	b.ack(got...)
	b.messages(4)
	b.leave()
}

// TestGroupIsChangedWhileConnected: an update and a delete drop all consumers, and an update goes on behind the checkpoint.
func TestGroupIsChangedWhileConnected(t *testing.T) {
	t.Parallel()
	srv := serve(t)
	p, w := dialPeer(t, srv), dialPeer(t, srv)
	stream := newStream("group")
	p.append(stream, -1, "a", "b", "c")
	quick := func(m *pb.CreatePersistentSubscription) {
		m.CheckpointMaxCount, m.CheckpointMinCount = proto.Int32(1), proto.Int32(1)
	}
	p.group(stream, quick)
	c := p.connect(stream, 3)
	c.ack(c.messages(0, 1, 2)[:2]...)
	checkpoint := "$persistentsubscription-" + stream + "::g-checkpoint"
	read := func() (last *pb.EventRecord) {
		var m pb.ReadStreamEventsCompleted
		p.call(&messages.StreamRead{Stream: checkpoint, Count: 100, RequireLeader: true}, p.admin()...).into(t, messages.ReadStreamEventsForwardCompleted, &m)
		for _, e := range m.GetEvents() {
			last = e.GetEvent()
		}
		return last
	}
	before40, done, next := p.before40(), "1", int64(2)
	if before40 { // it stores the first one that is not done, and goes on behind it: that one is lost
		done, next = "2", 3
	}
	require.Eventually(t, func() bool { return string(read().GetData()) == done }, hang, 10*time.Millisecond)
	require.Equal(t, "SubscriptionCheckpoint", read().GetEventType())
	require.EqualValues(t, 1, read().GetDataContentType())

	require.Equal(t, managed{}, w.updateGroup(groupOf(stream, quick), w.admin()...))
	c.isDropped()
	c = p.connect(stream, 3)
	if before40 {
		p.append(stream, -2, "d")
	}
	c.messages(next)[0].isRetry(t, 0)
	require.Equal(t, managed{}, w.deleteGroup(stream, "g", w.admin()...))
	c.isDropped()
	require.Eventually(t, func() bool { return read() == nil }, hang, 10*time.Millisecond)
	p.group(stream, quick)
	c = p.connect(stream, 9)
	c.messages([]int64{0, 1, 2, 3}[:next+1]...)
	c.leave()
}

// TestGroupStartFrom: the largest number overflows, and reading begins anew, but no live event is let in.
func TestGroupStartFrom(t *testing.T) {
	t.Parallel()
	srv := serve(t)
	for from, want := range map[int64][]int64{-1: {3, 4}, -5: {3, 4}, 0: {0, 1, 2, 3, 4}, 2: {2, 3, 4}, 4: {4}, math.MaxInt64: {0, 1, 2}} {
		t.Run(fmt.Sprint(from), func(t *testing.T) {
			p := dialPeer(t, srv)
			stream := newStream("group")
			p.append(stream, -1, "a", "b", "c")
			p.group(stream, func(m *pb.CreatePersistentSubscription) { m.StartFrom = &from })
			c := p.connect(stream, 9)
			p.append(stream, -2, "d", "e")
			c.messages(want...)
			c.leave()
		})
	}
}

// TestGroupLinks: acks go by the link's id, and parked entries name the target.
func TestGroupLinks(t *testing.T) {
	t.Parallel()
	p := dialPeer(t, serve(t))
	target, stream := newStream("target"), newStream("links")
	p.append(target, -1, "a", "b")
	link := func(data string) messages.NewEvent {
		return messages.NewEvent{ID: uuid.New(), Type: "$>", Data: []byte(data)}
	}
	p.appendEvents(stream, -1, link("1@"+target), link("7@"+target), link("0@"+target))
	p.group(stream, func(m *pb.CreatePersistentSubscription) { m.ResolveLinkTos = proto.Bool(true) })
	c := p.connect(stream, 9)
	got := c.messages(0, 1, 2)
	require.Equal(t, []string{"1@" + target, "nothing", "0@" + target}, []string{got[0].subject, got[1].subject, got[2].subject})
	c.nak(pb.PersistentSubscriptionNakEvents_Retry, "", got...)
	again := []message{c.message(), c.message(), c.message()}
	// The retries are in the order of the numbers of what they are about, where the one without a target counts itself.
	require.Equal(t, []int64{2, 0, 1}, []int64{again[0].number, again[1].number, again[2].number})
	c.nak(pb.PersistentSubscriptionNakEvents_Park, "p", got...)
	p.isParked(stream, 2, "Client explicitly NAK'ed message.\np", 2)
	links := p.parkedLinks(stream)
	slices.Sort(links)
	require.Equal(t, []string{"0@" + target, "1@" + target, "7@" + target}, links)
	c.leave()
}

// TestGroupOnADeletedStream: the tombstone is an event like any other.
func TestGroupOnADeletedStream(t *testing.T) {
	t.Parallel()
	p := dialPeer(t, serve(t))
	stream := newStream("group")
	p.append(stream, -1, "a", "b")
	p.group(stream)
	c := p.connect(stream, 9)
	c.ack(c.messages(0, 1)...)
	p.delete(stream, -2, true)
	require.Equal(t, fmt.Sprintf("%d@%s", messages.DeletedNumber, stream), c.message().subject)
	c.leave()
}
