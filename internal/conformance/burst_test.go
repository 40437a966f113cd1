package conformance_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/internal/memnet"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
	"github.com/goeventstore/eventstore/server"
)

// burst is what became of many writes that were under way on one path when the leader was killed.
type burst struct {
	Run          int
	Path         string
	Sent, Stored int
	Connection   string
	Results      []burstResult
}

// burstResult is how many writes were answered how, and are stored or not.
type burstResult struct {
	Answer string
	Stored bool
	Count  int
}

func (r burstResult) String() string {
	if r.Stored {
		return r.Answer + ", stored"
	}
	return r.Answer + ", not stored"
}

// inBurst is how many writes are under way at once, as was recorded.
const inBurst = 200

// burstPaths are the ways that writes go, as the recording has them.
const (
	toLeader  = "to the master"
	forwarded = "forwarded by a slave"
)

// replayBursts kills the leader of an embedded cluster as often as was recorded, while many writes are under way to it and through
// a follower.
func replayBursts(t *testing.T, rec *recording) (p *playing) {
	t.Helper()
	rounds := readRounds[burst](t, rec)
	var ours []burst
	for age := range len(rounds) / 2 {
		ours = append(ours, killedInABurst(t, rec, time.Duration(age)*time.Millisecond)...)
	}
	p = newPlaying(t, nil, rec, nil)
	p.compareBursts(rounds, ours)
	return p
}

// burstAspects are what is compared of the bursts of a path.
var burstAspects = []struct {
	name string
	of   func(*burst) []string
}{
	{" connection", func(b *burst) []string { return []string{b.Connection} }},
	{" answers", func(b *burst) []string { return []string{b.answers()} }},
	{"", (*burst).results},
	{" in number", func(b *burst) []string { return []string{b.numbers()} }},
}

// compareBursts compares what became of the writes. Which run has what is chance. But on a path what was answered how, and is stored
// or not, has to be the same in all runs together, and so has which answers there were in a run.
func (p *playing) compareBursts(rounds, ours []burst) {
	for i, r := range rounds {
		run := fmt.Sprint(i/2+1, " ", []string{toLeader, forwarded}[i%2])
		if is := fmt.Sprint(r.Run, " ", r.Path); is != run {
			p.differs(i+1, "run", is, run)
		}
	}
	for _, path := range []string{toLeader, forwarded} {
		for _, aspect := range burstAspects {
			recorded, lines := met(rounds, path, aspect.of)
			have, _ := met(ours, path, aspect.of)
			for _, is := range recorded {
				if !slices.Contains(have, is) {
					p.differs(lines[is], path+aspect.name, is, none)
				}
				p.compared++
			}
			for _, is := range have {
				if !slices.Contains(recorded, is) {
					p.differs(len(rounds), path+aspect.name, none, is)
				}
			}
		}
	}
}

// met is all that was met on a path, and in which line first.
func met(bursts []burst, path string, of func(*burst) []string) (all []string, lines map[string]int) {
	lines = map[string]int{}
	for i := range bursts {
		if bursts[i].Path != path {
			continue
		}
		for _, is := range of(&bursts[i]) {
			if lines[is] == 0 {
				all, lines[is] = append(all, is), i+1
			}
		}
	}
	return all, lines
}

// answers are those that there were.
func (b *burst) answers() string {
	var all []string
	for _, r := range b.Results {
		all = append(all, r.Answer)
	}
	slices.Sort(all)
	return strings.Join(slices.Compact(all), ", ")
}

func (b *burst) results() (all []string) {
	for _, r := range b.Results {
		all = append(all, r.String())
	}
	return all
}

// numbers is whether each write became something, and no more than were under way nothing good.
func (b *burst) numbers() string {
	all, stored, unknown := 0, 0, 0
	for _, r := range b.Results {
		all += r.Count
		if r.Stored {
			stored += r.Count
		}
		if r.Answer != "Success" {
			unknown += r.Count
		}
	}
	switch {
	case all != b.Sent || stored != b.Stored:
		return fmt.Sprintf("%d of %d, %d of %d stored", all, b.Sent, stored, b.Stored)
	case unknown > inBurst+1: // one was written while the others were looked at
		return fmt.Sprintf("%d were under way", unknown)
	}
	return "all, and no more unknown than were under way"
}

// killedInABurst is one run. Half of the writes that are under way are of some age when the leader is killed.
func killedInABurst(t *testing.T, rec *recording, age time.Duration) (all []burst) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		network := memnet.New()
		s := eventstoretest.Cluster(t, 3, eventstoretest.OnNetwork(network), eventstoretest.WithServer(server.Config{Dialect: rec.dialect()}))
		leader, follower := s.Leader(), s.Followers()[0]
		type sender struct {
			*peer
			path   string
			stream string
			asked  map[messages.ID]uuid.UUID
		}
		var senders []*sender
		for path, id := range map[string]int{toLeader: leader, forwarded: follower} {
			senders = append(senders, &sender{dialPeer(t, clusterNode{s.Cluster, network, id}), path, "s-" + path, map[messages.ID]uuid.UUID{}})
		}
		write := func(count int) {
			for _, c := range senders {
				for range count {
					event := messages.NewEvent{ID: uuid.New(), Type: "t"}
					c.asked[c.send(&messages.Append{Stream: c.stream, Expected: -2, Events: []messages.NewEvent{event}})] = event.ID
				}
			}
		}
		for range 10 {
			write(inBurst)
			time.Sleep(10 * time.Millisecond) // they are answered
		}
		write(inBurst / 2)
		time.Sleep(age)
		synctest.Wait()
		s.Partition(leader) // what a process that is killed has not sent yet is lost
		write(inBurst / 2)
		synctest.Wait()
		s.Kill(leader)
		s.Heal()
		time.Sleep(10 * time.Second) // all that was forwarded has timed out
		reader := dialPeer(t, clusterNode{s.Cluster, network, s.Leader()})
		for _, c := range senders {
			b := burst{Path: c.path, Connection: "open"}
			c.mu.Lock()
			if c.end != nil {
				b.Connection = ending(c.end)
			}
			c.mu.Unlock()
			stored := map[string]bool{}
			for from, end := int64(0), false; !end; {
				var m pb.ReadStreamEventsCompleted
				reader.call(&messages.StreamRead{Stream: c.stream, From: from, Count: 4000}).into(t, messages.ReadStreamEventsForwardCompleted, &m)
				for _, e := range m.GetEvents() {
					stored[string(e.GetEvent().GetEventId())] = true
				}
				from, end = m.GetNextEventNumber(), m.GetIsEndOfStream()
			}
			answered := map[messages.ID]string{}
			for _, a := range c.rest() {
				answered[a.id] = (&traffic{}).outcome(&sent{line: &line{command: a.command, body: a.body}})
			}
			b.Sent, b.Stored = len(c.asked), len(stored)
			for id, event := range c.asked {
				is := burstResult{Answer: "no answer", Stored: stored[string(messages.AppendGUID(nil, event))]}
				if answer, ok := answered[id]; ok {
					is.Answer = answer
				}
				i := slices.IndexFunc(b.Results, func(r burstResult) bool { return r.Answer == is.Answer && r.Stored == is.Stored })
				if i < 0 {
					i = len(b.Results)
					b.Results = append(b.Results, is)
				}
				b.Results[i].Count++
			}
			all = append(all, b)
		}
	})
	return all
}
