package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/goeventstore/eventstore/server/internal/quorum"
	"github.com/goeventstore/eventstore/server/internal/store"
)

// Cluster is a cluster of servers in one process, for tests and demos: it is as lost as one when the process ends. Each node
// has ports and a log of its own, and serves reads as far as it has applied what the leader tells it. What the nodes know of
// each other, and when, is a simulation with the times of a real cluster (package quorum), so that leaders can be lost, and
// with them what they had accepted and not spread.
//
// A node is a Server. Its writer puts what it decides into the cluster's log before anybody sees it, and answers when a
// majority has it; what others wrote it takes from there. Nodes are numbered from 0 on, in the order in which they were
// added. The methods may be called from any goroutine.
type Cluster struct {
	cfg Config
	log *slog.Logger

	wake    chan struct{} // the next thing to happen is another one
	stop    chan struct{}
	running sync.WaitGroup
	closing sync.Once
	err     error

	mu          sync.Mutex
	world       *quorum.World
	places      []*place
	changed     map[int]bool   // nodes whose servers should look at what there is for them
	rewrite     GossipRewriter // nil: the truth, as the node knows it
	rewriteHint HintRewriter   // likewise
	moved       chan struct{}  // closed, and replaced, when something has changed
	count       uint64         // of forwarded requests
	closed      bool
}

// place is where a node is, whether it runs or not. The cluster's lock guards it.
type place struct {
	cfg      Config
	identity nodeIdentity
	node     *clusterNode // nil while it is down
	again    bool         // it has ended by itself, and begins anew after respawn
}

// GossipRewriter changes what a node tells in answer to GET /gossip: it is given the JSON of the document and returns what
// is sent. It may lie, or wait. It is called by goroutines of the nodes, and must not call the cluster.
type GossipRewriter func(node int, document []byte) []byte

// HintRewriter changes whom a node names when it does not lead and sends a client to the leader (NotHandled with NotLeader or
// IsReadOnly): it is given the node and whom that believes to lead, and returns who is named. That may be any node, one that is down and
// the node itself too. With a negative number nobody is: the answer is that the node does not lead, without an address for TCP, as that of
// servers from 20.6 on is when their leader has TCP off. It is called by goroutines of the nodes, and must not call the cluster.
type HintRewriter func(node, leader int) (named int)

// portStep is how far the ports of two nodes are apart that were given as numbers.
const portStep = 10

// respawn is after what time a node is started again that has ended by itself.
const respawn = time.Second

// ErrNoNode says that the cluster has no node with this number, or that it does not run.
var ErrNoNode = errors.New("no such node")

// StartCluster starts a cluster. Config is that of each node: of addresses with a port the first node has that port, and
// each other one a port that is 10 higher than the one before. There is no Config.DB: the logs are in memory. When it
// returns the nodes accept connections and an election is under way, which takes a second or two. As long as that lasts they refuse
// writes, and every password, as real ones do that are new: clients that come by gossip wait, others need WaitReady.
func StartCluster(nodes int, cfg Config) (*Cluster, error) {
	switch {
	case nodes < 1:
		return nil, fmt.Errorf("a cluster of %d nodes", nodes)
	case cfg.DB != "":
		return nil, errors.New("Config.DB: the nodes of a cluster have their logs in memory")
	case cfg.HTTP == Off:
		return nil, errors.New("Config.HTTP: the nodes of a cluster gossip over HTTP")
	}
	cfg, now := cfg.complete()
	cfg.Now = now
	c := &Cluster{
		cfg: cfg, log: cfg.Logger, wake: make(chan struct{}, 1), stop: make(chan struct{}),
		changed: make(map[int]bool), moved: make(chan struct{}),
	}
	id := uuid.New()
	seed := uint64(0)
	for _, b := range id[:8] {
		seed = seed<<8 | uint64(b)
	}
	c.world = quorum.New(nodes, seed, time.Now(), (*clusterHost)(c))
	var err error
	for id := range nodes {
		var p *place
		if p, err = c.newPlace(id); err != nil {
			break
		}
		c.places = append(c.places, p)
	}
	w := c.lock() // no node gossips before the addresses of all are known
	for id := 0; id < nodes && err == nil; id++ {
		err = c.start(w, id)
	}
	c.unlock()
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	c.running.Go(c.run)
	c.log.LogAttrs(context.Background(), slog.LevelWarn, "the nodes of this cluster are all in one process, and end with it: it is for tests and demos",
		slog.Int("nodes", nodes))
	return c, nil
}

