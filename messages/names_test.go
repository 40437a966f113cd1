package messages_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/messages"
)

// sameMemory reports whether b gives one and the same string twice.
func sameMemory(n *messages.Names, b []byte) bool {
	first, second := n.String(b), n.String(b)
	return unsafe.StringData(first) == unsafe.StringData(second)
}

func TestNamesKeepShortNamesOnly(t *testing.T) {
	tests := []struct {
		length int
		kept   bool
	}{{1, true}, {127, true}, {128, true}, {129, false}, {1000, false}}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.length), func(t *testing.T) {
			b := []byte(strings.Repeat("n", tt.length))
			var names messages.Names
			require.Equal(t, string(b), names.String(b))
			require.Equal(t, tt.kept, sameMemory(&names, b))
			require.False(t, tt.length > 1 && sameMemory(nil, b), "without Names nothing is kept") // one byte never allocates
		})
	}
	require.Empty(t, new(messages.Names).String(nil))
	require.Empty(t, (*messages.Names)(nil).String(nil))
}

func TestNamesDoNotGrow(t *testing.T) {
	heap := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	var names messages.Names
	before := heap()
	for i := range 50_000 { // 6 MB, and 12 MB of long ones
		names.String(fmt.Appendf(nil, "%0128d", i))
		names.String(fmt.Appendf(nil, "%0256d", i))
	}
	grown := heap() - before
	require.Less(t, grown, int64(256<<10), "256 names of 128 bytes are 32 KiB")
	require.Equal(t, "still right", names.String([]byte("still right")))
}

// Many names share few places: whoever comes later must not get the name of the one before.
func TestNamesAreRightWhenTheyCollide(t *testing.T) {
	var names messages.Names
	for range 3 {
		for i := range 2_000 {
			want := fmt.Sprintf("stream-%d", i)
			require.Equal(t, want, names.String([]byte(want)))
		}
	}
}

// The places are chosen by a hash whose seed is random. Four names must not share one in any of many seeds: a stream and a
// type that did would cost two strings for each event.
func TestAFewNamesStay(t *testing.T) {
	few := [][]byte{[]byte("account-00001"), []byte("opened"), []byte("deposited"), []byte("closed")}
	for range 2_000 {
		var names messages.Names
		var kept []*byte
		for range 2 {
			for i, b := range few {
				memory := unsafe.StringData(names.String(b))
				if len(kept) < len(few) {
					kept = append(kept, memory)
				}
				require.Same(t, kept[i], memory)
			}
		}
	}
}

func TestNamesDoNotAliasTheInput(t *testing.T) {
	for name, names := range someOrNone() {
		t.Run(name, func(t *testing.T) {
			for _, length := range []int{1, 8, 128, 129} {
				b := []byte(strings.Repeat("a", length))
				kept := names.String(b)
				copy(b, strings.Repeat("b", length))
				require.Equal(t, strings.Repeat("a", length), kept)
				require.Equal(t, strings.Repeat("b", length), names.String(b))
				require.Equal(t, strings.Repeat("a", length), kept, "what was given out stays, also when its place is taken")
			}
		})
	}
}
