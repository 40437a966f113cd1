package faultnet_test

import (
	"errors"
	"io"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/internal/faultnet"
	"github.com/goeventstore/eventstore/internal/memnet"
)

func TestRecording(t *testing.T) {
	onEach(t, func(t *testing.T, n network) {
		fn := faultnet.Record(n)
		client, server := dial(t, fn)
		k, err := writePieces(client, stream, 7)
		require.NoError(t, err)
		require.Equal(t, len(stream), k)
		require.Equal(t, stream, read(t, server, k))
		write(t, server, frame(1))
		write(t, server, stream[:8]) // a part of a frame
		read(t, client, 13)
		dial(t, fn) // says nothing

		want := faultnet.Recording{
			{Conn: 1, Dir: faultnet.ToServer, Boundaries: []int64{0, 34, 56, 65}},
			{Conn: 1, Dir: faultnet.ToClient, Boundaries: []int64{0, 5}},
			{Conn: 2, Dir: faultnet.ToServer, Boundaries: []int64{0}},
			{Conn: 2, Dir: faultnet.ToClient, Boundaries: []int64{0}},
		}
		require.Equal(t, want, fn.Recording())
		require.Equal(t, 3, want[0].Frames())
		require.Equal(t, []faultnet.Place{
			toServer(1, 0), toServer(1, 2), toServer(1, 13), toServer(1, 28), // a body of 12 bytes
			toServer(2, 0), toServer(2, 2), toServer(2, 12), toServer(2, 21), // a header only
			toServer(3, 0), toServer(3, 2), toServer(3, 6), toServer(3, 8),
			toClient(1, 0), toClient(1, 2), toClient(1, 4), // one byte
		}, fn.Recording().Places())
		require.Nil(t, faultnet.New(n, faultnet.Plan{}).Recording())
	})
}

func TestPlacesOfEverySize(t *testing.T) {
	for length := int64(1); length < 100; length++ {
		size := length + 4
		places := faultnet.Recording{{Conn: 1, Boundaries: []int64{0, size}}}.Places()
		if length > 1 {
			require.Len(t, places, 4)
		}
		require.Zero(t, places[0].Byte)
		for i, p := range places[1:] {
			require.Greater(t, p.Byte, places[i].Byte, "in order and once")
			require.Less(t, p.Byte, size)
		}
	}
}

// TestCutEverywhere is what a recording is for: an exchange of three requests and answers, of which the client repeats
// what it has no answer for on a new connection.
func TestCutEverywhere(t *testing.T) {
	requests := [][]byte{frame(30), frame(18), frame(5)}
	run := func(t *testing.T, fn *faultnet.Network) (handled int) {
		t.Helper()
		for i := 0; i < len(requests); {
			client, server := dial(t, fn)
			served := start(func() (n int, err error) {
				defer func() { _ = server.Close() }()
				for {
					b := make([]byte, 1000)
					if _, err := io.ReadFull(server, b[:4]); err != nil {
						return n, err
					}
					if _, err := io.ReadFull(server, b[4:4+b[0]]); err != nil {
						return n, err
					}
					n++
					if _, err := server.Write(b[:4+b[0]]); err != nil {
						return n, err
					}
				}
			})
			for i < len(requests) {
				if _, err := client.Write(requests[i]); err != nil {
					require.ErrorIs(t, err, syscall.EPIPE)
					break
				}
				answer := make([]byte, len(requests[i]))
				if _, err := io.ReadFull(client, answer); err != nil {
					require.True(t, errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF), "%v", err)
					break
				}
				require.Equal(t, requests[i], answer)
				i++
			}
			require.NoError(t, client.Close())
			handled += (<-served).n
		}
		return handled
	}
	synctest.Test(t, func(t *testing.T) {
		clean := faultnet.Record(memnet.New())
		require.Equal(t, 3, run(t, clean))
		places := clean.Recording().Places()
		require.Len(t, places, 2*3*4)
		for _, place := range places {
			fn := faultnet.New(memnet.New(), faultnet.Faults(faultnet.Cut.At(place)))
			want := 3
			if place.Dir == faultnet.ToClient {
				want++ // the answer was lost, not the request
			}
			require.Equal(t, want, run(t, fn), "%s", place)
			require.Equal(t, 1, fn.Fired(), "%s", place)
			require.Equal(t, 2, fn.Conns(), "%s", place)
		}
	})
}
