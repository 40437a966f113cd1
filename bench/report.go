package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/goeventstore/eventstore/bench/contend"
)

// figure is a quantity of one run.
type figure func(*contend.Result) float64

func rate(r *contend.Result) float64   { return float64(r.Ops) / r.Elapsed.Seconds() }
func allocs(r *contend.Result) float64 { return float64(r.Cost.Allocs) / float64(r.Ops) }
func p50(r *contend.Result) float64    { return micros(r.P50) }
func cpu(r *contend.Result) float64    { return micros(r.Cost.CPU) / float64(r.Ops) }

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// spread is what a figure was over the rounds.
type spread struct{ median, low, high float64 }

func newSpread(v []float64) spread {
	slices.Sort(v)
	n := len(v)
	return spread{median: (v[(n-1)/2] + v[n/2]) / 2, low: v[0], high: v[n-1]}
}

func (e *entry) spread(f figure) spread {
	v := make([]float64, len(e.rounds))
	for i := range e.rounds {
		v[i] = f(&e.rounds[i])
	}
	return newSpread(v)
}

// ratio compares a figure of a contender with that of another one, round by round; false if one of them failed.
func (r *results) ratio(c, contender, other string, f figure) (spread, bool) {
	a, b := r.bench[c][contender], r.bench[c][other]
	if a.err != nil || b.err != nil {
		return spread{}, false
	}
	v := make([]float64, len(a.rounds))
	for i := range v {
		v[i] = f(&a.rounds[i]) / f(&b.rounds[i])
	}
	return newSpread(v), true
}

// row is what the JSON says of a contender in a case. A ratio is null if the other one failed.
type row struct {
	Case        string      `json:"case"`
	Contender   string      `json:"contender"`
	OpsPerS     float64     `json:"ops_per_s"`
	RatioToPeer *float64    `json:"ratio_to_peer"`
	RatioToL1   *float64    `json:"ratio_to_l1"`
	AllocsPerOp float64     `json:"allocs_per_op"`
	CPUPerOp    float64     `json:"cpu_us_per_op"`
	P50         float64     `json:"p50_us,omitempty"`
	PeerRange   *[2]float64 `json:"ratio_to_peer_range,omitempty"`
	L1Range     *[2]float64 `json:"ratio_to_l1_range,omitempty"`
	Rounds      int         `json:"rounds"`
	Server      string      `json:"server"`
	Load        [2]string   `json:"load_before_and_after"`
	Error       string      `json:"error,omitempty"` // it failed, and there are no figures
}

func (r *results) json(out io.Writer) error {
	var rows []row
	for _, c := range r.cases {
		for _, name := range contenders {
			e := r.bench[c.name][name]
			w := row{Case: c.name, Contender: name, Server: r.server, Load: r.loads, Rounds: len(e.rounds)}
			if e.err != nil {
				w.Error = e.err.Error()
			} else {
				w.OpsPerS, w.AllocsPerOp, w.CPUPerOp = e.spread(rate).median, e.spread(allocs).median, e.spread(cpu).median
				w.P50 = e.spread(p50).median
				w.RatioToPeer, w.PeerRange = r.jsonRatio(c.name, name, peer)
				w.RatioToL1, w.L1Range = r.jsonRatio(c.name, name, decoded)
			}
			rows = append(rows, w)
		}
	}
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(rows)
}

func (r *results) jsonRatio(c, contender, other string) (median *float64, limits *[2]float64) {
	s, ok := r.ratio(c, contender, other, rate)
	if !ok {
		return nil, nil
	}
	return &s.median, &[2]float64{s.low, s.high}
}

func (r *results) table(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintf(w, "server: %s; load average: %s before, %s after\n\n", r.server, r.loads[0], r.loads[1])
	_, _ = fmt.Fprintln(w, "case\tcontender\tops/s\tx peer\trange\tx l1\trange\tCPU us/op\tallocs/op\tp50 us\t")
	for _, c := range r.cases {
		for _, name := range contenders {
			e := r.bench[c.name][name]
			if e.err != nil {
				_, _ = fmt.Fprintf(w, "%s\t%s\tFAILS\t\t\t\t\t\t\t\t  %v\n", c.name, name, e.err)
				continue
			}
			_, _ = fmt.Fprintf(w, "%s\t%s\t%.0f\t", c.name, name, e.spread(rate).median)
			for _, other := range []string{peer, decoded} {
				if s, ok := r.ratio(c.name, name, other, rate); ok {
					_, _ = fmt.Fprintf(w, "%.2f\t%.2f..%.2f\t", s.median, s.low, s.high)
				} else {
					_, _ = fmt.Fprint(w, "\t\t")
				}
			}
			_, _ = fmt.Fprintf(w, "%.3f\t%.3f\t", e.spread(cpu).median, e.spread(allocs).median)
			if s := e.spread(p50); s.median > 0 {
				_, _ = fmt.Fprintf(w, "%.1f", s.median)
			}
			_, _ = fmt.Fprintln(w, "\t")
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if r.server != cannedServer {
		return nil
	}
	return r.aims(out)
}

// failures is the error of contenders that failed, but of those that are not there.
func (r *results) failures() error {
	var all []error
	for _, c := range r.cases {
		for _, name := range contenders {
			if err := r.bench[c.name][name].err; err != nil && !errors.Is(err, errNotBuilt) {
				all = append(all, fmt.Errorf("%s in %s: %w", name, c.name, err))
			}
		}
	}
	return errors.Join(all...)
}
