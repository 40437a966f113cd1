package listener

import (
	"context"
	"errors"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/subscription"
)

// run is what one Run has at hand, from one subscription to its end.
type run struct {
	*Listener
	sink  sink
	sub   *subscription.Subscription
	done  eventstore.From // behind the last handled event
	dirty bool            // done is not saved
	since int             // events handled since the last attempt to save

	events []eventstore.ResolvedEvent // gathered, not handled yet
	held   []subscription.Notice      // told meanwhile: they wait for the events before them
	flush  context.CancelFunc         // ends a gathering that waits for more, while there is one

	noticed func(subscription.Notice) // called by the subscription, between two events

	flow context.Context    //nolint:containedctx // of one following, which made it: ends when no other event is to be begun
	wait context.Context    //nolint:containedctx // flow, with an end when what is unsaved is to be saved
	rest context.CancelFunc // frees wait
}

// loop hands events to the sink and saves the checkpoint in time, until something ends it.
func (r *run) loop(ctx context.Context) error {
	defer func() { r.rest() }()
	r.calm()
	for {
		err := r.gather() //nolint:contextcheck // its context is ctx, with an earlier end
		switch {
		case r.flow.Err() != nil:
			return r.flow.Err() // what was gathered comes again
		case err == nil:
			err = r.handle(ctx)
		case r.wait.Err() != nil && errors.Is(err, r.wait.Err()):
			err = r.moveOn(ctx) // it is time to save
		}
		if err != nil {
			return err
		}
		if r.flow.Err() != nil {
			return r.flow.Err()
		}
		r.tellHeld(ctx)
		switch {
		case r.dirty && (r.since >= r.sink.gathers(&r.cfg).save || r.wait.Err() != nil):
			if err := r.saveInTime(ctx); err != nil {
				return err
			}
		case r.wait.Err() != nil:
			r.calm()
		}
	}
}

// gather waits for an event and takes as many with it as the sink wants.
func (r *run) gather() error {
	clear(r.events)
	r.events = r.events[:0]
	if err := r.next(r.wait); err != nil {
		return err
	}
	g := r.sink.gathers(&r.cfg)
	if g.most == 1 {
		return nil
	}
	// What waits may wait behind a page that is not read yet.
	wait, cancel := context.WithTimeout(r.flow, r.cfg.SaveAfter)
	defer cancel()
	if g.wait {
		r.flush = cancel
		defer func() { r.flush = nil }()
	}
	for len(r.events) < g.most && (g.wait && len(r.held) == 0 || !g.wait && r.sub.Stats().Buffered > 0) {
		if err := r.next(wait); err != nil {
			break // the subscription gives it again, behind these events
		}
	}
	return nil
}

// next gathers an event.
func (r *run) next(ctx context.Context) error {
	for {
		e, err := r.sub.Recv(ctx)
		if err != nil {
			return err
		}
		if c, err := e.Checkpoint().Compare(r.done); err == nil && c <= 0 {
			continue // another process was there first
		}
		if r.isKept(&e) {
			continue
		}
		r.events = append(r.events, e)
		return nil
	}
}

// handle has the gathered events handled. When that fails it goes on with one at a time, so that those before the one at
// fault get through, and the policy counts the calls with that one alone.
func (r *run) handle(ctx context.Context) error {
	failed, first := r.apply(ctx, r.events)
	if first == nil {
		return nil
	}
	if err := over(ctx, first); err != nil {
		return err
	}
	for i := range r.events {
		err := first
		if i != failed && len(r.events) > 1 {
			_, err = r.apply(ctx, r.events[i:i+1])
		}
		if err := r.settle(ctx, i, err); err != nil {
			return err
		}
		if r.flow.Err() != nil {
			return r.flow.Err()
		}
	}
	return nil
}

// apply hands events to the sink and keeps the score.
func (r *run) apply(ctx context.Context, events []eventstore.ResolvedEvent) (failed int, err error) {
	a, failed, err := r.sink.apply(ctx, r.flow, r.done, events)
	if err != nil {
		if over(ctx, err) == nil {
			r.update(func(s *Status) { s.State, s.Failures, s.LastError = Retrying, s.Failures+1, err })
		}
		return failed, err
	}
	r.advance(a)
	return 0, nil
}

