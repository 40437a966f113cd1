package chaos_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/google/uuid"

	"github.com/goeventstore/eventstore"
)

// client is what the tests use of the real client. The ones that are broken on purpose have it too.
type client interface {
	Append(ctx context.Context, stream string, expected eventstore.ExpectedVersion, events []eventstore.EventData, opts ...eventstore.CallOption) (eventstore.WriteResult, error)
	AppendAsync(ctx context.Context, stream string, expected eventstore.ExpectedVersion, events []eventstore.EventData, opts ...eventstore.CallOption) *eventstore.PendingWrite
	ReadAll(ctx context.Context, from eventstore.From, opts ...eventstore.ReadOption) iter.Seq2[eventstore.ResolvedEvent, error]
	TruncateBefore(ctx context.Context, stream string, number int64, opts ...eventstore.CallOption) error
	Delete(ctx context.Context, stream string, expected eventstore.ExpectedVersion, opts ...eventstore.CallOption) (eventstore.WriteResult, error)
	ReadStream(ctx context.Context, stream string, from eventstore.From, opts ...eventstore.ReadOption) iter.Seq2[eventstore.ResolvedEvent, error]
	ReadSlice(ctx context.Context, stream string, from eventstore.From, count int, opts ...eventstore.ReadOption) (eventstore.Slice, error)
	ReadEvent(ctx context.Context, stream string, at eventstore.From, opts ...eventstore.ReadOption) (eventstore.ResolvedEvent, error)
}

// labelled makes events that are known by their labels: these are what an application wrote, whatever their ids.
func labelled(labels []string) []eventstore.EventData {
	all := make([]eventstore.EventData, len(labels))
	for i, label := range labels {
		all[i] = eventstore.EventData{ID: uuid.New(), Type: "happened", Data: []byte(label)}
	}
	return all
}

// label tells which event this is; one whose number is not its place in the order is none that anybody wrote.
func label(e eventstore.ResolvedEvent, number int64) string {
	if got := e.Original().Number; got != number {
		return fmt.Sprintf("%s with number %d at %d", e.Original().Data, got, number)
	}
	return string(e.Original().Data)
}

type action uint8

const (
	doAppend action = iota
	doReadStream
	doReadSlice
	doReadBack // a slice, backward from the end
	doReadAll  // what the log has of it
)

// operation is what was asked for.
type operation struct {
	stream   string
	do       action
	expected eventstore.ExpectedVersion // of an append
	labels   []string
	async    bool
	from     int // of a slice
	count    int
}

func (o operation) String() string {
	switch o.do {
	case doAppend:
		return fmt.Sprintf("append %v to %s, expecting %v", o.labels, o.stream, o.expected)
	case doReadSlice:
		return fmt.Sprintf("read %d of %s from %d", o.count, o.stream, o.from)
	case doReadBack:
		return fmt.Sprintf("read the last %d of %s", o.count, o.stream)
	case doReadAll:
		return "read what the log has of " + o.stream
	default:
		return "read " + o.stream
	}
}

// outcome is what the client said.
type outcome struct {
	unknown     bool // an append that may have been applied: it may still be, at any time
	refused     bool // an append with a wrong version, and the actual one, Any when it is not known
	actual      eventstore.ExpectedVersion
	first, last int64 // of an append that succeeded
	missing     bool  // a read found no stream
	read        []string
}

func (o outcome) String() string {
	switch {
	case o.unknown:
		return "may have been applied"
	case o.refused:
		return fmt.Sprintf("wrong version, it is %v", o.actual)
	case o.missing:
		return "no stream"
	case o.read != nil:
		return fmt.Sprint(o.read)
	default:
		return fmt.Sprintf("events %d to %d", o.first, o.last)
	}
}

// history records operations of several clients at once, with times from a clock that ticks at each call and each return.
type history struct {
	mu       sync.Mutex // guards what follows
	clock    int64
	ops      []porcupine.Operation
	faults   int      // what happened to frames and connections meanwhile
	problems []string // answers that are wrong whatever the others got
}

