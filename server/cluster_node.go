package server

import (
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
	"github.com/goeventstore/eventstore/server/internal/quorum"
	"github.com/goeventstore/eventstore/server/internal/store"
)

// clusterNode is what a Server has that is a node of a cluster, from one start to the next.
type clusterNode struct {
	cluster *Cluster
	id      int
	server  *Server
	log     *store.Memory
	gate    *gate
	// news tells the writer to look at what the cluster has for it. Anyone sends without blocking, nobody closes it.
	news     chan struct{}
	standing atomic.Pointer[standing]
	reign    atomic.Uint64 // 0 as long as its writer does not write
	shown    atomic.Int64  // entries of the log that can be read here

	done      chan struct{}
	closeOnce sync.Once

	// The cluster's lock guards these.
	ended   bool
	replies []reply // to what was forwarded
}

// standing is what sessions go by.
type standing struct {
	state  quorum.State
	whom   int            // it believes to lead
	leader *pb.LeaderInfo // how it is reached; nil when it knows none, and when it leads itself
}

// leads reports whether the node takes writes itself.
func (s *standing) leads() bool { return s.state == quorum.Master }

// look takes up what the node is now. The cluster's lock is held.
func (n *clusterNode) look() {
	status := n.cluster.world.Status(n.id)
	s := &standing{state: status.State, whom: status.Leader}
	if status.Leader >= 0 && status.Leader != n.id {
		s.leader = n.cluster.places[status.Leader].identity.leaderInfo()
	}
	n.standing.Store(s)
}

// serves reports whether the node leads, or knows who does.
func (n *clusterNode) serves() bool {
	s := n.standing.Load()
	return s.leads() || s.leader != nil
}

func (n *clusterNode) applied(entries int) bool { return n.shown.Load() >= int64(entries) }

// leaderInfo is what NotHandled tells of a node that leads. It points into a copy: the node may start again, elsewhere.
func (n nodeIdentity) leaderInfo() *pb.LeaderInfo {
	port := func(p int) *int32 {
		narrow := int32(p)
		return &narrow
	}
	info := &pb.LeaderInfo{
		ExternalTcpAddress: &n.tcp.ip, ExternalTcpPort: port(n.tcp.port),
		HttpAddress: &n.http.ip, HttpPort: port(n.http.port),
	}
	if n.secure.port != 0 {
		info.ExternalSecureTcpAddress, info.ExternalSecureTcpPort = &n.tcp.ip, port(n.secure.port)
	}
	return info
}

// leaderField is the number of the field require_leader in the requests that have it: those that read or write.
var leaderField = map[messages.Command]protowire.Number{
	messages.WriteEvents:                   4,
	messages.DeleteStream:                  3,
	messages.TransactionStart:              3,
	messages.TransactionWrite:              3,
	messages.TransactionCommit:             2,
	messages.ReadEvent:                     4,
	messages.ReadStreamEventsForward:       5,
	messages.ReadStreamEventsBackward:      5,
	messages.ReadAllEventsForward:          5,
	messages.ReadAllEventsBackward:         5,
	messages.FilteredReadAllEventsForward:  6,
	messages.FilteredReadAllEventsBackward: 6,
}

// writes reports whether a command writes to the log.
func writes(c messages.Command) bool {
	switch c {
	case messages.WriteEvents, messages.DeleteStream, messages.TransactionStart, messages.TransactionWrite, messages.TransactionCommit:
		return true
	}
	return false
}

// ofLeader reports whether a command is one that the leader alone serves, and that has no field to ask for it.
func ofLeader(c messages.Command) bool {
	switch c {
	case messages.CreatePersistentSubscription, messages.UpdatePersistentSubscription, messages.DeletePersistentSubscription,
		messages.ConnectToPersistentSubscription:
		return true
	}
	return false
}

// refuses returns what a request is told that this node does not serve, nil when it does: itself, or by forwarding it (4.19).
func (n *clusterNode) refuses(f *messages.Frame) *pb.NotHandled {
	s := n.standing.Load()
	if s.leads() {
		return nil
	}
	field := leaderField[f.Command]
	requires := ofLeader(f.Command) || (field != 0 && requiresLeader(f.Body, field))
	switch {
	case s.leader == nil && (requires || writes(f.Command)):
		return &pb.NotHandled{Reason: pb.NotHandled_NotReady.Enum()}
	case s.leader != nil && s.state == quorum.ReadOnlyReplica && writes(f.Command):
		return pointTo(pb.NotHandled_IsReadOnly, n.hint(s))
	case requires:
		return pointTo(pb.NotHandled_NotLeader, n.hint(s))
	}
	return nil
}

// hint is whom the node names. With nobody to be named it is what servers from 20.6 on tell when the leader offers no TCP: how that is
// reached over HTTP.
func (n *clusterNode) hint(s *standing) *pb.LeaderInfo {
	c := n.cluster
	c.mu.Lock()
	rewrite := c.rewriteHint
	c.mu.Unlock()
	if rewrite == nil {
		return s.leader
	}
	named := rewrite(n.id, s.whom)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.has(named) {
		return &pb.LeaderInfo{HttpAddress: s.leader.HttpAddress, HttpPort: s.leader.HttpPort}
	}
	return c.places[named].identity.leaderInfo()
}

func pointTo(reason pb.NotHandled_NotHandledReason, leader *pb.LeaderInfo) *pb.NotHandled {
	info, _ := messages.Of(0, leader).AppendTo(nil) // into memory: it does not fail
	return &pb.NotHandled{Reason: &reason, AdditionalInfo: info}
}

// requiresLeader finds a field in a request. What cannot be read requires nothing: it is refused for that.
func requiresLeader(b []byte, field protowire.Number) (requires bool) {
	for len(b) > 0 {
		number, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return false
		}
		b = b[n:]
		if n = protowire.ConsumeFieldValue(number, typ, b); n < 0 {
			return false
		}
		if number == field && typ == protowire.VarintType {
			v, _ := protowire.ConsumeVarint(b)
			requires = v != 0
		}
		b = b[n:]
	}
	return requires
}
