package server

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/internal/memnet"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// testCluster is a cluster on a network of its own, in virtual time.
type testCluster struct {
	*Cluster
	tb      testing.TB
	network *memnet.Network
}

// runCluster has a test run with a cluster that is as it should be.
func runCluster(t *testing.T, nodes int, test func(t *testing.T, c *testCluster)) {
	t.Helper()
	runClusterOf(t, nodes, Config{}, test)
}

func runClusterOf(t *testing.T, nodes int, cfg Config, test func(t *testing.T, c *testCluster)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		network := memnet.New()
		cfg.Listen = network.Listen
		cluster, err := StartCluster(nodes, cfg)
		require.NoError(t, err)
		defer func() { require.NoError(t, cluster.Close()) }()
		c := &testCluster{cluster, t, network}
		c.ready()
		test(t, c)
	})
}

func (c *testCluster) ready() {
	c.tb.Helper()
	ctx, cancel := context.WithTimeout(c.tb.Context(), 30*time.Second)
	defer cancel()
	require.NoError(c.tb, c.WaitReady(ctx))
}

func (c *testCluster) leader() int {
	c.tb.Helper()
	id, ok := c.Leader()
	require.True(c.tb, ok)
	return id
}

// roles returns the leader and the others.
func (c *testCluster) roles() (leader int, others []int) {
	leader = c.leader()
	for id := range c.Nodes() {
		if id != leader {
			others = append(others, id)
		}
	}
	return leader, others
}

// to is a peer of a node.
func (c *testCluster) to(id int) *peer {
	c.tb.Helper()
	n, err := c.node(id)
	require.NoError(c.tb, err)
	return (&node{Server: n.server, network: c.network}).peer(c.tb)
}

// writes sends a write without waiting for its answer.
func (p *peer) writes(stream string, expected int64, letters string, requireLeader bool) messages.ID {
	p.t.Helper()
	return p.send(&messages.Append{Stream: stream, Expected: expected, Events: events(letters), RequireLeader: requireLeader})
}

// result is how a write ended that was handled.
func (p *peer) result(id messages.ID) messages.OperationResult {
	p.t.Helper()
	a := p.reply(id)
	require.Equal(p.t, messages.WriteEventsCompleted, a.command, "%x", a.body)
	var m messages.AppendCompleted
	require.NoError(p.t, m.Decode(a.body))
	return m.Result
}

// notHandled is why a request was not, and the port of the leader that it was told of.
func (p *peer) notHandled(a answer) (pb.NotHandled_NotHandledReason, int32) {
	p.t.Helper()
	require.Equal(p.t, messages.NotHandled, a.command, "%x", a.body)
	var m pb.NotHandled
	a.into(p.t, &m)
	var info pb.LeaderInfo
	require.NoError(p.t, messages.Reply{Body: m.GetAdditionalInfo()}.Unmarshal(&info))
	return m.GetReason(), info.GetExternalTcpPort()
}

// local reads the numbers of a stream where it is asked.
func (p *peer) local(stream string) []int64 {
	p.t.Helper()
	return p.localTo(stream)
}

func (p *peer) localTo(stream string, credentials ...string) []int64 {
	p.t.Helper()
	a := p.call(&messages.StreamRead{Stream: stream, Count: 100}, credentials...)
	var got messages.StreamPage
	require.NoError(p.t, got.Decode(a.body))
	var numbers []int64
	require.NoError(p.t, got.Each(nil, func(e *messages.ResolvedEvent) bool {
		numbers = append(numbers, e.Event.Number)
		return true
	}))
	return numbers
}