// settle goes on with the event whose handling has failed as the policy says.
func (r *run) settle(ctx context.Context, i int, failure error) error {
	if failure == nil {
		return nil
	}
	if over(ctx, failure) == nil {
		r.update(func(s *Status) { s.State, s.LastError = Retrying, failure })
	}
	t := newTrial(&r.cfg, r.events[i])
	return t.settle(ctx, r.flow, failure, func() error {
		if !t.spent {
			_, err := r.apply(ctx, r.events[i:i+1])
			return err
		}
		a, err := r.pass(ctx, t)
		if err == nil {
			r.advance(a)
		}
		return err
	})
}

// pass keeps an event that is given up on where it can be found again, and then goes on without it.
func (r *run) pass(ctx context.Context, t *trial) (applied, error) {
	err := r.setAside(ctx, t)
	if err == nil {
		var a applied
		if a, err = r.sink.pass(ctx, r.done, t.event.Checkpoint()); err == nil {
			r.update(func(s *Status) { s.GivenUp++ })
			return a, nil
		}
	}
	if over(ctx, err) == nil {
		r.update(func(s *Status) { s.LastError = err })
	}
	return applied{}, err
}

// advance moves the place behind what was applied.
func (r *run) advance(a applied) {
	r.done = a.done
	r.update(func(s *Status) {
		s.State, s.Handled, s.Checkpoint, s.LastError = Following, s.Handled+int64(a.handled), r.done, nil
	})
	if a.saved {
		r.measure()
		return
	}
	r.unsaved(a.events)
}

// unsaved notes that so many events more are to be saved in time.
func (r *run) unsaved(events int) {
	if r.since += events; !r.dirty {
		r.dirty = true
		if r.cfg.Filter == nil { // with one it is armed always
			r.arm()
		}
	}
}

// notice is called by the subscription, between two events. While events are gathered those before it are not handled yet,
// and CaughtUp says that they are.
func (r *run) notice(ctx context.Context, n subscription.Notice) {
	if len(r.events) > 0 {
		r.held = append(r.held, n)
		if r.flush != nil {
			r.flush() // what waits is all that there was
		}
		return
	}
	r.tell(ctx, n)
}

func (r *run) tellHeld(ctx context.Context) {
	for _, n := range r.held {
		r.tell(ctx, n)
	}
	r.held = nil
}

func (r *run) tell(ctx context.Context, n subscription.Notice) {
	if r.cfg.OnNotice != nil {
		r.cfg.OnNotice(n)
	}
	if n.Kind == subscription.CaughtUp && r.cfg.OnCaughtUp != nil {
		r.cfg.OnCaughtUp(ctx)
	}
}

// moveOn takes over the place that moves while the filter picks nothing.
func (r *run) moveOn(ctx context.Context) error {
	place := r.sub.Checkpoint()
	if c, err := place.Compare(r.done); r.cfg.Filter == nil || err != nil || c <= 0 {
		return nil //nolint:nilerr // there is no place yet that could be compared
	}
	a, err := r.sink.pass(ctx, r.done, place)
	if err != nil {
		if over(ctx, err) == nil {
			r.update(func(s *Status) { s.LastError = err }) // it is tried again when the next event comes, or the time
			err = nil
		}
		return err
	}
	r.done = a.done
	r.update(func(s *Status) { s.Checkpoint = r.done })
	if !a.saved {
		r.dirty = true
	}
	return nil
}

// calm has the loop wait for events alone, and with a filter look up now and then how far that came.
func (r *run) calm() {
	r.rest()
	r.wait, r.rest = r.flow, func() {}
	if r.cfg.Filter != nil {
		r.arm()
	}
}

// arm has the loop look up when the next save is due.
func (r *run) arm() {
	r.rest()
	r.wait, r.rest = context.WithTimeout(r.flow, r.cfg.SaveAfter)
}

// saveInTime saves. Only the loss of the lease is an error to end with.
func (r *run) saveInTime(ctx context.Context) error {
	r.since = 0
	r.measure()
	err := r.save(ctx)
	switch {
	case errors.Is(err, errLost):
		return err
	case err != nil:
		// The events are handled, and only a restart would hand them out again: go on, and save at the next occasion.
		r.update(func(s *Status) { s.LastError = err })
		r.arm()
	default:
		r.calm()
	}
	return nil
}

func (r *run) save(ctx context.Context) error {
	if !r.dirty {
		return nil
	}
	if err := r.sink.save(ctx, r.done); err != nil {
		return err
	}
	r.dirty = false
	return nil
}
