package conformance_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// hang is how long anything may take before the test gives up on it.
const hang = 30 * time.Second

// A dialer is a server as raw peers see it.
type dialer interface {
	DirectURL() string
	HTTPURL() string
	Dial(ctx context.Context, network, addr string) (net.Conn, error)
}

var _ dialer = (*eventstoretest.Server)(nil)

// peer is a client that is nothing but a socket. Its goroutine reads all that comes, and answers the server's heartbeats,
// which are not among the answers then.
type peer struct {
	t    testing.TB
	conn net.Conn
	mute bool          // the heartbeats are not answered, and come like all else
	user *url.Userinfo // whose server it is
	last uint64        // of the ids that it made
	own  uint64        // the first half of them, so that those of two peers differ in a trace
	eventIDs

	mu      sync.Mutex
	arrived []arrival
	count   int           // of all that arrived
	end     error         // why reading ended
	endedAt time.Time     // when it did
	changed chan struct{} // closed, and replaced, by the goroutine when one of the three has changed
	writing sync.Mutex    // of a frame: the goroutine answers heartbeats
}

// answer is a frame that the server sent.
type answer struct {
	command messages.Command
	id      messages.ID
	body    []byte
}

func (a answer) String() string { return fmt.Sprintf("%s %q", a.command, a.body) }

// arrival is an answer, when it came and as which of its connection.
type arrival struct {
	answer
	at  time.Time
	nth int
}

var errNothing = errors.New("nothing came")

// dialRaw connects past the proxy, without a word.
func dialRaw(tb testing.TB, srv dialer) *peer {
	tb.Helper()
	return dial(tb, srv, false, nil)
}

// dial connects a peer that reads when begin is closed, or at once without it.
func dial(tb testing.TB, srv dialer, mute bool, begin <-chan struct{}) *peer {
	tb.Helper()
	framesAreKnown(tb, srv)
	u, err := url.Parse(srv.DirectURL())
	require.NoError(tb, err)
	ctx, cancel := context.WithTimeout(tb.Context(), hang)
	defer cancel()
	conn, err := srv.Dial(ctx, "tcp", u.Host)
	require.NoError(tb, err)
	if tcp, ok := conn.(*net.TCPConn); ok && begin != nil {
		require.NoError(tb, tcp.SetReadBuffer(64<<10)) // or the kernel reads much
	}
	ids := newEventIDs()
	p := &peer{
		t: tb, conn: conn, mute: mute, user: u.User, own: binary.BigEndian.Uint64(ids[:]), eventIDs: ids, changed: make(chan struct{}),
	}
	var reading sync.WaitGroup
	reading.Go(func() {
		if begin != nil {
			select {
			case <-begin:
			case <-tb.Context().Done():
			}
		}
		p.read()
	})
	tb.Cleanup(func() {
		_ = conn.Close()
		reading.Wait()
	})
	return p
}

// dialPeer is dialRaw, and identifies itself as a client with 64-bit numbers, if the server knows how.
func dialPeer(tb testing.TB, srv dialer) *peer {
	tb.Helper()
	p := dialRaw(tb, srv)
	p.identify(1)
	return p
}

func (p *peer) identify(version int32) {
	p.t.Helper()
	a := p.call(messages.Of(messages.IdentifyClient, &pb.IdentifyClient{Version: &version, ConnectionName: proto.String("conformance")}))
	unknown := a.command == messages.BadRequest && string(a.body) == "Could not unwrap network package for command 245.\n"
	require.True(p.t, unknown || a.command == messages.ClientIdentified, "%s", a)
}

func (p *peer) read() {
	reader := messages.NewReader(p.conn, 4096)
	for {
		f, err := reader.Next()
		if err == nil && f.Command == messages.HeartbeatRequest && !p.mute {
			b, _ := messages.AppendFrame(nil, f.ID, nil, messages.Raw(messages.HeartbeatResponse, nil))
			_ = p.tryWrite(b) // reading will tell what is wrong
			continue
		}
		p.mu.Lock()
		if err != nil {
			p.end, p.endedAt = err, time.Now()
		} else {
			p.count++
			p.arrived = append(p.arrived, arrival{answer{f.Command, f.ID, append([]byte{}, f.Body...)}, time.Now(), p.count})
		}
		close(p.changed)
		p.changed = make(chan struct{})
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// take waits for a frame and takes it: the first that fits. It returns errNothing after a while without one, and why
// reading ended when none can come any more.
func (p *peer) take(wait time.Duration, fits func(answer) bool) (answer, error) {
	a, err := p.takeArrival(wait, fits)
	return a.answer, err
}

func (p *peer) takeArrival(wait time.Duration, fits func(answer) bool) (arrival, error) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		p.mu.Lock()
		if i := slices.IndexFunc(p.arrived, func(a arrival) bool { return fits(a.answer) }); i >= 0 {
			a := p.arrived[i]
			p.arrived = slices.Delete(p.arrived, i, i+1)
			p.mu.Unlock()
			return a, nil
		}
		changed, end := p.changed, p.end
		p.mu.Unlock()
		if end != nil {
			return arrival{}, end
		}
		select {
		case <-changed:
		case <-timer.C:
			return arrival{}, errNothing
		}
	}
}

