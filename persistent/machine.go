package persistent

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/pause"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// tryJoin makes one attempt to join. Without an error and without an exchange there is to be another one.
func (g *Group) tryJoin(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g.mu.Lock()
	err := g.err
	g.cancel = cancel
	g.mu.Unlock()
	if err != nil {
		return err
	}
	attempt, stop := ctx, context.CancelFunc(func() {})
	if g.again && !g.told {
		attempt, stop = context.WithTimeout(ctx, g.cfg.StallAfter)
	}
	defer stop()
	x, err := g.client.Open(attempt, messages.Of(messages.ConnectToPersistentSubscription, &pb.ConnectToPersistentSubscription{
		SubscriptionId: &g.cfg.Group, EventStreamId: &g.cfg.Stream,
		AllowedInFlightMessages: proto.Int32(int32(g.cfg.Window)),
	}), g.room(), g.cfg.Call...)
	opened := err == nil
	var id string
	if opened {
		if id, err = confirmation(attempt, x); err != nil {
			_ = x.Close()
		}
	}
	switch {
	case err == nil:
		g.adopt(x, id)
		return nil
	case ctx.Err() != nil:
		return err
	case attempt.Err() != nil:
		g.notJoined(err)
		return nil
	case g.again && errors.Is(err, ErrTooManySubscribers):
		g.notJoined(err)
		return g.pause(ctx)
	case opened && (errors.Is(err, eventstore.ErrConnectionLost) || errors.Is(err, errDropped)):
		return g.pause(ctx)
	}
	return err
}

// room is what the exchange may hold: a server sends no more than the window, except for what it sends again because its time
// was up. That is let in once over; who is slower than that gets rid of it by joining again.
func (g *Group) room() eventstore.Window {
	return eventstore.Window{Frames: 2*g.cfg.Window + 16, Bytes: math.MaxInt} // the window bounds the bytes
}

func (g *Group) notJoined(err error) {
	if !g.told {
		g.told = true
		g.tell(Notice{Kind: NotJoined, Err: err})
	}
}

// confirmation is the first answer of an exchange: the subscription's id.
func confirmation(ctx context.Context, x *eventstore.Exchange) (string, error) {
	r, err := x.Recv(ctx)
	if err != nil {
		return "", err
	}
	switch r.Command {
	case messages.PersistentSubscriptionConfirmation:
		var m pb.PersistentSubscriptionConfirmation
		if err := r.Unmarshal(&m); err != nil {
			return "", fmt.Errorf("%w: %w", eventstore.ErrProtocol, err)
		}
		return m.GetSubscriptionId(), nil
	case messages.SubscriptionDropped:
		return "", dropped(r)
	}
	return "", fmt.Errorf("%w: %s to ConnectToPersistentSubscription", eventstore.ErrProtocol, r.Command)
}

func dropped(r messages.Reply) error {
	var m pb.SubscriptionDropped
	if err := r.Unmarshal(&m); err != nil {
		return fmt.Errorf("%w: %w", eventstore.ErrProtocol, err)
	}
	switch m.GetReason() {
	case pb.SubscriptionDropped_Unsubscribed, pb.SubscriptionDropped_PersistentSubscriptionDeleted:
		return errDropped // joining again finds out whether there is a group
	case pb.SubscriptionDropped_AccessDenied:
		return eventstore.ErrAccessDenied
	case pb.SubscriptionDropped_NotFound:
		return ErrGroupNotFound
	case pb.SubscriptionDropped_SubscriberMaxCountReached:
		return ErrTooManySubscribers
	}
	return fmt.Errorf("%w: the server dropped the member: reason %d", eventstore.ErrProtocol, m.GetReason())
}

// adopt makes x the exchange, unless the group was closed meanwhile.
func (g *Group) adopt(x *eventstore.Exchange, id string) {
	if id == "" {
		id = g.cfg.Stream + "::" + g.cfg.Group
	}
	kind := Joined
	g.mu.Lock()
	if g.err != nil {
		g.mu.Unlock()
		_ = x.Close()
		return
	}
	g.exchange, g.id = x, id
	g.join = &joining{group: g}
	g.moved, g.stalled, g.sent = time.Now(), false, false
	if g.again {
		kind = Rejoined
		g.stats.Rejoins++
	}
	g.mu.Unlock()
	g.again, g.told, g.behind, g.joined = true, false, nil, time.Now()
	g.tell(Notice{Kind: kind})
}

// take makes messages ready that the exchange has, or waits for one. Without any and without an error the state has changed.
func (g *Group) take(ctx context.Context, x *eventstore.Exchange) error {
	if err := x.Err(); err != nil {
		return g.lost(err) // what it still holds is the server's again
	}
	if len(g.behind) > 0 {
		return g.heed(ctx)
	}
	if x.Held() == 0 {
		if wait := g.beforeWaiting(); wait > 0 { //nolint:contextcheck // see send
			short, cancel := context.WithTimeout(ctx, wait)
			defer cancel()
			defer g.tellStall()
			return g.receive(ctx, short, x)
		}
	}
	return g.receive(ctx, ctx, x)
}

// receive waits until wait ends, which is ctx or shorter.
func (g *Group) receive(ctx, wait context.Context, x *eventstore.Exchange) error {
	if len(g.slab) == 0 {
		g.slab = make([]Message, min(g.cfg.Window, slabSize))
	}
	n, err := x.RecvMany(wait, g.frames[:len(g.slab)])
	g.mu.Lock()
	g.waiting = false
	g.mu.Unlock()
	switch {
	case err != nil && x.Err() != nil:
		return g.lost(err)
	case err != nil && ctx.Err() == nil:
		return nil // the wait was over
	case err != nil:
		return err
	}
	g.behind = g.frames[:n]
	return g.heed(ctx)
}

