package eventstoretest

import (
	"cmp"
	"context"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/server"
)

// ClusterServer is an embedded cluster of a test. Its methods are safe for concurrent use; what they are asked and cannot do
// fails the test.
type ClusterServer struct {
	*server.Cluster
	tb       testing.TB
	network  Network
	identity *identity // nil without TLS
}

// readyTime is how long a cluster may take to be as it should be.
const readyTime = time.Minute

// Cluster starts an embedded cluster, whatever the environment names, and returns when one node leads and the others follow:
// after a second or two, which take no time with InMemory in a bubble. It ends when the test does, after the clients that
// ClusterServer.Client made. There are no proxies before its nodes.
//
// Nodes are numbered from 0 on. What their nodes know, and when, is as on a real cluster: see server.Cluster.
func Cluster(tb testing.TB, nodes int, opts ...Option) *ClusterServer {
	tb.Helper()
	cfg := config{network: loopback{}}
	for _, o := range opts {
		o.apply(&cfg)
	}
	s := &ClusterServer{tb: tb, network: cfg.network}
	cfg.complete()
	var err error
	if cfg.secure {
		if s.identity, err = newIdentity(tb); err != nil {
			tb.Fatalf("eventstoretest: %v", err)
		}
		cfg.server.Secure = cmp.Or(cfg.server.Secure, "127.0.0.1:0")
		cfg.server.TLS = s.identity.keys
	}
	if s.Cluster, err = server.StartCluster(nodes, cfg.server); err != nil {
		tb.Fatalf("eventstoretest: start the embedded cluster: %v", err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Errorf("eventstoretest: close the embedded cluster: %v", err)
		}
	})
	s.Ready()
	return s
}

// Ready returns when one node leads, and all that run follow it and know of each other.
func (s *ClusterServer) Ready() {
	s.tb.Helper()
	ctx, cancel := context.WithTimeout(s.tb.Context(), readyTime)
	defer cancel()
	if err := s.WaitReady(ctx); err != nil {
		s.tb.Fatalf("eventstoretest: the cluster is not ready: %v", err)
	}
}

// Leader returns the node that leads, and waits until one does.
func (s *ClusterServer) Leader() int {
	s.tb.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for end := time.Now().Add(readyTime); ; <-ticker.C {
		if leader, ok := s.Cluster.Leader(); ok {
			return leader
		}
		if time.Now().After(end) {
			s.tb.Fatal("eventstoretest: nobody leads the cluster")
		}
	}
}

// Followers returns the other nodes that run.
func (s *ClusterServer) Followers() (followers []int) {
	s.tb.Helper()
	leader := s.Leader()
	for id := range s.Nodes() {
		if id != leader && s.Runs(id) {
			followers = append(followers, id)
		}
	}
	return followers
}

// Kill ends a node as the end of its process would.
func (s *ClusterServer) Kill(id int) { s.must(s.Cluster.Kill(id)) }

// Start starts a node that is down.
func (s *ClusterServer) Start(id int) { s.must(s.Cluster.Start(id)) }

// Pause stops a node as SIGSTOP would a process, until Resume.
func (s *ClusterServer) Pause(id int) { s.must(s.Cluster.Pause(id)) }

// Resume has a paused node go on.
func (s *ClusterServer) Resume(id int) { s.must(s.Cluster.Resume(id)) }

// Partition cuts nodes off from the others, until Heal. Clients reach all of them.
func (s *ClusterServer) Partition(ids ...int) { s.must(s.Cluster.Partition(ids...)) }

func (s *ClusterServer) must(err error) {
	s.tb.Helper()
	if err != nil {
		s.tb.Errorf("eventstoretest: %v", err)
	}
}

// URL returns the target that leads to the cluster by the gossip of its nodes, with the credentials of the administrator.
func (s *ClusterServer) URL() string {
	_, seeds, _ := strings.Cut(s.Cluster.URL(), "://")
	return s.target("gossip", seeds)
}

// NodeURL returns the target that leads to a node, with the same credentials. A client that wants the leader does not stay
// there.
func (s *ClusterServer) NodeURL(id int) string {
	s.tb.Helper()
	if n := s.Nodes(); id < 0 || id >= n {
		s.tb.Fatalf("eventstoretest: %v: %d, in a cluster with nodes 0 to %d", server.ErrNoNode, id, n-1)
	}
	address := s.Cluster.NodeURL(id)
	if s.identity != nil {
		address = s.SecureURL(id)
	}
	scheme, host, _ := strings.Cut(address, "://")
	return s.target(scheme, host)
}

func (s *ClusterServer) target(scheme, host string) string {
	u := url.URL{Scheme: scheme, User: url.UserPassword("admin", "changeit"), Host: host}
	if s.identity != nil {
		query := url.Values{"tlsCA": {s.identity.ca}}
		if scheme == "gossip" {
			query.Set("tls", "true")
			query.Set("gossip", "http") // as servers of these generations have it
		}
		u.RawQuery = query.Encode()
	}
	return u.String()
}

// Dial connects to an address over the network that the cluster is on.
func (s *ClusterServer) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return s.network.Dial(ctx, network, addr)
}

// Client returns a client that is connected to URL and is closed when the test ends, before the cluster is. The options come
// after those that it needs itself. A failure to connect ends the test.
func (s *ClusterServer) Client(tb testing.TB, opts ...eventstore.Option) *eventstore.Client {
	tb.Helper()
	return connect(tb, s.Dial, s.URL(), opts)
}

// ClientOf is Client for NodeURL.
func (s *ClusterServer) ClientOf(tb testing.TB, id int, opts ...eventstore.Option) *eventstore.Client {
	tb.Helper()
	return connect(tb, s.Dial, s.NodeURL(id), opts)
}
