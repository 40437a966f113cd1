package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore/messages"
)

// session is one connection: a goroutine that reads and serves, one that writes, and one that watches over the
// heartbeats. The socket's end ends all three, and the first cause is the one that is told.
type session struct {
	server *Server
	conn   net.Conn
	addr   string
	log    *slog.Logger

	out      *output
	received atomic.Int64  // bytes that came
	turns    atomic.Uint64 // of the read goroutine, between waiting for the peer, when it is odd, and serving it
	framed   atomic.Bool   // a whole frame came
	version  atomic.Uint32 // of IdentifyClient: 0 has 32-bit numbers, 1 has 64-bit ones, all else is of no use (4.17)

	cause   atomic.Pointer[error]
	stop    chan struct{}  // closed by end; nobody sends
	running sync.WaitGroup // the goroutines beside the reading one

	// Below is the read goroutine's own.
	reader   *messages.Reader
	frame    messages.Frame // the one at hand
	names    messages.Names
	scratch  []byte      // where small replies are made
	ids      []uuid.UUID // those of the ack at hand
	identity identity
	granted  grant
	// submitted is for the writer, which gets it once all that came together was taken, so that what a client sends in one
	// segment is decided together.
	submitted []*request
	subs      map[messages.ID]*subscription // the last one of each id, which is the one that can be removed
	orphans   []*subscription               // earlier ones of the same id, which deliver until the connection ends
}

const (
	readBuffer = 16 << 10
	// maxScratch is how much of a buffer is kept for the next reply.
	maxScratch = 64 << 10
)

func newSession(s *Server, conn net.Conn) *session {
	c := &session{
		server: s,
		conn:   conn,
		addr:   conn.RemoteAddr().String(),
		out:    newOutput(),
		stop:   make(chan struct{}),
		subs:   make(map[messages.ID]*subscription),
	}
	c.log = s.log.With(slog.String("addr", c.addr))
	c.reader = messages.NewReader((*countingReader)(c), readBuffer)
	return c
}

// start runs the session. The server waits for its goroutines.
func (c *session) start() {
	c.log.LogAttrs(context.Background(), slog.LevelInfo, "connection accepted")
	c.running.Go(c.writeLoop)
	c.running.Go(c.watch)
	c.server.accepting.Go(func() {
		c.readLoop()
		c.wakeWriter()
		c.running.Wait()
		c.unsubscribeAll()
		c.server.forget(c)
		c.log.LogAttrs(context.Background(), slog.LevelInfo, "connection ended", slog.Any("cause", c.endCause()))
	})
}

// end closes the connection for a cause, unless it has ended already. It does not wait.
func (c *session) end(cause error) {
	if c.cause.CompareAndSwap(nil, &cause) {
		close(c.stop)
		_ = c.conn.Close()
	}
}

func (c *session) endCause() error {
	if cause := c.cause.Load(); cause != nil {
		return *cause
	}
	return nil
}

// countingReader is the session as the source of its bytes.
type countingReader session

func (r *countingReader) Read(b []byte) (int, error) {
	r.turns.Add(1)
	n, err := r.conn.Read(b)
	r.turns.Add(1)
	r.received.Add(int64(n))
	return n, err
}

func (c *session) readLoop() {
	for {
		if len(c.submitted) > 0 && !c.reader.Ready() {
			c.wakeWriter()
		}
		var err error
		if c.frame, err = c.reader.Next(); err != nil {
			c.endReading(err)
			return
		}
		c.framed.Store(true)
		if err := c.handle(&c.frame); err != nil {
			c.endWith(err)
			return
		}
		if cap(c.scratch) > maxScratch {
			c.scratch = nil
		}
	}
}

var errPeerClosed = errors.New("the peer closed the connection")

// errProtocol is a fault of the peer that costs it the connection: a BadRequest is sent first (4.20).
type errProtocol struct {
	id   messages.ID // of the request, zero for what is no package
	text string
}

func (e errProtocol) Error() string { return e.text }

// endReading ends the session for what Next returned.
func (c *session) endReading(err error) {
	switch {
	case errors.Is(err, messages.ErrMalformed), errors.Is(err, messages.ErrFrameTooLarge):
		err = errProtocol{text: frameText(err)}
	case errors.Is(err, io.EOF):
		err = errPeerClosed
	}
	c.endWith(err)
}

// endWith ends the session once the peer was told why, or at once if that is no fault of the peer's.
func (c *session) endWith(err error) {
	var fault errProtocol
	if !errors.As(err, &fault) {
		c.end(err)
		return
	}
	frame := messages.AppendFrameStart(nil, messages.BadRequest, fault.id, nil)
	frame, _ = messages.EndFrame(append(frame, fault.text...), 0)
	c.out.finish(frame, fault)
}

// frameText is what a real server says of a frame (1.1) or of a package (1.2) that it cannot read.
func frameText(err error) string {
	if length := new(messages.LengthError); errors.As(err, &length) {
		return fmt.Sprintf("Invalid TCP frame received. Error: Package size is out of bounds: %d (max: %d)..",
			length.Length, messages.MaxFrame)
	}
	return "Received bad network package. Error: " + err.Error()
}

// reply sends an answer without a body, or with a text.
func (c *session) reply(command messages.Command, id messages.ID, body string) {
	b := messages.AppendFrameStart(c.scratch[:0], command, id, nil)
	c.send(append(b, body...))
}

// send finishes the frame that b holds alone and queues it. The session's scratch buffer is b from then on.
func (c *session) send(b []byte) {
	b, err := messages.EndFrame(b, 0)
	if err != nil { // no reply that is sent this way can be so large: pages are cut before
		c.end(err)
		return
	}
	c.queue(b)
	c.scratch = b
}

// queue queues a copy of a finished frame.
func (c *session) queue(frame []byte) {
	if err := c.out.send(frame); err != nil {
		c.end(err)
	}
}

// replyMessage sends an answer that is a generated message.
func (c *session) replyMessage(command messages.Command, id messages.ID, m proto.Message) error {
	frame, err := messages.AppendFrame(c.scratch[:0], id, nil, messages.Of(command, m))
	if err != nil {
		return err
	}
	c.queue(frame)
	c.scratch = frame
	return nil
}
