package chaos_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/internal/faultnet"
	"github.com/goeventstore/eventstore/persistent"
	"github.com/goeventstore/eventstore/subscription"
)

// blow is something that happens to a node of a cluster, and ends some time later.
type blow struct {
	kind  string
	after time.Duration // the end of the one before
	lasts time.Duration
	other int // which of the followers, if it is one
}

// The kinds of blows.
const (
	leaderKilled   = "the leader is killed"
	leaderPaused   = "the leader is paused"
	leaderCutOff   = "the leader is cut off"
	followerKilled = "a follower is killed"
	followerCutOff = "a follower is cut off"
	quorumKilled   = "both followers are killed"
)

// clusterPlan is all that a seed fixes: what workers do, and what happens to the nodes until they are done.
type clusterPlan struct {
	*plan
	blows []blow
}

func newClusterPlan(seed uint64) *clusterPlan {
	p := &clusterPlan{plan: newPlan(seed)}
	r := rand.New(rand.NewPCG(seed, 1))
	for _, script := range p.scripts {
		for i := range script {
			script[i].pause *= 12 // so that it lasts for some blows
		}
	}
	for range 20 {
		kinds := []string{leaderKilled, leaderKilled, leaderPaused, leaderCutOff, leaderCutOff, followerKilled, followerCutOff, quorumKilled}
		p.blows = append(p.blows, blow{
			kind: kinds[r.IntN(len(kinds))], after: time.Second + upTo(r, 5*time.Second), lasts: time.Second/2 + upTo(r, 7*time.Second), other: r.IntN(2),
		})
		if last := &p.blows[len(p.blows)-1]; last.kind == leaderPaused && r.IntN(2) == 0 {
			last.lasts += 8 * time.Second // until nobody waits for it any more
		}
	}
	return p
}

func (p *clusterPlan) String() string {
	var b strings.Builder
	for i, c := range p.config {
		fmt.Fprintf(&b, "client %d: %s\n", i, c)
	}
	for _, blow := range p.blows {
		fmt.Fprintf(&b, "%v later %s (%d), for %v\n", blow.after, blow.kind, blow.other, blow.lasts)
	}
	return b.String()
}

// strike has blows fall until all is done, and returns how many did.
func (p *clusterPlan) strike(ctx context.Context, s *eventstoretest.ClusterServer, b *strings.Builder) int {
	begun := time.Now()
	rest := func(d time.Duration) bool {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			return true
		case <-ctx.Done():
			return false
		}
	}
	for n, blow := range p.blows {
		if !rest(blow.after) {
			return n
		}
		leader := s.Leader()
		var followers []int
		for id := range s.Nodes() {
			if id != leader {
				followers = append(followers, id)
			}
		}
		struck := []int{leader}
		switch blow.kind {
		case followerKilled, followerCutOff:
			struck = followers[blow.other : blow.other+1]
		case quorumKilled:
			struck = followers
		}
		fmt.Fprintf(b, "%v: %s: %v\n", time.Since(begun), blow.kind, struck)
		for _, id := range struck {
			switch blow.kind {
			case leaderPaused:
				_ = s.Cluster.Pause(id) // one that begins anew is not there
			case leaderCutOff, followerCutOff:
				s.Partition(id)
			default:
				_ = s.Cluster.Kill(id) //nolint:contextcheck // its end is not the context's
			}
		}
		rest(blow.lasts)
		s.Heal()
		for id := range s.Nodes() {
			_ = s.Cluster.Resume(id)
			s.Start(id) //nolint:contextcheck // nor its beginning
		}
		fmt.Fprintf(b, "%v: it is over\n", time.Since(begun))
	}
	return len(p.blows)
}

// clusterHistory is what the clients of a cluster saw, and what became of it.
type clusterHistory struct {
	history
	ids        map[uuid.UUID]string // the labels of the events
	final      map[string][]string
	rolledBack map[string]bool // stream, number and label
	gone       map[string]bool // labels that are nowhere else
	followed   map[string][]followed
	handled    map[string]map[string]bool // by the group of a stream
}

// followed is what a subscription brought.
type followed struct {
	number int64
	label  string
}

