package chaos_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// wire is a network that listens at the server's end of each connection, behind whatever breaks lines, and writes down what is
// about groups. In virtual time an instant lasts until everybody has done what he can, so that what is written down then is what
// the server sent and got then. The order on one connection is exact, between two of one instant it is unknown.
type wire struct {
	eventstoretest.Network
	mangle mangle // a server that is broken on purpose; nil for none

	mu      sync.Mutex // guards what follows
	server  string     // the address that is listened to
	begun   time.Time
	names   map[*tapped]string
	members []*member
	byID    map[messages.ID]*member
	log     []seen
}

// mangle says what becomes of a frame: it is looked at last on its way to the server, and first on its way from there. It is
// called by one goroutine at a time.
type mangle func(f messages.Frame, raw []byte, fromServer bool) [][]byte

// member is a membership on the server: one correlation id.
type member struct {
	client    string // the name of its connection
	group     string
	window    int
	at        time.Duration // when it was asked for
	confirmed bool
	gone      time.Duration // when the first sign of its end was seen, or never
	dropped   bool          // by the server
	left      bool          // it unsubscribed
	conn      *tapped
	number    int // counted from 1
}

// never is later than anything.
const never = time.Duration(1<<63 - 1)

func (m *member) String() string { return fmt.Sprintf("member %d (%s)", m.number, m.client) }

type seenKind uint8

const (
	sawConnect seenKind = iota
	sawGone
	sawDelivery
	sawAnswer
)

// verb is what an answer says.
type verb string

const (
	acked   verb = "ack"
	parks   verb = "Park"
	retries verb = "Retry"
	skips   verb = "Skip"
	stops   verb = "Stop"
)

// seen is an entry of the log.
type seen struct {
	at   time.Duration
	kind seenKind
	m    *member
	id   uuid.UUID // of the original
	verb verb      // of an answer

	// Of a delivery:
	retries  int
	source   string // the stream and number of what it is about
	number   int64
	original string // the stream of the original
}

func (s seen) String() string {
	switch s.kind {
	case sawConnect:
		return fmt.Sprintf("%v %v of %s connects with a window of %d", s.at, s.m, s.m.group, s.m.window)
	case sawGone:
		return fmt.Sprintf("%v %v of %s is gone, dropped by the server: %t", s.at, s.m, s.m.group, s.m.dropped)
	case sawDelivery:
		return fmt.Sprintf("%v %v gets %s/%d of %s with %d retries, id %.8s", s.at, s.m, s.source, s.number, s.original, s.retries, s.id)
	default:
		return fmt.Sprintf("%v %v answers %s to %.8s", s.at, s.m, s.verb, s.id)
	}
}

func newWire(inner eventstoretest.Network, mangle mangle) *wire {
	return &wire{Network: inner, mangle: mangle, begun: time.Now(), names: make(map[*tapped]string), byID: make(map[messages.ID]*member)}
}

func (w *wire) listenTo(server string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.server = server
}

// Dial implements eventstoretest.Network.
func (w *wire) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := w.Network.Dial(ctx, network, addr)
	w.mu.Lock()
	listen := addr == w.server
	w.mu.Unlock()
	if err != nil || !listen {
		return c, err
	}
	return &tapped{Conn: c, wire: w}, nil
}

func (w *wire) mangled(f messages.Frame, raw []byte, fromServer bool) [][]byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mangle(f, raw, fromServer)
}

func (w *wire) now() time.Duration { return time.Since(w.begun) }

// current is the membership that a client asked for last.
func (w *wire) current(client, group string) *member {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range slices.Backward(w.members) {
		if m.client == client && m.group == group {
			return m
		}
	}
	return nil
}

func (w *wire) add(s seen) {
	s.at = w.now()
	w.log = append(w.log, s)
}

// fromClient takes a frame on its way to the server.
func (w *wire) fromClient(c *tapped, f messages.Frame) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch f.Command {
	case messages.IdentifyClient:
		var m pb.IdentifyClient
		if proto.Unmarshal(f.Body, &m) == nil {
			w.names[c] = m.GetConnectionName()
		}
	case messages.ConnectToPersistentSubscription:
		var p pb.ConnectToPersistentSubscription
		if proto.Unmarshal(f.Body, &p) != nil {
			return
		}
		m := &member{
			client: w.names[c], group: p.GetSubscriptionId(), window: int(p.GetAllowedInFlightMessages()),
			at: w.now(), gone: never, conn: c, number: len(w.members) + 1,
		}
		w.members = append(w.members, m)
		w.byID[f.ID] = m
	case messages.UnsubscribeFromStream:
		if m := w.byID[f.ID]; m != nil {
			m.left = true
			w.end(m)
		}
	case messages.PersistentSubscriptionAckEvents:
		var a messages.PersistentAck
		if m := w.byID[f.ID]; m != nil && a.Decode(f.Body, nil) == nil {
			for _, id := range a.IDs {
				w.add(seen{kind: sawAnswer, m: m, id: id, verb: acked})
			}
		}
	case messages.PersistentSubscriptionNakEvents:
		var n messages.PersistentNak
		if m := w.byID[f.ID]; m != nil && n.Decode(f.Body, nil) == nil {
			for _, id := range n.IDs {
				w.add(seen{kind: sawAnswer, m: m, id: id, verb: verb(n.Action.String())})
			}
		}
	default:
	}
}

