package subscription

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/pause"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// interruptible returns a context that Close ends too, or the error of a subscription that has ended.
func (s *Subscription) interruptible(ctx context.Context) (context.Context, context.CancelFunc, error) {
	ctx, cancel := context.WithCancel(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		cancel()
		return nil, nil, s.err
	}
	s.cancel = cancel
	return ctx, cancel, nil
}

// subscribe opens a new exchange and takes the confirmation.
func (s *Subscription) subscribe(ctx context.Context) error {
	ctx, cancel, err := s.interruptible(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	s.picking = s.filter == nil && s.cfg.Filter != nil
	x, confirmed, err := s.exchangeOf(ctx)
	var refused *eventstore.ServerError
	if s.filter != nil && errors.As(err, &refused) && refused.Command == messages.BadRequest {
		s.picking = true // older than 20.6; the next connection may be to another server
		x, confirmed, err = s.exchangeOf(ctx)
	}
	if err != nil {
		if s.again && x != nil && (errors.Is(err, eventstore.ErrConnectionLost) || errors.Is(err, errUnsubscribed)) {
			return s.pause(ctx)
		}
		return err
	}
	s.confirmed, s.adopted = confirmed, time.Now()
	s.adopt(x)
	if s.again {
		s.tell(Resubscribed, nil)
	}
	s.again = true
	// Read in any case, up to the end: what was committed while the server confirmed is neither confirmed nor pushed.
	s.next = s.from
	s.doubted, s.judged = false, false
	s.turn(reading)
	return nil
}

// exchangeOf opens an exchange and takes its first answer: how far the stream goes. One beside an error has ended.
func (s *Subscription) exchangeOf(ctx context.Context) (*eventstore.Exchange, eventstore.From, error) {
	x, err := s.client.Open(ctx, s.request(), eventstore.Window{Frames: s.cfg.Buffer, Bytes: bufferBytes}, s.cfg.Call...)
	if err != nil {
		return nil, eventstore.From{}, err
	}
	confirmed, err := s.confirmation(ctx, x)
	if err != nil {
		_ = x.Close()
	}
	return x, confirmed, err
}

func (s *Subscription) confirmation(ctx context.Context, x *eventstore.Exchange) (eventstore.From, error) {
	r, err := x.Recv(ctx)
	if err != nil {
		return eventstore.From{}, err
	}
	switch r.Command {
	case messages.SubscriptionConfirmation:
		m := pb.SubscriptionConfirmation{}
		if err := r.Unmarshal(&m); err != nil {
			return eventstore.From{}, fmt.Errorf("%w: %w", eventstore.ErrProtocol, err)
		}
		return s.confirmedEnd(&m, x.Numbers32())
	case messages.SubscriptionDropped:
		return eventstore.From{}, dropped(r)
	}
	return eventstore.From{}, fmt.Errorf("%w: %s to SubscribeToStream", eventstore.ErrProtocol, r.Command)
}

// errUnsubscribed says that the server ended the subscription without a reason, as it does when it shuts down.
var errUnsubscribed = errors.New("the server ended the subscription")

func dropped(r messages.Reply) error {
	var m pb.SubscriptionDropped
	if err := r.Unmarshal(&m); err != nil {
		return fmt.Errorf("%w: %w", eventstore.ErrProtocol, err)
	}
	switch m.GetReason() {
	case pb.SubscriptionDropped_Unsubscribed:
		return errUnsubscribed
	case pb.SubscriptionDropped_AccessDenied:
		return eventstore.ErrAccessDenied
	case pb.SubscriptionDropped_NotFound:
		return eventstore.ErrStreamNotFound
	default:
		return fmt.Errorf("%w: the server dropped the subscription: %s", eventstore.ErrProtocol, m.GetReason())
	}
}

// adopt makes x the exchange, unless the subscription was closed meanwhile.
func (s *Subscription) adopt(x *eventstore.Exchange) {
	s.mu.Lock()
	s.exchange = x
	closing := s.closing
	switch {
	case s.from.IsEnd():
		s.from, s.assumed = s.confirmed, true
	case s.assumed && before(s.confirmed, s.from):
		// Another node, which has not come as far, or is the leader now: what it is yet to get was never seen.
		if s.from = s.confirmed; before(s.from, s.floor) {
			s.from = s.floor
		}
	}
	s.end = s.confirmed
	if s.again {
		s.stats.Resubscriptions++
	}
	s.mu.Unlock()
	if closing {
		_ = x.Close()
	}
}

// read fetches the next page of what came before the confirmation.
func (s *Subscription) read(ctx context.Context) error {
	ctx, cancel, err := s.interruptible(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	if !s.judged {
		return s.judge(ctx)
	}
	asked := s.cfg.PageSize
	if s.most > 0 {
		asked = min(asked, s.most)
	}
	p, err := s.fetch(ctx, asked)
	switch {
	case errors.Is(err, eventstore.ErrStreamNotFound):
		if before(s.next, p.last) && !s.doubted {
			// The event that undeletes a stream is committed a moment before what makes it readable: look once more.
			s.doubted = true
			return pause.For(ctx, doubt)
		}
		if before(p.last, s.confirmed) {
			return s.await(ctx)
		}
		s.missing()
		return nil
	case errors.Is(err, eventstore.ErrStreamDeleted) && !before(s.from, s.confirmed):
		s.follow() // it was deleted since: whatever it got before, and the tombstone, are pushed
		return nil
	case err != nil:
		return err
	}
	moved := before(s.next, p.next)
	s.page, s.next = p, p.next
	s.resize(asked)
	s.mu.Lock()
	s.stats.Pages++
	s.stats.Buffered = len(p.events)
	if before(s.end, p.last) {
		s.end = p.last
	}
	s.mu.Unlock()
	switch reached := !before(p.next, s.confirmed); {
	case p.end && (reached || s.all && s.doubted):
		s.follow()
	case p.end && s.all:
		// What was confirmed may be a commit without an event, behind which no page leads, or this may be another node, which has
		// not come as far: then the connection that confirmed ends by and by.
		s.doubted = true
		return pause.For(ctx, doubt)
	case !moved && len(p.events) == 0:
		return s.await(ctx)
	}
	return nil
}

// await gives time to a node that has not come as far as the confirmation. It may never: what was confirmed was rolled back. Then
// the connection that confirmed ends by and by, and who answers now is asked.
func (s *Subscription) await(ctx context.Context) error {
	if err := s.exchange.Err(); err != nil {
		return s.lost(err)
	}
	return s.pause(ctx)
}

// doubt is how long it waits before it looks again at what should not be.
const doubt = 500 * time.Millisecond

// judge tells whether the place is beyond the end, before anything is read.
func (s *Subscription) judge(ctx context.Context) error {
	beyond, err := s.beyond(ctx)
	if err != nil {
		return err
	}
	s.judged = true
	if beyond && !s.astray {
		s.tell(Beyond, fmt.Errorf("%w: %v, where the server has nothing behind %v", ErrBeyond, s.from, s.confirmed))
	}
	s.astray = beyond
	return nil
}

// resize takes to what a page was halved, which was too large or too slow, and doubles it again when pages are small.
func (s *Subscription) resize(asked int) {
	if s.page.asked < asked {
		s.most = s.page.asked
		return
	}
	if s.most == 0 {
		return
	}
	size := 0
	for _, e := range s.page.events {
		for _, record := range []*eventstore.Event{e.Event, e.Link} {
			if record != nil {
				size += len(record.Data) + len(record.Metadata)
			}
		}
	}
	if size > messages.MaxFrame/4 {
		return
	}
	if s.most *= 2; s.most >= s.cfg.PageSize {
		s.most = 0
	}
}

// missing: a stream that reads as not found. One that had events is soft-deleted, and its numbers go on behind them.
func (s *Subscription) missing() {
	kind := NoStream
	if !s.confirmed.IsStart() {
		kind = SoftDeleted
		if before(s.from, s.confirmed) {
			if !s.assumed {
				s.floor = s.from
			}
			s.pass(s.confirmed)
			s.assumed = true
		}
	}
	if s.absent != kind {
		s.absent = kind
		s.tell(kind, nil)
	}
	s.follow()
}

// follow turns to the pushed events. It is live behind those that wait already.
func (s *Subscription) follow() {
	s.waited = s.exchange.Held()
	s.turn(pushed)
}

func (s *Subscription) turn(to state) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = to
}

func (s *Subscription) fromPage() (eventstore.ResolvedEvent, bool) {
	events := s.page.events
	for i := range events {
		e := events[i]
		events[i] = eventstore.ResolvedEvent{}
		s.page.events = events[i+1:]
		if s.deliver(&e) {
			return e, true
		}
	}
	s.pass(s.page.passed)
	s.page = page{}
	return eventstore.ResolvedEvent{}, false
}

// pass moves the place over what will never be delivered.
func (s *Subscription) pass(to eventstore.From) {
	if before(s.from, to) {
		s.mu.Lock()
		s.move(to)
		s.mu.Unlock()
	}
}

// deliver moves the place behind e, and reports whether e is to be delivered: it is not when it was already, or is not wanted.
func (s *Subscription) deliver(e *eventstore.ResolvedEvent) bool {
	if before(s.at(e), s.from) {
		return false
	}
	if s.absent == SoftDeleted {
		s.tell(Recreated, nil)
	}
	s.absent, s.astray = present, false
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Buffered = len(s.page.events)
	if s.err != nil {
		return false
	}
	s.move(e.Checkpoint())
	return s.picks(e)
}

// move sets the place, and the end with it if that was not known to be there. The lock is held.
func (s *Subscription) move(to eventstore.From) {
	if s.from, s.assumed = to, false; before(s.end, to) {
		s.end = to
	}
}

// take returns the next pushed event; without one, the state has changed, or err says why not.
func (s *Subscription) take(ctx context.Context) (e eventstore.ResolvedEvent, ok bool, err error) {
	if s.waited <= 0 && !s.live {
		s.live = true
		s.setLive()
		s.tell(CaughtUp, nil)
	}
	r, err := s.exchange.Recv(ctx)
	if err != nil {
		if ctx.Err() != nil && s.exchange.Err() == nil {
			return e, false, err
		}
		return e, false, s.lost(err)
	}
	s.waited--
	switch r.Command {
	case messages.StreamEventAppeared:
		return s.event(r)
	case messages.SubscriptionConfirmation:
		return e, false, nil // a second one says nothing new
	case messages.CheckpointReached:
		return e, false, s.checkpointReached(r)
	case messages.SubscriptionDropped:
		err := dropped(r)
		if !errors.Is(err, errUnsubscribed) {
			return e, false, err
		}
		_ = s.exchange.Close()
		if err := s.lost(err); err != nil {
			return e, false, err
		}
		if time.Since(s.adopted) >= calm {
			s.waits.Reset()
		}
		return e, false, s.pause(ctx)
	}
	return e, false, fmt.Errorf("%w: %s in a subscription", eventstore.ErrProtocol, r.Command)
}

func (s *Subscription) event(r messages.Reply) (e eventstore.ResolvedEvent, ok bool, err error) {
	body := r.Body // the exchange's until its next Recv
	if !s.cfg.Borrowed {
		body = s.memory.Copy(body)
	}
	if err := messages.DecodeAppeared(body, &s.names, &s.record); err != nil {
		return e, false, fmt.Errorf("%w: %w", eventstore.ErrProtocol, err)
	}
	if s.cfg.Borrowed {
		e = s.decoder.Lend(&s.record)
	} else {
		e = s.decoder.Decode(&s.record)
	}
	e.All = s.all
	switch o := e.Original(); {
	case o == nil:
		return e, false, fmt.Errorf("%w: a pushed event without a record", eventstore.ErrProtocol)
	case s.all: // tombstones are events of the log
	case o.Number == math.MaxInt64 || o.Number == messages.DeletedNumber32 && o.Type == "$streamDeleted":
		return e, false, eventstore.ErrStreamDeleted
	}
	s.waits.Reset()
	return e, s.deliver(&e), nil
}

// calm is how long a subscription must have lasted for the waits to begin anew when it is dropped: a stream may have no events for long.
const calm = 10 * time.Second

// checkpointReached moves the place over events that the server has looked at and does not push.
func (s *Subscription) checkpointReached(r messages.Reply) error {
	var m pb.CheckpointReached
	if err := r.Unmarshal(&m); err != nil {
		return fmt.Errorf("%w: %w", eventstore.ErrProtocol, err)
	}
	if at := (eventstore.Position{Commit: m.GetCommitPosition(), Prepare: m.GetPreparePosition()}); at.Commit >= 0 && at.Prepare >= 0 {
		s.pass(eventstore.AfterPosition(at))
	}
	return nil
}

// lost returns to subscribing, unless the cause is final.
func (s *Subscription) lost(cause error) error {
	switch closed := s.ended(); {
	case closed != nil:
		return closed
	case !errors.Is(cause, eventstore.ErrOverflow) && !errors.Is(cause, eventstore.ErrConnectionLost) && !errors.Is(cause, errUnsubscribed):
		return cause
	}
	s.turn(subscribing)
	if s.live {
		s.live = false
		s.setLive()
		s.tell(FellBehind, cause)
	}
	return nil
}

func (s *Subscription) setLive() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Live = s.live
}

func (s *Subscription) pause(ctx context.Context) error { return pause.For(ctx, s.waits.NextBackOff()) }
