package subscription

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// What differs between a stream, whose places are numbers, and $all, whose places are positions. Both are eventstore.From: the
// machine compares places of one kind and never looks into them.

// before compares places of one kind; that they are was checked.
func before(f, g eventstore.From) bool {
	c, _ := f.Compare(g)
	return c < 0
}

// at is the place of an event.
func (s *Subscription) at(e *eventstore.ResolvedEvent) eventstore.From {
	if s.all {
		return eventstore.AtPosition(e.Position)
	}
	return eventstore.At(e.Original().Number)
}

// behind is the place behind the event with this number; there is none with -1.
func behind(number int64) eventstore.From {
	if number < 0 {
		return eventstore.Start
	}
	return eventstore.After(number)
}

// checkpointInterval is of how many events a server that filters says that it has looked at them.
const checkpointInterval = 100

// request is what asks the server to push.
func (s *Subscription) request() messages.Request {
	stream := s.cfg.Stream
	if s.all {
		stream = ""
	}
	if s.filter != nil && !s.picking {
		return messages.Of(messages.FilteredSubscribeToStream, &pb.FilteredSubscribeToStream{
			EventStreamId: &stream, ResolveLinkTos: proto.Bool(!s.cfg.RawLinks), Filter: s.filter,
			CheckpointInterval: proto.Int32(checkpointInterval),
		})
	}
	return messages.Of(messages.SubscribeToStream, &pb.SubscribeToStream{
		EventStreamId: &stream, ResolveLinkTos: proto.Bool(!s.cfg.RawLinks),
	})
}

// confirmedEnd is the place behind all that was there when the server confirmed.
func (s *Subscription) confirmedEnd(m *pb.SubscriptionConfirmation, numbers32 bool) (eventstore.From, error) {
	if s.all {
		last := m.GetLastCommitPosition()
		if last < 0 {
			return eventstore.Start, nil
		}
		return eventstore.AfterPosition(eventstore.Position{Commit: last, Prepare: last}), nil
	}
	last := m.GetLastEventNumber()
	if last == messages.DeletedNumber || last == messages.DeletedNumber32 && numbers32 {
		return eventstore.From{}, eventstore.ErrStreamDeleted
	}
	return behind(last), nil
}

// page is what a read brought.
type page struct {
	events []eventstore.ResolvedEvent
	next   eventstore.From // where the next page begins
	passed eventstore.From // with this page all before is seen; Start when the events alone say so
	end    bool            // nothing is left, as of then
	last   eventstore.From // the end of the stream, as far as the page tells
	asked  int             // for how many events in the end
}

// fetch reads a page from s.next on. Beside ErrStreamNotFound the page has its last.
func (s *Subscription) fetch(ctx context.Context, count int) (page, error) {
	opts := eventstore.ReadOptions(s.cfg.Call)
	if s.cfg.RawLinks {
		opts = append(opts, eventstore.RawLinks())
	}
	if !s.all {
		slice, err := s.client.ReadSlice(ctx, s.cfg.Stream, s.next, count, opts...)
		if err != nil {
			return page{last: behind(slice.Last)}, err
		}
		return page{
			events: slice.Events, next: eventstore.At(slice.Next), passed: behind(slice.Next - 1),
			end: slice.EndOfStream, last: behind(slice.Last), asked: slice.Asked,
		}, nil
	}
	if s.cfg.Filter != nil {
		opts = append(opts, *s.cfg.Filter)
	}
	slice, err := s.client.ReadAllSlice(ctx, s.next, count, opts...)
	p := page{events: slice.Events, next: slice.Next, end: slice.End, asked: slice.Asked}
	if err == nil && s.cfg.Filter != nil {
		// The next page may begin where nothing is yet. What was confirmed is there: a checkpoint says so, see beyond.
		if p.passed = p.next; before(s.confirmed, p.next) {
			p.passed = s.confirmed
		}
	}
	return p, err
}

// beyond reports whether the subscription is to go on behind an event that is not there. At(n) of a stream is no such place: it
// may be waited for.
func (s *Subscription) beyond(ctx context.Context) (bool, error) {
	switch {
	case !before(s.confirmed, s.from):
		return false, nil
	case s.from.Exclusive():
		return true, nil
	case !s.all:
		return false, nil
	}
	// At a position: the end of the log is one, behind what was confirmed, and is told to who reads from (-1, -1).
	r, err := s.client.Call(ctx, &messages.AllRead{Commit: -1, Prepare: -1, Count: 1}, s.cfg.Call...)
	if err != nil {
		return false, err
	}
	var end messages.AllPage
	if err := end.Decode(r.Body); err != nil {
		return false, fmt.Errorf("%w: %w", eventstore.ErrProtocol, err)
	}
	p, _ := s.from.Position()
	return end.Result == messages.ReadAllSuccess && p.Commit > end.NextCommit, nil
}

// picks reports whether an event is wanted, as far as nobody else has asked.
func (s *Subscription) picks(e *eventstore.ResolvedEvent) bool {
	switch {
	case !s.picking:
		return true
	case s.all || e.Event == nil:
		return s.cfg.Filter.Match(e.Original())
	}
	return s.cfg.Filter.Match(e.Event)
}
