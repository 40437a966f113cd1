package chaos_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/internal/faultnet"
	"github.com/goeventstore/eventstore/messages"
)

const (
	maxOperations = 40 // of a partition: the checker's work grows fast with them
	plannedFrames = 400
)

// plan is all that a seed fixes.
type plan struct {
	seed     uint64
	streams  []string
	clients  [][]eventstore.Option
	config   []string // what the options are
	scripts  [][]task // of each worker
	requests map[int]planned
	answers  map[int]planned
	cuts     []time.Duration // when all connections are cut, from the beginning
}

// task is one operation of a worker. An append with an exact version takes the one that the worker knows, with a skew.
type task struct {
	operation
	exact   bool
	skew    int64
	pause   time.Duration // before it
	timeout time.Duration
}

// planned is a fault for the n-th request or answer that the proxy sees.
type planned struct {
	name  string
	fault eventstoretest.Fault
}

func newPlan(seed uint64) *plan {
	r := rand.New(rand.NewPCG(seed, 0))
	p := &plan{seed: seed, requests: make(map[int]planned), answers: make(map[int]planned)}
	for i := range 1 + r.IntN(3) {
		p.streams = append(p.streams, fmt.Sprintf("s%d", i))
	}
	for range 2 + r.IntN(3) {
		p.addClient(r)
	}
	workers := max(len(p.clients), 2+r.IntN(3))
	used := make(map[string]int)
	room := len(p.streams) * (maxOperations - 1) // the last operation looks at the result
	for n := range min(workers*(10+r.IntN(30)), room) {
		if n < workers {
			p.scripts = append(p.scripts, nil)
		}
		stream := p.streams[r.IntN(len(p.streams))]
		for used[stream] == maxOperations-1 {
			stream = p.streams[r.IntN(len(p.streams))]
		}
		used[stream]++
		worker := n % workers
		name := fmt.Sprintf("%c%d", 'a'+worker, len(p.scripts[worker]))
		p.scripts[worker] = append(p.scripts[worker], newTask(r, stream, name))
	}
	for n := 1; n <= plannedFrames; n++ {
		if f, ok := requestFault(r); ok {
			p.requests[n] = f
		}
		if f, ok := answerFault(r); ok {
			p.answers[n] = f
		}
	}
	for range r.IntN(3) {
		p.cuts = append(p.cuts, upTo(r, 10*time.Second))
	}
	slices.Sort(p.cuts)
	return p
}

func (p *plan) addClient(r *rand.Rand) {
	timeout := []time.Duration{time.Second, 3 * time.Second, 7 * time.Second}[r.IntN(3)]
	options := []eventstore.Option{eventstore.WithTimeout(timeout)}
	config := fmt.Sprintf("an attempt lasts %v", timeout)
	switch r.IntN(4) {
	case 0: // late answers come on a connection that lives
		options = append(options, eventstore.WithHeartbeat(time.Minute, time.Minute))
		config += ", no heartbeats"
	case 1: // late requests arrive when the client has another connection already
		options = append(options, eventstore.WithHeartbeat(time.Second/2, time.Second/2))
		config += ", hasty heartbeats"
	}
	if r.IntN(3) == 0 {
		options = append(options, eventstore.WithMaxAttempts(2))
		config += ", 2 attempts"
	}
	p.clients, p.config = append(p.clients, options), append(p.config, config)
}

func newTask(r *rand.Rand, stream, name string) task {
	t := task{
		operation: operation{stream: stream, do: doReadStream, count: 1 + r.IntN(8), from: r.IntN(20)},
		pause:     upTo(r, 200*time.Millisecond),
		timeout:   []time.Duration{2 * time.Second, 10 * time.Second, 2 * time.Minute, 2 * time.Minute}[r.IntN(4)],
	}
	kind := r.IntN(20)
	switch {
	case kind < 3:
		return t
	case kind < 4:
		t.do = doReadAll
		return t
	case kind < 5:
		t.do = doReadSlice
		return t
	case kind < 7:
		t.do = doReadBack
		return t
	case kind < 13:
		t.exact = true
		if r.IntN(8) == 0 {
			t.skew = int64(r.IntN(3)) - 1
		}
	case kind < 17:
		t.expected = eventstore.Any
	case kind < 18:
		t.expected = eventstore.NoStream
	default:
		t.expected = eventstore.StreamExists
	}
	t.do = doAppend
	t.async = r.IntN(3) == 0
	if t.skew == 0 && r.IntN(12) == 0 { // none at all: a check of the version
		return t
	}
	for i := range 1 + r.IntN(3) {
		t.labels = append(t.labels, fmt.Sprintf("%s.%d", name, i))
	}
	return t
}

