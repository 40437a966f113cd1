package chaos_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/goeventstore/eventstore/internal/faultnet"
	"github.com/goeventstore/eventstore/persistent"
)

// groupPlan is all that a seed fixes of a run with groups: who is there, what the lines do, and what becomes of the groups.
type groupPlan struct {
	seed    uint64
	groups  []plannedGroup
	workers []plannedWorker
	deeds   []deed
	horizon time.Duration // when everybody stops
	events  int
}

type plannedGroup struct {
	name     string
	settings persistent.Settings
}

// plannedWorker joins groups on one connection, leaves, crashes and comes again.
type plannedWorker struct {
	name   string
	groups []int
	cfg    persistent.Config // without names
	faults faultnet.Options
}

type deedKind string

const (
	appendEvents deedKind = "append events"
	updateGroup  deedKind = "update"
	renewGroup   deedKind = "delete and create"
	replayParked deedKind = "replay what is parked"
	cutLines     deedKind = "cut all connections"
	restart      deedKind = "restart the server"
)

// deed is what the manager does. The parts of a millisecond in its time are its own, and other times are whole ones behind some
// deed, so that nothing else happens in that instant but what follows from it.
type deed struct {
	at       time.Duration
	kind     deedKind
	group    int
	settings persistent.Settings
	count    int
	pause    time.Duration // without the group, or the server
}

// sources are the streams that the events are in; the groups are on a stream of links to them.
const sources, correlations = 5, 4

func newGroupPlan(seed uint64) *groupPlan {
	r := rand.New(rand.NewPCG(seed, 5))
	p := &groupPlan{seed: seed, horizon: upTo(r, 25*time.Second) + 10*time.Second}
	strategies := []persistent.Strategy{persistent.RoundRobin, persistent.DispatchToSingle, persistent.Pinned, persistent.PinnedByCorrelation}
	r.Shuffle(len(strategies), func(i, k int) { strategies[i], strategies[k] = strategies[k], strategies[i] })
	for i := range 1 + r.IntN(3) {
		p.groups = append(p.groups, plannedGroup{fmt.Sprintf("g%d", i), groupSettings(r, strategies[i])})
	}
	for i := range max(2, len(p.groups)) + r.IntN(4) {
		p.addWorker(r, i)
	}
	p.add(r, deed{kind: appendEvents, count: r.IntN(60)}, 0)
	for range 3 + r.IntN(5) {
		p.add(r, deed{kind: appendEvents, count: 1 + r.IntN(30)}, p.horizon)
	}
	kinds := []deedKind{updateGroup, updateGroup, renewGroup, replayParked, replayParked, cutLines, restart}
	for range r.IntN(7) {
		d := deed{kind: kinds[r.IntN(len(kinds))], group: r.IntN(len(p.groups)), pause: upTo(r, 3*time.Second)}
		d.settings = groupSettings(r, strategies[r.IntN(len(strategies))])
		if r.IntN(3) > 0 {
			d.settings.Strategy = p.groups[d.group].settings.Strategy
		}
		p.add(r, d, p.horizon)
	}
	slices.SortStableFunc(p.deeds, func(a, b deed) int { return int(a.at - b.at) })
	for i := range p.deeds {
		p.deeds[i].at += time.Duration(7*i) * time.Microsecond
	}
	return p
}

func (p *groupPlan) add(r *rand.Rand, d deed, before time.Duration) {
	if before > 0 {
		d.at = upTo(r, before)
	}
	if d.kind == appendEvents {
		p.events += d.count
	}
	p.deeds = append(p.deeds, d)
}

func (p *groupPlan) addWorker(r *rand.Rand, i int) {
	w := plannedWorker{name: fmt.Sprintf("w%d", i), groups: []int{i % len(p.groups)}}
	if other := r.IntN(len(p.groups)); other != w.groups[0] && r.IntN(3) == 0 {
		w.groups = append(w.groups, other)
	}
	w.cfg.Window = 1 + r.IntN(12)
	w.cfg.AckEvery = 1 + r.IntN(w.cfg.Window)
	w.cfg.AckAfter = upTo(r, 200*time.Millisecond) + time.Millisecond
	w.faults = faultnet.Options{
		Kinds: []faultnet.Kind{faultnet.Cut, faultnet.Reset, faultnet.HalfClose, faultnet.Delay, faultnet.Stall, faultnet.Swallow, faultnet.Drip},
		Max:   r.IntN(12), Frames: 40, Bytes: 600,
	}
	p.workers = append(p.workers, w)
}