// newPlace is where a node will be. Free ports are found when it starts first.
func (c *Cluster) newPlace(id int) (*place, error) {
	p := &place{cfg: c.cfg}
	for _, addr := range []*string{&p.cfg.TCP, &p.cfg.HTTP, &p.cfg.Secure} {
		if *addr == "" {
			continue
		}
		host, port, err := net.SplitHostPort(*addr)
		if err != nil {
			return nil, err
		}
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return nil, err
		}
		if n > 0 {
			n += uint64(id) * portStep
		}
		*addr = net.JoinHostPort(host, strconv.FormatUint(n, 10))
	}
	return p, nil
}

// clusterHost is the cluster as the simulation knows it. The lock is held.
type clusterHost Cluster

// Changed implements quorum.Host.
func (h *clusterHost) Changed(node int) { h.changed[node] = true }

// Restart implements quorum.Host: the node ends by itself, and whoever looks after it starts it again.
func (h *clusterHost) Restart(node int) {
	c := (*Cluster)(h)
	c.changed[node] = true
	n := c.places[node].node
	if n == nil || c.closed {
		return
	}
	c.places[node].again = true
	c.running.Go(func() {
		c.log.LogAttrs(context.Background(), slog.LevelWarn, "a node's log has what the cluster's has not: it ends, and begins anew", slog.Int("node", node))
		c.ends(node, n)
		timer := time.NewTimer(respawn)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-c.stop:
			return
		}
		if err := c.startAgain(node); err != nil {
			c.log.LogAttrs(context.Background(), slog.LevelError, "a node did not start again", slog.Int("node", node), slog.Any("err", err))
		}
	})
}

// startAgain starts a node that has ended by itself, unless somebody has killed or started it since.
func (c *Cluster) startAgain(id int) error {
	w := c.lock()
	defer c.unlock()
	if c.closed || !c.places[id].again {
		return nil
	}
	return c.start(w, id)
}

// run has the simulation go on as time does.
func (c *Cluster) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-c.wake:
		case <-c.stop:
			return
		}
		w := c.lock()
		next, ok := w.Next()
		c.tell()
		c.mu.Unlock()
		if ok {
			timer.Reset(time.Until(next))
		}
	}
}

// lock gives somebody the simulation, as it is now.
func (c *Cluster) lock() *quorum.World {
	c.mu.Lock()
	c.world.Advance(time.Now())
	return c.world
}

// unlock gives the simulation back.
func (c *Cluster) unlock() {
	c.tell()
	c.mu.Unlock()
	signal(c.wake)
}

// tell tells what has changed.
func (c *Cluster) tell() {
	if len(c.changed) > 0 {
		for id := range c.changed {
			if n := c.places[id].node; n != nil {
				n.look()
				signal(n.news)
			}
		}
		clear(c.changed)
		close(c.moved)
		c.moved = make(chan struct{})
	}
}

// Start starts a node that is down. It has the log that it had, and begins to look for the others.
func (c *Cluster) Start(id int) error {
	w := c.lock()
	defer c.unlock()
	if c.closed {
		return errServerClosed
	}
	if !c.has(id) {
		return ErrNoNode
	}
	return c.start(w, id)
}

func (c *Cluster) start(w *quorum.World, id int) error {
	p := c.places[id]
	if p.node != nil {
		return nil
	}
	p.again = false
	log := store.NewMemory(0)
	status := w.Status(id)
	for _, e := range status.Log[:status.Committed] {
		if err := log.Stage(e.End, e.Stored()...); err != nil {
			return err
		}
	}
	if err := log.Commit(); err != nil {
		return err
	}
	n := &clusterNode{cluster: c, id: id, log: log, news: make(chan struct{}, 1), gate: newGate(), done: make(chan struct{})}
	cfg := p.cfg
	cfg.node = n
	cfg.Listen = n.gate.listen(c.cfg.Listen)
	n.standing.Store(&standing{state: quorum.Unknown})
	s, err := start(&cfg, log, cfg.Now)
	if err != nil {
		return fmt.Errorf("node %d: %w", id, err)
	}
	n.server = s
	p.identity = newNodeIdentity(s, s.http, &cfg)
	// It comes back to the same addresses.
	p.cfg.TCP, p.cfg.HTTP = s.listener.Addr().String(), s.http.listener.Addr().String()
	if s.secure != nil {
		p.cfg.Secure = s.secure.Addr().String()
	}
	p.node = n
	w.Start(id, p.identity.instance)
	n.look()
	c.running.Go(func() { // it may be told to shut down
		select {
		case <-s.Done():
			c.ends(id, n)
		case <-n.done:
		}
	})
	return nil
}

// take takes a node away from its place, if it is still there.
func (c *Cluster) take(id int, n *clusterNode) {
	w := c.lock()
	if c.places[id].node == n {
		c.places[id].node = nil
		w.Kill(id)
	}
	n.ended = true
	c.unlock()
}

