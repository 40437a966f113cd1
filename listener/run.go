package listener

import (
	"context"
	"errors"

	"github.com/cenkalti/backoff/v4"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/pause"
	"github.com/goeventstore/eventstore/subscription"
)

// run is what one Run has at hand.
type run struct {
	*Listener
	sink  sink
	sub   *subscription.Subscription
	done  eventstore.From // behind the last handled event
	dirty bool            // done is not saved
	since int             // events handled since the last attempt to save

	events []eventstore.ResolvedEvent // gathered, not handled yet
	held   []subscription.Notice      // told meanwhile: they wait for the events before them

	wait context.Context    //nolint:containedctx // of one Run, which made it: ends when what is unsaved is to be saved
	rest context.CancelFunc // frees wait
}

// loop hands events to the sink and saves the checkpoint in time, until something ends it.
func (r *run) loop(ctx context.Context) error {
	defer func() { r.rest() }()
	for {
		err := r.gather(ctx)
		switch {
		case err == nil:
			if err := r.handle(ctx); err != nil {
				return err
			}
		case ctx.Err() != nil || r.wait.Err() == nil || !errors.Is(err, r.wait.Err()):
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r.tellHeld(ctx)
		if r.dirty && (r.since >= r.cfg.SaveEvery || r.wait.Err() != nil) {
			if err := r.saveInTime(ctx); err != nil {
				return err
			}
		}
	}
}

// gather waits for an event and takes those that are there already with it, as many as the sink wants.
func (r *run) gather(ctx context.Context) error {
	clear(r.events)
	r.events = r.events[:0]
	if err := r.next(r.wait); err != nil { //nolint:contextcheck // it is ctx, with an earlier end
		return err
	}
	most := r.sink.gathers(&r.cfg)
	if most == 1 {
		return nil
	}
	// What waits may wait behind a page that is not read yet.
	wait, cancel := context.WithTimeout(ctx, r.cfg.SaveAfter)
	defer cancel()
	for len(r.events) < most && r.sub.Stats().Buffered > 0 {
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
		one, err := r.events[i:i+1], first
		if i != failed && len(r.events) > 1 {
			_, err = r.apply(ctx, one)
		}
		if err != nil {
			err = r.retry(ctx, one, err)
		}
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// over returns the error to end with when a failure is nothing to try again after.
func over(ctx context.Context, failure error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err() // the handler was interrupted: the events come again in the next run
	case errors.Is(failure, errMoved), errors.Is(failure, errLost):
		return failure
	}
	return nil
}

// apply hands events to the sink and keeps the score.
func (r *run) apply(ctx context.Context, events []eventstore.ResolvedEvent) (failed int, err error) {
	a, failed, err := r.sink.apply(ctx, r.done, events)
	if err != nil {
		if over(ctx, err) == nil {
			r.update(func(s *Status) { s.State, s.Failures, s.LastError = Retrying, s.Failures+1, err })
		}
		return failed, err
	}
	r.done = a.done
	r.update(func(s *Status) {
		s.State, s.Handled, s.Checkpoint, s.LastError = Following, s.Handled+int64(a.handled), r.done, nil
	})
	if a.saved {
		return 0, nil
	}
	if r.since += a.handled; !r.dirty {
		r.dirty = true
		r.arm(ctx)
	}
	return 0, nil
}

// retry tries an event again whose first call has failed, until it succeeds, the policy gives up, or ctx ends.
func (r *run) retry(ctx context.Context, one []eventstore.ResolvedEvent, failure error) error {
	waits := r.cfg.Backoff()
	for n := 1; ; n++ {
		if err := over(ctx, failure); err != nil {
			return err
		}
		d := waits.NextBackOff()
		if d == backoff.Stop || r.cfg.OnFailure.attempts > 0 && n >= r.cfg.OnFailure.attempts {
			return &HandlerError{Stream: one[0].Original().Stream, Number: one[0].Original().Number, Attempts: n, Err: failure}
		}
		r.update(func(s *Status) { s.State, s.LastError = Retrying, failure })
		if err := pause.For(ctx, d); err != nil {
			return err
		}
		if _, failure = r.apply(ctx, one); failure == nil {
			return nil
		}
	}
}

// notice is called by the subscription, between two events. While events are gathered those before it are not handled yet,
// and CaughtUp says that they are.
func (r *run) notice(ctx context.Context, n subscription.Notice) {
	if len(r.events) > 0 {
		r.held = append(r.held, n)
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

// arm has gather return when the next save is due.
func (r *run) arm(ctx context.Context) {
	r.rest()
	r.wait, r.rest = context.WithTimeout(ctx, r.cfg.SaveAfter)
}

func (r *run) saveInTime(ctx context.Context) error {
	r.since = 0
	err := r.save(ctx)
	switch {
	case errors.Is(err, errLost):
		return err
	case err != nil:
		// The events are handled, and only a restart would hand them out again: go on, and save at the next occasion.
		r.update(func(s *Status) { s.LastError = err })
		r.arm(ctx)
		return nil //nolint:nilerr // see above
	}
	r.rest()
	r.wait, r.rest = ctx, func() {}
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
