package server

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/goeventstore/eventstore/internal/memnet"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
	"github.com/goeventstore/eventstore/server/internal/store"
)

const unwrapText = "Could not unwrap network package for command "

// ask sends a package with any header and returns its answer.
func (p *peer) ask(command messages.Command, flags byte, id messages.ID, body string) answer {
	p.t.Helper()
	b := packageOf(command, flags, id, body)
	p.write(b)
	return p.reply(id)
}

func packageOf(command messages.Command, flags byte, id messages.ID, body string) []byte {
	b := append([]byte{byte(command), flags}, id[:]...)
	b = append(b, body...)
	return append(binary.LittleEndian.AppendUint32(nil, uint32(len(b))), b...)
}

func TestCommandsThatAreRefused(t *testing.T) {
	p := run(t).peer(t)
	for command, text := range map[messages.Command]string{
		0x00: "0.\n", 0x05: "PrepareAck.\n", 0x07: "SlaveAssignment.\n", 0x0E: "14.\n", 0x10: "SubscribeReplica.\n",
		0x11: "ReplicaLogPositionAck.\n", 0x14: "DataChunkBulk.\n", 0x16: "ReplicaSubscribed.\n", 0x17: "23.\n",
		0x7F: "127.\n", 0x80: "128.\n", 0x81: "129.\n", 0xA0: "160.\n", 0xBA: "186.\n", 0xD2: "210.\n", 0xF7: "247.\n",
		0xFE: "254.\n", 0xFF: "255.\nIndex was outside the bounds of the array.",
		messages.Pong:                               "Pong.\n",
		messages.ReadEventCompleted:                 "ReadEventCompleted.\n",
		messages.ReadStreamEventsForwardCompleted:   "ReadStreamEventsForwardCompleted.\n",
		messages.SubscriptionConfirmation:           "SubscriptionConfirmation.\n",
		messages.StreamEventAppeared:                "StreamEventAppeared.\n",
		messages.SubscriptionDropped:                "SubscriptionDropped.\n",
		messages.PersistentSubscriptionConfirmation: "PersistentSubscriptionConfirmation.\n",
		messages.ScavengeDatabaseCompleted:          "ScavengeDatabaseCompleted.\n",
		messages.Authenticated:                      "Authenticated.\n",
		messages.NotAuthenticated:                   "NotAuthenticated.\n",
		messages.ClientIdentified:                   "ClientIdentified.\n",
		messages.TransactionStart:                   "TransactionStart.\n",
	} {
		a := p.ask(command, 0, p.id(), "")
		require.Equal(t, messages.BadRequest, a.command, text)
		require.Equal(t, unwrapText+text, string(a.body))
	}
	for _, command := range []messages.Command{
		messages.WriteEventsCompleted, messages.TransactionStartCompleted, messages.TransactionWriteCompleted,
		messages.TransactionCommitCompleted, messages.DeleteStreamCompleted, messages.NotHandled, messages.BadRequest,
		messages.HeartbeatResponse,
	} {
		p.send(messages.Raw(command, []byte("x")))
		p.quiet()
	}
}

