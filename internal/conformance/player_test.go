package conformance_test

import (
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/goeventstore/eventstore/messages"
)

// player plays a recording to a server. A request is sent when all answers that were recorded before it have come, and
// what was sent without waiting then is sent in one segment now. Of requests on two connections the first reaches the server first.
// The order of the answers is that of each correlation id.
//
// What cannot be played yet is left out; see playing.
type player struct {
	*playing
	peers   map[string]*peer
	beats   map[exchange]bool        // the server's heartbeats, which the peer answers by itself
	missing map[exchange]bool        // an answer did not come: do not wait for the next
	last    map[exchange]int         // the last frame that was played
	lastOf  map[string]int           // the last line that was sent on a connection
	open    map[exchange]bool        // subscriptions
	sent    map[string]bool          // connections with requests that may not have reached the server
	unsent  map[string][]byte        // what goes into the next segment of each connection
	pending []*line                  // answers that are due
	ended   map[string]bool          // connections that are closed
	deaf    map[string]chan struct{} // connections whose client does not read, until theirs is closed
	web     httpPlayer
	ready   func()                   // waits until the next request may be sent, nil if it always may
	at      func(conn string) dialer // where a connection of this name leads to, nil for the server
}

func newPlayer(tb testing.TB, srv dialer, rec *recording, lines []line) *player {
	tb.Helper()
	return &player{
		playing: newPlaying(tb, srv, rec, lines), peers: map[string]*peer{},
		beats: map[exchange]bool{}, missing: map[exchange]bool{}, last: map[exchange]int{}, lastOf: map[string]int{},
		open: map[exchange]bool{}, sent: map[string]bool{}, unsent: map[string][]byte{}, ended: map[string]bool{},
		deaf: map[string]chan struct{}{}, web: httpPlayer{t: tb, ids: map[string]string{}},
	}
}

// play plays all lines. What it found is in found and problems.
func (p *player) play() {
	p.t.Helper()
	if len(p.rec.before) > 0 {
		p.problems = append(p.problems, p.rec.storedBefore(p.asker())...)
	}
	before := 0.0 // when the line before was recorded, but for remarks
	for i := range p.lines {
		l := &p.lines[i]
		if fromClient := l.kind == request || l.kind == rawBytes; fromClient && len(p.pending) > 0 {
			p.settle()
		}
		switch _, played := p.last[l.exchange()]; {
		case p.skip(l, played):
		case l.kind == connected:
			p.settle()
			p.peer(l.conn)
		case l.kind == request:
			p.reachOthers(l.conn)
			if l.ms-before > pause {
				p.rest(l.conn)
			}
			p.request(l)
		case l.kind == reply && l.command == messages.HeartbeatRequest:
			p.beats[l.exchange()] = true
		case l.kind == reply && !p.out[l.exchange()]:
			p.pending = append(p.pending, l)
		case l.kind == rawBytes:
			p.settle()
			if l.whole {
				p.last[l.exchange()], p.asked[l.conn] = l.n, l.id
			}
			p.write(l, l.body)
		case l.kind == serverClosed:
			p.settle()
			p.serverCloses(l)
		case l.kind == silence:
			p.settle()
			p.reach(l.conn)
		case l.kind == sendFailed:
			p.settle()
			p.sendInVain(l)
		case l.kind == stuck:
			p.settle()
			p.abandon(l)
		case l.kind == clientClosed:
			p.settle()
			p.finish(l.conn)
		case l.kind == overHTTP:
			p.overHTTP(i)
		case l.kind == beyond:
			p.problem("line %d is nothing that can be played, and not left out", l.n)
		}
		if l.kind != remark {
			before = l.ms
		}
	}
	p.settle()
	for _, conn := range p.conns() {
		p.finish(conn)
	}
	p.coverage()
}

// pause is for how many ms the recorded client was idle, so that a server had done by then what it does by itself.
const pause = 200

// rest waits for what the server writes by itself: it does so before it refuses a write that comes later.
func (p *player) rest(conn string) {
	p.t.Helper()
	p.settle()
	if p.sent[conn] {
		p.reach(conn)
	}
	p.written()
}

