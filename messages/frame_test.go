package messages_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

func unhex(tb testing.TB, s string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	require.NoError(tb, err)
	return b
}

// The vectors are frames of a real server and its clients (protocol, 9.2).
func TestFramesOfARealServer(t *testing.T) {
	id := messages.ID(unhex(t, "000102030405060708090a0b0c0d0e0f"))
	auth := func(login, password string) []byte {
		b, err := messages.AppendCredentials(nil, login, password)
		require.NoError(t, err)
		return b
	}
	tests := []struct {
		name        string
		wire        string
		id          messages.ID
		credentials []byte
		request     messages.Request
	}{
		{
			"identify", "18000000f5000000000000000000000000000000000108011202676f", messages.ID(unhex(t, "00000000000000000000000000000001")), nil,
			messages.Of(messages.IdentifyClient, &pb.IdentifyClient{Version: proto.Int32(1), ConnectionName: proto.String("go")}),
		},
		{"heartbeat", "120000000100000102030405060708090a0b0c0d0e0f", id, nil, messages.Raw(messages.HeartbeatRequest, nil)},
		{"ping", "170000000300000102030405060708090a0b0c0d0e0f68656c6c6f", id, nil, messages.Raw(messages.Ping, []byte("hello"))},
		{
			"authenticate", "21000000f201000102030405060708090a0b0c0d0e0f0561646d696e086368616e67656974", id, auth("admin", "changeit"),
			messages.Raw(messages.Authenticate, nil),
		},
		{
			"subscribe", "1c000000c000000000000000000000000000000000030a067476323962351000", messages.ID(unhex(t, "00000000000000000000000000000003")), nil,
			messages.Of(messages.SubscribeToStream, &pb.SubscribeToStream{EventStreamId: proto.String("tv29b5"), ResolveLinkTos: proto.Bool(false)}),
		},
		{
			"write", "480000008200000000000000000000000000000000040a0674763239623510ffffffffffffffffff011a1f0a1000112233445566778899aabbccddeeff120154180120002a027b7d32002001",
			messages.ID(unhex(t, "00000000000000000000000000000004")), nil,
			&messages.Append{Stream: "tv29b5", Expected: -1, RequireLeader: true, Events: []messages.NewEvent{{
				ID: uuid.MustParse("33221100-5544-7766-8899-aabbccddeeff"), Type: "T", ContentType: 1, Data: []byte("{}"), Metadata: []byte{},
			}}},
		},
		{
			"read event with credentials", "2a000000b0010000000000000000000000000000000f0561646d696e036261640a06747632396235100018002001",
			messages.ID(unhex(t, "0000000000000000000000000000000f")), auth("admin", "bad"),
			&messages.EventRead{Stream: "tv29b5", RequireLeader: true},
		},
		{
			"read backward", "2b000000b4000000000000000000000000000000000c0a0674763239623510ffffffffffffffffff01180a20002801",
			messages.ID(unhex(t, "0000000000000000000000000000000c")), nil,
			&messages.StreamRead{Stream: "tv29b5", From: -1, Count: 10, RequireLeader: true, Backward: true},
		},
		{
			"write reply", "2400000083000000000000000000000000000000000408001800200028fdb0c04230fdb0c0423800",
			messages.ID(unhex(t, "00000000000000000000000000000004")), nil,
			&messages.AppendCompleted{HasPosition: true, Prepare: 139466877, Commit: 139466877, HasCurrent: true},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, err := messages.AppendFrame([]byte("before"), tt.id, tt.credentials, tt.request)
			require.NoError(t, err)
			require.Equal(t, strings.ReplaceAll(tt.wire, " ", ""), hex.EncodeToString(b[len("before"):]))

			f, err := messages.NewReader(bytes.NewReader(b[len("before"):]), 0).Next()
			require.NoError(t, err)
			require.Equal(t, tt.request.Command(), f.Command)
			require.Equal(t, tt.id, f.ID)
			require.Equal(t, tt.credentials != nil, f.HasCredentials)
		})
	}
}

func TestReaderCutsAnySegmentation(t *testing.T) {
	var wire []byte
	for i := range 20 {
		var err error
		wire, err = messages.AppendFrame(wire, messages.ID{byte(i)}, nil, messages.Raw(messages.Ping, bytes.Repeat([]byte{byte(i)}, i*37)))
		require.NoError(t, err)
	}
	readers := map[string]io.Reader{
		"whole":               bytes.NewReader(wire),
		"one byte":            iotest.OneByteReader(bytes.NewReader(wire)),
		"halves":              iotest.HalfReader(bytes.NewReader(wire)),
		"data with the error": iotest.DataErrReader(bytes.NewReader(wire)),
	}
	for name, src := range readers {
		t.Run(name, func(t *testing.T) {
			r := messages.NewReader(src, 64)
			for i := range 20 {
				f, err := r.Next()
				require.NoError(t, err)
				require.Equal(t, byte(i), f.ID[0])
				require.Equal(t, bytes.Repeat([]byte{byte(i)}, i*37), f.Body[:len(f.Body):len(f.Body)])
			}
			_, err := r.Next()
			require.Equal(t, io.EOF, err)
			_, err = r.Next()
			require.Equal(t, io.EOF, err, "the error stays")
		})
	}
}

