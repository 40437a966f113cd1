package chaos_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/listener"
	"github.com/goeventstore/eventstore/persistent"
	"github.com/goeventstore/eventstore/subscription"
)

// target is a cluster to strike, embedded or real. Its nodes are numbered from 0 on.
type target interface {
	Nodes() int
	Leader() int // waits for one
	hit(kind string, id int)
	heal() // ends what was hit
	Ready()
	Client(tb testing.TB, opts ...eventstore.Option) *eventstore.Client
	clientOfNode(ctx context.Context, id int) (*eventstore.Client, error) // which stays there when leaders are not required
	await(holds func(ctx context.Context) error)
}

// embeddedTarget is an embedded cluster.
type embeddedTarget struct {
	*eventstoretest.ClusterServer
	t      *testing.T
	paused *atomic.Int32 // the node that is; -1: none
}

// await waits for nothing: what an embedded cluster is to be it is at once.
func (s embeddedTarget) await(holds func(ctx context.Context) error) {
	s.t.Helper()
	require.NoError(s.t, holds(s.t.Context()))
}

func (s embeddedTarget) hit(kind string, id int) {
	switch kind {
	case leaderPaused:
		s.paused.Store(int32(id))
		_ = s.Cluster.Pause(id) // one that begins anew is not there
	case leaderCutOff, followerCutOff, leaderLost:
		s.Partition(id)
	default:
		_ = s.Cluster.Kill(id)
	}
}

func (s embeddedTarget) heal() {
	s.Heal()
	for id := range s.Nodes() {
		_ = s.Cluster.Resume(id)
		s.Start(id)
	}
	s.paused.Store(-1)
}

func (s embeddedTarget) clientOfNode(ctx context.Context, id int) (*eventstore.Client, error) {
	return eventstore.Connect(ctx, s.NodeURL(id), eventstore.WithDialer(s.Dial), eventstore.WithMaxAttempts(1))
}

// strike has blows fall until all is done, and returns how many did.
func (p *clusterPlan) strike(ctx context.Context, h *clusterHistory, s target, b *strings.Builder) int {
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
		from := h.tick()
		for _, id := range struck {
			s.hit(blow.kind, id)
		}
		rest(blow.lasts)
		if blow.kind == leaderLost {
			s.hit(leaderKilled, leader)
			rest(2 * time.Second) // the others elect one without it
		}
		s.heal()
		fmt.Fprintf(b, "%v: it is over\n", time.Since(begun))
		if h.lost != nil { // a real one is given time, so that the majority is gone only while it is known to be
			s.Ready()
			fmt.Fprintf(b, "%v: it is whole\n", time.Since(begun))
			if blow.kind == quorumKilled {
				h.lost.minorities = append(h.lost.minorities, [2]int64{from, h.tick()})
			}
		}
	}
	return len(p.blows)
}

// clusterClient makes the client under test.
type clusterClient func(c *eventstore.Client, h *clusterHistory) client

func realClient(c *eventstore.Client, h *clusterHistory) client { return named{c, h} }

// run carries the plan out in virtual time.
func (p *clusterPlan) run(t *testing.T, connect clusterClient) (h *clusterHistory, trace string) {
	t.Helper()
	h = newClusterHistory()
	var said strings.Builder
	synctest.Test(t, func(t *testing.T) {
		s := eventstoretest.Cluster(t, 3, eventstoretest.InMemory())
		target := embeddedTarget{ClusterServer: s, t: t, paused: new(atomic.Int32)}
		target.paused.Store(-1)
		watched := h.watchIdle(t, target)
		p.play(t, h, target, connect, &said, func() { time.Sleep(time.Minute) })
		watched()
		kept := map[string]bool{}
		for _, labels := range h.final {
			for _, label := range labels {
				kept[label] = true
			}
		}
		for _, e := range s.RolledBack() {
			if label, ours := h.ids[e.ID]; ours {
				h.rolledBack[rolled(e.Stream, e.Number, label)] = true
				h.gone[label] = !kept[label]
			}
		}
	})
	return h, said.String()
}

