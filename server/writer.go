package server

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/server/internal/store"
)

// writer is the one goroutine that writes. It takes the requests that wait, decides each in its order against what is
// stored and what it staged before, commits them all at once, and then tells subscriptions and clients. It never waits
// for a peer.
type writer struct {
	server *Server
	store  store.Store
	ids    *store.IDs
	now    func() time.Time
	newID  func() uuid.UUID

	end     int64 // the position of the next record
	arena   arena
	record  [1]store.Record // the one being staged
	streams []string        // those that the batch at hand has events for
	scratch []byte
	targets []*subscription

	// wake tells the writer that requests wait, or that it is to end. Anyone sends without blocking; nobody closes it.
	wake chan struct{}
	// ended is closed by run when it returns: no request is answered any more.
	ended chan struct{}
	pool  sync.Pool // of *request

	mu      sync.Mutex
	waiting []*request
	closed  bool
}

// maxBatch bounds how many requests are committed together, so that the first of a long queue is not kept waiting.
const maxBatch = 1024

// request is a write or a delete on its way through the writer. It owns all it refers to.
type request struct {
	session *session
	id      messages.ID
	command messages.Command // WriteEvents or DeleteStream
	write   messages.Append  // the stream and the expected version of a delete too
	body    []byte           // what write aliases
	hard    bool
	size    int // what it counts in the session's share
	answer  messages.AppendCompleted
	own     chan messages.AppendCompleted   // of a request of the server's own, without a session: where the answer goes
	done    func(*messages.AppendCompleted) // likewise, for one that nobody waits for; it must not block
}

// maxKept is how much of a request's buffers is kept for the next one.
const maxKept = 64 << 10

func newWriter(s *Server, newID func() uuid.UUID) *writer {
	w := &writer{
		server: s,
		store:  s.store,
		ids:    store.NewIDs(store.IDsLimit),
		now:    s.now,
		newID:  newID,
		end:    s.store.Tip().End,
		wake:   make(chan struct{}, 1),
		ended:  make(chan struct{}),
	}
	w.pool.New = func() any { return new(request) }
	return w
}

// request returns an empty request.
func (w *writer) request() *request { return w.pool.Get().(*request) }

// release takes a request back that was answered, or never enqueued.
func (w *writer) release(r *request) {
	clear(r.write.Events)
	kept := request{body: r.body[:0], write: messages.Append{Events: r.write.Events[:0]}}
	if cap(kept.body) > maxKept || cap(kept.write.Events) > maxKept/64 {
		kept = request{}
	}
	*r = kept
	w.pool.Put(r)
}

// enqueue hands a request over. Sessions keep their share, so that what waits is bounded.
func (w *writer) enqueue(r *request) {
	w.mu.Lock()
	w.waiting = append(w.waiting, r)
	w.mu.Unlock()
	signal(w.wake)
}

// close makes run return. The sessions have ended by then.
func (w *writer) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	signal(w.wake)
}

func (w *writer) run() {
	defer close(w.ended)
	var taken []*request
	for range w.wake {
		w.mu.Lock()
		taken, w.waiting = w.waiting, taken[:0]
		closed := w.closed
		w.mu.Unlock()
		if closed {
			return
		}
		for rest := taken; len(rest) > 0; {
			n := min(len(rest), maxBatch)
			if err := w.commit(rest[:n]); err != nil {
				w.fail(err)
				return
			}
			rest = rest[n:]
		}
		clear(taken)
	}
}

// commit decides, stores and answers a batch.
func (w *writer) commit(batch []*request) error {
	w.streams = w.streams[:0]
	for _, r := range batch {
		if r.own != nil || r.done != nil {
			w.identify(r)
		}
		var err error
		if r.command == messages.DeleteStream {
			err = w.delete(r)
		} else {
			err = w.append(r)
		}
		if err != nil {
			return err
		}
	}
	if err := w.store.Commit(); err != nil {
		return err
	}
	if err := w.takeUp(); err != nil {
		return err
	}
	w.publish()
	for _, r := range batch {
		w.answer(r)
	}
	return nil
}

