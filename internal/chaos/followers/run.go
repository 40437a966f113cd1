package followers

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/faultnet"
	"github.com/goeventstore/eventstore/internal/memnet"
	"github.com/goeventstore/eventstore/listener"
	"github.com/goeventstore/eventstore/subscription"
)

// Kind is a way to follow.
type Kind struct {
	Name      string
	Sources   []Source
	Processes int                   // at a time; 0 is one
	Truncates bool                  // the stream is truncated now and then
	RealTime  bool                  // what it needs knows no virtual time
	Prepare   func(r *Run) Follower // called once for a run, before anything happens
	between   layers
}

// layers are between a follower and what watches it: to have it broken, as nothing else can show that the watch is good for
// something. nil is none.
type layers struct {
	subscription func(receiver) receiver
	handler      func(listener.Handler) listener.Handler
	store        func(listener.Store) listener.Store
	pauses       func(pauser) pauser
	mends        func(*Life, mender) mender
	config       func(*listener.Config)
	notices      func(told func(subscription.Notice)) func(subscription.Notice)
}

// put puts a layer before what is watched.
func put[T any](layer func(T) T, watched T) T {
	if layer == nil {
		return watched
	}
	return layer(watched)
}

// Follower is how processes follow in one run.
type Follower struct {
	Rules
	// Follow is what a life does until its Context ends. An error says that it cannot go on, which is right when something failed
	// on purpose.
	Follow func(l *Life) error
	// Checkpoint looks at what is in the store in the end; nil: there is none.
	Checkpoint func(ctx context.Context) (eventstore.From, error)
	// Watch has somebody tell who gets a lease, by Owned, until ctx ends; nil: nobody can see it.
	Watch func(ctx context.Context)
	// GivenUp lists the places behind events that were given up on, as they are kept; nil: nothing ever is.
	GivenUp func(ctx context.Context) ([]eventstore.From, error)
	// Look looks at the effects and the checkpoint that belongs to them, in one transaction; nil: there are none.
	Look func(ctx context.Context) ([]Effect, eventstore.From, error)
}

// Run is a run of a plan, and what was seen of it.
type Run struct {
	*plan
	T     *testing.T
	rules Rules
	tape  *tape
	hurry time.Duration // real time is shorter by this

	host     *host
	sound    *eventstore.Client // past the faults
	follower Follower
	running  []*process
	crew     sync.WaitGroup
	wanted   []string // the data of the events that were written and are to be seen
	written  int
	writes   *rand.Rand
	versions map[string]eventstore.ExpectedVersion
	truth    []sight
	past     []sight // what was read before it was truncated
	givenUp  []eventstore.From

	mu       sync.Mutex // guards what follows
	looks    []look
	problems []string
	must     map[string]bool // whose places have to reach the end
}

// process is what stays when one life ends and the next begins.
type process struct {
	plannedProcess
	line  *faultnet.Network
	lives int
	fired int // faults of the line

	mu     sync.Mutex // guards what follows
	now    *Life
	places map[string]eventstore.From // that it remembers itself
}

func (q *process) remember(name string, place eventstore.From) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.places[name] = place
}

// Remembered is where a process has come that keeps its places itself, behind what it has handled; false when there is none yet.
func (l *Life) Remembered(name string) (eventstore.From, bool) {
	l.process.mu.Lock()
	defer l.process.mu.Unlock()
	place, ok := l.process.places[name]
	return place, ok
}

// Completes says that the place with this name is to come to the end of the source.
func (l *Life) Completes(name string) {
	l.Run.mu.Lock()
	defer l.Run.mu.Unlock()
	l.must[name] = true
}

// Owned tells that a process has had the lease since a moment that the store knows.
func (r *Run) Owned(owner string, since time.Time) {
	leg := &Leg{life: &Life{Run: r, name: "the store"}, name: sharedName}
	leg.tell(entry{verb: owns, text: owner, since: since.Sub(r.tape.begun)})
}

func (r *Run) problem(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.problems = append(r.problems, fmt.Sprintf(format, args...))
}

// play carries the plan of a seed out.
func play(t *testing.T, k *Kind, seed uint64) (r *Run) {
	t.Helper()
	p := newPlan(k, seed)
	if k.RealTime {
		r = p.start(t, 4, faultnet.TCP{})
		r.play()
		return r
	}
	synctest.Test(t, func(t *testing.T) {
		r = p.start(t, 1, memnet.New())
		r.play()
	})
	return r
}