// end ends a node, and waits until its last goroutine has ended. Its connections are closed, and nobody is told anything.
func (c *Cluster) end(id int, n *clusterNode) error {
	c.take(id, n)
	n.gate.open()
	err := n.server.Close()
	n.closeOnce.Do(func() { close(n.done) })
	return err
}

// ends is end for who can tell nobody else.
func (c *Cluster) ends(id int, n *clusterNode) {
	if err := c.end(id, n); err != nil {
		c.log.LogAttrs(context.Background(), slog.LevelError, "a node did not end well", slog.Int("node", id), slog.Any("err", err))
	}
}

// has reports whether there is a node with this number. The lock is held.
func (c *Cluster) has(id int) bool { return id >= 0 && id < len(c.places) }

// runs reports whether there is a node with this number, and it runs. The lock is held.
func (c *Cluster) runs(id int) bool { return c.has(id) && c.places[id].node != nil }

// node returns a node that runs.
func (c *Cluster) node(id int) (*clusterNode, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.runs(id) {
		return nil, ErrNoNode
	}
	return c.places[id].node, nil
}

// Kill ends a node as the end of its process would: its connections are closed, and what it has not sent is lost. Its log
// stays, for the next Start. One that has ended by itself, and would begin anew, stays down too.
func (c *Cluster) Kill(id int) error {
	c.mu.Lock()
	if !c.has(id) {
		c.mu.Unlock()
		return ErrNoNode
	}
	p := c.places[id]
	n, again := p.node, p.again
	p.again = false
	c.mu.Unlock()
	switch {
	case n != nil:
		return c.end(id, n)
	case again:
		return nil
	}
	return ErrNoNode
}

// Pause stops a node as SIGSTOP would a process: its connections stay, what is sent to it waits, and it sends nothing, until
// Resume.
func (c *Cluster) Pause(id int) error {
	w := c.lock()
	defer c.unlock()
	if !c.runs(id) {
		return ErrNoNode
	}
	w.Pause(id)
	c.places[id].node.gate.shut()
	return nil
}

// Resume has a paused node go on.
func (c *Cluster) Resume(id int) error {
	w := c.lock()
	defer c.unlock()
	if !c.runs(id) {
		return ErrNoNode
	}
	w.Resume(id)
	c.places[id].node.gate.open()
	return nil
}

// Partition cuts nodes off from all others, until Heal: these see each other. Clients reach all of them as before. A leader
// on the side without a majority goes on for some seconds.
func (c *Cluster) Partition(ids ...int) error {
	w := c.lock()
	defer c.unlock()
	for _, id := range ids {
		if !c.has(id) {
			return ErrNoNode
		}
	}
	w.Cut(ids...)
	return nil
}

// Heal ends all partitions.
func (c *Cluster) Heal() {
	c.lock().Heal()
	c.unlock()
}

// Prefer gives a node a priority: of nodes that could all lead the one with the highest does. It is 0 at first.
func (c *Cluster) Prefer(id, priority int) error {
	w := c.lock()
	defer c.unlock()
	if !c.has(id) {
		return ErrNoNode
	}
	w.Prefer(id, priority)
	return nil
}

// AddClone starts one more node, which has the log and is counted in no majority, and returns its number.
func (c *Cluster) AddClone() (int, error) { return c.add(false) }

// AddReadOnlyReplica starts one more node, which has the log and takes no writes, and returns its number. Servers have such
// from version 20 on.
func (c *Cluster) AddReadOnlyReplica() (int, error) { return c.add(true) }

func (c *Cluster) add(readOnly bool) (int, error) {
	w := c.lock()
	p, err := c.newPlace(len(c.places))
	id := len(c.places)
	if err == nil {
		c.places = append(c.places, p)
		w.Add(readOnly)
	}
	c.unlock()
	if err == nil {
		err = c.Start(id)
	}
	return id, err
}

// RewriteGossip has f change what the nodes say, nil for nothing.
func (c *Cluster) RewriteGossip(f GossipRewriter) {
	c.mu.Lock()
	c.rewrite = f
	c.mu.Unlock()
}

// RewriteHints has f change whom the nodes name as the leader, nil for nothing.
func (c *Cluster) RewriteHints(f HintRewriter) {
	c.mu.Lock()
	c.rewriteHint = f
	c.mu.Unlock()
}

// Nodes returns how many nodes there are.
func (c *Cluster) Nodes() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.places)
}

// Runs reports whether a node runs, paused or not.
func (c *Cluster) Runs(id int) bool {
	_, err := c.node(id)
	return err == nil
}

