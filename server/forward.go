package server

import (
	"slices"
	"time"

	"github.com/goeventstore/eventstore/messages"
)

// What a node that does not lead is asked to write it forwards to the leader, with the user that it has found, and answers
// with what comes back. Nobody knows what became of one for which nothing comes back in time.
const forwardTimeout = 4300 * time.Millisecond

// forwarded is a request that is with the leader.
type forwarded struct {
	*request
	count uint64
	due   time.Time
}

// reply is the answer to it on its way back.
type reply struct {
	count uint64
	conclusion
}

// elsewhere does with a request what a node can that does not lead.
func (w *writer) elsewhere(request *request) {
	r := w.replication
	switch {
	case request.links != nil:
		request.links.failed = true
	case request.scavenges():
		w.refuseScavenge(request)
	case r.leader >= 0 && r.leader != r.node.id && request.back == nil && request.done == nil && !w.server.leaving.Load():
		w.forward(request)
		return
	default:
		request.notReady = true
		request.answer = refused(messages.CommitTimeout, -1) // for who has no connection
	}
	w.answer(request)
}

// forward sends a request to the leader. What stays here has its name; it takes all else along.
func (w *writer) forward(travels *request) {
	r := w.replication
	c := r.node.cluster
	c.count++
	stays := &forwarded{request: w.request(), count: c.count, due: w.late.due(forwardTimeout)}
	stays.session, stays.id, stays.command, stays.size, stays.own = travels.session, travels.id, travels.command, travels.size, travels.own
	r.forwarded = append(r.forwarded, stays)
	from, to, count := r.node, r.leader, stays.count
	travels.session, travels.own, travels.size = nil, nil, 0
	travels.back = func(answered conclusion) {
		c.world.Send(to, from.id, func() {
			from.replies = append(from.replies, reply{count, answered})
			c.changed[from.id] = true
		})
	}
	c.world.Send(from.id, to, func() {
		if leader := c.places[to].node; leader != nil {
			leader.server.writer.enqueue(travels)
			signal(leader.server.writer.wake)
		}
	})
}

// takeReplies answers what was forwarded and came back. What the answer speaks of is there by then, since it came behind it.
func (w *writer) takeReplies() {
	r := w.replication
	replies := r.node.replies
	r.node.replies = nil
	for _, back := range replies {
		i := slices.IndexFunc(r.forwarded, func(f *forwarded) bool { return f.count == back.count })
		if i < 0 {
			continue // it has timed out
		}
		f := r.forwarded[i]
		r.forwarded = slices.Delete(r.forwarded, i, i+1)
		f.conclusion = back.conclusion
		if f.command == messages.TransactionCommit {
			f.answer.Commit = 0 // its positions do not come back
		}
		w.answer(f.request)
	}
}

// answerForwarded answers what has waited too long.
func (w *writer) answerForwarded(now time.Time) {
	r := w.replication
	for len(r.forwarded) > 0 && !r.forwarded[0].due.After(now) {
		f := r.forwarded[0]
		r.forwarded = slices.Delete(r.forwarded, 0, 1)
		f.answer = refused(messages.ForwardTimeout, -1)
		w.answer(f.request)
	}
}
