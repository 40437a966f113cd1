// Package subscription follows a stream, or everything: the events from a place on, those that are there and those that come, each once
// and in order, over every loss of the connection. Live is a catch-up from End: there is one kind.
//
// A subscription is a state machine that Recv drives; it has no goroutine of its own.
//
//	subscribing  asks the server to push; the confirmation says how far the stream went at that moment
//	reading      reads pages up to the confirmed place, while the pushed events wait in the exchange's bounded window
//	pushed       takes the pushed events, skipping what the pages had; live once those that waited are taken
//	ended        for ever: Close, a hard delete, access denied, or a limit of attempts that is spent
//
//	subscribing -> reading    confirmed
//	reading     -> pushed     the pages reached the confirmed place and the end of the stream, or there is no stream
//	pushed      -> subscribing  the window overflowed, the server dropped it, or the connection was lost
//	reading     -> subscribing  the connection was lost, and who answers now has not what was confirmed
//	any         -> ended
//
// Each subscribing uses a new exchange with a new correlation id, so frames of an older one reach nobody. The place,
// which is a number of a stream or a position of $all, only grows with the events, and with what is said to be deleted or not wanted.
// A slow consumer costs itself a return to reading, and nobody else anything: the window is bounded, the socket is never held up, and it
// is never dropped.
//
// A cluster that loses its leader may roll back what this had and the others had not. The numbers are given out again. Who follows has
// had the events that are no more, is not told that they are, and does not get those that came in their places: the place is behind
// them already. What no event has shown it does not trust for long: a place that a confirmation alone has given, with From End or
// at a soft-deleted stream, goes back to what the next one confirms if that is less, and of a stream that was confirmed and is not
// there nothing is passed over. Who resumes behind the end of what is left is told so by Beyond.
package subscription

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/pieces"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// Config says what to follow and from where. The zero value of each field but Stream is usable.
//
// Of $all the server picks what Filter wants, from 20.6 on, and a link is judged by itself. Everything from an older server, and the
// events of a stream, are picked here, where of a stream's links it is the target that counts, if there is one to deliver. The
// checkpoint moves over what is not wanted, so that who begins there again need not pass it again; a server that picks
// says so after each 100 events.
type Config struct {
	Stream   string                  // must not be empty; eventstore.All is everything, which needs the right to read $all
	From     eventstore.From         // Start, End, At(n) or After(n), and of $all a position. Default: Start
	Filter   *eventstore.Filter      // which events. Default: all. See below
	RawLinks bool                    // deliver links as they are. Default: resolved to their targets
	Borrowed bool                    // lend events until the next Recv, as bufio.Scanner.Bytes is: pushed ones cost no copy. Clone keeps one
	Buffer   int                     // pushed events that wait at most, before it falls back to reading. Default: 4096
	PageSize int                     // events a read fetches, 1 to eventstore.MaxPageSize. Default: 500
	OnNotice func(Notice)            // called on Recv's goroutine, in order, between events, also while Recv waits
	Call     []eventstore.CallOption // for the calls that it makes
}

const (
	defaultBuffer   = 4096
	defaultPageSize = 500
	bufferBytes     = 8 << 20
)

type state int

// present is no Kind: neither NoStream nor SoftDeleted.
const present Kind = -1

const (
	subscribing state = iota
	reading
	pushed
)

// Subscription is a place in a stream that moves. Recv and Events are for one goroutine at a time; the other methods are
// safe for concurrent use.
type Subscription struct {
	client *eventstore.Client
	cfg    Config

	all       bool            // it follows $all: places are positions
	filter    *pb.Filter      // for a server that picks; nil: none, or it follows a stream
	picking   bool            // Config.Filter is asked here
	confirmed eventstore.From // the stream's end when the server confirmed
	next      eventstore.From // where the next page begins
	page      page
	most      int             // how many events a page may have, after one that was too large; 0: as configured
	waited    int             // pushed events that had come before the pages were read: behind them it is live
	live      bool            // CaughtUp was told, FellBehind not yet
	absent    Kind            // NoStream or SoftDeleted when that was told last, else present
	astray    bool            // Beyond was told last
	judged    bool            // it is known whether the place is beyond the end
	doubted   bool            // the pages said what should not be, once
	again     bool            // not the first subscribing
	assumed   bool            // the place is what a confirmation said, and behind no event
	floor     eventstore.From // where it was before that
	waits     backoff.BackOff
	adopted   time.Time // when the server confirmed last
	names     messages.Names
	memory    pieces.Memory // what the pushed events' bytes, which are the exchange's, are copied to
	decoder   eventstore.EventDecoder
	record    messages.ResolvedEvent

	mu       sync.Mutex // guards what follows; only Recv's goroutine changes state, exchange, from, end and stats
	state    state
	exchange *eventstore.Exchange
	from     eventstore.From // before it, nothing is delivered any more; End until the first confirmation
	end      eventstore.From // the end of the stream, as far as the server has told
	err      error           // why it ended
	cancel   context.CancelFunc
	closing  bool
	stats    Stats
}

