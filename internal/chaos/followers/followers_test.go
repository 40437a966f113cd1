package followers

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Whoever follows gets everything, in order, however much fails: exactly once, or at least once with a checkpoint that is never
// ahead of what is done.
func TestFollowersUnderFire(t *testing.T) {
	Test(t, Kinds(), 3)
}
