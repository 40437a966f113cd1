package conformance_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/internal/memnet"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
	"github.com/goeventstore/eventstore/server"
)

// timeline plays the recording of a cluster over time to an embedded one, in virtual time: the same requests to the same
// nodes when they were recorded, and the same things happen to the nodes. When what comes of it depends on elections, whose
// times are left to chance, so that answers are not compared one by one. Compared are the courses: for each kind of request
// on a connection which answers came in which order, from when on and after how long, as far as two runs of a real cluster
// are alike (course); the ends of the connections; and what is stored in the end of what was answered how.
//
// The nodes have the names that the recording has for them. The one that was elected there is preferred here.
type timeline struct {
	*playing
	network *memnet.Network
	cluster *server.Cluster
	names   []string // of the nodes, by their numbers here
	began   time.Time
	conns   map[string]*peer
	order   []string // of the connections
	ours    traffic
	later   []laterOn
}

// laterOn is what the player does at a time between lines.
type laterOn struct {
	at time.Duration
	do func()
}

// processStart is how long it takes until a node that was started begins: the recorded processes took 0.5 s to 2.5 s.
const processStart = 1500 * time.Millisecond

// replayTimeline plays a recording in a bubble of its own.
func replayTimeline(t *testing.T, rec *recording, lines []line) (p *playing) {
	t.Helper()
	for range 10 {
		cast := false
		synctest.Test(t, func(t *testing.T) {
			l := &timeline{playing: newPlaying(t, nil, rec, lines), network: memnet.New(), conns: map[string]*peer{}}
			cast = l.play()
			p = l.playing
		})
		if cast {
			return p
		}
		t.Log("another node than the preferred one began as the leader: it is played again")
	}
	t.Fatal("the preferred node is not elected")
	return nil
}

// recordedPort is the port for clients of a node of the recorded clusters, which are numbered from 1 on.
func recordedPort(node int) int32 { return int32(41013 + 100*node) }

// cast finds out which recorded node is what, who led at first, and who did in the end.
func (p *timeline) cast() (first, last int) {
	first, last = -1, -1
	p.names = []string{"node1", "node2", "node3"}
	recorded := map[int32]string{}
	for _, l := range p.lines {
		if l.event == "cluster" {
			first = p.recordedNode(l.told.leader)
			p.names[first], p.names[p.recordedNode(l.told.slave1)], p.names[p.recordedNode(l.told.slave2)] = "master", "slave1", "slave2"
		}
		if l.event == "end of traffic" {
			last = p.recordedNode(l.told.leader)
		}
	}
	for id, name := range p.names {
		recorded[recordedPort(id+1)] = name
	}
	if first < 0 { // it is recorded from its start: whoever is pointed to leads
		t := traffic{nodes: recorded}
		for i := range p.lines {
			if l := &p.lines[i]; l.kind == reply && l.command == messages.NotHandled {
				for id, name := range p.names {
					if t.outcome(&sent{line: l}) == pointsTo(name) {
						first = id
					}
				}
			}
		}
	}
	if last < 0 {
		last = first
	}
	return first, last
}

// recordedNode is the number here of a node that is told as "node3 ext-tcp 41313".
func (p *timeline) recordedNode(text string) int {
	p.t.Helper()
	name, _, _ := strings.Cut(text, " ")
	n, err := strconv.Atoi(strings.TrimPrefix(name, "node"))
	require.NoError(p.t, err)
	return n - 1
}

// play plays all lines. What it found is in found and problems. It reports false when another node led at first than the
// one that was recorded: when two begin an election at once, the preferred one may miss it.
func (p *timeline) play() bool {
	p.t.Helper()
	first, last := p.cast()
	from := 0.0 // the nodes take connections as soon as they are started: that is when the last one did
	fresh := p.lines[0].event == "three nodes started"
	for _, l := range p.lines {
		if fresh && l.kind == connected {
			from = l.ms
		}
	}
	var err error
	p.cluster, err = server.StartCluster(3, server.Config{Listen: p.network.Listen, Dialect: p.rec.dialect()})
	require.NoError(p.t, err)
	p.t.Cleanup(func() { require.NoError(p.t, p.cluster.Close()) })
	require.NoError(p.t, p.cluster.Prefer(first, 1))
	if !fresh {
		ctx, cancel := context.WithTimeout(p.t.Context(), hang)
		defer cancel()
		require.NoError(p.t, p.cluster.WaitReady(ctx))
		if leader, _ := p.cluster.Leader(); leader != first {
			return false
		}
		require.NoError(p.t, p.cluster.Prefer(last, 2))
	}
	p.began = time.Now().Add(-ms(from))
	for i := range p.lines {
		l := &p.lines[i]
		if slices.ContainsFunc(p.rec.words, func(w inWords) bool { return w.has(l.n) }) {
			continue
		}
		p.sleep(ms(l.ms))
		p.act(l)
	}
	p.sleep(p.now() + 10*time.Second) // all that is under way has timed out
	if leader, _ := p.cluster.Leader(); fresh && leader != first {
		return false
	}
	p.collect()
	p.compareAll()
	p.coverage()
	return true
}

