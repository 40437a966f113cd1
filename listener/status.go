package listener

import (
	"time"

	"github.com/goeventstore/eventstore"
)

// State is what a listener does.
type State int

// The states; see the package.
const (
	Idle State = iota
	Following
	Retrying
	Paused
	Stopped
	Waiting
)

// String returns the state in a word.
func (s State) String() string {
	return [...]string{"idle", "following", "retrying", "paused", "stopped", "waiting"}[s]
}

// Status tells how a listener fares.
type Status struct {
	State      State
	Checkpoint eventstore.From // behind the last event that was handled, saved or not yet; with Parallel, and all before it
	Handled    int64           // events, in this process; with NewTx those whose transaction is committed
	GivenUp    int64           // events that were skipped or parked
	Failures   int64           // calls of the handler that failed; with NewTx also transactions that did
	// Lag is how many events are not handled yet, as far as the server has told: of a stream the numbers from the checkpoint to its
	// end, truncated and filtered ones among them; of $all those that wait, see subscription.Stats. It is -1 when that is not known,
	// as when it does not follow.
	Lag       int64
	Heard     time.Time // when the server was last heard; zero when it does not follow
	Rate      float64   // events a second, over the last 10 s and a bit
	LastError error     // of the handler or of saving; nil once the next event is handled
}

// Status returns how the listener fares.
func (l *Listener) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.status
	s.Rate = l.rate.at(s.Handled, time.Now())
	s.Lag = -1
	if l.sub != nil {
		stats := l.sub.Stats()
		s.Heard, s.Lag = stats.Heard, stats.Lag
		if l.cfg.Stream != eventstore.All && s.Lag >= 0 {
			s.Lag += max(0, next(l.sub.Checkpoint())-next(s.Checkpoint)) // what it has given and is not handled
		}
	}
	return s
}

// next is the number of the first event behind a place of a stream.
func next(place eventstore.From) int64 {
	n, isNumber := place.Number()
	if isNumber && place.Exclusive() {
		n++
	}
	return n
}

func (l *Listener) update(f func(*Status)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	was := l.status.State
	f(&l.status)
	if l.status.State != was {
		l.broadcast()
	}
}

// measure notes how many events were handled up to now. It is called now and then, not for each event.
func (l *Listener) measure() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rate.add(l.status.Handled, time.Now())
}

// rate remembers how many events were handled when, about once a second.
type rate struct {
	samples [12]sample
	count   int
}

type sample struct {
	at      time.Time
	handled int64
}

const rateWindow = 10 * time.Second

func (r *rate) add(handled int64, now time.Time) {
	if r.count > 0 && now.Sub(r.samples[r.count-1].at) < time.Second {
		return
	}
	if r.count == len(r.samples) {
		copy(r.samples[:], r.samples[1:])
		r.count--
	}
	r.samples[r.count] = sample{at: now, handled: handled}
	r.count++
}

// at is how many events a second there were since the youngest sample that is older than the window, or since the first.
func (r *rate) at(handled int64, now time.Time) float64 {
	var base sample
	for i := range r.count {
		if i == 0 || now.Sub(r.samples[i].at) >= rateWindow {
			base = r.samples[i]
		}
	}
	if r.count == 0 || !now.After(base.at) {
		return 0
	}
	return float64(handled-base.handled) / now.Sub(base.at).Seconds()
}
