package conformance_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

func TestUnknownCommands(t *testing.T) {
	srv := serve(t)
	p := dialPeer(t, srv)
	for _, command := range []messages.Command{0x00, 0x7F, 0x81, 0xF7} {
		a := p.call(messages.Raw(command, nil))
		p.refused(a, fmt.Sprint(byte(command)))
		require.Equal(t, fmt.Sprintf("Could not unwrap network package for command %d.\n", byte(command)), string(a.body))
	}
	p.refused(p.call(messages.Raw(messages.Pong, nil)), "Pong")
}

func TestUndecodableBodies(t *testing.T) {
	srv := serve(t)
	p := dialPeer(t, srv)
	for _, body := range [][]byte{{0xff, 0xff, 0xff}, {}, []byte("\x0a\x05ab")} { // the second lacks what is required
		for _, command := range []messages.Command{
			messages.WriteEvents, messages.DeleteStream, messages.ReadEvent, messages.ReadStreamEventsForward, messages.ReadStreamEventsBackward,
		} {
			p.refused(p.call(messages.Raw(command, body)), command.String())
		}
	}
	for _, command := range []messages.Command{
		messages.SubscribeToStream, messages.TransactionStart, messages.TransactionWrite, messages.TransactionCommit,
	} {
		p.refused(p.call(messages.Raw(command, []byte{0xff, 0xff, 0xff})), command.String())
	}
	// Fields that nobody knows are passed over.
	stream := p.in(existing)
	body, err := (&messages.EventRead{Stream: stream, Number: 1}).AppendTo(nil)
	require.NoError(t, err)
	var m pb.ReadEventCompleted
	p.call(messages.Raw(messages.ReadEvent, append(body, 0x98, 0x06, 0x01))).into(t, messages.ReadEventCompleted, &m)
	require.EqualValues(t, 1, m.GetEvent().GetEvent().GetEventNumber())
}

func TestHeartbeatAndPing(t *testing.T) {
	srv := serve(t)
	p := dialRaw(t, srv) // who they are from does not matter
	id := messages.ID(uuid.New())
	p.write(p.frame(id, messages.Raw(messages.HeartbeatRequest, nil)))
	require.Equal(t, answer{messages.HeartbeatResponse, id, []byte{}}, p.next())
	id = messages.ID(uuid.New())
	p.write(p.frame(id, messages.Raw(messages.HeartbeatRequest, []byte("body"))))
	require.Equal(t, answer{messages.HeartbeatResponse, id, []byte{}}, p.next())
	for _, body := range []string{"", "0123456789", string(make([]byte, 100_000))} {
		id = messages.ID(uuid.New())
		p.write(p.frame(id, ping(body)))
		require.Equal(t, answer{messages.Pong, id, []byte(body)}, p.next())
	}
	p.write(p.frame(messages.ID(uuid.New()), messages.Raw(messages.HeartbeatResponse, nil))) // nobody asked
	// Without an id as well.
	p.write(p.frame(messages.ID{}, messages.Raw(messages.HeartbeatRequest, nil)))
	require.Equal(t, answer{messages.HeartbeatResponse, messages.ID{}, []byte{}}, p.next())
	p.write(p.frame(messages.ID{}, ping("z")))
	require.Equal(t, answer{messages.Pong, messages.ID{}, []byte("z")}, p.next())
}

func TestByteByByte(t *testing.T) {
	srv := serve(t)
	p := dialPeer(t, srv)
	stream := newStream("bytes")
	id := p.id()
	for _, b := range p.frame(id, &messages.Append{Stream: stream, Expected: -1, Events: p.named("a"), RequireLeader: true}, p.admin()...) {
		p.write([]byte{b})
	}
	var m pb.WriteEventsCompleted
	p.reply(id).into(t, messages.WriteEventsCompleted, &m)
	written(t, &m, 0, 0)
	// Two frames that are cut in the middle of the second prefix.
	one, two := p.id(), p.id()
	b := p.frame(one, ping("1"))
	cut := len(b) + 2
	b = append(b, p.frame(two, ping("2"))...)
	p.write(b[:cut])
	require.Equal(t, "1", string(p.reply(one).body))
	p.write(b[cut:])
	require.Equal(t, "2", string(p.reply(two).body))
}

