package server

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

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
	staging [1]store.Record // the one being staged
	streams []string        // those that the batch at hand has events for
	targets []*subscription
	late    late

	mark     uint32 // of the ids, before the batch at hand
	refusing bool   // the last batch could not be stored
	failed   error  // why nothing can be stored any more

	moment  time.Time // when the batch at hand was taken: the time stamp of its events
	answers answers

	transactions transactions

	replication *replication // of a node of a cluster, else nil

	scavenge   *scavenge     // the one under way, or nil
	scavenging chan struct{} // it has something for the writer to do; one place is enough, and nobody closes it

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

// request is what a client asks of the writer, on its way through it. It owns all it refers to.
type request struct {
	session *session
	user    *user // of what has its right looked at by the writer
	id      messages.ID
	command messages.Command
	write   messages.Append // the stream and the expected version of a delete too, and what a transaction has of it
	body    []byte          // what write aliases
	hard    bool
	size    int // what it counts in the session's share
	conclusion
	scavenged proto.Message                   // the answer to a ScavengeDatabase
	own       chan messages.AppendCompleted   // of a request of the server's own, without a session: where the answer goes
	back      func(conclusion)                // of one that another node has forwarded: it takes the answer there
	done      func(*messages.AppendCompleted) // likewise, for one that nobody waits for; it must not block
	links     *linkBatch                      // of the projections, instead of all that
}

// conclusion is what became of a request: what travels back to the node that has forwarded it.
type conclusion struct {
	answer      messages.AppendCompleted
	transaction int64  // the id of one, which a request to write to it has from the beginning
	refusal     string // instead of an answer: why it could not be stored
	notReady    bool   // likewise: nobody leads
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
		late:   newLate(),

		transactions: newTransactions(maxTransactionBytes),
		scavenging:   make(chan struct{}, 1),
		ended:        make(chan struct{}),
	}
	w.pool.New = func() any { return new(request) }
	if s.node != nil {
		w.replication = newReplication(s.node)
	}
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

// enqueue hands requests over; who does so wakes the writer when it has no more of them. Sessions keep their share, so
// that what waits is bounded.
func (w *writer) enqueue(requests ...*request) {
	w.mu.Lock()
	w.waiting = append(w.waiting, requests...)
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
	defer close(w.ended)
	defer w.late.timer.Stop()
	var news <-chan struct{}
	var overdue <-chan time.Time
	if w.replication != nil {
		defer w.replication.timer.Stop()
		news, overdue = w.replication.node.news, w.replication.timer.C
	}
	var taken []*request
	for {
		select {
		case <-w.wake:
		case <-news:
			w.takeNews()
			continue
		case <-overdue:
			w.answerOverdue()
			continue
		case <-w.late.timer.C:
			w.answerLate()
			continue
		case <-w.scavenging:
			w.stepScavenge()
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
			w.commit(rest[:n])
			rest = rest[n:]
		}
		clear(taken)
	}
}

// commit decides, stores and answers a batch.
func (w *writer) commit(batch []*request) {
	if w.replication != nil {
		w.propose(batch)
		return
	}
	if err := w.storeAll(batch); err != nil {
		w.refuse(batch, err)
		return
	}
	w.committed()
	for _, r := range batch {
		switch {
		case r.answer.Result == messages.CommitTimeout:
			w.timesOut(r)
		case w.scavenge != nil && w.scavenge.request == r:
			w.runScavenge()
			if r.scavenged != nil { // this dialect tells only that it began
				w.scavenge.request = nil
				w.answer(r)
			}
		default:
			w.answer(r)
		}
	}
	w.sendAnswers()
}

// storeAll decides a batch and stores what it adds.
func (w *writer) storeAll(batch []*request) error {
	if err := w.stageAll(batch); err != nil {
		return err
	}
	return w.store.Commit()
}

