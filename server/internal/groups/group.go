package groups

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/google/uuid"
)

// ID is the correlation id of a consumer.
type ID [16]byte

// Outputs is what a group has to be done outside. It must not call the group.
type Outputs interface {
	// Park writes a message to the parked stream; Group.Parked says how it ended.
	Park(m *Message)
	// Checkpoint writes a checkpoint; Group.CheckpointWritten says that it has ended. There is one at a time.
	Checkpoint(number int64)
	// Replayed hides the parked messages before a number, which were replayed.
	Replayed(before int64)
}

// Receiver is where the messages of a consumer go. It must not call the group.
type Receiver interface {
	Deliver(e *Event, retries int)
	// Drop says that there will be no more.
	Drop()
}

// Consumer is one connection to a group.
type Consumer struct {
	ID       ID
	User     string // "" for anonymous
	From     string // the address
	Window   int    // how many messages it may have at once
	Receiver Receiver

	held      int // slots that are taken
	total     int64
	lastTotal int64
	latencies *latencies // nil without statistics
	buckets   int        // of a pinned strategy
}

func (c *Consumer) free() int { return c.Window - c.held }

// Action is what a nak wants.
type Action int32

// The actions of 3.1. Stop does what Skip does, and Unknown what Retry does.
const (
	Unknown Action = iota
	Park
	Retry
	Skip
	Stop
)

// Read is a page that a group wants.
type Read struct {
	Parked bool // of the parked stream, with links followed
	From   int64
	Count  int // nothing can be read when it is not positive: the page is empty, and the end
}

// parkAttempts is how often a message is written to the parked stream before it is given up.
const parkAttempts = 6

// Rules are what groups of newer servers do otherwise.
type Rules struct {
	FreeSlots  bool // an ack or a nak frees the slot of its message, whosever it is: from 5.0 on
	KeepCounts bool // what a consumer had that is gone counts as tried, and is parked when that was often enough: from 20.6 on
}

// Group is the state machine. Its methods are its inputs; they must not be called at the same time.
type Group struct {
	Rules Rules // set before it is used

	settings Settings
	out      Outputs
	now      func() time.Time
	strategy strategy

	consumers []*Consumer // in the order in which they came
	free      int         // slots of all of them

	live     bool
	reading  bool  // a page is wanted
	next     int64 // where it begins
	retrying queue
	buffer   queue
	aside    recent
	table    table

	replaying            bool
	replayNext, replayTo int64

	lastSent         int64 // the highest number, -1 before
	checkpoint       int64 // the last one, -1 before
	checkpointAt     time.Time
	writing          bool // a checkpoint is being written
	lastKnown        int64
	total, lastTotal int64
	lastStats        time.Time
}

// New returns a group that goes on behind a checkpoint, or begins where its settings say when there is none.
func New(settings Settings, checkpoint *int64, out Outputs, now func() time.Time) *Group {
	g := &Group{
		settings: settings, out: out, now: now, strategy: newStrategy(settings.Strategy),
		next: max(settings.StartFrom, 0), live: settings.StartFrom < 0,
		aside:    recent{limit: min(int(settings.LiveBuffer), maxBuffer)},
		lastSent: -1, checkpoint: -1, lastKnown: -1, lastStats: now(),
	}
	if checkpoint != nil {
		g.live = *checkpoint == math.MaxInt64 // of a stream that was deleted: there is no more
		g.next = *checkpoint + 1
	}
	g.read()
	return g
}

// Settings returns what the group was created with.
func (g *Group) Settings() *Settings { return &g.settings }

// Wants returns the page that is to be read next, if there is one. Live events that the page may have must have been given
// before.
func (g *Group) Wants() (Read, bool) {
	switch {
	case g.reading:
		return Read{From: g.next, Count: g.settings.read()}, true
	case g.replaying && g.retrying.len() < maxReplayed:
		count := int64(g.settings.parkedRead())
		if count <= 0 {
			count = defaultRead
		}
		return Read{Parked: true, From: g.replayNext, Count: int(min(count, g.replayTo-g.replayNext))}, true
	}
	return Read{}, false
}

