package faultnet_test

import (
	"go/parser"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/internal/faultnet"
)

func TestPlansAreGoCode(t *testing.T) {
	for want, plan := range map[string]faultnet.Plan{
		"faultnet.Faults()": {},
		`faultnet.Faults(
	faultnet.Cut.At(faultnet.Place{Conn: 1, Dir: faultnet.ToServer, Frame: 3, Byte: 2}),
	faultnet.Duplicate.At(faultnet.Place{Conn: 0, Dir: faultnet.ToClient, Byte: 120}),
	faultnet.Fault{Kind: faultnet.Drip, At: faultnet.Place{Conn: 2, Dir: faultnet.ToClient, Byte: 0}, Wait: 1500 * time.Microsecond, Bytes: 7},
	faultnet.Fault{Kind: faultnet.Delay, At: faultnet.Place{Conn: 2, Dir: faultnet.ToClient, Frame: 1, Byte: 0}, Wait: time.Second},
)`: faultnet.Faults(
			faultnet.Cut.At(faultnet.Place{Conn: 1, Frame: 3, Byte: 2}),
			faultnet.Duplicate.At(faultnet.Place{Dir: faultnet.ToClient, Byte: 120}),
			faultnet.Fault{
				Kind: faultnet.Drip, At: faultnet.Place{Conn: 2, Dir: faultnet.ToClient},
				Wait: 1500 * time.Microsecond, Bytes: 7,
			},
			faultnet.Fault{Kind: faultnet.Delay, At: faultnet.Place{Conn: 2, Dir: faultnet.ToClient, Frame: 1}, Wait: time.Second},
		),
		"faultnet.Random(17, faultnet.Options{Max: 20, PerConn: 2, Kinds: []faultnet.Kind{faultnet.Cut, faultnet.Stall}, " +
			"Frames: 20, Bytes: 4096, Delay: 1234567 * time.Nanosecond, Pause: time.Millisecond})": faultnet.Random(17, faultnet.Options{
			Kinds: []faultnet.Kind{faultnet.Cut, faultnet.Stall},
			Delay: 1234567,
		}),
	} {
		require.Equal(t, want, plan.String())
		_, err := parser.ParseExpr(plan.String())
		require.NoError(t, err)
	}
	for k := faultnet.Cut; k <= faultnet.Drip; k++ {
		_, err := parser.ParseExpr(k.At(faultnet.Place{}).Code())
		require.NoError(t, err)
	}
}

func TestNamesOfPlaces(t *testing.T) {
	for want, p := range map[string]faultnet.Place{
		"conn1-to-server-frame3+2":    {Conn: 1, Frame: 3, Byte: 2},
		"connevery-to-client-byte120": {Dir: faultnet.ToClient, Byte: 120},
	} {
		require.Equal(t, want, p.String())
	}
	require.Equal(t, "drip 1ms 7 bytes at conn1-to-server-byte0",
		faultnet.Fault{Kind: faultnet.Drip, At: toServer(0, 0), Wait: time.Millisecond, Bytes: 7}.String())
	require.Equal(t, "Kind(99)", faultnet.Kind(99).String())
	require.Equal(t, "Direction(99)", faultnet.Direction(99).String())
}

func TestSenselessFaultsPanic(t *testing.T) {
	for _, f := range []faultnet.Fault{
		{},
		faultnet.Kind(99).At(toServer(1, 0)),
		faultnet.Cut.At(toServer(-1, 0)),
		faultnet.Cut.At(toServer(1, -1)),
		faultnet.Cut.At(faultnet.Place{Conn: -1}),
		faultnet.Cut.At(faultnet.Place{Dir: 2}),
		{Kind: faultnet.Delay, Wait: -1},
		{Kind: faultnet.Drip, Bytes: -1},
	} {
		require.Panics(t, func() { faultnet.Faults(f) }, "%+v", f)
	}
	require.Panics(t, func() { faultnet.Random(1, faultnet.Options{Kinds: []faultnet.Kind{0}}) })
}

func TestRandomIsFixedByItsSeed(t *testing.T) {
	seen := map[string]bool{}
	kinds := map[faultnet.Kind]int{}
	dirs := map[faultnet.Direction]int{}
	for seed := range uint64(100) {
		opts := faultnet.Options{Max: 15, PerConn: 3}
		a, b := faultnet.Random(seed, opts), faultnet.Random(seed, opts)
		got, ok := a.Seed()
		require.True(t, ok)
		require.Equal(t, seed, got)

		fixed := a.Fixed(100)
		require.Equal(t, fixed, b.Fixed(100))
		seen[fixed.String()] = true
		total := 0
		for _, conn := range []int{7, 3, 100, 1, 2} { // in any order
			require.Equal(t, a.Conn(conn), b.Conn(conn))
			require.Equal(t, slices.Clone(fixed.Conn(conn)), append([]faultnet.Fault(nil), a.Conn(conn)...))
		}
		for conn := range 100 {
			faults := a.Conn(conn + 1)
			require.LessOrEqual(t, len(faults), 3)
			total += len(faults)
			for _, f := range faults {
				kinds[f.Kind]++
				dirs[f.At.Dir]++
				require.Equal(t, conn+1, f.At.Conn)
				require.NotPanics(t, func() { faultnet.Faults(f) })
				require.Equal(t, f.Kind == faultnet.Delay || f.Kind == faultnet.Drip, f.Wait > 0)
				require.Equal(t, f.Kind == faultnet.Drip, f.Bytes > 0)
				require.LessOrEqual(t, f.At.Frame, 20)
				require.Less(t, f.At.Byte, int64(4096))
				require.LessOrEqual(t, f.Wait, time.Second)
			}
		}
		require.Equal(t, 15, total)
	}
	require.Len(t, seen, 100)
	require.Len(t, kinds, 8)
	require.Len(t, dirs, 2)
}

func TestAFixedPlanHasTheFaultsOfARandomOne(t *testing.T) {
	_, ok := faultnet.Faults().Seed()
	require.False(t, ok)
	plan := faultnet.Random(4, faultnet.Options{Kinds: []faultnet.Kind{faultnet.Cut, faultnet.Reset}})
	for conn := range 40 {
		require.Equal(t, append([]faultnet.Fault{}, plan.Conn(conn+1)...), append([]faultnet.Fault{}, plan.Fixed(40).Conn(conn+1)...))
	}
	require.Empty(t, plan.Conn(1000), "Max is given away")
}
