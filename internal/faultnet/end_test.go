package faultnet_test

import (
	"io"
	"net"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/internal/faultnet"
	"github.com/goeventstore/eventstore/internal/memnet"
)

// atEachPlace runs f for each of places, with the stream in pieces of each size.
func atEachPlace(
	t *testing.T, kind faultnet.Kind, dir faultnet.Direction,
	f func(t *testing.T, client *faultnet.Conn, server net.Conn, size, k int),
) {
	t.Helper()
	onEach(t, func(t *testing.T, n network) {
		for place, k := range places {
			for _, size := range pieces {
				client, server, fn := connect(t, n, faultnet.Faults(kind.At(at(place, dir))))
				f(t, client, server, size, k)
				if t.Failed() {
					t.Fatalf("in pieces of %d\n%s", size, fn.Explain())
				}
				require.Equal(t, 1, fn.Fired())
				require.NoError(t, client.Close())
				requireOpError(t, client.Close(), net.ErrClosed, "close")
				require.NoError(t, server.Close())
			}
		}
	})
}

func TestCutToServer(t *testing.T) {
	atEachPlace(t, faultnet.Cut, faultnet.ToServer, func(t *testing.T, client *faultnet.Conn, server net.Conn, size, k int) {
		write(t, server, []byte("lost"))
		n, err := writePieces(client, stream, size)
		require.Equal(t, k, n)
		requireOpError(t, err, syscall.EPIPE, "write")
		requireEnd(t, client)
		got, err := readPieces(server, size)
		require.NoError(t, err)
		require.Equal(t, stream[:k], append([]byte{}, got...))
		requireEnd(t, client)
		_, err = client.Write(stream)
		requireOpError(t, err, syscall.EPIPE, "write")
	})
}

func TestCutToClient(t *testing.T) {
	atEachPlace(t, faultnet.Cut, faultnet.ToClient, func(t *testing.T, client *faultnet.Conn, server net.Conn, size, k int) {
		write(t, client, []byte("arrives"))
		n, err := writePieces(server, stream, size)
		require.NoError(t, err)
		require.Equal(t, len(stream), n)
		got, err := readPieces(client, size)
		require.NoError(t, err)
		require.Equal(t, stream[:k], append([]byte{}, got...))
		_, err = client.Write([]byte("x"))
		requireOpError(t, err, syscall.EPIPE, "write")
		got, err = io.ReadAll(server)
		require.NoError(t, err)
		require.Equal(t, "arrives", string(got))
	})
}

func TestResetToServer(t *testing.T) {
	atEachPlace(t, faultnet.Reset, faultnet.ToServer, func(t *testing.T, client *faultnet.Conn, server net.Conn, size, k int) {
		write(t, server, []byte("lost"))
		n, err := writePieces(client, stream, size)
		require.Equal(t, k, n)
		requireOpError(t, err, syscall.ECONNRESET, "write")
		got, err := readPieces(server, size)
		requireOpError(t, err, syscall.ECONNRESET, "read")
		require.LessOrEqual(t, len(got), k)
		require.Equal(t, stream[:len(got)], append([]byte{}, got...))
		if _, ok := server.(*memnet.Conn); ok {
			require.Empty(t, got, "in flight")
		}
		_, err = client.Read(make([]byte, 1))
		requireOpError(t, err, syscall.ECONNRESET, "read")
	})
}

func TestResetToClient(t *testing.T) {
	atEachPlace(t, faultnet.Reset, faultnet.ToClient, func(t *testing.T, client *faultnet.Conn, server net.Conn, size, k int) {
		n, err := writePieces(server, stream, size)
		require.NoError(t, err)
		require.Equal(t, len(stream), n)
		got, err := readPieces(client, size)
		requireOpError(t, err, syscall.ECONNRESET, "read")
		require.Equal(t, stream[:k], append([]byte{}, got...))
		_, err = client.Write([]byte("x"))
		requireOpError(t, err, syscall.ECONNRESET, "write")
		_, err = server.Read(make([]byte, 1))
		requireOpError(t, err, syscall.ECONNRESET, "read")
	})
}

