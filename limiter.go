package eventstore

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
)

// limiter bounds what is under way: calls, or their bytes. A place costs one atomic addition while there are places; else
// callers wait in line.
type limiter struct {
	max     int64
	queue   *waiting
	taken   atomic.Int64
	waiters atomic.Int64 // the length of line, and of those who wait for the drain, to be seen without the lock

	mu    sync.Mutex
	line  []turn
	empty []chan struct{} // closed when no place is taken
}

// turn is one who waits in line.
type turn struct {
	n     int64
	ready chan struct{} // closed when its owner has its places
}

// waiting counts who waits, in line or for a connection, and bounds it.
type waiting struct {
	max int64 // -1: any number
	n   atomic.Int64
}

// enter counts one more, unless there are enough; one that must have room always finds it.
func (w *waiting) enter(must bool) bool {
	if n := w.n.Add(1); must || w.max < 0 || n <= w.max {
		return true
	}
	w.n.Add(-1)
	return false
}

func (w *waiting) leave() { w.n.Add(-1) }

// acquire takes n places, waiting for them until ctx ends. More than there are is all of them.
func (l *limiter) acquire(ctx context.Context, n int64) error {
	n = min(n, l.max)
	if l.acquireNow(n) {
		return nil
	}
	return l.wait(ctx, n)
}

func (l *limiter) wait(ctx context.Context, n int64) error {
	l.mu.Lock()
	// Announced before the second try, so that whoever releases a place after it sees that somebody waits.
	l.waiters.Add(1)
	if len(l.line) == 0 && l.try(n) {
		l.waiters.Add(-1)
		l.mu.Unlock()
		return nil
	}
	if !l.queue.enter(false) {
		l.waiters.Add(-1)
		l.mu.Unlock()
		return ErrQueueFull
	}
	defer l.queue.leave()
	mine := turn{n: n, ready: make(chan struct{})}
	l.line = append(l.line, mine)
	l.mu.Unlock()
	select {
	case <-mine.ready:
		return nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	i := slices.Index(l.line, mine)
	if i >= 0 {
		l.line = slices.Delete(l.line, i, i+1)
		l.waiters.Add(-1)
		l.advance() // those behind may want less
	}
	l.mu.Unlock()
	if i < 0 { // the turn came at the same moment
		l.release(n)
	}
	return ctx.Err()
}

// acquireNow takes n places if they are there and nobody waits for any.
func (l *limiter) acquireNow(n int64) bool { return l.waiters.Load() == 0 && l.try(n) }

func (l *limiter) try(n int64) bool {
	if l.taken.Add(n) <= l.max {
		return true
	}
	l.taken.Add(-n)
	return false
}

// release gives n places back, to the first in line.
func (l *limiter) release(n int64) {
	l.taken.Add(-min(n, l.max))
	if l.waiters.Load() == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.advance()
	l.announceEmpty()
}

// advance gives places to those in line, in their order. The lock is held.
func (l *limiter) advance() {
	for len(l.line) > 0 && l.try(l.line[0].n) {
		close(l.line[0].ready)
		l.line = slices.Delete(l.line, 0, 1)
		l.waiters.Add(-1)
	}
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
