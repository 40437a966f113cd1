package server

import (
	"errors"
	"net"
	"runtime"
	"sync"
	"time"

	"github.com/goeventstore/eventstore/messages"
)

// The limits of 1.4: what a peer that does not read may leave unsent before it is cut.
const (
	maxPendingBytes  = 10 << 20
	maxPendingFrames = 50_000
)

const (
	chunkSize = 32 << 10 // small frames are gathered in chunks of this size
	maxFree   = 4        // chunks kept for use again
	maxPages  = 2 << 20  // bytes of page buffers kept for use again
	maxPage   = 1 << 20  // the largest that is
	lastWrite = time.Second
)

var errSlowReader = errors.New("the peer does not read what it asked for")

// output is what waits for the socket. Anyone may add to it, the session's write goroutine alone takes from it. The
// lock is held to move slices and to copy small frames, never for the socket, so that nobody waits for a slow peer.
type output struct {
	// wake tells the write goroutine that there is something to do. Anyone sends without blocking, nobody closes it; one
	// place is enough, since one look finds everything.
	wake chan struct{}
	// room tells the read goroutine that answers were queued; see share. As wake.
	room chan struct{}

	mu     sync.Mutex
	urgent []byte   // heartbeats, which overtake all else
	chunks [][]byte // whole frames, in their order
	open   bool     // the last chunk takes more small frames
	free   [][]byte
	pages  [][]byte // buffers for what is given
	kept   int      // bytes of pages
	bytes  int      // of urgent and chunks: what is under way does not count
	frames int      // likewise
	final  error    // the peer is told this and then the session ends: nothing more is added
	ahead  bool     // the events of the last write that had replies too went before these
	dirty  []*subscription
	share  share
}

func newOutput() *output {
	return &output{wake: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// send queues a copy of frame. An error says that the peer has left too much unread.
func (o *output) send(frame []byte) error {
	o.mu.Lock()
	err := o.add(frame)
	o.mu.Unlock()
	signal(o.wake)
	return err
}

// give queues frame itself, which the caller must not touch any more.
func (o *output) give(frame []byte) error {
	o.mu.Lock()
	err := o.admit(len(frame))
	if err == nil && o.final == nil {
		o.chunks = append(o.chunks, frame)
		o.open = false
	}
	o.mu.Unlock()
	signal(o.wake)
	return err
}

// page returns an empty buffer for a frame that may become large. It goes back with give or with keep.
func (o *output) page() []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := len(o.pages)
	if n == 0 {
		return make([]byte, 0, 2*chunkSize)
	}
	b := o.pages[n-1]
	o.pages = o.pages[:n-1]
	o.kept -= cap(b)
	return b
}

// keep takes back a buffer that page returned.
func (o *output) keep(b []byte) {
	o.mu.Lock()
	o.recycle(b)
	o.mu.Unlock()
}

// recycle keeps a chunk or a page's buffer for use again. The lock is held.
func (o *output) recycle(b []byte) {
	switch {
	case cap(b) == chunkSize && len(o.free) < maxFree:
		o.free = append(o.free, b[:0])
	case cap(b) > chunkSize && cap(b) <= maxPage && o.kept+cap(b) <= maxPages:
		o.pages = append(o.pages, b[:0])
		o.kept += cap(b)
	}
}

// sendUrgent queues a frame in front of all others.
func (o *output) sendUrgent(command messages.Command, id messages.ID) error {
	o.mu.Lock()
	err := o.admit(0)
	if err == nil && o.final == nil {
		start := len(o.urgent)
		o.urgent = messages.AppendFrameStart(o.urgent, command, id, nil)
		o.urgent, _ = messages.EndFrame(o.urgent, start) // it has no body
		o.bytes += len(o.urgent) - start
	}
	o.mu.Unlock()
	signal(o.wake)
	return err
}

// finish queues the last frame; the session ends for cause once it is written.
func (o *output) finish(frame []byte, cause error) {
	o.mu.Lock()
	_ = o.add(frame)
	if o.final == nil {
		o.final = cause
	}
	o.mu.Unlock()
	signal(o.wake)
}

// add copies a frame into the open chunk. The lock is held.
func (o *output) add(frame []byte) error {
	if err := o.admit(len(frame)); err != nil || o.final != nil {
		return err
	}
	last := len(o.chunks) - 1
	if !o.open || len(o.chunks[last])+len(frame) > cap(o.chunks[last]) {
		o.chunks = append(o.chunks, o.chunk(len(frame)))
		o.open = true
		last++
	}
	o.chunks[last] = append(o.chunks[last], frame...)
	return nil
}

// admit counts a frame, unless too much is pending already: as on a real server the frame itself may be of any size.
// The lock is held.
func (o *output) admit(size int) error {
	if o.bytes > maxPendingBytes || o.frames > maxPendingFrames {
		return errSlowReader
	}
	o.bytes += size
	o.frames++
	return nil
}

// chunk returns an empty chunk with room for size. The lock is held.
func (o *output) chunk(size int) []byte {
	if n := len(o.free); n > 0 && size <= chunkSize {
		c := o.free[n-1]
		o.free = o.free[:n-1]
		return c
	}
	return make([]byte, 0, max(size, chunkSize))
}

// batch is what one write carries.
type batch struct {
	urgent  []byte
	chunks  [][]byte
	events  []byte          // frames of subscriptions, not counted as pending: the pump has a limit of its own
	ahead   bool            // the events go before the chunks
	buffers net.Buffers     // all of the above as the socket takes them
	rest    net.Buffers     // what of them is not written yet
	dirty   []*subscription // subscriptions to look at
	final   error
}

// take moves everything that waits into b, and reports whether there was anything. It is pending no more, as on a real
// server: a peer that has read it all may have asked again before the write goroutine learns that it is written.
func (o *output) take(b *batch) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	b.urgent, o.urgent = o.urgent, b.urgent[:0]
	b.chunks, o.chunks = o.chunks, b.chunks[:0]
	b.dirty, o.dirty = o.dirty, b.dirty[:0]
	o.bytes, o.frames = 0, 0
	b.final = o.final
	o.open = false
	confirmed := false
	for _, sub := range b.dirty {
		confirmed = confirmed || sub.fresh
		sub.dirty, sub.fresh = false, false
	}
	// A real server has both orders of a live event and the answer to its own write (4.1): here they take turns, so that no
	// client comes to rely on one. Only a confirmation goes before its events always.
	if len(b.dirty) > 0 && len(b.chunks) > 0 && !confirmed {
		o.ahead = !o.ahead
	}
	b.ahead = o.ahead && !confirmed
	return len(b.urgent) > 0 || len(b.chunks) > 0 || len(b.dirty) > 0 || b.final != nil
}

