package chaos_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/anishathalye/porcupine"
	"github.com/google/uuid"

	"github.com/goeventstore/eventstore"
)

// clusterHistory is what the clients of a cluster saw, and what became of it.
type clusterHistory struct {
	history
	ids      map[uuid.UUID]string // the labels of the events
	final    map[string][]string
	followed map[string][]delivered
	listened map[string][]delivered
	beyond   map[string][]delivered     // events behind which a listener was, and when they were not there
	handled  map[string]map[string]bool // by the group of a stream

	// What was rolled back. An embedded cluster says it by name; of a real one it is concluded.
	rolledBack map[string]bool // stream, number and label
	gone       map[string]bool // labels that are nowhere else
	reigns     int             // for which a client that calls nothing was to be at the leader
	lost       *lost           // of a real one
}

func newClusterHistory() *clusterHistory {
	return &clusterHistory{
		ids: map[uuid.UUID]string{}, final: map[string][]string{}, followed: map[string][]delivered{}, listened: map[string][]delivered{},
		beyond: map[string][]delivered{}, handled: map[string]map[string]bool{}, rolledBack: map[string]bool{}, gone: map[string]bool{},
	}
}

// delivered is an event that came, and when.
type delivered struct {
	number int64
	label  string
	tick   int64
}

// deliver keeps an event that came.
func (h *clusterHistory) deliver(to map[string][]delivered, stream string, e eventstore.ResolvedEvent) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clock++
	to[stream] = append(to[stream], delivered{e.Event.Number, string(e.Event.Data), h.clock})
}

func rolled(stream string, number int64, label string) string {
	return fmt.Sprintf("%s %d %s", stream, number, label)
}

// lost is what a real cluster may have rolled back. It does not say. A leader that has lost its followers calls what it has written
// and shown, when it gives up the lead, and the others may elect one of them before they hear of it. So it can be an event that is
// not there in the end, and that
//   - an append was to write that is open, or was called written without a majority: while the followers were down and until
//     the cluster was whole again;
//   - was seen during such a time, and under its number if its append was told one.
//
// What was written at any other time, and called so, has to be there.
type lost struct {
	minorities [][2]int64       // ticks
	labels     map[string]int64 // their numbers, -1 for unknown
}

// minority reports whether there was no majority at some time between these ticks.
func (l *lost) minority(from, to int64) bool {
	return slices.ContainsFunc(l.minorities, func(m [2]int64) bool { return from <= m[1] && to >= m[0] })
}

// conclude finds what was lost.
func (h *clusterHistory) conclude() {
	h.lost.labels = map[string]int64{}
	for _, op := range h.ops {
		o, out := op.Input.(operation), op.Output.(outcome)
		if o.do != doAppend || out.refused {
			continue
		}
		for i, label := range o.labels {
			switch {
			case slices.Contains(h.final[o.stream], label):
			case out.unknown:
				h.lost.labels[label] = -1
			case h.lost.minority(op.Call, op.Return):
				h.lost.labels[label] = out.first + int64(i)
				h.gone[label] = true
			}
		}
	}
}

// wasThere reports whether an event that is not there in the end may have been, and have been seen between these ticks. The number
// is -1 if it is not known.
func (h *clusterHistory) wasThere(stream string, number int64, label string, from, to int64) bool {
	if h.lost != nil {
		at, ok := h.lost.labels[label]
		return ok && (at < 0 || number < 0 || at == number) && h.lost.minority(from, to)
	}
	if number >= 0 {
		return h.rolledBack[rolled(stream, number, label)]
	}
	for name := range h.rolledBack {
		if strings.HasPrefix(name, stream+" ") && strings.HasSuffix(name, " "+label) {
			return true
		}
	}
	return false
}

// clusterCount says in numbers what happened.
type clusterCount struct{ blows, operations, refused, open, gone, listened, again, beyond, reigns int }

func (h *clusterHistory) count() (c clusterCount) {
	c.blows, c.operations, c.reigns = h.faults, len(h.ops), h.reigns
	for _, op := range h.ops {
		switch out := op.Output.(outcome); {
		case out.unknown:
			c.open++
		case out.refused:
			c.refused++
		}
	}
	for _, is := range h.gone {
		if is {
			c.gone++
		}
	}
	for stream, events := range h.listened {
		c.listened += len(events)
		c.beyond += len(h.beyond[stream])
		for i := range events[1:] {
			if events[i+1].number <= events[i].number {
				c.again++
			}
		}
	}
	return c
}

func (c *clusterCount) add(d clusterCount) {
	c.blows += d.blows
	c.operations += d.operations
	c.refused += d.refused
	c.open += d.open
	c.gone += d.gone
	c.listened += d.listened
	c.again += d.again
	c.beyond += d.beyond
	c.reigns += d.reigns
}

func (c clusterCount) String() string {
	return fmt.Sprintf("%d blows, %d operations: %d appends refused, %d open; %d events called written and lost, or rolled back; "+
		"listeners were handed %d events, %d times again from one that they had, and were beyond the end %d times; "+
		"who only subscribed was to be at the leader %d times",
		c.blows, c.operations, c.refused, c.open, c.gone, c.listened, c.again, c.beyond, c.reigns)
}

// named is a client that keeps the ids of what it writes.
type named struct {
	*eventstore.Client
	h *clusterHistory
}

func (c named) keep(events []eventstore.EventData) {
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	for i := range events {
		c.h.ids[events[i].ID] = string(events[i].Data)
	}
}

