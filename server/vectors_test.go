package server

import (
	"encoding/binary"
	"encoding/hex"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/goeventstore/eventstore/messages"
)

// volatile are the fields of the recorded answers that differ from run to run: times and positions.
var volatile = map[messages.Command][]string{
	messages.SubscriptionConfirmation:          {"1"},
	messages.StreamEventAppeared:               {"1.1.9", "1.1.10", "1.3", "1.4"},
	messages.WriteEventsCompleted:              {"5", "6"},
	messages.DeleteStreamCompleted:             {"3", "4"},
	messages.ReadEventCompleted:                {"2.1.9", "2.1.10"},
	messages.ReadStreamEventsForwardCompleted:  {"1.1.9", "1.1.10", "6"},
	messages.ReadStreamEventsBackwardCompleted: {"1.1.9", "1.1.10", "6"},
}

// settled is a body with its volatile fields set to 1, unless they are negative: those are constants.
func settled(t *testing.T, body []byte, path string, fields []string) []byte {
	t.Helper()
	var out []byte
	for len(body) > 0 {
		number, typ, n := protowire.ConsumeTag(body)
		require.Positive(t, n)
		body = body[n:]
		out = protowire.AppendTag(out, number, typ)
		at := path + strconv.Itoa(int(number))
		switch typ {
		case protowire.VarintType:
			v, n := protowire.ConsumeVarint(body)
			require.Positive(t, n)
			body = body[n:]
			if int64(v) >= 0 && slices.Contains(fields, at) {
				v = 1
			}
			out = protowire.AppendVarint(out, v)
		case protowire.BytesType:
			v, n := protowire.ConsumeBytes(body)
			require.Positive(t, n)
			body = body[n:]
			if slices.ContainsFunc(fields, func(f string) bool { return strings.HasPrefix(f, at+".") }) {
				v = settled(t, v, at+".", fields)
			}
			out = protowire.AppendBytes(out, v)
		default:
			t.Fatalf("field %s has wire type %d", at, typ)
		}
	}
	return out
}

// TestVectors plays what a client sent to a real server and compares the answers byte for byte, but for times and
// positions. The order is that of each correlation id alone.
func TestVectors(t *testing.T) {
	n := run(t)
	p := n.raw(t)
	p.appended("other", expectAny, "z") // the recorded log was not empty
	vectors, err := os.ReadFile("testdata/vectors.txt")
	require.NoError(t, err)
	what, compared := "", 0
	for line := range strings.Lines(string(vectors)) {
		line = strings.TrimSpace(line)
		kind, rest, _ := strings.Cut(line, " ")
		switch kind {
		case "connection":
			p = n.raw(t)
		case ">":
			b, err := hex.DecodeString(rest)
			require.NoError(t, err)
			p.write(b)
		case "<":
			b, err := hex.DecodeString(rest)
			require.NoError(t, err)
			require.Equal(t, len(b)-4, int(binary.LittleEndian.Uint32(b)))
			want, err := messages.ParseFrame(b[4:])
			require.NoError(t, err)
			got := p.reply(want.ID)
			require.Equal(t, want.Command, got.command, what)
			fields := volatile[want.Command]
			if fields == nil {
				require.Equal(t, want.Body, got.body, what)
			} else {
				require.Equal(t, hex.EncodeToString(settled(t, want.Body, "", fields)), hex.EncodeToString(settled(t, got.body, "", fields)), what)
			}
			compared++
		default:
			what = line
		}
	}
	require.Equal(t, 21, compared)
	require.Empty(t, p.early)
}