func TestAClusterServes(t *testing.T) {
	runCluster(t, 3, func(t *testing.T, c *testCluster) {
		leader, others := c.roles()
		l, f, g := c.to(leader), c.to(others[0]), c.to(others[1])
		l.appended("s", -1, "a")

		id := f.writes("s", 0, "b", true)
		reason, port := f.notHandled(f.reply(id))
		require.Equal(t, pb.NotHandled_NotLeader, reason)
		require.EqualValues(t, c.places[leader].identity.tcp.port, port)
		reason, _ = f.notHandled(f.call(&messages.StreamRead{Stream: "s", Count: 1, RequireLeader: true}))
		require.Equal(t, pb.NotHandled_NotLeader, reason)

		require.Equal(t, messages.Success, f.result(f.writes("s", 0, "b", false)))
		require.Equal(t, []int64{0, 1}, f.local("s"), "what was forwarded is there behind the answer")
		require.Equal(t, messages.WrongExpectedVersion, f.result(f.writes("s", 0, "c", false)))
		require.Equal(t, messages.Success, f.result(f.writes("s", 0, "b", false)), "it is known")
		require.Equal(t, []int64{0, 1}, l.forward("s", 0, 10).numbers)
		time.Sleep(5 * time.Millisecond)
		require.Equal(t, []int64{0, 1}, g.local("s"))

		sub, confirmed := g.subscribe("s")
		require.EqualValues(t, 1, confirmed.GetLastEventNumber())
		l.appended("s", 1, "d")
		require.EqualValues(t, 2, g.event(sub).Event.Number)

		// Who gives credentials is known by every node.
		a := g.call(messages.Raw(messages.Authenticate, nil), "admin", "changeit")
		require.Equal(t, messages.Authenticated, a.command)
	})
}

func TestALeaderIsKilled(t *testing.T) {
	runCluster(t, 3, func(t *testing.T, c *testCluster) {
		leader, others := c.roles()
		l, f := c.to(leader), c.to(others[0])
		sub, _ := f.subscribe("s")
		l.appended("s", -1, "a")
		require.EqualValues(t, 0, f.event(sub).Event.Number)
		require.NoError(t, c.Kill(leader))
		l.closed()
		began := time.Now()
		id := f.writes("s", 0, "b", false)
		reason, port := f.notHandled(f.reply(f.writes("s", 0, "c", true)))
		require.Equal(t, pb.NotHandled_NotLeader, reason)
		require.EqualValues(t, c.places[leader].identity.tcp.port, port, "the dead one is still named")
		require.Equal(t, messages.ForwardTimeout, f.result(id))
		require.GreaterOrEqual(t, time.Since(began), forwardTimeout)
		require.Less(t, time.Since(began), forwardTimeout+timeoutGrid+time.Millisecond)

		c.ready()
		next := c.leader()
		require.NotEqual(t, leader, next)
		c.to(next).appended("s", 0, "d")
		require.EqualValues(t, 1, f.event(sub).Event.Number, "the subscription goes on")
		require.NoError(t, c.Start(leader))
		c.ready()
		require.Equal(t, next, c.leader())
		require.Equal(t, []int64{0, 1}, c.to(leader).local("s"))
		require.Empty(t, c.RolledBack())
	})
}

// TestAMajorityIsLost: the leader goes on for some seconds, and what it takes meanwhile times out, or is called written
// in the end.
func TestAMajorityIsLost(t *testing.T) {
	runCluster(t, 3, func(t *testing.T, c *testCluster) {
		leader, others := c.roles()
		l := c.to(leader)
		sub, _ := l.subscribe("s")
		began := time.Now()
		for _, id := range others {
			require.NoError(t, c.Kill(id))
		}
		early := l.writes("s", -1, "a", true)
		time.Sleep(1800 * time.Millisecond)
		late := l.writes("s", 0, "b", true)
		wrong := l.writes("s", 0, "c", true)
		require.Empty(t, l.local("s"), "nothing is shown")
		if is := l.result(early); is == messages.CommitTimeout {
			require.InDelta(t, 2500, time.Since(began).Milliseconds(), 510)
		} else { // its time is up later than the reign
			require.Equal(t, messages.Success, is)
			require.InDelta(t, 3000, time.Since(began).Milliseconds(), 210)
		}
		require.Equal(t, messages.Success, l.result(late))
		require.InDelta(t, 3000, time.Since(began).Milliseconds(), 210)
		reason, _ := l.notHandled(l.reply(wrong))
		require.Equal(t, pb.NotHandled_NotReady, reason, "a refusal that may be wrong is none")
		require.EqualValues(t, 0, l.event(sub).Event.Number)
		require.EqualValues(t, 1, l.event(sub).Event.Number)
		for _, requires := range []bool{true, false} {
			reason, _ = l.notHandled(l.reply(l.writes("s", 1, "d", requires)))
			require.Equal(t, pb.NotHandled_NotReady, reason)
		}
		require.Equal(t, []int64{0, 1}, l.local("s"), "reads go on")
		require.NoError(t, c.Start(others[0])) // one of them: the two of them would be a majority, without these events
		c.ready()
		require.Equal(t, leader, c.leader(), "its log is the newest")
		require.NoError(t, c.Start(others[1]))
		c.ready()
		require.Equal(t, []int64{0, 1}, c.to(others[0]).local("s"))
		require.Empty(t, c.RolledBack())
	})
}