// read wants a page if there is room for one.
func (g *Group) read() {
	room := g.settings.buffer() - g.retrying.len() - g.buffer.len()
	if !g.live && room > g.settings.batch() {
		g.reading = true
	}
}

// Page gives the page that was wanted: its events, the number behind them and whether it is the last one.
func (g *Group) Page(events []Event, next int64, end bool) {
	g.reading = false
	for i := range events {
		g.known(events[i].Number())
		g.addRead(&events[i])
	}
	switch {
	case next == g.next: // no progress is the end as well
		end = true
	case next > g.next, !end: // it begins anew behind the largest number
		g.next = next
	}
	if end && !g.live {
		g.catchUp(g.next)
	}
	g.read()
	g.push()
}

// addRead takes an event of a page, unless the group got live by one before.
func (g *Group) addRead(e *Event) {
	switch {
	case g.live:
	case g.aside.n > 0 && e.Number() >= g.aside.at(0).Number():
		g.catchUp(e.Number())
	default:
		g.buffer.add(item{Event: *e})
	}
}

// catchUp makes the group live with the events that are kept aside, from a number on.
func (g *Group) catchUp(from int64) {
	for ; g.aside.n > 0; g.aside.drop() {
		if e := g.aside.at(0); e.Number() >= from {
			g.buffer.add(item{Event: *e})
		}
	}
	g.live = true
}

// Live gives an event that was just committed.
func (g *Group) Live(e Event) {
	if e.Number() < g.settings.StartFrom {
		return
	}
	g.known(e.Number())
	if g.live {
		if g.buffer.len() < g.settings.buffer() {
			g.buffer.add(item{Event: e})
		} else {
			g.live, g.next = false, e.Number()
		}
	}
	g.aside.add(e)
	g.push()
}

func (g *Group) known(number int64) { g.lastKnown = max(g.lastKnown, number) }

// Full reports whether there are as many consumers as there may be.
func (g *Group) Full() bool {
	limit := int(g.settings.MaxConsumers)
	return len(g.consumers) >= maxConsumers || (limit != 0 && len(g.consumers) >= limit)
}

// Connect adds a consumer. One with the same id as another is refused: that one goes on.
func (g *Group) Connect(c *Consumer) bool {
	if g.consumer(c.ID) != nil {
		return false
	}
	if g.settings.Statistics {
		c.latencies = new(latencies)
	}
	g.consumers = append(g.consumers, c)
	g.free += c.Window
	g.strategy.add(c)
	g.push()
	return true
}

func (g *Group) consumer(id ID) *Consumer {
	for _, c := range g.consumers {
		if c.ID == id {
			return c
		}
	}
	return nil
}

