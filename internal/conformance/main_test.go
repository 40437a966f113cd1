package conformance_test

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	info, wanted, err := askCompat()
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", writeCompat, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if wanted {
			if err := keepCompat(&info, code); err != nil {
				fmt.Fprintf(os.Stderr, "%s: %v\n", writeCompat, err)
				code = max(code, 1)
			}
		}
		os.Exit(code)
	}))
}