func groupSettings(r *rand.Rand, strategy persistent.Strategy) persistent.Settings {
	s := persistent.DefaultSettings()
	s.Strategy = strategy
	s.MessageTimeout = upTo(r, 3*time.Second) + 700*time.Millisecond
	if r.IntN(8) == 0 {
		s.MessageTimeout = persistent.Never
	}
	s.MaxRetries = r.IntN(5)
	s.Buffer = 10 + r.IntN(60)
	s.ReadBatch = 1 + r.IntN(s.Buffer-1)
	s.LiveBuffer = 1 + r.IntN(30)
	s.CheckpointAfter = time.Second
	s.CheckpointMin, s.CheckpointMax = 1+r.IntN(5), 1+r.IntN(20)
	s.RawLinks = r.IntN(4) == 0
	if r.IntN(6) == 0 {
		s.MaxSubscribers = 2
	}
	return s
}

// shorten has the same happen in less time.
func (p *groupPlan) shorten(horizon time.Duration) {
	if p.horizon <= horizon {
		return
	}
	for i := range p.deeds {
		p.deeds[i].at = time.Duration(float64(p.deeds[i].at) * float64(horizon) / float64(p.horizon))
	}
	p.horizon = horizon
}

func (p *groupPlan) String() string {
	var b strings.Builder
	for _, g := range p.groups {
		fmt.Fprintf(&b, "group %s: %s\n", g.name, settingsText(g.settings))
	}
	for _, w := range p.workers {
		fmt.Fprintf(&b, "worker %s of groups %v: a window of %d, acks by %d or after %v, at most %d faults of its lines\n",
			w.name, w.groups, w.cfg.Window, w.cfg.AckEvery, w.cfg.AckAfter, w.faults.Max)
	}
	for _, d := range p.deeds {
		fmt.Fprintf(&b, "%v %s", d.at, d.kind)
		switch d.kind {
		case appendEvents:
			fmt.Fprintf(&b, ": %d", d.count)
		case updateGroup:
			fmt.Fprintf(&b, " %s: %s", p.groups[d.group].name, settingsText(d.settings))
		case renewGroup:
			fmt.Fprintf(&b, " %s after %v: %s", p.groups[d.group].name, d.pause, settingsText(d.settings))
		case replayParked:
			fmt.Fprintf(&b, " of %s", p.groups[d.group].name)
		case restart:
			fmt.Fprintf(&b, ", for %v", d.pause)
		default:
		}
		b.WriteString("\n")
	}
	return b.String()
}

func settingsText(s persistent.Settings) string {
	return fmt.Sprintf("%s, %v and %d retries, buffer %d, batch %d, live %d, checkpoints by %d or %d, raw links %t, at most %d members",
		s.Strategy, s.MessageTimeout, s.MaxRetries, s.Buffer, s.ReadBatch, s.LiveBuffer, s.CheckpointMin, s.CheckpointMax, s.RawLinks, s.MaxSubscribers)
}

// habit is what a worker does with a message.
type habit uint8

const (
	acksAtOnce habit = iota
	acksLater
	acksTwice
	naks
	holdsBack // gives it back for a retry after a while
	hangs     // until its time is up, and acks then
	forgets
	crashes // in the middle of it
)

// handling is what one message gets.
type handling struct {
	habit habit
	verb  verb
	wait  time.Duration
}

func handle(r *rand.Rand, timeout time.Duration) handling {
	h := handling{verb: acked, wait: upTo(r, 400*time.Millisecond)}
	switch n := r.IntN(100); {
	case n < 50:
		h.habit = acksAtOnce
	case n < 68:
		h.habit = acksLater
	case n < 71:
		h.habit = acksTwice
	case n < 89:
		h.habit = naks
		h.verb = []verb{parks, parks, retries, retries, retries, retries, skips, stops}[r.IntN(8)]
		h.wait *= time.Duration(r.IntN(2))
	case n < 92:
		h.habit, h.verb = holdsBack, retries
		h.wait++
	case n < 96:
		h.habit, h.wait = hangs, timeout*time.Duration(11+r.IntN(20))/10
	case n < 98:
		h.habit = forgets
	default:
		h.habit = crashes
	}
	return h
}
