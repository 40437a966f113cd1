package chaos_test

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/goeventstore/eventstore/persistent"
)

// check reports what is wrong with a run, "" for nothing.
//
// The server is held to 4.14 of the protocol by what it sent and got. What it may not have got, since the line broke in the same
// instant, counts as both.
func (r *groupRun) check() string {
	if wrong := r.checkClients(); wrong != "" {
		return wrong
	}
	if len(r.problems) > 0 {
		return strings.Join(r.problems, "\n")
	}
	for i := range r.parked {
		number, stream, _ := strings.Cut(r.parked[i].about, "@")
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return "parked: " + r.parked[i].about
		}
		r.parked[i].number = r.numberOf(stream, n)
	}
	for _, g := range r.groups {
		if wrong := r.checkGroup(g.name); wrong != "" {
			return "group " + g.name + ": " + wrong
		}
	}
	return ""
}

// reality is how far the times of both sides may be apart: not at all in virtual time.
func (r *groupRun) reality() time.Duration {
	if r.real {
		return time.Second
	}
	return 0
}

// checkGroup follows one group through its lives.
func (r *groupRun) checkGroup(group string) string {
	var lives []*life
	for _, n := range r.renewals {
		if n.group != group {
			continue
		}
		if len(lives) > 0 {
			lives[len(lives)-1].end = n.from
		}
		lives = append(lives, newLife(r, n))
	}
	over := make(map[*member]bool)
	for _, s := range r.wire.log {
		if s.m.group != group {
			continue
		}
		l := lives[r.lifeOf(s.m, lives)]
		if s.kind == sawAnswer { // an answer counts whoever gives it, also one that comes late from a life before
			for l.end <= s.at {
				l = lives[slices.Index(lives, l)+1]
			}
		} else if over[s.m] {
			continue // what is sent behind the end is as good as not seen
		}
		over[s.m] = over[s.m] || s.kind == sawGone
		l.log = append(l.log, s)
	}
	done := make(map[int64]bool)
	for _, l := range lives {
		if l.fresh {
			clear(done) // it begins anew
		}
		l.follow()
		l.checkPlaces()
		l.checkParked()
		if l.wrong != "" {
			return l.wrong + "\nin the life that began at " + l.from.String() + ": " + settingsText(l.settings) + "\n" + l.story(l.about)
		}
		for _, p := range l.parcels {
			if p.finished || r.admin == nil && p.final != never {
				done[p.number] = true
			}
		}
	}
	for n := range int64(len(r.ids)) {
		if !done[n] {
			var b strings.Builder
			for _, l := range lives {
				fmt.Fprintf(&b, "life of %v behind the checkpoint %d: %s\n%s", l.from, l.checkpoint, settingsText(l.settings), l.story(n))
			}
			return fmt.Sprintf("event %d is neither acked nor skipped:\n%s", n, b.String())
		}
	}
	return ""
}

// lifeOf is which life of its group a membership belongs to.
func (r *groupRun) lifeOf(m *member, lives []*life) int {
	n := 0
	for i, l := range lives {
		old := m.at <= l.to && m.dropped && m.gone <= l.to+r.reality()
		if m.at >= l.from && !old {
			n = i
		}
	}
	return n
}

// life is the time of a group from its creation, an update or a restart to the next one.
type life struct {
	renewal
	r       *groupRun
	end     time.Duration
	log     []seen
	parcels map[uuid.UUID]*parcel
	changes []time.Duration // when members came and went
	wrong   string          // the first thing
	about   int64           // the event that it is about, or everything
}

// parcel is a message in one life of its group.
type parcel struct {
	id       uuid.UUID
	number   int64 // of the event in the main stream
	replayed bool
	last     seen          // delivery
	again    time.Duration // when somebody last asked for a retry
	answer   time.Duration // when somebody last answered
	final    time.Duration // the first answer that may have ended it, or never
	settled  time.Duration // since then it has certainly ended
	stranger bool          // by somebody who had it before: when who has it now leaves, it comes again
	finished bool          // an ack or a skip may have ended it
	parked   time.Duration // it certainly was to be parked
}

func newLife(r *groupRun, n renewal) *life {
	return &life{renewal: n, r: r, end: never, about: everything, parcels: make(map[uuid.UUID]*parcel)}
}

func (l *life) fail(p *parcel, format string, args ...any) {
	if l.wrong != "" {
		return
	}
	l.wrong = fmt.Sprintf(format, args...)
	if p != nil {
		l.about = p.number
		l.wrong = fmt.Sprintf("event %d: %s", p.number, l.wrong)
	}
}

// everything is no event's number.
const everything = -2

// story is what the log has about an event.
func (l *life) story(number int64) string {
	var b strings.Builder
	for _, s := range l.log {
		p := l.parcels[s.id]
		if number == everything || s.kind == sawConnect || s.kind == sawGone || p != nil && p.number == number {
			fmt.Fprintln(&b, s)
		}
	}
	for _, c := range l.r.places {
		if c.group == l.group && c.at >= l.from && c.at <= l.end {
			fmt.Fprintln(&b, "checkpoint", c.number, "at", c.at)
		}
	}
	for _, e := range l.parkedHere() {
		if number == everything || e.number == number {
			fmt.Fprintln(&b, "parked: event", e.number, "at", e.at, e.reason)
		}
	}
	return b.String()
}

