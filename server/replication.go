package server

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
	"github.com/goeventstore/eventstore/server/internal/quorum"
	"github.com/goeventstore/eventstore/server/internal/store"
)

// replication is what the writer of a node of a cluster has beside that of a server of its own. What the leader's writer
// decides is staged in its store and proposed to the cluster, and neither shown nor answered before a majority has it;
// meanwhile it goes on, so that many proposals may wait. What is not answered in time is told so, and may be committed all
// the same. The writers of other nodes stage what is committed, and forward what they are asked to write.
//
// All of it happens under the cluster's lock, so that no writer works with a log that is not the one that there is.
type replication struct {
	node *clusterNode
	// timer is for what is due first.
	timer *time.Timer

	leads  bool
	reign  uint64
	taken  int // entries of the log that are staged or shown
	shown  int // entries that are shown
	leader int // negative when there is none

	records   []store.Record // of the batch at hand
	proposals []proposal     // that are not shown
	forwarded []*forwarded   // that are not answered, in the order in which they are due
}

// proposal is what the leader has staged at once, and is shown at once.
type proposal struct {
	entries  int // of the log with it
	tip      store.Tip
	streams  []string
	requests []*request // nil once they have timed out
	due      time.Time
}

func newReplication(n *clusterNode) *replication {
	r := &replication{node: n, timer: time.NewTimer(time.Hour)}
	r.timer.Stop()
	w := n.cluster.world // whoever starts a node has the lock
	r.taken = w.Status(n.id).Committed
	r.shown = r.taken
	n.shown.Store(int64(r.shown))
	return r
}

// takeNews looks at what the cluster has for this node.
func (w *writer) takeNews() {
	w.enter()
	w.leave()
}

// enter takes the cluster's lock and makes the writer one of the node as it is now. It reports false when the node has ended.
func (w *writer) enter() bool {
	r := w.replication
	r.node.gate.wait(w.server.stop)
	world := r.node.cluster.lock()
	for world.Paused(r.node.id) && !r.node.ended {
		r.node.cluster.unlock()
		r.node.gate.wait(w.server.stop)
		world = r.node.cluster.lock()
	}
	if r.node.ended || !world.Up(r.node.id) {
		return false
	}
	s := world.Status(r.node.id)
	if r.leads && (!s.Leads || s.Reign != r.reign) {
		w.deposed()
	}
	r.leader = s.Leader
	if err := w.follow(&s); err != nil {
		w.server.log.LogAttrs(context.Background(), slog.LevelError, "the log of the cluster could not be taken up", slog.Any("err", err))
		return false
	}
	world.Taken(r.node.id, r.taken)
	if s.Leads && !r.leads {
		w.enthroned(&s)
	}
	w.takeReplies()
	return true
}

// leave gives the lock back. What is to be answered later has its time.
func (w *writer) leave() {
	r := w.replication
	w.sendAnswers()
	r.node.cluster.unlock()
	var due time.Time
	if i := slices.IndexFunc(r.proposals, func(p proposal) bool { return len(p.requests) > 0 }); i >= 0 {
		due = r.proposals[i].due
	}
	if len(r.forwarded) > 0 && (due.IsZero() || r.forwarded[0].due.Before(due)) {
		due = r.forwarded[0].due
	}
	if due.IsZero() {
		r.timer.Stop()
		return
	}
	r.timer.Reset(time.Until(due))
}

// follow takes up entries of the log: a replica what is committed, the leader all. What is committed is shown.
func (w *writer) follow(s *quorum.Status) error {
	r := w.replication
	until := s.Committed
	if s.Leads {
		until = len(s.Log)
	}
	for ; r.taken < until; r.taken++ {
		e := s.Log[r.taken]
		w.streams = w.streams[:0]
		w.end = e.End
		if err := w.put(e.Stored()); err != nil {
			return err
		}
		r.proposals = append(r.proposals, proposal{entries: r.taken + 1, tip: r.node.log.Staged(), streams: slices.Clone(w.streams)})
	}
	w.show(s.Committed, true)
	return nil
}

// show shows proposals up to an entry, and answers those who wait for them. Who did not get what was asked for is told only
// if nothing that this depends on can be lost any more.
func (w *writer) show(entries int, committed bool) {
	r := w.replication
	for len(r.proposals) > 0 && r.proposals[0].entries <= entries {
		p := r.proposals[0]
		r.proposals[0] = proposal{}
		r.proposals = r.proposals[1:]
		r.node.log.CommitTo(p.tip)
		r.shown = p.entries
		w.streams = append(w.streams[:0], p.streams...)
		w.committed()
		for _, request := range p.requests {
			switch {
			case committed || request.answer.Result == messages.Success && request.links == nil:
			case request.links != nil:
				request.links.failed = true
			default:
				request.notReady = true
			}
			w.answer(request)
		}
	}
	r.node.shown.Store(int64(r.shown))
}

