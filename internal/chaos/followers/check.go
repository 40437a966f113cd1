package followers

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/subscription"
)

// Rules are what the followers of a kind are held to, beside that nothing is left out and that events come in their order.
type Rules struct {
	Shared bool // the processes move one place together; else each has its own
	Loose  bool // only the places of which Life.Completes was said have to come to the end
	Once   bool // the process keeps the place itself: no event is handled twice
	Live   bool // it begins at the end
	Keyed  bool // the order counts for the events of one stream among each other
	AtOnce int  // calls of the handler at a time; 0 is one
	Batch  int  // events of one call at most; 0 is one
	GiveUp int  // failures after which an event is left; 0 is never
	// Effects: what is done counts as the effects say, not as the handlers do, which may be undone.
	Effects  bool
	Remote   bool // the store is behind the lines that fail
	Leased   bool // of the processes that share a place one works at a time
	Alone    bool // one handler of a process at a time, whoever has it called
	Patched  bool // the listener is patched
	Replayed bool // what is given up on is replayed, and all in the end
}

// check reports what is wrong with a run, "" for nothing.
func (r *Run) check() string {
	if len(r.problems) > 0 {
		return strings.Join(r.problems, "\n")
	}
	if wrong := r.checkTruth(); wrong != "" {
		return wrong
	}
	if wrong := r.checkEffects(); wrong != "" {
		return wrong
	}
	c := checker{Run: r, followed: make(map[string]*followed), legs: make(map[*Leg]*progress), resting: make(map[*Life]bool), busy: make(map[*Life]*Leg)}
	for i := range r.tape.entries {
		e := &r.tape.entries[i]
		if e.leg == nil && e.verb != truncates {
			continue
		}
		if wrong := c.entry(e); wrong != "" {
			return fmt.Sprintf("%v %v: %s", e.at, e.leg, wrong)
		}
	}
	for name, f := range c.followed {
		first := max(f.first, c.gone)
		if i := slices.Index(f.done[first:], false); r.must[name] && i >= 0 && !r.rules.Effects {
			return fmt.Sprintf("%s: nobody has handled %s", name, r.truth[first+i].text)
		}
		wrong := c.givenUp(f)
		if r.rules.Replayed {
			wrong = c.allReplayed(f)
		}
		if wrong != "" {
			return name + ": " + wrong
		}
	}
	return ""
}

// givenUp: what was left is kept, and nothing else is but what failed often enough.
func (c *checker) givenUp(f *followed) string {
	left := make(map[int]bool)
	for _, place := range c.Run.givenUp {
		at, err := c.index(place)
		if err != nil || at == 0 {
			return fmt.Sprintf("%v was given up on, which is not there: %v", place, err)
		}
		left[at-1] = true
		if !f.left[at-1] {
			return fmt.Sprintf("%s was given up on, and did not fail so often", c.truth[at-1].text)
		}
	}
	for i := range f.left {
		if !f.handled[i] && !left[i] {
			return fmt.Sprintf("%s was given up on, and is not kept", c.truth[i].text)
		}
	}
	return ""
}

// checkTruth compares what the source has with what was written: a wrong measure proves nothing.
func (r *Run) checkTruth() string {
	var got []string
	for _, s := range r.truth {
		if s.ours {
			got = append(got, s.data)
		}
	}
	if !slices.Equal(got, r.wanted) {
		return fmt.Sprintf("the source has %v, and what was written for it is %v", got, r.wanted)
	}
	return ""
}

// checker walks along the tape.
type checker struct {
	*Run
	followed map[string]*followed
	legs     map[*Leg]*progress
	resting  map[*Life]bool
	busy     map[*Life]*Leg // whose handler has an event, if there is to be one at a time
	gone     int            // what is before this index was truncated
}

// followed is how far the events have come that a name is for.
type followed struct {
	first         int // index of the first event that it is to get
	known         bool
	done          []bool // handled, or failed so often that it may be left
	handled, left map[int]bool
	saved         int // what the store has for certain: all before this index
}

// progress is how far a leg has come.
type progress struct {
	begun  bool // where it begins is known
	first  int
	since  int // the index of what had been written for it when it last began to catch up
	states map[int]*state
	atOnce int
	live   bool
	saved  int
	stale  bool // another has the lease
	late   bool // and had it before this one began to save
}

type state struct {
	underWay bool
	done     bool
	failures int
}

