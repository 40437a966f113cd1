package eventstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/memnet"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// nodes plays the members of a cluster, in virtual time: each says over TCP and by gossip what its state makes it say. Which
// states these are, and what each believes of the others, is the test's.
type nodes struct {
	network *memnet.Network
	t       *testing.T

	mu     sync.Mutex
	nodes  map[string]*playedNode
	dialed map[string]int // by address
	// written is how many events their stream has. They agree on it: it is what a majority has.
	written int64
	stop    chan struct{}
	served  sync.WaitGroup
}

// playedNode is one of them.
type playedNode struct {
	name     string
	state    string // as it behaves: Leader, Follower or Unknown
	hint     string // whom it names as the leader
	gossip   string // what it tells, as in "Leader n1, Follower n2 dead"; "": nothing, but 500
	paused   bool   // it says nothing any more
	away     bool   // dials hang
	dead     bool   // nobody listens
	unknown  bool   // it does not know its users yet
	listener net.Listener
	conns    map[net.Conn]*playedLine
	late     time.Duration           // it takes this long for each append
	slow     time.Duration           // and this long for gossip
	says     func() messages.Request // to whether it leads; nil: what its state makes it say
	asked    int                     // whether it leads
	login    string                  // that came with it
}

// playNodes starts them, as followers that tell nothing yet.
func playNodes(t *testing.T, names ...string) *nodes {
	t.Helper()
	p := &nodes{network: memnet.New(), t: t, nodes: make(map[string]*playedNode), dialed: make(map[string]int), stop: make(chan struct{})}
	t.Cleanup(p.served.Wait)
	for _, name := range names {
		n := &playedNode{name: name, state: "Follower", conns: make(map[net.Conn]*playedLine)}
		p.nodes[name] = n
		p.start(n)
		l, err := p.network.Listen("tcp", name+":2113")
		require.NoError(t, err)
		web := &http.Server{ReadHeaderTimeout: time.Hour, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { p.tell(n, w) })}
		p.served.Go(func() { _ = web.Serve(l) })
		t.Cleanup(func() { _ = web.Close() })
	}
	t.Cleanup(func() {
		close(p.stop)
		for _, n := range p.nodes {
			p.kill(n.name)
		}
	})
	return p
}

func (p *nodes) target() string {
	var seeds []string
	for name := range p.nodes {
		seeds = append(seeds, name+":2113")
	}
	return "gossip://admin:changeit@" + strings.Join(seeds, ",")
}

// set changes nodes in one step.
func (p *nodes) set(change func(n map[string]*playedNode)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p.nodes)
}

// settled has one lead, and all know it.
func (p *nodes) settled(leader string) {
	var gossip []string
	for name := range p.nodes {
		state := "Slave "
		if name == leader {
			state = "Master "
		}
		gossip = append(gossip, state+name)
	}
	p.set(func(nodes map[string]*playedNode) {
		for _, n := range nodes {
			n.state, n.hint, n.gossip = "Follower", leader, strings.Join(gossip, ", ")
		}
		nodes[leader].state = "Leader"
	})
}

func (p *nodes) start(n *playedNode) {
	l, err := p.network.Listen("tcp", n.name+":1113")
	require.NoError(p.t, err)
	n.listener = l
	p.served.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			line := &playedLine{nc: nc, subs: make(map[messages.ID]int64), members: make(map[messages.ID]struct{})}
			p.mu.Lock()
			n.conns[nc] = line
			p.mu.Unlock()
			p.served.Go(func() { p.play(n, line) })
		}
	})
}

// kill has nobody listen, and resets every connection.
func (p *nodes) kill(name string) {
	p.set(func(n map[string]*playedNode) { n[name].dead = true })
	_ = p.nodes[name].listener.Close()
	p.cut(name)
}

// cut resets every connection to a node.
func (p *nodes) cut(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for nc := range p.nodes[name].conns {
		nc.(*memnet.Conn).Reset()
	}
	clear(p.nodes[name].conns)
}

// Dial is the client's way to them.
func (p *nodes) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	host, _, _ := strings.Cut(addr, ":")
	p.mu.Lock()
	p.dialed[addr]++
	n := p.nodes[host]
	hangs := n != nil && n.away
	dead := n == nil || n.dead
	p.mu.Unlock()
	switch {
	case hangs:
		<-ctx.Done()
		return nil, ctx.Err()
	case dead:
		return nil, errors.New("nobody is there")
	}
	return p.network.Dial(ctx, network, addr)
}

