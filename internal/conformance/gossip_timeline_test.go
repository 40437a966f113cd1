package conformance_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/internal/memnet"
	"github.com/goeventstore/eventstore/server"
)

// gossipDocuments has the documents that gossip-timeline.jsonl names. Those that are not there were like the one before.
const gossipDocuments = "../../cluster/testdata/cluster-4.1.4"

// gossipLine is a line of gossip-timeline.jsonl: what a node answered to GET /gossip, or what happened.
type gossipLine struct {
	n             int
	Ms            float64
	Phase         string
	Node          int
	File          string
	Members       []string
	Error, Status any
	Mark          string
	Master        int
	Nodes         []int
}

// answer is what kind of answer it was.
func (l *gossipLine) answer() string {
	switch {
	case l.Error != nil:
		return "nothing"
	case l.Status != nil:
		return fmt.Sprint(l.Status)
	}
	return "a document"
}

// seen is what a node said at a moment: its kind of answer, or of a member its state.
type seen struct {
	n    int // line
	at   time.Duration
	what string
}

// view is whose word on whom something is, in a phase of the recording. Without a member it is what kind of answer came.
type view struct {
	phase        string
	node, member int
}

func (v view) String() string {
	if v.member == 0 {
		return fmt.Sprintf("%s: node %d answers", v.phase, v.node)
	}
	return fmt.Sprintf("%s: node %d says of %d", v.phase, v.node, v.member)
}

// passing are the states that a node goes through so quickly that it is left to chance who sees them.
var passing = []string{"Initializing", "PreReplica", "CatchingUp", "Clone", "PreMaster"}

// gossiping is all that was said.
type gossiping struct {
	views   map[view][]seen
	members map[string][]string // the entries of members, by what is said of whom where
	epochs  map[view][]int      // those that a node says it has
}

func newGossiping() *gossiping {
	return &gossiping{views: map[view][]seen{}, members: map[string][]string{}, epochs: map[view][]int{}}
}

// saw notes something that is not what was said before.
func (g *gossiping) saw(v view, s seen) {
	all := g.views[v]
	if len(all) == 0 || all[len(all)-1].what != s.what {
		g.views[v] = append(all, s)
	}
}

// sequence is what was said one after the other, and settled is that without what is passing.
func sequence(all []seen) string {
	var states []string
	for _, s := range all {
		states = append(states, s.what)
	}
	return strings.Join(states, ", ")
}

func settled(all []seen) (left []seen) {
	for _, s := range all {
		if !slices.Contains(passing, s.what) && (len(left) == 0 || left[len(left)-1].what != s.what) {
			left = append(left, s)
		}
	}
	return left
}

// isWithin reports whether what was seen is part of what was gone through, in its order.
func isWithin(part, whole []seen) bool {
	for _, s := range whole {
		if len(part) > 0 && part[0].what == s.what {
			part = part[1:]
		}
	}
	return len(part) == 0
}

// gossipTimeline plays the timeline of a cluster's gossip to an embedded one: the same happens to its nodes, and each is asked all
// the time. What each says of each has to be the same in the same order, but for what passes quickly; a node's own word, which is
// heard at once, has that too. What a document says of a member has to be as recorded of one in this state.
type gossipTimeline struct {
	*playing
	lines   []gossipLine
	network *memnet.Network
	cluster *server.Cluster
	clients [3]*http.Client
	began   time.Time
	ours    *gossiping
	prefers int
	often   time.Duration // until when the nodes are asked often
	before  [3][]byte     // what each node said before, without times
}

// readGossip reads the recording.
func readGossip(t *testing.T, rec *recording) []gossipLine {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(capturesDir, filepath.FromSlash(rec.path)))
	require.NoError(t, err)
	var lines []gossipLine
	for text := range bytes.Lines(b) {
		l := gossipLine{n: len(lines) + 1}
		require.NoError(t, json.Unmarshal(text, &l))
		lines = append(lines, l)
	}
	return lines
}

// replayGossip plays the recording in a bubble of its own.
func replayGossip(t *testing.T, rec *recording, lines []gossipLine) (p *playing) {
	t.Helper()
	for range 10 {
		elected := false
		synctest.Test(t, func(t *testing.T) {
			l := &gossipTimeline{playing: newPlaying(t, nil, rec, nil), lines: lines, network: memnet.New(), ours: newGossiping()}
			elected = l.play()
			p = l.playing
		})
		if elected {
			return p
		}
		t.Log("another node than the preferred one was elected: it is played again")
	}
	t.Fatal("the preferred nodes are not elected")
	return nil
}

