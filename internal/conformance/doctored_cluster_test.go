package conformance_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// fieldsOf are the fields that differ, each once, in the order of the alphabet.
func fieldsOf(found []difference) []string {
	fields := []string{}
	for _, d := range found {
		fields = append(fields, d.field)
	}
	slices.Sort(fields)
	return slices.Compact(fields)
}

// TestFailoverReplayFindsWhatIsWrong tampers with the recorded failovers, and with ours.
func TestFailoverReplayFindsWhatIsWrong(t *testing.T) {
	rec := recordingOf(t, "cluster-4.1.4/election-times-kill.jsonl")
	rounds := readRounds[failover](t, rec)
	ours := failovers(t, rec, 3*len(rounds))
	for name, c := range map[string]struct {
		doctor func(rounds, ours []failover)
		want   []string
	}{
		"nothing":                     {func([]failover, []failover) {}, []string{}},
		"who is elected was killed":   {func(r, _ []failover) { r[3].Leader = r[3].Killed }, []string{"who leads"}},
		"somebody else leads then":    {func(r, _ []failover) { r[4].Leader = 1 }, []string{"who leads"}},
		"a round that is missing":     {func(r, _ []failover) { copy(r[2:], r[3:]) }, []string{"who leads"}},
		"ours that are never elected": {func(_, o []failover) { each(o, func(f *failover) { f.Leader = f.Killed }) }, []string{"who leads"}},
		"a death that nobody saw":     {func(r, _ []failover) { r[5].Dead = 0 }, []string{"dead seen"}},
		"a death seen much later":     {func(r, _ []failover) { each(r, func(f *failover) { f.Dead *= 10 }) }, []string{"dead seen"}},
		"a death seen much earlier":   {func(r, _ []failover) { each(r, func(f *failover) { f.Dead /= 10 }) }, []string{"dead seen"}},
		"a leader seen much later":    {func(r, _ []failover) { each(r, func(f *failover) { f.Seen *= 8 }) }, []string{"new leader seen"}},
		"a leader seen much earlier":  {func(r, _ []failover) { each(r, func(f *failover) { f.Seen /= 8 }) }, []string{"new leader seen"}},
		"one who is slow to see it":   {func(r, _ []failover) { r[1].All = 9000 }, []string{"new leader seen by all"}},
		"all who see it at once":      {func(r, _ []failover) { each(r, func(f *failover) { f.All /= 8 }) }, []string{"new leader seen by all"}},
		"a write much later":          {func(r, _ []failover) { each(r, func(f *failover) { f.Write *= 8 }) }, []string{"first write"}},
		"a write that never came":     {func(r, _ []failover) { r[7].Write = 0 }, []string{"first write"}},
		"one write of ours late":      {func(_, o []failover) { o[1].Write = 9000 }, []string{"first write"}},
		"steady much later":           {func(r, _ []failover) { each(r, func(f *failover) { f.Steady *= 8 }) }, []string{"steady"}},
	} {
		t.Run(name, func(t *testing.T) {
			r, o := slices.Clone(rounds), slices.Clone(ours)
			c.doctor(r, o)
			p := newPlaying(t, nil, rec, nil)
			p.compareFailovers(r, o)
			require.Equal(t, c.want, fieldsOf(p.found), "%v", p.found)
		})
	}
}

func each[T any](all []T, do func(*T)) {
	for i := range all {
		do(&all[i])
	}
}

// TestBurstReplayFindsWhatIsWrong tampers with what became of writes, in the recording and in ours.
func TestBurstReplayFindsWhatIsWrong(t *testing.T) {
	rec := recordingOf(t, "cluster-4.1.4/burst-kill.jsonl")
	rounds := readRounds[burst](t, rec)
	var ours []burst
	for age := range len(rounds) / 2 {
		ours = append(ours, killedInABurst(t, rec, time.Duration(age)*time.Millisecond)...)
	}
	for name, c := range map[string]struct {
		doctor func(rounds, ours []burst)
		want   []string
	}{
		"nothing": {func([]burst, []burst) {}, []string{}},
		"another answer": {
			func(r, _ []burst) { r[0].Results[1].Answer = "NotReady" }, []string{toLeader, toLeader + " answers"},
		},
		"an answer that is missing": {
			func(r, _ []burst) { r[1].Results = r[1].Results[1:] },
			[]string{forwarded + " answers", forwarded + " in number"},
		},
		"a write that was called written and is lost": {
			func(r, _ []burst) { r[0].Results[0].Stored, r[0].Stored = false, 0 }, []string{toLeader},
		},
		"what times out is never stored": {
			func(r, _ []burst) {
				each(r, func(b *burst) {
					b.Results = slices.DeleteFunc(b.Results, func(is burstResult) bool { return is.Answer == "ForwardTimeout" && is.Stored })
				})
			},
			[]string{forwarded, forwarded + " answers", forwarded + " in number"},
		},
		"more unknown than were under way": {
			func(r, _ []burst) {
				r[0].Results[0].Count -= 200
				r[0].Results[1].Count += 200
				r[0].Stored -= 200
			}, []string{toLeader + " in number"},
		},
		"another number": {func(r, _ []burst) { r[3].Results[1].Count-- }, []string{forwarded + " in number"}},
		"another end of the connection": {
			func(r, _ []burst) { r[2].Connection = "open" }, []string{toLeader + " connection"},
		},
		"a follower that ends its connections": {
			func(r, _ []burst) { r[3].Connection = r[0].Connection }, []string{forwarded + " connection"},
		},
		"another path": {
			func(r, _ []burst) { r[0].Path = forwarded },
			[]string{forwarded, forwarded + " answers", forwarded + " connection", "run"},
		},
		"a run that is missing": {func(r, _ []burst) { copy(r[2:], r[4:]) }, []string{"run"}},
		"an answer that ours had not in all runs": {
			func(_, o []burst) {
				o[0].Results = slices.DeleteFunc(o[0].Results, func(is burstResult) bool { return is.Answer != "Success" })
				o[0].Sent = o[0].Stored
			}, nil, // on either path
		},
		"ours that are lost": {
			func(_, o []burst) {
				each(o, func(b *burst) {
					each(b.Results, func(is *burstResult) { is.Stored = is.Stored && is.Answer != "Success" })
				})
			},
			[]string{forwarded, forwarded + " in number", toLeader, toLeader + " in number"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, o := slices.Clone(rounds), slices.Clone(ours)
			each(r, func(b *burst) { b.Results = slices.Clone(b.Results) })
			each(o, func(b *burst) { b.Results = slices.Clone(b.Results) })
			c.doctor(r, o)
			p := newPlaying(t, nil, rec, nil)
			p.compareBursts(r, o)
			if len(c.want) == 0 {
				require.Equal(t, c.want == nil, len(p.found) > 0, "%v", p.found)
				return
			}
			require.Equal(t, c.want, fieldsOf(p.found), "%v", p.found)
		})
	}
}

