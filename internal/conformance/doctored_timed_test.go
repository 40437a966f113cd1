package conformance_test

import (
	"slices"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/eventstoretest"
)

const idle = "eventstore-4.1.4/idle-and-bad.jsonl"

// playTimed plays lines in a bubble.
func playTimed(t *testing.T, rec *recording, lines []line) *playing {
	t.Helper()
	var p *playing
	synctest.Test(t, func(t *testing.T) {
		timed := newTimedPlayer(t, eventstoretest.Run(t, eventstoretest.InMemory()), rec, lines)
		timed.play()
		p = timed.playing
	})
	return p
}

// TestTimedReplayFindsWhatIsWrong tampers with the silent connections of a recording, its first 41 lines.
func TestTimedReplayFindsWhatIsWrong(t *testing.T) {
	without := func(numbers ...int) func(t *testing.T, lines []line) []line {
		return func(t *testing.T, lines []line) []line {
			t.Helper()
			return slices.DeleteFunc(lines, func(l line) bool { return slices.Contains(numbers, l.n) })
		}
	}
	later := func(n int, ms float64) func(t *testing.T, lines []line) []line {
		return func(t *testing.T, lines []line) []line {
			t.Helper()
			at(t, lines, n).ms += ms
			slices.SortStableFunc(lines, func(a, b line) int { return int(a.ms*10 - b.ms*10) })
			return lines
		}
	}
	const fin = "server closed (FIN)"
	for name, c := range map[string]struct {
		doctor   func(t *testing.T, lines []line) []line
		want     []difference
		problems []string
	}{
		"nothing": {doctor: without()},
		"jitter":  {doctor: later(18, 40)},
		"a close that is later": {
			doctor: later(18, 100), want: []difference{{18, "time", "13433 ms", "any"}},
		},
		"a close that is earlier": {
			doctor: later(18, -100), want: []difference{{18, "connection", fin, "open"}},
		},
		"a close that is a second later": {
			doctor: later(41, 1000), want: []difference{{41, "time", "30891 ms", "any"}},
		},
		"a close that is missing in the recording": {
			doctor: without(18), want: []difference{{17, "connection", "open", fin}},
		},
		"a close that is another": {
			doctor: func(t *testing.T, lines []line) []line {
				t.Helper()
				at(t, lines, 28).how = "server closed (RST)"
				return lines
			},
			want: []difference{{28, "connection", "server closed (RST)", fin}},
		},
		"a close too many in the recording": {
			doctor: func(t *testing.T, lines []line) []line {
				t.Helper()
				l := at(t, lines, 37)
				l.kind, l.how = serverClosed, fin
				return lines
			},
			want: []difference{{37, "connection", fin, "open"}},
		},
		"a heartbeat request that is later": {
			doctor: later(5, 70), want: []difference{{5, "time", "4090 ms", "any"}},
		},
		"a heartbeat request that is earlier": {
			doctor: later(33, -80),
			want:   []difference{{33, "frame", "HeartbeatRequest", none}, {37, "frame", none, "HeartbeatRequest"}},
		},
		"a heartbeat request that is missing in the recording": {
			doctor: without(40), want: []difference{{41, "frame", none, "HeartbeatRequest"}},
		},
		"a heartbeat request too many in the recording": {
			doctor: func(t *testing.T, lines []line) []line {
				t.Helper()
				again := *at(t, lines, 7)
				again.ms += 1000
				return slices.Insert(lines, slices.IndexFunc(lines, func(l line) bool { return l.n == 9 }), again)
			},
			want: []difference{{7, "frame", "HeartbeatRequest", none}},
		},
		"an answer that is later": {
			doctor: later(25, 500), want: []difference{{25, "time", "18650 ms", "any"}},
		},
		// Nobody else answers it: the connection of the first 12 lines ends.
		"a heartbeat that is not answered": {
			doctor: without(6),
			want: []difference{
				{7, "frame", "HeartbeatRequest", none}, {11, "frame", "Pong", none}, {12, "connection", "open", fin},
			},
			problems: []string{"frame 8 (HeartbeatResponse) could not be sent: ", "frame 10 (Ping) could not be sent: "},
		},
		"a connection that is not opened": {
			doctor:   without(39),
			problems: []string{`line 40: the connection "g" was not opened`, `line 41: the connection "g" was not opened`},
		},
		"what was answered in another order": {
			doctor: func(t *testing.T, lines []line) []line {
				t.Helper()
				first, second := *at(t, lines, 10), *at(t, lines, 11)
				first.id[0]++
				second.id[0]++
				i := slices.IndexFunc(lines, func(l line) bool { return l.n == 11 })
				return slices.Insert(lines, i, first, second) // asked, asked, the second answer, the first
			},
			want: []difference{{11, "order", "as it stands", "earlier"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, lines := recorded(t, idle)
			lines = c.doctor(t, lines[:41])
			p := playTimed(t, &recording{}, lines)
			require.Len(t, p.found, len(c.want), "%v", p.found)
			for i, want := range c.want {
				if want.ours == "any" {
					want.ours = p.found[i].ours
				}
				require.Equal(t, want, p.found[i])
			}
			require.Len(t, p.problems, len(c.problems), "%v", p.problems)
			for i, want := range c.problems {
				require.Contains(t, p.problems[i], want)
			}
		})
	}
}

// TestTimedReplayOfDrippingBytes: without the bytes that only the manifest has, the server asks and closes.
func TestTimedReplayOfDrippingBytes(t *testing.T) {
	rec, lines := recorded(t, "cluster-4.1.4/heartbeat.jsonl")
	require.Len(t, rec.bytes, 1)
	lines = slices.DeleteFunc(lines, func(l line) bool { return l.conn != "drip" && l.conn != "pings-only" })
	p := playTimed(t, rec, lines)
	require.Empty(t, p.problems)
	require.Empty(t, p.found)

	p = playTimed(t, &recording{}, lines)
	require.Empty(t, p.problems)
	require.Equal(t, []difference{{14, "connection", "open", "server closed (FIN)"}, {14, "frame", none, "HeartbeatRequest"}}, p.found)

	rec.bytes[0].every = 2500 // each byte is in time for one check of two
	p = playTimed(t, rec, lines)
	require.Contains(t, p.found, difference{14, "frame", none, "HeartbeatRequest"})
}
