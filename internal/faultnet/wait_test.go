package faultnet_test

import (
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/internal/faultnet"
	"github.com/goeventstore/eventstore/internal/memnet"
)

func delay(at faultnet.Place, d time.Duration) faultnet.Plan {
	return faultnet.Faults(faultnet.Fault{Kind: faultnet.Delay, At: at, Wait: d})
}

// arrivals reads byte by byte and returns when each came, counted from now.
func arrivals(t *testing.T, c net.Conn, n int) []time.Duration {
	t.Helper()
	began := time.Now()
	var at []time.Duration
	for range n {
		read(t, c, 1)
		at = append(at, time.Since(began))
	}
	return at
}

func repeat(n int, at time.Duration) []time.Duration {
	all := make([]time.Duration, n)
	for i := range all {
		all[i] = at
	}
	return all
}

func TestDelayToServer(t *testing.T) {
	for place, k := range places {
		inMemory(t, delay(at(place, faultnet.ToServer), 5*time.Second), func(t *testing.T, client *faultnet.Conn, server *memnet.Conn) {
			w := start(func() (int, error) { return client.Write(stream) })
			want := append(repeat(k, 0), repeat(len(stream)-k, 5*time.Second)...)
			require.Equal(t, want, arrivals(t, server, len(stream)))
			require.Equal(t, result{len(stream), nil, 5 * time.Second}, <-w)
			require.Equal(t, repeat(1, 0), write1(t, client, server))
		})
	}
}

// write1 passes one more byte on and returns how long that took.
func write1(t *testing.T, from, to net.Conn) []time.Duration {
	t.Helper()
	began := time.Now()
	write(t, from, []byte("x"))
	read(t, to, 1)
	return []time.Duration{time.Since(began)}
}

func TestDelayToClient(t *testing.T) {
	for place, k := range places {
		inMemory(t, delay(at(place, faultnet.ToClient), 5*time.Second), func(t *testing.T, client *faultnet.Conn, server *memnet.Conn) {
			write(t, server, stream)
			want := append(repeat(k, 0), repeat(len(stream)-k, 5*time.Second)...)
			require.Equal(t, want, arrivals(t, client, len(stream)))
			require.Equal(t, repeat(1, 0), write1(t, server, client))
			require.Equal(t, repeat(1, 0), write1(t, client, server))
		})
	}
}

func TestDelayCountsFromTheByteAtThePlace(t *testing.T) {
	inMemory(t, delay(toClient(2, 1), 5*time.Second), func(t *testing.T, client *faultnet.Conn, server *memnet.Conn) {
		r := start(func() (int, error) { return io.ReadFull(client, make([]byte, len(stream))) })
		time.Sleep(time.Second)
		write(t, server, stream[:35])
		time.Sleep(time.Second)
		write(t, server, stream[35:])
		require.Equal(t, result{len(stream), nil, 7 * time.Second}, <-r)
	})
}

// TestADeadlineInterruptsADelay goes on after it, with no byte lost and no more than the rest of the delay to wait.
func TestADeadlineInterruptsADelay(t *testing.T) {
	inMemory(t, delay(toServer(1, 10), 5*time.Second), func(t *testing.T, client *faultnet.Conn, server *memnet.Conn) {
		began := time.Now()
		require.NoError(t, client.SetWriteDeadline(began.Add(2*time.Second)))
		n, err := client.Write(stream)
		require.Equal(t, 10, n)
		requireOpError(t, err, os.ErrDeadlineExceeded, "write")
		require.Equal(t, 2*time.Second, time.Since(began))
		require.Equal(t, 10, server.Buffered())

		require.NoError(t, client.SetWriteDeadline(time.Time{}))
		write(t, client, stream[n:])
		require.Equal(t, 5*time.Second, time.Since(began))
		require.Equal(t, stream, read(t, server, len(stream)))
	})
	inMemory(t, delay(toClient(1, 10), 5*time.Second), func(t *testing.T, client *faultnet.Conn, server *memnet.Conn) {
		began := time.Now()
		write(t, server, stream)
		require.Equal(t, stream[:10], read(t, client, 10))
		require.NoError(t, client.SetDeadline(began.Add(2*time.Second)))
		n, err := client.Read(make([]byte, 100))
		require.Zero(t, n)
		requireOpError(t, err, os.ErrDeadlineExceeded, "read")
		require.Equal(t, 2*time.Second, time.Since(began))

		require.NoError(t, client.SetDeadline(time.Time{}))
		require.Equal(t, stream[10:], read(t, client, len(stream)-10))
		require.Equal(t, 5*time.Second, time.Since(began))
	})
}

