package chaos_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/goeventstore/eventstore"
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
	followerKilled = "a follower is killed"
	followerCutOff = "a follower is cut off"
	quorumKilled   = "both followers are killed"
)

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
		kinds := []string{leaderKilled, leaderKilled, leaderPaused, leaderCutOff, leaderCutOff, followerKilled, followerCutOff, quorumKilled}
		p.blows = append(p.blows, blow{
			kind: kinds[r.IntN(len(kinds))], after: time.Second + upTo(r, 5*time.Second), lasts: time.Second/2 + upTo(r, 7*time.Second), other: r.IntN(2),
		})
		if last := &p.blows[len(p.blows)-1]; last.kind == leaderPaused && r.IntN(2) == 0 {
			last.lasts += 8 * time.Second // until nobody waits for it any more
		}
	}
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

// TestTheClusterCheckerCatches clients that are broken on purpose.
func TestTheClusterCheckerCatches(t *testing.T) {
	for name, broken := range map[string]clusterClient{
		"clusterOptimist": func(c *eventstore.Client, h *clusterHistory) client { return clusterOptimist{named{c, h}} },
		"clusterRepeater": func(c *eventstore.Client, h *clusterHistory) client { return clusterRepeater{named{c, h}} },
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(50) {
				h, _ := newClusterPlan(seed).run(t, broken)
				if h.verdict() != "" {
					return
				}
			}
			t.Error("nobody noticed")
		})
	}
}
