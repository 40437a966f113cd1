package chaos_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/cluster"
	"github.com/goeventstore/eventstore/internal/faultnet"
)

// blow is something that happens to a node of a cluster, and ends some time later.
type blow struct {
	kind  string
	after time.Duration // the end of the one before
	lasts time.Duration
	other int // which of the followers, if it is one
}

// The kinds of blows.
const (
	leaderKilled   = "the leader is killed"
	leaderPaused   = "the leader is paused"
	leaderCutOff   = "the leader is cut off"
	leaderLost     = "the leader is cut off, and killed before it gives up"
	followerKilled = "a follower is killed"
	followerCutOff = "a follower is cut off"
	quorumKilled   = "both followers are killed"
)

// beforeItGivesUp is less than a leader takes that sees no majority. What it says until then is true: nobody may have been told that
// something is written that only this leader has.
const beforeItGivesUp = 2700 * time.Millisecond

// clusterPlan is all that a seed fixes: what workers do, and what happens to the nodes until they are done.
type clusterPlan struct {
	*plan
	blows []blow
	runs  []time.Duration // of listeners
}

func newClusterPlan(seed uint64) *clusterPlan {
	p := &clusterPlan{plan: newPlan(seed)}
	r := rand.New(rand.NewPCG(seed, 1))
	for _, script := range p.scripts {
		for i := range script {
			script[i].pause *= 12 // so that it lasts for some blows
		}
	}
	for range 20 {
		kinds := []string{leaderKilled, leaderKilled, leaderPaused, leaderCutOff, leaderCutOff, leaderLost, followerKilled, followerCutOff, quorumKilled}
		p.blows = append(p.blows, blow{
			kind: kinds[r.IntN(len(kinds))], after: time.Second + upTo(r, 5*time.Second), lasts: time.Second/2 + upTo(r, 7*time.Second), other: r.IntN(2),
		})
		if last := &p.blows[len(p.blows)-1]; last.kind == leaderPaused && r.IntN(2) == 0 {
			last.lasts += 8 * time.Second // until nobody waits for it any more
		} else if last.kind == leaderLost {
			last.lasts = time.Second/2 + upTo(r, beforeItGivesUp-time.Second/2)
		}
	}
	p.clients[0] = append(p.clients[0], eventstore.WithPreference(cluster.Follower), eventstore.WithRequireLeader(false))
	p.config[0] += ", on a follower, which forwards"
	for range 4 {
		p.runs = append(p.runs, 5*time.Second+upTo(r, 20*time.Second))
	}
	return p
}

func (p *clusterPlan) String() string {
	var b strings.Builder
	for i, c := range p.config {
		fmt.Fprintf(&b, "client %d: %s\n", i, c)
	}
	for _, blow := range p.blows {
		fmt.Fprintf(&b, "%v later %s (%d), for %v\n", blow.after, blow.kind, blow.other, blow.lasts)
	}
	return b.String()
}

// TestAClusterUnderFire: leaders are killed, paused and cut off every few seconds, and followers with them, under appends of
// several clients, reads, subscriptions, listeners and groups. What an append's caller was told agrees with what is there in the end.
func TestAClusterUnderFire(t *testing.T) {
	var all clusterCount
	for seed := range faultnet.Seeds(t, 20) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			p := newClusterPlan(seed)
			h, trace := p.run(t, realClient)
			all.add(h.count())
			if wrong := h.verdict(); wrong != "" {
				t.Fatalf("%s\nrolled back: %v\nplan of seed %d:\n%v\n%s\n%s", wrong, h.rolledBack, seed, p, trace, repeat(t, seed))
			}
		})
	}
	t.Log(all)
}

// clusterOptimist is a client that takes what nobody knows for done.
type clusterOptimist struct{ named }

// Append implements client.
func (c clusterOptimist) Append(ctx context.Context, stream string, expected eventstore.ExpectedVersion, events []eventstore.EventData, opts ...eventstore.CallOption) (eventstore.WriteResult, error) {
	r, err := c.named.Append(ctx, stream, expected, events, opts...)
	if eventstore.MaybeApplied(err) && expected >= eventstore.NoStream {
		first := expected + 1
		return eventstore.WriteResult{First: first, Last: expected + eventstore.ExpectedVersion(len(events))}, nil
	}
	return r, err
}

// clusterRepeater is a client that writes again, with new ids, what nobody knows.
type clusterRepeater struct{ named }

// Append implements client.
func (c clusterRepeater) Append(ctx context.Context, stream string, expected eventstore.ExpectedVersion, events []eventstore.EventData, opts ...eventstore.CallOption) (eventstore.WriteResult, error) {
	short, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	r, err := c.named.Append(short, stream, expected, events, opts...)
	if eventstore.MaybeApplied(err) {
		again := slices.Clone(events)
		for i := range again {
			again[i].ID = uuid.New()
		}
		return c.named.Append(ctx, stream, eventstore.Any, again, opts...)
	}
	return r, err
}

