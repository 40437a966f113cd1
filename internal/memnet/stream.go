package memnet

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// minRing is what the first byte allocates: one small frame and its reply never grow it.
const minRing = 512

// stream is one direction of a connection: a ring buffer with one reading and one writing end.
//
// A mutex is not a durable block in a synctest bubble; mu is therefore held for copies only, never across a wait.
type stream struct {
	readable sync.Cond // readers wait here while the ring is empty
	writable sync.Cond // the writer whose turn it is waits here while the ring is full
	turn     sync.Cond // the other writers wait here, so that one Write is contiguous

	mu    sync.Mutex
	buf   []byte // the ring, grown up to limit as it fills
	start int    // index of the oldest unread byte
	size  int    // unread bytes
	limit int

	writing      bool // a writer has its turn
	readerClosed bool // Close of the reading end
	writerClosed bool // Close of the writing end
	ended        bool // no byte will follow: Close or CloseWrite of the writing end
	reset        bool

	readDeadline  deadline
	writeDeadline deadline
}

func (s *stream) init(limit int) {
	s.limit = limit
	s.readable.L, s.writable.L, s.turn.L = &s.mu, &s.mu, &s.mu
}

func (s *stream) read(b []byte) (int, error) {
	s.mu.Lock()
	if len(b) == 0 {
		defer s.mu.Unlock()
		if s.readerClosed {
			return 0, net.ErrClosed
		}
		return 0, nil
	}
	for {
		if err := s.readErr(); err != nil {
			s.mu.Unlock()
			return 0, err
		}
		if s.size > 0 {
			break
		}
		s.readable.Wait()
	}
	full := s.size == s.limit
	n := s.take(b)
	s.mu.Unlock()
	if full { // only then can a writer be waiting for room
		s.writable.Signal()
	}
	return n, nil
}

func (s *stream) write(b []byte) (n int, err error) {
	s.mu.Lock()
	if len(b) == 0 {
		defer s.mu.Unlock()
		if s.writerClosed {
			return 0, net.ErrClosed
		}
		return 0, nil
	}
	for {
		if err = s.writeErr(); err != nil {
			// The sequence: the turn's end signals this writer, its deadline passes, it looks at the clock and
			// gives up, and the deadline is moved before the timer could wake the others. The signal was theirs.
			free := !s.writing
			s.mu.Unlock()
			if free {
				s.turn.Signal()
			}
			return 0, err
		}
		if !s.writing {
			break
		}
		s.turn.Wait()
	}
	s.writing = true
	for {
		empty := s.size == 0
		m := s.put(b[n:])
		n += m
		if empty && m > 0 { // only then can readers be waiting for bytes
			s.readable.Broadcast()
		}
		if n == len(b) {
			break
		}
		s.writable.Wait()
		if err = s.writeErr(); err != nil {
			break
		}
	}
	s.writing = false
	s.mu.Unlock()
	s.turn.Signal()
	return n, err
}

// readErr reports why a Read cannot wait or go on. As with a socket, a deadline that has passed wins over bytes that
// are there; checking the clock, not only the timer, makes that exact.
func (s *stream) readErr() error {
	switch {
	case s.readerClosed:
		return net.ErrClosed
	case s.readDeadline.passed():
		return os.ErrDeadlineExceeded
	case s.reset:
		return syscall.ECONNRESET
	case s.ended && s.size == 0:
		return io.EOF
	}
	return nil
}

func (s *stream) writeErr() error {
	switch {
	case s.writerClosed:
		return net.ErrClosed
	case s.writeDeadline.passed():
		return os.ErrDeadlineExceeded
	case s.reset:
		return syscall.ECONNRESET
	case s.ended || s.readerClosed:
		return syscall.EPIPE
	}
	return nil
}