// TestDifferencesOfABurst are listed in the manifest as everywhere.
func TestDifferencesOfABurst(t *testing.T) {
	rec := &recording{path: "burst-kill.jsonl", mode: modeBursts}
	m := &manifest{files: []*recording{rec}}
	require.NoError(t, m.entry(strings.Split("diff\tburst-kill.jsonl\t1\tto the master connection\topen\tnone\tin a test", "\t")))
	require.Error(t, m.entry(strings.Split("chance\tburst-kill.jsonl\ta\tb\tin a test", "\t")))
	ours := readRounds[burst](t, recordingOf(t, "cluster-4.1.4/burst-kill.jsonl"))
	rounds := slices.Clone(ours)
	rounds[0].Connection = "open"
	p := newPlaying(t, nil, rec, nil)
	p.compareBursts(rounds, ours)
	require.Empty(t, rec.unlisted(p.found))
	require.Len(t, rec.unlisted(nil), 1, "one that is not met any more")
}

// TestClusterReplayFindsWhatIsWrong tampers with recordings of single nodes of a cluster.
func TestClusterReplayFindsWhatIsWrong(t *testing.T) {
	type doctor = func(t *testing.T, lines []line) []line
	first := func(command messages.Command, lines []line) int {
		i := slices.IndexFunc(lines, func(l line) bool { return l.kind == reply && l.command == command })
		require.GreaterOrEqual(t, i, 0)
		return lines[i].n
	}
	hint := func(change func(*pb.LeaderInfo)) doctor {
		return func(t *testing.T, lines []line) []line {
			t.Helper()
			return changed(first(messages.NotHandled, lines), func(m *pb.NotHandled) {
				var info pb.LeaderInfo
				require.NoError(t, decode(m.GetAdditionalInfo(), &info))
				change(&info)
				var err error
				m.AdditionalInfo, err = proto.Marshal(&info)
				require.NoError(t, err)
			})(t, lines)
		}
	}
	for name, c := range map[string]struct {
		file   string
		doctor doctor
		want   []string
	}{
		"the result of what was forwarded": {"slave-write-forwarded", func(t *testing.T, lines []line) []line {
			t.Helper()
			return changed(first(messages.WriteEventsCompleted, lines), func(m *pb.WriteEventsCompleted) { m.Result = pb.OperationResult_AccessDenied.Enum() })(t, lines)
		}, []string{"result"}},
		"why a request is not handled": {"slave-write-require-master", func(t *testing.T, lines []line) []line {
			t.Helper()
			return changed(first(messages.NotHandled, lines), func(m *pb.NotHandled) { m.Reason = pb.NotHandled_NotReady.Enum() })(t, lines)
		}, []string{"reason"}},
		"where the leader is": {"slave-write-require-master", hint(func(i *pb.LeaderInfo) { *i.ExternalTcpPort++ }), []string{"additional_info.external_tcp_port"}},
		"a host":              {"slave-write-require-master", hint(func(i *pb.LeaderInfo) { i.HttpAddress = proto.String("elsewhere") }), []string{"additional_info.http_address"}},
		"a port for TLS":      {"slave-write-require-master", hint(func(i *pb.LeaderInfo) { i.ExternalSecureTcpPort = proto.Int32(1) }), []string{"additional_info.external_secure_tcp_port"}},
		"no port for TLS":     {"secure-not-master", hint(func(i *pb.LeaderInfo) { i.ExternalSecureTcpPort = nil }), []string{"additional_info.external_secure_tcp_port"}},
		"an event of a clone": {"clone-requests", func(t *testing.T, lines []line) []line {
			t.Helper()
			return changed(first(messages.WriteEventsCompleted, lines), func(m *pb.WriteEventsCompleted) { m.LastEventNumber = proto.Int64(7) })(t, lines)
		}, []string{"last_event_number"}},
		"a refusal of one that is alone": {"notready-unknown", func(t *testing.T, lines []line) []line {
			t.Helper()
			return changed(first(messages.NotHandled, lines), func(m *pb.NotHandled) { m.Reason = pb.NotHandled_TooBusy.Enum() })(t, lines)
		}, []string{"reason"}},
	} {
		t.Run(name, func(t *testing.T) {
			rec, lines := recorded(t, "cluster-4.1.4/"+c.file+".jsonl")
			p := replayCluster(t, rec, c.doctor(t, lines))
			fields := fieldsOf(p.found)
			require.Empty(t, p.problems)
			require.Subset(t, fields, c.want, "%v", p.found)
		})
	}
}
