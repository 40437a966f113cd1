package faultnet_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/goeventstore/eventstore/internal/faultnet"
	"github.com/goeventstore/eventstore/internal/memnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// network is what a test runs on.
type network interface {
	faultnet.Dialer
	Listen(network, addr string) (net.Listener, error)
}

// onEach runs f over the network in memory, in a bubble, and over TCP.
func onEach(t *testing.T, f func(t *testing.T, n network)) {
	t.Helper()
	t.Run("memory", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { f(t, memnet.New()) })
	})
	t.Run("tcp", func(t *testing.T) { f(t, faultnet.TCP{}) })
}

// connect returns the two ends of connection 1, closed when the test ends.
func connect(t *testing.T, n network, plan faultnet.Plan) (client *faultnet.Conn, server net.Conn, fn *faultnet.Network) {
	t.Helper()
	fn = faultnet.New(n, plan)
	client, server = dial(t, fn)
	return client, server, fn
}

func dial(t *testing.T, fn *faultnet.Network) (client *faultnet.Conn, server net.Conn) {
	t.Helper()
	l, err := fn.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	nc, err := fn.Dial(t.Context(), "tcp", l.Addr().String())
	require.NoError(t, err)
	server, err = l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = nc.Close()
		_ = server.Close()
	})
	if _, ok := server.(*net.TCPConn); ok { // a guard against hangs; a bubble has its own
		require.NoError(t, server.SetDeadline(time.Now().Add(time.Minute)))
		require.NoError(t, nc.SetDeadline(time.Now().Add(time.Minute)))
	}
	return nc.(*faultnet.Conn), server
}

// inMemory is for what needs exact times.
func inMemory(t *testing.T, plan faultnet.Plan, f func(t *testing.T, client *faultnet.Conn, server *memnet.Conn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		client, server, fn := connect(t, memnet.New(), plan)
		faultnet.Report(t, fn)
		f(t, client, server.(*memnet.Conn))
	})
}

// frame returns a frame with so many bytes behind its prefix, all different from their neighbours.
func frame(length int) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(length))
	for i := range length {
		b = append(b, byte(i+length))
	}
	return b
}

// Moments for deadlines.
var (
	past  = time.Unix(1, 0)
	never time.Time
)

// stream is three frames of 34, 22 and 9 bytes, which start at 0, 34 and 56, and end at 65.
var stream = bytes.Join([][]byte{frame(30), frame(18), frame(5)}, nil)

func toServer(frame int, b int64) faultnet.Place {
	return faultnet.Place{Conn: 1, Dir: faultnet.ToServer, Frame: frame, Byte: b}
}

func toClient(frame int, b int64) faultnet.Place {
	return faultnet.Place{Conn: 1, Dir: faultnet.ToClient, Frame: frame, Byte: b}
}

// places are where the byte of the stream is that they map to.
var places = map[faultnet.Place]int{
	{}:                    0,
	{Byte: 1}:             1,
	{Byte: 34}:            34,
	{Byte: 64}:            64,
	{Frame: 1}:            0,
	{Frame: 1, Byte: 3}:   3,
	{Frame: 1, Byte: 4}:   4,
	{Frame: 2}:            34,
	{Frame: 2, Byte: 2}:   36,
	{Frame: 3, Byte: 6}:   62,
	{Frame: 3, Byte: 8}:   64,
	{Frame: 2, Byte: 999}: 55, // its last byte
}

// at completes one of places.
func at(p faultnet.Place, dir faultnet.Direction) faultnet.Place {
	p.Conn, p.Dir = 1, dir
	return p
}

// pieces are the sizes in which the stream is written or read.
var pieces = []int{1, 3, 7, 40, 1000}

// writePieces writes until an error and returns how many bytes went on.
func writePieces(c net.Conn, b []byte, size int) (n int, err error) {
	for n < len(b) && err == nil {
		var m int
		m, err = c.Write(b[n:min(n+size, len(b))])
		n += m
	}
	return n, err
}

// readPieces reads until an error, which is nil at the end of the stream.
func readPieces(c net.Conn, size int) ([]byte, error) {
	var got []byte
	p := make([]byte, size)
	for {
		n, err := c.Read(p)
		got = append(got, p[:n]...)
		if errors.Is(err, io.EOF) {
			return got, nil
		}
		if err != nil {
			return got, err
		}
	}
}

func write(t *testing.T, c net.Conn, b []byte) {
	t.Helper()
	n, err := c.Write(b)
	require.NoError(t, err)
	require.Equal(t, len(b), n)
}

func read(t *testing.T, c net.Conn, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	_, err := io.ReadFull(c, b)
	require.NoError(t, err)
	return b
}

// requireEnd reads the end of the stream.
func requireEnd(t *testing.T, c net.Conn) {
	t.Helper()
	n, err := c.Read(make([]byte, 1))
	require.Zero(t, n)
	require.Same(t, io.EOF, err, "readers compare with ==")
}

func requireOpError(t *testing.T, err, target error, op string) {
	t.Helper()
	require.ErrorIs(t, err, target)
	var oe *net.OpError
	require.ErrorAs(t, err, &oe)
	require.Equal(t, op, oe.Op)
}

// result is what a call on a goroutine of its own came back with, and when.
type result struct {
	n   int
	err error
	at  time.Duration
}

func start(f func() (int, error)) <-chan result {
	began := time.Now()
	done := make(chan result, 1) // room for the one result, so that nobody need wait for it
	go func() {
		n, err := f()
		done <- result{n, err, time.Since(began)}
	}()
	return done
}
