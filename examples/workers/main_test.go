package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// TestMain: the program starts itself as a worker, and here that is the test binary.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == workerCommand {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

// TestTheWorkSurvives: what the killed worker had begun is done by the other one, as a retry, and so is all else that it had.
func TestTheWorkSurvives(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	args := []string{"-orders", "700"}
	if target := os.Getenv("EVENTSTORE_TEST_TCP"); target != "" {
		args = append(args, "-connect", target)
	}
	var out bytes.Buffer
	require.NoError(t, run(ctx, args, &out))
	killed := regexp.MustCompile(`^worker 1, process ([0-9]+), was killed in the middle of order ([0-9]+)\n`).FindStringSubmatch(out.String())
	require.NotNil(t, killed, out.String())
	require.NotEqual(t, fmt.Sprint(os.Getpid()), killed[1])
	require.Regexp(t, `\norder `+killed[2]+` was done by worker 2, at retry [1-9]\n700 of 700 orders done, [0-9]+ of them more than once\n$`, out.String())
}

func TestAWorkerThatEndsTooEarlyIsToldOf(t *testing.T) {
	b := &book{orders: 1, done: make(map[int64][]entry)}
	err := pool(t.Context(), "nonsense://127.0.0.1", "s", b, io.Discard, nil)
	require.ErrorContains(t, err, "ended before all was done: exit status 1")
	require.ErrorContains(t, run(t.Context(), []string{"-orders", "99"}, io.Discard), "100 at least")
}