// Leader returns the node that leads, and false when nobody does. Of two that both believe it is the one that was elected
// last.
func (c *Cluster) Leader() (int, bool) {
	w := c.lock()
	defer c.unlock()
	return leaderOf(w)
}

func leaderOf(w *quorum.World) (leader int, ok bool) {
	var last quorum.Epoch
	for id := range w.Nodes() {
		if s := w.Status(id); w.Up(id) && s.Leads && (!ok || s.Epoch.Ballot > last.Ballot) {
			leader, last, ok = id, s.Epoch, true
		}
	}
	return leader, ok
}

// WaitReady returns when the cluster is as it should be: one node leads, all that run know it and have its log, and the
// users are there.
func (c *Cluster) WaitReady(ctx context.Context) error {
	for {
		w := c.lock()
		ready, moved := c.ready(w), c.moved
		c.unlock()
		if ready {
			return nil
		}
		timer := time.NewTimer(gossipAgain)
		select {
		case <-moved:
		case <-timer.C: // gossip is no change
		case <-c.stop:
			timer.Stop()
			return errServerClosed
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
		timer.Stop()
	}
}

// gossipAgain is how often is looked whether all have heard of each other.
const gossipAgain = 100 * time.Millisecond

func (c *Cluster) ready(w *quorum.World) bool {
	leader, ok := leaderOf(w)
	if !ok {
		return false
	}
	at := w.Status(leader)
	for id := range w.Nodes() {
		s := w.Status(id)
		switch {
		case !w.Up(id):
			continue
		case s.Committed != at.Committed, s.Committed < 2, !c.places[id].node.applied(s.Committed), !w.Settled(id):
			return false
		}
		for _, m := range w.View(id) {
			up := w.Up(m.Node)
			if m.Alive != up || (up && m.State != w.Status(m.Node).State) {
				return false
			}
		}
	}
	return true
}

// RolledBack is an event that was called written, or shown, by a leader that had lost its majority, and that is gone: the
// cluster went on without it.
type RolledBack struct {
	Stream string
	Number int64
	ID     uuid.UUID
}

// RolledBack returns all such events. A checker that holds what clients were told against what is stored has to know them.
func (c *Cluster) RolledBack() []RolledBack {
	w := c.lock()
	defer c.unlock()
	var gone []RolledBack
	for _, r := range w.RolledBack() {
		gone = append(gone, RolledBack{r.Stream, r.Number, r.ID})
	}
	return gone
}

// URL returns the target that leads a client to the cluster by the gossip of its nodes, such as
// gossip://127.0.0.1:2113,127.0.0.1:2123.
func (c *Cluster) URL() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var seeds []string
	for _, p := range c.places {
		if p.identity.http.port != 0 { // else it has never started
			seeds = append(seeds, p.identity.http.String())
		}
	}
	return "gossip://" + strings.Join(seeds, ",")
}

// NodeURL returns the address of a node for clients, such as tcp://127.0.0.1:1113. It stays the same while the node is down. It panics,
// as SecureURL and HTTPURL do, when there is no node with this number, which is from 0 to less than Nodes().
func (c *Cluster) NodeURL(id int) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cfg.Dialect.TLS {
		return "tls://" + c.identity(id).secure.String()
	}
	return "tcp://" + c.identity(id).tcp.String()
}

// identity is that of a node that there is.
func (c *Cluster) identity(id int) *nodeIdentity {
	if !c.has(id) {
		panic(fmt.Sprintf("server: %v: %d, in a cluster with nodes 0 to %d", ErrNoNode, id, len(c.places)-1))
	}
	return &c.places[id].identity
}

// SecureURL is NodeURL for TLS, such as tls://127.0.0.1:1115; "" when Config.Secure was.
func (c *Cluster) SecureURL(id int) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	secure := c.identity(id).secure
	if c.cfg.Secure == "" {
		return ""
	}
	return "tls://" + secure.String()
}

// HTTPURL returns the address of the HTTP side of a node, such as http://127.0.0.1:2113.
func (c *Cluster) HTTPURL(id int) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	scheme := "http://"
	if c.cfg.Dialect.TLS {
		scheme = "https://"
	}
	return scheme + c.identity(id).http.String()
}

// Done is closed when the cluster ends.
func (c *Cluster) Done() <-chan struct{} { return c.stop }

// Close ends the cluster, and returns when its last goroutine has ended. The logs are gone.
func (c *Cluster) Close() error {
	c.closing.Do(func() {
		c.mu.Lock()
		c.closed = true
		c.mu.Unlock()
		close(c.stop)
		for id := range c.Nodes() {
			if n, err := c.node(id); err == nil {
				c.err = errors.Join(c.err, c.end(id, n))
			}
		}
		c.running.Wait()
	})
	return c.err
}