// put copies what fits and returns how much that was.
func (s *stream) put(b []byte) int {
	if want := min(s.size+len(b), s.limit); want > len(s.buf) {
		s.grow(want)
	}
	b = b[:min(len(b), len(s.buf)-s.size)]
	at := s.start + s.size
	if at >= len(s.buf) {
		at -= len(s.buf)
	}
	n := copy(s.buf[at:], b)
	copy(s.buf, b[n:])
	s.size += len(b)
	return len(b)
}

// take copies the oldest bytes out, at most size of them.
func (s *stream) take(b []byte) int {
	b = b[:min(len(b), s.size)]
	n := copy(b, s.buf[s.start:])
	copy(b[n:], s.buf)
	s.size -= len(b)
	s.start += len(b)
	if s.start >= len(s.buf) {
		s.start -= len(s.buf)
	}
	if s.size == 0 {
		s.start = 0 // the next write is one copy
		if s.ended {
			s.buf = nil
		}
	}
	return len(b)
}

// grow makes room for want bytes; doubling keeps the copies of a slowly filling ring few.
func (s *stream) grow(want int) {
	buf := make([]byte, min(max(want, 2*len(s.buf), minRing), s.limit))
	n := copy(buf, s.buf[s.start:min(s.start+s.size, len(s.buf))])
	copy(buf[n:], s.buf[:s.size-n])
	s.buf, s.start = buf, 0
}

func (s *stream) buffered() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.size
}

// closeReader reports whether this call was the one that closed the reading end.
func (s *stream) closeReader() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.readerClosed {
		return false
	}
	s.readerClosed = true
	s.readDeadline.clear()
	s.discard()
	s.wakeAll()
	return true
}

func (s *stream) closeWriter() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writerClosed, s.ended = true, true
	s.writeDeadline.clear()
	s.wakeAll()
}

func (s *stream) endWrites() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.writerClosed:
		return net.ErrClosed
	case s.reset:
		return syscall.ECONNRESET
	}
	s.ended = true
	s.wakeAll()
	return nil
}

func (s *stream) fail() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reset = true
	s.discard()
	s.wakeAll()
}

// discard frees the ring. Nothing is put into it later: each caller has made every write fail.
func (s *stream) discard() { s.buf, s.start, s.size = nil, 0, 0 }

func (s *stream) wakeAll() {
	s.readable.Broadcast()
	s.wakeWriters()
}

func (s *stream) wakeWriters() {
	s.writable.Broadcast()
	s.turn.Broadcast()
}

func (s *stream) setReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.readerClosed {
		return net.ErrClosed
	}
	if s.readDeadline.set(t, s, (*stream).readTimer) {
		s.readable.Broadcast()
	}
	return nil
}

func (s *stream) setWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writerClosed {
		return net.ErrClosed
	}
	if s.writeDeadline.set(t, s, (*stream).writeTimer) {
		s.wakeWriters()
	}
	return nil
}

// The timers take the lock although they change nothing: without it the wake-up could fall between a reader's look at
// the clock and its wait, and be lost.

func (s *stream) readTimer() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readable.Broadcast()
}

func (s *stream) writeTimer() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wakeWriters()
}

// deadline is a moment and the timer that wakes whoever is blocked at it. The moment alone decides: a timer that fires
// late, or for a deadline that has been moved since, wakes its sleepers for another look and no more.
type deadline struct {
	at    time.Time // with a monotonic reading; zero for none
	timer *time.Timer
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func (d *deadline) clear() {
	d.at = time.Time{}
	if d.timer != nil {
		d.timer.Stop()
	}
}

// set moves the deadline and reports whether it has passed already. The timer and its closure are made once and reused,
// so a deadline for every operation costs no allocation.
func (d *deadline) set(t time.Time, s *stream, wake func(*stream)) bool {
	if t.IsZero() {
		d.clear()
		return false
	}
	now := time.Now()
	left := t.Sub(now)
	d.at = now.Add(left)
	switch {
	case left <= 0:
		if d.timer != nil {
			d.timer.Stop()
		}
		return true
	case d.timer == nil:
		d.timer = time.AfterFunc(left, func() { wake(s) })
	default:
		d.timer.Reset(left)
	}
	return false
}