// TestLengthsThatLie: a field that announces more than there is, in a message or in an event of it, costs nothing but the
// request.
func TestLengthsThatLie(t *testing.T) {
	srv := serve(t)
	p := dialPeer(t, srv)
	stream := newStream("lies")
	name := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), stream)
	for _, length := range []uint64{1, 1 << 20, 1<<31 - 1, 1 << 31, 1 << 40, 1<<64 - 1} {
		tooLong := func(field protowire.Number) []byte {
			return protowire.AppendVarint(protowire.AppendTag(nil, field, protowire.BytesType), length)
		}
		event := protowire.AppendBytes(protowire.AppendTag(nil, 3, protowire.BytesType), tooLong(5))
		for _, body := range [][]byte{tooLong(1), slices.Concat(name, tooLong(3)), slices.Concat(name, event)} {
			p.refused(p.call(messages.Raw(messages.WriteEvents, body)), "WriteEvents")
		}
		event = protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType), tooLong(6))
		for _, body := range [][]byte{tooLong(2), event} {
			p.refused(p.call(messages.Raw(messages.TransactionWrite, body)), "TransactionWrite")
		}
	}
	require.Equal(t, messages.ReadStreamNoStream, p.forward(stream, 0, 1).result)
}

// TestGoodAndBadInOneSegment: each of many requests is answered for itself, and a bad one hurts no other, wherever the
// segments are cut.
func TestGoodAndBadInOneSegment(t *testing.T) {
	srv := serve(t)
	p := dialPeer(t, srv)
	stream := newStream("mixed")
	transaction := p.start(stream+"-transaction", -1)
	const n = 200
	var segment []byte
	want := map[messages.ID]messages.Command{}
	for i := range n {
		for _, r := range []struct {
			messages.Request
			answer messages.Command
		}{
			{&messages.Append{Stream: stream, Expected: int64(i - 1), Events: p.named(fmt.Sprint(i)), RequireLeader: true}, messages.WriteEventsCompleted},
			{messages.Raw(messages.WriteEvents, []byte{0xff}), messages.BadRequest},
			{&messages.Append{Stream: stream, Expected: int64(n), Events: p.named(uuid.NewString())}, messages.WriteEventsCompleted},
			{writeTo(transaction, p.named(uuid.NewString())...), messages.TransactionWriteCompleted},
			{messages.Raw(0x7F, nil), messages.BadRequest},
			{&messages.EventRead{Stream: stream, Number: -2}, messages.BadRequest},
			{deleteOf(stream, -4, true), messages.BadRequest},
		} {
			id := p.id()
			want[id] = r.answer
			segment = append(segment, p.frame(id, r)...)
		}
	}
	for len(segment) > 0 { // a number of bytes that no frame has
		cut := min(1009, len(segment))
		p.write(segment[:cut])
		segment = segment[cut:]
	}
	stored := 0
	for range len(want) {
		a := p.next()
		require.Equal(t, want[a.id], a.command, "%s", a)
		delete(want, a.id)
		var m pb.WriteEventsCompleted
		if a.command == messages.WriteEventsCompleted {
			a.into(t, a.command, &m)
			if m.GetResult() == messages.Success {
				stored++
			}
		}
	}
	require.Empty(t, want)
	require.Equal(t, n, stored)
	require.Len(t, p.forward(stream, 0, 4096).numbers, n)
	p.commits(transaction, 0, n-1)
}

// TestPipelined: what is sent in one segment is answered in its order, pings among themselves and the writes of a stream.
func TestPipelined(t *testing.T) {
	srv := serve(t)
	p := dialPeer(t, srv)
	const n = 100
	var b []byte
	var pings, writes []messages.ID
	stream := newStream("pipelined")
	for i := range n {
		pings, writes = append(pings, p.id()), append(writes, p.id())
		b = append(b, p.frame(pings[i], ping(fmt.Sprint(i)))...)
		b = append(b, p.frame(writes[i], &messages.Append{
			Stream: stream, Expected: int64(i - 1), Events: p.named(fmt.Sprint(i)), RequireLeader: true,
		})...)
	}
	p.write(b)
	var pongs, completed []messages.ID
	for range 2 * n {
		a := p.next()
		switch a.command {
		case messages.Pong:
			require.Equal(t, fmt.Sprint(len(pongs)), string(a.body))
			pongs = append(pongs, a.id)
		default:
			var m pb.WriteEventsCompleted
			a.into(t, messages.WriteEventsCompleted, &m)
			written(t, &m, int64(len(completed)), int64(len(completed)))
			completed = append(completed, a.id)
		}
	}
	require.Equal(t, pings, pongs)
	require.Equal(t, writes, completed)
	got := p.forward(stream, 0, n)
	require.Len(t, got.numbers, n)
	require.True(t, slices.IsSorted(got.numbers))
}