func ms(of float64) time.Duration { return time.Duration(of * float64(time.Millisecond)) }

func (p *timeline) now() time.Duration { return time.Since(p.began) }

// sleep sleeps until a time, which may be over, and all that happens by itself by then has happened.
func (p *timeline) sleep(until time.Duration) {
	for len(p.later) > 0 && p.later[0].at <= until {
		next := p.later[0]
		p.later = p.later[1:]
		time.Sleep(next.at - p.now())
		next.do()
	}
	time.Sleep(until - p.now())
	synctest.Wait()
}

// node is the number of a node here.
func (p *timeline) node(name string) int {
	id := slices.Index(p.names, name)
	require.GreaterOrEqual(p.t, id, 0, "no node is called %s", name)
	return id
}

func (p *timeline) at(id int) clusterNode { return clusterNode{p.cluster, p.network, id} }

func (p *timeline) act(l *line) {
	p.t.Helper()
	switch {
	case l.kind == connected:
		p.conns[l.conn] = dialRaw(p.t, p.at(p.node(l.conn)))
		p.order = append(p.order, l.conn)
	case l.kind == request && l.command != messages.HeartbeatResponse:
		p.ours.frames = append(p.ours.frames, sent{l, p.now(), true})
		if c := p.conns[l.conn]; c == nil {
			p.problem("%s: the connection %q was not opened", l, l.conn)
		} else {
			_ = c.tryWrite(l.encode(l.body)) // when the connection has ended, there is no answer
		}
	case l.kind == beyond:
		p.happen(l)
	}
}

// happen does to the nodes what was done to the recorded ones.
func (p *timeline) happen(l *line) {
	p.t.Helper()
	each := func(do func(id int) error, names ...string) {
		for _, name := range names {
			if err := do(p.node(name)); err != nil {
				p.problem("line %d: %s: %s: %v", l.n, l.event, name, err)
			}
		}
	}
	what, _, _ := strings.Cut(l.event, " (")
	switch what {
	case "cluster", "three nodes started", "connection ended":
	case "SIGKILL to the master", "SIGTERM to the master":
		each(p.cluster.Kill, "master")
	case "SIGSTOP to the master":
		each(p.cluster.Pause, "master")
	case "SIGCONT to the old master":
		each(p.cluster.Resume, "master")
	case "POST /admin/shutdown to the master":
		each(p.shutdown, "master")
	case "SIGKILL to one slave":
		each(p.cluster.Kill, "slave1")
	case "SIGKILL to both slaves":
		each(p.cluster.Kill, "slave1", "slave2")
	case "SIGSTOP to both slaves":
		each(p.cluster.Pause, "slave1", "slave2")
	case "SIGCONT to both slaves":
		each(p.cluster.Resume, "slave1", "slave2")
	case "both slaves started again":
		p.later = append(p.later, laterOn{ms(l.ms) + processStart, func() { each(p.cluster.Start, "slave1", "slave2") }})
	case "nodes not running any more":
		var down []string
		for id, name := range p.names {
			if !p.cluster.Runs(id) {
				down = append(down, name)
			}
		}
		var recorded []string
		for id, name := range p.names {
			if slices.Contains(l.nodes, "node"+strconv.Itoa(id+1)) {
				recorded = append(recorded, name)
			}
		}
		if !slices.Equal(recorded, down) {
			p.differs(l.n, "nodes that do not run", fmt.Sprint(recorded), fmt.Sprint(down))
		}
	case "dead nodes started again":
		p.later = append(p.later, laterOn{ms(l.ms) + processStart, func() {
			for id, name := range p.names {
				if !p.cluster.Runs(id) {
					each(p.cluster.Start, name)
				}
			}
		}})
	default:
		p.problem("line %d: %q is nothing that can be played, and not left out", l.n, l.event)
	}
}

