package listener

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/goeventstore/eventstore"
)

// Patch has another handler handle the events between two places once more, such as to mend a read model: those behind from and up
// to until, which is a checkpoint. So After(41) is the last event's place with 41 in it, and At(41) without; End is the end when
// Patch begins. It ends at the first event at or past the bound, whether or not those before are still there, or at the end of what
// there is. The listener may be live, paused or not running; meanwhile it is held, so that never two handlers run at once, and
// afterwards it goes on where it was. Its checkpoint stays. Patches take turns.
//
// It returns the place that it came to, with an error too: a patch that was cut short goes on when it is called again from there.
// A failing handler is called again as Config.OnFailure says. It runs on the caller's goroutine, one event at a time. The handler
// that the listener calls cannot patch it, since it would wait for itself.
func (l *Listener) Patch(ctx context.Context, from, until eventstore.From, h Handler) (eventstore.From, error) {
	if h == nil {
		return from, l.cfg.bad("no handler")
	}
	release, err := l.hold(ctx)
	if err != nil {
		return from, fmt.Errorf("listener %q: patch: %w", l.cfg.Name, err)
	}
	defer release()
	at, err := l.patch(l.mark(ctx), from, until, h)
	if err != nil {
		return at, fmt.Errorf("listener %q: patch: %w", l.cfg.Name, err)
	}
	return at, nil
}

func (l *Listener) patch(ctx context.Context, at, until eventstore.From, h Handler) (eventstore.From, error) {
	if until.IsEnd() {
		end, err := l.endOfStream(ctx)
		if err != nil {
			return at, err
		}
		until = end
	}
	c, err := at.Compare(until)
	if err != nil || c >= 0 || at.IsEnd() {
		return at, err
	}
	for e, err := range l.stream(ctx, at) {
		if err != nil {
			return at, err
		}
		c, err := e.Checkpoint().Compare(until)
		if err != nil {
			return at, err
		}
		if c > 0 {
			return until, nil
		}
		if err := l.patchOne(ctx, e, h); err != nil {
			return at, err
		}
		if at = e.Checkpoint(); c == 0 {
			break
		}
	}
	return at, nil
}

func (l *Listener) patchOne(ctx context.Context, e eventstore.ResolvedEvent, h Handler) error {
	if l.isKept(&e) {
		return nil
	}
	handle := func() error {
		err := guarded(func() error { return h(ctx, e) })
		if err != nil && over(ctx, err) == nil {
			l.update(func(s *Status) { s.Failures, s.LastError = s.Failures+1, err })
		}
		return err
	}
	err := handle()
	if err == nil {
		return nil
	}
	t := newTrial(&l.cfg, e)
	return t.settle(ctx, ctx, err, func() error {
		if !t.spent {
			return handle()
		}
		return l.setAside(ctx, t)
	})
}

// stream reads what the listener follows, up to its end. A stream that is not there has nothing.
func (l *Listener) stream(ctx context.Context, from eventstore.From) iter.Seq2[eventstore.ResolvedEvent, error] {
	opts := eventstore.ReadOptions(l.cfg.Call)
	if l.cfg.Stream == eventstore.All {
		if l.cfg.Filter != nil {
			opts = append(opts, *l.cfg.Filter)
		}
		return l.client.ReadAll(ctx, from, opts...)
	}
	events := l.client.ReadStream(ctx, l.cfg.Stream, from, opts...)
	return func(yield func(eventstore.ResolvedEvent, error) bool) {
		for e, err := range events {
			switch {
			case errors.Is(err, eventstore.ErrStreamNotFound):
				return
			case err == nil && !l.picks(e):
				continue
			case !yield(e, err):
				return
			}
		}
	}
}

// picks is the filter of a stream, which is the client's to apply, as a subscription does.
func (l *Listener) picks(e eventstore.ResolvedEvent) bool {
	switch {
	case l.cfg.Filter == nil:
		return true
	case e.Event == nil:
		return l.cfg.Filter.Match(e.Link)
	}
	return l.cfg.Filter.Match(e.Event)
}

// endOfStream is the place behind the last event there is now.
func (l *Listener) endOfStream(ctx context.Context) (eventstore.From, error) {
	opts := eventstore.ReadOptions(l.cfg.Call)
	if l.cfg.Stream == eventstore.All {
		slice, err := l.client.ReadAllSlice(ctx, eventstore.End, 1, append(opts, eventstore.Backward())...)
		if err != nil || len(slice.Events) == 0 {
			return eventstore.Start, err
		}
		return slice.Events[0].Checkpoint(), nil
	}
	e, err := l.client.LastEvent(ctx, l.cfg.Stream, opts...)
	if errors.Is(err, eventstore.ErrStreamNotFound) || errors.Is(err, eventstore.ErrEventNotFound) {
		return eventstore.Start, nil
	}
	if err != nil {
		return eventstore.Start, err
	}
	return e.Checkpoint(), nil
}

