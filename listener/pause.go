package listener

import (
	"context"
	"errors"
	"fmt"

	"github.com/goeventstore/eventstore"
)

// holding is what holds a run up. The listener's lock guards it.
type holding struct {
	paused  bool               // Pause was called, Resume not yet
	holds   int                // Patch and ReplayFailed that are under way
	halt    context.CancelFunc // has the following come to a halt; nil when none is under way
	changed chan struct{}      // closed, and replaced, when something changes that somebody may wait for
	placed  bool               // the run under way has subscribed: the status has its checkpoint
	saved   error              // of the save at the last halt
	ended   error              // of the last run
}

func (h *holding) held() bool { return h.paused || h.holds > 0 }

func (h *holding) broadcast() {
	close(h.changed)
	h.changed = make(chan struct{})
}

// inside is the key of a mark in the contexts that a run hands out: who calls with one must not wait for that run.
type inside struct{ l *Listener }

func (l *Listener) mark(ctx context.Context) context.Context {
	return context.WithValue(ctx, inside{l}, true)
}

func (l *Listener) isInside(ctx context.Context) bool { return ctx.Value(inside{l}) != nil }

// Pause has the listener finish the event under way (with NewBatch the batch; with Parallel those that it has taken, unless they
// fail), save the checkpoint and unsubscribe. It waits for that and returns the checkpoint, or the error of saving it. When ctx
// ends first, it pauses all the same. Paused it stays, over Stop and another Run too, until Resume is called: a listener that is
// paused before it runs begins idle. It keeps its lease, if it has one.
//
// The handler may pause its listener with the context that it was given. It cannot wait for itself: the call returns at once with
// the checkpoint before its event, and the listener pauses when it has returned. With a context of another origin it would wait
// for ever.
func (l *Listener) Pause(ctx context.Context) (eventstore.From, error) {
	l.mu.Lock()
	l.paused = true
	l.comeToHalt()
	at := l.status.Checkpoint
	l.mu.Unlock()
	if l.isInside(ctx) {
		return at, nil
	}
	return l.waitForHalt(ctx)
}

// Resume undoes Pause and waits until the listener follows the stream again, from the store's checkpoint; when the run ends
// instead it returns its error. From inside the handler it does not wait. It does nothing to a listener that is not paused.
func (l *Listener) Resume(ctx context.Context) error {
	l.mu.Lock()
	l.paused = false
	l.broadcast()
	running := l.running
	l.mu.Unlock()
	if !running || l.isInside(ctx) {
		return nil
	}
	for {
		l.mu.Lock()
		state, paused, ended, changed := l.status.State, l.paused, l.ended, l.changed
		l.mu.Unlock()
		switch {
		case state == Stopped:
			return ended
		case paused || state != Paused && state != Idle:
			return nil
		}
		if err := wait(ctx, changed); err != nil {
			return err
		}
	}
}

func wait(ctx context.Context, changed <-chan struct{}) error {
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *Listener) comeToHalt() {
	if l.halt != nil {
		l.halt()
	}
}

// waitForHalt waits until nothing is under way, or nobody wants that any more, and returns the checkpoint.
func (l *Listener) waitForHalt(ctx context.Context) (eventstore.From, error) {
	for {
		l.mu.Lock()
		halted, known := l.halt == nil || !l.held(), l.running && l.placed && l.status.State != Waiting
		at, saved, changed := l.status.Checkpoint, l.saved, l.changed
		l.mu.Unlock()
		switch {
		case halted && known:
			return at, saved
		case halted:
			at, err := l.cfg.Store.Load(ctx, l.cfg.Name)
			if errors.Is(err, ErrNoCheckpoint) {
				return l.cfg.From, nil
			}
			return at, err
		}
		if err := wait(ctx, changed); err != nil {
			return at, err
		}
	}
}

// hold keeps the listener from handling events until release is called.
func (l *Listener) hold(ctx context.Context) (release func(), err error) {
	if l.isInside(ctx) {
		return nil, fmt.Errorf("listener %q: %w: the handler would wait for itself", l.cfg.Name, eventstore.ErrArgument)
	}
	if err := wait(ctx, l.replays); err != nil {
		return nil, err
	}
	l.mu.Lock()
	l.holds++
	l.comeToHalt()
	l.mu.Unlock()
	release = func() {
		l.mu.Lock()
		l.holds--
		l.broadcast()
		l.mu.Unlock()
		l.replays <- struct{}{}
	}
	if _, err := l.waitForHalt(ctx); err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// flowing waits until nobody holds the listener and returns the context of the following that begins then: it ends with ctx, and
// when somebody does. An error is that of ctx.
func (l *Listener) flowing(ctx context.Context) (context.Context, error) {
	for {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		flow, changed := l.flowUnlessHeld(ctx)
		if flow != nil {
			return flow, nil
		}
		if err := wait(ctx, changed); err != nil {
			return nil, err
		}
	}
}

func (l *Listener) flowUnlessHeld(ctx context.Context) (flow context.Context, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	was := l.status.State
	if l.status.State = Paused; !l.held() {
		l.status.State = Idle
		flow, l.halt = context.WithCancel(ctx)
	}
	if l.status.State != was {
		l.broadcast()
	}
	return flow, l.changed
}

// halted notes that a following has come to its end, and reports whether it is because somebody holds the listener. A checkpoint
// that could not be saved then is for Pause to tell, and its events come again.
func (l *Listener) halted(ctx context.Context, err, saved error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.halt()
	l.halt, l.saved = nil, saved
	held := ctx.Err() == nil && err == nil && !errors.Is(saved, errLost)
	if held && saved != nil {
		l.status.LastError = saved
	}
	l.broadcast()
	return held
}
