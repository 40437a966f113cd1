//go:build !race

package memnet_test

import (
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The race detector allocates on its own; this file is therefore built without it only.

func TestPingPongDoesNotAllocate(t *testing.T) {
	a, b := pipe(t)
	echoed := start(func() (int, error) {
		n, err := io.Copy(struct{ io.Writer }{b}, struct{ io.Reader }{b})
		return int(n), err
	})
	p := make([]byte, 100)
	sent := 0
	allocs := testing.AllocsPerRun(10_000, func() {
		at := time.Now().Add(time.Minute) // moved for every operation, as clients do
		if err := a.SetDeadline(at); err != nil {
			t.Error(err)
		}
		if _, err := a.Write(p); err != nil {
			t.Error(err)
		}
		if _, err := io.ReadFull(a, p); err != nil {
			t.Error(err)
		}
		sent += len(p)
	})
	require.Zero(t, allocs)
	require.NoError(t, a.CloseWrite())
	require.Equal(t, result{sent, nil}, <-echoed)
}