// play strikes the cluster under load, and then looks at what is there. It waits by settle for what is still to be delivered.
func (p *clusterPlan) play(t *testing.T, h *clusterHistory, s target, connect clusterClient, said *strings.Builder, settle func()) {
	t.Helper()
	var clients []client
	for _, opts := range p.clients {
		clients = append(clients, connect(s.Client(t, opts...), h))
	}
	following, stop := context.WithCancel(t.Context())
	var followers sync.WaitGroup
	defer followers.Wait()
	defer stop()
	for _, stream := range p.streams {
		h.handled[stream] = map[string]bool{}
		settings := persistent.DefaultSettings()
		require.NoError(t, persistent.Create(t.Context(), s.Client(t), stream, "g", settings))
	}
	for _, stream := range p.streams {
		followers.Go(func() { h.handle(following, t, s.Client(t), stream) })
		followers.Go(func() { h.follow(following, t, s.Client(t), stream) })
		followers.Go(func() { h.listen(following, t, s.Client(t), stream, p.runs) })
	}
	working, done := context.WithCancel(t.Context())
	defer done()
	var workers, others sync.WaitGroup
	for i, script := range p.scripts {
		workers.Go(func() { work(t.Context(), &h.history, i, clients[i%len(clients)], script) })
	}
	others.Go(func() { h.faults = p.strike(working, h, s, said) })
	workers.Wait()
	done()
	others.Wait()
	p.look(t, h, s)
	settle()
}

// look keeps what is there in the end. Every node has all of it.
func (p *clusterPlan) look(t *testing.T, h *clusterHistory, s target) {
	t.Helper()
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
		for id := range s.Nodes() {
			s.await(func(ctx context.Context) error { return h.has(ctx, s, id, stream) })
		}
	}
}

// has returns an error unless a node has all that is there in the end.
func (h *clusterHistory) has(ctx context.Context, s target, id int, stream string) error {
	c, err := s.clientOfNode(ctx, id)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	slice, err := c.ReadSlice(ctx, stream, eventstore.Start, 4096, eventstore.RequireLeader(false))
	if err != nil && !errors.Is(err, eventstore.ErrStreamNotFound) {
		return err
	}
	var there []string
	for n, e := range slice.Events {
		there = append(there, label(e, int64(n)))
	}
	if !slices.Equal(h.final[stream], there) {
		return fmt.Errorf("node %d has %v of %s, the leader %v", id, there, stream, h.final[stream])
	}
	return nil
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
		h.deliver(h.followed, stream, e)
	}
}

// leaseTTL is less than a run of a listener lasts: one that could not release its lease waits for it to run out.
const leaseTTL = 4 * time.Second

var errNotNow = errors.New("not now")

// listen keeps what a listener hands out, whose runs end and begin again, whose handler fails now and then, and whose checkpoints
// are in the cluster.
func (h *clusterHistory) listen(ctx context.Context, t *testing.T, c *eventstore.Client, stream string, runs []time.Duration) {
	store := listener.StreamStore(c, "checkpoint-")
	calls := 0
	l, err := listener.New(c, listener.Config{Stream: stream, Store: store, SaveEvery: 3, LeaseTTL: leaseTTL}, func(_ context.Context, e eventstore.ResolvedEvent) error {
		if calls++; calls%7 == 0 {
			return errNotNow
		}
		h.deliver(h.listened, stream, e)
		return nil
	})
	if err != nil {
		t.Errorf("the listener of %s: %v", stream, err)
		return
	}
	for n := 0; ctx.Err() == nil; n++ {
		run, cancel := context.WithTimeout(ctx, runs[n%len(runs)])
		err := l.Run(run)
		over := run.Err() != nil
		cancel()
		var beyond *listener.BeyondEndError
		switch {
		case err == nil:
		case errors.As(err, &beyond):
			number, _ := beyond.Checkpoint.Number()
			tick := h.tick()
			h.mu.Lock()
			h.beyond[stream] = append(h.beyond[stream], delivered{number: number, tick: tick})
			h.mu.Unlock()
			// What its text asks people to do.
			if err := store.Save(ctx, stream, beyond.End); err != nil && ctx.Err() == nil {
				t.Errorf("move the checkpoint of %s: %v", stream, err)
			}
		case over && gaveUp(err): // the last save was not made in time
		default:
			t.Errorf("the listener of %s: %v", stream, err)
			return
		}
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