// Append implements client.
func (c named) Append(ctx context.Context, stream string, expected eventstore.ExpectedVersion, events []eventstore.EventData, opts ...eventstore.CallOption) (eventstore.WriteResult, error) {
	c.keep(events)
	return c.Client.Append(ctx, stream, expected, events, opts...)
}

// AppendAsync implements client.
func (c named) AppendAsync(ctx context.Context, stream string, expected eventstore.ExpectedVersion, events []eventstore.EventData, opts ...eventstore.CallOption) *eventstore.PendingWrite {
	c.keep(events)
	return c.Client.AppendAsync(ctx, stream, expected, events, opts...)
}

// verdict reports what is wrong, "" for nothing.
//
// Appends are held to one order of all of them. A leader that is cut off does not know what the others have: what it
// refuses, and what is read there, may be old. So a refused append is held to have left nothing, and a read to have shown
// what was there at some time. What was rolled back may have been called written, read and delivered.
func (h *clusterHistory) verdict() string {
	var wrong []string
	check := history{problems: h.problems}
	for _, op := range h.ops {
		o, out := op.Input.(operation), op.Output.(outcome)
		final := h.final[o.stream]
		switch {
		case out.refused:
			for _, label := range o.labels {
				if slices.Contains(final, label) {
					wrong = append(wrong, fmt.Sprintf("%v was refused, and is there", o))
				}
			}
		case o.do == doAppend:
			if !out.unknown && (len(o.labels) == 0 || h.gone[o.labels[0]]) {
				op.Output, op.Return = outcome{unknown: true}, math.MaxInt64
			}
			check.ops = append(check.ops, op)
		case !out.missing && !h.showed(op):
			wrong = append(wrong, fmt.Sprintf("%v: %v was never there, in the end it is %v", o, out.read, final))
		}
	}
	for stream, final := range h.final {
		check.ops = append(check.ops, porcupine.Operation{
			ClientId: 1000, Input: operation{stream: stream, do: doReadStream}, Call: h.clock + 1, Output: outcome{read: final}, Return: h.clock + 2,
		})
	}
	wrong = append(wrong, h.missed()...)
	if linear := check.check(); linear != "" {
		wrong = append(wrong, linear)
	}
	return strings.Join(wrong, "\n")
}

// showed reports whether a read shows what the stream was at some time.
func (h *clusterHistory) showed(op porcupine.Operation) bool {
	o, read := op.Input.(operation), op.Output.(outcome).read
	final := h.final[o.stream]
	if o.do == doReadBack {
		up := slices.Clone(read)
		slices.Reverse(up)
		for end := len(up); end <= len(final); end++ {
			if slices.Equal(final[end-len(up):end], up) {
				return true
			}
		}
		return slices.ContainsFunc(read, func(label string) bool { return h.wasThere(o.stream, -1, label, op.Call, op.Return) })
	}
	from := 0
	if o.do == doReadSlice {
		from = o.from
	}
	for i, label := range read {
		if n := int64(from + i); !h.is(o.stream, n, label) && !h.wasThere(o.stream, n, label, op.Call, op.Return) {
			return false
		}
	}
	return true
}

// is reports whether an event is there in the end.
func (h *clusterHistory) is(stream string, number int64, label string) bool {
	final := h.final[stream]
	return number < int64(len(final)) && final[number] == label
}

// missed reports what is wrong with what subscriptions, listeners and groups brought, and with what they have not brought yet.
func (h *clusterHistory) missed() (wrong []string) {
	for _, stream := range h.streams() {
		final := h.final[stream]
		if problem := h.brought(stream, h.followed[stream], false); problem != "" {
			wrong = append(wrong, "the subscription to "+problem)
		}
		if problem := h.brought(stream, h.listened[stream], true); problem != "" {
			wrong = append(wrong, "the listener of "+problem)
		}
		for _, at := range h.beyond[stream] {
			// What is sent again with its ids may be there once more in the end.
			if !slices.ContainsFunc(h.listened[stream], func(e delivered) bool {
				return e.number == at.number && e.tick < at.tick && (h.wasThere(stream, e.number, e.label, e.tick, at.tick) || h.lost != nil && h.lost.minority(e.tick, at.tick))
			}) {
				wrong = append(wrong, fmt.Sprintf("the listener of %s was beyond event %d, which was not rolled back", stream, at.number))
			}
		}
		for n, label := range final {
			if !h.handled[stream][label] {
				wrong = append(wrong, fmt.Sprintf("the group of %s was not given event %d, %s", stream, n, label))
			}
		}
	}
	return wrong
}

func (h *clusterHistory) streams() (all []string) {
	for stream := range h.handled {
		all = append(all, stream)
	}
	slices.Sort(all)
	return all
}

// brought reports what is wrong with events that came: each number once, or again from some number on if it may begin again, in
// order, with what is there or was rolled back.
func (h *clusterHistory) brought(stream string, events []delivered, again bool) string {
	final := h.final[stream]
	next, most := int64(0), int64(0)
	for _, e := range events {
		if e.number > next || e.number < next && !again {
			return fmt.Sprintf("%s brought %d where %d is next: %v of %v", stream, e.number, next, events, final)
		}
		if !h.is(stream, e.number, e.label) && !h.wasThere(stream, e.number, e.label, e.tick, e.tick) {
			return fmt.Sprintf("%s brought %d, %s: %v of %v", stream, e.number, e.label, events, final)
		}
		next = e.number + 1
		most = max(most, next)
	}
	if most < int64(len(final)) {
		return fmt.Sprintf("%s ends before %d: %v of %v", stream, most, events, final)
	}
	return ""
}