// Open subscribes and returns when the server has confirmed: with From End, every event that is written after Open has
// returned is delivered. It waits until ctx ends; a hard-deleted stream and a refusal of access are errors, a missing
// stream is not.
func Open(ctx context.Context, c *eventstore.Client, cfg Config) (*Subscription, error) {
	s := &Subscription{client: c, cfg: cfg, all: cfg.Stream == eventstore.All, from: cfg.From, absent: present, waits: newWaits()}
	if err := s.check(); err != nil {
		return nil, s.wrap(err)
	}
	if err := s.subscribe(ctx); err != nil {
		_ = s.Close()
		return nil, s.wrap(err)
	}
	return s, nil
}

func newWaits() backoff.BackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(50*time.Millisecond), backoff.WithMultiplier(2),
		backoff.WithMaxInterval(5*time.Second), backoff.WithMaxElapsedTime(0))
}

func (s *Subscription) check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", eventstore.ErrArgument, fmt.Sprintf(format, args...))
	}
	if s.cfg.Buffer == 0 {
		s.cfg.Buffer = defaultBuffer
	}
	if s.cfg.PageSize == 0 {
		s.cfg.PageSize = defaultPageSize
	}
	_, isPosition := s.cfg.From.Position()
	_, isNumber := s.cfg.From.Number()
	switch {
	case s.cfg.Stream == "":
		return bad("the stream's name is empty")
	case s.all && isNumber:
		return bad("place %q: %s is followed by positions, event numbers are of streams", s.cfg.From, eventstore.All)
	case !s.all && isPosition:
		return bad("place %q: a stream is followed by event numbers, positions are of %s", s.cfg.From, eventstore.All)
	case negative(s.cfg.From):
		return bad("place %q: event numbers and positions are not negative", s.cfg.From)
	case s.cfg.Buffer < 1:
		return bad("a buffer of %d events: want at least 1", s.cfg.Buffer)
	case s.cfg.PageSize < 1 || s.cfg.PageSize > eventstore.MaxPageSize:
		return bad("pages of %d events: want 1 to %d", s.cfg.PageSize, eventstore.MaxPageSize)
	case s.cfg.Filter == nil:
		return nil
	}
	filter, err := s.cfg.Filter.Message()
	if s.all {
		s.filter = filter
	}
	return err
}

func negative(f eventstore.From) bool {
	number, _ := f.Number()
	p, _ := f.Position()
	return number < 0 || p.Commit < 0 || p.Prepare < 0
}

// Recv returns the next event, waiting for it until ctx ends; an error of ctx does not end the subscription. Any other
// error has ended it, and comes again. The event belongs to the caller; it shares its memory with others, see Clone.
func (s *Subscription) Recv(ctx context.Context) (eventstore.ResolvedEvent, error) {
	for {
		if err := s.ended(); err != nil {
			return eventstore.ResolvedEvent{}, err
		}
		if e, ok := s.fromPage(); ok {
			return e, nil
		}
		var err error
		switch s.state {
		case subscribing:
			err = s.subscribe(ctx)
		case reading:
			err = s.read(ctx)
		case pushed:
			var e eventstore.ResolvedEvent
			var ok bool
			if e, ok, err = s.take(ctx); ok {
				return e, nil
			}
		}
		if err != nil {
			return eventstore.ResolvedEvent{}, s.failed(ctx, err)
		}
	}
}

// Events returns the events as a sequence, whose last pair is the error that ended it: of ctx, or of the subscription.
func (s *Subscription) Events(ctx context.Context) iter.Seq2[eventstore.ResolvedEvent, error] {
	return func(yield func(eventstore.ResolvedEvent, error) bool) {
		for {
			e, err := s.Recv(ctx)
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// Checkpoint returns the place behind the last event that Recv returned: where another subscription would go on. Before the
// first it is Config.From, and with From End the end that the server confirmed, the least one if there were several.
func (s *Subscription) Checkpoint() eventstore.From {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.from
}

// Close ends the subscription and a Recv that waits. It does not wait for the server.
func (s *Subscription) Close() error {
	s.mu.Lock()
	if s.err == nil {
		s.err = s.wrap(eventstore.ErrClosed)
	}
	s.closing = true
	cancel, x := s.cancel, s.exchange
	s.mu.Unlock()
	if cancel != nil {
		cancel()
	}
	if x != nil {
		_ = x.Close()
	}
	return nil
}

func (s *Subscription) wrap(err error) error {
	return &eventstore.OpError{Op: "subscribe", Stream: s.cfg.Stream, Err: err}
}

func (s *Subscription) ended() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// failed decides whether an error ends the subscription; the server then has nothing more to send.
func (s *Subscription) failed(ctx context.Context, err error) error {
	s.mu.Lock()
	if s.err == nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		s.mu.Unlock()
		return s.wrap(err)
	}
	if s.err == nil {
		s.err = s.wrap(err)
	}
	err = s.err
	s.mu.Unlock()
	_ = s.Close()
	return err
}
