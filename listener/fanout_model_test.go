package listener_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/internal/faultnet"
	"github.com/goeventstore/eventstore/listener"
)

// fanStep is a step of a plan: what happens, to which consumer, with which number.
type fanStep struct {
	kind   string
	who, n int
	opts   listener.AttachOptions
}

func (s fanStep) String() string {
	switch s.kind {
	case "attach", "attach eager":
		return fmt.Sprintf("%s, %v with %d", s.kind, s.opts.OnOverflow, s.opts.Buffer)
	case "take":
		return fmt.Sprintf("take %d of %d", s.n, s.who)
	case "close":
		return fmt.Sprintf("close %d", s.who)
	case "write":
		return fmt.Sprintf("write %d", s.n)
	}
	return s.kind
}

var anyFanStep = rapid.Custom(func(t *rapid.T) fanStep {
	return fanStep{
		kind: rapid.SampledFrom([]string{
			"write", "write", "write", "attach", "attach", "attach eager", "take", "take", "take", "take", "close", "cut", "cut, write", "stop or run",
		}).Draw(t, "kind"),
		who: rapid.IntRange(0, 7).Draw(t, "who"),
		n:   rapid.IntRange(1, 12).Draw(t, "n"),
		opts: listener.AttachOptions{
			OnOverflow: rapid.SampledFrom([]listener.Overflow{listener.Wait, listener.DropOldest, listener.Detach}).Draw(t, "policy"),
			Buffer:     rapid.SampledFrom([]int{1, 2, 3, 5, 8, 20}).Draw(t, "buffer"),
		},
	}
})

var manyFanSteps = rapid.SliceOfN(rapid.SliceOfN(anyFanStep, 1, -1), 1, -1)

// modelConsumer is what a consumer must be, whose Recv is called by the steps alone.
type modelConsumer struct {
	opts   listener.AttachOptions
	from   int64 // the number behind which it stands
	placed bool
	held   []int64
	gap    int64
	end    error
	stats  listener.ConsumerStats
}

func (c *modelConsumer) room() bool { return len(c.held) < c.opts.Buffer }

// modelFanout is what a fan-out must be when everything has come to rest.
type modelFanout struct {
	running   bool
	next      int64 // the first event that has not gone out
	written   int64
	events    int64
	consumers []*modelConsumer // attached
	waiting   []*modelConsumer // for the event under way
}

func (f *modelFanout) attach(opts listener.AttachOptions) *modelConsumer {
	c := &modelConsumer{opts: opts, placed: f.running, from: f.next - 1}
	f.consumers = append(f.consumers, c)
	return c
}

func (f *modelFanout) detach(c *modelConsumer, cause error) {
	is := func(other *modelConsumer) bool { return other == c }
	f.consumers, f.waiting = slices.DeleteFunc(f.consumers, is), slices.DeleteFunc(f.waiting, is)
	if c.end == nil {
		c.end = cause
	}
}

func (f *modelFanout) run() {
	f.running, f.next = true, f.written
	for _, c := range f.consumers {
		c.placed, c.from = true, f.next-1
	}
}

func (f *modelFanout) stop() {
	f.running = false
	for len(f.consumers) > 0 {
		f.detach(f.consumers[0], listener.ErrStopped)
	}
}

// rest hands out what can go out.
func (f *modelFanout) rest() {
	for {
		f.waiting = slices.DeleteFunc(f.waiting, func(c *modelConsumer) bool {
			if !c.room() {
				return false
			}
			c.held = append(c.held, f.next-1)
			return true
		})
		if !f.running || len(f.waiting) > 0 || f.next == f.written {
			return
		}
		n := f.next
		f.next++
		f.events++
		for _, c := range slices.Clone(f.consumers) {
			switch {
			case c.room():
				c.held = append(c.held, n)
			case c.opts.OnOverflow == listener.DropOldest:
				c.held = append(c.held[1:], n)
				c.gap++
				c.stats.Dropped++
			case c.opts.OnOverflow == listener.Detach:
				f.detach(c, listener.ErrSlow)
			default:
				f.waiting = append(f.waiting, c)
			}
		}
	}
}