func TestZeroID(t *testing.T) {
	srv := serve(t)
	p := dialPeer(t, srv)
	stream := newStream("zero")
	for _, r := range []messages.Request{
		&messages.Append{Stream: stream, Expected: -1, Events: p.named("a")}, &messages.EventRead{Stream: stream},
		&messages.StreamRead{Stream: stream, Count: 1}, subscribeTo(stream), deleteOf(stream, -2, false),
		startOf(stream, -2), writeTo(0), commitOf(0),
	} {
		p.write(p.frame(messages.ID{}, r))
		a := p.next()
		require.Equal(t, messages.ID{}, a.id)
		p.refused(a, r.Command().String())
	}
	require.Equal(t, messages.ReadStreamNoStream, p.forward(stream, 0, 1).result, "nothing was done")
	// A scavenge needs no id.
	p.write(p.frame(messages.ID{}, scavengeRequest))
	a := p.next()
	require.Equal(t, messages.ScavengeDatabaseCompleted, a.command, "%s", a)
	require.Equal(t, messages.ID{}, a.id)
}

// TestBadCredentials are found before anything else, and cost one answer.
func TestBadCredentials(t *testing.T) {
	srv := serve(t)
	p := dialPeer(t, srv)
	stream := newStream("credentials")
	for _, r := range []messages.Request{
		ping(""), &messages.EventRead{Stream: stream}, &messages.Append{Stream: stream, Expected: -1, Events: p.named("a")},
		subscribeTo(stream), messages.Raw(0x7F, nil), messages.Raw(messages.ReadEvent, []byte{0xff}),
	} {
		a := p.call(r, "admin", "not the password")
		require.Equal(t, messages.NotAuthenticated, a.command, "%s", r.Command())
		require.Equal(t, "Not Authenticated", string(a.body))
		p.alive()
	}
}

// TestGarbage: what is no frame ends the connection, and no other. What the server says before it closes is often lost.
func TestGarbage(t *testing.T) {
	srv := serve(t)
	bystander := dialPeer(t, srv)
	id := messages.ID(uuid.New())
	frame := bystander.frame(id, ping(""))
	const trusted = "a trusted write"
	for name, garbage := range map[string]string{
		"length 0":          "\x00\x00\x00\x00",
		"length -1":         "\xff\xff\xff\xff",
		"length 1":          "\x01\x00\x00\x00\x03",
		"length 17":         "\x11\x00\x00\x00" + string(frame[4:21]),
		"length 64 MiB + 1": "\x01\x00\x00\x04",
		"big endian":        "\x00\x00\x00\x12" + string(frame[4:]),
		"HTTP":              "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"a login too long":  "\x14\x00\x00\x00\x03\x01" + string(frame[6:22]) + "\x09a",
		trusted:             string(frame[:5]) + "\x02" + string(frame[6:]),
	} {
		t.Run(name, func(t *testing.T) {
			p := dialPeer(t, srv)
			p.write([]byte(garbage))
			for _, a := range p.ended() {
				require.Equal(t, messages.BadRequest, a.command, "%s", a)
				want := messages.ID{}
				if name == trusted { // the server knows what it refuses
					want = id
				}
				require.Equal(t, want, a.id)
			}
			bystander.alive()
		})
	}
}

// TestIdentify: the version is the width of the numbers.
func TestIdentify(t *testing.T) {
	srv := serve(t)
	stream := dialPeer(t, srv).in(hardDeleted)
	last := func(p *peer) int64 { return p.forward(stream, 0, 1).last }

	require.Equal(t, messages.DeletedNumber32, last(dialRaw(t, srv)), "without a word")
	p := dialRaw(t, srv)
	for version, want := range map[int32]int64{0: messages.DeletedNumber32, 1: messages.DeletedNumber} {
		p.identify(version)
		require.Equal(t, want, last(p), "version %d", version)
	}
	// A version that there is not ruins the connection: all is refused.
	p.identify(2)
	for _, r := range []messages.Request{ping(""), &messages.EventRead{Stream: stream}} {
		a := p.call(r)
		require.Equal(t, messages.BadRequest, a.command)
		require.Equal(t, fmt.Sprintf("Could not unwrap network package for command %s.\nIndex was outside the bounds of the array.", r.Command()), string(a.body))
	}
	require.Equal(t, messages.HeartbeatResponse, p.call(messages.Raw(messages.HeartbeatRequest, nil)).command)

	// A body that says nothing is version 0.
	p = dialRaw(t, srv)
	require.Equal(t, messages.ClientIdentified, p.call(messages.Raw(messages.IdentifyClient, nil)).command)
	require.Equal(t, messages.DeletedNumber32, last(p))
	require.Equal(t, messages.ClientIdentified, p.call(messages.Of(messages.IdentifyClient, &pb.IdentifyClient{
		Version: proto.Int32(1), ConnectionName: proto.String(strings.Repeat("n", 3000)),
	})).command)
	require.Equal(t, messages.DeletedNumber, last(p))
}
