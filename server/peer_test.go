package server

import (
	"encoding/binary"
	"fmt"
	"os"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore/internal/memnet"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

func TestMain(m *testing.M) {
	if kind := os.Getenv(servedVariable); kind != "" {
		if err := serveFolder(kind, os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// node is a server on a network of its own.
type node struct {
	*Server
	network *memnet.Network
}

// onDisk has all tests run with a server on disk.
const onDisk = "EVENTSTORE_TEST_DISK"

// folder is where the server of a test keeps its log: "" for memory.
func folder(tb testing.TB) string {
	tb.Helper()
	if os.Getenv(onDisk) == "" {
		return ""
	}
	return tb.TempDir()
}

// run starts a server that ends with the test.
func run(tb testing.TB, opts ...memnet.Option) *node {
	tb.Helper()
	network := memnet.New(opts...)
	s, err := Start(Config{Listen: network.Listen, DB: folder(tb)})
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, s.Close()) })
	return &node{Server: s, network: network}
}

// peer is a client that is nothing but a socket.
type peer struct {
	t      testing.TB
	conn   *memnet.Conn
	reader *messages.Reader
	last   uint64
	early  []answer // frames that came while another one was waited for
}

// answer is a frame that a server sent.
type answer struct {
	command messages.Command
	id      messages.ID
	body    []byte
}

func (n *node) raw(tb testing.TB) *peer {
	tb.Helper()
	conn, err := n.network.Dial(tb.Context(), "tcp", n.listener.Addr().String())
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = conn.Close() })
	return &peer{t: tb, conn: conn.(*memnet.Conn), reader: messages.NewReader(conn, 4096)}
}

// peer is a raw peer that identified itself as version 1.
func (n *node) peer(tb testing.TB) *peer {
	tb.Helper()
	p := n.raw(tb)
	p.identify(1)
	return p
}

func (p *peer) identify(version int32) {
	p.t.Helper()
	require.Equal(p.t, messages.ClientIdentified, p.call(messages.Of(messages.IdentifyClient, &pb.IdentifyClient{Version: &version})).command)
}

func (p *peer) id() messages.ID {
	p.last++
	var id messages.ID
	binary.BigEndian.PutUint64(id[8:], p.last)
	return id
}

func frame(tb testing.TB, id messages.ID, r messages.Request, credentials ...string) []byte {
	tb.Helper()
	var block []byte
	if len(credentials) == 2 {
		block = append(block, byte(len(credentials[0])))
		block = append(block, credentials[0]...)
		block = append(block, byte(len(credentials[1])))
		block = append(block, credentials[1]...)
	}
	b, err := messages.AppendFrame(nil, id, block, r)
	require.NoError(tb, err)
	return b
}

func (p *peer) write(b []byte) {
	p.t.Helper()
	_, err := p.conn.Write(b)
	require.NoError(p.t, err)
}

// send sends a request, with a login and a password if they are given, and returns its id.
func (p *peer) send(r messages.Request, credentials ...string) messages.ID {
	p.t.Helper()
	id := p.id()
	p.write(frame(p.t, id, r, credentials...))
	return id
}

// next returns the next frame; heartbeat requests are answered and passed over.
func (p *peer) next() answer {
	p.t.Helper()
	if len(p.early) > 0 {
		a := p.early[0]
		p.early = p.early[1:]
		return a
	}
	return p.read()
}

func (p *peer) read() answer {
	p.t.Helper()
	for {
		f, err := p.reader.Next()
		require.NoError(p.t, err)
		if f.Command == messages.HeartbeatRequest {
			p.write(frame(p.t, f.ID, messages.Raw(messages.HeartbeatResponse, nil)))
			continue
		}
		return answer{f.Command, f.ID, append([]byte{}, f.Body...)}
	}
}

// reply returns the next frame with this id.
func (p *peer) reply(id messages.ID) answer {
	p.t.Helper()
	for i, a := range p.early {
		if a.id == id {
			p.early = append(p.early[:i:i], p.early[i+1:]...)
			return a
		}
	}
	for {
		a := p.read()
		if a.id == id {
			return a
		}
		p.early = append(p.early, a)
	}
}

// call sends a request and returns its answer.
func (p *peer) call(r messages.Request, credentials ...string) answer {
	p.t.Helper()
	return p.reply(p.send(r, credentials...))
}

// quiet checks that nothing more comes than was asked for: a ping is the next that is answered.
func (p *peer) quiet() {
	p.t.Helper()
	require.Empty(p.t, p.early)
	id := p.send(messages.Raw(messages.Ping, nil))
	a := p.read()
	require.Equal(p.t, messages.Pong, a.command, "%s %x", a.command, a.body)
	require.Equal(p.t, id, a.id)
}

// closed checks that the server closes the connection, and returns what it says before.
func (p *peer) closed() []answer {
	p.t.Helper()
	var said []answer
	for {
		f, err := p.reader.Next()
		if err != nil {
			return said
		}
		if f.Command != messages.HeartbeatRequest {
			said = append(said, answer{f.Command, f.ID, append([]byte{}, f.Body...)})
		}
	}
}

func (a answer) into(tb testing.TB, m proto.Message) {
	tb.Helper()
	require.NoError(tb, messages.Reply{Command: a.command, Body: a.body}.Unmarshal(m))
}

// eventID makes ids that a table can name: the same text is the same id.
func eventID(name string) uuid.UUID { return uuid.NewSHA1(uuid.NameSpaceURL, []byte(name)) }

