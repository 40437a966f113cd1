package conformance_test

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/goeventstore/eventstore/messages"
)

// The recorded server's timers fire late, and what is late is not made up for: its heartbeat requests and closes came 1 ms
// (the first check) to 57 ms (after 17 s) behind the grid of 2 s and 1 s that ours keep, most of them by some 0.2 % of the time
// since the connect. The client's lines were sent by a good clock, so that some fell before a check which by their own
// time they are behind. Therefore the clock of a recording is taken to be fast by this much, and what the server sends may
// be early or late by twice what remains, 30 ms. It is far less than the second between two decisions of the server.
const (
	recordedRate = 0.998
	tolerance    = 60 * time.Millisecond
)

// timedPlayer plays a recording in virtual time, inside a bubble of testing/synctest: each line of the client is sent when
// it was recorded, and all that the server sends, its heartbeats among it, must come when it came, in the order of its
// connection; and so must the end of the connection. No heartbeat is answered unless the recording has it answered.
//
// A line that the server's last one was recorded before is not sent before that has come, since it may be the answer to it.
type timedPlayer struct {
	*playing
	began   time.Time
	now     time.Duration // the recorded time that is played
	conns   map[string]*timedConn
	names   []string // of the connections, in their order
	pending []*line  // what the server still has to say
}

// timedConn is one connection.
type timedConn struct {
	*peer
	beats map[messages.ID]messages.ID // ours of each recorded request
	nth   int                         // of the last frame that was recorded too
	n     int                         // the last line
	ended bool
}

func newTimedPlayer(tb testing.TB, srv dialer, rec *recording, lines []line) *timedPlayer {
	tb.Helper()
	return &timedPlayer{playing: newPlaying(tb, srv, rec, lines), began: time.Now(), conns: map[string]*timedConn{}}
}

// tolerance is how early or late the server may be.
func (p *timedPlayer) tolerance() time.Duration { return tolerance + p.rec.loose }

// play plays all lines. What it found is in found and problems.
func (p *timedPlayer) play() {
	p.t.Helper()
	for i := range p.lines {
		l := &p.lines[i]
		p.now = max(p.now, scaled(l))
		c := p.conns[l.conn]
		switch {
		case p.skip(l, false):
		case l.kind == remark, l.kind == silence, l.kind == stuck: // what comes after all is too much
		case l.kind == connected:
			p.sleep(p.now)
			p.conns[l.conn] = &timedConn{peer: dial(p.t, p.srv, true, nil), beats: map[messages.ID]messages.ID{}, n: l.n}
			p.names = append(p.names, l.conn)
		case l.kind == beyond:
			p.problem("line %d is nothing that can be played, and not left out", l.n)
		case c == nil:
			p.problem("line %d: the connection %q was not opened", l.n, l.conn)
		case l.kind == reply:
			if !p.out[l.exchange()] {
				p.pending = append(p.pending, l)
			}
		default:
			p.settle(l.conn)
			p.sleep(p.now)
			p.act(c, l)
		}
	}
	p.sleep(p.now + p.tolerance())
	p.settle(p.names...)
	for _, name := range p.names {
		if c := p.conns[name]; !c.ended {
			p.stillOpen(c)
			p.extra(c)
		}
	}
	p.coverage()
}

// act does what the client did, or sees what the server did to the connection.
func (p *timedPlayer) act(c *timedConn, l *line) {
	p.t.Helper()
	c.n = l.n
	switch l.kind {
	case request:
		p.request(c, l)
	case rawBytes:
		if l.whole {
			p.asked[l.conn] = l.id
		}
		p.write(c, l, l.body)
	case serverClosed:
		p.serverCloses(c, l)
	default:
		p.stillOpen(c)
		c.ended = true
		_ = c.conn.Close()
		p.extra(c)
	}
}

func scaled(l *line) time.Duration {
	return time.Duration(l.ms * recordedRate * float64(time.Millisecond))
}

// recordedAt is a time of ours on the clock of the recording.
func recordedAt(at time.Duration) string {
	return fmt.Sprintf("%.0f ms", float64(at)/float64(time.Millisecond)/recordedRate)
}

// sleep sleeps until a time, which may be over, and all that happens by itself by then has happened.
func (p *timedPlayer) sleep(until time.Duration) {
	time.Sleep(time.Until(p.began.Add(until)))
	synctest.Wait()
}