func TestBodiesThatAreRefused(t *testing.T) {
	n := run(t)
	p := n.peer(t)
	p.appended("s", expectNoStream, "a")
	field := func(number protowire.Number, v uint64) []byte {
		return protowire.AppendVarint(protowire.AppendTag(nil, number, protowire.VarintType), v)
	}
	name := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "s")
	join := func(parts ...[]byte) string { return string(bytes.Join(parts, nil)) }
	for what, test := range map[string]struct {
		command messages.Command
		body    string
		refused bool
	}{
		"write, garbage":               {messages.WriteEvents, "\xff\xff\xff", true},
		"write, empty":                 {messages.WriteEvents, "", true},
		"delete, garbage":              {messages.DeleteStream, "\xff\xff\xff", true},
		"delete, empty":                {messages.DeleteStream, "", true},
		"read event, garbage":          {messages.ReadEvent, "\xff\xff\xff", true},
		"read event, empty":            {messages.ReadEvent, "", true},
		"forward, garbage":             {messages.ReadStreamEventsForward, "\xff\xff\xff", true},
		"backward, garbage":            {messages.ReadStreamEventsBackward, "\xff\xff\xff", true},
		"subscribe, garbage":           {messages.SubscribeToStream, "\xff\xff\xff", true},
		"unsubscribe, garbage":         {messages.UnsubscribeFromStream, "\xff\xff\xff", true},
		"a name that is a number":      {messages.ReadEvent, join(field(1, 5), field(2, 0)), true},
		"a boolean of 2":               {messages.ReadEvent, join(name, field(3, 2)), true},
		"a count over 32 bits":         {messages.ReadStreamEventsForward, join(name, field(3, 1<<40)), true},
		"a varint of 11 bytes":         {messages.ReadEvent, join(name, []byte("\x10\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01")), true},
		"a negative count of 5 bytes":  {messages.ReadStreamEventsForward, join(name, field(3, 1<<32-1)), false},
		"unknown fields":               {messages.ReadEvent, join(name, field(98, 7), field(2, 0)), false},
		"the name alone":               {messages.ReadEvent, join(name), false},
		"a cut body":                   {messages.ReadEvent, join(name)[:2], true},
		"a nested event cut":           {messages.WriteEvents, join(name, []byte("\x1a\x03\x0a\x10\x00")), true},
		"a nested type that is number": {messages.WriteEvents, join(name, []byte("\x1a\x02\x10\x00")), true},
	} {
		a := p.ask(test.command, 0, p.id(), test.body)
		require.Equal(t, test.refused, a.command == messages.BadRequest, "%s: %s %q", what, a.command, a.body)
		if test.refused {
			require.Equal(t, unwrapText+test.command.String()+".\n", string(a.body), what)
		}
	}
	// A name that is not UTF-8 is read with its wrong bytes replaced.
	p.appended("\xff\xfe", expectNoStream, "b")
	require.Equal(t, "\uFFFD\uFFFD", p.readEvent("\xfe\xff", 0).Event.Event.Stream)
}

func TestZeroID(t *testing.T) {
	p := run(t).peer(t)
	name := "\x0a\x01s"
	for command, want := range map[messages.Command]messages.Command{
		messages.Ping:              messages.Pong,
		messages.HeartbeatRequest:  messages.HeartbeatResponse,
		messages.IdentifyClient:    messages.ClientIdentified,
		messages.Authenticate:      messages.NotAuthenticated,
		messages.WriteEvents:       messages.BadRequest,
		messages.ReadEvent:         messages.BadRequest,
		messages.SubscribeToStream: messages.BadRequest,
		messages.ScavengeDatabase:  messages.ScavengeDatabaseCompleted,
	} {
		body := ""
		if command == messages.ReadEvent || command == messages.SubscribeToStream {
			body = name
		}
		a := p.ask(command, 0, messages.ID{}, body)
		require.Equal(t, want, a.command, command)
		if want == messages.BadRequest {
			require.Equal(t, unwrapText+command.String()+".\n", string(a.body))
		}
		if command == messages.IdentifyClient {
			p.identify(1)
		}
	}
}

func TestUnknownFlagsAreIgnored(t *testing.T) {
	p := run(t).peer(t)
	for _, flags := range []byte{0x04, 0x80, 0xFC} {
		require.Equal(t, "f", string(p.ask(messages.Ping, flags, p.id(), "f").body))
	}
}