// TestALeaderIsCutOff: it goes on, and so do the others, without it. When it is back what it took on is gone.
func TestALeaderIsCutOff(t *testing.T) {
	runCluster(t, 3, func(t *testing.T, c *testCluster) {
		leader, _ := c.roles()
		l := c.to(leader)
		l.appended("s", -1, "a")
		require.NoError(t, c.Partition(leader))
		time.Sleep(2500 * time.Millisecond)
		next := c.leader()
		require.NotEqual(t, leader, next)
		lost := l.writes("s", 0, "b", true)
		n := c.to(next)
		n.appended("s", 0, "c")
		n.appended("s", 1, "d")
		require.Equal(t, messages.Success, l.result(lost), "it is a lie")
		require.Equal(t, []int64{0, 1}, l.local("s"))
		c.Heal()
		l.closed()
		time.Sleep(10 * time.Second)
		c.ready()
		require.Equal(t, next, c.leader())
		require.Equal(t, []int64{0, 1, 2}, c.to(leader).local("s"))
		require.Equal(t, []RolledBack{{"s", 1, eventID("b")}}, c.RolledBack())
	})
}

// TestALeaderIsPaused: nobody is told anything, and what was sent to it waits.
func TestALeaderIsPaused(t *testing.T) {
	runCluster(t, 3, func(t *testing.T, c *testCluster) {
		leader, others := c.roles()
		l, f := c.to(leader), c.to(others[0])
		require.NoError(t, c.Pause(leader))
		waits, forwards := l.writes("s", -1, "a", true), f.writes("r", -1, "b", false)
		require.Equal(t, messages.ForwardTimeout, f.result(forwards))
		time.Sleep(4 * time.Second)
		f = c.to(others[0])
		reason, _ := f.notHandled(f.reply(f.writes("s", 0, "c", true)))
		require.Equal(t, pb.NotHandled_NotLeader, reason)
		require.NoError(t, c.Resume(leader))
		require.Equal(t, messages.Success, l.result(waits))
		c.ready()
		require.Equal(t, leader, c.leader())
		require.Equal(t, []int64{0}, f.local("r"), "what timed out is stored all the same")
	})
}

func TestGroupsAreTheLeaders(t *testing.T) {
	runCluster(t, 3, func(t *testing.T, c *testCluster) {
		leader, others := c.roles()
		n, err := c.node(leader)
		require.NoError(t, err)
		l := &node{Server: n.server, network: c.network}
		l.group(t, usualGroup("s"))
		member := l.peer(t).connect("s", 10)
		c.to(leader).appended("s", -1, "ab")
		member.ack(member.gets(got{subject: "0@s"}, got{subject: "1@s"})...)
		f := c.to(others[0])
		reason, _ := f.notHandled(f.call(messages.Of(messages.ConnectToPersistentSubscription,
			&pb.ConnectToPersistentSubscription{EventStreamId: ptr("s"), SubscriptionId: ptr("g"), AllowedInFlightMessages: ptr(int32(10))})))
		require.Equal(t, pb.NotHandled_NotLeader, reason)

		require.NoError(t, c.Kill(leader))
		time.Sleep(3 * time.Second)
		c.ready()
		next, err := c.node(c.leader())
		require.NoError(t, err)
		member = (&node{Server: next.server, network: c.network}).peer(t).connect("s", 10)
		c.to(c.leader()).appended("s", 1, "c")
		for { // those that had no checkpoint come again
			if e, _ := member.message(); e.subject == "2@s" {
				break
			}
		}
		// Without a majority the group ends, and the connection does not. What was written then it never had, although it is
		// called written.
		writer := c.to(c.leader())
		for id := range 3 {
			if id != c.leader() && id != leader {
				require.NoError(t, c.Kill(id))
			}
		}
		time.Sleep(2500 * time.Millisecond)
		asked := writer.writes("s", 2, "d", true)
		require.Equal(t, messages.SubscriptionDropped, member.next().command)
		require.Equal(t, messages.OperationResult(0), writer.result(asked))
		member.quiet()
	})
}

