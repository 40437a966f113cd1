package conformance_test

import (
	"cmp"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/messages/pb"
)

// TestTimelineReplayFindsWhatIsWrong tampers with the recording of a cluster that lost its majority.
func TestTimelineReplayFindsWhatIsWrong(t *testing.T) {
	type doctor = func(t *testing.T, lines []line) []line
	without := func(drop func(l *line) bool) doctor {
		return func(t *testing.T, lines []line) []line {
			t.Helper()
			left := slices.DeleteFunc(slices.Clone(lines), func(l line) bool { return drop(&l) })
			require.Less(t, len(left), len(lines))
			return left
		}
	}
	doctored := func(n int, change func(l *line)) doctor {
		return func(t *testing.T, lines []line) []line {
			t.Helper()
			change(at(t, lines, n))
			slices.SortStableFunc(lines, func(a, b line) int { return cmp.Compare(a.ms, b.ms) })
			return lines
		}
	}
	const (
		writes     = "master WriteEvents by the leader"
		subscribes = "master SubscribeToStream"
		joins      = "master ConnectToPersistentSubscription with login"
	)
	for name, c := range map[string]struct {
		doctor doctor
		want   []string // fields that differ
	}{
		"nothing": {func(_ *testing.T, lines []line) []line { return lines }, nil},
		"another answer": {
			changed(4, func(m *pb.WriteEventsCompleted) { m.Result = pb.OperationResult_AccessDenied.Enum() }), []string{writes},
		},
		"an answer that is missing":       {without(func(l *line) bool { return l.n == 4 }), []string{writes}},
		"an answer that is much later":    {doctored(4, func(l *line) { l.ms += 9000 }), []string{writes + ", Success after"}},
		"a drop that is missing":          {without(func(l *line) bool { return l.n == 96 }), []string{joins}},
		"an event that is missing":        {without(func(l *line) bool { return l.n == 23 }), []string{joins + ", numbers"}},
		"a drop that is much later":       {doctored(96, func(l *line) { l.ms += 4000 }), []string{joins + ", SubscriptionDropped from"}},
		"nodes that nobody ended":         {without(func(l *line) bool { return l.n == 32 }), []string{writes, subscribes, joins, "tally"}},
		"nodes that nobody started again": {without(func(l *line) bool { return l.n == 173 }), []string{writes}},
		"another end of a connection":     {doctored(2, func(l *line) { l.event, l.how = "connection ended", "server closed (FIN)" }), []string{"master connection"}},
		"events that are not in the end":  {doctored(315, func(l *line) { l.tally.stored = false }), []string{"tally", "tally"}},
		"another result in the end":       {doctored(315, func(l *line) { l.tally.result = "AccessDenied" }), []string{"tally"}},
	} {
		t.Run(name, func(t *testing.T) {
			rec, lines := recorded(t, "cluster-4.1.4/quorum-lost.jsonl")
			p := replayTimeline(t, rec, c.doctor(t, lines))
			require.Empty(t, p.problems)
			var fields []string
			for _, d := range p.found {
				fields = append(fields, d.field)
			}
			if c.want == nil {
				require.Empty(t, rec.unlisted(p.found))
			}
			for _, field := range c.want {
				require.Contains(t, fields, field, "%v", p.found)
			}
		})
	}
}

// TestTimelineReplayKnowsWhatItPlays: what happens to nodes in another way than it can have happen is no silence.
func TestTimelineReplayKnowsWhatItPlays(t *testing.T) {
	rec, lines := recorded(t, "cluster-4.1.4/quorum-lost.jsonl")
	at(t, lines, 173).event = "both slaves turned off"
	p := replayTimeline(t, rec, lines)
	require.Equal(t, []string{`line 173: "both slaves turned off" is nothing that can be played, and not left out`}, p.problems)
}

