package subscription

import (
	"time"

	"github.com/goeventstore/eventstore"
)

// Stats tells how a subscription fares.
type Stats struct {
	// Live: all that was there is delivered. CaughtUp was told, and FellBehind was not.
	Live bool
	// Lag is how many events Recv has not returned yet, as far as the server has told, or -1 when that is not known:
	//
	//   - while pushed events are taken, those that wait. What was read before they came is among them until it is live.
	//   - while a stream is read, the numbers from the place to the End: numbers that were truncated and events that the filter does not want
	//     are counted, and what was written since the last page is not.
	//   - while $all is read it is -1: positions do not count events. The Commit of a position counts bytes of the log, so that the
	//     one of End less that of Checkpoint says how far it is.
	//   - after a loss, that of a stream is what was known then, see Heard, and that of $all is -1.
	Lag int64
	// End is the end of the stream, or of the log, as far as the server has told: by the confirmation, by pages and by what was pushed.
	End eventstore.From
	// Buffered is how many events were read or pushed and wait for Recv.
	Buffered int
	// Pages is how many were read.
	Pages int64
	// Resubscriptions is how often the server was asked to push again, after losses and overflows.
	Resubscriptions int64
	// Heard is when the server was last heard on the connection that pushes, by whatever: events or heartbeats, which it sends
	// when nothing is written. On a connection that lives that is less than WithHeartbeat's two times ago.
	Heard time.Time
	_     struct{}
}

// Stats returns how the subscription fares.
func (s *Subscription) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	stats := s.stats
	stats.End = s.end
	if s.exchange != nil {
		stats.Buffered += s.exchange.Held()
		stats.Heard = s.exchange.Heard()
	}
	switch {
	case s.state == pushed:
		stats.Lag = int64(stats.Buffered)
	case s.all:
		stats.Lag = -1
	default:
		stats.Lag = max(0, number(stats.End)-number(s.from))
	}
	return stats
}

// number is the first that a place of a stream leaves: of events before it there are as many, if none is truncated.
func number(f eventstore.From) int64 {
	n, _ := f.Number()
	if f.Exclusive() {
		n++
	}
	return n
}