// gossiped is what gossip says of a node, as far as it matters here.
type gossiped struct {
	State                 string `json:"state"`
	IsAlive               bool   `json:"isAlive"`
	InternalTCPPort       int    `json:"internalTcpPort"`
	ExternalTCPPort       int    `json:"externalTcpPort"`
	ExternalSecureTCPPort int    `json:"externalSecureTcpPort"`
	InternalHTTPPort      int    `json:"internalHttpPort"`
	LastCommitPosition    int64  `json:"lastCommitPosition"`
	WriterCheckpoint      int64  `json:"writerCheckpoint"`
	EpochPosition         int64  `json:"epochPosition"`
	EpochNumber           int    `json:"epochNumber"`
}

func ptr[T any](v T) *T { return &v }

// gossip asks a node what it knows.
func (c *testCluster) gossip(id int) []gossiped {
	c.tb.Helper()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, n, addr string) (net.Conn, error) {
		return c.network.Dial(ctx, n, addr)
	}}
	r, err := http.NewRequestWithContext(c.tb.Context(), http.MethodGet, c.HTTPURL(id)+"/gossip", nil)
	require.NoError(c.tb, err)
	a, err := transport.RoundTrip(r)
	require.NoError(c.tb, err)
	b, err := io.ReadAll(a.Body)
	require.NoError(c.tb, err)
	require.NoError(c.tb, a.Body.Close())
	var document struct {
		Members []gossiped
		Port    int `json:"serverPort"`
	}
	require.NoError(c.tb, json.Unmarshal(b, &document), "%s", b)
	require.Equal(c.tb, c.places[id].identity.http.port, document.Port)
	return document.Members
}

// TestGossipOfACluster has the order, the placeholders and the dead of a real one.
func TestGossipOfACluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memnet.New()
		cluster, err := StartCluster(3, Config{Listen: network.Listen})
		require.NoError(t, err)
		defer func() { require.NoError(t, cluster.Close()) }()
		c := &testCluster{cluster, t, network}
		first := c.gossip(1)
		require.Len(t, first, 3)
		for i, m := range first {
			want := c.places[2-i].identity.http.port
			require.Equal(t, want, m.InternalHTTPPort)
			if i == 1 {
				require.Equal(t, []any{"Unknown", true, int64(-1), -1}, []any{m.State, m.IsAlive, m.LastCommitPosition, m.EpochNumber})
				continue
			}
			require.Equal(t, []any{"Manager", true, int64(-1), int64(-1), int64(-1), -1, want, want, 0},
				[]any{m.State, m.IsAlive, m.LastCommitPosition, m.WriterCheckpoint, m.EpochPosition, m.EpochNumber, m.ExternalTCPPort, m.InternalTCPPort, m.ExternalSecureTCPPort})
		}
		c.ready()
		leader, others := c.roles()
		for id := range 3 {
			for i, m := range c.gossip(id) {
				state := "Slave"
				if 2-i == leader {
					state = "Master"
				}
				require.Equal(t, []any{state, true, c.places[2-i].identity.tcp.port, 0}, []any{m.State, m.IsAlive, m.ExternalTCPPort, m.EpochNumber})
			}
		}
		require.NoError(t, c.Kill(leader))
		time.Sleep(deadSeenBy)
		for _, id := range others {
			m := c.gossip(id)[2-leader]
			require.Equal(t, []any{"Master", false}, []any{m.State, m.IsAlive})
		}
		c.RewriteGossip(func(id int, _ []byte) []byte {
			return []byte(`{"members":[],"serverPort":` + c.places[id].identity.httpPort() + `}`)
		})
		require.Empty(t, c.gossip(others[0]))
	})
}

// TestANodeThatIsNone: what can return an error says so, and what cannot panics in the same words. It once was an index out of range.
func TestANodeThatIsNone(t *testing.T) {
	keys, _ := certificate(t)
	runClusterOf(t, 2, Config{Secure: "127.0.0.1:0", TLS: keys}, func(t *testing.T, c *testCluster) {
		for _, id := range []int{-1, 2} {
			for _, do := range []func(int) error{
				c.Start, c.Kill, c.Pause, c.Resume,
				func(id int) error { return c.Partition(id) },
				func(id int) error { return c.Prefer(id, 1) },
			} {
				require.ErrorIs(t, do(id), ErrNoNode)
			}
			for _, url := range []func(int) string{c.NodeURL, c.SecureURL, c.HTTPURL} {
				require.PanicsWithValue(t, fmt.Sprintf("server: no such node: %d, in a cluster with nodes 0 to 1", id), func() { url(id) })
			}
			require.False(t, c.Runs(id))
		}
		require.NotEmpty(t, c.NodeURL(1), "it goes on")
	})
	runCluster(t, 1, func(t *testing.T, c *testCluster) {
		require.Empty(t, c.SecureURL(0))
		require.Panics(t, func() { c.SecureURL(1) }, "with or without the port")
	})
}