func upTo(r *rand.Rand, d time.Duration) time.Duration {
	return time.Duration(r.Int64N(int64(d))).Round(time.Millisecond)
}

func requestFault(r *rand.Rand) (planned, bool) {
	switch n := r.IntN(100); {
	case n < 3:
		return planned{"cut in front of it", eventstoretest.Cut}, true
	case n < 6:
		return planned{"cut behind it", eventstoretest.CutAfter}, true
	case n < 9:
		return planned{"lost", eventstoretest.Drop}, true
	case n < 11:
		return planned{"the server is busy", eventstoretest.TooBusy()}, true
	default:
		return late(r, n-11, 4*time.Second) // a server ends a connection that is silent for much longer
	}
}

func answerFault(r *rand.Rand) (planned, bool) {
	switch n := r.IntN(100); {
	case n < 3:
		return planned{"cut in front of it", eventstoretest.Cut}, true
	case n < 5:
		return planned{"cut behind it", eventstoretest.CutAfter}, true
	case n < 8:
		return planned{"lost", eventstoretest.Drop}, true
	case n < 12:
		return planned{"twice", eventstoretest.Duplicate}, true
	case n < 14:
		return planned{commitTimeout, eventstoretest.Pass}, true
	default:
		return late(r, n-14, 10*time.Second)
	}
}

const commitTimeout = "CommitTimeout instead, if it is of an append"

// late is by much, maybe more than an attempt lasts, or by a little, as on any network.
func late(r *rand.Rand, n int, longest time.Duration) (planned, bool) {
	d := time.Duration(0)
	switch {
	case n < 4:
		d = upTo(r, longest)
	case n < 50:
		d = upTo(r, 40*time.Millisecond)
	}
	return planned{fmt.Sprintf("late by %v", d), eventstoretest.Delay(d)}, d > 0
}

func (p *plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "streams %v\n", p.streams)
	for i, c := range p.config {
		fmt.Fprintf(&b, "client %d: %s\n", i, c)
	}
	for i, script := range p.scripts {
		fmt.Fprintf(&b, "worker %d of client %d: %d operations\n", i, i%len(p.clients), len(script))
	}
	fmt.Fprintf(&b, "all connections are cut after %v\n", p.cuts)
	for _, side := range []struct {
		name   string
		faults map[int]planned
	}{{"request", p.requests}, {"answer", p.answers}} {
		for _, n := range slices.Sorted(maps.Keys(side.faults)) {
			fmt.Fprintf(&b, "%s %d: %s\n", side.name, n, side.faults[n].name)
		}
	}
	return b.String()
}

// injector counts requests and answers of all connections and gives them the plan's faults.
type injector struct {
	plan              *plan
	mu                sync.Mutex // guards what follows
	requests, answers int
	faults            int // that happened
}