// take is what a Recv must do: an event's number, or an error; neither when nothing comes.
func (f *modelFanout) take(c *modelConsumer) (number int64, err error) {
	switch {
	case c.gap > 0:
		err = &listener.GapError{Dropped: c.gap, From: behind(c.from), Until: behind(c.from + c.gap)}
		c.from += c.gap
		c.gap = 0
		return -1, err
	case len(c.held) > 0:
		number, c.held = c.held[0], c.held[1:]
		c.from = number
		c.stats.Delivered++
		f.rest()
		return number, nil
	}
	return -1, c.end
}

// behind is the place behind an event.
func behind(number int64) eventstore.From {
	if number < 0 {
		return eventstore.Start
	}
	return eventstore.After(number)
}

// fanRun plays a plan to a fan-out and its model. An eager consumer is not in the model: it takes what comes on a goroutine of
// its own, at the same time as everything else.
type fanRun struct {
	ctx    context.Context //nolint:containedctx // of the one bubble that it lives in
	srv    *eventstoretest.Server
	client *eventstore.Client
	fan    *listener.Fanout
	recv   recvFunc
	stop   func() error // nil when it does not run
	model  modelFanout
	pairs  []fanPair
	eager  []*eagerConsumer
}

// recvFunc is (*listener.Consumer).Recv, or one that is broken on purpose.
type recvFunc func(*listener.Consumer, context.Context) (eventstore.ResolvedEvent, error)

type fanPair struct {
	real  *listener.Consumer
	model *modelConsumer
}

// followFanout plays steps in a bubble, and returns the first difference.
func followFanout(t *testing.T, recv recvFunc, steps []fanStep) (wrong error) {
	t.Helper()
	bubble(t, func(t *testing.T, srv *eventstoretest.Server, c *eventstore.Client) {
		f, err := listener.NewFanout(c, listener.FanoutConfig{Stream: "s"})
		require.NoError(t, err)
		r := &fanRun{ctx: t.Context(), srv: srv, client: c, fan: f, recv: recv}
		r.startOrStop(t)
		for i, s := range steps {
			if wrong = r.play(t, s); wrong == nil {
				wrong = r.compare(t)
			}
			if wrong != nil {
				wrong = fmt.Errorf("step %d, %v: %w", i, s, wrong)
				break
			}
		}
		if r.stop == nil {
			r.startOrStop(t)
		}
		if wrong == nil {
			wrong = r.drain(t)
		}
		if err := r.stop(); err != nil {
			wrong = errors.Join(wrong, err)
		}
		for _, e := range r.eager {
			wrong = errors.Join(wrong, <-e.done)
		}
	})
	return wrong
}

func (r *fanRun) startOrStop(t *testing.T) {
	t.Helper()
	if r.stop != nil {
		require.NoError(t, r.stop())
		r.stop = nil
		r.model.stop()
		return
	}
	r.stop = runFanout(t, r.fan)
	r.model.run()
}