// How often nodes are asked, in the first time after something has happened and later.
const (
	askOften   = 10 * time.Millisecond // no state takes less
	askSeldom  = 100 * time.Millisecond
	oftenUntil = 2500 * time.Millisecond
	oftenStart = 5 * time.Second // for a process that begins, and finds the others
)

// play plays the timeline. It reports false when another node was elected than in the recording.
func (p *gossipTimeline) play() bool {
	p.began = time.Now()
	recorded := newGossiping()
	phase := ""
	for i := range p.lines {
		l := &p.lines[i]
		p.askUntil(ms(l.Ms), phase, l.n)
		if l.Phase != "" && l.Phase != phase {
			phase = l.Phase
			p.before = [3][]byte{} // all that is said in it is new
		}
		switch {
		case l.Mark == "steady":
			p.often += electionSpread
			if leader, _ := p.cluster.Leader(); leader != l.Master-1 {
				// It may not be decided yet: the recorded elections were over then.
				p.askUntil(ms(l.Ms)+electionSpread, phase, l.n)
				if leader, _ = p.cluster.Leader(); leader != l.Master-1 {
					return false
				}
				p.began = p.began.Add(electionSpread)
			}
		case l.Mark != "":
			p.often = ms(l.Ms) + oftenUntil
			if strings.Contains(l.Mark, "started") {
				p.often = ms(l.Ms) + oftenStart
			}
			p.happen(i)
		default:
			p.record(recorded, l)
			p.begin(i)
		}
	}
	p.askUntil(time.Since(p.began)+3*time.Second, phase, len(p.lines))
	p.compareWith(recorded)
	return true
}

// askUntil asks all nodes again and again.
func (p *gossipTimeline) askUntil(until time.Duration, phase string, n int) {
	p.t.Helper()
	for now := time.Since(p.began); now < until; now = time.Since(p.began) {
		p.ask(phase, n)
		every := askSeldom
		if now < p.often {
			every = askOften
		}
		time.Sleep(min(every, until-now))
		synctest.Wait()
	}
}

// begin starts nodes when the last of those that were started together has answered for the first time: a recorded process
// took some time until it was there, and ours do not.
func (p *gossipTimeline) begin(i int) {
	p.t.Helper()
	var last *gossipLine // what happened
	answered := map[int]bool{}
	for k := range p.lines[:i+1] {
		switch l := &p.lines[k]; {
		case l.Mark != "":
			last = l
			clear(answered)
		case l.answer() == "a document":
			answered[l.Node] = true
		}
	}
	if last == nil || !strings.Contains(last.Mark, "started") {
		return
	}
	nodes := last.Nodes
	switch {
	case last.Node != 0:
		nodes = []int{last.Node}
	case nodes == nil:
		nodes = []int{1, 2, 3}
	}
	for _, node := range nodes {
		if !answered[node] {
			return
		}
	}
	if p.cluster == nil {
		var err error
		p.cluster, err = server.StartCluster(3, server.Config{Listen: p.network.Listen, Dialect: p.rec.dialect()})
		require.NoError(p.t, err)
		p.t.Cleanup(func() { require.NoError(p.t, p.cluster.Close()) })
		p.prefer(i)
		for id := range p.clients {
			transport := &http.Transport{DialContext: p.network.Dial}
			p.clients[id] = &http.Client{Transport: transport}
			p.t.Cleanup(transport.CloseIdleConnections)
		}
	}
	for _, node := range nodes {
		if !p.cluster.Runs(node - 1) {
			require.NoError(p.t, p.cluster.Start(node-1))
		}
	}
}

// prefer prefers the node that leads when the cluster is steady again.
func (p *gossipTimeline) prefer(i int) {
	p.t.Helper()
	for _, next := range p.lines[i:] {
		if next.Mark == "steady" {
			p.prefers++
			require.NoError(p.t, p.cluster.Prefer(next.Master-1, p.prefers))
			return
		}
	}
}

