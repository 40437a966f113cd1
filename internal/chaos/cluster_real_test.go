package chaos_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/faultnet"
	"github.com/goeventstore/eventstore/internal/realcluster"
	"github.com/goeventstore/eventstore/persistent"
)

// realTarget is the real cluster that the environment names. All that can be done to it is to end and to start its nodes.
type realTarget struct {
	*realcluster.Cluster
	t *testing.T
}

// wholeTime is how long a real cluster may take to be whole again, and to deliver what was written.
const wholeTime = 2 * time.Minute

// await waits until something holds.
func (s realTarget) await(holds func(ctx context.Context) error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), wholeTime)
	defer cancel()
	for {
		err := holds(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			s.t.Errorf("the cluster is not as it should be after %v: %v", wholeTime, err)
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (s realTarget) Nodes() int { return s.Size() }

func (s realTarget) Ready() { s.await(s.Whole) }

func (s realTarget) Leader() (id int) {
	s.await(func(ctx context.Context) error {
		members, err := s.Members(ctx, 0)
		if err != nil {
			return err
		}
		node, err := s.Number(members[0])
		id = node - 1
		return err
	})
	return id
}

func (s realTarget) hit(_ string, id int) {
	if err := s.Kill(id + 1); err != nil {
		s.t.Error(err)
	}
}

func (s realTarget) heal() {
	for id := range s.Size() {
		if err := s.Start(id + 1); err != nil {
			s.t.Error(err)
		}
	}
}

func (s realTarget) Client(tb testing.TB, opts ...eventstore.Option) *eventstore.Client {
	tb.Helper()
	c, err := eventstore.Connect(tb.Context(), s.Target(), opts...)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, c.Close()) })
	return c
}

func (s realTarget) clientOfNode(ctx context.Context, id int) (*eventstore.Client, error) {
	all, err := s.Members(ctx, s.Size()-1)
	if err != nil {
		return nil, err
	}
	for _, m := range all {
		if node, err := s.Number(m); err == nil && node == id+1 {
			return eventstore.Connect(ctx, "tcp://admin:changeit@"+m.TCP, eventstore.WithMaxAttempts(1))
		}
	}
	return nil, fmt.Errorf("nobody is node %d", id+1)
}

// underFire is how long a real cluster has at least something to do.
const underFire = 50 * time.Second

// forReal makes the plan one for a real cluster: for about a minute, with blows that kill and streams of its own.
func (p *clusterPlan) forReal() {
	kinds := []string{leaderKilled, quorumKilled, followerKilled, leaderKilled}
	p.blows = p.blows[:len(kinds)]
	for i, kind := range kinds {
		p.blows[i].kind = kind
		p.blows[i].lasts = min(p.blows[i].lasts, 5*time.Second)
	}
	run := "-" + uuid.NewString()[:8]
	for i := range p.streams {
		p.streams[i] += run
	}
	longest := time.Duration(0)
	for _, script := range p.scripts {
		lasts := time.Duration(0)
		for i := range script {
			script[i].stream += run
			lasts += script[i].pause
		}
		longest = max(longest, lasts)
	}
	for _, script := range p.scripts {
		for i := range script { // so that the blows fall
			script[i].pause = time.Duration(float64(script[i].pause) * float64(underFire) / float64(longest))
		}
	}
}

// The same plans in real time on the cluster that the environment names, whose nodes are killed and started again.
func TestARealClusterUnderFire(t *testing.T) {
	named := realcluster.Named(t)
	switch {
	case named == nil:
		t.Skipf("NOT TESTED: %s names no real cluster", realcluster.Nodes)
	case !realcluster.Controlled():
		t.Skipf("NOT TESTED: it kills nodes of the cluster: %s names a program that does", realcluster.Control)
	}
	require.Equal(t, 3, named.Size(), "nodes")
	for seed := range faultnet.Seeds(t, 1) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			s := realTarget{named, t}
			t.Cleanup(s.heal)
			s.Ready()
			p := newClusterPlan(seed)
			p.forReal()
			h := newClusterHistory()
			h.lost = new(lost)
			var said strings.Builder
			begun := time.Now()
			p.play(t, h, s, realClient, &said, func() {
				s.await(func(context.Context) error {
					h.mu.Lock()
					defer h.mu.Unlock()
					h.conclude()
					if missed := h.missed(); len(missed) > 0 {
						return fmt.Errorf("%s", strings.Join(missed, "\n"))
					}
					return nil
				})
			})
			for _, stream := range p.streams {
				require.NoError(t, persistent.Delete(t.Context(), s.Client(t), stream, "g"))
			}
			if wrong := h.verdict(); wrong != "" {
				t.Errorf("%s\nmay be rolled back: %v", wrong, h.lost.labels)
			}
			t.Logf("plan of seed %d in %v:\n%v\n%s\n%v", seed, time.Since(begun), p, said.String(), h.count())
		})
	}
}

// What the checker accepts of a real cluster, which does not say what it has rolled back: what happened without a majority, and
// no more.
func TestWhatMayBeLostOfARealCluster(t *testing.T) {
	const stream = "s"
	there := []string{"a", "b"}
	tests := map[string]struct {
		lost    string // an append of this label
		call    int64
		answer  outcome
		seen    delivered
		accepts bool
	}{
		"nothing":                                      {accepts: true},
		"written without a majority":                   {lost: "x", call: 12, answer: outcome{first: 2, last: 2}, accepts: true},
		"written with one":                             {lost: "x", call: 2, answer: outcome{first: 2, last: 2}},
		"written when it was there again":              {lost: "x", call: 31, answer: outcome{first: 2, last: 2}},
		"open":                                         {lost: "x", call: 2, answer: outcome{unknown: true}, accepts: true},
		"open, seen without a majority":                {lost: "x", call: 2, answer: outcome{unknown: true}, seen: delivered{2, "x", 15}, accepts: true},
		"open, seen with one":                          {lost: "x", call: 2, answer: outcome{unknown: true}, seen: delivered{2, "x", 7}},
		"written and seen without a majority":          {lost: "x", call: 12, answer: outcome{first: 2, last: 2}, seen: delivered{2, "x", 15}, accepts: true},
		"seen under another number":                    {lost: "x", call: 12, answer: outcome{first: 1, last: 1}, seen: delivered{2, "x", 15}},
		"what nobody wrote":                            {seen: delivered{2, "y", 15}},
		"what was refused":                             {lost: "x", call: 12, answer: outcome{refused: true}, seen: delivered{2, "x", 15}},
		"an event that is there, under another number": {seen: delivered{2, "a", 15}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h := newClusterHistory()
			h.lost = &lost{minorities: [][2]int64{{10, 20}}}
			h.final[stream] = there
			h.handled[stream] = map[string]bool{"a": true, "b": true}
			add := func(label string, call int64, out outcome) {
				h.clock = call
				h.add(0, call, operation{stream: stream, do: doAppend, expected: eventstore.Any, labels: []string{label}}, out)
			}
			add("a", 0, outcome{first: 0, last: 0})
			add("b", 1, outcome{first: 1, last: 1})
			if tt.lost != "" {
				add(tt.lost, tt.call, tt.answer)
			}
			came := []delivered{{0, "a", 3}, {1, "b", 4}}
			if tt.seen.label != "" {
				came = append(came, tt.seen)
			}
			h.followed[stream], h.listened[stream] = came, came
			h.clock = 100
			h.conclude()
			wrong := h.verdict()
			require.Equal(t, tt.accepts, wrong == "", "%s", wrong)
		})
	}
}
