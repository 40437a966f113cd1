package listener

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/subscription"
)

// inMemory is how many events there may be at once for each of Config.Parallel: taken, and not done, or done while one before them
// is not.
const inMemory = 64

// parallel is the loop of a run with Config.Parallel. Events of a key wait in a lane, in order, whose first one is handled when it
// is the lane's turn. One goroutine owns everything here; those that receive, handle and wait tell it through channels.
//
// States of a lane: ready (its turn comes), working (its first event is being handled), resting (that failed, its backoff runs);
// one without events is forgotten.
type parallel struct {
	*run
	arrived  chan arrival // from the goroutine that receives, which nobody closes: it waits until the loop takes one
	finished chan *lane   // from those who handle; room for all of them
	rested   chan *lane   // from timers; room for every lane there may be

	flying  []*flight       // taken, in order, from the first one that is not done
	latest  eventstore.From // behind all that was taken
	taken   int64
	cleared int64 // taken, and done with all before them
	lanes   map[string]*lane
	ready   []*lane
	working int
	resting int
	failing int // lanes whose first event has failed
	notices []late

	end     error // why the loop ends; nil while it does not
	ending  bool  // no more events are taken
	hurried bool  // and those that failed are not waited for
	stopped bool  // and those that wait are not begun
}

// arrival is what the subscription gives: an event, a notice, a place up to which the filter picks nothing, or its end.
type arrival struct {
	event  eventstore.ResolvedEvent
	notice *subscription.Notice
	place  *eventstore.From
	err    error
}

// late is a notice that waits until so many events are cleared.
type late struct {
	notice subscription.Notice
	behind int64
}

// flight is an event that was taken, or only a place.
type flight struct {
	event eventstore.ResolvedEvent
	place eventstore.From // behind it
	trial *trial          // once it has failed
	done  bool
}

// lane holds the events of a key.
type lane struct {
	key   string
	queue []*flight
	err   error // of the last call; who handles the first event writes it
	timer *time.Timer
}

func newParallel(r *run) *parallel {
	return &parallel{
		run: r, latest: r.done, arrived: make(chan arrival), finished: make(chan *lane, r.cfg.Parallel),
		rested: make(chan *lane, r.cfg.Parallel*inMemory), lanes: make(map[string]*lane),
	}
}

func (p *parallel) loop(ctx context.Context) error { //nolint:contextcheck // flow is ctx, with an earlier end
	receiving, stopReceiving := context.WithCancel(p.flow)
	p.noticed = func(n subscription.Notice) { p.send(receiving, arrival{notice: &n}) }
	var others sync.WaitGroup
	others.Go(func() { p.receive(receiving) })
	defer func() {
		stopReceiving()
		others.Wait()
		p.rest()
	}()
	p.calm()
	for {
		p.lookAtContexts(ctx)
		for !p.stopped && p.working < p.cfg.Parallel && len(p.ready) > 0 {
			l := p.ready[0]
			p.ready = p.ready[1:]
			p.working++
			f := l.queue[0] // the loop adds to the queue meanwhile
			others.Go(func() { l.err = p.work(ctx, f); p.finished <- l })
		}
		p.tellLate(ctx)
		switch {
		case p.dirty && (p.since >= p.cfg.SaveEvery || !p.hurried && p.wait.Err() != nil):
			if err := p.saveInTime(ctx); err != nil {
				p.fail(err)
			}
		case !p.hurried && p.wait.Err() != nil:
			p.calm()
		}
		if p.over() {
			p.giveUpWaiting()
			return p.end
		}
		in, due, stop := p.arrived, p.wait.Done(), p.flow.Done()
		if p.ending || len(p.flying) >= p.cfg.Parallel*inMemory {
			in = nil
		}
		if p.hurried {
			due, stop = nil, nil
		}
		select {
		case a := <-in:
			p.take(a)
		case l := <-p.finished:
			p.working--
			p.land(ctx, l)
		case l := <-p.rested:
			p.resting--
			p.ready = append(p.ready, l)
		case <-due:
		case <-stop:
		}
	}
}

// lookAtContexts has the loop end behind what was taken when flow has ended, and behind what is being handled when ctx has.
func (p *parallel) lookAtContexts(ctx context.Context) {
	if p.flow.Err() != nil && !p.hurried {
		p.end, p.ending, p.hurried = p.flow.Err(), true, true
	}
	if ctx.Err() != nil {
		p.stopped = true
	}
}

func (p *parallel) over() bool {
	return p.ending && p.working == 0 && (p.stopped || len(p.ready) == 0 && (p.hurried || p.resting == 0))
}

func (p *parallel) giveUpWaiting() {
	for _, l := range p.lanes {
		if l.timer != nil {
			l.timer.Stop()
		}
	}
}

