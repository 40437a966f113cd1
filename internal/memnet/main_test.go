package memnet_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/goeventstore/eventstore/internal/memnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pipe returns two ends that are closed when the test ends.
func pipe(t *testing.T, opts ...memnet.Option) (a, b *memnet.Conn) {
	t.Helper()
	a, b = memnet.Pipe(opts...)
	t.Cleanup(func() {
		_ = a.Close()
		_ = b.Close()
	})
	return a, b
}

func write(t *testing.T, c net.Conn, s string) {
	t.Helper()
	n, err := c.Write([]byte(s))
	require.NoError(t, err)
	require.Equal(t, len(s), n)
}

func read(t *testing.T, c net.Conn, n int) string {
	t.Helper()
	b := make([]byte, n)
	_, err := io.ReadFull(c, b)
	require.NoError(t, err)
	return string(b)
}

// result is what a blocked call came back with.
type result struct {
	n   int
	err error
}

// start runs f on a goroutine of its own; the channel has room for its one result, so that nobody need wait for it.
func start(f func() (int, error)) <-chan result {
	done := make(chan result, 1)
	go func() {
		n, err := f()
		done <- result{n, err}
	}()
	return done
}

func startRead(c net.Conn, size int) <-chan result {
	return start(func() (int, error) { return c.Read(make([]byte, size)) })
}

func startWrite(c net.Conn, size int) <-chan result {
	return start(func() (int, error) { return c.Write(make([]byte, size)) })
}

func requireOpError(t *testing.T, err, target error, op string) {
	t.Helper()
	require.ErrorIs(t, err, target)
	var oe *net.OpError
	require.ErrorAs(t, err, &oe)
	require.Equal(t, op, oe.Op)
	require.Equal(t, "tcp", oe.Net)
	timeout := errors.Is(target, os.ErrDeadlineExceeded) || errors.Is(target, context.DeadlineExceeded)
	require.Equal(t, timeout, oe.Timeout())
}
