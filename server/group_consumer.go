package server

import (
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
	"github.com/goeventstore/eventstore/server/internal/groups"
)

// groupConsumer is a connection to a group. What the group sends waits here for the session's write goroutine: events of
// the log, not frames, so that a slow peer with a large window costs little.
type groupConsumer struct {
	groups.Consumer
	subscription
	group *group

	// The session's output lock guards these.
	waiting []delivery
	dropped bool // there will be no more, and the peer is told

	taken []delivery // the write goroutine's own
}

type delivery struct {
	event   groups.Event
	retries int
}

// connect adds a consumer to a group, and tells the peer.
func (s *groupService) connect(c *session, id messages.ID, m *pb.ConnectToPersistentSubscription, u *user) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	stream, name := readable(m.GetEventStreamId()), readable(m.GetSubscriptionId())
	g := s.find(stream, name)
	switch {
	case g == nil:
		return c.dropped(id, pb.SubscriptionDropped_NotFound)
	case g.Full(), len(s.bySession[c]) >= maxSubscriptions:
		return c.dropped(id, pb.SubscriptionDropped_SubscriberMaxCountReached)
	}
	v := c.server.view()
	info, err := v.info(stream)
	if err != nil {
		return err
	}
	last := info.last
	if info.deleted {
		last = messages.DeletedNumber
	}
	last = c.number(last)
	at, err := v.indexed()
	if err != nil {
		return err
	}
	confirmation := &pb.PersistentSubscriptionConfirmation{
		LastCommitPosition: &at, SubscriptionId: &g.key, LastEventNumber: &last,
	}
	if slices.ContainsFunc(s.byID[id], func(other *groupConsumer) bool { return other.group == g }) {
		return c.replyMessage(messages.PersistentSubscriptionConfirmation, id, confirmation) // the other one goes on
	}
	consumer := &groupConsumer{group: g}
	consumer.subscription = subscription{session: c, id: id, stream: stream, consumer: consumer}
	consumer.Consumer = groups.Consumer{
		ID: groups.ID(id), From: c.addr, Window: int(m.GetAllowedInFlightMessages()), Receiver: consumer,
	}
	if u != nil {
		consumer.User = u.login
	}
	if err := c.confirm(&consumer.subscription, messages.PersistentSubscriptionConfirmation, confirmation); err != nil {
		return err
	}
	s.byID[id] = append(s.byID[id], consumer)
	s.bySession[c] = append(s.bySession[c], consumer)
	g.Connect(&consumer.Consumer)
	s.serve(g)
	return nil
}

// dropped answers a subscription that is none.
func (c *session) dropped(id messages.ID, reason pb.SubscriptionDropped_SubscriptionDropReason) error {
	return c.replyMessage(messages.SubscriptionDropped, id, &pb.SubscriptionDropped{Reason: &reason})
}

// unsubscribe ends the consumers with an id, whosever they are.
func (s *groupService) unsubscribe(id messages.ID) {
	if s.count.Load() == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, consumer := range slices.Clone(s.byID[id]) {
		consumer.group.Disconnect(&consumer.Consumer)
		s.serve(consumer.group)
	}
}

// disconnect ends the consumers of a session that has ended.
func (s *groupService) disconnect(c *session) {
	if s.count.Load() == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	byGroup := make(map[*group][]*groups.Consumer)
	for _, consumer := range s.bySession[c] {
		byGroup[consumer.group] = append(byGroup[consumer.group], &consumer.Consumer)
	}
	for g, gone := range byGroup {
		g.Disconnect(gone...)
		s.serve(g)
	}
}

// Deliver implements groups.Receiver.
func (consumer *groupConsumer) Deliver(e *groups.Event, retries int) {
	o := consumer.session.out
	o.mu.Lock()
	consumer.waiting = append(consumer.waiting, delivery{*e, retries})
	slow := len(consumer.waiting) > maxPendingFrames // it acks what it does not read
	marked := o.mark(&consumer.subscription)
	o.mu.Unlock()
	if marked {
		signal(o.wake)
	}
	if slow {
		consumer.session.end(errSlowReader)
	}
}

// Drop implements groups.Receiver: the peer is told behind all that was sent. The service's lock is held.
func (consumer *groupConsumer) Drop() {
	s, c := consumer.group.service, consumer.session
	is := func(other *groupConsumer) bool { return other == consumer }
	if rest := slices.DeleteFunc(s.byID[consumer.id], is); len(rest) > 0 {
		s.byID[consumer.id] = rest
	} else {
		delete(s.byID, consumer.id)
	}
	if rest := slices.DeleteFunc(s.bySession[c], is); len(rest) > 0 {
		s.bySession[c] = rest
	} else {
		delete(s.bySession, c)
	}
	o := c.out
	o.mu.Lock()
	consumer.dropped = true
	marked := o.mark(&consumer.subscription)
	o.mu.Unlock()
	if marked {
		signal(o.wake)
	}
}

// deliverMessages appends what waits for the peer to b, and reports whether there is more than it may have now.
func (c *session) deliverMessages(consumer *groupConsumer, b *batch) (more bool, err error) {
	limit := min(pumpLimit, len(b.events)+pumpTurn)
	narrow, counted := c.narrow(), c.server.dialect.generation > generation394
	for len(b.events) < limit {
		if len(consumer.taken) == 0 {
			c.out.mu.Lock()
			consumer.taken, consumer.waiting = consumer.waiting, consumer.taken[:0]
			last := len(consumer.taken) == 0 && consumer.dropped
			consumer.gone = last
			c.out.mu.Unlock()
			if last {
				start := len(b.events)
				b.events = messages.AppendFrameStart(b.events, messages.SubscriptionDropped, consumer.id, nil)
				b.events, err = messages.EndFrame(b.events, start)
				return false, err
			}
			if len(consumer.taken) == 0 {
				return false, nil
			}
		}
		if b.events, err = appendMessage(b.events, consumer.id, &consumer.taken[0], narrow, counted); err != nil {
			return false, err
		}
		consumer.taken[0] = delivery{}
		consumer.taken = consumer.taken[1:]
	}
	return true, nil
}

// appendMessage appends the frame that delivers a message. Older servers do not tell how often it was tried.
func appendMessage(b []byte, id messages.ID, d *delivery, narrow, counted bool) ([]byte, error) {
	const retryCount = 2
	var event, link []byte
	about, followed := d.event.Resolved()
	if about != nil {
		event = encoded(about, narrow)
	}
	if followed != nil {
		link = encoded(followed, narrow)
	}
	start := len(b)
	b = messages.AppendFrameStart(b, messages.PersistentSubscriptionStreamEventAppeared, id, nil)
	b = messages.AppendIndexed(b, 1, event, link)
	if counted {
		b = protowire.AppendTag(b, retryCount, protowire.VarintType)
		b = protowire.AppendVarint(b, uint64(d.retries))
	}
	return messages.EndFrame(b, start)
}
