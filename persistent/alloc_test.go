//go:build !race

package persistent_test

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/scripted"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/persistent"
)

// feed delivers the same events for ever, as many as the window of 256 has room for.
func feed(tb testing.TB, p *scripted.Peer) {
	tb.Helper()
	id := joining(tb, p)
	var frames []byte
	ends := []int{0}
	for n := range 256 {
		frames, _ = messages.AppendFrame(frames, id, nil, messages.Raw(messages.PersistentSubscriptionStreamEventAppeared,
			messages.AppendPersistentEvent(nil, record(n), nil, 0)))
		ends = append(ends, len(frames))
	}
	_, _ = p.Conn.Write(frames)
	var ack messages.PersistentAck
	for {
		f, err := p.Reader.Next()
		if err != nil {
			return
		}
		switch f.Command {
		case messages.Ping:
			p.Send(messages.Pong, f.ID, "")
		case messages.PersistentSubscriptionAckEvents:
			if err := ack.Decode(f.Body, nil); err != nil {
				tb.Error(err)
			}
			_, _ = p.Conn.Write(frames[:ends[len(ack.IDs)]])
		}
	}
}

// fed is a member that is fed.
func fed(tb testing.TB) *persistent.Group {
	tb.Helper()
	network := scripted.Listen(tb, scripted.Identified(func(p *scripted.Peer) { feed(tb, p) }))
	c, err := eventstore.Connect(tb.Context(), "tcp://"+scripted.Addr, eventstore.WithDialer(network.Dial))
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, c.Close()) })
	g, err := persistent.Join(tb.Context(), c, persistent.Config{Stream: stream, Group: group, Window: 256})
	require.NoError(tb, err)
	return g
}

// Messages, their events and their bytes are made many at a time, and acks cost nothing.
func TestAllocRecvAndAck(t *testing.T) {
	g := fed(t)
	ctx := t.Context()
	step := func() {
		m, err := g.Recv(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := g.Ack(ctx, m); err != nil {
			t.Fatal(err)
		}
	}
	for range 2000 {
		step()
	}
	const n = 20_000
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range n {
		step()
	}
	runtime.ReadMemStats(&after)
	each := float64(after.Mallocs-before.Mallocs) / n
	t.Logf("%.3f allocations a message", each)
	require.Less(t, each, 0.15) // those of the server that plays are in it
	closed(t, g)
}

func BenchmarkRecvAndAck(b *testing.B) {
	g := fed(b)
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		m, err := g.Recv(ctx)
		if err != nil {
			b.Fatal(err)
		}
		if err := g.Ack(ctx, m); err != nil {
			b.Fatal(err)
		}
	}
	_ = g.Close()
}