// written returns when all is written that was to be.
func (p *player) written() {
	p.t.Helper()
	p.asker().call(&messages.Append{Stream: "nobody-writes-this", Expected: 1 << 30, RequireLeader: true})
}

// overHTTP plays a request by HTTP. Its line stands where it was answered, behind what came of it on other connections by then.
func (p *player) overHTTP(i int) {
	p.t.Helper()
	l := &p.lines[i]
	if p.web.url = p.srv.HTTPURL(); p.web.url == "" {
		p.problem("line %d is of HTTP, which the server has not", l.n)
		return
	}
	for conn := range p.sent {
		p.reach(conn)
	}
	p.settleThose(func(l *line) bool { return !pushed(l.command) })
	p.written()
	p.compared++
	p.found = append(p.found, p.web.differences(l.http, p.web.send(l.http))...)
}

// conns are the names of the connections, in the order of the recording.
func (p *player) conns() []string {
	var names []string
	for i := range p.lines {
		if name := p.lines[i].conn; p.peers[name] != nil && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// peer is the connection of this name, dialled when it is needed.
func (p *player) peer(conn string) *peer {
	p.t.Helper()
	if p.peers[conn] != nil {
		return p.peers[conn]
	}
	srv := p.srv
	if p.at != nil {
		srv = p.at(conn)
	}
	if slices.ContainsFunc(p.lines, func(l line) bool { return l.conn == conn && l.kind == sendFailed }) {
		p.deaf[conn] = make(chan struct{})
		p.peers[conn] = dial(p.t, srv, false, p.deaf[conn])
	} else {
		p.peers[conn] = dialRaw(p.t, srv)
	}
	return p.peers[conn]
}

func (p *player) write(l *line, b []byte) {
	p.t.Helper()
	p.lastOf[l.conn] = l.n
	if err := p.peer(l.conn).tryWrite(b); err != nil && p.deaf[l.conn] == nil {
		p.problem("%s could not be sent: %v", l, err)
	}
}

func (p *player) request(l *line) {
	p.t.Helper()
	x := l.exchange()
	switch {
	case p.out[x]: // of an exchange that was left out
		return
	case l.command == messages.HeartbeatResponse && p.beats[x]:
		return
	}
	if p.ready != nil {
		p.ready()
	}
	body, err := p.bodyOf(l)
	if err != nil {
		p.problem("%s: %v", l, err)
		return
	}
	p.last[x], p.asked[l.conn] = l.n, l.id
	p.lastOf[l.conn] = l.n
	p.unsent[l.conn] = append(p.unsent[l.conn], l.encode(body)...)
	p.sent[l.conn] = true
}

// flush sends what was gathered for a connection.
func (p *player) flush(conn string) {
	p.t.Helper()
	if err := p.peer(conn).tryWrite(p.unsent[conn]); err != nil {
		p.problem("what came before line %d could not be sent: %v", p.lastOf[conn], err)
	}
	delete(p.unsent, conn)
}

// reach has what was sent on a connection reach the server. That it is answered is not needed, nor is it always good.
func (p *player) reach(conn string) {
	p.t.Helper()
	p.flush(conn)
	delete(p.sent, conn)
	c := p.peer(conn)
	id := c.id()
	_ = c.tryWrite(c.frame(id, ping("")))
	if _, err := c.take(p.wait, withID(id)); err != nil {
		p.problem("the connection %q does not answer: %v", conn, err)
	}
}

// reachOthers has what was sent on other connections reach the server first, as it did when it was recorded.
func (p *player) reachOthers(conn string) {
	p.t.Helper()
	for other := range p.sent {
		if other != conn {
			p.reach(other)
		}
	}
}

// settle waits for the answers that are due and compares them.
func (p *player) settle() {
	p.t.Helper()
	p.settleThose(func(*line) bool { return true })
	p.known.round++
}

// pushed reports whether a server sends this by itself, perhaps because of a request on another connection.
func pushed(c messages.Command) bool {
	return c == messages.StreamEventAppeared || c == messages.PersistentSubscriptionStreamEventAppeared || c == messages.SubscriptionDropped
}

// settleThose waits for some of the answers that are due. That a ping behind a write is answered does not say that the write
// is done: its own answer does.
func (p *player) settleThose(which func(*line) bool) {
	p.t.Helper()
	for conn := range p.unsent {
		p.flush(conn)
	}
	var later []*line
	for _, l := range p.pending {
		if !which(l) {
			later = append(later, l)
			continue
		}
		x := l.exchange()
		wait := p.wait
		if p.missing[x] {
			wait = 0
		}
		a, err := p.peer(l.conn).take(wait, withID(l.id))
		if err != nil {
			p.missing[x] = true
			p.differs(l.n, "frame", l.command.String(), none)
			continue
		}
		p.last[x] = l.n
		switch a.command {
		case messages.SubscriptionConfirmation:
			p.open[x] = true
		case messages.SubscriptionDropped:
			delete(p.open, x)
		default:
		}
		p.compare(l, a)
	}
	p.pending = later
}

// finish closes a connection, behind everything that the server still has to say on it.
func (p *player) finish(conn string) {
	p.t.Helper()
	c := p.peer(conn)
	if p.ended[conn] {
		return
	}
	p.ended[conn] = true
	delete(p.sent, conn)
	// Behind the drop of a subscription nothing of it can come. What comes before it is too much.
	for x := range p.open {
		if x.conn != conn {
			continue
		}
		_ = c.tryWrite(c.frame(x.id, messages.Raw(messages.UnsubscribeFromStream, nil)))
		_, _ = c.take(p.wait, func(a answer) bool { return a.id == x.id && a.command == messages.SubscriptionDropped })
	}
	p.reach(conn)
	_ = c.conn.Close()
	p.extra(conn)
}

// sendInVain sends until the server has cut a client that does not read.
func (p *player) sendInVain(l *line) {
	p.t.Helper()
	c := p.peer(l.conn)
	pace := time.NewTicker(time.Millisecond)
	defer pace.Stop()
	for end := time.Now().Add(p.wait); c.tryWrite(c.frame(c.id(), ping(""))) == nil; <-pace.C {
		if time.Now().After(end) {
			p.differs(l.n, "connection", "closed", "open")
			return
		}
	}
}

// abandon closes a connection that is in the middle of a frame, so that nothing can be asked on it.
func (p *player) abandon(l *line) {
	p.t.Helper()
	p.ended[l.conn] = true
	delete(p.sent, l.conn)
	c := p.peer(l.conn)
	if _, err := c.take(0, func(answer) bool { return false }); err != nil && !errors.Is(err, errNothing) {
		p.differs(l.n, "connection", "open", "closed")
	}
	_ = c.conn.Close()
	p.extra(l.conn)
}

// extra reports what came and was not recorded, but for what answers a request of ours.
func (p *player) extra(conn string) {
	p.t.Helper()
	for _, a := range p.peers[conn].ended() {
		x := exchange{conn, a.id}
		if p.unasked(x) {
			continue
		}
		n := p.last[x]
		if n == 0 {
			n = p.lastOf[conn]
		}
		p.differs(n, "frame", none, a.command.String())
	}
}

// serverCloses checks that the server ends a connection, and what it said before.
func (p *player) serverCloses(l *line) {
	p.t.Helper()
	p.ended[l.conn] = true
	delete(p.sent, l.conn)
	c := p.peer(l.conn)
	begin, deaf := p.deaf[l.conn]
	if deaf {
		close(begin)
	}
	if _, err := c.take(p.wait, func(answer) bool { return false }); !isEnd(err) {
		p.differs(l.n, "connection", "closed", "open")
		_ = c.conn.Close()
	}
	p.lastWords(l.conn, c)
	if !deaf { // how much was on the way to it is chance
		p.extra(l.conn)
	}
}

// isEnd reports whether reading ended as it does when the peer closes: with the end of the stream or a reset.
func isEnd(err error) bool {
	var netErr net.Error
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &netErr) && !netErr.Timeout()
}