// shutdown tells a node over HTTP to shut down.
func (p *timeline) shutdown(id int) error {
	return p.get(id, http.MethodPost, "/admin/shutdown", func(r *http.Response) error {
		if r.StatusCode != http.StatusOK {
			return fmt.Errorf("POST /admin/shutdown: %s", r.Status)
		}
		return nil
	})
}

// get asks a node something over HTTP, on a connection of its own.
func (p *timeline) get(id int, method, path string, take func(*http.Response) error) error {
	transport := &http.Transport{DialContext: p.network.Dial, DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(p.t.Context(), hang)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, p.cluster.HTTPURL(id)+path, http.NoBody)
	if err != nil {
		return err
	}
	r.SetBasicAuth("admin", "changeit")
	answer, err := transport.RoundTrip(r)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	return take(answer)
}

// collect takes what has come on all connections.
func (p *timeline) collect() {
	p.ours.nodes = map[int32]string{}
	for id, name := range p.names {
		_, port, _ := strings.Cut(strings.TrimPrefix(p.cluster.NodeURL(id), "tcp://"), ":")
		n, err := strconv.ParseInt(port, 10, 32)
		require.NoError(p.t, err)
		p.ours.nodes[int32(n)] = name
	}
	for _, conn := range p.order {
		for _, a := range p.conns[conn].rest() {
			answer := &line{kind: reply, conn: conn, command: a.command, id: a.id, body: a.body}
			p.ours.frames = append(p.ours.frames, sent{answer, a.at.Sub(p.began), false})
		}
	}
}

// compareAll compares all of it.
func (p *timeline) compareAll() {
	recorded := traffic{nodes: map[int32]string{}}
	for id, name := range p.names {
		recorded.nodes[recordedPort(id+1)] = name
	}
	for i := range p.lines {
		if l := &p.lines[i]; l.kind == request || l.kind == reply && l.command != messages.HeartbeatRequest {
			recorded.frames = append(recorded.frames, sent{l, ms(l.ms), l.kind == request})
		}
	}
	found, compared := compareCourses(recorded.courses(), p.ours.courses(), p.rec.chances, p.rec.loose)
	p.found = append(p.found, found...)
	p.compared += compared
	p.compareEnds()
	stored := p.stored()
	p.compareTallies(&recorded, stored)
	p.compareChecks(stored)
	for _, l := range p.lines {
		if l.event != "end of traffic" {
			continue
		}
		leader, _ := p.cluster.Leader()
		if told := p.names[p.recordedNode(l.told.leader)]; told != p.names[leader] {
			p.differs(l.n, "leader", told, p.names[leader])
		}
	}
}

// compareEnds compares when and how connections were ended.
func (p *timeline) compareEnds() {
	for _, conn := range p.order {
		c, n, recorded, at := p.conns[conn], p.lines[len(p.lines)-1].n, "open", time.Duration(0)
		for _, l := range p.lines {
			if l.conn == conn && l.event == "connection ended" {
				n, recorded, at = l.n, l.how, ms(l.ms)
			}
		}
		recorded = strings.Replace(recorded, "read error ConnectionResetError", "server closed (RST)", 1)
		c.mu.Lock()
		err, endedAt := c.end, c.endedAt.Sub(p.began)
		c.mu.Unlock()
		ours := "open"
		if err != nil {
			ours = ending(err)
		}
		switch off := endedAt - at; {
		case ours != recorded:
			p.differs(n, conn+" connection", recorded, ours)
		case err != nil && (off < -answerSpread-p.rec.loose || off > answerSpread+p.rec.loose):
			p.differs(n, conn+" connection ended", inMs(at), inMs(endedAt))
		}
		p.compared++
	}
}