func (p *plan) start(t *testing.T, hurry int, n network) *Run {
	t.Helper()
	p.shorten(hurry)
	r := &Run{
		plan: p, T: t, tape: newTape(), hurry: time.Duration(hurry),
		writes: rand.New(rand.NewPCG(p.seed, 77)), versions: make(map[string]eventstore.ExpectedVersion), must: make(map[string]bool),
	}
	r.startServer(n)
	var err error
	r.sound, err = eventstore.Connect(t.Context(), r.host.url, eventstore.WithDialer(n.Dial), eventstore.WithName("sound"))
	require.NoError(t, err)
	for i := range p.processes {
		q := &process{plannedProcess: p.processes[i], places: make(map[string]eventstore.From)}
		q.line = faultnet.New(r.host, faultnet.Random(q.seed, q.faults))
		r.running = append(r.running, q)
	}
	return r
}

// play runs the plan to its end.
func (r *Run) play() {
	r.T.Helper()
	defer func() {
		require.NoError(r.T, r.sound.Close())
		require.NoError(r.T, r.host.srv.Close())
	}()
	r.follower = r.kind.Prepare(r)
	r.rules = r.follower.Rules
	r.write(r.before)
	watching, enough := context.WithCancel(r.T.Context())
	var watch sync.WaitGroup
	if r.follower.Watch != nil {
		watch.Go(func() { r.follower.Watch(watching) })
	}
	defer watch.Wait()
	defer enough()
	failing, stop := context.WithTimeout(r.T.Context(), r.horizon)
	for _, q := range r.running {
		r.crew.Go(func() { r.keep(failing, q) })
	}
	var deeds sync.WaitGroup
	for _, writes := range []bool{true, false} {
		deeds.Go(func() {
			for _, d := range r.deeds {
				if (d.kind == appendEvents) == writes {
					time.Sleep(time.Until(r.tape.begun.Add(d.at)))
					r.do(d)
				}
			}
		})
	}
	deeds.Wait()
	r.crew.Wait()
	stop()
	r.calm()
	r.lookAtEffects(r.T.Context())
	r.lookAtCheckpoint(r.T.Context())
	if r.follower.GivenUp != nil {
		var err error
		r.givenUp, err = r.follower.GivenUp(r.T.Context())
		require.NoError(r.T, err)
	}
}

// calm has everybody follow to the end, with nothing that fails.
func (r *Run) calm() {
	r.tape.add(entry{verb: happened, text: "all is calm"})
	ctx, cancel := context.WithCancel(r.T.Context())
	for _, q := range r.running {
		q.fired = q.line.Fired()
		q.line = faultnet.New(r.host, faultnet.Plan{})
		r.crew.Go(func() { <-r.live(ctx, q, true) })
	}
	time.Sleep(30 * time.Second / r.hurry / r.hurry)
	for there := len(r.wanted); len(r.wanted) == there; {
		r.write(r.after)
	}
	r.truth = r.whole()
	for _, q := range r.running {
		if !r.rules.Loose {
			r.must[q.name] = !r.rules.Shared
		}
	}
	r.must[sharedName] = r.rules.Shared
	for name, must := range r.must {
		if must && !r.tape.says(10*time.Minute/r.hurry/r.hurry, func(all []entry) bool { return r.atEnd(name, all) }) {
			r.problem("%s does not come to the end: %v", name, r.truth[len(r.truth)-1])
		}
	}
	time.Sleep(5 * time.Second / r.hurry / r.hurry) // those before the last one may be handled after it
	cancel()
	r.crew.Wait()
}

// atEnd reports whether the last event was handled.
func (r *Run) atEnd(name string, all []entry) bool {
	last := r.truth[len(r.truth)-1]
	for _, e := range slices.Backward(all) {
		if e.verb == finished && e.leg.name == name && e.events[len(e.events)-1].text == last.text {
			return true
		}
	}
	return false
}

// keep starts a process again whenever it ends.
func (r *Run) keep(ctx context.Context, q *process) {
	for ctx.Err() == nil {
		<-r.live(ctx, q, false)
		r.lookAtEffects(context.WithoutCancel(ctx))
		time.Sleep(time.Duration(q.lives*37%500) * time.Millisecond / r.hurry)
	}
}