// index is how many events are before a place.
func (r *Run) index(place eventstore.From) (int, error) {
	if place.IsEnd() {
		return 0, fmt.Errorf("a place %q", place)
	}
	for i, s := range r.truth {
		c, err := s.behind.Compare(place)
		if err != nil {
			return 0, err
		}
		if c > 0 {
			return i, nil
		}
	}
	return len(r.truth), nil
}

// behindOurs is the index behind the first n events that the plan has written.
func (r *Run) behindOurs(n int) int {
	if r.source.projections {
		return 0 // the links come later
	}
	for i, s := range r.truth {
		if n == 0 {
			return i
		}
		if s.ours {
			n--
		}
	}
	return len(r.truth)
}

func (c *checker) entry(e *entry) string {
	if e.verb == truncates {
		return c.truncated(e)
	}
	f, p := c.followed[e.leg.name], c.legs[e.leg]
	if f == nil {
		f = &followed{done: make([]bool, len(c.truth)), handled: make(map[int]bool), left: make(map[int]bool)}
		c.followed[e.leg.name] = f
	}
	if p == nil {
		p = &progress{states: make(map[int]*state), since: c.behindOurs(e.acked)}
		c.legs[e.leg] = p
	}
	switch e.verb {
	case begins:
		if e.place.IsEnd() { // nothing is known to the store, also if it was told
			f.known = false
			return ""
		}
		return c.begins(f, p, e)
	case handed:
		return c.handed(f, p, e)
	case finished:
		return c.ends(p, e, func(i int, s *state) { s.done, f.done[i], f.handled[i] = true, true, true })
	case failed:
		return c.ends(p, e, func(i int, s *state) {
			s.failures++
			if c.rules.GiveUp > 0 && s.failures >= c.rules.GiveUp {
				s.done, f.done[i], f.left[i] = true, true, true
			}
		})
	case missed:
		return c.missed(f, p, e)
	case saves:
		p.late = p.stale
		return c.saves(f, p, e)
	case saved:
		at, err := c.index(e.place)
		if err != nil {
			return err.Error()
		}
		if p.late {
			return fmt.Sprintf("it has saved %v, and another had the lease before it began to", e.place)
		}
		f.saved = max(f.saved, at)
	case owns:
		for leg, p := range c.legs { // those that have got theirs before
			if leg.name == e.leg.name && leg.life.name != e.text && leg.leased < e.since {
				p.stale = true
			}
		}
	case rests:
		c.resting[e.leg.life] = true
		if e.place.IsEnd() { // it has not begun yet
			return ""
		}
		return c.behind(f, e)
	case resumes:
		c.resting[e.leg.life] = false
	case patched:
		return c.patched(f, p, e)
	case replays, replayed, refuses:
		return c.replay(f, e)
	case told:
		return c.told(p, e)
	default:
	}
	return ""
}

func (c *checker) begins(f *followed, p *progress, e *entry) string {
	at, err := c.index(e.place)
	if err != nil {
		return err.Error()
	}
	if at < f.saved {
		return fmt.Sprintf("it begins at %v, and what was saved is behind %v", e.place, c.truth[f.saved-1].behind)
	}
	if !f.known {
		f.known, f.first = true, at
	}
	p.begun, p.first, p.saved = true, at, at
	for i := max(f.first, c.gone); i < at && c.rules.Once; i++ {
		if !f.done[i] {
			return fmt.Sprintf("it begins at %v, and nobody has handled %s", e.place, c.truth[i].text)
		}
	}
	return ""
}