// dials counts those to some addresses, or all.
func (p *nodes) dials(addrs ...string) (count int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for addr, n := range p.dialed {
		if len(addrs) == 0 || slices.Contains(addrs, addr) {
			count += n
		}
	}
	return count
}

// wait returns false when the test is over, true when the node is not paused any more.
func (p *nodes) wait(n *playedNode) bool {
	for {
		p.mu.Lock()
		paused := n.paused
		p.mu.Unlock()
		if !paused {
			return true
		}
		select {
		case <-p.stop:
			return false
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// tell answers a question for gossip.
func (p *nodes) tell(n *playedNode, w http.ResponseWriter) {
	if !p.wait(n) {
		return
	}
	p.mu.Lock()
	gossip, slow := n.gossip, n.slow
	p.mu.Unlock()
	time.Sleep(slow)
	if gossip == "" {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	_, _ = io.WriteString(w, document(gossip))
}

// document is gossip of "Leader n1, Follower n2 dead".
func document(gossip string) string {
	var members []string
	for m := range strings.SplitSeq(gossip, ", ") {
		f := strings.Fields(m)
		members = append(members, fmt.Sprintf(
			`{"state":%q,"isAlive":%v,"externalTcpIp":%q,"externalTcpPort":1113,"externalHttpIp":%q,"externalHttpPort":2113}`, f[0], len(f) == 2, f[1], f[1]))
	}
	return `{"members":[` + strings.Join(members, ",") + `]}`
}

// play serves one connection.
func (p *nodes) play(n *playedNode, l *playedLine) {
	defer l.nc.Close() //nolint:errcheck // it has ended
	r := messages.NewReader(l.nc, 0)
	for {
		f, err := r.Next()
		if err != nil || !p.wait(n) {
			return
		}
		if f.Command == messages.WriteEvents {
			time.Sleep(n.late)
		}
		if !p.reply(n, l, f) {
			return
		}
	}
}

// reply answers a frame, before anything that is pushed for it. It returns false when the line has ended.
func (p *nodes) reply(n *playedNode, l *playedLine, f messages.Frame) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	answer := p.answer(n, l, f)
	return answer == nil || l.send(f.ID, answer)
}

// answer is what a node of its state says; nil: nothing.
func (p *nodes) answer(n *playedNode, l *playedLine, f messages.Frame) messages.Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f.Command == messages.ReadEvent && bytes.Contains(f.Body, []byte("leader-question")) {
		n.asked++
		n.login = string(f.Login)
		if n.says != nil {
			return n.says()
		}
	}
	refused := n.unknown && len(f.Login) > 0
	if !refused {
		if answer, ok := p.follow(l, n, f); ok {
			return answer
		}
	}
	switch {
	case f.Command == messages.IdentifyClient:
		return messages.Raw(messages.ClientIdentified, nil)
	case f.Command == messages.HeartbeatRequest:
		return messages.Raw(messages.HeartbeatResponse, nil)
	case refused:
		return messages.Raw(messages.NotAuthenticated, []byte("Not Authenticated"))
	case f.Command == messages.Ping:
		return messages.Raw(messages.Pong, nil)
	case n.state == "Unknown":
		return messages.Of(messages.NotHandled, &pb.NotHandled{Reason: pb.NotHandled_NotReady.Enum()})
	case n.state == "Follower":
		info := &pb.LeaderInfo{ExternalTcpAddress: &n.hint, ExternalTcpPort: proto.Int32(1113), HttpAddress: &n.hint, HttpPort: proto.Int32(2113)}
		b, err := proto.Marshal(info)
		if err != nil {
			p.t.Error(err)
		}
		return messages.Of(messages.NotHandled, &pb.NotHandled{Reason: pb.NotHandled_NotLeader.Enum(), AdditionalInfo: b})
	case f.Command == messages.WriteEvents:
		return &messages.AppendCompleted{HasPosition: true, Prepare: 100, Commit: 100, HasCurrent: true}
	case f.Command == messages.ReadEvent:
		return messages.Raw(messages.ReadEventCompleted, messages.AppendEventRead(nil, messages.ReadEventNoStream, nil, nil, ""))
	case f.Command == messages.ReadStreamEventsForward:
		return p.page(f)
	}
	return messages.Raw(messages.BadRequest, []byte("not played"))
}

func (p *nodes) connect(opts ...eventstore.Option) *eventstore.Client {
	p.t.Helper()
	c, err := eventstore.Connect(p.t.Context(), p.target(), append([]eventstore.Option{eventstore.WithDialer(p.Dial)}, opts...)...)
	require.NoError(p.t, err)
	p.t.Cleanup(func() { require.NoError(p.t, c.Close()) })
	return c
}
