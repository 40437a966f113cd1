package eventstoretest

import (
	"bytes"
	"errors"
	"io"
	"net"
	"time"

	"github.com/goeventstore/eventstore/messages"
)

const (
	readSize = 64 << 10
	keepSize = 1 << 20 // a larger buffer is given back after use
)

// side is one socket of a link.
type side struct {
	net.Conn
	// turn holds a value while somebody writes to the socket or has written a part of a frame: whoever put it in takes
	// it out again. A channel and not a mutex, because in a bubble of synctest a wait for a mutex stops the time.
	turn chan struct{}
}

func newSide(c net.Conn) *side { return &side{Conn: c, turn: make(chan struct{}, 1)} }

// pump moves the frames of one link in one direction. Its goroutine is the only one to read from `from`; it shares the
// writing to `to` with the other pump, whose interceptors may answer, and the writing to `from` likewise.
//
// A frame passes when the whole of it is there and was looked at. While there are no interceptors, its bytes pass as they
// come: a large frame on a slow line is a sign of life behind the proxy too.
//
// The end of a side is told to the other by the pump that reads it, and by it alone. A pump whose writes fail therefore
// only reads on, to nowhere: what the failed side had sent before it ended is still delivered.
type pump struct {
	link       *link
	from, to   *side
	fromServer bool

	reader *messages.Reader
	kept   []byte // what was read and is still needed
	seen   int    // index in kept: the end of the last frame that the reader returned
	passed int    // index in kept: what has passed. Before seen, frames are decided; behind it, a frame has begun to pass
	number int    // of frames seen
	inside bool   // this pump holds the turn of `to`, as it has written a part of a frame
	done   bool   // run returned by itself, and not because an interceptor ended its goroutine
}

func newPump(l *link, from, to *side, fromServer bool) *pump {
	p := &pump{link: l, from: from, to: to, fromServer: fromServer}
	p.reader = messages.NewReader(keeper{p}, readSize)
	return p
}

// errNotPassed says that what was read could not be written.
var errNotPassed = errors.New("not passed")

// keeper is the source of the reader's bytes. It keeps them, so that frames pass as they came and what is no frame can
// pass at all, and it passes what needs no more looking at before it waits for more.
type keeper struct{ p *pump }

func (k keeper) Read(b []byte) (int, error) {
	p := k.p
	upTo := p.seen
	if p.passed > p.seen || len(p.interceptors()) == 0 {
		upTo = len(p.kept)
	}
	if !p.pass(upTo) {
		return 0, errNotPassed
	}
	p.compact()
	n, err := p.read(b)
	p.kept = append(p.kept, b[:n]...)
	return n, err
}

// read reads from the side that this pump reads, no faster than it shall.
func (p *pump) read(b []byte) (int, error) {
	const turns = 10 // a second
	rate := &p.link.proxy.rate
	if most := rate.Load(); most > 0 {
		b = b[:min(int64(len(b)), max(most/turns, 1))]
	}
	n, err := p.from.Read(b)
	most := rate.Load() // it may have changed since
	if err == nil && most > 0 && !p.link.wait(time.Duration(n)*time.Second/time.Duration(most)) {
		err = errNotPassed
	}
	return n, err
}

func (p *pump) compact() {
	drop := min(p.passed, p.seen)
	if drop == 0 {
		return
	}
	p.kept = p.kept[:copy(p.kept, p.kept[drop:])]
	p.passed -= drop
	p.seen -= drop
	if len(p.kept) == 0 && cap(p.kept) > keepSize {
		p.kept = nil
	}
}

func (p *pump) interceptors() []*interceptor { return *p.link.proxy.interceptors.Load() }

// run moves frames until its side ends or the link is severed.
func (p *pump) run() {
	defer func() {
		if !p.done { // a test's FailNow in an interceptor ends this goroutine
			p.link.sever()
		}
	}()
	all := p.frames()
	if p.inside {
		<-p.to.turn
	}
	if !all {
		_, _ = io.Copy(io.Discard, p.from)
	}
	p.done = true
}

// frames returns false when what still comes is to be read to nowhere.
func (p *pump) frames() bool {
	for {
		f, err := p.reader.Next()
		if err != nil {
			return p.end(err)
		}
		start := p.seen
		p.seen = len(p.kept) - p.reader.Buffered()
		p.number++
		if !p.link.open() {
			return false
		}
		interceptors := p.interceptors()
		if len(interceptors) == 0 || p.passed > start {
			p.trace(&f, pass)
			continue // keeper passes it, together with those behind it
		}
		if !p.pass(start) {
			return false
		}
		fault := p.decide(interceptors, &f)
		p.trace(&f, fault.kind)
		if fault.kind != pass {
			p.passed = p.seen // by itself
		}
		if more, all := p.apply(&f, p.kept[start:p.seen], fault); !more {
			return all
		}
	}
}

