package followers

import (
	"context"
	"fmt"

	"github.com/goeventstore/eventstore"
)

// Effect is what handling an event has done, in a transaction of a store.
type Effect struct {
	Behind string // the place behind the event
	Leg    string // who did it
}

// look is what a store had at some moment.
type look struct {
	effects []Effect
	at      eventstore.From
}

// lookAtEffects takes the state of the store as it is now: what would be left if everybody died.
func (r *Run) lookAtEffects(ctx context.Context) {
	if r.follower.Look == nil {
		return
	}
	effects, at, err := r.follower.Look(ctx)
	if err != nil {
		r.problem("look at the effects: %v", err)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.looks = append(r.looks, look{effects, at})
}

// lookAtCheckpoint is for the end, when everything is handled and saved.
func (r *Run) lookAtCheckpoint(ctx context.Context) {
	if r.follower.Checkpoint == nil {
		return
	}
	at, err := r.follower.Checkpoint(ctx)
	if err != nil {
		r.problem("look at the checkpoint: %v", err)
		return
	}
	if n, err := r.index(at); err != nil || n != len(r.truth) {
		r.problem("the checkpoint is %v in the end: %v", at, err)
	}
}

// checkEffects compares the effects with the events: up to the checkpoint each has one, in order, at whatever moment one looks;
// and what one owner did is not between what another did.
func (r *Run) checkEffects() string {
	for _, l := range r.looks {
		n, err := r.index(l.at)
		if err != nil {
			return err.Error()
		}
		if n != len(l.effects) {
			return fmt.Sprintf("the checkpoint is %v, behind %d events, and there are %d effects: %v", l.at, n, len(l.effects), l.effects)
		}
		before := make(map[string]bool)
		for i, e := range l.effects {
			if want := r.truth[i].behind.String(); e.Behind != want {
				return fmt.Sprintf("the effect %d is that of the event before %s, not before %s", i, e.Behind, want)
			}
			if i > 0 && l.effects[i-1].Leg != e.Leg {
				before[l.effects[i-1].Leg] = true
			}
			if r.rules.Leased && before[e.Leg] {
				return fmt.Sprintf("%s goes on with the event before %s, after another has", e.Leg, e.Behind)
			}
		}
	}
	return ""
}