// left is the time until something that was recorded counts as missing.
func (p *timedPlayer) left(l *line) time.Duration {
	return max(0, time.Until(p.began.Add(scaled(l)+p.tolerance()+1)))
}

// when compares a time with the recorded one.
func (p *timedPlayer) when(l *line, at time.Time) {
	ours := at.Sub(p.began)
	if off := ours - scaled(l); off < -p.tolerance() || off > p.tolerance() {
		p.differs(l.n, "time", recordedAt(scaled(l)), recordedAt(ours))
	}
}

func (p *timedPlayer) write(c *timedConn, l *line, b []byte) {
	p.t.Helper()
	if err := c.tryWrite(b); err != nil {
		p.problem("%s could not be sent: %v", l, err)
	}
}

func (p *timedPlayer) request(c *timedConn, l *line) {
	p.t.Helper()
	if p.out[l.exchange()] {
		return
	}
	body, err := p.bodyOf(l)
	if err != nil {
		p.problem("%s: %v", l, err)
		return
	}
	p.asked[l.conn] = l.id
	asked := *l
	if id, ok := c.beats[l.id]; ok && l.command == messages.HeartbeatResponse {
		asked.id = id
	}
	p.write(c, l, asked.encode(body))
	p.known.round++
}

// settle waits for what was recorded on some connections, and compares it with what came. Of the others it takes what has
// come.
func (p *timedPlayer) settle(conns ...string) {
	p.t.Helper()
	var later []*line
	waiting := map[exchange]bool{} // what comes now is for the line that waits, not for one behind it
	for _, l := range p.pending {
		if waiting[l.exchange()] {
			later = append(later, l)
			continue
		}
		c := p.conns[l.conn]
		wait := time.Duration(0)
		if slices.Contains(conns, l.conn) {
			wait = p.left(l)
		}
		a, err := c.takeArrival(wait, c.fits(l))
		switch {
		case err == nil:
			p.came(c, l, a)
		case errors.Is(err, errNothing) && p.left(l) > 0:
			later = append(later, l)
			waiting[l.exchange()] = true
		default:
			p.differs(l.n, "frame", l.command.String(), none)
		}
	}
	p.pending = later
}

// fits tells what can be the recorded frame: the one with its id, but that of a heartbeat request is the server's.
func (c *timedConn) fits(l *line) func(answer) bool {
	if l.command == messages.HeartbeatRequest {
		return func(a answer) bool { return a.command == messages.HeartbeatRequest }
	}
	return withID(l.id)
}

func (p *timedPlayer) came(c *timedConn, l *line, a arrival) {
	p.when(l, a.at)
	if !p.raced(l) {
		if a.nth < c.nth {
			p.differs(l.n, "order", "as it stands", "earlier")
		}
		c.nth = max(c.nth, a.nth)
	}
	c.n = max(c.n, l.n)
	if l.command == messages.HeartbeatRequest {
		c.beats[l.id] = a.id
	}
	p.compare(l, a.answer)
}

// serverCloses checks that the server ends a connection when and how it did.
func (p *timedPlayer) serverCloses(c *timedConn, l *line) {
	p.t.Helper()
	c.ended = true
	nothing := func(answer) bool { return false }
	_, err := c.takeArrival(p.left(l), nothing)
	if errors.Is(err, errNothing) {
		p.differs(l.n, "connection", l.how, "open")
		_ = c.conn.Close()
	} else {
		p.when(l, c.endedAt)
		if how := ending(err); how != l.how {
			p.differs(l.n, "connection", l.how, how)
		}
	}
	p.lastWords(l.conn, c.peer)
	p.extra(c)
}

// ending is how recordings call the end of a connection.
func ending(err error) string {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "server closed (FIN)"
	}
	return "server closed (RST)"
}

// stillOpen checks that the server has not closed a connection.
func (p *timedPlayer) stillOpen(c *timedConn) {
	p.t.Helper()
	if _, err := c.take(0, func(answer) bool { return false }); !errors.Is(err, errNothing) {
		p.differs(c.n, "connection", "open", ending(err))
	}
}

// extra reports what came on a connection that has ended and was not recorded. A heartbeat that came so shortly before the
// end may have been too late for the recording.
func (p *timedPlayer) extra(c *timedConn) {
	p.t.Helper()
	for _, a := range c.rest() {
		if a.command == messages.HeartbeatRequest && a.at.After(p.began.Add(p.now-p.tolerance())) {
			continue
		}
		p.differs(c.n, "frame", none, a.command.String())
	}
}