// takeUp makes the server itself go by what was committed: settings and users take effect before the answer.
func (w *writer) takeUp() error {
	for _, stream := range w.streams {
		switch {
		case stream[0] != '$':
		case stream == settingsStream:
			if err := w.server.loadSettings(); err != nil {
				return err
			}
		case isUserStream(stream):
			w.server.users.changes.Add(1)
		}
	}
	return nil
}

// fail ends the server's connections: a store that failed cannot tell any more what is stored.
func (w *writer) fail(err error) {
	w.server.log.LogAttrs(context.Background(), slog.LevelError, "the store failed", slog.Any("err", err))
	_ = w.server.listener.Close()
	w.server.endSessions(err)
}

// staged is the log with all that was staged.
func (w *writer) staged() view {
	return view{store: w.store, cache: &w.server.metadata, now: w.now, at: store.Staged}
}

// stage puts an event behind the last one of its stream and returns its position.
func (w *writer) stage(stream string, number int64, e *messages.NewEvent, now time.Time) (int64, error) {
	contentType := int32(0)
	if e.ContentType == 1 {
		contentType = 1
	}
	ticks := messages.Ticks(now)
	// On reads the metadata's type repeats the data's, and metadata that did not come are empty (3.2).
	event := messages.EventRecord{
		Stream: stream, Number: number, ID: e.ID, Type: e.Type, ContentType: contentType, MetadataType: contentType,
		Data: e.Data, Metadata: e.Metadata, Created: ticks, CreatedEpoch: now.UnixMilli(),
	}
	position := w.end
	w.end += recordSize(stream, e)
	w.record[0] = store.Record{
		Stream: stream, Number: number, ID: e.ID, Type: e.Type, Commit: position, Prepare: position, Created: ticks,
		Encoded: w.arena.encode(&event),
	}
	if err := w.store.Stage(w.end, w.record[:]...); err != nil {
		return 0, err
	}
	w.ids.Add(e.ID, store.Place{Stream: stream, Number: number})
	if n := len(w.streams); n == 0 || w.streams[n-1] != stream {
		w.streams = append(w.streams, stream)
	}
	return position, nil
}

// stageVoid takes the place in the log that a write without events has and returns its position.
func (w *writer) stageVoid(stream string) (int64, error) {
	position := w.end
	w.end += recordSize(stream, &messages.NewEvent{})
	return position, w.store.Stage(w.end, store.Record{Kind: store.Void, Commit: position, Prepare: position})
}

// recordSize is how far a record moves the log on a real server, measured there.
func recordSize(stream string, e *messages.NewEvent) int64 {
	const fixed = 88
	return int64(fixed + prefixed(len(stream)) + prefixed(len(e.Type)) + len(e.Data) + len(e.Metadata))
}

// prefixed is the size of a text of n bytes with its length, 7 bits a byte, in front.
func prefixed(n int) int {
	size := n + 1
	for ; n >= 0x80; n >>= 7 {
		size++
	}
	return size
}

// arena is where encoded events lie: many in one allocation, since they live as long as each other.
type arena struct{ free []byte }

const (
	arenaBlock = 64 << 10
	// encodedOverhead is more than an encoded event has beside its texts and bytes: tags, lengths, numbers and the id.
	encodedOverhead = 96
)

func (a *arena) encode(e *messages.EventRecord) []byte {
	size := encodedOverhead + len(e.Stream) + len(e.Type) + len(e.Data) + len(e.Metadata)
	if size > arenaBlock/4 {
		b := e.AppendTo(make([]byte, 0, size))
		return b[:len(b):len(b)]
	}
	if size > len(a.free) {
		a.free = make([]byte, arenaBlock)
	}
	b := e.AppendTo(a.free[:0:size])
	a.free = a.free[len(b):]
	return b[:len(b):len(b)]
}