// TestFaultsThatCloseTheConnection: a BadRequest, and the end. Only a trusted write is refused by its id.
func TestFaultsThatCloseTheConnection(t *testing.T) {
	id := messages.ID{7}
	for what, test := range map[string]struct {
		sent []byte
		text string
	}{
		"length 0":             {[]byte{0, 0, 0, 0}, "Invalid TCP frame received. Error: Package size is out of bounds: 0 (max: 67108864).."},
		"length -1":            {[]byte{0xFF, 0xFF, 0xFF, 0xFF}, "Invalid TCP frame received. Error: Package size is out of bounds: -1 (max: 67108864).."},
		"length 64 MiB + 1":    {[]byte{1, 0, 0, 4}, "Invalid TCP frame received. Error: Package size is out of bounds: 67108865 (max: 67108864).."},
		"big endian":           {append([]byte{0, 0, 0, 0x12}, make([]byte, 18)...), "Invalid TCP frame received."},
		"an HTTP request":      {[]byte("GET / HTTP/1.1\r\n"), "Invalid TCP frame received."},
		"length 1":             {[]byte{1, 0, 0, 0, 3}, "Received bad network package. Error: "},
		"length 17":            {append([]byte{17, 0, 0, 0}, make([]byte, 17)...), "Received bad network package. Error: "},
		"no credentials":       {packageOf(messages.Ping, 1, id, ""), "Received bad network package. Error: "},
		"login too long":       {packageOf(messages.Ping, 1, id, "\xff"), "Received bad network package. Error: "},
		"password too long":    {packageOf(messages.Ping, 1, id, "\x05admin\xff"), "Received bad network package. Error: "},
		"no password, no body": {packageOf(messages.Authenticate, 1, id, "\x05admin\x00"), "Received bad network package. Error: "},
		"trusted ping":         {packageOf(messages.Ping, 2, id, ""), textTrusted},
		"trusted heartbeat":    {packageOf(messages.HeartbeatRequest, 2, id, ""), textTrusted},
		"a ping behind it":     {append([]byte{0, 0, 0, 0}, packageOf(messages.Ping, 0, id, "")...), "Invalid TCP frame received."},
	} {
		p := run(t).peer(t)
		p.write(test.sent)
		said := p.closed()
		require.Len(t, said, 1, what)
		require.Equal(t, messages.BadRequest, said[0].command, what)
		want := messages.ID{}
		if test.text == textTrusted {
			want = id
		}
		require.Equal(t, want, said[0].id, what)
		require.True(t, strings.HasPrefix(string(said[0].body), test.text), "%s: %s", what, said[0].body)
	}
}

// TestAFramingError is the recorded frame, byte for byte.
func TestAFramingError(t *testing.T) {
	p := run(t).raw(t)
	p.write(make([]byte, 4))
	got, err := io.ReadAll(p.conn)
	require.NoError(t, err)
	require.Equal(t, "67000000f00000000000000000000000000000000000496e76616c696420544350206672616d652072656365697665642e204572726f723a205061636b6167652073697a65206973206f7574206f6620626f756e64733a203020286d61783a203637313038383634292e2e", hex.EncodeToString(got))
}

func TestOneByteAtATime(t *testing.T) {
	p := run(t).peer(t)
	request := frame(t, p.id(), &messages.Append{Stream: "s", Expected: expectNoStream, Events: events("ab")})
	request = append(request, frame(t, p.id(), messages.Raw(messages.Ping, []byte("abc")))...)
	for i := range request {
		p.write(request[i : i+1])
	}
	require.ElementsMatch(t, []messages.Command{messages.WriteEventsCompleted, messages.Pong},
		[]messages.Command{p.next().command, p.next().command})
}

// TestPipelining has a hundred requests of each kind in one segment. Writes to one stream keep their order.
func TestPipelining(t *testing.T) {
	p := run(t, memnet.WithBuffer(1<<20)).peer(t)
	var segment []byte
	writes := make(map[messages.ID]int64)
	others := make(map[messages.ID]messages.Command)
	for i := range int64(100) {
		id := p.id()
		writes[id] = i
		segment = append(segment, frame(t, id, &messages.Append{Stream: "s", Expected: i - 1, Events: []messages.NewEvent{
			{ID: uuid.New(), Type: "t"},
		}})...)
		id = p.id()
		others[id] = messages.Pong
		segment = append(segment, frame(t, id, messages.Raw(messages.Ping, nil))...)
		id = p.id()
		others[id] = messages.ReadStreamEventsForwardCompleted
		segment = append(segment, frame(t, id, &messages.StreamRead{Stream: "s", Count: 10})...)
		id = p.id()
		others[id] = messages.ReadEventCompleted
		segment = append(segment, frame(t, id, &messages.EventRead{Stream: "s", Number: -1}, "admin", "changeit")...)
	}
	p.write(segment)
	next := int64(0)
	for range 400 {
		a := p.next()
		if i, ok := writes[a.id]; ok {
			var m messages.AppendCompleted
			require.NoError(t, m.Decode(a.body))
			require.Equal(t, messages.Success, m.Result)
			require.Equal(t, next, i)
			next++
			continue
		}
		require.Equal(t, others[a.id], a.command)
		delete(others, a.id)
	}
	require.Empty(t, others)
}

