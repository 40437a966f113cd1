//go:build race

package messages_test

import "testing"

func TestAllocGates(t *testing.T) {
	t.Skip("ALLOCATION GATES NOT RUN: the race detector allocates on its own; they run in go test without -race")
}