// heed does what the frames say that are behind what was done: messages are made ready together.
func (g *Group) heed(ctx context.Context) error {
	r := g.behind[0]
	switch r.Command {
	case messages.PersistentSubscriptionStreamEventAppeared:
		return g.prepare()
	case messages.PersistentSubscriptionConfirmation:
		g.behind = g.behind[1:]
		return nil // a second one says nothing new
	case messages.SubscriptionDropped:
		err := dropped(r)
		if !errors.Is(err, errDropped) {
			return err
		}
		if err := g.lost(err); err != nil {
			return err
		}
		if time.Since(g.joined) >= calm {
			g.waits.Reset()
		}
		return g.pause(ctx)
	}
	return fmt.Errorf("%w: %s in a group", eventstore.ErrProtocol, r.Command)
}

// calm is how long a member must have been one for the waits to begin anew when it is dropped: a group may have no messages for long.
const calm = 10 * time.Second

// slabSize is how many messages share a piece of memory, of 4 KiB, and are made ready at a time, at most.
const slabSize = 39

// prepare makes the messages ready that are the next frames. There is room for all that were taken.
func (g *Group) prepare() error {
	now := time.Since(g.epoch)
	n := 0
	for n < len(g.behind) && g.behind[n].Command == messages.PersistentSubscriptionStreamEventAppeared {
		if err := g.decode(&g.slab[n], g.behind[n].Body, now); err != nil {
			if n == 0 {
				return err
			}
			break // it is for the Recv behind these messages
		}
		n++
	}
	g.behind = g.behind[n:]
	if g.paused {
		g.paused = false
		g.waits.Reset()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ready, g.slab = g.slab[:n:n], g.slab[n:]
	return nil
}

// decode makes a message of an event that appeared. It is the exchange's memory that is decoded, and only what a message keeps
// is copied.
func (g *Group) decode(m *Message, body []byte, now time.Duration) error {
	if err := g.event.Decode(body, &g.names); err != nil {
		return fmt.Errorf("%w: %w", eventstore.ErrProtocol, err)
	}
	r := &g.event.Event
	if !r.HasEvent && !r.HasLink {
		return fmt.Errorf("%w: a message without a record", eventstore.ErrProtocol)
	}
	m.id = r.Event.ID
	if r.HasLink {
		m.id = r.Link.ID
		g.own(&r.Link)
	}
	if r.HasEvent {
		g.own(&r.Event)
	}
	m.ResolvedEvent, m.Retries = g.events.Decode(r), int(g.event.Retries)
	m.join, m.received = g.join, now
	return nil
}

// own copies what a record has of the exchange's memory.
func (g *Group) own(r *messages.EventRecord) {
	r.Data, r.Metadata = g.memory.Copy(r.Data), g.memory.Copy(r.Metadata)
}

// lost returns to joining, unless the cause is final.
func (g *Group) lost(cause error) error {
	final := !errors.Is(cause, eventstore.ErrOverflow) && !errors.Is(cause, eventstore.ErrConnectionLost) && !errors.Is(cause, errDropped)
	g.mu.Lock()
	if g.err != nil || final {
		g.mu.Unlock()
		return cause // what failed makes of it
	}
	notice := Notice{Kind: Lost, Err: cause, InFlight: g.window.n, Unsent: len(g.acks)}
	g.leave()
	g.mu.Unlock()
	g.tell(notice)
	return nil
}

// leave lets go of the exchange, and of all that belonged to it: it is the server's again. It is called with mu held.
func (g *Group) leave() {
	if g.exchange != nil {
		_ = g.exchange.Close()
		g.exchange = nil
	}
	g.stats.Stale += int64(len(g.acks))
	g.acks = g.acks[:0]
	g.ready = nil
	g.window.clear()
	g.stopFlusher()
	for d := range g.delayed {
		g.drop(d)
	}
}

func (g *Group) pause(ctx context.Context) error {
	g.paused = true
	if pause.For(ctx, g.waits.NextBackOff()) != nil {
		return contextError(ctx)
	}
	return nil
}

// beforeWaiting is called when Recv finds nothing and is about to wait. It returns when to look after a stall, 0 for not at all.
func (g *Group) beforeWaiting() time.Duration {
	g.mu.Lock()
	defer g.unlock()
	if g.exchange == nil {
		return 0
	}
	g.waiting = true
	if g.starved() {
		_ = g.flush() // an error is the connection's, and ends the wait
	}
	if g.cfg.OnNotice == nil || g.stalled || !g.full() {
		return 0
	}
	return max(g.cfg.StallAfter-time.Since(g.moved), 1)
}

// buffered is how many messages wait for Recv. It is called with mu held.
func (g *Group) buffered() int { return len(g.ready) + g.exchange.Held() }

// full reports whether the server, as far as this side knows, has no place left to send anything. It is called with mu held.
func (g *Group) full() bool {
	return g.exchange != nil && g.window.n+len(g.acks)+g.buffered() >= g.cfg.Window
}

// tellStall tells WindowFull if it is time to.
func (g *Group) tellStall() {
	g.mu.Lock()
	stall := !g.stalled && g.full() && time.Since(g.moved) >= g.cfg.StallAfter
	g.stalled = g.stalled || stall
	n := g.window.n
	g.mu.Unlock()
	if stall {
		g.tell(Notice{Kind: WindowFull, InFlight: n})
	}
}
