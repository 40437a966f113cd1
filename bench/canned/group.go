package canned

import (
	"io"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// member is one that has joined a group. All of the group's events are its own.
type member struct {
	events run // frames with its correlation id
	next   int // to be delivered
	window int
	held   int // were delivered and not acknowledged
}

// join makes a member of whoever asks.
func (c *connection) join(request []byte) bool {
	f, err := messages.ParseFrame(request[4:])
	if err != nil {
		return false
	}
	var asked pb.ConnectToPersistentSubscription
	if err := (messages.Reply{Command: f.Command, Body: f.Body}).Unmarshal(&asked); err != nil {
		return false
	}
	m := &member{window: int(asked.GetAllowedInFlightMessages()), events: run{starts: c.answers.pushed.starts}}
	m.events.bytes = append(m.events.bytes, c.answers.pushed.bytes...)
	for _, start := range m.events.starts[:m.events.len()] {
		copy(m.events.bytes[start+idAt:], f.ID[:])
	}
	if c.members == nil {
		c.members = make(map[messages.ID]*member)
	}
	c.members[f.ID] = m
	name := asked.GetEventStreamId() + "::" + asked.GetSubscriptionId()
	c.out, err = messages.AppendFrame(c.out, f.ID, nil, messages.Of(messages.PersistentSubscriptionConfirmation,
		&pb.PersistentSubscriptionConfirmation{LastCommitPosition: new(int64), SubscriptionId: &name}))
	return err == nil
}

// leave ends a membership, with the empty answer that a real server gives.
func (c *connection) leave(request []byte) bool {
	f, err := messages.ParseFrame(request[4:])
	if err == nil {
		delete(c.members, f.ID)
		c.out, err = messages.AppendFrame(c.out, f.ID, nil, messages.Raw(messages.SubscriptionDropped, nil))
	}
	return err == nil
}

// acked makes room in a window. Acks of more than a member holds are no answer to what it was sent.
func (c *connection) acked(request []byte) bool {
	f, err := messages.ParseFrame(request[4:])
	if err == nil {
		err = c.acks.Decode(f.Body, &c.names)
	}
	m := c.members[f.ID]
	if err != nil || m == nil || len(c.acks.IDs) > m.held {
		return false
	}
	m.held -= len(c.acks.IDs)
	c.came.acks += int64(len(c.acks.IDs))
	return true
}

// push delivers what the window has room for, and reports whether it could.
func (m *member) push(w io.Writer) bool {
	for m.held < m.window && m.events.len() > 0 {
		n := min(m.window-m.held, m.events.len()-m.next)
		if _, err := w.Write(m.events.slice(m.next, m.next+n)); err != nil {
			return false
		}
		m.held += n
		m.next = (m.next + n) % m.events.len()
	}
	return true
}
