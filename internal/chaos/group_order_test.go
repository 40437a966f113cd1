package chaos_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/goeventstore/eventstore/persistent"
)

// firsts are the first deliveries of the events of the stream: in their order, without a gap, but that a pinned strategy passes over
// those whose consumer is full.
type firsts struct {
	*life
	start, most, count int64
	missing            int64            // at most so many were sent to members whose lines had just broken, and did not come since
	last               map[string]int64 // by member, and by what is pinned
	now                map[string]int64 // what this instant adds to it
}

func newFirsts(l *life) *firsts {
	return &firsts{life: l, start: l.checkpoint + 1, most: l.checkpoint, last: make(map[string]int64), now: make(map[string]int64)}
}

func (f *firsts) add(p *parcel, s seen) {
	of := []string{s.m.String()}
	if f.pinned() {
		pin := f.pin(s)
		f.now[pin] = max(f.now[pin], p.number) // another member may have had it in this instant
		of = []string{pin, s.m.String() + pin}
	}
	for _, of := range of {
		if before, ok := f.last[of]; ok && p.number <= before {
			f.fail(p, "it comes behind event %d of %s", before, of)
		}
	}
	f.last[of[len(of)-1]] = p.number
}

// check ends an instant: no more are passed over than fit into the windows of who went.
func (f *firsts) check(instant []seen) {
	missing := f.most - f.start + 1 - f.count
	for _, e := range instant {
		if e.kind == sawGone {
			f.missing += int64(e.m.window)
		}
	}
	if !f.pinned() && !f.r.real && missing > f.missing {
		f.fail(nil, "at %v: %d events from %d on were delivered, up to %d", instant[0].at, f.count, f.start, f.most)
	}
	maps.Copy(f.last, f.now)
}

func (l *life) pinned() bool {
	return l.settings.Strategy == persistent.Pinned || l.settings.Strategy == persistent.PinnedByCorrelation
}

// pin is what an event is pinned by: its correlation, which a link that is not followed does not have, or the stream that it is in.
func (l *life) pin(s seen) string {
	number := l.parcels[s.id].number
	if l.settings.Strategy == persistent.PinnedByCorrelation && s.source != l.r.main {
		return fmt.Sprintf("correlation %d", l.r.by[number])
	}
	_, source, _ := strings.Cut(l.r.links[number], "@")
	return "stream " + source
}

// slots are the places in the windows that messages take, by two counts: the least that the server can have had in mind, which a
// window must hold, and the most, below which a consumer certainly had room.
type slots struct {
	*life
	least, most map[*member]map[uuid.UUID]time.Duration
	members     []*member
	answers     map[uuid.UUID]int // of this instant, to messages that did not come again since
}

func newSlots(l *life) *slots {
	return &slots{life: l, answers: make(map[uuid.UUID]int), least: make(map[*member]map[uuid.UUID]time.Duration), most: make(map[*member]map[uuid.UUID]time.Duration)}
}

func (s *slots) delivered(e seen) {
	for _, held := range s.least {
		delete(held, e.id)
	}
	for _, all := range []map[*member]map[uuid.UUID]time.Duration{s.least, s.most} {
		if all[e.m] == nil {
			all[e.m] = make(map[uuid.UUID]time.Duration)
		}
		all[e.m][e.id] = e.at
	}
	if s.answers[e.id] > 1 { // of two answers to a message that came twice the server took one before and one behind this
		delete(s.least[e.m], e.id)
	}
	s.answers[e.id] = max(s.answers[e.id]-1, 0)
	n := 0
	for _, since := range s.least[e.m] {
		if s.settings.MessageTimeout == persistent.Never || e.at+s.r.reality() < since+s.settings.MessageTimeout {
			n++
		}
	}
	if n > e.m.window {
		s.fail(s.parcels[e.id], "%v has %d messages in a window of %d", e.m, n, e.m.window)
	}
}

func (s *slots) answered(e seen) {
	s.answers[e.id]++
	for _, held := range s.least {
		delete(held, e.id)
	}
}

// full reports whether a consumer may have been full in this instant.
func (s *slots) full(m *member) bool { return len(s.most[m]) >= m.window }

// present takes who came in an instant.
func (s *slots) present(instant []seen) {
	for _, e := range instant {
		if e.kind == sawConnect && !slices.Contains(s.members, e.m) {
			s.members = append(s.members, e.m)
		}
	}
}

