package conformance_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/internal/memnet"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
	"github.com/goeventstore/eventstore/server"
)

// failover is what was seen after the leader of a cluster was killed, and how many ms later.
type failover struct {
	Round  int
	Killed int     // the nodes
	Leader int     `json:"new_master"`
	Dead   float64 `json:"dead_seen_ms"`              // somebody says that it is
	Seen   float64 `json:"new_master_first_seen_ms"`  // somebody says that another leads
	All    float64 `json:"new_master_seen_by_all_ms"` // all do
	Write  float64 `json:"first_write_ok_ms"`
	Steady float64 `json:"steady_ms"` // all say of all what they stay
}

// failoverTimes names the times of failovers.
var failoverTimes = []struct {
	name string
	of   func(*failover) float64
}{
	{"dead seen", func(f *failover) float64 { return f.Dead }},
	{"new leader seen", func(f *failover) float64 { return f.Seen }},
	{"new leader seen by all", func(f *failover) float64 { return f.All }},
	{"first write", func(f *failover) float64 { return f.Write }},
	{"steady", func(f *failover) float64 { return f.Steady }},
}

// How often nodes are asked, and a write is tried, until the first one is seen to be dead and later.
const (
	untilDead = 10 * time.Millisecond
	afterDead = 30 * time.Millisecond
)

// readRounds reads a recording each of whose lines is a run.
func readRounds[R any](t *testing.T, rec *recording) (rounds []R) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(capturesDir, filepath.FromSlash(rec.path)))
	require.NoError(t, err)
	for text := range bytes.Lines(b) {
		var r R
		require.NoError(t, json.Unmarshal(text, &r))
		rounds = append(rounds, r)
	}
	return rounds
}

// replayFailovers kills the leader of an embedded cluster, some times as often as was recorded.
func replayFailovers(t *testing.T, rec *recording) (p *playing) {
	t.Helper()
	rounds := readRounds[failover](t, rec)
	p = newPlaying(t, nil, rec, nil)
	p.compareFailovers(rounds, failovers(t, rec, 5*len(rounds)))
	return p
}

// failovers kills the leader of an embedded cluster so many times.
func failovers(t *testing.T, rec *recording, count int) (ours []failover) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		network := memnet.New()
		s := eventstoretest.Cluster(t, 3, eventstoretest.OnNetwork(network), eventstoretest.WithServer(server.Config{Dialect: rec.dialect()}))
		asker := &timeline{playing: newPlaying(t, nil, rec, nil), network: network, cluster: s.Cluster}
		for round := range count {
			f := asker.failover(s.Leader())
			f.Round = round + 1
			ours = append(ours, f)
			s.Ready()
		}
	})
	return ours
}

// compareFailovers compares times and who led. The median of each time has to be between a third and three times the recorded one,
// and the longest of either not much longer than twice that of the other: they are by chance. Who was elected leads until it is
// killed in its turn, also when the one before is back.
func (p *playing) compareFailovers(rounds, ours []failover) {
	for _, what := range failoverTimes {
		times := func(all []failover) []float64 {
			var sorted []float64
			for i := range all {
				sorted = append(sorted, what.of(&all[i]))
			}
			slices.Sort(sorted)
			return sorted
		}
		r, o := times(rounds), times(ours)
		recorded, median := r[len(r)/2], o[len(o)/2]
		longest, most := ms(r[len(r)-1]), ms(o[len(o)-1])
		if median > 3*recorded || 3*median < recorded || most > 2*longest+answerSpread || longest > 2*most+answerSpread || r[0] <= 0 {
			p.differs(1, what.name, fmt.Sprint(r), fmt.Sprint(o))
		}
		p.compared += len(o)
		p.t.Logf("%s: median %v ms, recorded %v ms", what.name, median, recorded)
	}
	leads := reigns(ours)
	for i, is := range reigns(rounds) {
		if !slices.Contains(leads, is) {
			p.differs(i+1, "who leads", is, strings.Join(leads, " or "))
		}
		p.compared++
	}
}

// reigns is, of each round, who was elected, and whether that is who was killed next.
func reigns(rounds []failover) (all []string) {
	for i, f := range rounds {
		is := "another one"
		switch {
		case f.Round != i+1:
			is = fmt.Sprintf("round %d", f.Round)
		case f.Leader == f.Killed:
			is = "the one that was killed"
		case i+1 < len(rounds) && rounds[i+1].Killed != f.Leader:
			is += ", and then somebody else"
		}
		all = append(all, is)
	}
	return all
}

// failover kills the leader, sees how long it takes until there is another one, and starts the old one again.
func (p *timeline) failover(leader int) (f failover) {
	p.t.Helper()
	others := map[int]*peer{}
	for id := range 3 {
		if id != leader {
			others[id] = dialPeer(p.t, p.at(id))
		}
	}
	stream := "s-" + uuid.NewString()
	require.NoError(p.t, p.cluster.Kill(leader))
	f.Killed = leader
	began := time.Now()
	since := func() float64 { return float64(time.Since(began).Milliseconds()) }
	first := func(at *float64) {
		if *at == 0 {
			*at = since()
		}
	}
	for f.Steady == 0 || f.Write == 0 {
		if f.Dead == 0 {
			time.Sleep(untilDead)
		} else {
			time.Sleep(afterDead)
		}
		synctest.Wait()
		require.Less(p.t, since(), 60_000.0)
		seen, steady := 0, 0
		for id, peer := range others {
			says := p.sees(id)
			if says.dead {
				first(&f.Dead)
			}
			if says.dead && says.leads { // before, it is the old one that is taken to be alive
				first(&f.Seen)
				seen++
			}
			if says.dead && says.leads && says.follows {
				steady++
			}
			a := peer.call(&messages.Append{Stream: stream, Expected: -2, Events: peer.named(uuid.NewString()), RequireLeader: true})
			var m pb.WriteEventsCompleted
			if a.command == messages.WriteEventsCompleted && decode(a.body, &m) == nil && m.GetResult() == pb.OperationResult_Success {
				first(&f.Write)
				f.Leader = id
			}
		}
		if seen == len(others) {
			first(&f.All)
		}
		if steady == len(others) {
			first(&f.Steady)
		}
	}
	for _, peer := range others {
		_ = peer.conn.Close()
	}
	require.NoError(p.t, p.cluster.Start(leader))
	return f
}

// sight is what a node says: that a leader is dead, that there is one that is not, and that somebody follows it.
type sight struct{ dead, leads, follows bool }

// sees asks a node.
func (p *timeline) sees(id int) (says sight) {
	p.t.Helper()
	var document struct {
		Members []struct {
			State   string
			IsAlive bool
		}
	}
	require.NoError(p.t, p.get(id, http.MethodGet, "/gossip", func(r *http.Response) error {
		return json.NewDecoder(r.Body).Decode(&document)
	}))
	for _, m := range document.Members {
		says.dead = says.dead || m.State == "Master" && !m.IsAlive
		says.leads = says.leads || m.State == "Master" && m.IsAlive
		says.follows = says.follows || m.State == "Slave" && m.IsAlive
	}
	return says
}
