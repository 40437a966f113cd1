package chaos_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/internal/faultnet"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// kind is what a step does: a call, or a fault for a frame of the calls that follow.
type kind string

const (
	appends     kind = "append"
	appendsOn   kind = "append without waiting"
	truncates   kind = "truncate before"
	deletes     kind = "delete"
	readsOn     kind = "read forward"
	readsBack   kind = "read backward"
	readsOne    kind = "read event"
	loseRequest kind = "lose a request"
	cutRequest  kind = "cut in front of a request"
	refuse      kind = "be busy once"
	loseAnswer  kind = "lose an answer"
	cutAnswer   kind = "cut in front of an answer"
	lateAnswer  kind = "be late with an answer"
	twice       kind = "answer twice"
	timeOut     kind = "answer CommitTimeout to a write"
)

var (
	stepCalls  = []kind{appends, appends, appends, appendsOn, truncates, deletes, readsOn, readsBack, readsOne}
	stepFaults = []kind{loseRequest, cutRequest, refuse, loseAnswer, cutAnswer, lateAnswer, twice, timeOut}
)

// version is which version an append or a delete expects. An exact one is meant as seen from the model.
type version string

const (
	right   version = "the right version"
	behind  version = "a version behind"
	ahead   version = "a version ahead"
	noneYet version = "no stream"
	anyOne  version = "any"
	exists  version = "an existing stream"
)

// step is a step of a run. All is in it that the run needs, so that a run with fewer or smaller steps is one too.
type step struct {
	kind   kind
	expect version
	count  int // events of an append, limit and page size of a read
	from   int // of a read; 0 is its natural beginning, n is number n-1
}

// GoString writes the step as rapid shows it.
func (s step) GoString() string { return s.String() }

func (s step) String() string {
	switch s.kind {
	case appends, appendsOn:
		return fmt.Sprintf("%s %d expecting %s", s.kind, s.count, s.expect)
	case truncates:
		return fmt.Sprintf("%s %d", s.kind, s.from)
	case deletes:
		return fmt.Sprintf("delete expecting %s", s.expect)
	case readsOn, readsBack:
		return fmt.Sprintf("%s %d from %d", s.kind, s.count, s.from-1)
	case readsOne:
		return fmt.Sprintf("%s %d", s.kind, s.from-1)
	default:
		return string(s.kind)
	}
}

var anyStep = rapid.Custom(func(t *rapid.T) step {
	if rapid.IntRange(0, 2).Draw(t, "fault") == 2 {
		return step{kind: rapid.SampledFrom(stepFaults).Draw(t, "kind")}
	}
	s := step{kind: rapid.SampledFrom(stepCalls).Draw(t, "kind")}
	switch s.kind {
	case appends, appendsOn:
		s.expect = rapid.SampledFrom([]version{anyOne, right, right, noneYet, exists, behind, ahead}).Draw(t, "expect")
		s.count = rapid.IntRange(1, 3).Draw(t, "count")
	case deletes: // a server before 21.10 refuses StreamExists, and so does the client
		s.expect = rapid.SampledFrom([]version{anyOne, right, noneYet, behind, ahead}).Draw(t, "expect")
	default:
		s.count = rapid.IntRange(1, 4).Draw(t, "count")
		s.from = rapid.IntRange(0, 12).Draw(t, "from")
	}
	return s
})

// manySteps are some 30. Rapid's slices have about 6 elements; in pieces a run is longer and shrinks as well.
var manySteps = rapid.SliceOfN(rapid.SliceOfN(anyStep, 1, -1), 1, -1)

// model is what the stream should be.
type model struct {
	events  []string // all that were ever written: an index is an event's number
	hidden  int      // those below cannot be read any more
	deleted bool     // softly
}

func (m *model) last() int64 { return int64(len(m.events)) - 1 }

// visible returns nil when reads find no stream.
func (m *model) visible() []string {
	if m.deleted {
		return nil
	}
	return m.events[min(m.hidden, len(m.events)):]
}

func (m *model) write(labels []string) {
	if m.deleted { // what is written brings the stream back, but not what it was
		m.deleted, m.hidden = false, len(m.events)
	}
	m.events = append(m.events, labels...)
}

func (m *model) version(v version) eventstore.ExpectedVersion {
	switch v {
	case anyOne:
		return eventstore.Any
	case exists:
		return eventstore.StreamExists
	case noneYet:
		return eventstore.NoStream
	case behind:
		return eventstore.ExpectedVersion(max(m.last()-1, -1))
	case ahead:
		return eventstore.ExpectedVersion(m.last() + 1)
	default:
		return eventstore.ExpectedVersion(m.last())
	}
}