func TestReaderRefusesBadFramesInWords(t *testing.T) {
	tests := []struct {
		name string
		wire string // hex
		is   error
		says string
	}{
		{"length 0", "00000000", messages.ErrMalformed, "announces 0 bytes"},
		{"negative length", "fcffffff", messages.ErrMalformed, "announces -4 bytes"},
		{"length over 64 MiB", "01000004", messages.ErrFrameTooLarge, "announces 67108865 bytes"},
		{"shorter than a header", "1100000001000000000000000000000000000000000000", messages.ErrMalformed, "17 bytes"},
		{"two bytes", "020000000100", messages.ErrMalformed, "2 bytes"},
		{"no login", "12000000 b001 00000000000000000000000000000000", messages.ErrMalformed, "inside the login"},
		{"login cut short", "14000000 b001 00000000000000000000000000000001 0561", messages.ErrMalformed, "inside the login"},
		{"no password", "14000000 b001 00000000000000000000000000000001 0161", messages.ErrMalformed, "inside the password"},
		{"password cut short", "16000000 b001 00000000000000000000000000000001 0161 0562", messages.ErrMalformed, "inside the password"},
		{"empty password, empty body", "15000000 f201 00000000000000000000000000000001 0161 00", messages.ErrMalformed, "empty password"},
		{"an HTTP answer", hex.EncodeToString([]byte("HTTP/1.1 400 Bad Request\r\n")), messages.ErrFrameTooLarge, "is this the HTTP port?"},
		{"an HTTP request", hex.EncodeToString([]byte("GET / HTTP/1.1\r\n")), messages.ErrFrameTooLarge, "this is the TCP port"},
		{"a TLS alert", "15030300020228", messages.ErrMalformed, "speaks TLS"},
		{"cut in the prefix", "1800", io.ErrUnexpectedEOF, "2 bytes into it"},
		{"cut in the body", "18000000f5000000", io.ErrUnexpectedEOF, "8 bytes into it"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := messages.NewReader(iotest.OneByteReader(bytes.NewReader(unhex(t, tt.wire))), 0)
			_, err := r.Next()
			require.ErrorIs(t, err, tt.is)
			require.ErrorContains(t, err, tt.says)
			_, again := r.Next()
			require.Equal(t, err, again)
		})
	}
}

// A peer that announces 64 MiB and sends little must not make us allocate 64 MiB.
func TestReaderGrowsWithTheBytesThatCame(t *testing.T) {
	wire := append([]byte{0, 0, 0, 4}, make([]byte, 1000)...)
	var r *messages.Reader
	allocated := testing.Benchmark(func(b *testing.B) {
		b.Helper()
		b.ReportAllocs()
		for b.Loop() {
			r = messages.NewReader(bytes.NewReader(wire), 64)
			if _, err := r.Next(); !errors.Is(err, io.ErrUnexpectedEOF) {
				b.Fatal(err)
			}
		}
	}).AllocedBytesPerOp()
	require.Less(t, allocated, int64(16<<10))
}

type mute struct{}

func (mute) Read([]byte) (int, error) { return 0, nil }

func TestReaderGivesUpOnAReaderThatBringsNothing(t *testing.T) {
	_, err := messages.NewReader(mute{}, 0).Next()
	require.ErrorIs(t, err, io.ErrNoProgress)
}

func TestReaderShrinksAfterALargeFrame(t *testing.T) {
	wire, err := messages.AppendFrame(nil, messages.ID{1}, nil, messages.Raw(messages.Ping, make([]byte, 1<<20)))
	require.NoError(t, err)
	small, err := messages.AppendFrame(nil, messages.ID{2}, nil, messages.Raw(messages.Ping, nil))
	require.NoError(t, err)
	r := messages.NewReader(io.MultiReader(bytes.NewReader(wire), bytes.NewReader(small)), 64)
	f, err := r.Next()
	require.NoError(t, err)
	require.Len(t, f.Body, 1<<20)
	f, err = r.Next()
	require.NoError(t, err)
	require.Less(t, cap(f.Body), 1024, "the small frame lies in a small buffer")
}

func TestFrameTooLargeLeavesTheBufferAsItWas(t *testing.T) {
	before := []byte("before")
	b, err := messages.AppendFrame(before, messages.ID{1}, nil, messages.Raw(messages.Ping, make([]byte, messages.MaxFrame)))
	require.ErrorIs(t, err, messages.ErrFrameTooLarge)
	require.Equal(t, before, b)
}

