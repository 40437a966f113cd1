package server

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
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
	staging [1]store.Record // the one being staged
	streams []string        // those that the batch at hand has events for
	scratch []byte
	targets []*subscription
	late    late

	transactions transactions

	scavenge   *scavenge     // the one under way, or nil
	scavenging chan struct{} // it has something for the writer to do; one place is enough, and nobody closes it

	// wake tells the writer that requests wait, or that it is to end. Anyone sends without blocking; nobody closes it.
	wake chan struct{}
	pool sync.Pool // of *request

	mu      sync.Mutex
	waiting []*request
	closed  bool
}

// maxBatch bounds how many requests are committed together, so that the first of a long queue is not kept waiting.
const maxBatch = 1024

// request is what a client asks of the writer, on its way through it. It owns all it refers to.
type request struct {
	session *session
	user    *user // of what has its right looked at by the writer
	id      messages.ID
	command messages.Command
	write   messages.Append // the stream and the expected version of a delete too, and what a transaction has of it
	body    []byte          // what write aliases
	hard    bool
	// transaction is the id of one.
	transaction int64
	scavenged   *pb.ScavengeDatabaseCompleted // the answer to a ScavengeDatabase
	size        int                           // what it counts in the session's share
	answer      messages.AppendCompleted
}

// maxKept is how much of a request's buffers is kept for the next one.
const maxKept = 64 << 10

func newWriter(s *Server, now func() time.Time, newID func() uuid.UUID) *writer {
	w := &writer{
		server: s,
		store:  s.store,
		ids:    store.NewIDs(store.IDsLimit),
		now:    now,
		newID:  newID,
		end:    s.store.Tip().End,
		wake:   make(chan struct{}, 1),
		late:   newLate(),

		transactions: newTransactions(maxTransactionBytes),
		scavenging:   make(chan struct{}, 1),
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

// enqueue hands a request over; who does so wakes the writer when it has no more of them. Sessions keep their share, so
// that what waits is bounded.
func (w *writer) enqueue(r *request) {
	w.mu.Lock()
	w.waiting = append(w.waiting, r)
	w.mu.Unlock()
}

// close makes run return. The sessions have ended by then.
func (w *writer) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	signal(w.wake)
}

func (w *writer) run() {
	defer w.late.timer.Stop()
	var taken []*request
	for {
		select {
		case <-w.wake:
		case <-w.late.timer.C:
			w.answerLate()
			continue
		case <-w.scavenging:
			if err := w.stepScavenge(); err != nil {
				w.fail(err)
				return
			}
			continue
		}
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
		if err := w.serve(r); err != nil {
			return err
		}
	}
	if err := w.store.Commit(); err != nil {
		return err
	}
	w.publish()
	for _, r := range batch {
		switch {
		case r.answer.Result == messages.CommitTimeout:
			w.timesOut(r)
		case w.scavenge != nil && w.scavenge.request == r:
			w.runScavenge()
		default:
			w.answer(r)
		}
	}
	return nil
}

// serve decides a request and stages what it adds. The answer is sent when that is committed.
func (w *writer) serve(r *request) error {
	switch r.command {
	case messages.WriteEvents:
		return w.append(r)
	case messages.DeleteStream:
		return w.delete(r)
	case messages.TransactionStart:
		return w.startTransaction(r)
	case messages.TransactionWrite:
		return w.writeTransaction(r)
	case messages.TransactionCommit:
		return w.commitTransaction(r)
	default:
		return w.startScavenge(r)
	}
}

// fail ends the server's connections: a store that failed cannot tell any more what is stored.
func (w *writer) fail(err error) {
	w.server.log.LogAttrs(context.Background(), slog.LevelError, "the store failed", slog.Any("err", err))
	_ = w.server.listener.Close()
	w.server.endSessions(err)
}

// staged is the log with all that was staged.
func (w *writer) staged() view {
	return view{store: w.store, cache: &w.server.metadata, at: store.Staged}
}

// stage puts an event behind the last one of its stream and returns its position.
func (w *writer) stage(stream string, number int64, e *messages.NewEvent, now time.Time) (int64, error) {
	position := w.end
	w.staging[0] = w.record(stream, number, e, now)
	w.end += recordSize(stream, e)
	if err := w.store.Stage(w.end, w.staging[:]...); err != nil {
		return 0, err
	}
	w.ids.Add(e.ID, store.Place{Stream: stream, Number: number})
	if n := len(w.streams); n == 0 || w.streams[n-1] != stream {
		w.streams = append(w.streams, stream)
	}
	return position, nil
}

// record is an event as it is stored, at the end of the log.
func (w *writer) record(stream string, number int64, e *messages.NewEvent, now time.Time) store.Record {
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
	return store.Record{
		Stream: stream, Number: number, ID: e.ID, Type: e.Type, Commit: w.end, Prepare: w.end, Created: ticks,
		Encoded: w.arena.encode(&event),
	}
}

// pass moves the end of the log behind a record that nobody can read.
func (w *writer) pass(size int64) error {
	w.end += size
	return w.store.Stage(w.end)
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