func (r *fanRun) play(t *testing.T, s fanStep) error {
	t.Helper()
	switch s.kind {
	case "write", "cut, write":
		if s.kind != "write" {
			r.srv.Cut()
		}
		write(t, r.client, int(r.model.written), s.n)
		r.model.written += int64(s.n)
	case "cut":
		r.srv.Cut()
	case "stop or run":
		r.startOrStop(t)
	case "attach":
		if len(r.model.consumers) < 8 {
			r.pairs = append(r.pairs, fanPair{r.fan.Attach(s.opts), r.model.attach(s.opts)})
		}
	case "attach eager":
		e := &eagerConsumer{Consumer: r.fan.Attach(s.opts), opts: s.opts, done: make(chan error, 1)}
		r.eager = append(r.eager, e)
		go func() { e.done <- e.follow(r.ctx) }()
	case "take", "close":
		if len(r.pairs) == 0 {
			return nil
		}
		p := r.pairs[s.who%len(r.pairs)]
		if s.kind == "close" {
			p.model.held, p.model.gap = nil, 0
			r.model.detach(p.model, listener.ErrDetached)
			return p.real.Close()
		}
		for range s.n {
			if err := r.take(p); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *fanRun) take(p fanPair) error {
	number, want := r.model.take(p.model)
	wait := time.Minute
	if number < 0 && want == nil {
		wait, want = time.Second, context.DeadlineExceeded
	}
	ctx, cancel := context.WithTimeout(r.ctx, wait)
	defer cancel()
	e, err := r.recv(p.real, ctx)
	var gap, wantGap *listener.GapError
	switch {
	case err == nil && want == nil:
		if e.Event.Number != number || string(e.Event.Data) != strconv.FormatInt(number, 10) {
			return fmt.Errorf("got event %d with %q, want %d", e.Event.Number, e.Event.Data, number)
		}
	case errors.As(err, &gap) && errors.As(want, &wantGap):
		if *gap != *wantGap {
			return fmt.Errorf("got the gap %+v, want %+v", *gap, *wantGap)
		}
	case want == nil || !errors.Is(err, want):
		return fmt.Errorf("got event %v and error %w, want event %d and error %w", e.Event, err, number, want)
	}
	return nil
}

// rest waits until nothing happens any more, with a new connection if the last was cut.
func rest() {
	time.Sleep(20 * time.Second)
	synctest.Wait()
}

// compare waits until everything has come to rest.
func (r *fanRun) compare(t *testing.T) error {
	t.Helper()
	rest()
	r.model.rest()
	for i, p := range r.pairs {
		want := p.model.stats
		want.Buffered = len(p.model.held)
		for _, n := range p.model.held {
			want.Bytes += len(strconv.FormatInt(n, 10))
		}
		if got := p.real.Stats(); got != want {
			return fmt.Errorf("consumer %d is %+v, want %+v", i, got, want)
		}
		place := eventstore.End
		if p.model.placed {
			place = behind(p.model.from)
		}
		if got := p.real.Checkpoint(); got != place {
			return fmt.Errorf("consumer %d is at %v, want %v", i, got, place)
		}
	}
	got := r.fan.Stats()
	for _, e := range r.eager { // Detach may have ended it, or not
		if attached, _ := e.attached(); attached {
			got.Consumers--
		}
	}
	if got.Following != r.model.running || got.Consumers != len(r.model.consumers) || got.Waiting != len(r.model.waiting) || got.Events != r.model.events {
		return fmt.Errorf("the fan-out is %+v, want %d consumers, %d waiting, %d events, running %v",
			got, len(r.model.consumers), len(r.model.waiting), r.model.events, r.model.running)
	}
	return nil
}

// drain takes what there is until nobody has anything left. Then whoever is attached has got all that was written.
func (r *fanRun) drain(t *testing.T) error {
	t.Helper()
	for {
		left := false
		for _, p := range r.pairs {
			for p.model.gap > 0 || len(p.model.held) > 0 {
				left = true
				if err := r.take(p); err != nil {
					return err
				}
			}
			rest() // what one has taken lets others have more
		}
		if !left {
			break
		}
	}
	if err := r.compare(t); err != nil {
		return err
	}
	if r.model.next != r.model.written {
		return fmt.Errorf("%d events were written and %d went out", r.model.written, r.model.next)
	}
	for i, e := range r.eager {
		if attached, at := e.attached(); attached && at != behind(r.model.written-1) {
			return fmt.Errorf("eager consumer %d is at %v, want all %d events", i, at, r.model.written)
		}
	}
	return nil
}

// eagerConsumer takes what comes, on a goroutine of its own, and says when something is missing, or comes twice.
type eagerConsumer struct {
	*listener.Consumer
	opts  listener.AttachOptions
	done  chan error // what was wrong, from its goroutine; holds one
	ended bool       // for whoever has waited for everything to come to rest
}

func (e *eagerConsumer) attached() (bool, eventstore.From) { return !e.ended, e.Checkpoint() }

func (e *eagerConsumer) follow(ctx context.Context) error {
	defer func() { e.ended = true }()
	if err := e.Ready(ctx); err != nil {
		return unlessStopped(err)
	}
	last, ok := e.Checkpoint().Number()
	if !ok || !e.Checkpoint().Exclusive() {
		last = -1
	}
	for {
		got, err := e.Recv(ctx)
		var gap *listener.GapError
		switch {
		case errors.As(err, &gap):
			if e.opts.OnOverflow != listener.DropOldest || gap.From != behind(last) || gap.Until != behind(last+gap.Dropped) {
				return fmt.Errorf("behind %d, with %v, the gap %+v", last, e.opts.OnOverflow, *gap)
			}
			last += gap.Dropped
		case errors.Is(err, listener.ErrSlow) && e.opts.OnOverflow == listener.Detach && e.Stats().Delivered >= int64(e.opts.Buffer):
			return nil
		case err != nil:
			return unlessStopped(err)
		case got.Event.Number != last+1:
			return fmt.Errorf("behind %d comes %d", last, got.Event.Number)
		default:
			last++
		}
	}
}

func unlessStopped(err error) error {
	if errors.Is(err, listener.ErrStopped) {
		return nil
	}
	return err
}

// Consumers of every policy come, take, stand still and go, runs end and begin, lines are cut: each consumer gets what its model
// gets. With Wait that is every event between its attaching and its end, once and in order; with DropOldest the same but for gaps
// that are told exactly; with Detach it ends with the event that it has no room for. SEEDS is how many runs of 5, SEED only one.
func TestAFanoutFollowsItsModel(t *testing.T) {
	set := func(name, value string) {
		f := flag.Lookup(name)
		before := f.Value.String()
		require.NoError(t, f.Value.Set(value))
		t.Cleanup(func() { require.NoError(t, f.Value.Set(before)) })
	}
	runs, played := 0, map[string]int{}
	property := func(r *rapid.T) {
		steps := slices.Concat(manyFanSteps.Draw(r, "steps")...) // outside of the bubble, which wants a *testing.T
		runs++
		for _, s := range steps {
			played[s.kind]++
		}
		if err := followFanout(t, (*listener.Consumer).Recv, steps); err != nil {
			r.Fatalf("%v\n%v", err, steps)
		}
	}
	set("rapid.nofailfile", "true")
	if flag.Lookup("rapid.seed").Value.String() != "0" {
		rapid.Check(t, property) // as rapid said how to repeat it
		return
	}
	set("rapid.checks", "5")
	for seed := range faultnet.Seeds(t, 10) {
		set("rapid.seed", strconv.FormatUint(seed<<20|1, 10)) // its checks have seeds behind it, and 0 is none
		rapid.Check(t, property)
	}
	t.Logf("%d runs, steps: %v", runs, played)
}

// A fan-out that loses, repeats or hides does not follow the model.
func TestABrokenFanoutIsCaught(t *testing.T) {
	for name, recv := range map[string]func() recvFunc{
		"it keeps its gaps to itself": func() recvFunc {
			return func(c *listener.Consumer, ctx context.Context) (eventstore.ResolvedEvent, error) {
				e, err := c.Recv(ctx)
				if gap := (*listener.GapError)(nil); errors.As(err, &gap) {
					return c.Recv(ctx)
				}
				return e, err
			}
		},
		"it tells a gap that is too small": func() recvFunc {
			return func(c *listener.Consumer, ctx context.Context) (eventstore.ResolvedEvent, error) {
				e, err := c.Recv(ctx)
				if gap := (*listener.GapError)(nil); errors.As(err, &gap) && gap.Dropped > 1 {
					gap.Dropped--
				}
				return e, err
			}
		},
		"it loses an event": func() recvFunc {
			return func(c *listener.Consumer, ctx context.Context) (eventstore.ResolvedEvent, error) {
				e, err := c.Recv(ctx)
				if err == nil && e.Event.Number == 7 {
					return c.Recv(ctx)
				}
				return e, err
			}
		},
		"it repeats an event": func() recvFunc {
			var last eventstore.ResolvedEvent
			return func(c *listener.Consumer, ctx context.Context) (eventstore.ResolvedEvent, error) {
				if e := last; e.Event != nil && e.Event.Number == 7 {
					last.Event = nil
					return e, nil
				}
				e, err := c.Recv(ctx)
				last = e
				return e, err
			}
		},
		"it ends too early": func() recvFunc {
			return func(c *listener.Consumer, ctx context.Context) (eventstore.ResolvedEvent, error) {
				e, err := c.Recv(ctx)
				if err == nil && e.Event.Number == 7 {
					return e, listener.ErrSlow
				}
				return e, err
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			const plans = 20
			caught := 0
			for seed := range plans {
				if followFanout(t, recv(), slices.Concat(manyFanSteps.Example(seed)...)) != nil {
					caught++
				}
			}
			t.Logf("caught by %d of %d plans", caught, plans)
			require.Positive(t, caught)
		})
	}
}
