package main

import (
	"bytes"
	"context"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTheWorkSurvives(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	args := []string{"-orders", "700"}
	if target := os.Getenv("EVENTSTORE_TEST_TCP"); target != "" {
		args = append(args, "-connect", target)
	}
	var out bytes.Buffer
	require.NoError(t, run(ctx, args, &out))
	require.Contains(t, out.String(), "one worker was killed in the middle of an order")
	require.Contains(t, out.String(), "700 of 700 orders done")
}
