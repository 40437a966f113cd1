// Package realcluster is for tests of a real cluster that the environment names: who leads it, and how its nodes end and begin.
package realcluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goeventstore/eventstore/cluster"
)

// The variables.
const (
	// Nodes names the HTTP addresses of all nodes, host:port,host:port, as the cluster's gossip has them. The first is node 1.
	Nodes = "EVENTSTORE_TEST_CLUSTER"
	// Control names a program that ends a node as a crash would, when it is called with "kill 1", and with "start 1" starts it again.
	Control = "EVENTSTORE_TEST_CLUSTER_CTL"
)

// Cluster is a real cluster.
type Cluster struct {
	nodes  []string
	gossip *cluster.Gossip
}

// Named returns the cluster that the environment names, nil if it names none.
func Named(tb testing.TB) *Cluster {
	tb.Helper()
	named := os.Getenv(Nodes)
	if named == "" {
		return nil
	}
	return Of(tb, strings.Split(named, ","))
}

// Of returns the cluster of these nodes, which may as well be an embedded one that has real ports. Its nodes are then ended elsewhere.
func Of(tb testing.TB, nodes []string) *Cluster {
	tb.Helper()
	gossip, err := cluster.NewGossip(cluster.Config{Seeds: nodes})
	if err != nil {
		tb.Fatalf("the nodes %v: %v", nodes, err)
	}
	return &Cluster{nodes: nodes, gossip: gossip}
}

// Controlled reports whether its nodes can be ended and started.
func Controlled() bool { return os.Getenv(Control) != "" }

// Size is of how many nodes it is.
func (c *Cluster) Size() int { return len(c.nodes) }

// Target leads to its leader, with the administrator's first password.
func (c *Cluster) Target() string { return "gossip://admin:changeit@" + strings.Join(c.nodes, ",") }

// Members returns who leads and who follows, the leader first, as the first node says that knows of a leader. It is an error if less than
// so many follow.
func (c *Cluster) Members(ctx context.Context, followers int) ([]cluster.Member, error) {
	all, err := c.gossip.Members(ctx)
	if err != nil {
		return nil, err
	}
	var members []cluster.Member
	for _, states := range [][]string{{"Master", "Leader"}, {"Slave", "Follower"}} {
		for _, m := range all {
			if m.Alive && slices.Contains(states, m.State) {
				members = append(members, m)
			}
		}
		if len(members) == 0 {
			return nil, errors.New("nobody leads")
		}
	}
	if len(members) <= followers {
		return nil, fmt.Errorf("%d nodes lead or follow", len(members))
	}
	return members, nil
}

// Whole returns an error unless every node says that one and the same leads and all others follow.
func (c *Cluster) Whole(ctx context.Context) error {
	leader := ""
	for _, node := range c.nodes {
		gossip, err := cluster.NewGossip(cluster.Config{Seeds: []string{node}})
		if err != nil {
			return err
		}
		members, err := (&Cluster{gossip: gossip}).Members(ctx, c.Size()-1)
		if err != nil {
			return fmt.Errorf("node %s: %w", node, err)
		}
		if leader == "" {
			leader = members[0].HTTP
		}
		if members[0].HTTP != leader {
			return fmt.Errorf("node %s is led by %s, others by %s", node, members[0].HTTP, leader)
		}
	}
	return nil
}

// Number returns which node a member is.
func (c *Cluster) Number(m cluster.Member) (int, error) {
	i := slices.Index(c.nodes, m.HTTP)
	if i < 0 {
		return 0, fmt.Errorf("%s does not name %s, which is a node of the cluster", Nodes, m.HTTP)
	}
	return i + 1, nil
}

// controlTime is how long the program may take.
const controlTime = 30 * time.Second

// Kill ends a node.
func (c *Cluster) Kill(node int) error { return control("kill", node) }

// Start starts a node again; one that runs is left alone.
func (c *Cluster) Start(node int) error { return control("start", node) }

func control(do string, node int) error {
	ctx, cancel := context.WithTimeout(context.Background(), controlTime)
	defer cancel()
	out, err := exec.CommandContext(ctx, os.Getenv(Control), do, strconv.Itoa(node)).CombinedOutput() // #nosec G204 G702 -- whoever runs the test names it
	if err != nil {
		return fmt.Errorf("%s %s %d: %w: %s", os.Getenv(Control), do, node, err, out)
	}
	return nil
}
