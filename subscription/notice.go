package subscription

import (
	"errors"
	"fmt"

	"github.com/goeventstore/eventstore"
)

// Kind is what a Notice tells.
type Kind int

// The kinds of notices. CaughtUp and FellBehind take turns.
const (
	// CaughtUp: all that was there is delivered; what follows comes as it is written.
	CaughtUp Kind = iota
	// FellBehind: no longer. The consumer was slow or the connection was lost; Err says which.
	FellBehind
	// NoStream: there is no such stream, yet. The subscription waits for it.
	NoStream
	// SoftDeleted: the stream is soft-deleted. The subscription waits for what is written next. A stream that is deleted
	// while it is followed says nothing of it: that shows when the subscription has to read again.
	SoftDeleted
	// Recreated: after SoftDeleted, the stream is written again. Its numbers go on behind the deleted ones; the event follows.
	Recreated
	// Resubscribed: after a loss or an overflow, in whatever phase, the server pushes again.
	Resubscribed
	// Beyond: the subscription is to go on behind an event that the server does not have, since its database is another one
	// or was restored. It waits, and what is written up to there passes it by. Err is ErrBeyond, with the places. Of a node that
	// only follows (RequireLeader(false)) it may say no more than that it has not come as far.
	Beyond
)

// ErrBeyond is the Err of Beyond.
var ErrBeyond = errors.New("the place is beyond the end")

// String returns the kind's name.
func (k Kind) String() string {
	return [...]string{"CaughtUp", "FellBehind", "NoStream", "SoftDeleted", "Recreated", "Resubscribed", "Beyond"}[k]
}

// Notice tells that something changed which is no event.
type Notice struct {
	Kind       Kind
	Stream     string
	Checkpoint eventstore.From // where the subscription is
	Err        error           // of FellBehind and Beyond
}

// String returns the notice in a line.
func (n Notice) String() string {
	s := fmt.Sprintf("%v %q %v", n.Kind, n.Stream, n.Checkpoint)
	if n.Err != nil {
		s += ": " + n.Err.Error()
	}
	return s
}

func (s *Subscription) tell(kind Kind, err error) {
	if s.cfg.OnNotice != nil {
		s.cfg.OnNotice(Notice{Kind: kind, Stream: s.cfg.Stream, Checkpoint: s.Checkpoint(), Err: err})
	}
}
