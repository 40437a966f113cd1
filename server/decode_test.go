package server

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/messages"
)

// FuzzDecodeWrite: the one pass finds what the shape and the lenient decoder do.
func FuzzDecodeWrite(f *testing.F) {
	event := messages.NewEvent{ID: uuid.UUID{1, 2, 3}, Type: "type", ContentType: 1, Data: []byte("data"), Metadata: []byte{}}
	good, err := (&messages.Append{
		Stream: "stream", Expected: -2, RequireLeader: true, Events: []messages.NewEvent{event, {ID: event.ID}},
	}).AppendTo(nil)
	require.NoError(f, err)
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add(append([]byte("\x0a\x01s\x7a\x00\x20\x02"), good...))           // an unknown field, and a boolean that is none
	f.Add([]byte("\x1a\x05\x0a\x01i\x12\x00"))                            // an id of one byte
	f.Add([]byte("\x1a\x02\x18\x01\x1a\x07\x18\xff\xff\xff\xff\xff\x01")) // an int32 over its limits
	f.Add([]byte("\x0b\x0c\x10\x05"))
	f.Add([]byte("\xf8\xff\xff\xff\x1f\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var want, got messages.Append
		var names messages.Names
		wantOK := writeShape.fits(b) && want.Decode(b, &names) == nil
		require.Equal(t, wantOK, decodeWrite(b, &got, &names))
		if wantOK {
			require.Equal(t, want, got)
		}
	})
}
