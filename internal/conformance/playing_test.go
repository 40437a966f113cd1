package conformance_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/goeventstore/eventstore/messages"
)

// playing is what the players have in common: what is played to whom, what the manifest says of it, and what was found.
//
// What cannot be played yet is left out: the lines of the ranges in the manifest, and all answers to the requests among
// them wherever they stand. For each such range the server is asked, on a connection of its own, whether it is still so.
// What a recording tells only in words is left out for good, unless the manifest has its bytes.
type playing struct {
	t     testing.TB
	srv   dialer
	wait  time.Duration // for an answer, before it counts as missing
	rec   *recording
	lines []line

	known *learned
	probe *peer
	out   map[exchange]bool      // left out
	asked map[string]messages.ID // the last request of each connection
	owned map[exchange]int       // of an own entry: which
	owns  []bool                 // for each of these whether something differs

	found    []difference
	problems []string
	compared int // frames
}

// exchange is all that has one correlation id on one connection.
type exchange struct {
	conn string
	id   messages.ID
}

func (l *line) exchange() exchange { return exchange{l.conn, l.id} }

func newPlaying(tb testing.TB, srv dialer, rec *recording, lines []line) *playing {
	tb.Helper()
	p := &playing{
		t: tb, srv: srv, rec: rec, wait: 10 * time.Second, known: newLearned(), out: map[exchange]bool{},
		asked: map[string]messages.ID{}, owned: map[exchange]int{}, owns: make([]bool, len(rec.owns)),
	}
	p.lines = p.withBytes(lines)
	for i := range p.lines {
		l := &p.lines[i]
		if k := slices.IndexFunc(p.rec.owns, func(o own) bool { return o.has(l.n) }); l.kind == request && k >= 0 {
			p.owned[l.exchange()] = k
		}
	}
	return p
}

func (p *playing) problem(format string, args ...any) {
	p.problems = append(p.problems, fmt.Sprintf(format, args...))
}

func (p *playing) differs(n int, field, recorded, ours string) {
	p.found = append(p.found, difference{n, field, recorded, ours})
}

// withBytes adds the lines for what the recording tells only in words, and the manifest in bytes.
func (p *playing) withBytes(lines []line) []line {
	lines = slices.Clone(lines)
	for _, said := range p.rec.bytes {
		i := slices.IndexFunc(lines, func(l line) bool { return l.n == said.n && l.conn != "" })
		if i < 0 {
			p.problem("bytes behind line %d: it has no connection", said.n)
			continue
		}
		for k, b := range said.bytes {
			add := line{n: said.n, kind: rawBytes, conn: lines[i].conn, ms: lines[i].ms + float64(k+1)*said.every, body: []byte{b}}
			at := i + 1
			for at < len(lines) && (lines[at].ms <= add.ms || lines[at].n == said.n) {
				at++
			}
			lines = slices.Insert(lines, at, add)
		}
	}
	return lines
}

// skip reports whether the manifest has a line left out, and asks the server whether it has to be. Played tells whether
// the line belongs to an exchange that has begun.
func (p *playing) skip(l *line, played bool) bool {
	p.t.Helper()
	if slices.ContainsFunc(p.rec.words, func(w inWords) bool { return w.has(l.n) }) {
		return true
	}
	i := slices.IndexFunc(p.rec.outs, func(o leftOut) bool { return o.has(l.n) })
	if i < 0 {
		return false
	}
	if isFrame := l.kind == request || l.kind == rawBytes && l.whole; isFrame && !played && !p.out[l.exchange()] {
		p.out[l.exchange()] = true
		if !l.made {
			p.ask(l, &p.rec.outs[i])
		}
	}
	return true
}

