package server

import (
	"net/http"
	"slices"

	"github.com/goeventstore/eventstore/server/internal/quorum"
)

// clusterGossip is what a node believes of the cluster: of itself as it is, of others as it has heard last. The members are
// in the order of their internal HTTP addresses, the highest first.
func (c *httpCall) clusterGossip(n *clusterNode) httpAnswer {
	cluster := n.cluster
	w := cluster.lock()
	view := w.View(n.id)
	rewrite := cluster.rewrite
	document := gossipDocument{IP: c.node.http.ip, Port: c.node.http.port}
	for i := range view {
		document.Members = append(document.Members, c.dialect.clusterMember(&cluster.places[i].identity, &view[i]))
	}
	cluster.unlock()
	slices.SortFunc(document.Members, func(a, b member) int { return b.order.compare(a.order) })
	answer := c.json(http.StatusOK, document)
	if rewrite != nil {
		answer.body = rewrite(n.id, answer.body)
	}
	return answer
}

// clusterMember is what gossip says of a node. One that was not heard of has the same port everywhere.
func (d *Dialect) clusterMember(n *nodeIdentity, believed *quorum.Member) member {
	identity := *n
	if !believed.Known {
		identity.tcp, identity.secure.port = identity.http, 0
	}
	m := d.member(&identity, d.stateName(believed.State))
	m.order = n.http
	m.InstanceID, m.TimeStamp, m.IsAlive = believed.Instance, believed.Time.UTC().Format(httpTime), believed.Alive
	m.LastCommitPosition, m.WriterCheckpoint, m.ChaserCheckpoint = believed.Commit, believed.Writer, believed.Writer
	m.EpochPosition, m.EpochNumber, m.EpochID = believed.Epoch.Position, believed.Epoch.Number, believed.Epoch.ID
	m.NodePriority = believed.Priority
	if m.IsReadOnlyReplica != nil {
		*m.IsReadOnlyReplica = believed.ReadOnly
	}
	return m
}
