package conformance_test

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if err := keepCompat(code); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", writeCompat, err)
			code = max(code, 1)
		}
		os.Exit(code)
	}))
}