// TestHintsThatLie: a node names as the leader whom the test says, or nobody, as servers from 20.6 on do when their leader has TCP off.
func TestHintsThatLie(t *testing.T) {
	runCluster(t, 3, func(t *testing.T, c *testCluster) {
		leader, others := c.roles()
		replica, err := c.AddReadOnlyReplica()
		require.NoError(t, err)
		c.ready()
		hint := func(node int) (pb.NotHandled_NotHandledReason, *pb.LeaderInfo) {
			p := c.to(node)
			var m pb.NotHandled
			a := p.reply(p.writes("s", -1, "a", node != replica))
			require.Equal(t, messages.NotHandled, a.command)
			a.into(t, &m)
			info := new(pb.LeaderInfo)
			require.NoError(t, messages.Reply{Body: m.GetAdditionalInfo()}.Unmarshal(info))
			return m.GetReason(), info
		}
		for _, node := range []int{others[0], replica} {
			of := pb.NotHandled_NotLeader
			if node == replica {
				of = pb.NotHandled_IsReadOnly
			}
			for _, named := range []int{others[1], node, leader} {
				c.RewriteHints(func(id, leads int) int {
					require.Equal(t, []int{node, leader}, []int{id, leads})
					return named
				})
				reason, info := hint(node)
				require.Equal(t, of, reason)
				require.EqualValues(t, c.places[named].identity.tcp.port, info.GetExternalTcpPort())
			}
			for _, nobody := range []int{-1, 4} {
				c.RewriteHints(func(int, int) int { return nobody })
				reason, info := hint(node)
				require.Equal(t, of, reason)
				require.Nil(t, info.ExternalTcpAddress)
				require.Nil(t, info.ExternalTcpPort)
				require.Nil(t, info.ExternalSecureTcpPort)
				require.EqualValues(t, c.places[leader].identity.http.port, info.GetHttpPort())
			}
			c.RewriteHints(nil)
			_, info := hint(node)
			require.EqualValues(t, c.places[leader].identity.tcp.port, info.GetExternalTcpPort())
		}
	})
}

// deadSeenBy is when everybody has noticed that a node is gone.
const deadSeenBy = 300 * time.Millisecond

func (n *nodeIdentity) httpPort() string {
	_, port, _ := net.SplitHostPort(n.http.String())
	return port
}

// TestALoneNode of three serves what needs no leader, and knows no users.
func TestALoneNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memnet.New()
		cluster, err := StartCluster(3, Config{Listen: network.Listen})
		require.NoError(t, err)
		defer func() { require.NoError(t, cluster.Close()) }()
		c := &testCluster{cluster, t, network}
		require.NoError(t, c.Kill(1))
		require.NoError(t, c.Kill(2))
		time.Sleep(5 * time.Second)
		p := c.to(0)
		for _, requires := range []bool{true, false} {
			reason, _ := p.notHandled(p.reply(p.writes("s", -1, "a", requires)))
			require.Equal(t, pb.NotHandled_NotReady, reason)
		}
		require.Empty(t, p.local("s"))
		_, confirmed := p.subscribe("s")
		require.EqualValues(t, -1, confirmed.GetLastCommitPosition())
		a := p.call(&messages.Append{Stream: "s", Expected: -1}, "admin", "changeit")
		require.Equal(t, messages.NotAuthenticated, a.command)
		for _, m := range c.gossip(0)[:2] {
			require.False(t, m.IsAlive)
		}
	})
}

