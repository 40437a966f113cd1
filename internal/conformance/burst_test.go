package conformance_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/internal/memnet"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
	"github.com/goeventstore/eventstore/server"
)

// burst is what became of many writes that were under way on one path when the leader was killed.
type burst struct {
	Path       string
	Connection string
	Results    []burstResult
}

type burstResult struct {
	Answer string
	Stored bool
}

// inBurst is how many writes are under way at once, as was recorded.
const inBurst = 200

// replayBursts kills the leader of an embedded cluster as often as was recorded, while many writes are under way to it and through
// a follower. What was answered how and is stored or not has to be something that was recorded on that path, in some run; which
// of it is chance. Every answer that was recorded has to be met.
func replayBursts(t *testing.T, rec *recording) (p *playing) {
	t.Helper()
	rounds := readRounds[burst](t, rec)
	p = newPlaying(t, nil, rec, nil)
	for age := range len(rounds) / 2 {
		for _, ours := range killedInABurst(t, rec, time.Duration(age)*time.Millisecond) {
			var recorded []burstResult
			answers := map[string]bool{}
			for _, r := range rounds {
				if r.Path == ours.Path {
					require.Equal(t, r.Connection, ours.Connection)
					recorded = append(recorded, r.Results...)
				}
			}
			for _, r := range ours.Results {
				answers[r.Answer] = true
				require.Contains(t, recorded, r, "%s", ours.Path)
				p.compared++
			}
			for _, r := range recorded {
				require.True(t, answers[r.Answer], "%s: %s was not met: %v", ours.Path, r.Answer, ours.Results)
			}
		}
	}
	return p
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
		for path, id := range map[string]int{"to the master": leader, "forwarded by a slave": follower} {
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
		write(inBurst / 2)
		s.Kill(leader)
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
			for id, event := range c.asked {
				r := burstResult{"no answer", stored[string(messages.AppendGUID(nil, event))]}
				if answer, ok := answered[id]; ok {
					r.Answer = answer
				}
				if !slices.Contains(b.Results, r) {
					b.Results = append(b.Results, r)
				}
			}
			all = append(all, b)
		}
	})
	return all
}