// verdicts are how a server answers a write with this version: nil is success, and where nobody can know there are two.
func (m *model) verdicts(expected eventstore.ExpectedVersion) []error {
	ok := fits(m.last(), expected)
	switch {
	case expected == eventstore.NoStream:
		ok = ok || m.deleted
	case expected != eventstore.StreamExists || !m.deleted:
	case len(m.events) == 0: // a lost delete that found nothing to delete may have been made or not
		return []error{eventstore.ErrStreamDeleted, eventstore.ErrWrongVersion}
	default:
		return []error{eventstore.ErrStreamDeleted}
	}
	if ok {
		return []error{nil}
	}
	return []error{eventstore.ErrWrongVersion}
}

// armed are faults that wait for their frames. They happen to calls of steps alone, and not to the looks in between.
type armed struct {
	mu      sync.Mutex // guards what follows
	active  bool
	waiting []kind
	fired   int
}

func (a *armed) intercept(f *eventstoretest.Frame) eventstoretest.Fault {
	switch f.Command {
	case messages.WriteEvents, messages.DeleteStream, messages.ReadEvent,
		messages.ReadStreamEventsForward, messages.ReadStreamEventsBackward,
		messages.WriteEventsCompleted, messages.DeleteStreamCompleted, messages.ReadEventCompleted,
		messages.ReadStreamEventsForwardCompleted, messages.ReadStreamEventsBackwardCompleted:
	default:
		return eventstoretest.Pass
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.active {
		return eventstoretest.Pass
	}
	for i, k := range a.waiting {
		if fault, ok := k.fault(f); ok {
			a.waiting = slices.Delete(a.waiting, i, i+1)
			a.fired++
			return fault
		}
	}
	return eventstoretest.Pass
}

// modelTimeout is how long an attempt lasts.
const modelTimeout = 7 * time.Second

func (k kind) fault(f *eventstoretest.Frame) (fault eventstoretest.Fault, ok bool) {
	answer := true
	switch k {
	case loseRequest:
		fault, answer = eventstoretest.Drop, false
	case cutRequest:
		fault, answer = eventstoretest.Cut, false
	case refuse:
		fault, answer = eventstoretest.TooBusy(), false
	case loseAnswer:
		fault = eventstoretest.Drop
	case cutAnswer:
		fault = eventstoretest.Cut
	case lateAnswer:
		fault = eventstoretest.Delay(modelTimeout + time.Second) // it comes when the request was sent again
	case twice:
		fault = eventstoretest.Duplicate
	case timeOut:
		switch f.Command {
		case messages.WriteEventsCompleted:
			fault = instead(&messages.AppendCompleted{Result: messages.CommitTimeout})
		case messages.DeleteStreamCompleted:
			result := messages.CommitTimeout
			fault = instead(messages.Of(messages.DeleteStreamCompleted, &pb.DeleteStreamCompleted{Result: &result}))
		default:
			return fault, false
		}
	default:
		return fault, false
	}
	return fault, answer == f.FromServer
}

func (a *armed) arm(k kind) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting = append(a.waiting, k)
}

// during reports whether a fault happened to f.
func (a *armed) during(f func()) bool {
	a.mu.Lock()
	a.active = true
	before := a.fired
	a.mu.Unlock()
	f()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.active = false
	return a.fired > before
}

const modelStream = "s"

// modelRun is a run of steps by one client.
type modelRun struct {
	c      client
	faults armed
	model  model
	count  int // of events made
}

// runSteps makes the steps in virtual time, and returns what the client told or found that the model did not expect.
func runSteps(t *testing.T, connect connector, steps []step) (trace string, wrong error) {
	t.Helper()
	var seen *witness
	synctest.Test(t, func(t *testing.T) {
		seen = &witness{TB: t}
		srv := eventstoretest.Run(seen, eventstoretest.InMemory())
		r := modelRun{c: connect(t, srv,
			eventstore.WithTimeout(modelTimeout),
			eventstore.WithHeartbeat(time.Hour, time.Hour), // else a late answer ends the connection
			eventstore.WithBackoff(func() backoff.BackOff { return backoff.NewConstantBackOff(100 * time.Millisecond) }),
		)}
		srv.Intercept(r.faults.intercept)
		for i, s := range steps {
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			err := r.step(ctx, s)
			if err == nil {
				err = r.look(ctx)
			}
			cancel()
			if err != nil {
				wrong = fmt.Errorf("step %d, %v: %w", i, s, err)
				return
			}
		}
	})
	return seen.trace, wrong
}

