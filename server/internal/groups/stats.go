package groups

import (
	"slices"
	"strings"
	"time"
)

// Stats are what HTTP tells of a group.
type Stats struct {
	Settings   Settings
	Status     string // as a real server writes it, such as "Live" or "Behind, ReplayingParkedMessages"
	PerSecond  int    // messages sent, since the statistics were asked for last
	Total      int64  // messages sent
	SinceLast  int64  // of them, since the statistics were asked for last
	Checkpoint int64  // the last one written by this server, -1 for none
	LastKnown  int64  // the highest number that was seen, -1 for none
	Buffered   int    // events in the order of the stream
	Aside      int    // the newest live events
	Retrying   int
	InFlight   int // messages that are outstanding
	Consumers  []ConsumerStats
}

// ConsumerStats are what HTTP tells of a consumer.
type ConsumerStats struct {
	From, User       string // User is "" for anonymous
	PerSecond        int
	Total, SinceLast int64
	Free, InFlight   int
	Measured         []Measurement // of a group that records statistics
}

// Measurement is one value of the statistics of a consumer: how many milliseconds its messages took.
type Measurement struct {
	Key   string
	Value int
}

// Stats returns the statistics of now.
func (g *Group) Stats() Stats {
	now := g.now()
	passed := now.Sub(g.lastStats)
	perSecond := func(n int64) int {
		if passed <= 0 {
			return 0
		}
		return int(n * int64(time.Second) / int64(passed))
	}
	s := Stats{
		Settings: g.settings, Status: g.status(), Total: g.total, SinceLast: g.total - g.lastTotal,
		Checkpoint: g.checkpoint, LastKnown: g.lastKnown, Buffered: g.buffer.len(), Aside: g.aside.n,
		Retrying: g.retrying.len(), InFlight: g.table.size,
	}
	s.PerSecond = perSecond(s.SinceLast)
	g.lastStats, g.lastTotal = now, g.total
	for _, c := range g.consumers {
		since := c.total - c.lastTotal
		c.lastTotal = c.total
		s.Consumers = append(s.Consumers, ConsumerStats{
			From: c.From, User: c.User, PerSecond: perSecond(since), Total: c.total, SinceLast: since,
			Free: c.free(), InFlight: c.held, Measured: c.latencies.measurements(),
		})
	}
	return s
}

func (g *Group) status() string {
	var flags []string
	if !g.live {
		flags = append(flags, "Behind")
	}
	if g.reading {
		flags = append(flags, "OutstandingPageRequest")
	}
	if g.replaying {
		flags = append(flags, "ReplayingParkedMessages")
	}
	if g.live {
		flags = append(flags, "Live")
	}
	return strings.Join(flags, ", ")
}

// latencies are the times that the last messages of a consumer took.
type latencies struct {
	ms   []int // a ring
	next int
}

const maxLatencies = 1000

func (l *latencies) add(d time.Duration) {
	ms := int(d.Milliseconds())
	if len(l.ms) < maxLatencies {
		l.ms = append(l.ms, ms)
		return
	}
	l.ms[l.next] = ms
	l.next = (l.next + 1) % maxLatencies
}

// measurements are those of a real server, in its order.
func (l *latencies) measurements() []Measurement {
	if l == nil || len(l.ms) == 0 {
		return nil
	}
	sorted := slices.Sorted(slices.Values(l.ms))
	n, sum := len(sorted), 0
	for _, ms := range sorted {
		sum += ms
	}
	percentile := func(thousandths int) int { return sorted[min(n*thousandths/1000, n-1)] }
	return []Measurement{
		{"Mean", sum / n},
		{"Median", sorted[n/2]},
		{"Fastest", sorted[0]},
		{"Quintile 1", percentile(0)},
		{"Quintile 2", percentile(200)},
		{"Quintile 3", percentile(400)},
		{"Quintile 4", percentile(600)},
		{"Quintile 5", percentile(800)},
		{"90%", percentile(900)},
		{"95%", percentile(950)},
		{"99%", percentile(990)},
		{"99.5%", percentile(995)},
		{"99.9%", percentile(999)},
		{"Highest", sorted[n-1]},
	}
}