func rolled(stream string, number int64, label string) string {
	return fmt.Sprintf("%s %d %s", stream, number, label)
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

// clusterClient makes the client under test.
type clusterClient func(c *eventstore.Client, h *clusterHistory) client

func realClient(c *eventstore.Client, h *clusterHistory) client { return named{c, h} }

// run carries the plan out in virtual time.
func (p *clusterPlan) run(t *testing.T, connect clusterClient) (h *clusterHistory, trace string) {
	t.Helper()
	h = &clusterHistory{
		ids: map[uuid.UUID]string{}, final: map[string][]string{}, rolledBack: map[string]bool{}, gone: map[string]bool{}, followed: map[string][]followed{},
		handled: map[string]map[string]bool{},
	}
	var said strings.Builder
	synctest.Test(t, func(t *testing.T) {
		s := eventstoretest.Cluster(t, 3, eventstoretest.InMemory())
		var clients []client
		for _, opts := range p.clients {
			clients = append(clients, connect(s.Client(t, opts...), h))
		}
		working, done := context.WithCancel(t.Context())
		var workers, others sync.WaitGroup
		for i, script := range p.scripts {
			workers.Go(func() { work(t.Context(), &h.history, i, clients[i%len(clients)], script) })
		}
		others.Go(func() { h.faults = p.strike(working, s, &said) })
		following, stop := context.WithCancel(t.Context())
		var followers sync.WaitGroup
		for _, stream := range p.streams {
			h.handled[stream] = map[string]bool{}
			require.NoError(t, persistent.Create(t.Context(), s.Client(t), stream, "g", persistent.DefaultSettings()))
			followers.Go(func() { h.handle(following, t, s.Client(t), stream) }) //nolint:contextcheck // the test's
			followers.Go(func() { h.follow(following, t, s.Client(t), stream) }) //nolint:contextcheck // the test's
		}
		workers.Wait()
		done()
		others.Wait()
		time.Sleep(10 * time.Second) // nodes that have begun anew
		s.Ready()
		last := s.Client(t)
		for _, stream := range p.streams {
			for e, err := range last.ReadStream(t.Context(), stream, eventstore.Start) {
				if err != nil {
					require.ErrorIs(t, err, eventstore.ErrStreamNotFound)
					break
				}
				h.final[stream] = append(h.final[stream], label(e, int64(len(h.final[stream]))))
			}
			h.run(t.Context(), len(p.scripts), last, operation{stream: stream, do: doReadStream}, -1)
			for id := range s.Nodes() { // every node has all of it
				c, err := eventstore.Connect(t.Context(), s.NodeURL(id), eventstore.WithDialer(s.Dial), eventstore.WithMaxAttempts(1))
				require.NoError(t, err)
				slice, err := c.ReadSlice(t.Context(), stream, eventstore.Start, 4096, eventstore.RequireLeader(false))
				require.NoError(t, c.Close())
				if len(h.final[stream]) == 0 {
					require.ErrorIs(t, err, eventstore.ErrStreamNotFound)
					continue
				}
				require.NoError(t, err)
				var there []string
				for n, e := range slice.Events {
					there = append(there, label(e, int64(n)))
				}
				require.Equal(t, h.final[stream], there, "node %d", id)
			}
		}
		time.Sleep(time.Minute) // subscriptions come by what they lack
		stop()
		followers.Wait()
		kept := map[string]bool{}
		for _, labels := range h.final {
			for _, label := range labels {
				kept[label] = true
			}
		}
		for _, e := range s.RolledBack() {
			label := h.ids[e.ID]
			h.rolledBack[rolled(e.Stream, e.Number, label)] = true
			h.gone[label] = !kept[label]
		}
	})
	return h, said.String()
}

// follow keeps what a subscription brings.
func (h *clusterHistory) follow(ctx context.Context, t *testing.T, c *eventstore.Client, stream string) {
	sub, err := subscription.Open(ctx, c, subscription.Config{Stream: stream})
	if err != nil {
		t.Errorf("subscribe to %s: %v", stream, err)
		return
	}
	defer func() { _ = sub.Close() }()
	for {
		e, err := sub.Recv(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			t.Errorf("the subscription to %s: %v", stream, err)
			return
		}
		h.mu.Lock()
		h.followed[stream] = append(h.followed[stream], followed{e.Event.Number, string(e.Event.Data)})
		h.mu.Unlock()
	}
}

// handle keeps what the group of a stream brings.
func (h *clusterHistory) handle(ctx context.Context, t *testing.T, c *eventstore.Client, stream string) {
	g, err := persistent.Join(ctx, c, persistent.Config{Stream: stream, Group: "g"})
	if err != nil {
		t.Errorf("join the group of %s: %v", stream, err)
		return
	}
	err = g.Run(ctx, 1, func(_ context.Context, m *persistent.Message) error {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.handled[stream][string(m.Event.Data)] = true
		return nil
	})
	if err != nil && ctx.Err() == nil {
		t.Errorf("the group of %s: %v", stream, err)
	}
	_ = g.Close() //nolint:contextcheck // acks may be lost
}

// verdict reports what is wrong, "" for nothing.
//
// Appends are held to one order of all of them. A leader that is cut off does not know what the others have: what it
// refuses, and what is read there, may be old. So a refused append is held to have left nothing, and a read to have shown
// what was there at some time. What was rolled back is known by name, and may have been called written, read and delivered.
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
		case !out.missing && !h.wasThere(o, out.read):
			wrong = append(wrong, fmt.Sprintf("%v: %v was never there, in the end it is %v", o, out.read, final))
		}
	}
	for stream, final := range h.final {
		check.ops = append(check.ops, porcupine.Operation{
			ClientId: 1000, Input: operation{stream: stream, do: doReadStream}, Call: h.clock + 1, Output: outcome{read: final}, Return: h.clock + 2,
		})
	}
	for stream, events := range h.followed {
		if problem := h.follows(stream, events); problem != "" {
			wrong = append(wrong, problem)
		}
	}
	for stream, final := range h.final {
		for n, label := range final {
			if !h.handled[stream][label] {
				wrong = append(wrong, fmt.Sprintf("the group of %s was not given event %d, %s", stream, n, label))
			}
		}
	}
	if linear := check.check(); linear != "" {
		wrong = append(wrong, linear)
	}
	return strings.Join(wrong, "\n")
}