func (h *history) tick() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clock++
	return h.clock
}

func (h *history) add(who int, call int64, o operation, out outcome) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clock++
	back := h.clock
	if out.unknown {
		back = math.MaxInt64
	}
	h.ops = append(h.ops, porcupine.Operation{ClientId: who, Input: o, Call: call, Output: out, Return: back})
}

func (h *history) problem(o operation, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.problems = append(h.problems, fmt.Sprintf("%v: %v", o, err))
}

// gaveUp reports an error that says nothing about the stream: the time or the attempts were spent.
func gaveUp(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, eventstore.ErrRetriesExhausted)
}

// run makes an operation and records what came of it. It returns the stream's last event number as far as the outcome
// tells it, or known. What failed and certainly had no effect is not recorded: the checker finds its events if it had.
func (h *history) run(ctx context.Context, who int, c client, o operation, known int64) int64 {
	call := h.tick()
	if o.do != doAppend {
		read, err := readLabels(ctx, c, o)
		switch {
		case err == nil:
			h.add(who, call, o, outcome{read: read})
		case errors.Is(err, eventstore.ErrStreamNotFound):
			h.add(who, call, o, outcome{missing: true})
			return -1
		case !gaveUp(err):
			h.problem(o, err)
		}
		if err == nil && o.do == doReadStream {
			return int64(len(read)) - 1
		}
		return known
	}
	var r eventstore.WriteResult
	var err error
	if o.async {
		r, err = c.AppendAsync(ctx, o.stream, o.expected, labelled(o.labels)).Wait(ctx)
	} else {
		r, err = c.Append(ctx, o.stream, o.expected, labelled(o.labels))
	}
	var wrong *eventstore.WrongVersionError
	switch {
	case err == nil:
		h.add(who, call, o, outcome{first: int64(r.First), last: int64(r.Last)})
		return int64(r.Last)
	case eventstore.MaybeApplied(err):
		h.add(who, call, o, outcome{unknown: true})
		if !gaveUp(err) && !errors.Is(err, eventstore.ErrWrongVersion) {
			h.problem(o, err)
		}
	case errors.As(err, &wrong):
		h.add(who, call, o, outcome{refused: true, actual: wrong.Actual})
		if wrong.Actual != eventstore.Any {
			return int64(wrong.Actual)
		}
	case !gaveUp(err):
		h.problem(o, err)
	}
	return known
}

// readLabels returns labels, never nil when there is no error.
func readLabels(ctx context.Context, c client, o operation) ([]string, error) {
	labels := []string{}
	switch o.do {
	case doReadStream:
		for e, err := range c.ReadStream(ctx, o.stream, eventstore.Start) { // a single page, which is read in one moment
			if err != nil {
				return nil, err
			}
			labels = append(labels, label(e, int64(len(labels))))
		}
	case doReadAll:
		for e, err := range c.ReadAll(ctx, eventstore.Start, eventstore.StreamPrefix(o.stream), eventstore.As("admin", "changeit"), eventstore.PageSize(eventstore.MaxPageSize)) {
			if err != nil {
				return nil, err
			}
			labels = append(labels, label(e, int64(len(labels))))
		}
		if len(labels) == 0 {
			return nil, eventstore.ErrStreamNotFound
		}
	case doReadSlice:
		slice, err := c.ReadSlice(ctx, o.stream, eventstore.At(int64(o.from)), o.count)
		if err != nil {
			return nil, err
		}
		for i, e := range slice.Events {
			labels = append(labels, label(e, int64(o.from+i)))
		}
	default:
		slice, err := c.ReadSlice(ctx, o.stream, eventstore.End, o.count, eventstore.Backward())
		if err != nil {
			return nil, err
		}
		for i, e := range slice.Events {
			labels = append(labels, label(e, slice.Last-int64(i)))
		}
	}
	return labels, nil
}

// checkTime is how long the checker may take for a history: far more than it needs.
const checkTime = 30 * time.Second