func TestCredentialLimits(t *testing.T) {
	long := strings.Repeat("x", 256)
	tests := []struct{ name, login, password, says string }{
		{"empty login", "", "p", "login is empty"},
		{"empty password", "u", "", "password is empty"},
		{"long login", long, "p", "the login has 256 bytes"},
		{"long password", "u", long, "the password has 256 bytes"},
		{"a login that 20.6 would read as a token", "é" + long[:126], "p", "the wire carries 127"},
		{"a password behind such a login", "é", long[:128], "the wire carries 127"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := messages.AppendCredentials(nil, tt.login, tt.password)
			require.ErrorContains(t, err, tt.says)
		})
	}
	b, err := messages.AppendCredentials(nil, long[:255], long[:255])
	require.NoError(t, err)
	wire, err := messages.AppendFrame(nil, messages.ID{1}, b, messages.Raw(messages.Authenticate, nil))
	require.NoError(t, err)
	f, err := messages.ParseFrame(wire[4:])
	require.NoError(t, err)
	require.Equal(t, long[:255], string(f.Login))
	require.Equal(t, long[:255], string(f.Password))
	require.Empty(t, f.Body)
}

func TestGUIDOrder(t *testing.T) {
	// On the wire 00112233 4455 6677 8899aabbccddeeff, as a server shows it 33221100-5544-7766-8899-aabbccddeeff.
	wire := unhex(t, "00112233445566778899aabbccddeeff")
	id, err := messages.ParseGUID(wire)
	require.NoError(t, err)
	require.Equal(t, "33221100-5544-7766-8899-aabbccddeeff", id.String())
	require.Equal(t, wire, messages.AppendGUID(nil, id))
	_, err = messages.ParseGUID(wire[:15])
	require.ErrorIs(t, err, messages.ErrMalformed)
	id, err = messages.ParseGUID(nil)
	require.NoError(t, err)
	require.Zero(t, id)
}

func TestCommandNames(t *testing.T) {
	require.Equal(t, "FilteredReadAllEventsBackwardCompleted", messages.Command(0xBE).String())
	require.Equal(t, "command 0xbd", messages.Command(0xBD).String())
	require.True(t, messages.WriteEvents.Known())
	require.False(t, messages.Command(0x7F).Known())
}

func FuzzReader(f *testing.F) {
	f.Add(unhex(f, "170000000300000102030405060708090a0b0c0d0e0f68656c6c6f"), uint8(1))
	f.Add(unhex(f, "21000000f201000102030405060708090a0b0c0d0e0f0561646d696e086368616e67656974"), uint8(7))
	f.Add([]byte("HTTP/1.1 200 OK"), uint8(3))
	f.Add(unhex(f, "fcffffff00000000"), uint8(64))
	f.Fuzz(func(t *testing.T, wire []byte, chunk uint8) {
		whole := readAll(t, messages.NewReader(bytes.NewReader(wire), 0))
		pieces := readAll(t, messages.NewReader(&chunks{bytes.NewReader(wire), int(chunk)%64 + 1}, 0))
		require.Equal(t, whole, pieces, "segmentation changes nothing")
	})
}

// readAll returns the frames, encoded again, and how they ended.
func readAll(t *testing.T, r *messages.Reader) []string {
	t.Helper()
	var all []string
	for {
		f, err := r.Next()
		switch {
		case err == nil:
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, messages.ErrMalformed), errors.Is(err, messages.ErrFrameTooLarge):
			return append(all, err.Error())
		default:
			t.Fatal(err)
		}
		all = append(all, f.Command.String()+hex.EncodeToString(f.ID[:])+string(f.Login)+"\x00"+string(f.Password)+"\x00"+string(f.Body))
	}
}

type chunks struct {
	r io.Reader
	n int
}

func (c *chunks) Read(b []byte) (int, error) { return c.r.Read(b[:min(len(b), c.n)]) }

// TestReady: what Next returns without reading, an error as well.
func TestReady(t *testing.T) {
	frame := func(body string) []byte {
		b, err := messages.AppendFrame(nil, messages.ID{1}, nil, messages.Raw(messages.Ping, []byte(body)))
		require.NoError(t, err)
		return b
	}
	two := append(frame("one"), frame("two")...)
	for cut := range two {
		r := messages.NewReader(bytes.NewReader(two[:cut]), 1024)
		require.False(t, r.Ready())
		for range cut / len(frame("one")) {
			_, err := r.Next()
			require.NoError(t, err)
			require.False(t, r.Ready(), cut)
		}
		_, err := r.Next()
		require.Error(t, err)
		require.True(t, r.Ready())
	}
	r := messages.NewReader(bytes.NewReader(append(two, 0xff, 0xff, 0xff, 0xff)), 1024)
	for range 2 {
		_, err := r.Next()
		require.NoError(t, err)
		require.True(t, r.Ready())
	}
	_, err := r.Next()
	require.Error(t, err)
}