// calls are the two that can wait, and how each direction is put to a stall after two bytes.
var calls = map[string]struct {
	op    string
	at    faultnet.Place
	call  func(client *faultnet.Conn) (int, error)
	set   func(client *faultnet.Conn, at time.Time) error
	moved int // before it waits
}{
	"read": {
		"read", toClient(0, 2),
		func(c *faultnet.Conn) (int, error) { return io.ReadFull(c, make([]byte, 9)) },
		(*faultnet.Conn).SetReadDeadline, 2,
	},
	"write": {
		"write", toServer(0, 2),
		func(c *faultnet.Conn) (int, error) { return c.Write(make([]byte, 9)) },
		(*faultnet.Conn).SetWriteDeadline, 2,
	},
}

func TestStall(t *testing.T) {
	for name, tc := range calls {
		for end, e := range map[string]struct {
			do   func(client *faultnet.Conn) error
			want error
		}{
			"deadline":            {func(c *faultnet.Conn) error { return tc.set(c, time.Now().Add(-1)) }, os.ErrDeadlineExceeded},
			"later deadline":      {func(c *faultnet.Conn) error { return tc.set(c, time.Now().Add(time.Hour)) }, os.ErrDeadlineExceeded},
			"both deadlines":      {func(c *faultnet.Conn) error { return c.SetDeadline(time.Now()) }, os.ErrDeadlineExceeded},
			"close":               {(*faultnet.Conn).Close, net.ErrClosed},
			"reset":               {func(c *faultnet.Conn) error { c.Reset(); return nil }, syscall.ECONNRESET},
			"close after a reset": {func(c *faultnet.Conn) error { c.Reset(); return c.Close() }, nil},
		} {
			t.Run(name+"/"+end, func(t *testing.T) {
				inMemory(t, faultnet.Faults(faultnet.Stall.At(tc.at)), func(t *testing.T, client *faultnet.Conn, server *memnet.Conn) {
					write(t, server, stream)
					first := start(func() (int, error) { return tc.call(client) })
					synctest.Wait()
					next := start(func() (int, error) { return tc.call(client) }) // waits for its turn
					time.Sleep(time.Hour)
					require.Empty(t, first)
					require.Empty(t, next)

					want := time.Hour
					if end == "later deadline" {
						want += time.Hour
					}
					require.NoError(t, e.do(client))
					r := <-first
					require.Equal(t, tc.moved, r.n)
					require.Equal(t, want, r.at)
					if e.want != nil {
						requireOpError(t, r.err, e.want, tc.op)
						r = <-next
						require.Zero(t, r.n)
						require.Equal(t, want, r.at)
						requireOpError(t, r.err, e.want, tc.op)
					}
				})
			})
		}
	}
}

func TestStallLeavesTheOtherDirection(t *testing.T) {
	onEach(t, func(t *testing.T, n network) {
		client, server, fn := connect(t, n, faultnet.Faults(faultnet.Stall.At(toServer(2, 0))))
		w := start(func() (int, error) { return client.Write(stream) })
		require.Equal(t, stream[:34], read(t, server, 34))
		write(t, server, stream)
		require.Equal(t, stream, read(t, client, len(stream)))
		for fn.Fired() == 0 {
			time.Sleep(time.Millisecond)
		}
		require.NoError(t, server.SetReadDeadline(time.Now().Add(time.Millisecond)))
		require.NoError(t, client.CloseWrite()) // not even the end passes
		r := <-w
		require.Equal(t, 34, r.n)
		requireOpError(t, r.err, syscall.EPIPE, "write")
		_, err := server.Read(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)

		require.NoError(t, server.SetReadDeadline(time.Time{}))
		require.NoError(t, client.Close())
		requireEnd(t, server)
	})
}