// events makes one event for each letter.
func events(letters string) []messages.NewEvent {
	var made []messages.NewEvent
	for _, letter := range letters {
		made = append(made, messages.NewEvent{
			ID: eventID(string(letter)), Type: "t", ContentType: 1, MetadataType: 1, Data: []byte(`{"a":1}`), Metadata: []byte{},
		})
	}
	return made
}

func (p *peer) append(stream string, expected int64, letters string) messages.AppendCompleted {
	p.t.Helper()
	a := p.call(&messages.Append{Stream: stream, Expected: expected, Events: events(letters), RequireLeader: true})
	require.Equal(p.t, messages.WriteEventsCompleted, a.command, "%s", a.body)
	var m messages.AppendCompleted
	require.NoError(p.t, m.Decode(a.body))
	return m
}

// appended is append that must succeed.
func (p *peer) appended(stream string, expected int64, letters string) messages.AppendCompleted {
	p.t.Helper()
	m := p.append(stream, expected, letters)
	require.Equal(p.t, messages.Success, m.Result, m.Message)
	return m
}

// metadata writes the metadata of a stream.
func (p *peer) metadata(stream, json string) messages.AppendCompleted {
	p.t.Helper()
	a := p.call(&messages.Append{Stream: "$$" + stream, Expected: expectAny, Events: []messages.NewEvent{
		{ID: uuid.New(), Type: typeMetadata, ContentType: 1, Data: []byte(json)},
	}})
	var m messages.AppendCompleted
	require.NoError(p.t, m.Decode(a.body))
	return m
}

func (p *peer) delete(stream string, expected int64, hard bool, credentials ...string) *pb.DeleteStreamCompleted {
	p.t.Helper()
	a := p.call(messages.Of(messages.DeleteStream, &pb.DeleteStream{
		EventStreamId: &stream, ExpectedVersion: &expected, RequireLeader: proto.Bool(true), HardDelete: &hard,
	}), credentials...)
	require.Equal(p.t, messages.DeleteStreamCompleted, a.command, "%s", a.body)
	var m pb.DeleteStreamCompleted
	a.into(p.t, &m)
	return &m
}

func (p *peer) subscribe(stream string, credentials ...string) (messages.ID, *pb.SubscriptionConfirmation) {
	p.t.Helper()
	return p.subscribeTo(stream, false, credentials...)
}

func (p *peer) subscribeTo(stream string, resolve bool, credentials ...string) (messages.ID, *pb.SubscriptionConfirmation) {
	p.t.Helper()
	id := p.send(messages.Of(messages.SubscribeToStream, &pb.SubscribeToStream{EventStreamId: &stream, ResolveLinkTos: &resolve}), credentials...)
	a := p.reply(id)
	require.Equal(p.t, messages.SubscriptionConfirmation, a.command, "%s", a.body)
	var m pb.SubscriptionConfirmation
	a.into(p.t, &m)
	return id, &m
}

// event returns the next event of a subscription.
func (p *peer) event(id messages.ID) messages.ResolvedEvent {
	p.t.Helper()
	a := p.reply(id)
	require.Equal(p.t, messages.StreamEventAppeared, a.command, "%s", a.body)
	var e messages.ResolvedEvent
	require.NoError(p.t, messages.DecodeAppeared(a.body, nil, &e))
	return e
}

// page is a page of a stream in a form that a table can hold.
type page struct {
	result     messages.ReadStreamResult
	numbers    []int64
	next, last int64
	end        bool
	text       string
}

func (p *peer) page(m messages.StreamRead, credentials ...string) page {
	p.t.Helper()
	m.RequireLeader = true
	a := p.call(&m, credentials...)
	want := messages.ReadStreamEventsForwardCompleted
	if m.Backward {
		want = messages.ReadStreamEventsBackwardCompleted
	}
	require.Equal(p.t, want, a.command, "%s", a.body)
	var got messages.StreamPage
	require.NoError(p.t, got.Decode(a.body))
	out := page{result: got.Result, next: got.Next, last: got.Last, end: got.EndOfStream, text: got.Error}
	require.NoError(p.t, got.Each(nil, func(e *messages.ResolvedEvent) bool {
		out.numbers = append(out.numbers, e.Event.Number)
		return true
	}))
	return out
}

func (p *peer) forward(stream string, from int64, count int32) page {
	p.t.Helper()
	return p.page(messages.StreamRead{Stream: stream, From: from, Count: count})
}

func (p *peer) backward(stream string, from int64, count int32) page {
	p.t.Helper()
	return p.page(messages.StreamRead{Stream: stream, From: from, Count: count, Backward: true})
}

func (p *peer) readEvent(stream string, number int64) messages.EventReadCompleted {
	p.t.Helper()
	a := p.call(&messages.EventRead{Stream: stream, Number: number, RequireLeader: true})
	require.Equal(p.t, messages.ReadEventCompleted, a.command, "%s", a.body)
	var m messages.EventReadCompleted
	require.NoError(p.t, m.Decode(a.body, nil))
	return m
}

// lastMetadata returns the readable metadata event of a stream.
func (p *peer) lastMetadata(stream string) (number int64, json string) {
	p.t.Helper()
	m := p.readEvent("$$"+stream, -1)
	require.Equal(p.t, messages.ReadEventSuccess, m.Result)
	return m.Event.Event.Number, string(m.Event.Event.Data)
}
