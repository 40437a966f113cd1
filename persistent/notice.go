package persistent

import "fmt"

// Kind is what a Notice tells.
type Kind int

// The kinds of notices.
const (
	// Joined: the server has confirmed, for the first time.
	Joined Kind = iota
	// Lost: the connection was lost, the server dropped the member, or more came than the window allows; Err says which. What was
	// delivered and not acknowledged comes again, to this member or another.
	Lost
	// Rejoined: it is a member again.
	Rejoined
	// NotJoined: StallAfter passed without a confirmation, or the group has no place free; Err says which. It goes on trying.
	// Told once for each loss.
	NotJoined
	// WindowFull: every place of the window is taken, and for StallAfter nothing was acknowledged or given back: work hangs, or
	// acks were forgotten. The server delivers nothing until that changes. Told once until something moves.
	WindowFull
	// Failed: a handler of Run failed, without a NackError; Err says how. The message was given back.
	Failed
)

// String returns the kind's name.
func (k Kind) String() string {
	return [...]string{"Joined", "Lost", "Rejoined", "NotJoined", "WindowFull", "Failed"}[k]
}

// Notice tells that something changed which is no message.
type Notice struct {
	Kind          Kind
	Stream, Group string
	Err           error
	Message       *Message // of Failed
	InFlight      int      // messages that were delivered and not answered
	Unsent        int      // of Lost: acks that were queued and not sent, so that their messages come again
}

// String returns the notice in a line.
func (n Notice) String() string {
	s := fmt.Sprintf("%v %q", n.Kind, n.Stream+"::"+n.Group)
	if n.InFlight > 0 {
		s += fmt.Sprintf(", %d in flight", n.InFlight)
	}
	if n.Unsent > 0 {
		s += fmt.Sprintf(", %d acks not sent", n.Unsent)
	}
	if n.Err != nil {
		s += ": " + n.Err.Error()
	}
	return s
}

// tell calls OnNotice, one at a time, with no other lock held.
func (g *Group) tell(n Notice) {
	if g.cfg.OnNotice == nil {
		return
	}
	n.Stream, n.Group = g.cfg.Stream, g.cfg.Group
	g.telling.Lock()
	defer g.telling.Unlock()
	g.cfg.OnNotice(n)
}