func withID(id messages.ID) func(answer) bool { return func(a answer) bool { return a.id == id } }

// next returns the next frame.
func (p *peer) next() answer {
	p.t.Helper()
	a, err := p.take(hang, func(answer) bool { return true })
	require.NoError(p.t, err)
	return a
}

// reply returns the next frame with this id.
func (p *peer) reply(id messages.ID) answer {
	p.t.Helper()
	a, err := p.take(hang, withID(id))
	require.NoError(p.t, err)
	return a
}

func (p *peer) tryWrite(b []byte) error {
	p.writing.Lock()
	defer p.writing.Unlock()
	if err := p.conn.SetWriteDeadline(time.Now().Add(hang)); err != nil {
		return err
	}
	_, err := p.conn.Write(b)
	return err
}

func (p *peer) write(b []byte) {
	p.t.Helper()
	require.NoError(p.t, p.tryWrite(b))
}

// id makes a new correlation id.
func (p *peer) id() messages.ID {
	p.last++
	var id messages.ID
	binary.BigEndian.PutUint64(id[:], p.own)
	binary.BigEndian.PutUint64(id[8:], p.last)
	return id
}

func (p *peer) frame(id messages.ID, r messages.Request, credentials ...string) []byte {
	p.t.Helper()
	var block []byte
	for _, text := range credentials { // not by AppendCredentials, which refuses what servers close the connection on
		block = append(append(block, byte(len(text))), text...)
	}
	b, err := messages.AppendFrame(nil, id, block, r)
	require.NoError(p.t, err)
	return b
}

// send sends a request, with a login and a password if they are given, and returns its id.
func (p *peer) send(r messages.Request, credentials ...string) messages.ID {
	p.t.Helper()
	id := p.id()
	p.write(p.frame(id, r, credentials...))
	return id
}

// call sends a request and returns its answer.
func (p *peer) call(r messages.Request, credentials ...string) answer {
	p.t.Helper()
	return p.reply(p.send(r, credentials...))
}

// admin is the login of the server's administrator.
func (p *peer) admin() []string {
	password, _ := p.user.Password()
	return []string{p.user.Username(), password}
}

func ping(body string) messages.Request { return messages.Raw(messages.Ping, []byte(body)) }

// alive checks that the connection still answers.
func (p *peer) alive() {
	p.t.Helper()
	a := p.call(ping("alive"))
	require.Equal(p.t, messages.Pong, a.command, "%s", a)
	require.Equal(p.t, "alive", string(a.body))
}

// ended checks that the server closes the connection. What it says before is returned: a real one is seldom heard.
func (p *peer) ended() []answer {
	p.t.Helper()
	_, err := p.take(hang, func(answer) bool { return false })
	require.NotErrorIs(p.t, err, errNothing, "the connection is still open")
	require.Error(p.t, err)
	var left []answer
	for _, a := range p.rest() {
		left = append(left, a.answer)
	}
	return left
}

// rest is what has arrived and was not taken.
func (p *peer) rest() []arrival {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.arrived)
}

// refused checks that a is a BadRequest that names the command, and that the connection lives.
func (p *peer) refused(a answer, command string) {
	p.t.Helper()
	require.Equal(p.t, messages.BadRequest, a.command, "%s", a)
	require.Contains(p.t, string(a.body), "Could not unwrap network package for command "+command+".\n")
	p.alive()
}

func (a answer) into(tb testing.TB, command messages.Command, m proto.Message) {
	tb.Helper()
	require.Equal(tb, command, a.command, "%s", a)
	require.NoError(tb, messages.Reply{Command: a.command, Body: a.body}.Unmarshal(m))
}

// eventIDs makes event ids that a table can name: the same name is the same id, but only of the same eventIDs. They are
// new each time, since servers remember ids.
type eventIDs uuid.UUID

func newEventIDs() eventIDs { return eventIDs(uuid.New()) }

