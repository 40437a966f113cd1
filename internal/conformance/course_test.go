package conformance_test

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// How far a cluster may be from its recording. A recorded failover took from 0.1 s to 1.7 s until a write was accepted, by
// chance (12 rounds of election-times-kill.jsonl), so that no two runs of a real cluster are nearer to each other than this.
const (
	electionSpread = 1800 * time.Millisecond
	// answerSpread is how much longer or shorter than twice or half as long as recorded an answer may take.
	answerSpread = 500 * time.Millisecond
	// late is when an event that comes to a subscription was held back: its write was asked for so long before.
	late = 500 * time.Millisecond
)

// traffic is what went over the connections to the nodes of a cluster: what was recorded, or ours.
type traffic struct {
	frames []sent           // in the order of their times
	nodes  map[int32]string // by the ports for clients
}

// sent is a frame that went over a connection.
type sent struct {
	*line
	at       time.Duration
	toServer bool
}

// A course is what became of the requests of one kind on one connection, one after the other, or of a subscription: what
// came of it. Neighbours that are alike are one run.
type course struct {
	lane string
	runs []run
}

// run is a number of requests with the same outcome.
type run struct {
	n           int // line of the first
	outcome     string
	first       time.Duration // when it was sent, or came by itself
	least, most time.Duration // until the answer
}

func (c *course) String() string {
	var outcomes []string
	for _, r := range c.runs {
		outcomes = append(outcomes, r.outcome)
	}
	return strings.Join(outcomes, ", ")
}

// add adds what became of one more request.
func (c *course) add(n int, outcome string, at, took time.Duration) {
	if last := len(c.runs) - 1; last >= 0 && c.runs[last].outcome == outcome {
		c.runs[last].least, c.runs[last].most = min(c.runs[last].least, took), max(c.runs[last].most, took)
		return
	}
	c.runs = append(c.runs, run{n, outcome, at, took, took})
}

// variants are the course as it is, and without one or more of the runs that chance decides on, those with the most left first.
func (c *course) variants(chances []chance) []*course {
	all := []*course{{lane: c.lane}}
	for _, r := range c.runs {
		var with []*course
		for _, v := range all {
			longer := &course{lane: v.lane, runs: slices.Clone(v.runs)}
			if last := len(longer.runs) - 1; last >= 0 && longer.runs[last].outcome == r.outcome {
				longer.runs[last].least, longer.runs[last].most = min(longer.runs[last].least, r.least), max(longer.runs[last].most, r.most)
			} else {
				longer.runs = append(longer.runs, r)
			}
			with = append(with, longer)
		}
		if mayBe(chances, c.lane, r.outcome) {
			with = append(with, all...)
		}
		all = with
	}
	slices.SortStableFunc(all, func(a, b *course) int { return len(b.runs) - len(a.runs) })
	return all
}

// alike returns what two courses have in common when they differ by nothing but chance, else the two.
func alike(recorded, ours *course, chances []chance) (r, o *course) {
	of := ours.variants(chances)
	for _, r := range recorded.variants(chances) {
		for _, o := range of {
			if r.String() == o.String() {
				return r, o
			}
		}
	}
	return recorded, ours
}

// mayBe reports whether an outcome may be met or not.
func mayBe(chances []chance, lane, outcome string) bool {
	return slices.ContainsFunc(chances, func(c chance) bool { return c.lane == lane && c.outcome == outcome })
}

// laneOf names the requests that are alike.
func laneOf(f *sent) string {
	name := f.conn + " " + f.command.String()
	m := messageOf(f.command)
	if asks, ok := m.(interface{ GetRequireLeader() bool }); ok && decode(f.body, m) == nil && asks.GetRequireLeader() {
		name += " by the leader"
	}
	if f.auth != nil {
		name += " with login"
	}
	return name
}

// courses returns what became of all requests, by their kinds, in the order in which these were first asked.
func (t *traffic) courses() []*course {
	var all []*course
	answers := map[exchange][]*sent{}
	asked := map[string]time.Duration{} // when an event was to be written, by its id
	for i := range t.frames {
		f := &t.frames[i]
		if !f.toServer {
			answers[f.exchange()] = append(answers[f.exchange()], f)
		} else if f.command == messages.WriteEvents {
			var m pb.WriteEvents
			_ = decode(f.body, &m)
			for _, e := range m.GetEvents() {
				asked[string(e.GetEventId())] = f.at
			}
		}
	}
	for i := range t.frames {
		f := &t.frames[i]
		if !f.toServer || f.command == messages.HeartbeatResponse {
			continue
		}
		lane := laneOf(f)
		k := slices.IndexFunc(all, func(c *course) bool { return c.lane == lane })
		if k < 0 {
			k = len(all)
			all = append(all, &course{lane: lane})
		}
		got := answers[f.exchange()]
		subscribes := f.command == messages.SubscribeToStream || f.command == messages.ConnectToPersistentSubscription
		switch {
		case subscribes:
			for _, a := range got {
				all[k].add(a.n, t.pushed(a, asked), a.at, 0)
			}
			all = append(all, numbersOf(lane, got))
		case len(got) == 0:
			all[k].add(f.n, "no answer", f.at, 0)
		default:
			all[k].add(f.n, t.outcome(got[0]), f.at, got[0].at-f.at)
		}
	}
	return all
}