// after frees what became free in an instant.
func (s *slots) after(instant []seen) {
	clear(s.answers)
	type slot struct {
		m  *member
		id uuid.UUID
	}
	again := make(map[slot]bool) // taken once more behind the answer
	for _, e := range slices.Backward(instant) {
		switch e.kind {
		case sawAnswer:
			if !again[slot{e.m, e.id}] {
				delete(s.most[e.m], e.id)
			}
		case sawDelivery:
			again[slot{e.m, e.id}] = true
			for m, held := range s.most {
				if m != e.m && !again[slot{m, e.id}] {
					delete(held, e.id)
				}
			}
		case sawGone:
			delete(s.most, e.m)
			s.members = slices.DeleteFunc(s.members, func(m *member) bool { return m == e.m })
		case sawConnect:
		}
	}
}

// rules are what a strategy promises.
type rules interface {
	// instant takes what happened in an instant, and says what is wrong with it.
	instant(instant []seen, changed bool, s *slots) string
}

// anyOrder is for times that are not exact.
type anyOrder struct{ *life }

func (*anyOrder) instant([]seen, bool, *slots) string { return "" }

// single is DispatchToSingle: one consumer gets everything until it is full; then the next one is the one, and stays it.
type single struct{ target *member }

func (d *single) instant(instant []seen, changed bool, s *slots) string {
	var to, roomy []*member
	for _, e := range instant {
		if e.kind == sawDelivery && !slices.Contains(to, e.m) {
			to = append(to, e.m)
			if !s.full(e.m) {
				roomy = append(roomy, e.m)
			}
		}
	}
	if changed {
		d.target = nil
		return ""
	}
	if d.target != nil && !s.full(d.target) && slices.ContainsFunc(to, func(m *member) bool { return m != d.target }) {
		return fmt.Sprintf("%v get events, while %v has room", to, d.target)
	}
	if len(roomy) > 1 {
		return fmt.Sprintf("%v get events, and all have room", roomy)
	}
	if len(to) > 0 {
		d.target = nil
		if len(roomy) == 1 {
			d.target = roomy[0]
		}
	}
	return ""
}

// rotation is RoundRobin: consumers that have room take turns.
type rotation struct {
	sent  map[*member]int
	pairs map[[2]*member][2]int // how far one was ahead of the other, at least and at most, since both have room
}

func (d *rotation) instant(instant []seen, changed bool, s *slots) string {
	if changed || d.pairs == nil {
		d.pairs = make(map[[2]*member][2]int)
	}
	if d.sent == nil {
		d.sent = make(map[*member]int)
	}
	for _, e := range instant {
		if e.kind == sawDelivery {
			d.sent[e.m]++
		}
	}
	for i, a := range s.members {
		for _, b := range s.members[:i] {
			pair, ahead := [2]*member{a, b}, d.sent[a]-d.sent[b]
			if s.full(a) || s.full(b) || changed {
				delete(d.pairs, pair)
				continue
			}
			span, ok := d.pairs[pair]
			if !ok {
				span = [2]int{ahead, ahead}
			}
			span = [2]int{min(span[0], ahead), max(span[1], ahead)}
			d.pairs[pair] = span
			if span[1]-span[0] > 1 {
				return fmt.Sprintf("%v and %v both have room, and one got %d more than the other meanwhile", a, b, span[1]-span[0])
			}
		}
	}
	return ""
}

// pinning is Pinned and PinnedByCorrelation: what belongs together goes to one consumer, as long as nobody comes or goes.
type pinning struct {
	*life
	last map[string]seen
}

func (d *pinning) instant(instant []seen, _ bool, _ *slots) string {
	if d.last == nil {
		d.last = make(map[string]seen)
	}
	for _, e := range instant {
		if e.kind != sawDelivery {
			continue
		}
		pin := d.pin(e)
		before, ok := d.last[pin]
		moved := slices.ContainsFunc(d.changes, func(at time.Duration) bool { return at >= before.at && at <= e.at })
		if ok && before.m != e.m && !moved {
			return fmt.Sprintf("%s goes from %v to %v, and nobody came or went since %v", pin, before.m, e.m, before.at)
		}
		d.last[pin] = e
	}
	return ""
}