func (ids eventIDs) of(name string) uuid.UUID { return uuid.NewSHA1(uuid.UUID(ids), []byte(name)) }

// append writes events of plain bytes, one for each name, which is also its id. Of "a/b" the id is that of "a".
func (p *peer) append(stream string, expected int64, names ...string) *pb.WriteEventsCompleted {
	p.t.Helper()
	return p.appendEvents(stream, expected, p.named(names...)...)
}

func (p *peer) appendEvents(stream string, expected int64, events ...messages.NewEvent) *pb.WriteEventsCompleted {
	p.t.Helper()
	a := p.call(&messages.Append{Stream: stream, Expected: expected, Events: events, RequireLeader: true})
	var m pb.WriteEventsCompleted
	a.into(p.t, messages.WriteEventsCompleted, &m)
	return &m
}

func (p *peer) named(names ...string) []messages.NewEvent {
	events := make([]messages.NewEvent, 0, len(names))
	for _, name := range names {
		id, _, _ := strings.Cut(name, "/")
		events = append(events, messages.NewEvent{ID: p.of(id), Type: "t", Data: []byte(name)})
	}
	return events
}

func (p *peer) delete(stream string, expected int64, hard bool) *pb.DeleteStreamCompleted {
	p.t.Helper()
	var m pb.DeleteStreamCompleted
	p.call(deleteOf(stream, expected, hard)).into(p.t, messages.DeleteStreamCompleted, &m)
	return &m
}

func deleteOf(stream string, expected int64, hard bool) messages.Request {
	return messages.Of(messages.DeleteStream, &pb.DeleteStream{
		EventStreamId: &stream, ExpectedVersion: &expected, RequireLeader: proto.Bool(true), HardDelete: &hard,
	})
}

func (p *peer) subscribe(stream string, credentials ...string) (messages.ID, *pb.SubscriptionConfirmation) {
	p.t.Helper()
	return p.subscribeBy(subscribeTo(stream), credentials...)
}

func (p *peer) subscribeBy(r messages.Request, credentials ...string) (messages.ID, *pb.SubscriptionConfirmation) {
	p.t.Helper()
	id := p.send(r, credentials...)
	var m pb.SubscriptionConfirmation
	p.reply(id).into(p.t, messages.SubscriptionConfirmation, &m)
	return id, &m
}

func subscribeTo(stream string) messages.Request {
	return messages.Of(messages.SubscribeToStream, &pb.SubscribeToStream{EventStreamId: &stream, ResolveLinkTos: proto.Bool(false)})
}

// resolving is subscribeTo, with links resolved.
func resolving(stream string) messages.Request {
	return messages.Of(messages.SubscribeToStream, &pb.SubscribeToStream{EventStreamId: &stream, ResolveLinkTos: proto.Bool(true)})
}

// event returns the next event of a subscription.
func (p *peer) event(id messages.ID) *pb.ResolvedEvent {
	p.t.Helper()
	var m pb.StreamEventAppeared
	p.reply(id).into(p.t, messages.StreamEventAppeared, &m)
	return m.GetEvent()
}

func (p *peer) readEvent(stream string, number int64) *pb.ReadEventCompleted {
	p.t.Helper()
	var m pb.ReadEventCompleted
	p.call(&messages.EventRead{Stream: stream, Number: number, RequireLeader: true}).into(p.t, messages.ReadEventCompleted, &m)
	return &m
}

// page is a page of a stream in a form that a table can hold.
type page struct {
	result     messages.ReadStreamResult
	numbers    []int64
	next, last int64
	end        bool
	text       string
}

func (p *peer) page(backward bool, stream string, from int64, count int32) page {
	p.t.Helper()
	r := &messages.StreamRead{Stream: stream, From: from, Count: count, Backward: backward, RequireLeader: true}
	a := p.call(r)
	want := messages.ReadStreamEventsForwardCompleted
	if backward {
		want = messages.ReadStreamEventsBackwardCompleted
	}
	var m pb.ReadStreamEventsCompleted
	a.into(p.t, want, &m)
	out := page{
		result: m.GetResult(), next: m.GetNextEventNumber(), last: m.GetLastEventNumber(), end: m.GetIsEndOfStream(), text: m.GetError(),
	}
	for _, e := range m.GetEvents() {
		out.numbers = append(out.numbers, e.GetEvent().GetEventNumber())
	}
	return out
}

func (p *peer) forward(stream string, from int64, count int32) page {
	p.t.Helper()
	return p.page(false, stream, from, count)
}

func (p *peer) backward(stream string, from int64, count int32) page {
	p.t.Helper()
	return p.page(true, stream, from, count)
}
