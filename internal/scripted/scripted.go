// Package scripted is a server that a test plays frame by frame, for answers that no real server gives on demand.
package scripted

import (
	"io"
	"net"
	"testing"

	"github.com/goeventstore/eventstore/internal/memnet"
	"github.com/goeventstore/eventstore/messages"
)

// Addr is where Listen listens in its network.
const Addr = "server:1113"

// Peer is the server's end of one connection. Its methods fail the test when the client does not play along.
type Peer struct {
	Conn   net.Conn
	Reader *messages.Reader
	Number int // counts the connections from 1

	tb testing.TB
}

// Listen plays a server at Addr of a network in memory: serve plays one connection after the other, each of which is closed
// when serve returns. The listener ends with the test.
func Listen(tb testing.TB, serve func(p *Peer)) *memnet.Network {
	tb.Helper()
	network := memnet.New()
	ListenOn(tb, network, Addr, serve)
	return network
}

// ListenOn is Listen at any address of a given network, for several servers.
func ListenOn(tb testing.TB, network *memnet.Network, addr string, serve func(p *Peer)) {
	tb.Helper()
	l, err := network.Listen("tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := 1; ; n++ {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			serve(&Peer{Conn: nc, Reader: messages.NewReader(nc, 0), Number: n, tb: tb})
			_ = nc.Close()
		}
	}()
	tb.Cleanup(func() { _ = l.Close(); <-done })
}

// Identified answers the handshake, then plays. A client that leaves before it has one is none to play with.
func Identified(play func(p *Peer)) func(p *Peer) {
	return func(p *Peer) {
		f, err := p.Reader.Next()
		if err != nil {
			return
		}
		if f.Command != messages.IdentifyClient {
			p.tb.Errorf("connection %d: the client sent %s, want IdentifyClient first", p.Number, f.Command)
		}
		b, _ := messages.AppendFrame(nil, f.ID, nil, messages.Raw(messages.ClientIdentified, nil))
		if _, err := p.Conn.Write(b); err != nil {
			return
		}
		play(p)
	}
}

// Drain reads until the client ends the connection.
func Drain(p *Peer) { _, _ = io.Copy(io.Discard, p.Conn) }

// Next returns the next frame, valid until the one after.
func (p *Peer) Next() messages.Frame {
	p.tb.Helper()
	f, err := p.Reader.Next()
	if err != nil {
		p.tb.Errorf("connection %d: %v", p.Number, err)
	}
	return f
}

// Want returns the next frame, which must be of this command.
func (p *Peer) Want(c messages.Command) messages.Frame {
	p.tb.Helper()
	f := p.Next()
	if f.Command != c {
		p.tb.Errorf("connection %d: the client sent %s, want %s", p.Number, f.Command, c)
	}
	return f
}

// Send sends a frame with a body.
func (p *Peer) Send(c messages.Command, id messages.ID, body string) {
	p.tb.Helper()
	p.SendRequest(id, messages.Raw(c, []byte(body)))
}

// SendRequest sends a frame with an encoded message.
func (p *Peer) SendRequest(id messages.ID, r messages.Request) {
	p.tb.Helper()
	b, err := messages.AppendFrame(nil, id, nil, r)
	if err != nil {
		p.tb.Error(err)
		return
	}
	if _, err := p.Conn.Write(b); err != nil {
		p.tb.Errorf("connection %d: send %s: %v", p.Number, r.Command(), err)
	}
}