func (r *modelRun) step(ctx context.Context, s step) (err error) {
	call := r.read
	switch s.kind {
	case appends, appendsOn:
		call = r.append
	case truncates:
		call = r.truncate
	case deletes:
		call = r.delete
	case readsOne:
		call = r.readEvent
	case readsOn, readsBack:
	default:
		r.faults.arm(s.kind)
		return nil
	}
	return call(ctx, s)
}

func (r *modelRun) append(ctx context.Context, s step) error {
	labels := make([]string, s.count)
	for i := range labels {
		labels[i] = fmt.Sprint(r.count)
		r.count++
	}
	expected, first := r.model.version(s.expect), int64(len(r.model.events))
	var result eventstore.WriteResult
	var err error
	hit := r.faults.during(func() {
		if s.kind == appendsOn {
			result, err = r.c.AppendAsync(ctx, modelStream, expected, labelled(labels)).Wait(ctx)
		} else {
			result, err = r.c.Append(ctx, modelStream, expected, labelled(labels))
		}
	})
	if problem := r.settled(expected, hit, err); problem != nil || err != nil {
		return problem
	}
	r.model.write(labels)
	if last := first + int64(s.count) - 1; int64(result.First) != first || int64(result.Last) != last {
		return fmt.Errorf("it says that it stored events %d to %d, they are %d to %d", result.First, result.Last, first, last)
	}
	return nil
}

// settled compares an error with the model's verdicts.
func (r *modelRun) settled(expected eventstore.ExpectedVersion, hit bool, err error) error {
	verdicts := r.model.verdicts(expected)
	if !slices.ContainsFunc(verdicts, func(v error) bool { return v == nil && err == nil || v != nil && errors.Is(err, v) }) {
		return fmt.Errorf("it says %v, want %v", short(err), verdicts)
	}
	var wrong *eventstore.WrongVersionError
	if errors.As(err, &wrong) && wrong.Actual != eventstore.Any && int64(wrong.Actual) != r.model.last() { // of a delete it is not told
		return fmt.Errorf("it says that the version is %v, it is %d", wrong.Actual, r.model.last())
	}
	if eventstore.MaybeApplied(err) && !hit {
		return errors.New("it says that it may have been applied, and nothing was lost")
	}
	return nil
}

// short is an error without what differs from run to run: rapid compares what two runs say.
func short(err error) string {
	for _, known := range []error{
		eventstore.ErrWrongVersion, eventstore.ErrStreamDeleted, eventstore.ErrStreamNotFound, eventstore.ErrEventNotFound,
		context.DeadlineExceeded, eventstore.ErrRetriesExhausted, eventstore.ErrProtocol,
	} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return fmt.Sprint(err)
}

func (r *modelRun) delete(ctx context.Context, s step) error {
	expected := r.model.version(s.expect)
	var err error
	hit := r.faults.during(func() { _, err = r.c.Delete(ctx, modelStream, expected) })
	if err == nil && hit && r.model.visible() == nil {
		// It was gone, and a delete that looks does not ask since when. With another version it changed nothing.
		r.model.deleted = r.model.deleted || r.model.verdicts(expected)[0] == nil
		return nil
	}
	if problem := r.settled(expected, hit, err); problem != nil || err != nil {
		return problem
	}
	r.model.deleted = true
	return nil
}

func (r *modelRun) truncate(ctx context.Context, s step) error {
	if len(r.model.events) == 0 {
		return nil // whether it was deleted nobody may know
	}
	var want, err error
	if r.model.deleted {
		want = eventstore.ErrStreamNotFound
	}
	r.faults.during(func() { err = r.c.TruncateBefore(ctx, modelStream, int64(s.from)) })
	if !errors.Is(err, want) {
		return fmt.Errorf("it says %s, want %s", short(err), short(want))
	}
	if err == nil {
		r.model.hidden = max(r.model.hidden, s.from)
	}
	return nil
}

func (r *modelRun) read(ctx context.Context, s step) error {
	from, number := eventstore.Start, int64(0)
	opts := []eventstore.ReadOption{eventstore.Limit(int64(s.count)), eventstore.PageSize((s.count + 1) / 2)}
	if s.kind == readsBack {
		from, number = eventstore.End, math.MaxInt64
		opts = append(opts, eventstore.Backward())
	}
	if s.from > 0 {
		number = int64(s.from) - 1
		from = eventstore.At(number)
	}
	var want []string
	for n, event := range r.model.events {
		if n >= r.model.hidden && (s.kind == readsOn && int64(n) >= number || s.kind == readsBack && int64(n) <= number) {
			want = append(want, fmt.Sprintf("%d: %s", n, event))
		}
	}
	if s.kind == readsBack {
		slices.Reverse(want)
	}
	want = want[:min(s.count, len(want))]
	var problem error
	r.faults.during(func() { problem = r.sees(ctx, want, from, opts...) })
	return problem
}