// pass writes what is kept, up to an index, and reports whether it could.
func (p *pump) pass(upTo int) bool {
	if upTo <= p.passed {
		return true
	}
	if !p.link.open() || !p.inside && !p.enter(p.to) {
		return false
	}
	_, err := p.to.Write(p.kept[p.passed:upTo])
	p.passed = upTo
	p.inside = p.passed > p.seen
	if !p.inside {
		<-p.to.turn
	}
	return err == nil
}

// write writes whole frames to one of the sides, and reports whether it could.
func (p *pump) write(to *side, b []byte) bool {
	if len(b) == 0 {
		return true
	}
	if !p.link.open() || !p.enter(to) {
		return false
	}
	_, err := to.Write(b)
	<-to.turn
	return err == nil
}

// enter takes the turn of a side; false when the link was severed meanwhile.
func (p *pump) enter(to *side) bool {
	select {
	case to.turn <- struct{}{}:
		return true
	case <-p.link.severed:
		return false
	}
}

// decide asks the interceptors, in their order, each with a copy of its own.
func (p *pump) decide(interceptors []*interceptor, f *messages.Frame) Fault {
	for _, i := range interceptors {
		if i.removed.Load() {
			continue
		}
		fault := i.decide(&Frame{
			Command:    f.Command,
			ID:         f.ID,
			FromServer: p.fromServer,
			Conn:       p.link.number,
			Number:     p.number,
			Login:      string(f.Login),
			Password:   string(f.Password),
			Body:       bytes.Clone(f.Body),
		})
		if fault.kind != pass {
			return fault
		}
	}
	return Pass
}

// apply does to a frame what was decided. Without more to move, all says that this direction is done with; else the rest is
// to be read to nowhere.
func (p *pump) apply(f *messages.Frame, raw []byte, fault Fault) (more, all bool) {
	switch fault.kind {
	case drop:
		return true, false
	case delay:
		return p.link.wait(fault.delay) && p.write(p.to, raw), false
	case duplicate:
		return p.write(p.to, append(bytes.Clone(raw), raw...)), false
	case replace:
		const header = 4 + 18
		return p.write(p.to, p.make(f, raw[header:len(raw)-len(f.Body)], fault)), false
	case answer:
		return p.write(p.from, p.make(f, nil, fault)), false
	case cut:
		return false, p.cut(nil)
	case cutAfter:
		return false, p.cut(raw)
	default: // pass
		return p.pass(p.seen), false
	}
}

// cut ends the link, with a last frame to the receiver if there is one; it returns as frames does. The receiver is not
// reset: that could discard what it has not read yet. The other pump reads on, to nowhere, until the receiver ends its side.
//
// The sender goes first. Otherwise the receiver could answer the last frame, and the other pump pass the answer, before
// the link is severed.
func (p *pump) cut(last []byte) bool {
	if !p.link.open() || !p.enter(p.to) {
		return false
	}
	p.link.markCut()
	reset(p.from.Conn)
	if len(last) > 0 {
		_, _ = p.to.Write(last)
	}
	closeWrite(p.to.Conn)
	<-p.to.turn
	return true
}

// make makes the frame of a Replace or an Answer. One that is too large for the protocol is lost, with a note.
func (p *pump) make(f *messages.Frame, credentials []byte, fault Fault) []byte {
	b := messages.AppendFrameStart(nil, fault.command, f.ID, credentials)
	b, err := messages.EndFrame(append(b, fault.body...), 0)
	if err != nil {
		p.note(err.Error())
	}
	return b
}

// end handles what ended the frames of this direction; it returns as frames does. What has not passed yet passes first: a
// part of a frame, or what is none.
func (p *pump) end(err error) bool {
	if !p.link.open() {
		return false // whoever severed it did the rest
	}
	switch {
	case errors.Is(err, errNotPassed):
		return false
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		if !p.pass(len(p.kept)) {
			return false
		}
		p.note("end of stream")
		closeWrite(p.to.Conn)
	case errors.Is(err, messages.ErrMalformed), errors.Is(err, messages.ErrFrameTooLarge):
		p.note("no frame from here on: " + err.Error())
		return p.end(p.bytes())
	default:
		p.note(err.Error())
		p.link.sever()
	}
	return true
}

// bytes moves bytes that are no frames, and returns why it stopped.
func (p *pump) bytes() error {
	b := make([]byte, readSize)
	for {
		if !p.pass(len(p.kept)) {
			return errNotPassed
		}
		n, err := p.read(b)
		p.kept = append(p.kept[:0], b[:n]...)
		p.passed, p.seen = 0, -1 // for ever inside a frame
		if err != nil {
			return err
		}
	}
}

func (p *pump) note(what string) {
	p.link.proxy.trace.note(p.link.number, sides[p.fromServer]+": "+what)
}

func (p *pump) trace(f *messages.Frame, k kind) {
	p.link.proxy.trace.add(entry{
		conn: p.link.number, fromServer: p.fromServer, number: p.number,
		command: f.Command, id: f.ID, size: len(f.Body), fate: k,
	})
}
