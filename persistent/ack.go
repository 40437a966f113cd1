package persistent

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/goeventstore/eventstore/messages"
)

// Ack says that messages were processed. They are queued, not confirmed: the protocol has no answer to it, and when the
// connection is lost before the server has them, the messages come again. It does not wait, and takes the messages whatever
// has become of ctx: the work is done. A StaleError names those that cannot be acknowledged.
func (g *Group) Ack(_ context.Context, m ...*Message) error {
	g.mu.Lock()
	defer g.unlock()
	c, err := g.claiming(m)
	if err != nil {
		return err
	}
	for _, m := range m {
		if c.claim(m) {
			g.window.remove(m)
			g.acks = append(g.acks, m.id)
			g.stats.Acked++
		}
	}
	if len(g.acks) == 0 || c.gone {
		return c.err()
	}
	if len(g.acks) >= g.cfg.AckEvery || g.starved() {
		if err := g.flush(); err != nil { //nolint:contextcheck // see send
			c.lost(m, err)
		}
	} else {
		g.arm()
	}
	return c.err()
}

// Nack gives messages back, with a reason that is stored with those that are parked (its first 4,096 bytes). It sends at once
// and does not wait; as for Ack there is no answer, and a StaleError names the messages that cannot be given back.
func (g *Group) Nack(_ context.Context, a Action, reason string, m ...*Message) error {
	if a < Park || a > Stop {
		return g.wrap("nack", argument("action %d: want Park, Retry, Skip or Stop", int(a)))
	}
	g.mu.Lock()
	defer g.unlock()
	c, err := g.claiming(m)
	if err != nil {
		return err
	}
	mine := slices.DeleteFunc(slices.Clone(m), func(m *Message) bool { return !c.claim(m) })
	if err := g.sendNak(a, reason, mine); err != nil { //nolint:contextcheck // see send
		c.lost(mine, err)
	}
	return c.err()
}

// RetryAfter gives messages back for a Retry after a while. They keep their places in the window until then, and go back at the
// latest a little before the server's time-out for them, by the clock of Config.MessageTimeout, and with Close.
func (g *Group) RetryAfter(ctx context.Context, d time.Duration, reason string, m ...*Message) error {
	if d < 0 || d >= g.cfg.MessageTimeout {
		return g.wrap("nack", argument("a delay of %v: want less than the MessageTimeout of %v, after which the server tries again by itself", d, g.cfg.MessageTimeout))
	}
	if d == 0 {
		return g.Nack(ctx, Retry, reason, m...)
	}
	g.mu.Lock()
	defer g.unlock()
	c, err := g.claiming(m)
	if err != nil {
		return err
	}
	mine := slices.DeleteFunc(slices.Clone(m), func(m *Message) bool { return !c.claim(m) })
	if len(mine) > 0 {
		for _, m := range mine {
			d = min(d, m.received+g.cfg.MessageTimeout*9/10-time.Since(g.epoch))
		}
		g.delay(d, reason, mine) //nolint:contextcheck // see send
	}
	return c.err()
}

// claims is one call's claim on messages: each can be answered once, and only on the connection that delivered it.
type claims struct {
	g     *Group
	gone  bool // there is no connection that delivered anything
	cause error
	stale []*Message
}

// claiming begins a claim. It is called with mu held, like all of claims.
func (g *Group) claiming(all []*Message) (claims, error) {
	for _, m := range all {
		switch {
		case m == nil:
			return claims{}, g.wrap("answer", argument("a nil Message"))
		case m.join == nil || m.join.group != g:
			return claims{}, g.wrap("answer", argument("a message that another Group delivered"))
		}
	}
	c := claims{g: g, gone: g.exchange == nil}
	if !c.gone {
		c.cause = g.exchange.Err()
		c.gone = c.cause != nil
	}
	g.move()
	return c, nil
}

func (c *claims) claim(m *Message) bool {
	if c.gone || m.done || m.join != c.g.join {
		c.stale = append(c.stale, m)
		return false
	}
	m.done = true
	return true
}

// lost says that nothing of these could be sent.
func (c *claims) lost(all []*Message, cause error) {
	c.stale, c.cause = append([]*Message(nil), all...), cause
}