// written gives back what b used.
func (o *output) written(b *batch) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i, c := range b.chunks {
		o.recycle(c)
		b.chunks[i] = nil
	}
}

// writeLoop writes what waits until the session ends.
func (c *session) writeLoop() {
	var b batch
	for {
		select {
		case <-c.out.wake:
		case <-c.stop:
			return
		}
		// Whoever woke us often has more to say at once: the writer's answers, the replies to a burst of requests.
		runtime.Gosched()
		for c.out.take(&b) {
			if !c.writeBatch(&b) {
				return
			}
		}
	}
}

// writeBatch writes what was taken and what the subscriptions have to say, and reports whether the session goes on.
func (c *session) writeBatch(b *batch) bool {
	if len(b.dirty) > 0 {
		b.events = b.events[:0]
		if err := c.pump(b); err != nil {
			c.end(err)
			return false
		}
	}
	if b.final != nil {
		_ = c.conn.SetWriteDeadline(time.Now().Add(lastWrite))
	}
	err := c.write(b)
	c.out.written(b)
	if cap(b.events) > 4*pumpLimit {
		b.events = nil // one large event must not pin its memory
	} else {
		b.events = b.events[:0]
	}
	switch {
	case b.final != nil:
		c.end(b.final)
	case err != nil:
		c.end(err)
	default:
		return true
	}
	return false
}

func (c *session) write(b *batch) error {
	buffers := b.buffers[:0]
	if len(b.urgent) > 0 {
		buffers = append(buffers, b.urgent)
	}
	if len(b.events) > 0 && b.ahead {
		buffers = append(buffers, b.events)
	}
	buffers = append(buffers, b.chunks...)
	if len(b.events) > 0 && !b.ahead {
		buffers = append(buffers, b.events)
	}
	if c.server.dialect.OmitZeros {
		for i := range buffers {
			buffers[i] = withoutZeros(buffers[i])
		}
	}
	b.buffers = buffers
	switch len(buffers) {
	case 0:
		return nil
	case 1:
		_, err := c.conn.Write(buffers[0])
		return err
	}
	b.rest = buffers
	_, err := b.rest.WriteTo(c.conn)
	clear(buffers)
	return err
}