// ask asks the server, with a request that is left out, whether it has to be.
func (p *playing) ask(l *line, why *leftOut) {
	p.t.Helper()
	probe := p.asker()
	id := probe.id()
	frame := bytes.Clone(l.body)
	if l.kind == request {
		body, err := p.known.request(l)
		if err != nil {
			p.problem("%s: %v", l, err)
			return
		}
		frame = l.encode(body)
	}
	copy(frame[idAt:], id[:])
	// The pong comes behind the answer of a server that does not know the command.
	pinged := probe.id()
	probe.write(slices.Concat(frame, probe.frame(pinged, ping(""))))
	a, err := probe.take(p.wait, func(a answer) bool { return a.id == id || a.id == pinged })
	switch {
	case err != nil:
		p.problem("%s: no answer to %s: %v", why, l, err)
	case a.id == pinged:
		p.problem("%s: the server takes %s now, delete the entry", why, l)
	case !unsupported(l.command, a):
		p.problem("%s: the server answers %s now, with %s: delete the entry", why, l, a.command)
	}
}

// asker is a connection of our own, beside those of the recording.
func (p *playing) asker() *peer {
	p.t.Helper()
	if p.probe == nil {
		p.probe = dialPeer(p.t, p.srv)
	}
	return p.probe
}

// idAt is where the correlation id stands in a frame.
const idAt = 6

// unsupported reports whether the embedded server says that it does not serve the command.
func unsupported(command messages.Command, a answer) bool {
	return a.command == messages.BadRequest &&
		string(a.body) == fmt.Sprintf("Could not unwrap network package for command %d.\n", byte(command))
}

// bodyOf is what a request says here. The positions that one asks for whose answer is the server's own are from such an
// answer, and not the client's.
func (p *playing) bodyOf(l *line) ([]byte, error) {
	if _, owned := p.owned[l.exchange()]; owned {
		return p.known.clone().request(l)
	}
	return p.known.request(l)
}

// compare compares an answer with the recorded one, as far as that is not left to chance.
func (p *playing) compare(l *line, a answer) {
	p.compared++
	k, owned := p.owned[l.exchange()]
	switch {
	case l.command == a.command && owned:
		p.owns[k] = p.owns[k] || len(p.known.clone().compare(l, a)) > 0
	case l.command == a.command && p.raced(l):
	default:
		p.found = append(p.found, p.known.compare(l, a)...)
	}
}

// raced reports whether chance made an answer what it is.
func (p *playing) raced(l *line) bool {
	return slices.ContainsFunc(p.rec.races, func(r race) bool { return r.has(l.n) })
}

// lastWords takes the last thing that a server says before it closes a connection: why it does so, which has no id or that
// of the last request. Whether it arrives from a real server is chance: it need not have been recorded.
func (p *playing) lastWords(conn string, c *peer) {
	last := p.asked[conn]
	_, _ = c.take(0, func(a answer) bool {
		return a.command == messages.BadRequest && (a.id == messages.ID{} || a.id == last)
	})
}

// coverage checks that each entry leaves something out.
func (p *playing) coverage() {
	for _, left := range p.rec.outs {
		if !slices.ContainsFunc(p.lines, func(l line) bool {
			return left.has(l.n) && (l.kind == beyond || l.kind == rawBytes || l.kind == request && p.out[l.exchange()])
		}) {
			p.problem("%s: there is no request", left)
		}
	}
	for k, o := range p.rec.owns {
		if !p.owns[k] {
			p.problem("%s: nothing differs, delete the entry", o)
		}
	}
	for _, w := range p.rec.words {
		if !slices.ContainsFunc(p.lines, func(l line) bool { return w.has(l.n) && l.kind != remark }) {
			p.problem("%s: there is nothing to leave out", w)
		}
	}
	for _, r := range p.rec.races {
		if !slices.ContainsFunc(p.lines, func(l line) bool { return r.has(l.n) && l.kind == reply }) {
			p.problem("%s: there is no answer", r)
		}
	}
}

// unasked reports whether an exchange is one whose answers the recording need not have.
func (p *playing) unasked(x exchange) bool {
	return slices.ContainsFunc(p.lines, func(l line) bool { return l.made && l.exchange() == x })
}
