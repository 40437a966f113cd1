package faultnet

import (
	"math"
	"slices"
	"time"
)

// direction is one of the two of a connection. All but the last fields belong to who has the turn.
type direction struct {
	dir  Direction
	turn chan struct{} // taken by a send, given back by a receive; size 1, so that one Read or Write is in it; never closed

	finder finder
	faults []Fault // that have not happened
	record *recorded

	until time.Time // nothing passes before
	drip  *drip     // one byte at a time; nil when not

	copying bool   // the current frame is to pass twice
	copied  []byte // of it
	owed    []byte // the second copy of one, which passes before anything else

	pending []byte // what a Read has received and not returned

	// Written with the turn and Conn.mu, so that either is enough to read them.
	stalled bool // nothing passes any more
	swallow bool // nothing passes any more, and nobody waits for it

	deadline time.Time // guarded by Conn.mu
	ended    error     // guarded by Conn.mu; what calls fail with from now on
}

type drip struct {
	pause time.Duration
	left  int64 // bytes
}

func newDirection(n *Network, conn int, dir Direction) direction {
	d := direction{dir: dir, turn: make(chan struct{}, 1), finder: newFinder(), record: n.recorder.stream(conn, dir)}
	for _, f := range n.plan.Conn(conn) {
		if f.At.Dir == dir {
			d.faults = append(d.faults, f)
		}
	}
	return d
}

// scan returns how many bytes of b pass before something has to be done, and the fault that comes then; nil if none.
func (d *direction) scan(b []byte) (n int, fault *Fault) {
	f := d.finder
	for n < len(b) {
		limit := int64(math.MaxInt64)
		for i := range d.faults {
			dist := d.distance(&f, &d.faults[i])
			if dist == 0 {
				return n, &d.faults[i]
			}
			limit = min(limit, dist)
		}
		if d.copying && n > 0 && f.atBoundary() {
			return n, nil // the second copy comes here
		}
		n += f.step(b[n:], limit)
	}
	return n, nil
}

func (d *direction) distance(f *finder, fault *Fault) int64 {
	if fault.Kind == Duplicate {
		return f.frameDistance(fault.At)
	}
	return f.distance(fault.At)
}

// idle reports whether bytes pass as they come.
func (d *direction) idle() bool {
	return len(d.faults) == 0 && d.drip == nil && !d.copying && len(d.owed) == 0 && !d.swallow
}

// limit is how many of n bytes pass at once.
func (d *direction) limit(n int) int {
	if d.drip != nil {
		return min(n, 1)
	}
	return n
}

// advance tells that b has passed.
func (d *direction) advance(b []byte) {
	if d.drip != nil && len(b) > 0 {
		d.until = time.Now().Add(d.drip.pause)
		if d.drip.left--; d.drip.left == 0 {
			d.drip = nil
		}
	}
	for len(b) > 0 {
		n := d.finder.step(b, math.MaxInt64)
		if d.copying {
			d.copied = append(d.copied, b[:n]...)
		}
		b = b[n:]
		switch {
		case d.finder.lost:
			d.copying, d.copied = false, nil
		case d.finder.atBoundary():
			d.record.end(d.finder.offset)
			if d.copying {
				d.owed, d.copying, d.copied = d.copied, false, nil
			}
		}
	}
}

// remove forgets a fault that happens now, and returns it.
func (d *direction) remove(fault *Fault) Fault {
	f := *fault
	i := slices.IndexFunc(d.faults, func(o Fault) bool { return o == f })
	d.faults = slices.Delete(d.faults, i, i+1)
	return f
}

// entry describes a fault that happens here.
func (d *direction) entry(conn int, f Fault) entry {
	e := entry{conn: conn, fault: f, offset: d.finder.offset}
	if !d.finder.lost {
		e.frame, e.pos = d.finder.frame, d.finder.pos()
	}
	return e
}

// apply changes how bytes pass; the faults that end something are the connection's business.
func (d *direction) apply(f Fault) {
	switch f.Kind {
	case Delay:
		d.until = time.Now().Add(f.Wait)
	case Stall:
		d.stalled = true
	case Swallow:
		d.stalled = d.dir == ToClient // who reads cannot tell the two apart
		d.swallow = d.dir == ToServer
	case Duplicate:
		d.copying = true
	case Drip:
		d.drip = &drip{f.Wait, f.Bytes}
	default:
	}
}
