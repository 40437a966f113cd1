package eventstoretest_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/eventstoretest"
)

// inCluster has a test run with a cluster of three, in virtual time.
func inCluster(t *testing.T, test func(t *testing.T, s *eventstoretest.ClusterServer), opts ...eventstoretest.Option) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		test(t, eventstoretest.Cluster(t, 3, append(opts, eventstoretest.InMemory())...))
	})
}

// TestAClientOfACluster notices a lost leader as latency, and no more.
func TestAClientOfACluster(t *testing.T) {
	inCluster(t, func(t *testing.T, s *eventstoretest.ClusterServer) {
		c := s.Client(t)
		ctx := t.Context()
		leader := s.Leader()
		const events = 30
		for n := range events {
			if n == 10 {
				s.Kill(leader)
			}
			if n == 20 {
				s.Start(leader)
				s.Ready()
			}
			_, err := c.Append(ctx, "s", eventstore.ExpectedVersion(n-1), []eventstore.EventData{{Type: "t"}})
			require.NoError(t, err)
		}
		require.NotEqual(t, leader, s.Leader())
		slice, err := c.ReadSlice(ctx, "s", eventstore.Start, 100)
		require.NoError(t, err)
		require.Len(t, slice.Events, events)
	})
}

// TestAHintOfAFollower leads a client to the leader that was given the address of another node.
func TestAHintOfAFollower(t *testing.T) {
	inCluster(t, func(t *testing.T, s *eventstoretest.ClusterServer) {
		c := s.ClientOf(t, s.Followers()[0])
		_, err := c.Append(t.Context(), "s", eventstore.NoStream, []eventstore.EventData{{Type: "t"}})
		require.NoError(t, err)
		require.Equal(t, "tcp://"+c.State().Addr, s.Cluster.NodeURL(s.Leader()))
	})
}

// TestAHintThatIsNone: gossip leads the client to a node that does not lead, and that says so without saying who does, or names one that
// does not either. It goes by gossip, which knows by then, and is served within a gossip time-out and the longest wait.
func TestAHintThatIsNone(t *testing.T) {
	for name, named := range map[string]func(s *eventstoretest.ClusterServer, node int) int{
		"no address":         func(*eventstoretest.ClusterServer, int) int { return -1 },
		"no such node":       func(*eventstoretest.ClusterServer, int) int { return 3 },
		"itself":             func(_ *eventstoretest.ClusterServer, node int) int { return node },
		"the other follower": func(s *eventstoretest.ClusterServer, _ int) int { return s.Followers()[1] },
		"a node that is down": func(s *eventstoretest.ClusterServer, _ int) int {
			down := s.Followers()[1]
			s.Kill(down)
			return down
		},
	} {
		t.Run(name, func(t *testing.T) {
			inCluster(t, func(t *testing.T, s *eventstoretest.ClusterServer) {
				leader, followers := s.Leader(), s.Followers()
				wrong := followers[0]
				_, port, _ := strings.Cut(strings.TrimPrefix(s.Cluster.NodeURL(wrong), "tcp://"), ":")
				s.RewriteGossip(func(int, []byte) []byte {
					return []byte(`{"members":[{"state":"Master","isAlive":true,"externalTcpIp":"127.0.0.1","externalTcpPort":` + port + `}]}`)
				})
				c := s.Client(t)
				require.Equal(t, s.Cluster.NodeURL(wrong), "tcp://"+c.State().Addr)
				hint := named(s, wrong)
				var asked atomic.Int32
				s.RewriteHints(func(_, leads int) int {
					if leads == leader {
						asked.Add(1)
					}
					return hint
				})
				time.AfterFunc(20*time.Second, func() { s.RewriteGossip(nil) })
				began := time.Now()
				_, err := c.Append(t.Context(), "s", eventstore.NoStream, []eventstore.EventData{{Type: "t"}})
				require.NoError(t, err)
				require.LessOrEqual(t, time.Since(began), 20*time.Second+time.Second+7500*time.Millisecond)
				require.Equal(t, s.Cluster.NodeURL(leader), "tcp://"+c.State().Addr)
				require.Positive(t, asked.Load())

				// What every node is asked tells it the truth again.
				s.RewriteHints(nil)
				d := s.ClientOf(t, wrong)
				_, err = d.Append(t.Context(), "t", eventstore.NoStream, []eventstore.EventData{{Type: "t"}})
				require.NoError(t, err)
				require.Equal(t, s.Cluster.NodeURL(leader), "tcp://"+d.State().Addr)
			})
		})
	}
}

// TestANodeThatIsNone fails the test in words.
func TestANodeThatIsNone(t *testing.T) {
	inCluster(t, func(t *testing.T, _ *eventstoretest.ClusterServer) {
		for _, id := range []int{-1, 3} {
			fake := &tb{TB: t}
			fake.run(func() { eventstoretest.Cluster(fake, 3, eventstoretest.InMemory()).NodeURL(id) })
			require.Equal(t, fmt.Sprintf("eventstoretest: no such node: %d, in a cluster with nodes 0 to 2", id), fake.fatal)
		}
	})
}

// TestAPartition: who writes to a leader that is cut off is told that nobody knows.
func TestAPartition(t *testing.T) {
	inCluster(t, func(t *testing.T, s *eventstoretest.ClusterServer) {
		leader := s.Leader()
		c := s.ClientOf(t, leader, eventstore.WithMaxAttempts(1))
		s.Partition(leader)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err := c.Append(ctx, "s", eventstore.NoStream, []eventstore.EventData{{Type: "t"}})
		require.Error(t, err)
		require.True(t, eventstore.MaybeApplied(err), "%v", err)
		s.Heal()
		time.Sleep(10 * time.Second)
		s.Ready()
		_, err = s.Client(t).ReadSlice(ctx, "s", eventstore.Start, 1)
		require.Error(t, err)
	})
}

// TestAPausedNode holds what it was sent, and has it when it goes on.
func TestAPausedNode(t *testing.T) {
	inCluster(t, func(t *testing.T, s *eventstoretest.ClusterServer) {
		c := s.Client(t)
		s.Pause(s.Leader())
		time.AfterFunc(5*time.Second, func() { s.Resume(s.Leader()) })
		began := time.Now()
		_, err := c.Append(t.Context(), "s", eventstore.NoStream, []eventstore.EventData{{Type: "t"}})
		require.NoError(t, err)
		require.GreaterOrEqual(t, time.Since(began), 5*time.Second)
	})
}

// TestAClusterWithTLS has a port with it on each node.
func TestAClusterWithTLS(t *testing.T) {
	inCluster(t, func(t *testing.T, s *eventstoretest.ClusterServer) {
		require.NoError(t, s.Client(t).Ping(t.Context()))
		require.NoError(t, s.ClientOf(t, s.Followers()[0]).Ping(t.Context()))
	}, eventstoretest.TLS())
}
