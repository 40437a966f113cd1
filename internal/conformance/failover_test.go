package conformance_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
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

// failover is how long what took after the leader of a cluster was killed, in ms.
type failover struct {
	Dead  float64 `json:"dead_seen_ms"`              // somebody says that it is
	Seen  float64 `json:"new_master_first_seen_ms"`  // somebody says that another leads
	All   float64 `json:"new_master_seen_by_all_ms"` // all do
	Write float64 `json:"first_write_ok_ms"`
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

// replayFailovers kills the leader of an embedded cluster, some times as often as was recorded. The median of each time has to be
// between a third and three times the recorded one, and none much longer than twice the longest: they are by chance.
func replayFailovers(t *testing.T, rec *recording) (p *playing) {
	t.Helper()
	rounds := readRounds[failover](t, rec)
	var ours []failover
	synctest.Test(t, func(t *testing.T) {
		p = newPlaying(t, nil, rec, nil)
		network := memnet.New()
		s := eventstoretest.Cluster(t, 3, eventstoretest.OnNetwork(network), eventstoretest.WithServer(server.Config{Dialect: rec.dialect()}))
		asker := &timeline{playing: p, network: network, cluster: s.Cluster}
		for range 5 * len(rounds) {
			ours = append(ours, asker.failover(s.Leader()))
			s.Ready()
		}
	})
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
		if median > 3*recorded || 3*median < recorded || ms(o[len(o)-1]) > 2*ms(r[len(r)-1])+answerSpread {
			p.differs(1, what.name, fmt.Sprint(r), fmt.Sprint(o))
		}
		p.compared += len(o)
		t.Logf("%s: median %v ms, recorded %v ms", what.name, median, recorded)
	}
	return p
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
	began := time.Now()
	since := func() float64 { return float64(time.Since(began).Milliseconds()) }
	first := func(at *float64) {
		if *at == 0 {
			*at = since()
		}
	}
	for f.All == 0 || f.Write == 0 {
		if f.Dead == 0 {
			time.Sleep(untilDead)
		} else {
			time.Sleep(afterDead)
		}
		synctest.Wait()
		require.Less(p.t, since(), 60_000.0)
		seen := 0
		for id, peer := range others {
			dead, leads := p.sees(id)
			if dead {
				first(&f.Dead)
			}
			if dead && leads { // before, it is the old one that is taken to be alive
				first(&f.Seen)
				seen++
			}
			a := peer.call(&messages.Append{Stream: stream, Expected: -2, Events: peer.named(uuid.NewString()), RequireLeader: true})
			var m pb.WriteEventsCompleted
			if a.command == messages.WriteEventsCompleted && decode(a.body, &m) == nil && m.GetResult() == pb.OperationResult_Success {
				first(&f.Write)
			}
		}
		if seen == len(others) {
			first(&f.All)
		}
	}
	for _, peer := range others {
		_ = peer.conn.Close()
	}
	require.NoError(p.t, p.cluster.Start(leader))
	return f
}

// sees is whether a node says of a leader that it is dead, and of another that it is not.
func (p *timeline) sees(id int) (dead, leads bool) {
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
		dead = dead || m.State == "Master" && !m.IsAlive
		leads = leads || m.State == "Master" && m.IsAlive
	}
	return dead, leads
}
