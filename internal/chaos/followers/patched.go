package followers

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/pause"
	"github.com/goeventstore/eventstore/listener"
)

// thatIsPatched is a listener whose events somebody else's handler gets once more now and then.
func thatIsPatched(*Run) Follower {
	return kept(Rules{Patched: true, Alone: true}, listener.MemoryStore(), oneByOne)
}

// mender is what is used of a listener that is patched, or replays.
type mender interface {
	Patch(ctx context.Context, from, until eventstore.From, h listener.Handler) (eventstore.From, error)
	ReplayFailed(ctx context.Context) (int, error)
}

// patch patches a listener, from the start or from where the last patch came to, up to its own place or the end.
func (l *Life) patch(ctx context.Context, lis mender) {
	at := eventstore.Start
	for n := 1; pause.For(ctx, time.Duration(l.Draw(8000))*time.Millisecond/l.hurry) == nil; n++ {
		from, until := eventstore.Start, eventstore.End
		if l.Draw(2) == 0 {
			from = at
		}
		if place, ok := l.Remembered(l.Name()); ok && l.Draw(2) == 0 {
			until = place
		}
		leg := l.Begin(fmt.Sprintf("patch %d of %s", n, l.name), from)
		leg.aside = true
		var err error
		at, err = lis.Patch(ctx, from, until, func(ctx context.Context, e eventstore.ResolvedEvent) error {
			return l.Work(ctx, leg, []eventstore.ResolvedEvent{e}, nil)
		})
		text := ""
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, errBadDay) {
				l.problem("%v: %v", leg, err)
				return
			}
			text = err.Error()
		}
		leg.tell(entry{verb: patched, from: until, place: at, text: text})
	}
}

// patched: a patch has handled all up to the place that it says, nothing behind its bound, and came so far unless it was cut short.
func (c *checker) patched(f *followed, p *progress, e *entry) string {
	at, err := c.index(e.place)
	if err != nil {
		return err.Error()
	}
	bound, early := len(c.truth), p.since
	if !e.from.IsEnd() {
		if bound, err = c.index(e.from); err != nil {
			return err.Error()
		}
		early = bound
	}
	for i := bound; i < len(f.done); i++ {
		if f.done[i] {
			return fmt.Sprintf("it has handled %s, behind its bound %v", c.truth[i].text, e.from)
		}
	}
	if e.text == "" && at < early {
		return fmt.Sprintf("it came to %v, and was to come to %v", e.place, c.truth[early-1].behind)
	}
	return c.behind(f, e)
}

// alone: of the legs of one life one is in its handler at a time.
func (c *checker) alone(e *entry) string {
	if !c.rules.Alone {
		return ""
	}
	busy := c.busy[e.leg.life]
	if busy != nil && busy != e.leg {
		return fmt.Sprintf("it gets an event, and the handler of %v has another", busy)
	}
	c.busy[e.leg.life] = e.leg
	return ""
}
