package eventstore_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/memnet"
	"github.com/goeventstore/eventstore/server"
)

// A cluster that was started this moment has neither a leader nor users. Who connects to it by gossip waits for both, and is refused nothing;
// at one node so does who has the credentials checked.
func TestAClusterThatWasJustStarted(t *testing.T) {
	for name, tt := range map[string]struct {
		target func(c *server.Cluster) string
		opts   []eventstore.Option
	}{
		"gossip":                        {target: (*server.Cluster).URL},
		"gossip, credentials checked":   {target: (*server.Cluster).URL, opts: []eventstore.Option{eventstore.WithAuthenticate()}},
		"one node, credentials checked": {target: firstNode, opts: []eventstore.Option{eventstore.WithAuthenticate()}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				network := memnet.New()
				nodes, err := server.StartCluster(3, server.Config{Listen: network.Listen})
				require.NoError(t, err)
				defer func() { require.NoError(t, nodes.Close()) }()
				began := time.Now()
				c, err := eventstore.Connect(t.Context(), tt.target(nodes),
					append(slices.Clone(tt.opts), eventstore.WithDialer(network.Dial), eventstore.WithCredentials("admin", "changeit"))...)
				require.NoError(t, err)
				defer func() { require.NoError(t, c.Close()) }()
				_, err = c.Append(t.Context(), "s", eventstore.NoStream, numbered(1))
				require.NoError(t, err)
				require.LessOrEqual(t, time.Since(began), 5*time.Second)
				leader, ok := nodes.Leader()
				require.True(t, ok)
				require.Equal(t, nodes.NodeURL(leader), "tcp://"+c.State().Addr)
			})
		})
	}
}

func firstNode(c *server.Cluster) string { return c.NodeURL(0) }