// happen does what was done to a node.
func (p *gossipTimeline) happen(i int) {
	p.t.Helper()
	l := &p.lines[i]
	if p.cluster != nil {
		p.prefer(i)
	}
	switch l.Mark {
	case "nodes started", "dead node started again", "both slaves started again", "last node state":
	case "SIGKILL master", "SIGKILL slave", "SIGKILL second slave (quorum lost)":
		require.NoError(p.t, p.cluster.Kill(l.Node-1))
	case "POST /admin/shutdown to master":
		t := &timeline{playing: p.playing, network: p.network, cluster: p.cluster}
		require.NoError(p.t, t.shutdown(l.Node-1))
	default:
		p.problem("line %d: %q is nothing that can be played", l.n, l.Mark)
	}
}

// record takes up a line of the recording.
func (p *gossipTimeline) record(to *gossiping, l *gossipLine) {
	p.t.Helper()
	if l.answer() != "a document" {
		to.saw(view{l.Phase, l.Node, 0}, seen{l.n, ms(l.Ms), l.answer()})
		return
	}
	b, err := os.ReadFile(filepath.Join(gossipDocuments, l.File))
	if errors.Is(err, os.ErrNotExist) {
		b = nil
	} else {
		require.NoError(p.t, err)
	}
	to.saw(view{l.Phase, l.Node, 0}, seen{l.n, ms(l.Ms), l.answer()})
	for i, m := range l.Members {
		member := len(l.Members) - i // the highest first
		port, state, _ := strings.Cut(m, " ")
		require.Contains(p.t, port, strconv.Itoa(member)) // 41n13, and 41n22 of a placeholder
		to.saw(view{l.Phase, l.Node, member}, seen{l.n, ms(l.Ms), strings.Replace(strings.TrimSuffix(state, " alive"), " dead", ", dead", 1)})
	}
	if b != nil {
		p.entries(to, l.Phase, l.Node, b, func(port int) string {
			n, kind := port/100%10, port%100
			if kind >= 20 {
				return fmt.Sprintf("http %d", n)
			}
			return fmt.Sprintf("tcp %d", n)
		})
	}
}

// ask asks all nodes.
func (p *gossipTimeline) ask(phase string, n int) {
	p.t.Helper()
	for id, client := range p.clients {
		answer := view{phase, id + 1, 0}
		now := time.Since(p.began)
		if client == nil { // nobody has started yet
			p.ours.saw(answer, seen{n, now, "nothing"})
			continue
		}
		r, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, p.cluster.HTTPURL(id)+"/gossip", http.NoBody)
		require.NoError(p.t, err)
		a, err := client.Do(r)
		if err != nil {
			p.ours.saw(answer, seen{n, now, "nothing"})
			continue
		}
		b, err := io.ReadAll(a.Body)
		_ = a.Body.Close()
		if err != nil || a.StatusCode != http.StatusOK {
			p.ours.saw(answer, seen{n, now, strconv.Itoa(a.StatusCode)})
			continue
		}
		p.ours.saw(answer, seen{n, now, "a document"})
		b = gossipTimes.ReplaceAll(b, []byte(`"a time"`))
		if bytes.Equal(b, p.before[id]) {
			continue
		}
		p.before[id] = b
		var document struct {
			Members []struct {
				State   string
				IsAlive bool
			}
		}
		require.NoError(p.t, json.Unmarshal(b, &document))
		for i, m := range document.Members {
			state := m.State
			if !m.IsAlive {
				state += ", dead"
			}
			p.ours.saw(view{phase, id + 1, len(document.Members) - i}, seen{n, now, state})
		}
		p.entries(p.ours, phase, id+1, b, p.portOf)
	}
}

// portOf names a port of ours. The nodes have one for clients and each other, and one for HTTP.
func (p *gossipTimeline) portOf(port int) string {
	for id := range p.clients {
		switch suffix := ":" + strconv.Itoa(port); {
		case strings.HasSuffix(p.cluster.NodeURL(id), suffix):
			return fmt.Sprintf("tcp %d", id+1)
		case strings.HasSuffix(p.cluster.HTTPURL(id), suffix):
			return fmt.Sprintf("http %d", id+1)
		}
	}
	return strconv.Itoa(port)
}