// follow goes through the log, instant by instant.
func (l *life) follow() {
	var rules rules
	switch {
	case l.r.real:
		rules = &anyOrder{life: l}
	case l.settings.Strategy == persistent.DispatchToSingle:
		rules = &single{}
	case l.settings.Strategy == persistent.RoundRobin:
		rules = &rotation{}
	default:
		rules = &pinning{life: l}
	}
	slots := newSlots(l)
	firsts := newFirsts(l)
	for i := 0; i < len(l.log) && l.wrong == ""; {
		at := l.log[i].at
		instant := l.log[i:]
		if n := slices.IndexFunc(instant, func(s seen) bool { return s.at != at }); n > 0 {
			instant = instant[:n]
		}
		i += len(instant)
		changed := false
		for _, s := range instant {
			switch s.kind {
			case sawConnect, sawGone:
				l.changes = append(l.changes, at)
				changed = true
			case sawDelivery:
				known := l.parcels[s.id] != nil
				first := l.delivered(s)
				if first {
					firsts.add(l.parcels[s.id], s)
				}
				if p := l.parcels[s.id]; !known && !p.replayed {
					firsts.most = max(firsts.most, p.number)
					firsts.count++
					if !first {
						firsts.missing--
					}
				}
				slots.delivered(s)
			case sawAnswer:
				l.answered(s)
				slots.answered(s)
			}
		}
		firsts.check(instant)
		slots.present(instant)
		if wrong := rules.instant(instant, changed, slots); wrong != "" && l.wrong == "" {
			l.fail(nil, "at %v: %s", at, wrong)
		}
		slots.after(instant)
	}
}

// delivered takes a delivery, and reports whether it is the first of an event of the stream.
func (l *life) delivered(s seen) (first bool) {
	p := l.parcels[s.id]
	if p == nil {
		p = &parcel{id: s.id, number: l.r.numberOf(s.source, s.number), replayed: s.original != l.r.main, again: -1, answer: -1, final: never, settled: never, parked: never}
		if n, ok := l.r.keys[s.id]; ok && !p.replayed {
			p.number = n
		}
		l.parcels[s.id] = p
		p.last = s
		switch {
		case p.number < 0 || p.replayed && s.original != l.r.parkedStream(l.group):
			l.fail(p, "it is nobody's: %v", s)
		case s.retries == 1 && !p.replayed && l.went(l.r.written[p.number], s.at) || s.retries == 1 && p.replayed && l.went(0, s.at):
			return false // it was sent to somebody whose line had just broken
		case s.retries != 0:
			l.fail(p, "it comes for the first time with %d retries", s.retries)
		case !p.replayed && p.number <= l.checkpoint && !l.r.real:
			l.fail(p, "it comes again behind the checkpoint %d", l.checkpoint)
		}
		return !p.replayed
	}
	if p.stranger && p.last.m.gone <= s.at+l.r.reality() {
		p.settled, p.parked = never, never
	}
	if p.settled != never && s.at > p.settled+l.r.reality() {
		l.fail(p, "it comes after it was settled at %v: %v", p.settled, s)
	}
	l.checkCause(p, s)
	p.last = s
	return false
}

// checkCause holds a delivery that is not the first to its retry count, by what may have been its cause.
func (l *life) checkCause(p *parcel, s seen) {
	var may []int
	last := p.last
	timedOut := l.settings.MessageTimeout != persistent.Never && s.at+l.r.reality() >= last.at+l.settings.MessageTimeout
	if (p.again >= last.at || timedOut) && last.retries < l.settings.MaxRetries {
		may = append(may, last.retries+1)
	}
	if last.m.gone <= s.at+l.r.reality() || len(may) > 0 && l.went(last.at, s.at) {
		may = append(may, 1)
	}
	if !slices.Contains(may, s.retries) {
		l.fail(p, "it comes with %d retries, want one of %v: before it was %v", s.retries, may, last)
	}
}

// went reports whether a member went in some time: what the server sent to it in its last instant was not seen.
func (l *life) went(from, to time.Duration) bool {
	return slices.ContainsFunc(l.log, func(s seen) bool { return s.kind == sawGone && s.at >= from && s.at <= to+l.r.reality() })
}

// answered takes an answer.
func (l *life) answered(s seen) {
	p := l.parcels[s.id]
	if p == nil {
		return // of an older life; the client is held to what it got
	}
	last, apart := p.last, l.r.reality()
	final := s.verb != retries || last.retries >= l.settings.MaxRetries
	certain := final && s.m.gone > s.at+apart && last.m.gone > s.at+apart && p.answer < last.at &&
		(last.m == s.m || last.at+apart < s.at) &&
		(l.settings.MessageTimeout == persistent.Never || s.at+apart < last.at+l.settings.MessageTimeout)
	p.answer = s.at
	if !final {
		p.again = s.at
		return
	}
	p.final = min(p.final, s.at)
	ends := s.verb != retries && s.verb != parks
	p.finished = p.finished || ends
	if certain && p.settled == never {
		p.settled, p.stranger = s.at, last.m != s.m
		if !ends {
			p.parked = s.at
		}
	}
}