// receive runs on a goroutine of its own.
func (p *parallel) receive(ctx context.Context) {
	for {
		wait, cancel := ctx, context.CancelFunc(func() {})
		if p.cfg.Filter != nil {
			wait, cancel = context.WithTimeout(ctx, p.cfg.SaveAfter)
		}
		e, err := p.sub.Recv(wait)
		a := arrival{event: e, err: err}
		if err != nil && wait.Err() != nil && errors.Is(err, wait.Err()) {
			place := p.sub.Checkpoint()
			a = arrival{place: &place}
		}
		cancel()
		if !p.send(ctx, a) || a.err != nil {
			return
		}
	}
}

func (p *parallel) send(ctx context.Context, a arrival) bool {
	select {
	case p.arrived <- a:
		return true
	case <-ctx.Done():
		return false
	}
}

// work handles an event, or keeps one that is given up on. It runs on a goroutine of its own.
func (p *parallel) work(ctx context.Context, f *flight) error {
	if f.trial != nil && f.trial.spent {
		_, err := p.pass(ctx, f.trial)
		return err
	}
	_, _, err := p.sink.apply(ctx, p.flow, eventstore.Start, []eventstore.ResolvedEvent{f.event})
	if err != nil && over(ctx, err) == nil {
		p.update(func(s *Status) { s.State, s.Failures, s.LastError = Retrying, s.Failures+1, err })
	}
	return err
}

func (p *parallel) take(a arrival) {
	switch {
	case a.err != nil:
		p.end, p.ending = a.err, true
		return
	case a.notice != nil:
		p.notices = append(p.notices, late{notice: *a.notice, behind: p.taken})
		return
	case a.place != nil:
		if c, err := a.place.Compare(p.latest); err == nil && c > 0 {
			p.flying = append(p.flying, &flight{place: *a.place, done: true})
			p.taken++
			p.latest = *a.place
			p.clear()
		}
		return
	case p.isKept(&a.event):
		return
	}
	var key string
	if err := guarded(func() error { key = p.cfg.Key(a.event); return nil }); err != nil {
		p.fail((&trial{event: a.event}).end(err))
		return
	}
	f := &flight{event: a.event, place: a.event.Checkpoint()}
	p.flying = append(p.flying, f)
	p.taken++
	p.latest = f.place
	l := p.lanes[key]
	if l == nil {
		l = &lane{key: key}
		p.lanes[key] = l
		p.ready = append(p.ready, l)
	}
	l.queue = append(l.queue, f)
}

// fail ends the loop behind what is being handled.
func (p *parallel) fail(err error) {
	p.end, p.ending, p.hurried, p.stopped = err, true, true, true
}

// land takes back a lane whose first event was handled, or not.
func (p *parallel) land(ctx context.Context, l *lane) {
	f := l.queue[0]
	if l.err != nil {
		p.failed(ctx, l, f)
		return
	}
	f.done = true
	handled := 1
	if f.trial != nil {
		p.failing--
		if f.trial.spent {
			handled = 0
		}
	}
	l.queue[0] = nil
	if l.queue = l.queue[1:]; len(l.queue) > 0 {
		p.ready = append(p.ready, l)
	} else {
		delete(p.lanes, l.key)
	}
	p.update(func(s *Status) {
		s.Handled += int64(handled)
		if p.failing == 0 {
			s.State, s.LastError = Following, nil
		}
	})
	p.clear()
}

// clear moves the place behind all that is done.
func (p *parallel) clear() {
	cleared := 0
	for len(p.flying) > 0 && p.flying[0].done {
		p.done = p.flying[0].place
		p.flying[0] = nil
		p.flying = p.flying[1:]
		cleared++
	}
	if cleared == 0 {
		return
	}
	p.cleared += int64(cleared)
	p.update(func(s *Status) { s.Checkpoint = p.done })
	p.unsaved(cleared)
}

// failed has a lane rest whose first event was not handled, while the others go on.
func (p *parallel) failed(ctx context.Context, l *lane, f *flight) {
	if over(ctx, l.err) != nil {
		return // it comes again in the next run
	}
	if f.trial == nil {
		f.trial = newTrial(&p.cfg, f.event)
		p.failing++
	}
	d, err := f.trial.failed(l.err)
	switch {
	case err != nil:
		p.fail(err)
	case d == 0:
		p.ready = append(p.ready, l)
	default:
		p.resting++
		l.timer = time.AfterFunc(d, func() { p.rested <- l })
	}
}

// tellLate tells the notices whose events are all done.
func (p *parallel) tellLate(ctx context.Context) {
	for len(p.notices) > 0 && p.notices[0].behind <= p.cleared && p.flow.Err() == nil {
		n := p.notices[0].notice
		p.notices = p.notices[1:]
		p.tell(ctx, n)
	}
}

// streamOf is the default key: the stream that an event is of, also when it cannot be read any more and its link alone says so.
func streamOf(e eventstore.ResolvedEvent) string {
	if e.Event != nil {
		return e.Event.Stream
	}
	_, stream, _ := strings.Cut(string(e.Link.Data), "@")
	return stream
}
