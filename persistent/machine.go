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
	g.join++
	g.moved, g.stalled, g.sent = time.Now(), false, false
	if g.again {
		kind = Rejoined
		g.stats.Rejoins++
	}
	g.mu.Unlock()
	g.again, g.told = true, false
	g.tell(Notice{Kind: kind})
}

// take returns the next message of the exchange; without one and without an error the state has changed.
func (g *Group) take(ctx context.Context, x *eventstore.Exchange) (*Message, error) {
	if err := x.Err(); err != nil {
		return nil, g.lost(err) // what it still holds is the server's again
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
func (g *Group) receive(ctx, wait context.Context, x *eventstore.Exchange) (*Message, error) {
	r, err := x.Recv(wait)
	g.mu.Lock()
	g.waiting = false
	g.mu.Unlock()
	switch {
	case err != nil && x.Err() != nil:
		return nil, g.lost(err)
	case err != nil && ctx.Err() == nil:
		return nil, nil //nolint:nilnil // the wait was over
	case err != nil:
		return nil, err
	}
	switch r.Command {
	case messages.PersistentSubscriptionStreamEventAppeared:
		return g.deliver(r)
	case messages.PersistentSubscriptionConfirmation:
		return nil, nil //nolint:nilnil // a second one says nothing new
	case messages.SubscriptionDropped:
		if err = dropped(r); !errors.Is(err, errDropped) {
			return nil, err
		}
		if err := g.lost(err); err != nil {
			return nil, err
		}
		return nil, g.pause(ctx)
	}
	return nil, fmt.Errorf("%w: %s in a group", eventstore.ErrProtocol, r.Command)
}

func (g *Group) deliver(r messages.Reply) (*Message, error) {
	if err := g.event.Decode(g.memory.Copy(r.Body), &g.names); err != nil {
		return nil, fmt.Errorf("%w: %w", eventstore.ErrProtocol, err)
	}
	e := eventstore.DecodeEvent(&g.event.Event)
	if e.Original() == nil {
		return nil, fmt.Errorf("%w: a message without a record", eventstore.ErrProtocol)
	}
	if len(g.slab) == 0 {
		g.slab = make([]Message, min(g.cfg.Window, 32))
	}
	m := &g.slab[0]
	g.slab = g.slab[1:]
	now := time.Now()
	*m = Message{ResolvedEvent: e, Retries: int(g.event.Retries), group: g, id: e.Original().ID, received: now}
	if g.paused {
		g.paused = false
		g.waits.Reset()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err != nil {
		return nil, g.err
	}
	m.join = g.join
	g.window.add(m, g.cfg.Window)
	g.stats.Delivered++
	g.moved, g.stalled = now, false
	return m, nil
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
	defer g.mu.Unlock()
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

// full reports whether the server, as far as this side knows, has no place left to send anything. It is called with mu held.
func (g *Group) full() bool {
	return g.exchange != nil && g.window.n+len(g.acks)+g.exchange.Held() >= g.cfg.Window
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