// checkPlaces holds the checkpoints: each is behind the one before, and never of what has not ended.
func (l *life) checkPlaces() {
	if l.r.real {
		return // with what a real server does about them
	}
	ended := make(map[int64]time.Duration)
	for _, p := range l.parcels {
		if !p.replayed {
			ended[p.number] = p.final
		}
	}
	for _, e := range l.parkedHere() {
		if at, ok := ended[e.number]; ok {
			ended[e.number] = min(at, e.at)
		}
	}
	before, first := l.checkpoint, true
	for _, c := range l.r.places {
		if c.group != l.group || c.at < l.from || c.at >= l.end {
			continue
		}
		if c.number < before || c.number == before && !first { // a group that begins anew writes the one that it began behind once more
			l.fail(nil, "the checkpoint %d comes behind %d", c.number, before)
		}
		first = false
		for n := before + 1; n <= c.number; n++ {
			if at, ok := ended[n]; !ok || at > c.at {
				l.fail(l.parcels[l.r.ids[n]], "the checkpoint %d of %v is ahead of event %d", c.number, c.at, n)
			}
		}
		before = c.number
	}
}

func (l *life) parkedHere() (here []parkedEntry) {
	for _, e := range l.r.parked {
		if e.group == l.group && e.at >= l.from && e.at < l.end {
			here = append(here, e)
		}
	}
	return here
}

// checkParked compares what was parked with what was to be.
func (l *life) checkParked() {
	here := l.parkedHere()
	for _, e := range here {
		var failed, asked bool
		for _, s := range l.log {
			if p := l.parcels[s.id]; p == nil || p.number != e.number || s.at > e.at+l.r.reality() {
				continue
			}
			asked = asked || s.kind == sawAnswer && s.verb == parks
			failed = failed || s.kind == sawDelivery && s.retries >= l.settings.MaxRetries
		}
		why := fmt.Sprintf("Reached retry count of %d", l.settings.MaxRetries)
		switch {
		case strings.Contains(e.reason, "explicitly NAK'ed") && asked:
		case strings.Contains(e.reason, why+`"`) && failed:
		case l.r.real && (asked || failed):
		default:
			l.fail(nil, "event %d is parked at %v for no reason: %s", e.number, e.at, e.reason)
		}
	}
	for _, p := range l.parcels {
		is := func(e parkedEntry) bool { return e.number == p.number && e.at+l.r.reality() >= p.parked }
		if p.parked != never && !slices.ContainsFunc(here, is) {
			l.fail(p, "it was to be parked at %v and is not", p.parked)
		}
	}
}

// hold is how long a line may hold up what a client has sent before it is noticed.
const hold = 6 * time.Second

// checkClients holds the members to what they got and what their users did: every message is handed out once, in its order, without
// a gap; an answer is sent once, and never without a user who gave it; and one that was taken is sent, unless the connection was lost.
func (r *groupRun) checkClients() string {
	sentTo := make(map[*member][]seen)
	type answer struct {
		m    *member
		id   uuid.UUID
		verb verb
	}
	given := make(map[answer][]act)
	for _, a := range r.acts {
		k := answer{a.m, a.id, a.verb}
		given[k] = append(given[k], a)
	}
	for _, s := range r.wire.log {
		switch s.kind {
		case sawDelivery:
			sentTo[s.m] = append(sentTo[s.m], s)
		case sawAnswer:
			k := answer{s.m, s.id, s.verb}
			if len(given[k]) == 0 || given[k][0].at > s.at {
				return fmt.Sprintf("nobody gave this answer: %v", s)
			}
			given[k] = given[k][1:]
		default:
		}
	}
	for _, left := range given {
		for _, a := range left {
			if strict := a.m.left && !r.lost[a.m]; strict || a.m.gone > a.at+a.delay+hold {
				return fmt.Sprintf("%v answered %s to %.8s at %v, which is never sent; gone at %v, left %t", a.m, a.verb, a.id, a.at, a.m.gone, a.m.left)
			}
		}
	}
	for _, g := range r.got {
		all := sentTo[g.m]
		if len(all) == 0 {
			return fmt.Sprintf("%v hands out %.8s, which it did not get", g.m, g.id)
		}
		if all[0].id != g.id || all[0].retries != g.retries {
			return fmt.Sprintf("%v hands out %.8s with %d retries instead of %v", g.m, g.id, g.retries, all[0])
		}
		sentTo[g.m] = all[1:]
	}
	return ""
}

// tell is what happened, for a run that failed.
func (r *groupRun) tell() string {
	var b strings.Builder
	fmt.Fprintf(&b, "plan of seed %d:\n%v", r.seed, r.groupPlan)
	for _, name := range slices.Sorted(maps.Keys(r.lines)) {
		fmt.Fprintf(&b, "lines of %s: %s\n", name, r.lines[name].Trace())
	}
	return b.String()
}