// TestASlowReaderIsCut: a peer that asks for pages and does not read them is cut, in the middle of a frame, and nobody
// else notices.
func TestASlowReaderIsCut(t *testing.T) {
	n := run(t)
	w := n.peer(t)
	for range 4 {
		w.call(&messages.Append{Stream: "s", Expected: expectAny, Events: []messages.NewEvent{
			{ID: uuid.New(), Type: "t", Data: make([]byte, 512<<10)},
		}})
	}
	p := n.peer(t)
	request := frame(t, p.id(), &messages.StreamRead{Stream: "s", Count: 4})
	// It asks until it is cut, and reads only then: whoever reads too early is no slow reader.
	asked := 0
	for asked < 1_000_000 {
		if _, err := p.conn.Write(request); err != nil {
			break
		}
		asked++
	}
	require.Less(t, asked, 1_000_000)
	require.Less(t, len(p.closed()), 20)
	w.quiet()
}

// TestManyPendingFrames: it is not only the bytes that count. What is under way does not: whoever has read it may ask for
// more before the write goroutine learns that it is written.
func TestManyPendingFrames(t *testing.T) {
	o := newOutput()
	f := frame(t, messages.ID{1}, messages.Raw(messages.Pong, nil))
	for range maxPendingFrames + 1 {
		require.NoError(t, o.send(f))
	}
	require.ErrorIs(t, o.send(f), errSlowReader)
	require.ErrorIs(t, o.sendUrgent(messages.HeartbeatRequest, messages.ID{1}), errSlowReader)
	var b batch
	require.True(t, o.take(&b))
	require.NoError(t, o.give(make([]byte, maxPendingBytes+1)))
	require.ErrorIs(t, o.send(f), errSlowReader)
	o.written(&b)
	require.ErrorIs(t, o.send(f), errSlowReader, "what waits is still there")
	require.True(t, o.take(&b))
	require.NoError(t, o.send(f), "all of it is under way")
}

// TestHeartbeatsOvertake: the answer to a heartbeat goes in front of what waits.
func TestHeartbeatsOvertake(t *testing.T) {
	o := newOutput()
	require.NoError(t, o.send(frame(t, messages.ID{1}, messages.Raw(messages.Pong, nil))))
	require.NoError(t, o.sendUrgent(messages.HeartbeatResponse, messages.ID{2}))
	var b batch
	require.True(t, o.take(&b))
	c := &session{server: new(Server)}
	client, srv := memnet.Pipe()
	c.conn = srv
	require.NoError(t, c.write(&b))
	require.NoError(t, srv.Close())
	r := messages.NewReader(client, 64)
	first, err := r.Next()
	require.NoError(t, err)
	require.Equal(t, messages.HeartbeatResponse, first.Command)
	second, err := r.Next()
	require.NoError(t, err)
	require.Equal(t, messages.Pong, second.Command)
}

// TestTheShareOfASession: a session has a bounded part of the writer, and one request of any size passes.
func TestTheShareOfASession(t *testing.T) {
	o := newOutput()
	require.True(t, o.reserve(maxShareBytes+1))
	require.False(t, o.reserve(1))
	require.NoError(t, o.answer(nil, 1, maxShareBytes+1))
	<-o.room
	for range maxShareRequests {
		require.True(t, o.reserve(0))
	}
	require.False(t, o.reserve(0))
}

