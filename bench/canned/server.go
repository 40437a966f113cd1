package canned

import (
	"encoding/binary"
	"net"
	"sync"

	"github.com/goeventstore/eventstore/messages"
)

const (
	readBuffer = 256 << 10
	headerSize = 4 + 18 // prefix, command, flags, correlation id
	commandAt  = 4
	idAt       = 6
)

// Server is a running canned server.
type Server struct {
	answers  *answers
	listener net.Listener
	running  sync.WaitGroup

	mu     sync.Mutex // guards what follows
	conns  map[net.Conn]struct{}
	closed bool
	came   counts // on connections that have ended
}

// counts are what came.
type counts struct {
	requests [256]int64 // by command
	acks     int64      // messages of a group that were acknowledged
}

func (c *counts) add(more *counts) {
	for command, n := range more.requests {
		c.requests[command] += n
	}
	c.acks += more.acks
}

// Serve answers what comes to l, until Close.
func Serve(l net.Listener, cfg Config) (*Server, error) {
	a, err := newAnswers(cfg)
	if err != nil {
		return nil, err
	}
	s := &Server{answers: a, listener: l, conns: make(map[net.Conn]struct{})}
	s.running.Go(s.accept)
	return s, nil
}

// Close ends the server and its connections, and returns when its last goroutine has ended.
func (s *Server) Close() error {
	err := s.listener.Close()
	s.mu.Lock()
	s.closed = true
	for c := range s.conns {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.running.Wait()
	return err
}

// Came returns how many requests with a command came on the connections that have ended; after Close, on all.
func (s *Server) Came(c messages.Command) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.came.requests[c]
}

// Acked returns how many messages of a group were acknowledged on the connections that have ended; after Close, on all.
func (s *Server) Acked() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.came.acks
}

func (s *Server) accept() {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.closed {
			_ = c.Close()
		}
		s.conns[c] = struct{}{}
		s.mu.Unlock()
		s.running.Go(func() {
			came := s.serve(c)
			_ = c.Close()
			s.mu.Lock()
			delete(s.conns, c)
			s.came.add(came)
			s.mu.Unlock()
		})
	}
}

// serve answers the requests of a connection until it ends, or sends what is no frame. It returns how many came.
func (s *Server) serve(conn net.Conn) *counts {
	c := connection{Conn: conn, answers: s.answers}
	in := make([]byte, readBuffer)
	have := 0 // bytes of in
	for {
		n, err := conn.Read(in[have:])
		if err != nil {
			return &c.came
		}
		have += n
		used := 0
		for have-used >= headerSize {
			size := int(binary.LittleEndian.Uint32(in[used:]))
			if size < headerSize-4 || size > messages.MaxFrame {
				return &c.came
			}
			if have-used < 4+size {
				break
			}
			if !c.answer(in[used : used+4+size]) {
				return &c.came
			}
			used += 4 + size
		}
		if !c.flush() {
			return &c.came
		}
		have = copy(in, in[used:have])
		if have == len(in) {
			grown := make([]byte, 2*len(in)) // as the bytes come, not as they are announced
			copy(grown, in)
			in = grown
		}
	}
}

// connection gathers the answers to what one read brought.
type connection struct {
	net.Conn
	answers *answers
	came    counts
	out     []byte
	buffers net.Buffers // what a page's write consists of
	names   messages.Names
	members map[messages.ID]*member
	acks    messages.PersistentAck
}

// answer answers one request, and reports whether it could.
func (c *connection) answer(request []byte) bool {
	a := c.answers
	command := messages.Command(request[commandAt])
	c.came.requests[command]++
	switch small := a.small[command]; {
	case small != nil:
		c.add(small, request)
	case command == messages.ReadStreamEventsForward:
		return c.addPage(request) && c.flushPage()
	case command == messages.Ping:
		f, err := messages.ParseFrame(request[4:])
		if err == nil {
			c.out, err = messages.AppendFrame(c.out, f.ID, nil, messages.Raw(messages.Pong, f.Body))
		}
		return err == nil
	case command == messages.ConnectToPersistentSubscription:
		return c.join(request)
	case command == messages.PersistentSubscriptionAckEvents:
		return c.acked(request)
	case command == messages.UnsubscribeFromStream:
		return c.leave(request)
	default:
		c.add(a.bad, request)
	}
	return true
}

// add gathers an answer, or its head, with the request's correlation id.
func (c *connection) add(answer, request []byte) {
	at := len(c.out)
	c.out = append(c.out, answer...)
	copy(c.out[at+idAt:at+headerSize], request[idAt:headerSize])
}

// addPage gathers the head and the tail of a page, and notes where its events go between them.
func (c *connection) addPage(request []byte) bool {
	var read messages.StreamRead
	f, err := messages.ParseFrame(request[4:])
	if err == nil {
		err = read.Decode(f.Body, &c.names)
	}
	if err != nil {
		return false
	}
	start := len(c.out) // behind the small answers before it
	c.out = messages.AppendFrameStart(c.out, messages.ReadStreamEventsForwardCompleted, f.ID, nil)
	head := len(c.out)
	events, out := c.answers.page(c.out, read.From, read.Count)
	c.out = out
	binary.LittleEndian.PutUint32(out[start:], uint32(len(out)-start-4+len(events)))
	c.buffers = append(c.buffers[:0], out[:head], events, out[head:])
	return true
}

func (c *connection) flushPage() bool {
	rest := c.buffers
	_, err := rest.WriteTo(c.Conn)
	c.out = c.out[:0]
	return err == nil
}

// flush writes what was gathered, then what groups have to deliver, and reports whether it could.
func (c *connection) flush() bool {
	if len(c.out) > 0 {
		_, err := c.Write(c.out)
		c.out = c.out[:0]
		if err != nil {
			return false
		}
	}
	for _, m := range c.members {
		if !m.push(c.Conn) {
			return false
		}
	}
	return true
}
