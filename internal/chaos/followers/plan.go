package followers

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/goeventstore/eventstore/internal/faultnet"
)

// plan is all that a seed fixes: what is followed and by how many, what is written, and what happens to whom.
type plan struct {
	seed      uint64
	kind      *Kind
	source    Source
	processes []plannedProcess
	before    int // events that are there before anybody follows
	deeds     []deed
	horizon   time.Duration // when everything fails no more
	after     int           // events that are written then
}

// plannedProcess is started again whenever it ends.
type plannedProcess struct {
	name   string
	seed   uint64
	faults faultnet.Options
}

type deedKind string

const (
	appendEvents   deedKind = "append events"
	cutLines       deedKind = "cut all connections"
	standStill     deedKind = "let nothing pass"
	restart        deedKind = "restart the server"
	stopProcess    deedKind = "stop"
	killProcess    deedKind = "kill"
	pauseProcess   deedKind = "pause"
	truncateStream deedKind = "truncate"
)

// deed is something that happens at its time.
type deed struct {
	at      time.Duration
	kind    deedKind
	process int
	count   int
	pause   time.Duration // of the process, or without the server
}

func newPlan(k *Kind, seed uint64) *plan {
	r := rand.New(rand.NewPCG(seed, 9))
	p := &plan{seed: seed, kind: k, source: k.Sources[r.IntN(len(k.Sources))]}
	p.horizon = upTo(r, 15*time.Second) + 5*time.Second
	for i := range max(1, k.Processes) {
		p.processes = append(p.processes, plannedProcess{
			name: fmt.Sprintf("p%d", i), seed: r.Uint64(),
			faults: faultnet.Options{Max: r.IntN(10), Frames: 30, Bytes: 600},
		})
	}
	p.before, p.after = r.IntN(40), 1+r.IntN(10)
	for range 4 + r.IntN(8) {
		p.add(r, deed{kind: appendEvents, count: 1 + r.IntN(12)})
	}
	kinds := []deedKind{cutLines, cutLines, standStill, restart, stopProcess, stopProcess, killProcess, killProcess, pauseProcess, pauseProcess}
	for range r.IntN(8) {
		p.add(r, deed{kind: kinds[r.IntN(len(kinds))], process: r.IntN(len(p.processes)), pause: upTo(r, 8*time.Second)})
	}
	if k.Truncates {
		for range 1 + r.IntN(4) {
			p.add(r, deed{kind: truncateStream, count: r.IntN(100)})
		}
	}
	slices.SortStableFunc(p.deeds, func(a, b deed) int { return int(a.at - b.at) })
	return p
}

func (p *plan) add(r *rand.Rand, d deed) {
	d.at = upTo(r, p.horizon)
	p.deeds = append(p.deeds, d)
}

// shorten has the same happen in less time.
func (p *plan) shorten(by int) {
	p.horizon /= time.Duration(by)
	for i := range p.deeds {
		p.deeds[i].at /= time.Duration(by)
		p.deeds[i].pause /= time.Duration(by)
	}
}

// upTo is a whole number of milliseconds.
func upTo(r *rand.Rand, longest time.Duration) time.Duration {
	return time.Duration(r.Int64N(int64(longest/time.Millisecond))) * time.Millisecond
}

func (p *plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s of %s, %d events before it begins, %d when all is calm at %v\n", p.kind.Name, p.source.Name, p.before, p.after, p.horizon)
	for _, w := range p.processes {
		fmt.Fprintf(&b, "process %s: at most %d faults of its lines\n", w.name, w.faults.Max)
	}
	for _, d := range p.deeds {
		fmt.Fprintf(&b, "%v %s", d.at, d.kind)
		switch d.kind {
		case appendEvents:
			fmt.Fprintf(&b, ": %d", d.count)
		case truncateStream:
			fmt.Fprintf(&b, " %d of a hundred", d.count)
		case stopProcess, killProcess:
			fmt.Fprintf(&b, " %s", p.processes[d.process].name)
		case pauseProcess:
			fmt.Fprintf(&b, " %s for %v", p.processes[d.process].name, d.pause)
		case standStill, restart:
			fmt.Fprintf(&b, " for %v", d.pause)
		default:
		}
		b.WriteString("\n")
	}
	return b.String()
}
