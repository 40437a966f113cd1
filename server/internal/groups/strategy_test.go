package groups

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/server/internal/store"
)

func TestRoundRobin(t *testing.T) {
	w := newWorld(0, nil)
	a, b := w.connect(1, 10), w.connect(2, 3)
	for range 8 {
		w.write()
	}
	require.Equal(t, []int64{0, 2, 4, 6, 7}, a.numbers)
	require.Equal(t, []int64{1, 3, 5}, b.numbers)
	c := w.connect(3, 10)
	w.write()
	w.write()
	require.Equal(t, []int64{0, 2, 4, 6, 7, 8}, a.numbers)
	require.Equal(t, []int64{9}, c.numbers)
}

// TestDispatchToSingle: the next consumer stays the one when the first has room again.
func TestDispatchToSingle(t *testing.T) {
	w := newWorld(0, func(s *Settings) { s.Strategy = DispatchToSingle })
	a, b := w.connect(1, 2), w.connect(2, 10)
	for range 6 {
		w.write()
	}
	w.ack(a, 0)
	w.write()
	require.Equal(t, []int64{0, 1}, a.numbers)
	require.Equal(t, []int64{2, 3, 4, 5, 6}, b.numbers)
}

func TestLine(t *testing.T) {
	l := new(line)
	var cs []*Consumer
	for range 4 {
		c := &Consumer{Window: 9}
		cs = append(cs, c)
		l.add(c)
	}
	order := func(n int) (got []int) {
		for range n {
			c := l.choose(nil)
			for i := range cs {
				if cs[i] == c {
					got = append(got, i)
				}
			}
		}
		return got
	}
	require.Equal(t, []int{0, 1}, order(2))
	l.remove(cs[0])
	require.Equal(t, []int{2, 3, 1, 2}, order(4))
	l.add(cs[0])
	require.Equal(t, []int{3, 1, 2, 0, 3}, order(5))
	l.remove(cs[2])
	l.remove(cs[1])
	require.Equal(t, []int{0, 3}, order(2))
	l.remove(cs[3])
	l.remove(cs[3])
	require.Equal(t, []int{0, 0}, order(2))
}

func linkTo(stream string, target *store.Record, n int64) Event {
	record := messages.EventRecord{Stream: "l", Number: n, Type: typeLink, Data: fmt.Appendf(nil, "%d@%s", n, stream)}
	return Event{
		Record: &store.Record{Stream: "l", Number: n, ID: idOf(n), Type: typeLink, Encoded: record.AppendTo(nil)}, Target: target, Followed: true,
	}
}

func TestSources(t *testing.T) {
	metadata := messages.EventRecord{Metadata: []byte(`{"$correlationId":"c1","x":[1]}`)}
	target := &store.Record{Stream: "a@b", Type: "t", Encoded: metadata.AppendTo(nil)}
	followed, nowhere := linkTo("x", target, 1), linkTo("a@b", nil, 2)
	require.Equal(t, "a@b", sourceStream(&followed))
	require.Equal(t, "a@b", sourceStream(&nowhere))
	require.Equal(t, "c1", correlation(&followed))
	require.Equal(t, "a@b", correlation(&nowhere))
}

// TestPinned: a source stays with its consumer, its events wait for it, and a new consumer gets its share.
func TestPinned(t *testing.T) {
	w := newWorld(0, func(s *Settings) { s.Strategy = Pinned })
	a, b := w.connect(1, 4), w.connect(2, 20)
	for range 15 {
		w.write() // s-0 to s-4, three times
	}
	require.Equal(t, []int64{0, 2, 4, 5}, a.numbers)
	require.Equal(t, []int64{1, 3, 6, 8, 11, 13}, b.numbers)
	w.ack(a, 0, 2, 4, 5)
	require.Equal(t, []int64{0, 2, 4, 5, 7, 9, 10, 12}, a.numbers)
	w.ack(a, 7, 9, 10, 12)
	require.Equal(t, []int64{0, 2, 4, 5, 7, 9, 10, 12, 14}, a.numbers)
	w.ack(a, 14)
	w.ack(b, b.numbers...)

	c := w.connect(3, 20) // 5 sources for 3 consumers: at most 2 each
	for range 5 {
		w.write()
	}
	require.Len(t, c.numbers, 1)
	require.Equal(t, 5, a.buckets+b.buckets+c.buckets)
	w.Disconnect(&c.Consumer)
	require.Equal(t, 5, w.table.size, "somebody else has it")
}

// TestHash has values that a real server's algorithm gives, of names of every length.
func TestHash(t *testing.T) {
	for name, want := range map[string]uint32{
		"":                  0x02cc5d05,
		"a":                 0xe4dbda76,
		"ab":                0x191a8c9b,
		"abc":               0xceb21450,
		"abcd":              0xc39f3794,
		"abcdefg":           0xe2a0a781,
		"abcdefgh":          0x67e358fe,
		"abcdefghi":         0x74731641,
		"abcdefghijkl":      0x1aa8ca9a,
		"abcdefghijklmnop":  0x10342c72,
		"abcdefghijklmnopq": 0x392a484a,
		"account-42":        0x06f02005,
		"straße-ü":          0x0926787b,
		"日本-1":              0x1631f5f4,
		"😀-x":               0xa944ddcd,
		"p-src-ca7b5b91-and-a-longer-name-than-that": 0x0eed9e13,
	} {
		require.Equal(t, want, hash(name), name)
	}
}

func TestStats(t *testing.T) {
	w := newWorld(10, func(s *Settings) { s.Statistics = true })
	c := w.connect(1, 4)
	w.clock = w.clock.Add(2e9)
	w.ack(c, 0, 1)
	s := w.Stats()
	require.Equal(t, "Live", s.Status)
	require.EqualValues(t, 6, s.Total)
	require.Equal(t, 3, s.PerSecond)
	require.EqualValues(t, 9, s.LastKnown)
	require.Equal(t, 4, s.InFlight)
	require.Equal(t, 4, s.Buffered)
	require.Len(t, s.Consumers, 1)
	require.Equal(t, 0, s.Consumers[0].Free)
	require.Equal(t, Measurement{"Mean", 2000}, s.Consumers[0].Measured[0])
	require.Len(t, s.Consumers[0].Measured, 14)
	s = w.Stats()
	require.Zero(t, s.SinceLast)
	require.Zero(t, s.PerSecond)
}