// deposed is a leader that leads no more. As a real one it shows all that it has and calls it written, although it may be
// lost: no majority has it. Groups do not get that, they end before.
func (w *writer) deposed() {
	r := w.replication
	r.leads = false
	r.node.reign.Store(0)
	w.server.groups.endAll()
	w.show(r.taken, false)
}

// enthroned is the beginning of a reign: all that was inherited is committed.
func (w *writer) enthroned(s *quorum.Status) {
	r := w.replication
	r.leads, r.reign = true, s.Reign
	r.node.reign.Store(s.Reign)
	if err := w.server.groups.load(); err != nil {
		w.server.log.LogAttrs(context.Background(), slog.LevelError, "the groups could not be read", slog.Any("err", err))
	}
	if slices.ContainsFunc(s.Log, func(e *quorum.Entry) bool { return !e.Begins }) {
		return
	}
	w.begin()
	r.records = r.records[:0]
	if err := w.stageUsers(); err == nil {
		w.proposeStaged(nil)
	}
}

// propose decides a batch as the leader, or has the leader do it.
func (w *writer) propose(batch []*request) {
	r := w.replication
	alive := w.enter()
	defer w.leave()
	switch {
	case !alive: // the connections are closed
		return
	case !r.leads || w.server.leaving.Load():
		for _, request := range batch {
			w.elsewhere(request)
		}
		return
	}
	batch = slices.DeleteFunc(slices.Clone(batch), func(request *request) bool {
		switch {
		case request.links != nil && request.links.reign != r.reign:
			request.links.failed = true
		case request.scavenges():
			w.refuseScavenge(request)
		default:
			return false
		}
		w.answer(request)
		return true
	})
	r.records = r.records[:0]
	if err := w.stageAll(batch); err != nil {
		w.refuse(batch, err)
		return
	}
	w.transactions.settle(true)
	w.proposeStaged(batch)
}

// textNoScavenge is what somebody is told who might ask for a scavenge.
const textNoScavenge = "The nodes of an embedded cluster keep their whole log."

func (r *request) scavenges() bool { return r.links == nil && r.command == messages.ScavengeDatabase }

// refuseScavenge makes the answer to a request for a scavenge.
func (w *writer) refuseScavenge(r *request) {
	atOnce := w.server.dialect.generation >= generation50
	switch {
	case r.user.operates():
		r.refusal = textNoScavenge
	case atOnce:
		r.scavenged = &pb.ScavengeDatabaseResponse{Result: pb.ScavengeDatabaseResponse_Unauthorized.Enum()}
	default:
		r.scavenged = scavengeCompleted(pb.ScavengeDatabaseCompleted_Failed, textAccessDenied)
	}
}

// proposeStaged proposes what was staged.
func (w *writer) proposeStaged(batch []*request) {
	r := w.replication
	p := proposal{entries: r.taken, tip: r.node.log.Staged(), due: w.late.due(commitTimeout)}
	if len(r.records) > 0 {
		r.taken++
		p.entries, p.streams = r.taken, slices.Clone(w.streams)
	}
	for _, request := range batch {
		if request.answer.Result == messages.CommitTimeout {
			w.timesOut(request)
		} else {
			p.requests = append(p.requests, request)
		}
	}
	r.proposals = append(r.proposals, p)
	world := r.node.cluster.world
	if len(r.records) > 0 {
		world.Propose(r.node.id, &quorum.Entry{Commit: p.tip.Commit, End: p.tip.End, Records: slices.Clone(r.records)})
	}
	w.show(world.Status(r.node.id).Committed, true)
}

// answerOverdue answers what has waited too long.
func (w *writer) answerOverdue() {
	r := w.replication
	if !w.enter() {
		w.leave()
		return
	}
	now := time.Now()
	for i := range r.proposals {
		p := &r.proposals[i]
		if p.due.After(now) {
			break
		}
		p.requests = slices.DeleteFunc(p.requests, func(request *request) bool {
			if request.links != nil {
				return false
			}
			request.answer = refused(messages.CommitTimeout, -1)
			w.answer(request)
			return true
		})
	}
	w.answerForwarded(now)
	w.leave()
}
