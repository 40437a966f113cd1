package conformance_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/internal/memnet"
	"github.com/goeventstore/eventstore/server"
)

// clusterNode is a node of an embedded cluster, as somebody to dial.
type clusterNode struct {
	*server.Cluster
	network *memnet.Network
	id      int
}

// DirectURL is the node's URL with the credentials of the administrator.
func (n clusterNode) DirectURL() string {
	return strings.Replace(n.NodeURL(n.id), "//", "//admin:changeit@", 1)
}

// HTTPURL is that of the node.
func (n clusterNode) HTTPURL() string { return n.Cluster.HTTPURL(n.id) }

// Dial connects to an address.
func (n clusterNode) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return n.network.Dial(ctx, network, addr)
}

// replayCluster plays a recording of a cluster to an embedded one, in virtual time. The names of its connections tell what
// the node was: a master, a slave, a clone, or one that was alone.
func replayCluster(t *testing.T, rec *recording, lines []line) (p *playing) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		network := memnet.New()
		opts := []eventstoretest.Option{eventstoretest.OnNetwork(network), eventstoretest.WithServer(server.Config{Dialect: rec.dialect()})}
		if strings.Contains(rec.path, "secure") {
			opts = append(opts, eventstoretest.TLS())
		}
		at := func(c *server.Cluster, id int) clusterNode { return clusterNode{c, network, id} }
		if strings.Contains(rec.path, "notready") {
			c, err := server.StartCluster(3, server.Config{Listen: network.Listen, Dialect: rec.dialect()})
			require.NoError(t, err)
			defer func() { require.NoError(t, c.Close()) }()
			require.NoError(t, c.Kill(1))
			require.NoError(t, c.Kill(2))
			time.Sleep(5 * time.Second)
			replay := newPlayer(t, at(c, 0), rec, lines)
			replay.play()
			p = replay.playing
			return
		}
		s := eventstoretest.Cluster(t, 3, opts...)
		slave, clone := s.Followers()[0], -1
		if strings.Contains(rec.path, "clone") {
			var err error
			clone, err = s.AddClone()
			require.NoError(t, err)
			s.Ready()
		}
		replay := newPlayer(t, at(s.Cluster, s.Leader()), rec, lines)
		replay.at = func(conn string) dialer {
			switch {
			case strings.HasPrefix(conn, "slave"):
				return at(s.Cluster, slave)
			case conn == "clone":
				return at(s.Cluster, clone)
			default:
				return replay.srv
			}
		}
		replay.ready = s.Ready // a slave has what was written
		replay.play()
		p = replay.playing
	})
	return p
}
