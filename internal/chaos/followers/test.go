package followers

import (
	"fmt"
	"testing"

	"github.com/goeventstore/eventstore/internal/faultnet"
)

// Test runs seeds, spread over the kinds: so many for each, unless SEEDS or SEED say otherwise.
func Test(t *testing.T, kinds []*Kind, each int) {
	t.Helper()
	for seed := range faultnet.Seeds(t, each*len(kinds)) {
		k := kinds[int(seed%uint64(len(kinds)))]
		t.Run(fmt.Sprintf("%d %s", seed, k.Name), func(t *testing.T) {
			r := play(t, k, seed)
			if wrong := r.check(); wrong != "" {
				t.Fatalf("%s\n%s\n%s", wrong, r.tell(), faultnet.Repeat(t, faultnet.Random(seed, faultnet.Options{})))
			}
		})
	}
}