// fromServer takes a frame that the server sent.
func (w *wire) fromServer(f messages.Frame) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := w.byID[f.ID]
	if m == nil {
		return
	}
	switch f.Command {
	case messages.PersistentSubscriptionConfirmation:
		m.confirmed = true
		w.add(seen{kind: sawConnect, m: m})
	case messages.PersistentSubscriptionStreamEventAppeared:
		var e messages.PersistentEvent
		if e.Decode(f.Body, nil) != nil {
			return
		}
		s := seen{kind: sawDelivery, m: m, retries: int(e.Retries)}
		about, original := &e.Event.Event, &e.Event.Link
		if !e.Event.HasLink {
			original = about
		}
		if !e.Event.HasEvent {
			about = original
		}
		s.id, s.original, s.source, s.number = original.ID, original.Stream, about.Stream, about.Number
		w.add(s)
	case messages.SubscriptionDropped:
		m.dropped = m.dropped || m.gone == never
		w.end(m)
	default:
	}
}

// end writes down that a membership has ended. It is called with mu held.
func (w *wire) end(m *member) {
	if m == nil || m.gone != never {
		return
	}
	m.gone = w.now()
	if m.confirmed || !m.dropped { // else it was refused
		w.add(seen{kind: sawGone, m: m})
	}
}

func (w *wire) ended(c *tapped) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range w.members {
		if m.conn == c {
			w.end(m)
		}
	}
}

// tapped is a connection to the server that is listened to. One goroutine reads and one writes.
type tapped struct {
	net.Conn
	wire    *wire
	out, in splitter
	owed    []byte // what was mangled and waits for a Read
}

func (c *tapped) Write(b []byte) (int, error) {
	var mangled []byte
	c.out.add(b, func(f messages.Frame, raw []byte) {
		c.wire.fromClient(c, f)
		if c.wire.mangle != nil {
			mangled = slices.Concat(mangled, slices.Concat(c.wire.mangled(f, raw, false)...))
		}
	})
	if c.wire.mangle == nil {
		n, err := c.Conn.Write(b)
		return n, c.failed(err)
	}
	if _, err := c.Conn.Write(mangled); err != nil {
		return 0, c.failed(err)
	}
	return len(b), nil
}

func (c *tapped) Read(b []byte) (int, error) {
	for c.wire.mangle != nil {
		if len(c.owed) > 0 {
			n := copy(b, c.owed)
			c.owed = c.owed[n:]
			return n, nil
		}
		n, err := c.Conn.Read(b)
		if err != nil {
			return 0, c.failed(err)
		}
		c.in.add(b[:n], func(f messages.Frame, raw []byte) {
			for _, raw := range c.wire.mangled(f, raw, true) {
				c.owed = append(c.owed, raw...)
				new(splitter).add(raw, func(f messages.Frame, _ []byte) { c.wire.fromServer(f) })
			}
		})
	}
	n, err := c.Conn.Read(b)
	c.in.add(b[:n], func(f messages.Frame, _ []byte) { c.wire.fromServer(f) })
	return n, c.failed(err)
}

func (c *tapped) failed(err error) error {
	if err != nil {
		c.wire.ended(c)
	}
	return err
}

func (c *tapped) Close() error {
	c.wire.ended(c)
	return c.Conn.Close()
}

// CloseWrite ends the stream to the server, which then ends the connection.
func (c *tapped) CloseWrite() error {
	c.wire.ended(c)
	return c.Conn.(interface{ CloseWrite() error }).CloseWrite()
}

// Reset breaks the connection.
func (c *tapped) Reset() {
	c.wire.ended(c)
	switch inner := c.Conn.(type) {
	case interface{ Reset() }:
		inner.Reset()
		return
	case interface{ SetLinger(sec int) error }:
		_ = inner.SetLinger(0)
	}
	_ = c.Conn.Close()
}

// splitter cuts a stream into its frames.
type splitter struct{ rest []byte }

func (s *splitter) add(b []byte, each func(f messages.Frame, raw []byte)) {
	const prefix = 4
	s.rest = append(s.rest, b...)
	for len(s.rest) >= prefix {
		n := prefix + int(binary.LittleEndian.Uint32(s.rest))
		if len(s.rest) < n {
			return
		}
		if f, err := messages.ParseFrame(s.rest[prefix:n]); err == nil {
			each(f, s.rest[:n:n])
		}
		s.rest = slices.Clone(s.rest[n:])
	}
}