// compareTallies compares what is stored in the end of what was answered how.
func (p *timeline) compareTallies(recorded *traffic, stored map[string]int64) {
	told := map[string]int{} // the lines
	name := func(conn, outcome string, stored bool) string {
		if stored {
			return conn + ": " + outcome + ", stored"
		}
		return conn + ": " + outcome + ", not stored"
	}
	last := p.lines[len(p.lines)-1].n
	for _, l := range p.lines {
		if l.tally == nil {
			continue
		}
		outcome := strings.TrimPrefix(l.tally.result, "NotHandled ")
		if hint, ok := strings.CutPrefix(outcome, "NotMaster -> "); ok {
			port, err := strconv.ParseInt(hint, 10, 32)
			require.NoError(p.t, err)
			outcome = pointsTo(recorded.nodes[int32(port)])
		} else if outcome != "no answer" {
			outcome, _, _ = strings.Cut(outcome, " ")
		}
		conn := l.conn
		if conn == "" {
			conn = "master"
		}
		if slices.ContainsFunc(p.rec.chances, func(c chance) bool { return strings.HasPrefix(c.lane, conn+" ") && c.outcome == outcome }) {
			continue
		}
		told[name(conn, outcome, l.tally.stored)] = l.n
	}
	if len(told) == 0 {
		return
	}
	var ours []string
	for i := range p.ours.frames {
		f := &p.ours.frames[i]
		if !f.toServer || f.command != messages.WriteEvents {
			continue
		}
		outcome := "no answer"
		for k := range p.ours.frames {
			if a := &p.ours.frames[k]; !a.toServer && a.exchange() == f.exchange() {
				outcome = p.ours.outcome(a)
				break
			}
		}
		lane := laneOf(f)
		if mayBe(p.rec.chances, lane, outcome) {
			continue
		}
		var m pb.WriteEvents
		require.NoError(p.t, decode(f.body, &m))
		_, kept := stored[string(m.GetEvents()[0].GetEventId())]
		if key := name(f.conn, outcome, kept); !slices.Contains(ours, key) {
			ours = append(ours, key)
		}
	}
	for key, n := range told {
		if !slices.Contains(ours, key) {
			p.differs(n, "tally", key, none)
		}
		p.compared++
	}
	for _, key := range ours {
		if _, ok := told[key]; !ok {
			p.differs(last, "tally", none, key)
		}
	}
}

// stored are the numbers of the events that are there in the end, by their ids.
func (p *timeline) stored() map[string]int64 {
	p.t.Helper()
	at, ok := p.cluster.Leader()
	for id := 0; !ok; id++ {
		at, ok = id, p.cluster.Runs(id)
	}
	var stream string
	for _, f := range p.ours.frames {
		if f.toServer && f.command == messages.WriteEvents {
			var w pb.WriteEvents
			require.NoError(p.t, decode(f.body, &w))
			stream = w.GetEventStreamId()
			break
		}
	}
	var m pb.ReadStreamEventsCompleted
	asker := dialPeer(p.t, p.at(at))
	asker.call(&messages.StreamRead{Stream: stream, Count: 4000}).into(p.t, messages.ReadStreamEventsForwardCompleted, &m)
	require.True(p.t, m.GetIsEndOfStream())
	ids := map[string]int64{}
	for _, e := range m.GetEvents() {
		ids[string(e.GetEvent().GetEventId())] = e.GetEvent().GetEventNumber()
	}
	return ids
}

// compareChecks compares what subscriptions have missed of what is stored in the end, and what they had beside it. They
// began behind the first event.
func (p *timeline) compareChecks(stored map[string]int64) {
	for _, l := range p.lines {
		if l.event != "subscription check" {
			continue
		}
		got := map[string]bool{}
		surplus, missing := []int64{}, []int64{}
		for i := range p.ours.frames {
			f := &p.ours.frames[i]
			if f.conn != l.conn || f.command != messages.StreamEventAppeared {
				continue
			}
			e := eventOf(f)
			id := string(e.GetEventId())
			if _, ok := stored[id]; !ok || got[id] {
				surplus = append(surplus, e.GetEventNumber())
			}
			got[id] = true
		}
		for id, number := range stored {
			if !got[id] && number > 0 {
				missing = append(missing, number)
			}
		}
		slices.Sort(missing)
		if !slices.Equal(l.missing, missing) {
			p.differs(l.n, l.conn+" missed", fmt.Sprint(l.missing), fmt.Sprint(missing))
		}
		if !slices.Equal(l.surplus, surplus) {
			p.differs(l.n, l.conn+" had too much", fmt.Sprint(l.surplus), fmt.Sprint(surplus))
		}
		p.compared++
	}
}