func (c *claims) err() error {
	if len(c.stale) == 0 {
		return nil
	}
	c.g.stats.Stale += int64(len(c.stale))
	return c.g.wrap("answer", &StaleError{Messages: c.stale, Err: c.cause})
}

// The functions below are called with mu held.

// starved reports that Recv waits, and nothing can come before acks are sent.
func (g *Group) starved() bool {
	return g.waiting && len(g.acks) > 0 && g.window.n+len(g.acks) >= g.cfg.Window
}

// send has no context of a caller: it does not wait, and an answer is as good when a context has ended. Whoever calls it calls
// unlock in the end.
func (g *Group) send(r messages.Request) error {
	err := g.exchange.Queue(context.Background(), r)
	if err == nil {
		g.sent, g.queued = true, g.exchange
	}
	return err
}

// unlock unlocks mu, and then has written what was sent meanwhile.
func (g *Group) unlock() {
	x := g.queued
	g.queued = nil
	g.mu.Unlock()
	if x != nil {
		x.Flush()
	}
}

// flush sends the acks that are queued.
func (g *Group) flush() error {
	for len(g.acks) > 0 && g.exchange != nil {
		n := min(len(g.acks), maxIDs)
		g.ack.Subscription, g.ack.IDs = g.id, g.acks[:n]
		if err := g.send(&g.ack); err != nil {
			return err // those that are left are counted as lost
		}
		g.acks = g.acks[:copy(g.acks, g.acks[n:])]
	}
	return nil
}

// arm has the queued acks sent after AckAfter. A timer that runs is left alone, also when its acks are sent before: it then
// comes early for the next ones.
func (g *Group) arm() {
	if g.armed {
		return
	}
	g.armed = true
	g.timers.Add(1)
	if g.flusher == nil {
		g.flusher = time.AfterFunc(g.cfg.AckAfter, g.due)
	} else {
		g.flusher.Reset(g.cfg.AckAfter)
	}
}

// due is the timer's, and takes mu itself. An error is the connection's, which Recv sees too.
func (g *Group) due() {
	defer g.timers.Done()
	g.mu.Lock()
	defer g.unlock()
	g.armed = false
	_ = g.flush()
}

func (g *Group) stopFlusher() {
	if g.armed && g.flusher.Stop() {
		g.armed = false
		g.timers.Done()
	}
}

// sendNak gives messages back that were claimed.
func (g *Group) sendNak(a Action, reason string, all []*Message) error {
	g.nak.Subscription, g.nak.Action, g.nak.Message = g.id, messages.NakAction(a), cut(reason)
	for part := range slices.Chunk(all, maxIDs) {
		g.nak.IDs = g.nak.IDs[:0]
		for _, m := range part {
			g.window.remove(m)
			g.nak.IDs = append(g.nak.IDs, m.id)
		}
		if err := g.send(&g.nak); err != nil {
			return err
		}
		g.stats.Nacked += int64(len(part))
	}
	return nil
}

// cut keeps the beginning of a reason, as text.
func cut(reason string) string {
	const most = 4096
	return strings.ToValidUTF8(reason[:min(len(reason), most)], "")
}

// delayed are messages that are held back before their retry.
type delayed struct {
	messages []*Message
	reason   string
	timer    *time.Timer
}

func (g *Group) delay(d time.Duration, reason string, all []*Message) {
	held := &delayed{messages: all, reason: reason}
	g.delayed[held] = struct{}{}
	g.timers.Add(1)
	held.timer = time.AfterFunc(d, func() { g.ripe(held) })
}

// ripe is the timer's, and takes mu itself.
func (g *Group) ripe(d *delayed) {
	defer g.timers.Done()
	g.mu.Lock()
	defer g.unlock()
	if _, held := g.delayed[d]; held {
		delete(g.delayed, d)
		_ = g.sendNak(Retry, d.reason, d.messages) // an error is the connection's, which Recv sees too
	}
}

func (g *Group) drop(d *delayed) {
	delete(g.delayed, d)
	if d.timer.Stop() {
		g.timers.Done()
	}
}

// hastenDelayed gives back at once what is held back.
func (g *Group) hastenDelayed() {
	for d := range g.delayed {
		g.drop(d)
		if g.exchange != nil {
			_ = g.sendNak(Retry, d.reason, d.messages)
		}
	}
}