// live is one life of a process. What it returns is closed when the process is gone: at once when it is killed, although what is
// left of it ends later.
func (r *Run) live(ctx context.Context, q *process, calm bool) <-chan struct{} {
	q.lives++
	l := &Life{
		Run: r, process: q, name: fmt.Sprintf("%s.%d", q.name, q.lives), line: q.line, calm: calm,
		rnd: rand.New(rand.NewPCG(q.seed, uint64(q.lives))),
	}
	l.Context, l.end = context.WithCancel(ctx)
	l.gone = make(chan struct{})
	var once sync.Once
	l.leave = func() { once.Do(func() { close(l.gone) }) }
	q.mu.Lock()
	q.now = l
	q.mu.Unlock()
	r.crew.Go(func() {
		defer l.leave()
		defer l.end()
		err := l.follow()
		if l.isDead() {
			return
		}
		l.tape.add(entry{verb: happened, text: fmt.Sprintf("%s has ended: %v", l.name, err)})
		if err != nil && (calm || !r.onPurpose(err)) {
			r.problem("%s: %v", l.name, err)
		}
	})
	return l.gone
}

// onPurpose reports whether it is the plan that is to blame for the end of a life.
func (r *Run) onPurpose(err error) bool {
	return errors.Is(err, errBadDay) ||
		r.rules.Remote && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, eventstore.ErrConnectionLost))
}

func (l *Life) follow() error {
	for {
		c, err := eventstore.Connect(l.Context, l.host.url, eventstore.WithDialer(l.dial), eventstore.WithName(l.name))
		if l.Context.Err() != nil {
			if err == nil {
				_ = c.Close()
			}
			return nil
		}
		if err == nil {
			l.Client = c
			defer func() { _ = c.Close() }()
			return l.follower.Follow(l)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// with does something to the life that a process has now, if it has begun one.
func (q *process) with(do func(*Life)) {
	q.mu.Lock()
	l := q.now
	q.mu.Unlock()
	if l != nil {
		do(l)
	}
}

// do does what the plan says.
func (r *Run) do(d deed) {
	q := r.running[d.process]
	if d.kind != killProcess {
		text := string(d.kind)
		switch d.kind {
		case stopProcess, pauseProcess:
			text += " " + q.name
		default:
		}
		r.tape.add(entry{verb: happened, text: text})
	}
	switch d.kind {
	case appendEvents:
		r.write(d.count)
	case cutLines:
		for _, q := range r.running {
			q.with((*Life).cut)
		}
	case standStill:
		for _, q := range r.running {
			q.with(func(l *Life) { l.lineStill.pause(d.pause) })
		}
	case restart:
		r.restart(d.pause)
	case stopProcess:
		q.with(func(l *Life) { l.end() })
	case killProcess:
		q.with(func(l *Life) { l.die("by the plan") })
	case pauseProcess:
		q.with(func(l *Life) { l.pause(d.pause) })
	case truncateStream:
		r.truncate(d.count)
	}
}

// write appends events, one stream after the other.
func (r *Run) write(n int) {
	for n > 0 {
		stream := r.source.streams[r.writes.IntN(len(r.source.streams))]
		var events []eventstore.EventData
		wanted := 0
		for range min(n, 1+r.writes.IntN(5)) {
			e := eventstore.EventData{Type: []string{typeKept, typeDropped}[r.writes.IntN(2)], Data: fmt.Appendf(nil, "e%d", r.written)}
			r.written++
			if r.source.wants(stream, e.Type) {
				r.wanted = append(r.wanted, string(e.Data))
				wanted++
			}
			events = append(events, e)
		}
		n -= len(events)
		expected, ok := r.versions[stream]
		if !ok {
			expected = eventstore.NoStream
		}
		result, err := r.sound.Append(r.T.Context(), stream, expected, events)
		if err != nil {
			r.problem("append: %v", err)
			return
		}
		r.versions[stream] = result.Last
		r.tape.mu.Lock()
		r.tape.acked += wanted
		r.tape.mu.Unlock()
	}
}

// read returns what the source has in the end.
func (r *Run) read() (all []sight) {
	if r.source.projections {
		require.NoError(r.T, r.host.srv.WaitForProjections(r.T.Context()))
	}
	log := r.sound.ReadStream(r.T.Context(), r.source.Stream, eventstore.Start)
	if r.source.Stream == eventstore.All {
		log = r.sound.ReadAll(r.T.Context(), eventstore.Start)
	}
	for e, err := range log {
		if errors.Is(err, eventstore.ErrStreamNotFound) {
			return nil // not yet
		}
		require.NoError(r.T, err)
		if e.Event != nil && r.source.wants(e.Event.Stream, e.Event.Type) {
			all = append(all, see(e))
		}
	}
	return all
}

// tell is all that is known of the run.
func (r *Run) tell() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v\n%v", r.plan, r.tape)
	return b.String()
}
