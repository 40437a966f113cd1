package server

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/internal/memnet"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// TestClustersOfAllSizes: each serves, goes on without as many as it can spare, and has everything when they are back.
func TestClustersOfAllSizes(t *testing.T) {
	for size, spare := range map[int]int{1: 0, 2: 0, 3: 1, 4: 1, 5: 2} {
		runCluster(t, size, func(t *testing.T, c *testCluster) {
			c.to(c.leader()).appended("s", -1, "a")
			var down []int
			for range spare {
				down = append(down, c.leader())
				require.NoError(t, c.Kill(c.leader()))
				time.Sleep(3 * time.Second)
				c.ready()
			}
			c.to(c.leader()).appended("s", 0, "b")
			last := c.leader()
			down = append(down, last)
			require.NoError(t, c.Kill(last))
			time.Sleep(10 * time.Second)
			_, ok := c.Leader()
			require.False(t, ok, "%d of %d are down", len(down), size)
			for _, id := range down {
				require.NoError(t, c.Start(id))
			}
			c.ready()
			for id := range size {
				require.Equal(t, []int64{0, 1}, c.to(id).local("s"), "node %d of %d", id, size)
			}
		})
	}
}

// TestNodesThatAreNotThere: what is asked of a node that is not there, or is as it is to be, changes nothing.
func TestNodesThatAreNotThere(t *testing.T) {
	runCluster(t, 3, func(t *testing.T, c *testCluster) {
		leader, others := c.roles()
		for _, id := range []int{-1, 3} {
			for _, do := range []func(int) error{c.Start, c.Kill, c.Pause, c.Resume} {
				require.ErrorIs(t, do(id), ErrNoNode)
			}
			require.ErrorIs(t, c.Partition(leader, id), ErrNoNode)
			require.ErrorIs(t, c.Prefer(id, 1), ErrNoNode)
			require.False(t, c.Runs(id))
		}
		require.NoError(t, c.Start(leader), "it runs")
		require.NoError(t, c.Resume(leader), "it is not paused")
		require.NoError(t, c.Kill(others[0]))
		for _, do := range []func(int) error{c.Kill, c.Pause, c.Resume} {
			require.ErrorIs(t, do(others[0]), ErrNoNode)
		}
		require.Equal(t, leader, c.leader())
		c.to(leader).appended("s", -1, "a")
	})
}

// TestAllNodesArePaused, twice each, and one of them is killed so.
func TestAllNodesArePaused(t *testing.T) {
	runCluster(t, 3, func(t *testing.T, c *testCluster) {
		leader, others := c.roles()
		l := c.to(leader)
		for range 2 {
			for id := range 3 {
				require.NoError(t, c.Pause(id))
			}
		}
		asked := l.writes("s", -1, "a", true)
		time.Sleep(time.Minute)
		require.NoError(t, c.Kill(others[0]))
		for _, id := range []int{leader, others[1]} {
			require.NoError(t, c.Resume(id))
		}
		require.NoError(t, c.Start(others[0]))
		require.Equal(t, messages.Success, l.result(asked))
		time.Sleep(10 * time.Second)
		c.ready()
		for id := range 3 {
			require.Equal(t, []int64{0}, c.to(id).local("s"))
		}
	})
}

// TestANodeIsKilledDuringAnElection, whichever one it is and whenever.
func TestANodeIsKilledDuringAnElection(t *testing.T) {
	for after := 20 * time.Millisecond; after < 2*time.Second; after += 130 * time.Millisecond {
		runCluster(t, 5, func(t *testing.T, c *testCluster) {
			leader, others := c.roles()
			c.to(leader).appended("s", -1, "a")
			require.NoError(t, c.Kill(leader))
			time.Sleep(after)
			second := others[int(after/time.Millisecond)%len(others)]
			require.NoError(t, c.Kill(second))
			time.Sleep(5 * time.Second)
			c.ready()
			c.to(c.leader()).appended("s", 0, "b")
			require.NoError(t, c.Start(leader))
			require.NoError(t, c.Start(second))
			c.ready()
		})
	}
}

// TestAKilledNodeStaysDown: also one that has ended by itself, and was about to begin anew.
func TestAKilledNodeStaysDown(t *testing.T) {
	for name, kill := range map[string]time.Duration{"at once": 0, "while it is down": respawn / 2} {
		t.Run(name, func(t *testing.T) {
			runCluster(t, 3, func(t *testing.T, c *testCluster) {
				leader, _ := c.roles()
				l := c.to(leader)
				l.appended("s", -1, "a")
				require.NoError(t, c.Partition(leader))
				time.Sleep(2500 * time.Millisecond)
				lost := l.writes("s", 0, "b", true)
				c.to(c.leader()).appended("s", 0, "c")
				require.Equal(t, messages.Success, l.result(lost))
				c.Heal()
				l.closed()
				time.Sleep(kill)
				require.NoError(t, c.Kill(leader))
				time.Sleep(10 * time.Second)
				require.False(t, c.Runs(leader))
				require.ErrorIs(t, c.Kill(leader), ErrNoNode)
				require.NoError(t, c.Start(leader))
				c.ready()
				require.Equal(t, []int64{0, 1}, c.to(leader).local("s"))
			})
		})
	}
}

// TestClonesAreKilled, paused and started again, and so are nodes that are there to be read: nobody misses them.
func TestClonesAreKilled(t *testing.T) {
	runCluster(t, 3, func(t *testing.T, c *testCluster) {
		clone, err := c.AddClone()
		require.NoError(t, err)
		reader, err := c.AddReadOnlyReplica()
		require.NoError(t, err)
		c.ready()
		leader := c.leader()
		for i, do := range []func(int) error{c.Kill, c.Start, c.Pause, c.Resume} {
			require.NoError(t, do(clone))
			require.NoError(t, do(reader))
			c.to(leader).appended("s", int64(i-1), string(rune('a'+i)))
			time.Sleep(12 * time.Second)
			require.Equal(t, leader, c.leader())
		}
		c.ready()
		for _, id := range []int{clone, reader} {
			require.Equal(t, []int64{0, 1, 2, 3}, c.to(id).local("s"))
		}
		// They alone are no majority, and do not lead.
		for id := range 3 {
			require.NoError(t, c.Kill(id))
		}
		time.Sleep(10 * time.Second)
		_, ok := c.Leader()
		require.False(t, ok)
		reason, _ := c.to(clone).notHandled(c.to(clone).call(&messages.Append{Stream: "s", Expected: -2, Events: events("z"), RequireLeader: true}))
		require.Contains(t, []pb.NotHandled_NotHandledReason{pb.NotHandled_NotReady, pb.NotHandled_NotLeader}, reason)
	})
}

// TestANodeThatCannotBeAdded has no address that anybody is led to.
func TestANodeThatCannotBeAdded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memnet.New()
		full := false
		cluster, err := StartCluster(1, Config{Listen: func(n, addr string) (net.Listener, error) {
			if full {
				return nil, context.DeadlineExceeded
			}
			return network.Listen(n, addr)
		}})
		require.NoError(t, err)
		defer func() { require.NoError(t, cluster.Close()) }()
		url := cluster.URL()
		full = true
		id, err := cluster.AddClone()
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.False(t, cluster.Runs(id))
		require.Equal(t, url, cluster.URL())
		full = false
		require.NoError(t, cluster.Start(id))
		require.NotEqual(t, url, cluster.URL())
	})
}