// TestClonesAndReadOnlyReplicas have the log and are counted in no majority; the latter take no writes.
func TestClonesAndReadOnlyReplicas(t *testing.T) {
	runCluster(t, 3, func(t *testing.T, c *testCluster) {
		clone, err := c.AddClone()
		require.NoError(t, err)
		reader, err := c.AddReadOnlyReplica()
		require.NoError(t, err)
		c.ready()
		p, r := c.to(clone), c.to(reader)
		require.Equal(t, messages.Success, p.result(p.writes("s", -1, "a", false)), "it is forwarded")
		require.Equal(t, []int64{0}, p.local("s"))
		reason, port := r.notHandled(r.reply(r.writes("s", 0, "b", false)))
		require.Equal(t, pb.NotHandled_IsReadOnly, reason)
		require.EqualValues(t, c.places[c.leader()].identity.tcp.port, port)
		time.Sleep(5 * time.Millisecond)
		require.Equal(t, []int64{0}, r.local("s"))
	})
}

// TestALeaderIsToldToShutDown: it drops subscriptions, says for a moment that it is not ready, and goes.
func TestALeaderIsToldToShutDown(t *testing.T) {
	runCluster(t, 3, func(t *testing.T, c *testCluster) {
		leader, _ := c.roles()
		l := c.to(leader)
		sub, _ := l.subscribe("s")
		n, err := c.node(leader)
		require.NoError(t, err)
		told := time.Now()
		n.server.shutDown()()
		require.Equal(t, messages.SubscriptionDropped, l.reply(sub).command)
		reason, _ := l.notHandled(l.reply(l.writes("s", -1, "a", true)))
		require.Equal(t, pb.NotHandled_NotReady, reason)
		l.closed()
		require.Equal(t, nodeShutdownTime, time.Since(told))
		time.Sleep(3 * time.Second)
		c.ready()
		require.NotEqual(t, leader, c.leader())
	})
}

// TestProjectionsOfACluster: each leader goes on where the one before it was, and no link is there twice.
func TestProjectionsOfACluster(t *testing.T) {
	runClusterOf(t, 3, Config{Projections: true}, func(t *testing.T, c *testCluster) {
		last := int64(-1)
		for range 4 {
			for range 3 {
				c.to(c.leader()).appended("a-b", last, string(rune('a'+last+1)))
				last++
			}
			time.Sleep(3 * time.Second)
			for id := range c.Nodes() {
				require.Len(t, c.to(id).localTo("$ce-a", "admin", "changeit"), int(last)+1, "node %d", id)
			}
			leader := c.leader()
			c.to(leader).appended("a-b", last, string(rune('a'+last+1))) // it may have its link or not
			last++
			require.NoError(t, c.Kill(leader))
			time.Sleep(3 * time.Second)
			require.NoError(t, c.Start(leader))
			time.Sleep(time.Second)
			c.ready()
		}
	})
}

// TestAWriteOverHTTP on a node that does not lead is forwarded like any other.
func TestAWriteOverHTTP(t *testing.T) {
	runCluster(t, 3, func(t *testing.T, c *testCluster) {
		_, others := c.roles()
		transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, n, addr string) (net.Conn, error) {
			return c.network.Dial(ctx, n, addr)
		}}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.HTTPURL(others[0])+"/streams/s", strings.NewReader(`{"a":1}`))
		require.NoError(t, err)
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("ES-EventType", "t")
		r.Header.Set("ES-EventId", eventID("a").String())
		a, err := transport.RoundTrip(r)
		require.NoError(t, err)
		require.NoError(t, a.Body.Close())
		require.Equal(t, http.StatusCreated, a.StatusCode)
		require.Equal(t, []int64{0}, c.to(others[0]).local("s"))
		require.Equal(t, []int64{0}, c.to(c.leader()).local("s"))
	})
}

// TestLeadersAndFollowers are what they are called in dialects of servers from 20 on.
func TestLeadersAndFollowers(t *testing.T) {
	dialect := Dialect20()
	dialect.TLS = false
	runClusterOf(t, 3, Config{Dialect: dialect}, func(t *testing.T, c *testCluster) {
		states := map[string]int{}
		for _, m := range c.gossip(0) {
			states[m.State]++
		}
		require.Equal(t, map[string]int{"Leader": 1, "Follower": 2}, states)
	})
}

// A node that begins anew has another identity while others still point to it.
func TestAHintStaysAsItWasMade(t *testing.T) {
	n := nodeIdentity{tcp: endpoint{"127.0.0.1", 1113}, http: endpoint{"127.0.0.1", 2113}}
	info := n.leaderInfo()
	n = nodeIdentity{}
	require.Equal(t, "127.0.0.1", info.GetExternalTcpAddress())
	require.Equal(t, "127.0.0.1", info.GetHttpAddress())
	require.Empty(t, n.tcp.ip)
}
