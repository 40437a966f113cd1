package server

import (
	"slices"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
	"github.com/goeventstore/eventstore/server/internal/store"
)

// maxSubscriptions bounds the subscriptions of one connection.
const maxSubscriptions = 100_000

// subscription is a cursor over a stream or over the log, and no more: what is not delivered yet lies in the store.
type subscription struct {
	session *session
	id      messages.ID
	stream  string // "" for the whole log
	resolve bool   // links are followed; whether their targets may be read is not asked (4.9)

	filter   *filter // nil: every event
	interval int32   // after how many events that were seen a checkpoint is sent; 0: never

	consumer *groupConsumer // of a group, which says what comes next: the cursor is not used; else nil

	// The cursor: the number of the next event of the stream, or where the rest of the log begins. It is set before the
	// subscription is live, and the session's write goroutine's alone afterwards.
	number int64
	place  store.Position
	seen   int32 // events since the last checkpoint

	// The session's output lock guards these.
	live  bool // the confirmation is queued
	fresh bool // and not taken by the write goroutine yet
	dirty bool // it is on the output's list
	gone  bool // unsubscribed
}

// subscribe serves SubscribeToStream (4.13).
func (c *session) subscribe(f *messages.Frame, u *user) error {
	var m pb.SubscribeToStream
	if !subscribeShape.message(f, &m) {
		c.badRequest(f, "")
		return nil
	}
	return c.subscribeTo(f, u, &subscription{stream: readable(m.GetEventStreamId()), resolve: m.GetResolveLinkTos()})
}

// subscribeTo begins what a request to subscribe wants.
func (c *session) subscribeTo(f *messages.Frame, u *user, sub *subscription) error {
	if len(c.subs)+len(c.orphans) >= maxSubscriptions {
		c.badRequest(f, "")
		return nil
	}
	governed := sub.stream
	if governed == "" {
		governed = allStreams
	}
	if !c.server.allowed(u, governed, rightRead) {
		return c.dropped(f.ID, pb.SubscriptionDropped_AccessDenied)
	}
	sub.session, sub.id = c, f.ID
	// It is registered before the log is looked at: what is committed in between is either seen here, or marks it.
	c.server.subscriptions.add(sub)
	confirmation, err := sub.begin()
	if err != nil {
		c.server.subscriptions.remove(sub)
		return err
	}
	if earlier, ok := c.subs[f.ID]; ok {
		c.orphans = append(c.orphans, earlier)
	}
	c.subs[f.ID] = sub
	return c.confirm(sub, messages.SubscriptionConfirmation, confirmation)
}

// begin sets the cursor behind the last event and returns the confirmation that says so.
func (sub *subscription) begin() (*pb.SubscriptionConfirmation, error) {
	v := sub.session.server.view()
	at, err := v.indexed()
	if err != nil {
		return nil, err
	}
	confirmation := &pb.SubscriptionConfirmation{LastCommitPosition: &at}
	if sub.stream == "" {
		sub.place = store.Position{Commit: v.at + 1}
		return confirmation, nil
	}
	info, err := v.info(sub.stream)
	if err != nil {
		return nil, err
	}
	last := info.last
	sub.number = info.last + 1
	if info.deleted { // a metastream may go on, but not beyond this number
		last, sub.number = messages.DeletedNumber, noNumber
	}
	last = sub.session.number(last)
	confirmation.LastEventNumber = &last
	return confirmation, nil
}

// noNumber is the cursor in a stream that has no more events to deliver.
const noNumber = -1

// confirm queues the confirmation and makes the subscription live in one step, so that no event comes before it.
func (c *session) confirm(sub *subscription, command messages.Command, confirmation proto.Message) error {
	frame, err := messages.AppendFrame(c.scratch[:0], sub.id, nil, messages.Of(command, confirmation))
	if err != nil {
		return err
	}
	c.scratch = frame
	o := c.out
	o.mu.Lock()
	err = o.add(frame)
	sub.live, sub.fresh = true, true
	o.mark(sub) // for what was committed since the cursor was set
	o.mu.Unlock()
	signal(o.wake)
	return err
}

// unsubscribe serves UnsubscribeFromStream. An id without a subscription gets no answer.
func (c *session) unsubscribe(f *messages.Frame, _ *user) error {
	if !unsubscribeShape.fits(f.Body) {
		c.badRequest(f, "")
		return nil
	}
	c.server.groups.unsubscribe(f.ID)
	sub, ok := c.subs[f.ID]
	if !ok {
		return nil
	}
	delete(c.subs, f.ID)
	c.server.subscriptions.remove(sub)
	c.out.mu.Lock()
	sub.gone = true
	c.out.mu.Unlock()
	c.reply(messages.SubscriptionDropped, f.ID, "")
	return nil
}

// unsubscribeAll takes the session's subscriptions off the server's list when it has ended.
func (c *session) unsubscribeAll() {
	c.server.groups.disconnect(c)
	streams := make(map[string]struct{}, len(c.subs))
	for _, sub := range c.subs {
		streams[sub.stream] = struct{}{}
	}
	for _, sub := range c.orphans {
		streams[sub.stream] = struct{}{}
	}
	for stream := range streams {
		c.server.subscriptions.removeOf(stream, c)
	}
}

// registry is which subscriptions there are to a stream, in the order in which they were made.
type registry struct {
	mu       sync.Mutex
	byStream map[string][]*subscription // "" is the whole log
}

func (r *registry) add(sub *subscription) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byStream == nil {
		r.byStream = make(map[string][]*subscription)
	}
	r.byStream[sub.stream] = append(r.byStream[sub.stream], sub)
}

func (r *registry) remove(sub *subscription) {
	r.removeIf(sub.stream, func(other *subscription) bool { return other == sub })
}

// removeOf removes all subscriptions of a session to a stream.
func (r *registry) removeOf(stream string, c *session) {
	r.removeIf(stream, func(sub *subscription) bool { return sub.session == c })
}

func (r *registry) removeIf(stream string, remove func(*subscription) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if subs := slices.DeleteFunc(r.byStream[stream], remove); len(subs) > 0 {
		r.byStream[stream] = subs
	} else {
		delete(r.byStream, stream)
	}
}

// appendTo appends the subscriptions that an event of one of the streams concerns.
func (r *registry) appendTo(subs []*subscription, streams []string) []*subscription {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.byStream) == 0 || len(streams) == 0 {
		return subs
	}
	subs = append(subs, r.byStream[""]...)
	for _, stream := range streams {
		subs = append(subs, r.byStream[stream]...)
	}
	return subs
}
