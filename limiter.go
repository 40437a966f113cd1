package eventstore

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
)

// limiter bounds the calls under way. A place costs one atomic addition while there are places; else callers wait in line.
type limiter struct {
	max     int64
	taken   atomic.Int64
	waiters atomic.Int64 // the length of line, and of those who wait for the drain, to be seen without the lock

	mu    sync.Mutex
	line  []chan struct{} // one each, closed when its owner has a place
	empty []chan struct{} // closed when no place is taken
}

// acquire takes a place, waiting for one until ctx ends.
func (l *limiter) acquire(ctx context.Context) error {
	if l.acquireNow() {
		return nil
	}
	l.mu.Lock()
	// Announced before the second try, so that whoever releases a place after it sees that somebody waits.
	l.waiters.Add(1)
	if len(l.line) == 0 && l.try() {
		l.waiters.Add(-1)
		l.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	l.line = append(l.line, turn)
	l.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	i := slices.Index(l.line, turn)
	if i >= 0 {
		l.line = slices.Delete(l.line, i, i+1)
		l.waiters.Add(-1)
	}
	l.mu.Unlock()
	if i < 0 { // the turn came at the same moment
		l.release()
	}
	return ctx.Err()
}

// acquireNow takes a place if there is one and nobody waits for it.
func (l *limiter) acquireNow() bool { return l.waiters.Load() == 0 && l.try() }

func (l *limiter) try() bool {
	if l.taken.Add(1) <= l.max {
		return true
	}
	l.taken.Add(-1)
	return false
}

// release gives a place back, to the first in line.
func (l *limiter) release() {
	l.taken.Add(-1)
	if l.waiters.Load() == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.line) > 0 && l.try() {
		close(l.line[0])
		l.line = slices.Delete(l.line, 0, 1)
		l.waiters.Add(-1)
	}
	l.announceEmpty()
}

func (l *limiter) announceEmpty() {
	if len(l.empty) > 0 && l.taken.Load() == 0 {
		for _, e := range l.empty {
			close(e)
			l.waiters.Add(-1)
		}
		l.empty = nil
	}
}

// drained waits until no place is taken.
func (l *limiter) drained(ctx context.Context) error {
	done := make(chan struct{})
	l.mu.Lock()
	l.waiters.Add(1)
	l.empty = append(l.empty, done)
	l.announceEmpty()
	l.mu.Unlock()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
