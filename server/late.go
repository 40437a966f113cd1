package server

import (
	"time"

	"github.com/goeventstore/eventstore/messages"
)

// A write whose events are there and not yet committed is not decided: nobody answers it before it times out (4.3). The
// time-outs are looked for on a grid that starts with the server.
const (
	commitTimeout = 2 * time.Second
	timeoutGrid   = time.Second
)

// late are the requests that are answered when they time out. They are the writer's alone, and as many as the shares of
// the sessions let in.
type late struct {
	began    time.Time
	timer    *time.Timer
	requests []lateRequest // in the order in which they are due
}

type lateRequest struct {
	*request
	due time.Time
}

func newLate() late {
	l := late{began: time.Now(), timer: time.NewTimer(commitTimeout)}
	l.timer.Stop()
	return l
}

// timesOut answers a request when the grid next looks for what is too old. What it holds is of no use until then.
func (w *writer) timesOut(r *request) {
	if r.session != nil {
		r.session.out.giveBack(r.size)
	}
	r.size, r.body, r.write = 0, nil, messages.Append{}
	l := &w.late
	l.requests = append(l.requests, lateRequest{r, l.due(commitTimeout)})
	if len(l.requests) == 1 {
		l.timer.Reset(time.Until(l.requests[0].due))
	}
}

// due is when the grid finds what is older than a time and begins now.
func (l *late) due(after time.Duration) time.Time {
	age := time.Since(l.began) + after + timeoutGrid - 1
	return l.began.Add(age - age%timeoutGrid)
}

// answerLate answers what is due.
func (w *writer) answerLate() {
	if w.replication != nil {
		w.enter()
		defer w.leave()
	}
	l := &w.late
	for len(l.requests) > 0 && !l.requests[0].due.After(time.Now()) {
		w.answer(l.requests[0].request)
		l.requests[0] = lateRequest{}
		l.requests = l.requests[1:]
	}
	w.sendAnswers()
	if len(l.requests) > 0 {
		l.timer.Reset(time.Until(l.requests[0].due))
	}
}
