// Command servercost measures what the embedded server costs beside a server that only counts:
//
//	go run -C bench ./servercost               # prints a table
//	go run -C bench ./servercost -gate         # and fails when a ratio stays a quarter over its limit
//	go run -C bench ./servercost -profile DIR  # and writes CPU profiles of the embedded server
//
// Each server runs in a process of its own, and its cost is the CPU time, user and system, that this process took while a
// load generator in another one sent requests that it had encoded before. Absolute numbers are those of the machine;
// what counts is the ratio within one run, each server's cheapest round beside the other's, since what else the machine
// does can only add to a round. The other columns are those of that round.
//
// How cheap the canned server's answers are depends most on how many requests one read brings it. The row with a limit has
// the load of this library's client with 1,024 callers, which gathers what they want to send; others have a fixed
// number of requests in each write, and as many as may go.
//
// In the rows over memory the load runs in the server's process, over the in-memory network of the tests: their cost
// is that of both and has no limit.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/goeventstore/eventstore/bench/contend"
)

func main() {
	var o options
	flag.IntVar(&o.rounds, "rounds", 5, "how often each server is measured in each case")
	flag.BoolVar(&o.gate, "gate", false, "leave out the cases without a limit, and fail when a ratio stays a quarter over its limit")
	flag.StringVar(&o.profile, "profile", "", "a folder for CPU profiles of the embedded server")
	child := flag.String("child", "", "be the server of this name, for this program's own use")
	memory := flag.Bool("memory", false, "with -child: over memory")
	profile := flag.String("cpuprofile", "", "with -child: a file")
	flag.Parse()
	var err error
	if *child != "" {
		err = runChild(*child, *memory, *profile)
	} else {
		err = compare(&o, os.Stdout)
	}
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "servercost:", err)
		os.Exit(1)
	}
}

type options struct {
	rounds  int
	gate    bool
	profile string
}

// sample is what one server did in one round.
type sample struct {
	Cost    contend.Cost
	Ops     int
	Elapsed time.Duration
}

func (s *sample) perOp() time.Duration { return s.Cost.CPU / time.Duration(s.Ops) }

// samples are the cheapest round of each server.
type samples [len(servers)]sample

func (s *samples) ratio() float64 { return float64(s[1].perOp()) / float64(s[0].perOp()) }

const (
	// noise is what a gate allows for other work on the machine: it costs the larger server more than the smaller one.
	noise = 1.25
	// tries is how often a gate measures a case that is over its limit: other work ends, and what is dear stays so.
	tries = 4
)

// compare measures all cases and prints them.
func compare(o *options, out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(w, "case\tserver\tCPU/op\tops/s\tallocs/op\tB/op\tratio\tlimit\t")
	var over []string
	for i := range cases {
		c := &cases[i]
		if o.gate && c.Limit == 0 {
			continue
		}
		best, err := c.best(o)
		for try := 1; err == nil && o.gate && try < tries && best.ratio() > noise*c.Limit; try++ {
			var again samples
			if again, err = c.best(o); err == nil && again.ratio() < best.ratio() {
				best = again
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
		c.print(w, &best)
		if ratio := best.ratio(); c.Limit > 0 && ratio > noise*c.Limit {
			over = append(over, fmt.Sprintf("%s: %.1f times the canned server's CPU, at most %.0f", c.Name, ratio, c.Limit))
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if o.gate && len(over) > 0 {
		return errors.New(strings.Join(over, "; "))
	}
	return nil
}

// best measures a case and returns the cheapest round of each server.
func (c *loadCase) best(o *options) (best samples, err error) {
	for round := range o.rounds {
		for i := range servers {
			i = (i + round) % len(servers) // the order takes turns
			profile := ""
			if o.profile != "" && servers[i] == embedded {
				profile = filepath.Join(o.profile, fmt.Sprintf("%s-%d.prof", c.file(), round))
			}
			s, err := c.measure(servers[i], profile)
			if err != nil {
				return best, fmt.Errorf("the %s server: %w", servers[i], err)
			}
			if round == 0 || s.perOp() < best[i].perOp() {
				best[i] = s
			}
		}
	}
	return best, nil
}

func (c *loadCase) print(w io.Writer, best *samples) {
	for i, name := range servers {
		s := &best[i]
		ops := float64(s.Ops)
		_, _ = fmt.Fprintf(w, "%s\t%s\t%v\t%.0f\t%.3f\t%.0f\t", c.Name, name, s.perOp(),
			ops/s.Elapsed.Seconds(), float64(s.Cost.Allocs)/ops, float64(s.Cost.Bytes)/ops)
		switch {
		case name != embedded:
			_, _ = fmt.Fprintln(w, "\t\t")
		case c.Limit == 0:
			_, _ = fmt.Fprintf(w, "%.1f\t\t\n", best.ratio())
		default:
			_, _ = fmt.Fprintf(w, "%.1f\t%.0f\t\n", best.ratio(), c.Limit)
		}
	}
}