// What differs from run to run in what is said of a member. Priorities are ours: they decide on who is elected.
var (
	gossipPorts = regexp.MustCompile(`(Port)": ([1-9][0-9]*)`)
	gossipIDs   = regexp.MustCompile(`"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f-]{21}"`)
	gossipTimes = regexp.MustCompile(`"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,7})?Z"`)
	gossipBytes = regexp.MustCompile(`(Position|Checkpoint|epochNumber)": -?\d+|(epochId)": "[^"]*"`)
	gossipPrefs = regexp.MustCompile(`nodePriority": \d+`)
)

// entries takes up what a document says of each member, as it stands there but for what differs from run to run.
func (p *gossipTimeline) entries(to *gossiping, phase string, node int, b []byte, port func(int) string) {
	p.t.Helper()
	var document struct{ Members []json.RawMessage }
	require.NoError(p.t, json.Unmarshal(b, &document))
	for i, raw := range document.Members {
		var m struct {
			State       string
			IsAlive     bool
			EpochNumber int
		}
		require.NoError(p.t, json.Unmarshal(raw, &m))
		if len(document.Members)-i == node {
			v := view{phase, node, node}
			if !slices.Contains(to.epochs[v], m.EpochNumber) {
				to.epochs[v] = append(to.epochs[v], m.EpochNumber)
			}
		}
		var text bytes.Buffer
		require.NoError(p.t, json.Indent(&text, raw, "", ""))
		entry := gossipPorts.ReplaceAllStringFunc(text.String(), func(s string) string {
			n, err := strconv.Atoi(s[strings.LastIndexByte(s, ' ')+1:])
			require.NoError(p.t, err)
			return `Port": "` + port(n) + `"`
		})
		entry = gossipIDs.ReplaceAllString(entry, `"an id"`)
		entry = gossipTimes.ReplaceAllString(entry, `"a time"`)
		if m.State != "Manager" { // when a log is how long is chance; that of a placeholder is not known
			entry = gossipBytes.ReplaceAllString(entry, `$1$2": "its own"`)
		}
		entry = gossipPrefs.ReplaceAllString(entry, `nodePriority": 0`)
		key := fmt.Sprintf("%s: node %d says of %d: %s %t", phase, node, len(document.Members)-i, m.State, m.IsAlive)
		if !slices.Contains(to.members[key], entry) {
			to.members[key] = append(to.members[key], entry)
		}
	}
}

// withoutChance leaves out what may have been seen or not.
func (p *gossipTimeline) withoutChance(v view, all []seen) []seen {
	return settled(slices.DeleteFunc(all, func(s seen) bool { return mayBe(p.rec.chances, v.String(), s.what) }))
}

// compareWith compares what was said.
func (p *gossipTimeline) compareWith(recorded *gossiping) {
	for v, r := range recorded.views {
		o := p.ours.views[v]
		p.compared++
		rs, os := p.withoutChance(v, settled(r)), p.withoutChance(v, settled(o))
		switch {
		case sequence(rs) != sequence(os):
			p.differs(r[0].n, v.String(), sequence(rs), sequence(os))
		case v.member == v.node && !isWithin(r, o):
			p.differs(r[0].n, v.String()+" in passing", sequence(r), sequence(o))
		default:
			for i := range rs {
				if off := os[i].at - rs[i].at; i > 0 && (off < -electionSpread-p.rec.loose || off > electionSpread+p.rec.loose) {
					p.differs(rs[i].n, v.String()+", "+rs[i].what+" from", inMs(rs[i].at), inMs(os[i].at))
				}
			}
		}
	}
	for v, numbers := range recorded.epochs {
		for _, number := range numbers {
			if ours := p.ours.epochs[v]; !slices.Contains(ours, number) {
				p.differs(recorded.views[v][0].n, v.String()+", epochs", fmt.Sprint(numbers), fmt.Sprint(ours))
			}
			p.compared++
		}
	}
	met := 0
	for key, entries := range recorded.members {
		for _, entry := range entries {
			ours, ok := p.ours.members[key]
			if !ok {
				continue // it passes quickly, or is among the differences above
			}
			met++
			if !slices.Contains(ours, entry) {
				p.differs(0, key, entry, strings.Join(ours, " or "))
			}
		}
	}
	p.compared += met
	p.t.Logf("%d entries of members compared", met)
}
