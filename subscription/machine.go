package subscription

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
	request := messages.Of(messages.SubscribeToStream, &pb.SubscribeToStream{
		EventStreamId: &s.cfg.Stream, ResolveLinkTos: proto.Bool(!s.cfg.RawLinks),
	})
	x, err := s.client.Open(ctx, request, eventstore.Window{Frames: s.cfg.Buffer, Bytes: bufferBytes}, s.cfg.Call...)
	if err != nil {
		return err
	}
	last, err := confirmation(ctx, x)
	if err != nil {
		_ = x.Close()
		if s.again && errors.Is(err, eventstore.ErrConnectionLost) {
			return s.pause(ctx)
		}
		return err
	}
	s.confirmed = last
	s.adopt(x)
	if s.again {
		s.tell(Resubscribed, nil)
	}
	s.again = true
	// Read in any case, up to the end: what was committed while the server confirmed is neither confirmed nor pushed.
	s.state, s.doubted = reading, false
	return nil
}

// confirmation is the first answer of an exchange: the number of the stream's last event, -1 when there is none.
func confirmation(ctx context.Context, x *eventstore.Exchange) (int64, error) {
	r, err := x.Recv(ctx)
	if err != nil {
		return 0, err
	}
	switch r.Command {
	case messages.SubscriptionConfirmation:
		m := pb.SubscriptionConfirmation{}
		if err := r.Unmarshal(&m); err != nil {
			return 0, fmt.Errorf("%w: %w", eventstore.ErrProtocol, err)
		}
		last := m.GetLastEventNumber()
		if last == messages.DeletedNumber || last == messages.DeletedNumber32 && x.Numbers32() {
			return 0, eventstore.ErrStreamDeleted
		}
		return last, nil
	case messages.SubscriptionDropped:
		return 0, dropped(r)
	}
	return 0, fmt.Errorf("%w: %s to SubscribeToStream", eventstore.ErrProtocol, r.Command)
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
	if s.next < 0 { // From End
		s.next = s.confirmed + 1
		if s.confirmed >= 0 {
			s.from = eventstore.After(s.confirmed)
		} else {
			s.from = eventstore.Start
		}
	}
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
	opts := eventstore.ReadOptions(s.cfg.Call)
	if s.cfg.RawLinks {
		opts = append(opts, eventstore.RawLinks())
	}
	asked := s.cfg.PageSize
	if s.most > 0 {
		asked = min(asked, s.most)
	}
	slice, err := s.client.ReadSlice(ctx, s.cfg.Stream, eventstore.At(s.next), asked, opts...)
	switch {
	case errors.Is(err, eventstore.ErrStreamNotFound):
		if slice.Last >= s.next && !s.doubted {
			// The event that undeletes a stream is committed a moment before what makes it readable: look once more.
			s.doubted = true
			return pause.For(ctx, 500*time.Millisecond)
		}
		s.missing()
		return nil
	case errors.Is(err, eventstore.ErrStreamDeleted) && s.confirmed < s.next:
		s.follow() // it was deleted since: whatever it got before, and the tombstone, are pushed
		return nil
	case err != nil:
		return err
	}
	s.page = slice.Events
	s.resize(asked, &slice)
	s.mu.Lock()
	s.stats.Pages++
	s.stats.Buffered = len(s.page)
	s.mu.Unlock()
	switch {
	case slice.Next > s.confirmed && slice.EndOfStream:
		s.follow()
	case slice.Next > s.next && len(slice.Events) == 0:
		s.skipTo(slice.Next) // truncated, or expired
	case len(slice.Events) == 0:
		// A copy of the stream that has not come as far as the confirmation: give it time.
		return s.pause(ctx)
	}
	return nil
}

// resize takes to what a page was halved, which was too large or too slow, and doubles it again when pages are small.
func (s *Subscription) resize(asked int, slice *eventstore.Slice) {
	if slice.Asked < asked {
		s.most = slice.Asked
		return
	}
	if s.most == 0 {
		return
	}
	size := 0
	for _, e := range slice.Events {
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
	if s.confirmed >= 0 {
		kind = SoftDeleted
		s.skipTo(s.confirmed + 1)
	}
	if !s.absent {
		s.absent = true
		s.tell(kind, nil)
	}
	s.follow()
}

// skipTo passes over numbers that will never be read.
func (s *Subscription) skipTo(next int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = max(s.next, next)
}

// follow turns to the pushed events. It is live behind those that wait already.
func (s *Subscription) follow() {
	s.state = pushed
	s.waited = s.exchange.Held()
}

func (s *Subscription) fromPage() (eventstore.ResolvedEvent, bool) {
	for len(s.page) > 0 {
		e := s.page[0]
		s.page[0] = eventstore.ResolvedEvent{}
		s.page = s.page[1:]
		if s.deliver(e) {
			return e, true
		}
	}
	s.page = nil
	return eventstore.ResolvedEvent{}, false
}

// deliver moves the place behind e, or refuses an event that was delivered already.
func (s *Subscription) deliver(e eventstore.ResolvedEvent) bool {
	n := e.Original().Number
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Buffered = len(s.page)
	if n < s.next || s.err != nil {
		return false
	}
	s.next = n + 1
	s.from = e.Checkpoint()
	s.absent = false
	return true
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
	case messages.SubscriptionDropped:
		err := dropped(r)
		if !errors.Is(err, errUnsubscribed) {
			return e, false, err
		}
		_ = s.exchange.Close()
		if err := s.lost(err); err != nil {
			return e, false, err
		}
		return e, false, s.pause(ctx)
	}
	return e, false, fmt.Errorf("%w: %s in a subscription", eventstore.ErrProtocol, r.Command)
}

func (s *Subscription) event(r messages.Reply) (eventstore.ResolvedEvent, bool, error) {
	var record messages.ResolvedEvent
	if err := messages.DecodeAppeared(s.memory.Copy(r.Body), &s.names, &record); err != nil {
		return eventstore.ResolvedEvent{}, false, fmt.Errorf("%w: %w", eventstore.ErrProtocol, err)
	}
	e := eventstore.DecodeEvent(&record)
	switch o := e.Original(); {
	case o == nil:
		return eventstore.ResolvedEvent{}, false, fmt.Errorf("%w: a pushed event without a record", eventstore.ErrProtocol)
	case o.Number == math.MaxInt64 || o.Number == messages.DeletedNumber32 && o.Type == "$streamDeleted":
		return eventstore.ResolvedEvent{}, false, eventstore.ErrStreamDeleted
	}
	s.waits.Reset()
	return e, s.deliver(e), nil
}

// lost returns to subscribing, unless the cause is final.
func (s *Subscription) lost(cause error) error {
	switch closed := s.ended(); {
	case closed != nil:
		return closed
	case !errors.Is(cause, eventstore.ErrOverflow) && !errors.Is(cause, eventstore.ErrConnectionLost) && !errors.Is(cause, errUnsubscribed):
		return cause
	}
	s.state = subscribing
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

func (s *Subscription) tell(kind Kind, err error) {
	if s.cfg.OnNotice != nil {
		s.cfg.OnNotice(Notice{Kind: kind, Stream: s.cfg.Stream, Checkpoint: s.Checkpoint(), Err: err})
	}
}

func (s *Subscription) pause(ctx context.Context) error { return pause.For(ctx, s.waits.NextBackOff()) }
