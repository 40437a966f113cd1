package followers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/pause"
	"github.com/goeventstore/eventstore/listener"
)

// thatReplays is a listener that goes on without events, and has them handed to it again now and then.
func thatReplays(r *Run) Follower {
	f := kept(Rules{GiveUp: attempts, Replayed: true, Alone: true}, listener.MemoryStore(), thatGoesOn)
	f.GivenUp = givenUp(r, listener.SkippedStream(r.processes[0].name))
	return f
}

// replay has what was given up on replayed.
func (l *Life) replay(ctx context.Context, lis mender) {
	for pause.For(ctx, time.Duration(l.Draw(6000))*time.Millisecond/l.hurry) == nil {
		if _, err := lis.ReplayFailed(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, errBadDay) {
			l.problem("%s: %v", l.name, err)
			return
		}
	}
}

// isReplay reports an event that was kept because it was given up on.
func (l *Life) isReplay(e eventstore.ResolvedEvent) bool {
	return l.rules.Replayed && e.Link != nil && e.Link.Stream == listener.SkippedStream(l.Name())
}

// again is the handler of an event that is replayed: how it goes with it counts, as for any other.
func (l *Life) again(ctx context.Context, e eventstore.ResolvedEvent) error {
	var kept struct{ Number int64 }
	if err := json.Unmarshal(e.Link.Metadata, &kept); err != nil {
		return err
	}
	leg := &Leg{life: l, name: l.Name(), aside: true}
	place := eventstore.After(kept.Number)
	l.pass()
	leg.tell(entry{verb: replays, place: place, text: string(e.Event.Data)})
	err := l.fare(ctx)
	if l.isDead() {
		return errDead
	}
	verb := replayed
	if err != nil {
		verb = refuses
	}
	leg.tell(entry{verb: verb, place: place})
	return err
}

// replay: what is replayed was given up on, and is what it was.
func (c *checker) replay(f *followed, e *entry) string {
	at, err := c.index(e.place)
	switch {
	case err != nil:
		return err.Error()
	case e.verb == refuses:
		delete(c.busy, e.leg.life)
	case e.verb == replayed:
		delete(c.busy, e.leg.life)
		f.handled[at-1] = true
	case at == 0 || !f.left[at-1]:
		return fmt.Sprintf("%v is replayed, and was not given up on", e.place)
	case c.truth[at-1].data != e.text:
		return fmt.Sprintf("%q is replayed, in place of %s", e.text, c.truth[at-1].text)
	default:
		return c.alone(e)
	}
	return ""
}

// allReplayed: in the end everything that was left was handled by a replay, and is not kept any more.
func (c *checker) allReplayed(f *followed) string {
	for i := range f.left {
		if !f.handled[i] {
			return fmt.Sprintf("%s was given up on, and no replay has handled it", c.truth[i].text)
		}
	}
	if len(c.Run.givenUp) > 0 {
		return fmt.Sprintf("all was replayed, and %v is still kept", c.Run.givenUp)
	}
	return ""
}