// pushed is what a subscription got.
func (t *traffic) pushed(f *sent, asked map[string]time.Duration) string {
	e := eventOf(f)
	if e == nil {
		return t.outcome(f)
	}
	if written, ok := asked[string(e.GetEventId())]; ok && f.at-written > late {
		return "late event"
	}
	return "event"
}

// eventOf is the event that a subscription got, nil if it got something else.
func eventOf(f *sent) *pb.EventRecord {
	switch f.command {
	case messages.StreamEventAppeared:
		var m pb.StreamEventAppeared
		_ = decode(f.body, &m)
		return m.GetEvent().GetEvent()
	case messages.PersistentSubscriptionStreamEventAppeared:
		var m pb.PersistentSubscriptionStreamEventAppeared
		_ = decode(f.body, &m)
		return m.GetEvent().GetEvent()
	}
	return nil
}

// numbersOf is whether a subscription got one event after the other.
func numbersOf(lane string, got []*sent) *course {
	c := &course{lane: lane + ", numbers"}
	next := int64(-1)
	for _, a := range got {
		e := eventOf(a)
		switch {
		case e == nil:
			continue
		case next >= 0 && e.GetEventNumber() != next:
			c.add(a.n, fmt.Sprintf("%d instead of %d", e.GetEventNumber(), next), a.at, 0)
		default:
			c.add(a.n, "one by one", a.at, 0)
		}
		next = e.GetEventNumber() + 1
	}
	return c
}

// outcome is what an answer says, as far as that is no matter of chance.
func (t *traffic) outcome(f *sent) string {
	switch f.command {
	case messages.NotHandled:
		var m pb.NotHandled
		_ = decode(f.body, &m)
		if m.GetReason() != pb.NotHandled_NotLeader {
			return m.GetReason().String()
		}
		var hint pb.LeaderInfo
		_ = decode(m.GetAdditionalInfo(), &hint)
		return pointsTo(t.nodes[hint.GetExternalTcpPort()])
	case messages.WriteEventsCompleted:
		var m pb.WriteEventsCompleted
		_ = decode(f.body, &m)
		return m.GetResult().String()
	case messages.ReadEventCompleted:
		var m pb.ReadEventCompleted
		_ = decode(f.body, &m)
		return "ReadEvent " + m.GetResult().String()
	case messages.ReadStreamEventsForwardCompleted:
		var m pb.ReadStreamEventsCompleted
		_ = decode(f.body, &m)
		return "ReadStream " + m.GetResult().String()
	}
	return f.command.String()
}

func pointsTo(node string) string { return "NotLeader -> " + cmp.Or(node, "a node that is not there") }

// compareCourses compares what was recorded with ours. The requests are the same ones.
func compareCourses(recorded, ours []*course, chances []chance, loose time.Duration) (found []difference, compared int) {
	for _, r := range recorded {
		o := &course{lane: r.lane}
		if i := slices.IndexFunc(ours, func(c *course) bool { return c.lane == r.lane }); i >= 0 {
			o = ours[i]
		}
		r, o := alike(r, o, chances)
		n := 0
		if len(r.runs) > 0 {
			n = r.runs[0].n
		}
		if r.String() != o.String() {
			found = append(found, difference{n, r.lane, r.String(), o.String()})
			continue
		}
		for i := range r.runs {
			found = append(found, compareRuns(r.lane, &r.runs[i], &o.runs[i], loose)...)
			compared++
		}
	}
	return found, compared
}

func compareRuns(lane string, r, o *run, loose time.Duration) (found []difference) {
	if off := o.first - r.first; off < -electionSpread-loose || off > electionSpread+loose {
		found = append(found, difference{r.n, lane + ", " + r.outcome + " from", inMs(r.first), inMs(o.first)})
	}
	if !sameMagnitude(r.least, o.least) || !sameMagnitude(r.most, o.most) {
		found = append(found, difference{
			r.n, lane + ", " + r.outcome + " after", inMs(r.least) + " to " + inMs(r.most), inMs(o.least) + " to " + inMs(o.most),
		})
	}
	return found
}

func sameMagnitude(recorded, ours time.Duration) bool {
	return ours <= 2*recorded+answerSpread && ours >= recorded/2-answerSpread
}

func inMs(d time.Duration) string { return fmt.Sprintf("%d ms", d.Milliseconds()) }
