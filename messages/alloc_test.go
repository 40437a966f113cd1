//go:build !race

package messages_test

import (
	"runtime"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/messages"
)

// noMallocs requires that f allocates nothing when it is called so many times, after one call to warm up.
// testing.AllocsPerRun would round down: 0.9 allocations an operation are 0 to it.
func noMallocs(t *testing.T, times int, f func()) {
	t.Helper()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // others would count
	f()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range times {
		f()
	}
	runtime.ReadMemStats(&after)
	// The runtime's own goroutines may allocate a little in between.
	require.Less(t, after.Mallocs-before.Mallocs, uint64(times/100), "allocations in %d calls", times)
}

func TestAllocEncodeAppend(t *testing.T) {
	for name, n := range map[string]int{"1 event": 1, "10 events": 10} {
		t.Run(name, func(t *testing.T) {
			m := sampleAppend(n, 256)
			b := make([]byte, 0, 8<<10)
			noMallocs(t, 10_000, func() {
				var err error
				if b, err = m.AppendTo(b[:0]); err != nil {
					t.Fatal(err)
				}
			})
			require.Greater(t, len(b), n*256)
		})
	}
}

func TestAllocAppendFrame(t *testing.T) {
	m := sampleAppend(1, 256)
	credentials, err := messages.AppendCredentials(nil, "admin", "changeit")
	require.NoError(t, err)
	b := make([]byte, 0, 1<<10)
	noMallocs(t, 10_000, func() {
		if b, err = messages.AppendFrame(b[:0], messages.ID{1}, credentials, m); err != nil {
			t.Fatal(err)
		}
	})
}

func TestAllocDecodeAppendCompleted(t *testing.T) {
	b, err := sampleReply.AppendTo(nil)
	require.NoError(t, err)
	var m messages.AppendCompleted
	noMallocs(t, 10_000, func() {
		if err := m.Decode(b); err != nil {
			t.Fatal(err)
		}
	})
	require.Equal(t, int64(7), m.Last)
}

// These are 500,000 events, and not one allocation a page either.
func TestAllocDecodePage(t *testing.T) {
	b := samplePage(500, 16)
	var names messages.Names
	var m messages.StreamPage
	var last int64
	noMallocs(t, 1_000, func() {
		err := m.Decode(b)
		if err == nil {
			err = m.Each(&names, func(e *messages.ResolvedEvent) bool {
				last = e.Event.Number
				return true
			})
		}
		if err != nil {
			t.Fatal(err)
		}
	})
	require.Equal(t, int64(499), last)
}

func TestAllocDecodeAppeared(t *testing.T) {
	b := sampleAppeared(256)
	var names messages.Names
	var e messages.ResolvedEvent
	noMallocs(t, 10_000, func() {
		if err := messages.DecodeAppeared(b, &names, &e); err != nil {
			t.Fatal(err)
		}
	})
	require.Equal(t, int64(7), e.Link.Number)
}

func TestAllocPersistent(t *testing.T) {
	record := sampleRecord(7, 256)
	b := messages.AppendPersistentEvent(nil, record.AppendTo(nil), record.AppendTo(nil), 3)
	var names messages.Names
	var e messages.PersistentEvent
	ack := &messages.PersistentAck{Subscription: "account-00001::group", IDs: make([]uuid.UUID, 2000)}
	frame := make([]byte, 0, 64<<10)
	var err error
	noMallocs(t, 10_000, func() {
		if err := e.Decode(b, &names); err != nil {
			t.Fatal(err)
		}
		if frame, err = ack.AppendTo(frame[:0]); err != nil {
			t.Fatal(err)
		}
	})
	require.Equal(t, int32(3), e.Retries)
}

func TestAllocReader(t *testing.T) {
	var wire []byte
	for i := range 100 {
		var err error
		wire, err = messages.AppendFrame(wire, messages.ID{byte(i)}, nil, sampleAppend(i%4, 100+i))
		require.NoError(t, err)
	}
	r := messages.NewReader(&endless{b: wire}, 4<<10)
	noMallocs(t, 10_000, func() {
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	})
}
