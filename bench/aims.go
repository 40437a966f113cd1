package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// aim is what the library is to reach against the canned server.
type aim struct {
	of     string // the case
	what   string
	figure figure
	over   string // compared with that contender: over it, or with under the other way round; "" for the figure itself
	under  bool
	least  float64 // or, without a contender, at most this
}

var aims = []aim{
	{of: "append1", what: "p50, peer's over ours", figure: p50, over: peer, under: true, least: 1.5},
	{of: "append1", what: "p50, l1's over ours", figure: p50, over: decoded, under: true, least: 1 / 1.5},
	{of: "append1", what: "allocations", figure: allocs, least: 0},
	{of: "append128", what: "rate over the peer's", figure: rate, over: peer, least: 12},
	{of: "append128", what: "CPU, peer's over ours", figure: cpu, over: peer, under: true, least: 12},
	{of: "append128", what: "rate over l1's", figure: rate, over: decoded, least: 0.45},
	{of: "append128", what: "allocations", figure: allocs, least: 1},
	{of: "append1024", what: "rate over the peer's", figure: rate, over: peer, least: 14},
	{of: "append1024", what: "CPU, peer's over ours", figure: cpu, over: peer, under: true, least: 15},
	{of: "async1024", what: "rate over the peer's", figure: rate, over: peer, least: 20},
	{of: "async1024", what: "rate over l1's", figure: rate, over: decoded, least: 0.6},
	{of: "read256borrowed", what: "rate over the peer's", figure: rate, over: peer, least: 10},
	{of: "read256borrowed", what: "allocations", figure: allocs, least: 0},
	{of: "read256owned", what: "rate over the peer's", figure: rate, over: peer, least: 5},
	{of: "read256owned", what: "allocations", figure: allocs, least: 0.01},
	{of: "read1kborrowed", what: "rate over the peer's", figure: rate, over: peer, least: 15},
	{of: "read1kowned", what: "rate over the peer's", figure: rate, over: peer, least: 4},
	{of: "persistent", what: "rate over the peer's", figure: rate, over: peer, least: 20},
	{of: "persistent", what: "allocations", figure: allocs, least: 0.1},
}

// nothing is the most that counts as no allocation: the runtime and the timers of the process make some as well.
const nothing = 0.01

// aims prints how far the library is.
func (r *results) aims(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(w, "\naim\t\twanted\tis\trange\t\t")
	for _, a := range aims {
		e, ran := r.bench[a.of]
		if !ran || e[library].err != nil {
			continue
		}
		var s spread
		var reached bool
		wanted := "at least"
		if a.over == "" {
			s = e[library].spread(a.figure)
			reached = s.median <= max(a.least, nothing)
			wanted = "at most"
		} else {
			contender, other := library, a.over
			if a.under {
				contender, other = other, contender
			}
			var ok bool
			if s, ok = r.ratio(a.of, contender, other, a.figure); !ok {
				continue
			}
			reached = s.median >= a.least
		}
		verdict := "reached"
		if !reached {
			verdict = "MISSED"
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s %.3g\t%.3g\t%.3g..%.3g\t%s\t\n", a.of, a.what, wanted, a.least, s.median, s.low, s.high, verdict)
	}
	return w.Flush()
}