// stageAll decides a batch and stages what it adds.
func (w *writer) stageAll(batch []*request) error {
	if w.begin(); w.failed != nil {
		return w.failed
	}
	for _, r := range batch { // decide will look for them
		for i := range r.write.Events {
			w.ids.Prefetch(r.write.Events[i].ID)
		}
	}
	for _, r := range batch {
		if r.own != nil || r.done != nil || r.back != nil {
			w.identify(r)
		}
		if err := w.serve(r); err != nil {
			return err
		}
	}
	return nil
}

// begin begins to stage what is committed together.
func (w *writer) begin() {
	w.streams = w.streams[:0]
	w.moment = w.now()
	w.mark = w.ids.Mark()
}

// committed tells what was stored.
func (w *writer) committed() {
	w.transactions.settle(true)
	if err := w.takeUp(); err != nil {
		w.server.log.LogAttrs(context.Background(), slog.LevelError, "the settings could not be read", slog.Any("err", err))
	}
	w.publish()
	if w.refusing {
		w.refusing = false
		w.server.log.LogAttrs(context.Background(), slog.LevelInfo, "the store takes writes again")
	}
}

// takeUp makes the server itself go by what was committed: settings and users take effect before the answer.
func (w *writer) takeUp() error {
	for _, stream := range w.streams {
		if stream[0] != '$' {
			continue
		}
		if stream == settingsStream {
			if err := w.server.loadSettings(); err != nil {
				return err
			}
		}
		if isUserStream(stream) {
			w.server.users.changes.Add(1)
		}
		if stream == settingsStream || strings.HasPrefix(stream, metaPrefix) {
			w.server.accessChanges.Add(1)
		}
	}
	return nil
}

// serve decides a request and stages what it adds. The answer is sent when that is committed.
func (w *writer) serve(r *request) error {
	if r.links != nil {
		return w.writeLinks(r.links)
	}
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

// staged is the log with all that was staged.
func (w *writer) staged() view {
	return w.server.viewAt(store.Staged, 0)
}

// stage puts an event behind the last one of its stream and returns its position.
func (w *writer) stage(stream string, number int64, e *messages.NewEvent, now time.Time) (int64, error) {
	position := w.end
	w.staging[0] = w.record(stream, number, e, now)
	return position, w.stageRecords(recordSize(stream, e), w.staging[:])
}

// stageRecords puts records, which take so much of the log together, at its end. All that is written goes this way.
func (w *writer) stageRecords(size int64, records []store.Record) error {
	w.end += size
	if w.replication != nil {
		w.replication.records = append(w.replication.records, records...)
	}
	return w.put(records)
}

// put stages records up to the end of the log.
func (w *writer) put(records []store.Record) error {
	if err := w.store.Stage(w.end, records...); err != nil {
		return err
	}
	for i := range records {
		r := &records[i]
		if r.Kind != store.Event {
			continue
		}
		w.ids.Add(r.ID, store.Place{Stream: r.Stream, Number: r.Number})
		if n := len(w.streams); n == 0 || w.streams[n-1] != r.Stream {
			w.streams = append(w.streams, r.Stream)
		}
	}
	return nil
}

// stagePlace takes a place in the log for what is no event, and returns its position.
func (w *writer) stagePlace(kind store.Kind, size int64) (int64, error) {
	position := w.end
	w.staging[0] = store.Record{Kind: kind, Commit: position, Prepare: position}
	return position, w.stageRecords(size, w.staging[:])
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

// recordSize is how far a record moves the log on a real server, measured there.
func recordSize(stream string, e *messages.NewEvent) int64 {
	const fixed = 88
	return int64(fixed + prefixed(len(stream)) + prefixed(len(e.Type)) + len(e.Data) + len(e.Metadata))
}

// commitSize is that of the record that commits a transaction.
const commitSize = 66

// endOf returns where the record of an event ends: that of its commit, if it is one of a transaction.
func endOf(r *store.Record) (int64, error) {
	if r.Commit != r.Prepare {
		return r.Commit + commitSize, nil
	}
	var e messages.EventRecord
	err := e.Decode(r.Encoded, nil)
	return r.Commit + recordSize(r.Stream, &messages.NewEvent{Type: e.Type, Data: e.Data, Metadata: e.Metadata}), err
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
