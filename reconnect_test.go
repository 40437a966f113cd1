package eventstore_test

import (
	"context"
	"errors"
	"net"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/memnet"
	"github.com/goeventstore/eventstore/server"
)

// line is a network whose last connection a test can cut, and that can be made to refuse.
type line struct {
	*memnet.Network

	mu     sync.Mutex
	last   *memnet.Conn
	dialed []time.Time
	refuse error
}

func (l *line) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	l.mu.Lock()
	l.dialed = append(l.dialed, time.Now())
	refuse := l.refuse
	l.mu.Unlock()
	if refuse != nil {
		return nil, refuse
	}
	nc, err := l.Network.Dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = nc.(*memnet.Conn)
	return nc, nil
}

func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last.Reset()
}

// 10,000 connections are lost, with a call under way on each: none is lost, and nothing is left behind. The heap and the
// goroutines at the end are those after the first thousand.
func TestTenThousandReconnectsLeaveNothingBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &line{Network: memnet.New()}
		srv, err := server.Start(server.Config{Listen: l.Listen})
		require.NoError(t, err)
		c, err := eventstore.Connect(t.Context(), srv.URL(), eventstore.WithDialer(l.Dial))
		require.NoError(t, err)
		var heap uint64
		var goroutines int
		const connections = 10_000
		for i := 1; i <= connections; i++ {
			answered := make(chan error, 1)
			go func() { answered <- c.Ping(t.Context()) }()
			l.cut()
			require.NoError(t, <-answered)
			if i != 1000 && i != connections {
				continue
			}
			l.dialed = nil
			synctest.Wait()
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			if i == 1000 {
				heap, goroutines = m.HeapAlloc, runtime.NumGoroutine()
				continue
			}
			t.Logf("heap %d and %d bytes, %d goroutines", heap, m.HeapAlloc, goroutines)
			require.Less(t, float64(m.HeapAlloc), 1.1*float64(heap))
			require.LessOrEqual(t, runtime.NumGoroutine(), goroutines)
		}
		require.NoError(t, c.Close())
		require.NoError(t, srv.Close())
	})
}

// Nobody answers for ten minutes. The first attempt comes at once, the waits double from 100 ms to 5 s, each with a jitter of
// a half, they never end, and no two clients wait alike.
func TestReconnectingBacksOffWithJitter(t *testing.T) {
	gaps := func() (waits []time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			l := &line{Network: memnet.New()}
			srv, err := server.Start(server.Config{Listen: l.Listen})
			require.NoError(t, err)
			c, err := eventstore.Connect(t.Context(), srv.URL(), eventstore.WithDialer(l.Dial))
			require.NoError(t, err)
			time.Sleep(time.Minute) // it was a steady connection
			l.mu.Lock()
			l.refuse = errors.New("nobody is there")
			l.mu.Unlock()
			lost := time.Now()
			l.cut()
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			require.Equal(t, eventstore.Reconnecting, c.State().Phase)
			require.ErrorIs(t, c.State().Err, l.refuse)
			require.Equal(t, lost, l.dialed[1], "at once")
			for i := 2; i < len(l.dialed); i++ {
				waits = append(waits, l.dialed[i].Sub(l.dialed[i-1]))
			}
			l.mu.Lock()
			l.refuse = nil
			l.mu.Unlock()
			require.NoError(t, c.Ping(t.Context()), "and it heals")
			require.NoError(t, c.Close())
			require.NoError(t, srv.Close())
		})
		return waits
	}
	one := gaps()
	require.Greater(t, len(one), 80)
	mean := 100 * time.Millisecond
	for i, wait := range one {
		require.GreaterOrEqual(t, wait, mean/2, "wait %d", i)
		require.LessOrEqual(t, wait, mean*3/2, "wait %d", i)
		mean = min(2*mean, 5*time.Second)
	}
	require.NotEqual(t, one, gaps())
}

// A subscription is asked for while there is no server: it waits without asking again and again, and when its context ends it
// says so, beside what it waited for. It once made thousands of attempts on the dead connection, and hid the context's end.
func TestOpenWaitsForAConnectionUntilItsContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &line{Network: memnet.New()}
		srv, err := server.Start(server.Config{Listen: l.Listen})
		require.NoError(t, err)
		c, err := eventstore.Connect(t.Context(), srv.URL(), eventstore.WithDialer(l.Dial))
		require.NoError(t, err)
		l.refuse = errors.New("nobody is there")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun := time.Now()
		l.cut()
		_, err = c.Open(ctx, subscribe, window)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, l.refuse)
		require.Equal(t, time.Second, time.Since(begun))
		var op *eventstore.OpError
		require.ErrorAs(t, err, &op)
		require.LessOrEqual(t, op.Attempts, 2)
		require.NoError(t, c.Close())
		require.NoError(t, srv.Close())
	})
}
