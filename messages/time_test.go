package messages_test

import (
	"math"
	"testing"
	"testing/quick"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/messages"
)

func TestTicks(t *testing.T) {
	east := time.FixedZone("east", 5*3600)
	tests := []struct {
		name  string
		t     time.Time
		ticks int64
	}{
		{"the year 1, which is Go's zero", time.Time{}, 0},
		{"100 ns later", time.Time{}.Add(100), 1},
		{"1970", time.Unix(0, 0), 621355968000000000},
		{"100 ns before 1970", time.Unix(0, -100), 621355968000000000 - 1},
		{"a tenth of a second before 1970", time.Unix(-1, 9e8), 621355968000000000 - 1e6},
		{"the vector's event", time.Date(2026, 11, 21, 7, 37, 15, 22085000, time.UTC), 639308434350220850},
		{"the same in another zone", time.Date(2026, 11, 21, 12, 37, 15, 22085000, east), 639308434350220850},
		{"the last moment of .NET", time.Date(9999, 12, 31, 23, 59, 59, 999999900, time.UTC), 3155378975999999999},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.ticks, messages.Ticks(tt.t))
			got := (&messages.EventRecord{Created: tt.ticks}).CreatedTime()
			require.Equal(t, tt.t.UTC(), got)
			require.Equal(t, time.UTC, got.Location())
		})
	}
	require.Equal(t, int64(1), messages.Ticks(time.Time{}.Add(199)), "what is below 100 ns is cut off")
	require.Equal(t, int64(621355968000000000-1), messages.Ticks(time.Unix(0, -1)), "towards the past")
}

func TestCreatedTime(t *testing.T) {
	both := messages.EventRecord{Created: 639308434350220850, CreatedEpoch: 1000}
	require.Equal(t, time.Date(2026, 11, 21, 7, 37, 15, 22085000, time.UTC), both.CreatedTime(), "the ticks are more exact")
	require.Equal(t, time.Date(2026, 11, 21, 7, 37, 15, 22e6, time.UTC), (&messages.EventRecord{CreatedEpoch: 1795246635022}).CreatedTime())
	require.Equal(t, time.Date(1969, 12, 31, 23, 59, 59, 999e6, time.UTC), (&messages.EventRecord{CreatedEpoch: -1}).CreatedTime())
	require.True(t, new(messages.EventRecord).CreatedTime().IsZero())
}

// Ticks survive the way to a time and back, whatever a peer sends.
func TestTicksRoundTrip(t *testing.T) {
	back := func(ticks int64) bool {
		return messages.Ticks((&messages.EventRecord{Created: ticks}).CreatedTime()) == ticks
	}
	require.NoError(t, quick.Check(back, &quick.Config{MaxCount: 20_000}))
	for _, ticks := range []int64{0, 1, -1, math.MaxInt64, math.MinInt64, 621355968000000000 - 1, 621355968000000000 + 1} {
		require.True(t, back(ticks), ticks)
	}
}
