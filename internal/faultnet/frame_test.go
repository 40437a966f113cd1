package faultnet_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/internal/faultnet"
	"github.com/goeventstore/eventstore/internal/memnet"
)

func TestDuplicate(t *testing.T) {
	for place, k := range map[faultnet.Place]struct{ start, end int }{
		{Frame: 1}:           {0, 34},
		{Frame: 2}:           {34, 56},
		{Frame: 2, Byte: 17}: {34, 56},
		{Frame: 3}:           {56, 65},
		{}:                   {0, 34},
		{Byte: 1}:            {34, 56}, // the first that starts there or later
		{Byte: 34}:           {34, 56},
		{Byte: 35}:           {56, 65},
		{Byte: 57}:           {65, 65}, // none
		{Frame: 4}:           {65, 65},
	} {
		want := string(stream[:k.end]) + string(stream[k.start:])
		onEach(t, func(t *testing.T, n network) {
			for _, size := range pieces {
				client, server, _ := connect(t, n, faultnet.Faults(
					faultnet.Duplicate.At(at(place, faultnet.ToServer)),
					faultnet.Duplicate.At(at(place, faultnet.ToClient)),
				))
				n, err := writePieces(client, stream, size)
				require.NoError(t, err)
				require.Equal(t, len(stream), n, "the copy is not counted")
				require.NoError(t, client.CloseWrite())
				got, err := io.ReadAll(server)
				require.NoError(t, err)
				require.Equal(t, want, string(got))

				_, err = writePieces(server, stream, 9)
				require.NoError(t, err)
				require.NoError(t, server.Close())
				got, err = readPieces(client, size)
				require.NoError(t, err)
				require.Equal(t, want, string(got))
			}
		})
	}
}

// TestTheCopyOfAFrameIsNotLost interrupts the writing of the copy: the next Write goes on with it.
func TestTheCopyOfAFrameIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server, _ := connect(t, memnet.New(memnet.WithBuffer(40)), faultnet.Faults(faultnet.Duplicate.At(toServer(1, 0))))
		r := start(func() (int, error) { return client.Write(stream[:34]) })
		synctest.Wait()
		require.Empty(t, r)
		require.NoError(t, client.SetWriteDeadline(past))
		require.NoError(t, (<-r).err, "all that was asked for is on its way")
		require.NoError(t, client.SetWriteDeadline(never))
		r = start(func() (int, error) { return client.Write(stream[34:]) })
		require.Equal(t, string(stream[:34])+string(stream), string(read(t, server, 34+len(stream))))
		require.NoError(t, (<-r).err)
	})
}

func TestGarbageIsNoFrame(t *testing.T) {
	for name, prefix := range map[string][]byte{
		"zero":     {0, 0, 0, 0},
		"negative": {0xFE, 0xFF, 0xFF, 0xFF},
		"huge":     {1, 0, 0, 4}, // one more than 64 MiB
		"text":     []byte("HTTP/1.1 400 Bad Request"),
	} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, n network) {
				garbage := append(append(bytes.Clone(stream), prefix...), stream...)
				client, server, fn := connect(t, n, faultnet.Faults(
					faultnet.Cut.At(toServer(4, 4)),
					faultnet.Cut.At(toServer(5, 0)),
					faultnet.Duplicate.At(toServer(0, 66)),
					faultnet.Duplicate.At(toServer(4, 0)), // begins in vain
					faultnet.HalfClose.At(toServer(0, 69)),
				))
				k, err := client.Write(garbage)
				require.Error(t, err)
				require.Equal(t, 69, k)
				got, err := io.ReadAll(server)
				require.NoError(t, err)
				require.Equal(t, garbage[:69], got)
				require.Equal(t, 2, fn.Fired(), fn.Trace())
			})
		})
	}
}

// boundaries finds frames the plain way.
func boundaries(b []byte) []int64 {
	all, at := []int64{0}, 0
	for len(b)-at >= 4 {
		length := int32(binary.LittleEndian.Uint32(b[at:]))
		if length < 1 || length > 64<<20 || int(length) > len(b)-at-4 {
			break
		}
		at += 4 + int(length)
		all = append(all, int64(at))
	}
	return all
}

func FuzzFrames(f *testing.F) {
	f.Add(stream, byte(3), uint16(40), byte(2), byte(3))
	f.Add([]byte("HTTP/1.1 400 Bad Request"), byte(7), uint16(3), byte(1), byte(5))
	f.Add([]byte{1, 0, 0, 0, 9, 255, 255, 255, 255, 1}, byte(1), uint16(6), byte(2), byte(9))
	f.Fuzz(func(t *testing.T, data []byte, size byte, offset uint16, number, inside byte) {
		if len(data) > 4096 {
			return
		}
		n := memnet.New()
		fn := faultnet.Record(n)
		client, server := dial(t, fn)
		_, err := writePieces(client, data, int(size)+1)
		require.NoError(t, err)
		require.NoError(t, client.CloseWrite())
		got, err := io.ReadAll(server)
		require.NoError(t, err)
		require.Equal(t, string(data), string(got))
		all := boundaries(data)
		require.Equal(t, all, fn.Recording()[0].Boundaries)

		for _, place := range []faultnet.Place{toServer(0, int64(offset)), toServer(int(number)+1, int64(inside))} {
			client, server, _ := connect(t, n, faultnet.Faults(faultnet.Cut.At(place)))
			k, err := writePieces(client, data, int(size)+1)
			want := int(offset)
			if place.Frame > 0 {
				want = len(data)
				if place.Frame <= len(all)-1 { // the frame is whole
					want = int(min(all[place.Frame-1]+place.Byte, all[place.Frame]-1))
				} else if place.Frame == len(all) {
					want = k // depends on what is there of it
				}
			}
			want = min(want, len(data))
			require.Equal(t, want, k)
			require.Equal(t, k < len(data), err != nil)
			require.NoError(t, client.Close())
			got, err := io.ReadAll(server)
			require.NoError(t, err)
			require.Equal(t, string(data[:k]), string(got))
			require.NoError(t, server.Close())
		}
	})
}