// Disconnect removes consumers whose connection ended, or that unsubscribed. What they had goes to others.
func (g *Group) Disconnect(gone ...*Consumer) {
	var lost []*Message
	for _, c := range gone {
		i := slices.Index(g.consumers, c)
		if i < 0 {
			continue
		}
		g.consumers = slices.Delete(g.consumers, i, i+1)
		g.strategy.remove(c)
		for _, m := range g.table.byID {
			for ; m != nil; m = m.twin {
				if m.consumer == c {
					lost = append(lost, m)
				}
			}
		}
		g.free -= c.free()
		c.Receiver.Drop()
	}
	slices.SortStableFunc(lost, func(a, b *Message) int {
		return cmp.Or(cmp.Compare(a.Number(), b.Number()), cmp.Compare(b2i(a.Replayed), b2i(b.Replayed)), a.sent.Compare(b.sent))
	})
	for _, m := range lost {
		m.consumer.held--
		m.consumer = nil
		if m.parking {
			continue
		}
		if g.Rules.KeepCounts {
			g.failed(m)
			continue
		}
		g.retry(m, 1) // a real 4.1 server forgets the old count
	}
	g.push()
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Close drops all consumers: the group is deleted, or made anew. What follows has no effect.
func (g *Group) Close() {
	for _, c := range g.consumers {
		c.Receiver.Drop()
	}
	g.consumers, g.free = nil, 0
	g.reading, g.replaying, g.live = false, false, true
}

// Unfinished returns the replayed messages that are not done with. They are in no stream any more, so that the group that
// takes the place of this one has to have them.
func (g *Group) Unfinished() []Event {
	var events []Event
	for _, m := range g.table.byID {
		for ; m != nil; m = m.twin {
			if m.Replayed && m.outstanding {
				events = append(events, m.Event)
			}
		}
	}
	for i := range g.retrying.len() {
		if it := g.retrying.at(i); it.Replayed {
			events = append(events, it.Event)
		}
	}
	slices.SortFunc(events, func(a, b Event) int { return cmp.Compare(a.Number(), b.Number()) })
	return events
}

// Ack ends messages that a consumer has done. An id that is not outstanding is passed over.
func (g *Group) Ack(of ID, ids []uuid.UUID) {
	for _, id := range ids {
		if m := g.table.find(id, of); m != nil {
			g.finish(m, of)
		}
	}
	g.settled()
}

// Nak does what a consumer wants with messages that it has not done.
func (g *Group) Nak(of ID, ids []uuid.UUID, action Action, text string) {
	for _, id := range ids {
		m := g.table.find(id, of)
		switch {
		case m == nil:
		case !m.outstanding || action == Skip || action == Stop:
			g.finish(m, of)
		case action == Park:
			g.park(m, "Client explicitly NAK'ed message.\n"+text)
			g.releaseTo(m, of)
		default:
			g.failed(m)
			g.releaseTo(m, of)
		}
	}
	g.settled()
}

// settled is what follows an ack or a nak.
func (g *Group) settled() {
	g.mark(false)
	g.read()
	g.push()
}

// finish ends a message, and frees its slot if that is the consumer's of this id.
func (g *Group) finish(m *Message, of ID) {
	g.releaseTo(m, of)
	g.table.settle(m)
	g.table.forget(m)
}

// releaseTo frees the slot of a message if that is of the consumer with this id, or if the rules do not ask.
func (g *Group) releaseTo(m *Message, of ID) {
	if m.consumer != nil && (m.consumer.ID == of || g.Rules.FreeSlots) {
		g.release(m)
	}
}

// release frees the slot of a message.
func (g *Group) release(m *Message) {
	c := m.consumer
	if c == nil {
		return
	}
	if c.latencies != nil {
		c.latencies.add(g.now().Sub(m.sent))
	}
	m.consumer = nil
	c.held--
	g.free++
	g.strategy.freed(c, &m.Event)
}

// failed sends an outstanding message again, or parks it when that was tried often enough.
func (g *Group) failed(m *Message) {
	if m.Retries >= int(g.settings.MaxRetries) {
		g.park(m, fmt.Sprintf("Reached retry count of %d", g.settings.MaxRetries))
		return
	}
	g.release(m)
	g.retry(m, m.Retries+1)
}

// retry sends a message without a slot again, as soon as there is room.
func (g *Group) retry(m *Message, retries int) {
	g.table.settle(m)
	g.table.unknown(m)
	g.table.see(m)
	g.retrying.insert(item{Event: m.Event, again: m, retries: retries})
}

// park has a message written to the parked stream. It has its slot until then, unless somebody frees it.
func (g *Group) park(m *Message, reason string) {
	m.reason, m.parking = reason, true
	g.table.settle(m)
	g.out.Park(m)
}

// Parked says that a message was written to the parked stream, or could not be.
func (g *Group) Parked(m *Message, written bool) {
	if m.failures++; !written && m.failures < parkAttempts {
		g.out.Park(m)
		return
	}
	m.parking = false
	g.release(m)
	g.table.forget(m)
	g.mark(false)
	g.push()
}

// Tick is called once a second.
func (g *Group) Tick() {
	now := g.now()
	for m := g.table.first; m != nil && !m.expires.After(now); m = g.table.first {
		g.failed(m)
	}
	g.push()
	g.mark(true)
	if g.table.size == 0 && g.retrying.len() == 0 && g.buffer.len() == 0 {
		g.read() // nobody has anything to ack: a real server waits for ever
	}
}

// push sends what consumers have room for.
func (g *Group) push() {
	_ = g.retrying.offer(g.send) && g.buffer.offer(g.send)
}

func (g *Group) send(it *item) outcome {
	if g.free <= 0 || g.table.size >= maxInFlight {
		return noRoom
	}
	c := g.strategy.choose(&it.Event)
	if c == nil {
		return skipped
	}
	m := g.start(it, c)
	c.held++
	c.total++
	g.free--
	c.Receiver.Deliver(&m.Event, m.Retries)
	return sent
}

// start begins an outstanding message, in a slot of a consumer or of nobody.
func (g *Group) start(it *item, c *Consumer) *Message {
	m := it.again
	if m == nil {
		m = &Message{Event: it.Event}
	}
	m.Retries, m.consumer = it.retries, c
	g.table.add(m, milliseconds(g.settings.MessageTimeout), g.now())
	g.total++
	if !m.Replayed {
		g.lastSent = max(g.lastSent, m.Number())
	}
	return m
}

// Take sends up to n messages to somebody who is no consumer and has no slots, whatever the strategy. There are fewer
// when they have more than so many bytes together, but one is always sent.
func (g *Group) Take(n, bytes int) (taken []Event) {
	take := func(it *item) outcome {
		if len(taken) == n || g.table.size >= maxInFlight {
			return noRoom
		}
		if bytes -= it.size(); bytes < 0 && len(taken) > 0 {
			return noRoom
		}
		taken = append(taken, g.start(it, nil).Event)
		return sent
	}
	_ = g.retrying.offer(take) && g.buffer.offer(take)
	return taken
}

// Replay sends the parked messages before a number again.
func (g *Group) Replay(before int64) {
	if g.replaying || before <= 0 {
		return
	}
	g.replaying, g.replayNext, g.replayTo = true, 0, before
}

// ParkedPage gives the page of the parked stream that was wanted.
func (g *Group) ParkedPage(events []Event, next int64, end bool) {
	if !g.replaying {
		return
	}
	for i := range events {
		if events[i].Number() >= g.replayTo {
			break
		}
		g.retrying.insert(item{Event: events[i]})
	}
	g.push()
	if !end && next > g.replayNext && next < g.replayTo {
		g.replayNext = next
		return
	}
	g.replaying = false
	done := g.replayTo
	if next >= 0 {
		done = min(done, next)
	}
	g.out.Replayed(done)
}

// Resume takes over what a group before had replayed and not done with.
func (g *Group) Resume(events []Event) {
	for i := range events {
		g.retrying.insert(item{Event: events[i]})
	}
}

// mark writes a checkpoint if it is time for one.
func (g *Group) mark(tick bool) {
	number := g.done()
	if number == -1 || g.writing {
		return
	}
	s, now := &g.settings, g.now()
	ahead := number - g.checkpoint
	// Never by time is 0, and no time has passed before the first.
	due := s.CheckpointAfter != 0 && (g.checkpointAt.IsZero() || now.Sub(g.checkpointAt) >= milliseconds(s.CheckpointAfter))
	most := ahead >= int64(s.CheckpointMax)
	byTime := due && tick && ahead >= int64(s.CheckpointMin)
	if ahead <= 0 || (!most && !byTime) {
		return
	}
	g.checkpointAt, g.checkpoint, g.writing = now, number, true
	g.out.Checkpoint(number)
}

// done is the number up to which every message is gone, -1 for none.
func (g *Group) done() int64 {
	lowest := int64(math.MaxInt64)
	found := false
	see := func(number int64) { lowest, found = min(lowest, number), true }
	if len(g.table.lowest) > 0 {
		see(g.table.number(1))
	}
	if g.buffer.len() > 0 && g.buffer.at(0).Number() <= g.lastSent { // skipped, while its consumer was full
		see(g.buffer.at(0).Number())
	}
	if !found {
		return g.lastSent
	}
	return lowest - 1
}

// CheckpointWritten says that the checkpoint under way was written, or could not be.
func (g *Group) CheckpointWritten() { g.writing = false }
