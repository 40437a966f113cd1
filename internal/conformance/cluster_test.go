package conformance_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/cluster"
	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/internal/realcluster"
	"github.com/goeventstore/eventstore/subscription"
)

// clusterNodes is a target for the cluster, the embedded one or the real one that the environment names, and its living
// members, the leader first and at least one follower. A member is ended by end, and runs again when the test is over.
func clusterNodes(t *testing.T) (target string, members []cluster.Member, end func(cluster.Member)) {
	t.Helper()
	named := realcluster.Named(t)
	if named != nil {
		t.Cleanup(func() { keepResult(t) })
		end = func(m cluster.Member) {
			node, err := named.Number(m)
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, named.Start(node)) })
			require.NoError(t, named.Kill(node))
		}
	} else {
		embedded := eventstoretest.Cluster(t, 3)
		_, seeds, _ := strings.Cut(embedded.Cluster.URL(), "://")
		named = realcluster.Of(t, strings.Split(seeds, ","))
		end = func(m cluster.Member) {
			for id := range embedded.Nodes() {
				if strings.HasSuffix(embedded.Cluster.NodeURL(id), "//"+m.TCP) {
					embedded.Kill(id)
				}
			}
		}
	}
	becomes(t, "the cluster has no leader with a follower", func(ctx context.Context) bool {
		var err error
		members, err = named.Members(ctx, 1)
		return err == nil
	})
	return named.Target(), members, end
}

func clientOf(t *testing.T, target string) *eventstore.Client {
	t.Helper()
	c, err := eventstore.Connect(within(t), target)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

// TestClusterRoles: the leader is found by gossip, and by the hint of a node that is not; a follower serves who asks for one.
func TestClusterRoles(t *testing.T) {
	target, members, _ := clusterNodes(t)
	ctx := within(t)
	leader := eventstore.State{Phase: eventstore.Connected, Addr: members[0].TCP}
	var followers []string
	for _, m := range members[1:] {
		followers = append(followers, m.TCP)
	}

	c := clientOf(t, target)
	require.Equal(t, leader, c.State())
	stream := newStream("cluster")
	_, err := c.Append(ctx, stream, eventstore.NoStream, numbered(0, 2))
	require.NoError(t, err)

	f := clientOf(t, target+"?preference=follower")
	at := f.State()
	require.Contains(t, followers, at.Addr)
	_, err = f.Append(ctx, stream, 1, numbered(2, 1))
	require.NoError(t, err, "it is forwarded")
	slice, err := f.ReadSlice(ctx, stream, eventstore.Start, 10)
	require.NoError(t, err)
	require.Len(t, slice.Events, 3, "what was forwarded can be read where it was sent")
	_, err = f.Append(ctx, stream, 1, numbered(2, 1))
	require.ErrorIs(t, err, eventstore.ErrWrongVersion)
	require.Equal(t, at, f.State(), "it has stayed there")

	for _, m := range members[1:] {
		d := clientOf(t, "tcp://admin:changeit@"+m.TCP)
		require.Equal(t, m.TCP, d.State().Addr)
		require.NoError(t, d.Ping(ctx), "that every node answers")
		slice, err := d.ReadSlice(ctx, stream, eventstore.Start, 10)
		require.NoError(t, err)
		require.Len(t, slice.Events, 3)
		require.Equal(t, leader, d.State(), "the hint was followed")
	}
}

// TestClusterLosesItsLeader: a writer with exact versions and a subscription go on with the next leader, and nothing is lost
// or stored twice.
func TestClusterLosesItsLeader(t *testing.T) {
	if realcluster.Named(t) != nil && !realcluster.Controlled() {
		cannot(t, "it ends the leader of the cluster: %s names a program that does", realcluster.Control)
	}
	target, members, end := clusterNodes(t)
	require.GreaterOrEqual(t, len(members), 3, "or the rest of the cluster would have no majority")
	ctx := within(t)
	writer, reader := clientOf(t, target), clientOf(t, target)
	stream := newStream("cluster")
	sub := openSubscription(t, reader, subscription.Config{Stream: stream})

	const before, behind = 50, 200
	for n := range before + behind {
		if n == before {
			end(members[0])
		}
		result, err := writer.Append(ctx, stream, eventstore.ExpectedVersion(n-1), numbered(n, 1))
		require.NoError(t, err, "%d", n)
		require.EqualValues(t, n, result.Last)
	}
	require.NotEqual(t, members[0].TCP, writer.State().Addr)
	for n := range before + behind {
		e, err := sub.Recv(ctx)
		require.NoError(t, err, "%d", n)
		isNumbered(t, n, e)
	}
	slice, err := writer.ReadSlice(ctx, stream, eventstore.Start, 1000)
	require.NoError(t, err)
	require.Len(t, slice.Events, before+behind)
	require.Equal(t, fmt.Sprint(before+behind-1), string(slice.Events[before+behind-1].Event.Data))
}
