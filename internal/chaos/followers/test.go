package followers

import (
	"fmt"
	"testing"

	"github.com/goeventstore/eventstore/internal/faultnet"
)

// Test runs seeds, spread over the kinds: so many for each, unless SEEDS or SEED say otherwise.
func Test(t *testing.T, kinds []*Kind, each int) {
	t.Helper()
	var events, handled, lives, faults int
	for seed := range faultnet.Seeds(t, each*len(kinds)) {
		k := kinds[int(seed%uint64(len(kinds)))]
		t.Run(fmt.Sprintf("%d %s", seed, k.Name), func(t *testing.T) {
			r := play(t, k, seed)
			events += len(r.truth)
			for _, e := range r.tape.entries {
				if e.verb == finished {
					handled += len(e.events)
				}
			}
			for _, q := range r.running {
				lives += q.lives
				faults += q.fired
			}
			if wrong := r.check(); wrong != "" {
				t.Fatalf("%s\n%s\n%s", wrong, r.tell(), faultnet.Repeat(t, faultnet.Random(seed, faultnet.Options{})))
			}
		})
	}
	t.Logf("%d events, handled %d times by %d processes on lines with %d faults", events, handled, lives, faults)
}