// TestMoreThanAShareInOneSegment: the session waits for the writer and loses nothing.
func TestMoreThanAShareInOneSegment(t *testing.T) {
	const count = maxShareRequests + 1000
	p := run(t, memnet.WithBuffer(8<<20)).peer(t)
	var segment []byte
	for i := range int64(count) {
		segment = append(segment, frame(t, p.id(), &messages.Append{Stream: "s", Expected: i - 1, Events: []messages.NewEvent{
			{ID: uuid.New(), Type: "t"},
		}})...)
	}
	p.write(segment)
	for i := range int64(count) {
		var m messages.AppendCompleted
		require.NoError(t, m.Decode(p.next().body))
		require.Equal(t, i, m.Last)
	}
}

func TestConnectionLimit(t *testing.T) {
	n := run(t, memnet.WithBacklog(maxConnections))
	for range maxConnections {
		n.raw(t)
	}
	first := n.raw(t)
	require.Empty(t, first.closed(), "one too many")
}

// TestFirstFrameDeadline: a peer that drips bytes of a frame that never ends passes every heartbeat check and is closed
// all the same.
func TestFirstFrameDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := run(t)
		p := n.raw(t)
		started := time.Now()
		p.write([]byte{100, 0, 0, 0})
		for {
			time.Sleep(700 * time.Millisecond) // virtual
			if _, err := p.conn.Write([]byte{3}); err != nil {
				break
			}
		}
		require.Empty(t, p.closed())
		require.InDelta(t, firstFrameDeadline.Seconds(), time.Since(started).Seconds(), 1)
	})
}

