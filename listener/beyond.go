package listener

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/pause"
	"github.com/goeventstore/eventstore/subscription"
)

// ErrBeyondEnd says that the checkpoint is beyond the end of the stream: see BeyondEndError.
var ErrBeyondEnd = errors.New("the checkpoint is beyond the end of the stream")

// BeyondEndError ends Run when the checkpoint is behind an event that the stream does not have, as after the database was
// restored from an older backup, or made anew. To wait would be to miss the events that come with the numbers up to the checkpoint.
// What to do is for people to say: the read model may hold the effects of events that are no more.
type BeyondEndError struct {
	Checkpoint eventstore.From
	End        eventstore.From // behind the last event, Start when there is none
}

// Error names both places and says what to do.
func (e *BeyondEndError) Error() string {
	end := "there is no event"
	if !e.End.IsStart() {
		end = fmt.Sprintf("the last event ends %v", e.End)
	}
	return fmt.Sprintf("%v: it is %v, and %s. If the database was restored or made anew, make what the handler keeps agree with it, "+
		"save a checkpoint that is not beyond the end in the listener's store, and run it again", ErrBeyondEnd, e.Checkpoint, end)
}

// Is makes errors.Is(err, ErrBeyondEnd) hold.
func (e *BeyondEndError) Is(target error) bool { return target == ErrBeyondEnd }

// astray is why a following ended whose place is beyond the end. A place that Config.From names may be waited for.
type astray struct {
	from   eventstore.From
	before bool // it had caught up: it was not beyond the end then
}

func (astray) Error() string { return ErrBeyondEnd.Error() }

func (l *Listener) isAstray(n subscription.Notice) bool {
	return n.Kind == subscription.Beyond && n.Checkpoint != l.cfg.From
}

// A node that only follows may not have come as far yet, so that it is looked at again for a while before Run ends.
const (
	beyondFor   = 10 * time.Second
	beyondEvery = time.Second
)

// lookAgain waits when a following has gone astray, and returns the error that ends the run when that was so for long enough, without
// a break.
// first is when it was so first, zero while it is not.
func (l *Listener) lookAgain(ctx context.Context, err error, first *time.Time) (again bool, ended error) {
	var lost astray
	if !errors.As(err, &lost) {
		*first = time.Time{}
		return false, err
	}
	end, err := l.endOfStream(ctx)
	if err != nil {
		return false, unlessEnded(ctx, err)
	}
	if there, err := lost.from.Compare(end); err == nil && there <= 0 {
		*first = time.Time{} // who confirmed has not come as far as who was read from
	} else {
		if first.IsZero() || lost.before {
			*first = time.Now()
		}
		err := &BeyondEndError{Checkpoint: lost.from, End: end}
		if time.Since(*first) >= beyondFor {
			return false, err
		}
		l.update(func(s *Status) { s.LastError = err })
	}
	if err := pause.For(ctx, beyondEvery); err != nil {
		return false, unlessEnded(ctx, err)
	}
	return true, nil
}