func (i *injector) intercept(f *eventstoretest.Frame) eventstoretest.Fault {
	switch f.Command {
	case messages.WriteEvents, messages.ReadStreamEventsForward, messages.ReadStreamEventsBackward,
		messages.ReadAllEventsForward, messages.ReadAllEventsForwardCompleted,
		messages.WriteEventsCompleted, messages.ReadStreamEventsForwardCompleted, messages.ReadStreamEventsBackwardCompleted:
	default:
		return eventstoretest.Pass
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	var fault planned
	if f.FromServer {
		i.answers++
		fault = i.plan.answers[i.answers]
	} else {
		i.requests++
		fault = i.plan.requests[i.requests]
	}
	if fault.name != "" {
		i.faults++
	}
	if fault.name == commitTimeout && f.Command == messages.WriteEventsCompleted {
		return instead(&messages.AppendCompleted{Result: messages.CommitTimeout})
	}
	return fault.fault
}

// instead replaces a frame.
func instead(m messages.Request) eventstoretest.Fault {
	body, err := m.AppendTo(nil)
	if err != nil {
		panic(err) // of messages that tests make
	}
	return eventstoretest.Replace(m.Command(), body)
}

// connector makes the client under test.
type connector func(t *testing.T, srv *eventstoretest.Server, opts ...eventstore.Option) client

func connectReal(t *testing.T, srv *eventstoretest.Server, opts ...eventstore.Option) client {
	t.Helper()
	return srv.Client(t, opts...)
}

// run carries the plan out in virtual time and returns what the clients saw and the server's trace.
func (p *plan) run(t *testing.T, connect connector) (*history, string) {
	t.Helper()
	h := new(history)
	var seen *witness
	synctest.Test(t, func(t *testing.T) {
		seen = &witness{TB: t}
		srv := eventstoretest.Run(seen, eventstoretest.InMemory())
		var clients []client
		for _, opts := range p.clients {
			clients = append(clients, connect(t, srv, opts...))
		}
		begun := time.Now()
		faults := injector{plan: p}
		remove := srv.Intercept(faults.intercept)
		var workers sync.WaitGroup
		for i, script := range p.scripts {
			workers.Go(func() { work(t.Context(), h, i, clients[i%len(clients)], script) })
		}
		workers.Go(func() {
			for _, at := range p.cuts {
				time.Sleep(time.Until(begun.Add(at)))
				srv.Cut()
			}
		})
		workers.Wait()
		remove()
		// Past the proxy: nothing that the clients were told may be missing or different in the end.
		direct, err := eventstore.Connect(t.Context(), srv.DirectURL(), eventstore.WithDialer(srv.Dial))
		require.NoError(t, err)
		defer func() { require.NoError(t, direct.Close()) }()
		for _, stream := range p.streams {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			h.run(ctx, len(p.scripts), direct, operation{stream: stream, do: doReadStream}, -1)
			cancel()
		}
		faults.mu.Lock()
		defer faults.mu.Unlock()
		h.faults = faults.faults + len(p.cuts)
	})
	return h, seen.trace
}

func work(ctx context.Context, h *history, who int, c client, script []task) {
	known := make(map[string]int64)
	for _, t := range script {
		time.Sleep(t.pause)
		last, ok := known[t.stream]
		if !ok {
			last = -1
		}
		o := t.operation
		if t.exact {
			o.expected = eventstore.ExpectedVersion(max(last+t.skew, -1))
		}
		ctx, cancel := context.WithTimeout(ctx, t.timeout)
		known[t.stream] = h.run(ctx, who, c, o, last)
		cancel()
	}
}

// Several clients append to a few streams and read them while requests and answers are lost, late or doubled and
// connections are cut: what they are told is what one sequence of whole operations would have told them.
func TestOperationsAreLinearizable(t *testing.T) {
	var total, open, refused, reads, faults int
	for seed := range faultnet.Seeds(t, 20) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			p := newPlan(seed)
			h, trace := p.run(t, connectReal)
			faults += h.faults
			for _, op := range h.ops {
				total++
				switch out := op.Output.(outcome); {
				case out.unknown:
					open++
				case out.refused:
					refused++
				case out.missing || out.read != nil:
					reads++
				}
			}
			if wrong := h.check(); wrong != "" {
				t.Fatalf("%s\nplan of seed %d:\n%v\n%s\n%s", wrong, seed, p, trace, repeat(t, seed))
			}
		})
	}
	t.Logf("%d faults and delays, %d operations: %d reads, %d appends refused, %d open, %d stored", faults, total, reads, refused, open, total-reads-refused-open)
}

// repeat is the command that repeats this test with its seed.
func repeat(t *testing.T, seed uint64) string {
	t.Helper()
	return faultnet.Repeat(t, faultnet.Random(seed, faultnet.Options{}))
}