func TestHalfCloseToServer(t *testing.T) {
	atEachPlace(t, faultnet.HalfClose, faultnet.ToServer, func(t *testing.T, client *faultnet.Conn, server net.Conn, size, k int) {
		n, err := writePieces(client, stream, size)
		require.Equal(t, k, n)
		requireOpError(t, err, syscall.EPIPE, "write")
		got, err := readPieces(server, size)
		require.NoError(t, err)
		require.Equal(t, stream[:k], append([]byte{}, got...))
		write(t, server, stream)
		require.Equal(t, stream, read(t, client, len(stream)))
		_, err = client.Write([]byte("x"))
		requireOpError(t, err, syscall.EPIPE, "write")
		require.NoError(t, client.CloseWrite())
	})
}

func TestHalfCloseToClient(t *testing.T) {
	atEachPlace(t, faultnet.HalfClose, faultnet.ToClient, func(t *testing.T, client *faultnet.Conn, server net.Conn, size, k int) {
		_, err := writePieces(server, stream, size)
		require.NoError(t, err)
		got, err := readPieces(client, size)
		require.NoError(t, err)
		require.Equal(t, stream[:k], append([]byte{}, got...))
		requireEnd(t, client)
		write(t, client, stream)
		require.Equal(t, stream, read(t, server, len(stream)))
	})
}

// TestFaultsInterruptTheOtherDirection breaks a connection from one direction while a call waits in the other.
func TestFaultsInterruptTheOtherDirection(t *testing.T) {
	for kind, want := range map[faultnet.Kind]struct{ read, write error }{
		faultnet.Cut:   {io.EOF, syscall.EPIPE},
		faultnet.Reset: {syscall.ECONNRESET, syscall.ECONNRESET},
	} {
		t.Run(kind.String(), func(t *testing.T) {
			onEach(t, func(t *testing.T, n network) {
				client, _, _ := connect(t, n, faultnet.Faults(kind.At(toServer(1, 2))))
				reader := start(func() (int, error) { return client.Read(make([]byte, 9)) })
				next := start(func() (int, error) { return client.Read(make([]byte, 9)) })
				_, err := client.Write(stream)
				require.ErrorIs(t, err, want.write)
				for _, r := range []result{<-reader, <-next} {
					require.Zero(t, r.n)
					require.ErrorIs(t, r.err, want.read)
				}

				client, server, _ := connect(t, n, faultnet.Faults(kind.At(toClient(1, 2))))
				writer := start(func() (int, error) { return writePieces(client, make([]byte, 16<<20), 1<<20) })
				write(t, server, stream)
				got, err := readPieces(client, 100)
				if kind == faultnet.Cut {
					require.NoError(t, err)
				} else {
					require.ErrorIs(t, err, want.read)
				}
				require.Equal(t, stream[:2], got)
				require.ErrorIs(t, (<-writer).err, want.write)
			})
		})
	}
}

func TestSeveralFaultsOfAConnection(t *testing.T) {
	onEach(t, func(t *testing.T, n network) {
		fn := faultnet.New(n, faultnet.Faults(
			faultnet.Cut.At(faultnet.Place{Conn: 2, Dir: faultnet.ToServer, Byte: 10}),
			faultnet.Duplicate.At(faultnet.Place{Dir: faultnet.ToClient, Frame: 3}), // of every connection
			faultnet.HalfClose.At(faultnet.Place{Conn: 1, Dir: faultnet.ToServer, Frame: 3}),
			faultnet.Duplicate.At(faultnet.Place{Conn: 1, Dir: faultnet.ToServer, Frame: 2}),
		))
		client, server := dial(t, fn)
		require.Equal(t, 1, client.Number())
		k, err := client.Write(stream)
		require.Equal(t, 56, k)
		require.ErrorIs(t, err, syscall.EPIPE)
		got, err := io.ReadAll(server)
		require.NoError(t, err)
		require.Equal(t, string(stream[:56])+string(stream[34:56]), string(got))
		write(t, server, stream)
		require.Equal(t, string(stream)+string(stream[56:]), string(read(t, client, 74)))

		client, server = dial(t, fn)
		require.Equal(t, 2, client.Number())
		write(t, server, stream)
		require.Equal(t, string(stream)+string(stream[56:]), string(read(t, client, 74)))
		k, err = client.Write(stream)
		require.Equal(t, 10, k)
		require.ErrorIs(t, err, syscall.EPIPE)

		client, server = dial(t, fn)
		for i := range 50 {
			write(t, client, stream)
			require.Equal(t, stream, read(t, server, len(stream)), strconv.Itoa(i))
		}
		require.Equal(t, 3, fn.Conns())
		require.Equal(t, 5, fn.Fired())
	})
}