// sees compares a read with what it should find, if there is a stream.
func (r *modelRun) sees(ctx context.Context, want []string, from eventstore.From, opts ...eventstore.ReadOption) error {
	missing := r.model.visible() == nil
	var got []string
	for e, err := range r.c.ReadStream(ctx, modelStream, from, opts...) {
		switch {
		case missing && errors.Is(err, eventstore.ErrStreamNotFound):
			return nil
		case err != nil:
			return fmt.Errorf("reading says %v", short(err))
		}
		got = append(got, fmt.Sprintf("%d: %s", e.Original().Number, e.Original().Data))
	}
	switch {
	case missing:
		return fmt.Errorf("reading finds %v, and there is no stream", got)
	case !slices.Equal(want, got):
		return fmt.Errorf("reading finds %v, want %v", got, want)
	}
	return nil
}

func (r *modelRun) readEvent(ctx context.Context, s step) error {
	at, number := eventstore.End, r.model.last()
	if s.from > 0 {
		number = int64(s.from) - 1
		at = eventstore.At(number)
	}
	var want error
	switch {
	case r.model.visible() == nil:
		want = eventstore.ErrStreamNotFound
	case number < int64(r.model.hidden) || number > r.model.last():
		want = eventstore.ErrEventNotFound
	}
	var got eventstore.ResolvedEvent
	var err error
	r.faults.during(func() { got, err = r.c.ReadEvent(ctx, modelStream, at) })
	switch {
	case !errors.Is(err, want):
		return fmt.Errorf("it says %s, want %s", short(err), short(want))
	case err == nil && (got.Event.Number != number || string(got.Event.Data) != r.model.events[number]):
		return fmt.Errorf("it finds %d: %s, want %d: %s", got.Event.Number, got.Event.Data, number, r.model.events[number])
	}
	return nil
}

// look compares the whole stream, as the client sees it, with the model.
func (r *modelRun) look(ctx context.Context) error {
	var want []string
	for n, event := range r.model.events {
		if n >= r.model.hidden {
			want = append(want, fmt.Sprintf("%d: %s", n, event))
		}
	}
	return r.sees(ctx, want, eventstore.Start)
}

// tally counts what was done.
type tally struct {
	runs, calls, faults int
	last                []step
}

func (a *tally) add(steps []step) {
	a.runs++
	a.last = steps
	for _, s := range steps {
		if slices.Contains(stepFaults, s.kind) {
			a.faults++
		} else {
			a.calls++
		}
	}
}

// followsModel is the property. The steps are drawn before they are made: rapid's draws stay outside of the bubble, which
// wants a *testing.T, and each run, shrinking ones too, has a bubble of its own.
func followsModel(t *testing.T, connect connector, done *tally) func(*rapid.T) {
	t.Helper()
	return func(r *rapid.T) {
		steps := slices.Concat(manySteps.Draw(r, "steps")...)
		trace, wrong := runSteps(t, connect, steps)
		done.add(steps)
		if wrong != nil {
			r.Log(trace)
			r.Fatal(wrong)
		}
	}
}

// A client that writes, reads, deletes and brings back a stream sees after each step what the model is, whatever happens
// to requests and answers.
func TestAStreamFollowsItsModel(t *testing.T) {
	const checks = 20 // for each seed
	var done tally
	rapidFlag(t, "rapid.nofailfile", "true")
	if flag.Lookup("rapid.seed").Value.String() != "0" {
		rapid.Check(t, followsModel(t, connectReal, &done)) // as rapid said how to repeat it
		return
	}
	rapidFlag(t, "rapid.checks", strconv.Itoa(checks))
	for seed := range faultnet.Seeds(t, 20) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Cleanup(func() {
				if t.Failed() {
					t.Log(repeat(t, seed))
				}
			})
			rapidFlag(t, "rapid.seed", strconv.FormatUint(seed<<20|1, 10)) // its checks have seeds behind it, and 0 is none
			rapid.Check(t, followsModel(t, connectReal, &done))
		})
	}
	t.Logf("%d runs: %d calls, %d faults", done.runs, done.calls, done.faults)
}

// rapidFlag sets one of rapid's flags, which are those of the whole program, for one test.
func rapidFlag(t *testing.T, name, value string) {
	t.Helper()
	f := flag.Lookup(name)
	require.NotNil(t, f, name)
	before := f.Value.String()
	require.NoError(t, f.Value.Set(value))
	t.Cleanup(func() { require.NoError(t, f.Value.Set(before)) })
}