// check reports what is wrong with a history, "" for nothing. It must not be called in a bubble: its time is real.
func (h *history) check() string {
	if len(h.problems) > 0 {
		return "unexpected errors:\n" + strings.Join(h.problems, "\n")
	}
	for _, part := range partition(h.ops) {
		switch result := porcupine.CheckOperationsTimeout(streamModel, part, checkTime); result {
		case porcupine.Ok:
		case porcupine.Illegal:
			return "this history is not linearizable:\n" + describe(part)
		default:
			return fmt.Sprintf("the checker says %s after %v of this history:\n%s", result, checkTime, describe(part))
		}
	}
	return ""
}

// partition splits a history by streams: each is linearizable by itself.
func partition(ops []porcupine.Operation) [][]porcupine.Operation {
	parts := make(map[string][]porcupine.Operation)
	for _, op := range ops {
		stream := op.Input.(operation).stream
		parts[stream] = append(parts[stream], op)
	}
	return slices.Collect(maps.Values(parts))
}

func describe(ops []porcupine.Operation) string {
	ops = slices.Clone(ops)
	slices.SortFunc(ops, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
	var b strings.Builder
	for _, op := range ops {
		back := "open"
		if op.Return != math.MaxInt64 {
			back = fmt.Sprint(op.Return)
		}
		fmt.Fprintf(&b, "%6d to %-6s worker %d: %v: %v\n", op.Call, back, op.ClientId, op.Input, op.Output)
	}
	return b.String()
}

// streamModel is what a stream is: a list of events.
//
// An append of unknown outcome is open to the end of the history. Its step is allowed everywhere: it adds the events when
// the version fits, else nothing, as a server does that gets it late. Never to be applied is then the same as to come
// behind everything else.
var streamModel = porcupine.Model{
	Init: func() any { return []string(nil) },
	Step: func(state, input, output any) (bool, any) {
		stream, o, out := state.([]string), input.(operation), output.(outcome)
		if o.do != doAppend {
			return readOf(stream, o).equal(out), stream
		}
		fits := fits(int64(len(stream))-1, o.expected)
		switch {
		case out.unknown && !fits:
			return true, stream
		case out.refused:
			return !fits && (out.actual == eventstore.Any || int64(out.actual) == int64(len(stream))-1), stream
		case !out.unknown && (!fits || out.first != int64(len(stream)) || out.last != out.first+int64(len(o.labels))-1):
			return false, stream
		}
		return true, slices.Concat(stream, o.labels)
	},
	Equal: func(a, b any) bool { return slices.Equal(a.([]string), b.([]string)) },
	Hash: func(state any) uint64 {
		var h maphash.Hash
		h.SetSeed(hashSeed)
		for _, label := range state.([]string) {
			_, _ = h.WriteString(label)
			_ = h.WriteByte(0)
		}
		return h.Sum64()
	},
}

var hashSeed = maphash.MakeSeed()

func fits(last int64, expected eventstore.ExpectedVersion) bool {
	switch expected {
	case eventstore.Any:
		return true
	case eventstore.StreamExists:
		return last >= 0
	default:
		return last == int64(expected)
	}
}

func readOf(stream []string, o operation) outcome {
	n := len(stream)
	switch {
	case n == 0:
		return outcome{missing: true}
	case o.do == doReadSlice:
		from := min(o.from, n)
		return outcome{read: stream[from:min(from+o.count, n)]}
	case o.do == doReadBack:
		last := slices.Clone(stream[max(0, n-o.count):])
		slices.Reverse(last)
		return outcome{read: last}
	default:
		return outcome{read: stream}
	}
}

func (o outcome) equal(p outcome) bool {
	return o.missing == p.missing && slices.Equal(o.read, p.read)
}

// witness stands before a test as far as the server of a test is concerned, and keeps the trace that it logs in the end.
type witness struct {
	testing.TB
	trace string
}

// Failed has the server log its trace, since nobody knows yet whether the test fails.
func (*witness) Failed() bool { return true }

func (w *witness) Log(args ...any) { w.trace = fmt.Sprint(args...) }