// wasThere reports whether a read shows what the stream was at some time.
func (h *clusterHistory) wasThere(o operation, read []string) bool {
	final := h.final[o.stream]
	if o.do == doReadBack {
		up := slices.Clone(read)
		slices.Reverse(up)
		for end := len(up); end <= len(final); end++ {
			if slices.Equal(final[end-len(up):end], up) {
				return true
			}
		}
		return slices.ContainsFunc(read, func(label string) bool { return h.wasRolledBack(o.stream, label) })
	}
	from := 0
	if o.do == doReadSlice {
		from = o.from
	}
	for i, label := range read {
		n := from + i
		if (n >= len(final) || final[n] != label) && !h.rolledBack[rolled(o.stream, int64(n), label)] {
			return false
		}
	}
	return true
}

func (h *clusterHistory) wasRolledBack(stream, label string) bool {
	for name := range h.rolledBack {
		if strings.HasPrefix(name, stream+" ") && strings.HasSuffix(name, " "+label) {
			return true
		}
	}
	return false
}

// follows reports what is wrong with what a subscription brought: each number once, in order, with what is there or was
// rolled back.
func (h *clusterHistory) follows(stream string, events []followed) string {
	final := h.final[stream]
	next := int64(0)
	for _, e := range events {
		if e.number != next {
			return fmt.Sprintf("the subscription to %s brought %d where %d is next: %v of %v", stream, e.number, next, events, final)
		}
		if (e.number >= int64(len(final)) || final[e.number] != e.label) && !h.rolledBack[rolled(stream, e.number, e.label)] {
			return fmt.Sprintf("the subscription to %s brought %v of %v", stream, events, final)
		}
		next++
	}
	if next < int64(len(final)) {
		return fmt.Sprintf("the subscription to %s ends before %d: %v of %v", stream, next, events, final)
	}
	return ""
}

// TestAClusterUnderFire: leaders are killed, paused and cut off every few seconds, and followers with them, under appends of
// several clients, reads, subscriptions and groups. What an append's caller was told agrees with what is there in the end.
func TestAClusterUnderFire(t *testing.T) {
	var total, open, refused, gone, blows int
	for seed := range faultnet.Seeds(t, 20) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			p := newClusterPlan(seed)
			h, trace := p.run(t, realClient)
			blows += h.faults
			for _, op := range h.ops {
				total++
				switch out := op.Output.(outcome); {
				case out.unknown:
					open++
				case out.refused:
					refused++
				}
			}
			for _, is := range h.gone {
				if is {
					gone++
				}
			}
			if wrong := h.verdict(); wrong != "" {
				t.Fatalf("%s\nrolled back: %v\nplan of seed %d:\n%v\n%s\n%s", wrong, h.rolledBack, seed, p, trace, repeat(t, seed))
			}
		})
	}
	t.Logf("%d blows, %d operations: %d appends refused, %d open; %d events rolled back", blows, total, refused, open, gone)
}

// clusterOptimist is a client that takes what nobody knows for done.
type clusterOptimist struct{ named }

// Append implements client.
func (c clusterOptimist) Append(ctx context.Context, stream string, expected eventstore.ExpectedVersion, events []eventstore.EventData, opts ...eventstore.CallOption) (eventstore.WriteResult, error) {
	r, err := c.named.Append(ctx, stream, expected, events, opts...)
	if eventstore.MaybeApplied(err) && expected >= eventstore.NoStream {
		first := expected + 1
		return eventstore.WriteResult{First: first, Last: expected + eventstore.ExpectedVersion(len(events))}, nil
	}
	return r, err
}

// clusterRepeater is a client that writes again, with new ids, what nobody knows.
type clusterRepeater struct{ named }

// Append implements client.
func (c clusterRepeater) Append(ctx context.Context, stream string, expected eventstore.ExpectedVersion, events []eventstore.EventData, opts ...eventstore.CallOption) (eventstore.WriteResult, error) {
	short, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	r, err := c.named.Append(short, stream, expected, events, opts...)
	if eventstore.MaybeApplied(err) {
		again := slices.Clone(events)
		for i := range again {
			again[i].ID = uuid.New()
		}
		return c.named.Append(ctx, stream, eventstore.Any, again, opts...)
	}
	return r, err
}

// TestTheClusterCheckerCatches clients that are broken on purpose.
func TestTheClusterCheckerCatches(t *testing.T) {
	for name, broken := range map[string]clusterClient{
		"clusterOptimist": func(c *eventstore.Client, h *clusterHistory) client { return clusterOptimist{named{c, h}} },
		"clusterRepeater": func(c *eventstore.Client, h *clusterHistory) client { return clusterRepeater{named{c, h}} },
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(50) {
				h, _ := newClusterPlan(seed).run(t, broken)
				if h.verdict() != "" {
					return
				}
			}
			t.Error("nobody noticed")
		})
	}
}
