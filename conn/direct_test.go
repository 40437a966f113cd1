//go:build unix

package conn_test

import (
	"bytes"
	"encoding/binary"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/conn"
	"github.com/goeventstore/eventstore/messages"
)

// overTCP dials a server that plays on a socket of the system, and returns how to wait until play has returned.
func overTCP(t *testing.T, play func(nc net.Conn, r *messages.Reader)) (c *conn.Conn, wait func()) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		nc, err := l.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = nc.Close() }()
		r := messages.NewReader(nc, 64<<10)
		f, err := r.Next()
		if err != nil {
			t.Error(err)
			return
		}
		answer, _ := messages.AppendFrame(nil, f.ID, nil, messages.Raw(messages.ClientIdentified, nil))
		_, _ = nc.Write(answer)
		play(nc, r)
	}()
	const long = 30 * time.Second // a test that needs it to pass is noticed
	c, err = conn.Dial(t.Context(), conn.Config{Addr: l.Addr().String(), Name: "test", Timeout: long, HeartbeatInterval: long, HeartbeatTimeout: long})
	require.NoError(t, err)
	t.Cleanup(func() { c.Close(); <-done; _ = l.Close() })
	return c, func() { <-done }
}

// Nobody has to wake up for what Flush writes: it is on its way when Flush returns, unless the write loop is still at work.
func TestFlushWritesAtOnce(t *testing.T) {
	c, _ := overTCP(t, func(nc net.Conn, r *messages.Reader) {
		for {
			f, err := r.Next()
			if err != nil {
				return
			}
			b, _ := messages.AppendFrame(nil, f.ID, nil, messages.Raw(messages.StreamEventAppeared, f.Body))
			_, _ = nc.Write(b)
		}
	})
	w, k := make(waiter, 4), c.NextTicket()
	require.NoError(t, c.Open(k, messages.Raw(messages.SubscribeToStream, nil), nil, w))
	<-w
	atOnce := 0
	for range 100 {
		before, _ := c.Bytes()
		require.NoError(t, c.Queue(k, messages.Raw(messages.PersistentSubscriptionAckEvents, []byte("an ack")), nil))
		c.Flush()
		if after, _ := c.Bytes(); after > before {
			atOnce++
		}
		require.Equal(t, "an ack", (<-w).body)
	}
	require.Positive(t, atOnce)
	c.Close()
}

// A peer that does not read holds nobody up who flushes, and gets everything in its order when it does.
func TestFlushWaitsForNobody(t *testing.T) {
	const frames, size = 2000, 16 << 10 // more than the buffers of two sockets
	read, broken := make(chan struct{}), -1
	c, wait := overTCP(t, func(_ net.Conn, r *messages.Reader) {
		<-read
		_, _ = r.Next()
		for n := range frames {
			f, err := r.Next()
			if err != nil || len(f.Body) != size || binary.BigEndian.Uint64(f.Body) != uint64(n) {
				broken = n
				return
			}
		}
	})
	k := c.NextTicket()
	require.NoError(t, c.Open(k, messages.Raw(messages.SubscribeToStream, nil), nil, make(waiter, 4)))
	for n := range frames {
		body := binary.BigEndian.AppendUint64(nil, uint64(n))
		r := messages.Raw(messages.PersistentSubscriptionAckEvents, append(body, bytes.Repeat([]byte{'x'}, size-8)...))
		if n%7 == 0 {
			require.NoError(t, c.Send(k, r, nil))
			continue
		}
		require.NoError(t, c.Queue(k, r, nil))
		c.Flush()
	}
	sent, _ := c.Bytes()
	require.Less(t, sent, int64(frames*size), "the buffers hold it all: nothing had to wait")
	close(read)
	wait()
	require.Equal(t, -1, broken, "the first frame that is wrong")
	c.Close()
}
