package chaos_test

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
	"github.com/goeventstore/eventstore/persistent"
	"github.com/goeventstore/eventstore/subscription"
)

// toLead is how long a client that makes no calls may be elsewhere once there is a leader: until it asks, by the interval and the time-out
// of heartbeats, and then as long as one that calls, a gossip time-out and the longest wait.
const toLead = 3500*time.Millisecond + time.Second + 7500*time.Millisecond

// at reports whether a client is at a node.
func at(t *testing.T, s *eventstoretest.ClusterServer, c *eventstore.Client, node int) bool {
	t.Helper()
	u, err := url.Parse(s.NodeURL(node))
	require.NoError(t, err)
	return c.State().Addr == u.Host
}

// awaits takes what came until a number does: some come again.
func awaits(came <-chan int64, number int64) {
	for n := range came {
		if n == number {
			return
		}
	}
}

// The leader is cut off from the others. Clients reach it as before, and it keeps their connections when it steps down: one that only
// subscribes, one that is only a member of a group and one that does nothing are not told, and go to the new leader all the same.
func TestClientsThatCallNothingFollowTheLead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		s := eventstoretest.Cluster(t, 3, eventstoretest.InMemory())
		writer := s.Client(t)
		write := func(n int) {
			t.Helper()
			_, err := writer.Append(ctx, "s", eventstore.ExpectedVersion(n-1), []eventstore.EventData{{Type: "t", Data: []byte(strconv.Itoa(n))}})
			require.NoError(t, err)
		}
		write(0)
		settings := persistent.DefaultSettings()
		settings.From = eventstore.Start
		require.NoError(t, persistent.Create(ctx, s.Client(t), "s", "g", settings))

		subscriber, member, idle := s.Client(t), s.Client(t), s.Client(t)
		sub, err := subscription.Open(ctx, subscriber, subscription.Config{Stream: "s"})
		require.NoError(t, err)
		group, err := persistent.Join(ctx, member, persistent.Config{Stream: "s", Group: "g"})
		require.NoError(t, err)
		defer func() { _ = group.Close() }()
		events, handled := make(chan int64, 100), make(chan int64, 100) // as many as come, and more
		go func() {
			for {
				e, err := sub.Recv(ctx)
				if err != nil {
					return
				}
				events <- e.Event.Number
			}
		}()
		go func() {
			for {
				m, err := group.Recv(ctx)
				if err != nil {
					return
				}
				_ = group.Ack(ctx, m)
				handled <- m.Event.Number
			}
		}()
		clients := []*eventstore.Client{subscriber, member, idle}
		for n := range 3 {
			require.EqualValues(t, n, <-events)
			awaits(handled, int64(n))
			before := s.Leader()
			for _, c := range clients {
				require.True(t, at(t, s, c, before))
			}
			s.Partition(before)
			for s.Leader() == before {
				time.Sleep(10 * time.Millisecond)
			}
			// The one that was cut off goes on for some seconds, and says until then that it leads.
			time.Sleep(4*time.Second + toLead)
			for i, c := range clients {
				require.True(t, at(t, s, c, s.Leader()), "client %d is at %s", i, c.State().Addr)
				require.Equal(t, eventstore.Connected, c.State().Phase)
			}
			write(n + 1)
			s.Heal()
			time.Sleep(10 * time.Second)
			s.Ready()
		}
		require.EqualValues(t, 3, <-events)
		awaits(handled, 3)
		require.NoError(t, sub.Close())
	})
}

// underFireToLead is toLead with short waits, and as long as a leader that was cut off goes on beside the next.
const underFireToLead = 1500*time.Millisecond + time.Second + 500*time.Millisecond + 4*time.Second

// watchIdle has a client that only subscribes beside all others until the function is called that it returns, and keeps when it was not at
// the leader though that has led and could be reached for long enough.
func (h *clusterHistory) watchIdle(t *testing.T, s embeddedTarget) (stop func()) {
	t.Helper()
	c := s.Client(t, eventstore.WithHeartbeat(time.Second, 500*time.Millisecond),
		eventstore.WithBackoff(func() backoff.BackOff { return backoff.NewConstantBackOff(500 * time.Millisecond) }))
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		subscribe := messages.Of(messages.SubscribeToStream, &pb.SubscribeToStream{EventStreamId: proto.String("nobody's"), ResolveLinkTos: new(bool)})
		for ctx.Err() == nil {
			x, err := c.Open(ctx, subscribe, eventstore.Window{Frames: 10, Bytes: 1000})
			for err == nil {
				_, err = x.Recv(ctx)
			}
		}
	})
	running.Go(func() {
		leader, since, counted, told := -1, time.Now(), false, false
		for ctx.Err() == nil {
			now, ok := s.Cluster.Leader()
			if paused := int(s.paused.Load()); !ok || now == paused {
				now = -1
			}
			if now != leader {
				leader, since, counted, told = now, time.Now(), false, false
			}
			if leader >= 0 && !told && time.Since(since) > underFireToLead {
				h.mu.Lock()
				if !counted {
					counted = true
					h.reigns++
				}
				if !at(t, s.ClusterServer, c, leader) {
					told = true
					h.problems = append(h.problems, fmt.Sprintf("node %d has led for %v, and who only subscribes is %v", leader, time.Since(since), c.State()))
				}
				h.mu.Unlock()
			}
			time.Sleep(50 * time.Millisecond)
		}
	})
	return func() {
		cancel()
		running.Wait()
	}
}