func TestSwallow(t *testing.T) {
	inMemory(t, faultnet.Faults(faultnet.Swallow.At(toServer(2, 1))), func(t *testing.T, client *faultnet.Conn, server *memnet.Conn) {
		for range 10 {
			write(t, client, stream)
		}
		require.Equal(t, 35, server.Buffered())
		require.Equal(t, stream[:35], read(t, server, 35))
		require.Equal(t, repeat(1, 0), write1(t, server, client))
		require.NoError(t, client.CloseWrite())
		_, err := client.Write(stream)
		requireOpError(t, err, syscall.EPIPE, "write")
		require.NoError(t, server.SetReadDeadline(time.Now().Add(time.Hour)))
		_, err = server.Read(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	})
	inMemory(t, faultnet.Faults(faultnet.Swallow.At(toClient(2, 1))), func(t *testing.T, client *faultnet.Conn, server *memnet.Conn) {
		write(t, server, stream)
		require.NoError(t, client.SetReadDeadline(time.Now().Add(time.Hour)))
		got, err := readPieces(client, 100)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Equal(t, stream[:35], got)
	})
}

func TestDrip(t *testing.T) {
	const pause = 10 * time.Millisecond
	for name, dir := range map[string]faultnet.Direction{"to server": faultnet.ToServer, "to client": faultnet.ToClient} {
		for limit, want := range map[int64]func(i int) time.Duration{
			0:  func(i int) time.Duration { return time.Duration(max(0, i-36)) * pause },
			10: func(i int) time.Duration { return time.Duration(min(10, max(0, i-36))) * pause },
		} {
			drip := faultnet.Fault{Kind: faultnet.Drip, At: at(faultnet.Place{Frame: 2, Byte: 2}, dir), Wait: pause, Bytes: limit}
			t.Run(name, func(t *testing.T) {
				inMemory(t, faultnet.Faults(drip), func(t *testing.T, client *faultnet.Conn, server *memnet.Conn) {
					from, to := net.Conn(client), net.Conn(server)
					if dir == faultnet.ToClient {
						from, to = to, from
					}
					w := start(func() (int, error) { return from.Write(stream) })
					for i, got := range arrivals(t, to, len(stream)) {
						require.Equal(t, want(i), got, "byte %d", i)
					}
					require.NoError(t, (<-w).err)
				})
			})
		}
	}
}

func TestDripReadsAreOneByte(t *testing.T) {
	onEach(t, func(t *testing.T, n network) {
		client, server, _ := connect(t, n, faultnet.Faults(faultnet.Fault{Kind: faultnet.Drip, At: toClient(0, 60)}))
		write(t, server, stream)
		sizes := []int{}
		for got := 0; got < len(stream); {
			n, err := client.Read(make([]byte, 1000))
			require.NoError(t, err)
			sizes, got = append(sizes, n), got+n
		}
		require.Equal(t, []int{60, 1, 1, 1, 1, 1}, sizes)
	})
}

func TestDelayOverTCP(t *testing.T) {
	const d = 30 * time.Millisecond
	for _, dir := range []faultnet.Direction{faultnet.ToServer, faultnet.ToClient} {
		client, server, fn := connect(t, faultnet.TCP{}, delay(at(faultnet.Place{Frame: 2}, dir), d))
		from, to := net.Conn(client), server
		if dir == faultnet.ToClient {
			from, to = to, from
		}
		began := time.Now()
		w := start(func() (int, error) { return from.Write(stream) })
		require.Equal(t, stream, read(t, to, len(stream)))
		require.GreaterOrEqual(t, time.Since(began), d)
		require.NoError(t, (<-w).err)
		require.Equal(t, 1, fn.Fired())
	}
}

// TestDeadlinesOfTheWrappedConnection has no fault wait: what waits is the network.
func TestDeadlinesOfTheWrappedConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server, _ := connect(t, memnet.New(memnet.WithBuffer(50)), faultnet.Faults(faultnet.Duplicate.At(toServer(3, 0))))
		began := time.Now()
		require.NoError(t, client.SetDeadline(began.Add(time.Second)))
		n, err := client.Read(make([]byte, 1))
		require.Zero(t, n)
		requireOpError(t, err, os.ErrDeadlineExceeded, "read")
		require.Equal(t, time.Second, time.Since(began))

		require.NoError(t, client.SetWriteDeadline(began.Add(2*time.Second)))
		n, err = client.Write(stream)
		require.Equal(t, 50, n, "what the buffer holds")
		requireOpError(t, err, os.ErrDeadlineExceeded, "write")
		require.Equal(t, 2*time.Second, time.Since(began))

		// The frames are still known after the part that was written.
		require.Equal(t, stream[:50], read(t, server, 50))
		require.NoError(t, client.SetDeadline(time.Time{}))
		write(t, client, stream[50:])
		require.Equal(t, string(stream[50:])+string(stream[56:]), string(read(t, server, 24)))
	})
}