// replayBatch is how many events are replayed before what was done with them is taken out of the stream.
const replayBatch = 100

// ReplayFailed hands the listener's handler what the listener has gone on without, as RetryThenSkip and RetryThenPark keep it and
// Failed lists it, up to the last event that is there when it begins, and takes it out of the stream by truncating it. It returns
// how many events were handled. One that fails again is kept again, behind the others, with its attempts added up. Events are in
// ResolvedEvent.Event as ever; the Link is the record that kept them.
//
// Like Patch it holds the listener meanwhile, and asks for no lease: of many instances one should be told to. Events are replayed at least once, and with NewTx exactly once: how far the replay
// came is a checkpoint of its own in the listener's store, named as the listener with "/failed" behind it. What another listener
// keeps in the same stream is left alone, and then hides what is behind it from being truncated.
func (l *Listener) ReplayFailed(ctx context.Context) (handled int, err error) {
	if l.cfg.keptIn() == "" {
		return 0, l.cfg.bad("its policy goes on without nothing")
	}
	release, err := l.hold(ctx)
	if err == nil {
		defer release()
		handled, err = l.replay(l.mark(ctx))
	}
	if err != nil {
		return handled, fmt.Errorf("listener %q: replay: %w", l.cfg.Name, err)
	}
	return handled, nil
}

func (l *Listener) replay(ctx context.Context) (handled int, err error) {
	stream, name := l.cfg.keptIn(), l.cfg.Name+"/failed"
	to, err := l.makeSink(name, l.cfg.Store)
	if err != nil {
		return 0, err
	}
	last, err := l.client.LastEvent(ctx, stream, eventstore.ReadOptions(l.cfg.Call)...)
	if errors.Is(err, eventstore.ErrStreamNotFound) || errors.Is(err, eventstore.ErrEventNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	from, err := l.cfg.Store.Load(ctx, name)
	if err != nil && !errors.Is(err, ErrNoCheckpoint) {
		return 0, fmt.Errorf("load the checkpoint: %w", err)
	}
	if n, ok := from.Number(); ok && n > last.Original().Number {
		return 0, &BeyondEndError{Checkpoint: from, End: last.Checkpoint()}
	}
	r := replaying{Listener: l, sink: to, stream: stream, done: from}
	for f, err := range failedFrom(ctx, l.client, stream, eventstore.Start, eventstore.ReadOptions(l.cfg.Call)) {
		if err == nil && f.Event.Link.Number > last.Original().Number {
			break
		}
		if err == nil {
			err = r.next(ctx, f)
		}
		if err != nil {
			return r.handled, errors.Join(err, r.settleUp(ctx))
		}
	}
	return r.handled, r.settleUp(ctx)
}

// replaying is one ReplayFailed.
type replaying struct {
	*Listener
	sink    sink
	stream  string
	done    eventstore.From // behind the last event that was replayed
	handled int
	unsaved int   // replayed since done was saved
	before  int64 // all with lower numbers can go
	foreign bool  // no others can, because of somebody else's
}

func (r *replaying) next(ctx context.Context, f Failure) error {
	if f.Listener != r.cfg.Name {
		r.foreign = true
		return nil
	}
	place := f.Event.Checkpoint()
	if c, err := place.Compare(r.done); err != nil {
		return err
	} else if c > 0 {
		if err := r.one(ctx, f.Event); err != nil {
			return err
		}
	}
	if !r.foreign {
		r.before = f.Event.Link.Number + 1
	}
	if r.unsaved < replayBatch {
		return nil
	}
	return r.settleUp(ctx)
}

func (r *replaying) one(ctx context.Context, e eventstore.ResolvedEvent) error {
	var a applied
	handle := func() (err error) {
		a, _, err = r.sink.apply(ctx, ctx, r.done, []eventstore.ResolvedEvent{e})
		if err != nil && over(ctx, err) == nil {
			r.update(func(s *Status) { s.Failures, s.LastError = s.Failures+1, err })
		}
		return err
	}
	if err := handle(); err != nil {
		t := newTrial(&r.cfg, e)
		err = t.settle(ctx, ctx, err, func() (err error) {
			if !t.spent {
				return handle()
			}
			if err = r.setAside(ctx, t); err == nil {
				a, err = r.sink.pass(ctx, r.done, e.Checkpoint())
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	r.done = a.done
	r.handled += a.handled
	r.unsaved++
	return nil
}

// settleUp saves how far it came and truncates the stream, also when ctx has ended.
func (r *replaying) settleUp(ctx context.Context) error {
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastSave)
	defer cancel()
	if r.unsaved > 0 {
		if err := r.sink.save(last, r.done); err != nil {
			return err
		}
		r.unsaved = 0
	}
	if r.before == 0 {
		return nil
	}
	if err := r.client.TruncateBefore(last, r.stream, r.before, r.cfg.Call...); err != nil {
		return err
	}
	r.before = 0
	return nil
}