// TestTimelineReplayOfAKilledLeader tampers with what became of it: who leads then, what subscriptions of the others got, when its
// connection ended.
func TestTimelineReplayOfAKilledLeader(t *testing.T) {
	const required = "slave2 WriteEvents by the leader"
	for name, c := range map[string]struct {
		n      int
		change func(l *line)
		want   difference
	}{
		"an event that a subscription missed": {443, func(l *line) { l.missing = []int64{91} }, difference{443, "slave1 missed", "[91]", "[]"}},
		"an event too much":                   {444, func(l *line) { l.surplus = []int64{12} }, difference{444, "slave2 had too much", "[12]", "[]"}},
		"a connection that ends later":        {94, func(l *line) { l.ms += 1000 }, difference{94, "master connection ended", "2377 ms", "any"}},
		"a connection that stays":             {94, func(l *line) { l.how = "open" }, difference{94, "master connection", "open", "server closed (FIN)"}},
		// The node that is told to lead in the end is preferred here, and the others point to it.
		"who leads in the end": {437, func(l *line) { l.told.leader = otherSlave(l.told.leader) }, difference{0, required, "any", "any"}},
	} {
		t.Run(name, func(t *testing.T) {
			rec, lines := recorded(t, "cluster-4.1.4/master-sigkill.jsonl")
			c.change(at(t, lines, c.n))
			p := replayTimeline(t, rec, lines)
			i := slices.IndexFunc(p.found, func(d difference) bool { return d.field == c.want.field })
			require.GreaterOrEqual(t, i, 0, "%v", p.found)
			if c.want.n == 0 {
				require.NotEqual(t, p.found[i].recorded, p.found[i].ours)
				return
			}
			if c.want.ours == "any" {
				c.want.ours = p.found[i].ours
			}
			require.Equal(t, []difference{c.want}, p.found)
		})
	}
}

// otherSlave is the one of the two that began as slaves in master-sigkill.jsonl.
func otherSlave(node string) string {
	if node == "node2" {
		return "node1"
	}
	return "node2"
}

// TestTimelineReplayChecksNodesThatEnd: those that have ended by themselves, and the others.
func TestTimelineReplayChecksNodesThatEnd(t *testing.T) {
	rec, lines := recorded(t, "cluster-4.1.4/master-pause.jsonl")
	at(t, lines, 830).nodes = []string{"node3"}
	require.Contains(t, fieldsOf(replayTimeline(t, rec, lines).found), "nodes that do not run")
	rec, lines = recorded(t, "cluster-4.1.4/master-pause.jsonl")
	at(t, lines, 830).nodes = nil
	require.NotContains(t, fieldsOf(replayTimeline(t, rec, lines).found), "nodes that do not run")
}

// TestGossipReplayFindsWhatIsWrong tampers with the timeline of gossip, in several places at once.
func TestGossipReplayFindsWhatIsWrong(t *testing.T) {
	rec := recordingOf(t, "cluster-4.1.4/gossip-timeline.jsonl")
	lines := readGossip(t, rec)
	at := func(file string) *gossipLine {
		i := slices.IndexFunc(lines, func(l gossipLine) bool { return l.File == file })
		require.GreaterOrEqual(t, i, 0)
		return &lines[i]
	}
	at("back-n3-06.json").Members[2] = "41113 Slave dead"
	at("back-n1-01.json").Status = 503
	at("back-n3-04.json").Members[0] = "41313 PreMaster alive"
	at("back-n2-06.json").Ms += 6000
	at("back-n1-04.json").File = "secure-n1.json" // its nodes have ports for TLS
	lines = lines[:slices.IndexFunc(lines, func(l gossipLine) bool { return l.Phase == "slavekill" })]
	var fields []string
	for _, d := range replayGossip(t, rec, lines).found {
		fields = append(fields, d.field)
	}
	require.Subset(t, fields, []string{
		"back: node 3 says of 1", "back: node 1 answers", "back: node 3 says of 3 in passing", "back: node 2 says of 3, Slave from",
		"back: node 1 says of 3: Slave true",
	})
}
