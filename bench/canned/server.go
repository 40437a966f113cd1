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
			s.serve(c)
			_ = c.Close()
			s.mu.Lock()
			delete(s.conns, c)
			s.mu.Unlock()
		})
	}
}

// serve answers the requests of a connection until it ends, or sends what is no frame.
func (s *Server) serve(conn net.Conn) {
	c := connection{Conn: conn, answers: s.answers}
	in := make([]byte, readBuffer)
	have := 0 // bytes of in
	for {
		n, err := conn.Read(in[have:])
		if err != nil {
			return
		}
		have += n
		used := 0
		for have-used >= headerSize {
			size := int(binary.LittleEndian.Uint32(in[used:]))
			if size < headerSize-4 || size > messages.MaxFrame {
				return
			}
			if have-used < 4+size {
				break
			}
			if !c.answer(in[used : used+4+size]) {
				return
			}
			used += 4 + size
		}
		if !c.flush() {
			return
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
	out     []byte
	buffers net.Buffers // what a page's write consists of
}

// answer answers one request, and reports whether it could.
func (c *connection) answer(request []byte) bool {
	a := c.answers
	command := messages.Command(request[commandAt])
	switch small := a.small[command]; {
	case small != nil:
		c.add(small, request)
	case command == messages.ReadStreamEventsForward:
		c.add(a.page[:headerSize], request) // behind the small ones before it
		c.buffers = append(c.buffers[:0], c.out, a.page[headerSize:])
		rest := c.buffers
		_, err := rest.WriteTo(c.Conn)
		c.out = c.out[:0]
		return err == nil
	case command == messages.Ping:
		f, err := messages.ParseFrame(request[4:])
		if err == nil {
			c.out, err = messages.AppendFrame(c.out, f.ID, nil, messages.Raw(messages.Pong, f.Body))
		}
		return err == nil
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

// flush writes what was gathered, and reports whether it could.
func (c *connection) flush() bool {
	if len(c.out) == 0 {
		return true
	}
	_, err := c.Write(c.out)
	c.out = c.out[:0]
	return err == nil
}
