//go:build !race

// The race detector crashes now and then in a process with many synctest bubbles (golang/go issue 78156). These make 3,900 of the
// package's 6,750, and are about the test, not about what runs at once.

package chaos_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// The property that the real client has fails for these, and is shrunk to a few steps.
func TestABrokenClientDoesNotFollowTheModel(t *testing.T) {
	const steps = 4
	for name, connect := range broken {
		t.Run(name, func(t *testing.T) {
			rapidFlag(t, "rapid.seed", "1")
			rapidFlag(t, "rapid.checks", "100")
			rapidFlag(t, "rapid.nofailfile", "true")
			r := &ruling{TB: t}
			var done tally
			rapid.Check(r, followsModel(t, connect, &done))
			require.True(t, r.failed, "100 checks passed")
			require.NotEmpty(t, r.log)
			t.Logf("after %d runs, shrinking included: %v\n%s", done.runs, done.last, r.log[0])
			require.LessOrEqual(t, len(done.last), steps)
		})
	}
}

// ruling is a test for rapid that may fail.
type ruling struct {
	rapid.TB
	failed bool
	log    []string
}

func (r *ruling) Failed() bool                      { return r.failed }
func (r *ruling) Fail()                             { r.failed = true }
func (r *ruling) FailNow()                          { r.failed = true } // the last that a check does
func (r *ruling) Error(args ...any)                 { r.Log(args...); r.Fail() }
func (r *ruling) Errorf(format string, args ...any) { r.Logf(format, args...); r.Fail() }
func (r *ruling) Log(args ...any)                   { r.log = append(r.log, fmt.Sprint(args...)) }
func (r *ruling) Logf(format string, args ...any) {
	r.log = append(r.log, fmt.Sprintf(format, args...))
}
