package followers

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/internal/faultnet"
)

// Test runs seeds, spread over the kinds: so many for each, unless SEEDS or SEED say otherwise. Those in real time run at once.
func Test(t *testing.T, kinds []*Kind, each int) {
	t.Helper()
	var all tally
	t.Cleanup(func() { t.Log(&all) })
	for seed := range faultnet.Seeds(t, each*len(kinds)) {
		k := kinds[int(seed%uint64(len(kinds)))]
		t.Run(fmt.Sprintf("%d %s", seed, k.Name), func(t *testing.T) {
			if k.RealTime {
				t.Parallel()
			}
			r := play(t, k, seed)
			all.add(r)
			if wrong := r.check(); wrong != "" {
				t.Fatalf("%s\n%s\n%s", wrong, r.tell(), faultnet.Repeat(t, faultnet.Random(seed, faultnet.Options{})))
			}
		})
	}
}

// RequireCaught runs plans until one is failed, as it should be by a kind that is broken on purpose, for a reason that matches want.
func RequireCaught(t *testing.T, k *Kind, want string) {
	t.Helper()
	const plans = 30
	for seed := range uint64(plans) {
		wrong := play(t, k, seed).check()
		if wrong == "" {
			continue
		}
		require.Regexp(t, want, wrong)
		first, _, _ := strings.Cut(wrong, "\n")
		t.Logf("caught by plan %d: %s", seed, first)
		return
	}
	t.Fatalf("%d plans passed", plans)
}

// tally is what happened in all runs.
type tally struct {
	mu                             sync.Mutex // guards what follows
	events, handled, lives, faults int
}

func (a *tally) add(r *Run) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.events += len(r.truth)
	for _, e := range r.tape.entries {
		if e.verb == finished {
			a.handled += len(e.events)
		}
	}
	for _, q := range r.running {
		a.lives += q.lives
		a.faults += q.fired
	}
}

func (a *tally) String() string {
	return fmt.Sprintf("%d events, handled %d times by %d processes on lines with %d faults", a.events, a.handled, a.lives, a.faults)
}