func (c *checker) handed(f *followed, p *progress, e *entry) string {
	if len(e.events) > max(1, c.rules.Batch) {
		return fmt.Sprintf("%d events at once", len(e.events))
	}
	if wrong := c.alone(e); wrong != "" {
		return wrong
	}
	if c.resting[e.leg.life] && !e.leg.aside {
		return fmt.Sprintf("it gets %s, and is to rest", e.events[0].text)
	}
	if p.stale && !e.leg.life.still {
		return fmt.Sprintf("it gets %s, and another has the lease", e.events[0].text)
	}
	if p.atOnce++; p.atOnce > max(1, c.rules.AtOnce) {
		return fmt.Sprintf("%d calls of the handler at once", p.atOnce)
	}
	for _, s := range e.events {
		i, err := c.index(s.behind)
		if err != nil {
			return err.Error()
		}
		i--
		if i < 0 || c.truth[i] != s {
			return fmt.Sprintf("it gets %v %s, which is not there", s.behind, s.text)
		}
		if !p.begun { // from the end
			p.begun, p.first = true, i
			if !f.known {
				f.known, f.first = true, i
			}
		}
		st := p.states[i]
		if st == nil {
			st = &state{}
			p.states[i] = st
		}
		switch {
		case i < p.first:
			return fmt.Sprintf("it gets %s, and has begun behind it", s.text)
		case st.underWay:
			return fmt.Sprintf("it gets %s, which it is busy with", s.text)
		case c.rules.Effects: // it may come again, as what was done was undone
		case f.handled[i] && st.done, c.rules.Once && f.done[i]:
			return fmt.Sprintf("it gets %s again, which it has handled", s.text)
		}
		for j := max(p.first, c.gone); j < i && !c.rules.Effects; j++ {
			if c.rules.Keyed && c.truth[j].stream != s.stream || !e.leg.wants(c.truth[j]) {
				continue
			}
			if before := p.states[j]; before == nil || !before.done && !slices.Contains(e.events, c.truth[j]) {
				return fmt.Sprintf("it gets %s, and has not handled %s", s.text, c.truth[j].text)
			}
		}
		st.underWay = true
	}
	return ""
}

func (c *checker) ends(p *progress, e *entry, each func(int, *state)) string {
	p.atOnce--
	delete(c.busy, e.leg.life)
	for _, s := range e.events {
		i, err := c.index(s.behind)
		if err != nil || p.states[i-1] == nil || c.truth[i-1] != s {
			return fmt.Sprintf("it is done with %s, which it did not get: %v", s.text, err)
		}
		p.states[i-1].underWay = false
		each(i-1, p.states[i-1])
	}
	return ""
}

// missed: it is told how many events it will not get, and where they are.
func (c *checker) missed(f *followed, p *progress, e *entry) string {
	from, err := c.index(e.from)
	until, err2 := c.index(e.place)
	if err := errors.Join(err, err2); err != nil {
		return err.Error()
	}
	var lost int64
	for i := p.first; i < until; i++ {
		if p.states[i] != nil || !e.leg.wants(c.truth[i]) {
			continue
		}
		if i < from {
			return fmt.Sprintf("it has missed %s, and is told that it has missed nothing before %v", c.truth[i].text, e.from)
		}
		p.states[i], f.done[i] = &state{done: true}, true
		lost++
	}
	if lost != e.count {
		return fmt.Sprintf("it is told that it has missed %d events, these are %d", e.count, lost)
	}
	return ""
}

func (c *checker) saves(f *followed, p *progress, e *entry) string {
	at, err := c.index(e.place)
	if err != nil {
		return err.Error()
	}
	if !p.begun { // from the end, where that is
		if at < p.since {
			return fmt.Sprintf("it begins at %v, which is before what was there", e.place)
		}
		p.begun, p.first = true, at
		if !f.known {
			f.known, f.first = true, at
		}
	}
	if at < p.saved {
		return fmt.Sprintf("it saves %v, and has saved what is behind it", e.place)
	}
	p.saved = at
	return c.behind(f, e)
}

// behind: everything before the place of an entry is done.
func (c *checker) behind(f *followed, e *entry) string {
	at, err := c.index(e.place)
	if err != nil {
		return err.Error()
	}
	for i := max(f.first, c.gone); i < at; i++ {
		if !f.done[i] {
			return fmt.Sprintf("it %s %v, and nobody has handled %s", e.verb, e.place, c.truth[i].text)
		}
	}
	return ""
}

func (c *checker) told(p *progress, e *entry) string {
	switch e.notice {
	case subscription.CaughtUp:
		if p.live {
			return "it has caught up twice"
		}
		p.live = true
		for i := max(p.first, c.gone); i < p.since && p.begun && !c.rules.Effects; i++ {
			if st := p.states[i]; st == nil || !st.done {
				return fmt.Sprintf("it has caught up without %s", c.truth[i].text)
			}
		}
	case subscription.FellBehind:
		if !p.live {
			return "it falls behind, and was not there"
		}
		if p.live, p.since = false, 0; c.rules.Once { // else it may have happened a while ago: a listener is told when it has done what came before
			p.since = c.behindOurs(e.acked)
		}
	default:
	}
	return ""
}
