package faultnet_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/internal/faultnet"
	"github.com/goeventstore/eventstore/internal/memnet"
)

func TestWithoutFaultsNothingChanges(t *testing.T) {
	onEach(t, func(t *testing.T, n network) {
		client, server, fn := connect(t, n, faultnet.Plan{})
		require.Equal(t, server.RemoteAddr().String(), client.LocalAddr().String())
		require.Equal(t, server.LocalAddr().String(), client.RemoteAddr().String())
		for _, f := range []func([]byte) (int, error){client.Read, client.Write} {
			k, err := f(nil)
			require.Zero(t, k)
			require.NoError(t, err)
		}
		write(t, client, stream)
		require.Equal(t, stream, read(t, server, len(stream)))
		require.NoError(t, client.CloseWrite())
		requireEnd(t, server)
		write(t, server, stream)
		require.NoError(t, server.Close())
		got, err := io.ReadAll(client)
		require.NoError(t, err)
		require.Equal(t, stream, got)
		_, err = client.Write(stream)
		requireOpError(t, err, syscall.EPIPE, "write")

		require.NoError(t, client.Close())
		for _, err := range []error{
			client.Close(),
			client.CloseWrite(),
			client.SetDeadline(never),
			client.SetReadDeadline(never),
			client.SetWriteDeadline(past),
		} {
			require.ErrorIs(t, err, net.ErrClosed)
		}
		_, err = client.Read(make([]byte, 1))
		requireOpError(t, err, net.ErrClosed, "read")
		_, err = client.Write(stream)
		requireOpError(t, err, net.ErrClosed, "write")
		require.Zero(t, fn.Fired())
	})
}

func TestCallsThatWaitForTheNetworkEnd(t *testing.T) {
	onEach(t, func(t *testing.T, n network) {
		for _, end := range []func(client *faultnet.Conn, server net.Conn) error{
			func(client *faultnet.Conn, _ net.Conn) error { return client.Close() },
			func(_ *faultnet.Conn, server net.Conn) error { return server.Close() },
			func(client *faultnet.Conn, _ net.Conn) error { client.Reset(); return nil },
			func(client *faultnet.Conn, _ net.Conn) error { return client.SetDeadline(past) },
		} {
			client, server, _ := connect(t, n, faultnet.Faults(faultnet.Cut.At(toServer(0, 1<<40)), faultnet.Cut.At(toClient(0, 1))))
			r := start(func() (int, error) { return client.Read(make([]byte, 1)) })
			w := start(func() (int, error) { return writePieces(client, make([]byte, 16<<20), 1<<20) })
			read(t, server, 1)
			require.NoError(t, end(client, server))
			require.Error(t, (<-r).err)
			require.Error(t, (<-w).err)
		}
	})
}

func TestResetIsPassedOn(t *testing.T) {
	onEach(t, func(t *testing.T, n network) {
		client, server, _ := connect(t, n, faultnet.Plan{})
		client.Reset()
		client.Reset()
		_, err := server.Read(make([]byte, 1))
		requireOpError(t, err, syscall.ECONNRESET, "read")
		requireOpError(t, client.CloseWrite(), syscall.ECONNRESET, "close")
		require.NoError(t, client.SetDeadline(never), "a broken socket takes it too")
		require.NoError(t, client.Close())
	})
}

// bare is a connection without CloseWrite, Reset and SetLinger, as a foreign one may be.
type bare struct{ net.Conn }

type bareDialer struct{ network *memnet.Network }

func (d bareDialer) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := d.network.Dial(ctx, network, addr)
	return bare{c}, err
}

func TestConnectionsOfLittleAbility(t *testing.T) {
	for kind, want := range map[faultnet.Kind]error{
		faultnet.Cut:       io.EOF,
		faultnet.HalfClose: net.ErrClosed,
		faultnet.Reset:     syscall.ECONNRESET,
	} {
		n := memnet.New()
		l, err := n.Listen("tcp", "node:1113")
		require.NoError(t, err)
		fn := faultnet.New(bareDialer{n}, faultnet.Faults(kind.At(toServer(2, 0))))
		client, err := fn.Dial(t.Context(), "tcp", "node:1113")
		require.NoError(t, err)
		server, err := l.Accept()
		require.NoError(t, err)
		require.ErrorIs(t, client.(*faultnet.Conn).CloseWrite(), errors.ErrUnsupported)
		k, err := client.Write(stream)
		require.Error(t, err)
		require.Equal(t, 34, k)
		got, err := io.ReadAll(server)
		require.NoError(t, err)
		require.Equal(t, stream[:34], got)
		_, err = client.Read(make([]byte, 1))
		require.ErrorIs(t, err, want)
		_ = client.Close()
		require.NoError(t, server.Close())
		require.NoError(t, l.Close())
		_, err = fn.Listen("tcp", "node:1113")
		requireOpError(t, err, errors.ErrUnsupported, "listen")
	}
}

func TestOneWriteIsContiguous(t *testing.T) {
	const writers, each, size = 4, 25, 100
	client, server, _ := connect(t, memnet.New(memnet.WithBuffer(64)), faultnet.Faults(
		faultnet.Fault{Kind: faultnet.Drip, At: toServer(0, 50), Bytes: 3000},
	))
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			b := make([]byte, size)
			for j := range b {
				b[j] = byte(i)
			}
			for range each {
				if n, err := client.Write(b); n != size || err != nil {
					t.Errorf("write: %d, %v", n, err)
				}
			}
		})
	}
	seen := [writers]int{}
	for range writers * each {
		b := read(t, server, size)
		for _, v := range b {
			require.Equal(t, b[0], v)
		}
		seen[b[0]]++
	}
	wg.Wait()
	require.Equal(t, [writers]int{each, each, each, each}, seen)
}

// TestEverythingAtOnce is for the race detector, and for a hang: under each random plan all calls happen at once, until
// the connection is closed or broken.
func TestEverythingAtOnce(t *testing.T) {
	onEach(t, func(t *testing.T, n network) {
		for seed := range faultnet.Seeds(t, 20) {
			fn := faultnet.New(n, faultnet.Random(seed, faultnet.Options{PerConn: 4, Frames: 4, Bytes: 200, Delay: time.Millisecond, Pause: 1}))
			for range 3 {
				client, server := dial(t, fn)
				var wg sync.WaitGroup
				for _, c := range []net.Conn{client, client, server} {
					wg.Go(func() { _, _ = readPieces(c, 50) })
					wg.Go(func() { _, _ = writePieces(c, make([]byte, 100_000), 1000) })
				}
				wg.Go(func() {
					for range 50 {
						_ = client.SetDeadline(time.Now().Add(time.Hour))
						_ = fn.Trace()
					}
				})
				time.Sleep(time.Millisecond) // lets some of it happen; nothing depends on how much
				switch seed % 4 {
				case 0:
					_ = client.CloseWrite()
				case 1:
					client.Reset()
				default:
				}
				_ = client.Close()
				_ = server.Close()
				wg.Wait()
			}
		}
	})
}