// TestTheClusterCheckerCatches clients that are broken on purpose. One that takes for done what a leader without a majority had is
// caught by that alone, although such a leader may call things written that are lost: it did not yet.
func TestTheClusterCheckerCatches(t *testing.T) {
	optimist := func(c *eventstore.Client, h *clusterHistory) client { return clusterOptimist{named{c, h}} }
	repeater := func(c *eventstore.Client, h *clusterHistory) client { return clusterRepeater{named{c, h}} }
	for name, broken := range map[string]struct {
		client clusterClient
		blow   string // if it is only this one
	}{
		"clusterOptimist":              {optimist, ""},
		"clusterOptimist, leader lost": {optimist, leaderLost},
		"clusterRepeater":              {repeater, ""},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(50) {
				p := newClusterPlan(seed)
				for i := range p.blows {
					if broken.blow != "" {
						p.blows[i].kind, p.blows[i].lasts = broken.blow, min(p.blows[i].lasts, beforeItGivesUp)
					}
				}
				if h, _ := p.run(t, broken.client); h.verdict() != "" {
					return
				}
			}
			t.Error("nobody noticed")
		})
	}
}

// TestTheClusterCheckerNotices each kind of thing that is altered in what was seen.
func TestTheClusterCheckerNotices(t *testing.T) {
	sound, _ := newClusterPlan(1).run(t, realClient)
	require.Empty(t, sound.verdict())
	stream := sound.streams()[0]
	require.Greater(t, len(sound.final[stream]), 3)
	for name, c := range map[string]struct {
		alter func(h *clusterHistory)
		want  string
	}{
		"nothing": {func(*clusterHistory) {}, ""},
		"an event that a subscription missed": {
			func(h *clusterHistory) { h.followed[stream] = slices.Delete(h.followed[stream], 1, 2) }, "the subscription to",
		},
		"the last event that a subscription missed": {
			func(h *clusterHistory) { h.followed[stream] = h.followed[stream][:len(h.followed[stream])-1] }, "ends before",
		},
		"an event that a subscription had twice": {
			func(h *clusterHistory) {
				h.followed[stream] = slices.Insert(h.followed[stream], 1, h.followed[stream][0])
			}, "the subscription to",
		},
		"another event than there is": {
			func(h *clusterHistory) { h.followed[stream][1].label = "x" }, "the subscription to",
		},
		"events that a listener passed over": {
			func(h *clusterHistory) {
				h.listened[stream] = slices.DeleteFunc(h.listened[stream], func(e delivered) bool { return e.number == 1 })
			}, "the listener of",
		},
		"a listener beyond an end that never was": {
			func(h *clusterHistory) {
				h.beyond[stream] = append(h.beyond[stream], delivered{number: int64(len(h.final[stream])) + 7, tick: h.clock})
			}, "was beyond event",
		},
		"an event that a group was not given": {
			func(h *clusterHistory) { delete(h.handled[stream], h.final[stream][2]) }, "was not given event",
		},
		"an append that was called written and is not there": {
			func(h *clusterHistory) {
				op := h.ops[h.indexOf(func(o operation, out outcome) bool {
					return o.do == doAppend && o.stream == stream && !out.refused && !out.unknown && len(o.labels) > 0 && !h.gone[o.labels[0]]
				})]
				lost := op.Input.(operation).labels[0]
				h.final[stream] = slices.DeleteFunc(h.final[stream], func(label string) bool { return label == lost })
			}, "linearizable",
		},
		"an event that is there twice": {
			func(h *clusterHistory) { h.final[stream] = append(h.final[stream], h.final[stream][0]) }, "linearizable",
		},
		"a refusal of what is there": {
			func(h *clusterHistory) {
				h.ops[h.indexOf(func(o operation, _ outcome) bool {
					return o.do == doAppend && len(o.labels) > 0 && slices.Contains(h.final[o.stream], o.labels[0])
				})].Output = outcome{refused: true}
			}, "was refused, and is there",
		},
		"a read of what never was": {
			func(h *clusterHistory) {
				h.ops[h.indexOf(func(o operation, out outcome) bool { return o.do == doReadStream && len(out.read) > 0 })].Output = outcome{read: []string{"x"}}
			}, "was never there",
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := sound.clone()
			c.alter(h)
			if c.want == "" {
				require.Empty(t, h.verdict())
				return
			}
			require.Contains(t, h.verdict(), c.want)
		})
	}
}

// indexOf finds an operation.
func (h *clusterHistory) indexOf(is func(o operation, out outcome) bool) int {
	return slices.IndexFunc(h.ops, func(op porcupine.Operation) bool { return is(op.Input.(operation), op.Output.(outcome)) })
}

// clone copies what a test alters.
func (h *clusterHistory) clone() *clusterHistory {
	c := newClusterHistory()
	c.ops, c.clock, c.problems = slices.Clone(h.ops), h.clock, h.problems
	c.rolledBack, c.gone = h.rolledBack, h.gone
	for stream := range h.handled {
		c.final[stream], c.handled[stream] = slices.Clone(h.final[stream]), maps.Clone(h.handled[stream])
		c.followed[stream], c.listened[stream] = slices.Clone(h.followed[stream]), slices.Clone(h.listened[stream])
		c.beyond[stream] = slices.Clone(h.beyond[stream])
	}
	return c
}