// TestCloseEndsEverything: Close returns when all is gone, and again at once. That no goroutine is left is checked by
// TestMain.
func TestCloseEndsEverything(t *testing.T) {
	network := memnet.New()
	s, err := Start(Config{Listen: network.Listen, DB: folder(t)})
	require.NoError(t, err)
	n := &node{Server: s, network: network}
	var peers []*peer
	for range 10 {
		p := n.peer(t)
		p.subscribe("s")
		p.send(&messages.Append{Stream: "s", Expected: expectAny, Events: events("a")})
		peers = append(peers, p)
	}
	var closing sync.WaitGroup
	for range 3 {
		closing.Go(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	closing.Wait()
	for _, p := range peers {
		p.closed()
	}
	_, err = network.Dial(t.Context(), "tcp", s.listener.Addr().String())
	require.Error(t, err)
	require.Empty(t, s.sessions)
	require.Empty(t, s.subscriptions.byStream)
}

func TestStartFails(t *testing.T) {
	_, err := Start(Config{TCP: "nowhere:port:1"})
	require.ErrorContains(t, err, "listen on nowhere:port:1")
}

func TestURL(t *testing.T) {
	for addr, want := range map[string]string{
		"127.0.0.1:1113": "127.0.0.1:1113", "0.0.0.0:7": "127.0.0.1:7", "[::]:7": "127.0.0.1:7", ":7": "127.0.0.1:7",
		"[::1]:7": "[::1]:7", "odd": "odd",
	} {
		require.Equal(t, want, reachable(addr))
	}
	s, err := Start(Config{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	host, port, err := net.SplitHostPort(strings.TrimPrefix(s.URL(), "tcp://"))
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1", host)
	require.NotEqual(t, "0", port)
}

// TestAFakeClockAndIDs: time stamps and the server's own ids are the configured ones.
func TestAFakeClockAndIDs(t *testing.T) {
	network := memnet.New()
	now := time.Date(2001, 2, 3, 4, 5, 6, 700, time.UTC)
	made := uuid.MustParse("00112233-4455-6677-8899-aabbccddeeff")
	s, err := Start(Config{Listen: network.Listen, Now: func() time.Time { return now }, NewID: func() uuid.UUID { return made }})
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	p := (&node{Server: s, network: network}).peer(t)
	p.appended("s", expectNoStream, "a")
	p.delete("s", expectAny, false)
	e := p.readEvent("$$s", -1).Event.Event
	require.Equal(t, made, e.ID)
	require.Equal(t, now, e.CreatedTime())
}

// brokenStore fails to commit.
type brokenStore struct{ store.Store }

func (brokenStore) Commit() error { return errors.New("the disk is full") }

func (brokenStore) Rollback() error { return errors.New("and who knows what is on it") }

// TestAStoreThatFails: whether it was stored is not known. It is not written any more, and reads go on.
func TestAStoreThatFails(t *testing.T) {
	n := run(t)
	p, other := n.peer(t), n.peer(t)
	p.appended("before", expectAny, "x")
	n.writer.store = brokenStore{n.store} // the writer waits for its next request
	require.Equal(t, messages.CommitTimeout, p.append("s", expectAny, "a").Result)
	for range 2 {
		refused := other.call(&messages.Append{Stream: "s", Expected: expectAny, Events: events("b")})
		require.Equal(t, messages.BadRequest, refused.command)
		require.Equal(t, textNotStored, string(refused.body))
	}
	require.Equal(t, messages.ReadStreamNoStream, other.forward("s", 0, 9).result)
	require.Equal(t, messages.ReadEventSuccess, n.peer(t).readEvent("before", 0).Result)
}

// TestGarbage throws bytes at the server: whatever happens, it lives.
func TestGarbage(t *testing.T) {
	n := run(t)
	for seed := range uint32(300) {
		p := n.raw(t)
		body := make([]byte, seed%97)
		for i := range body {
			seed = seed*1664525 + 1013904223
			body[i] = byte(seed >> 24)
		}
		for command := range 256 {
			if _, err := p.conn.Write(packageOf(messages.Command(command), byte(seed)&1, messages.ID{byte(command)}, string(body))); err != nil {
				break
			}
		}
		_ = p.conn.Close()
	}
	n.peer(t).quiet()
}

func TestIdentifyVersions(t *testing.T) {
	n := run(t)
	for version, want := range map[int32]string{0: "narrow", 1: "wide", 256: "narrow", 257: "wide", 2: "ruined", 3: "ruined", 255: "ruined", 300: "ruined", -1: "ruined"} {
		p := n.raw(t)
		p.identify(version)
		a := p.call(messages.Raw(messages.Ping, []byte("x")))
		if want != "ruined" {
			require.Equal(t, messages.Pong, a.command, version)
			require.Equal(t, want == "narrow", p.isNarrow(n), version)
			continue
		}
		require.Equal(t, messages.BadRequest, a.command, version)
		require.Equal(t, unwrapText+"Ping.\nIndex was outside the bounds of the array.", string(a.body))
		for _, request := range []messages.Request{
			&messages.EventRead{Stream: "s"}, &messages.Append{Stream: "s"},
			messages.Of(messages.SubscribeToStream, &pb.SubscribeToStream{}),
		} {
			a := p.call(request)
			require.Equal(t, fmt.Sprintf("%s%s.\n%s", unwrapText, request.Command(), textOutOfBounds), string(a.body))
		}
		v := int32(1)
		p.send(messages.Of(messages.IdentifyClient, &pb.IdentifyClient{Version: &v})) // never answered
		require.Equal(t, messages.HeartbeatResponse, p.call(messages.Raw(messages.HeartbeatRequest, nil)).command)
		require.Empty(t, p.early)
	}
	p := n.raw(t)
	require.True(t, p.isNarrow(n), "never identified")
	p.identify(1)
	p.send(messages.Raw(messages.IdentifyClient, []byte{0xFF, 0xFF, 0xFF})) // never answered
	p.quiet()
	require.False(t, p.isNarrow(n), "garbage changes nothing")
	require.Equal(t, messages.ClientIdentified, p.call(messages.Raw(messages.IdentifyClient, nil)).command)
	require.True(t, p.isNarrow(n), "an empty body is version 0")
}

// isNarrow tells by the last number of a deleted stream how wide numbers are.
func (p *peer) isNarrow(n *node) bool {
	p.t.Helper()
	n.peer(p.t).delete("deleted", expectAny, true)
	return p.forward("deleted", 0, 1).last == messages.DeletedNumber32
}
