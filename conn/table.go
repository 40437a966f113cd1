package conn

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"iter"
	"slices"
	"sync/atomic"
	"time"

	"github.com/goeventstore/eventstore/messages"
)

// Waiter waits for what comes with one correlation id. Its methods are called from the connection's own goroutines,
// never two at a time, with no lock held, and must not block.
type Waiter interface {
	// Reply takes an answer. The body is valid during the call only.
	Reply(command messages.Command, body []byte)
	// End says that no (further) answer comes: ErrTimeout, or the cause of the connection's end. It is the last call.
	End(err error)
}

// Patient is a Waiter that may go on waiting when its time is up and its request is not written yet.
type Patient interface {
	Waiter
	// Unsent says so. With false the wait is over, and End follows unless an answer has come. It may come while a Reply does.
	Unsent(k Ticket, err *UnsentError) bool
}

// Many is a Waiter of an exchange that takes what came together at once, in place of a Reply for each frame.
type Many interface {
	Waiter
	// Replies takes answers. Their bytes are valid during the call only.
	Replies(frames []messages.Frame)
}

// UnsentError is the ErrTimeout of a call whose request the server has not taken yet: the line is slow, or the server.
type UnsentError struct {
	Size  int64 // of the request, in bytes
	Left  int64 // of these, still to be written
	Ahead int64 // of other requests, to be written before
}

// Error tells how much of the request was still to be written.
func (e *UnsentError) Error() string {
	s := fmt.Sprintf("%v: %d of the request's %d bytes were still to be written", ErrTimeout, e.Left, e.Size)
	if e.Ahead > 0 {
		s += fmt.Sprintf(", behind %d bytes of other requests", e.Ahead)
	}
	return s
}

// Unwrap returns ErrTimeout.
func (e *UnsentError) Unwrap() error { return ErrTimeout }

// SlowError is the ErrTimeout of a call during which a lot came, but not its answer: that may be part of it.
type SlowError struct {
	Received int64 // bytes since the request was made
}

// slow is how much has come when a time-out is a SlowError.
const slow = 16 << 10

// Error tells how much came meanwhile.
func (e *SlowError) Error() string {
	return fmt.Sprintf("%v: %d bytes came meanwhile", ErrTimeout, e.Received)
}

// Unwrap returns ErrTimeout.
func (e *SlowError) Unwrap() error { return ErrTimeout }

// Ticket names a request of this connection, for Send and Forget.
type Ticket uint64

// mode says how long a waiter stays in the table.
type mode uint8

const (
	once     mode = iota // until the first answer, or Config.Timeout
	untimed              // until the first answer, however long it takes
	exchange             // until Forget
)

// handshake is the ticket of IdentifyClient. On the wire it reads as line ends: an HTTP server, which otherwise waits for
// the end of a line, refuses it at once in HTTP, and the error can say so.
const handshake Ticket = 0x0a0d0a0d0a0d0a0d

// table knows who waits for what. Correlation ids are a random prefix of the connection and a count, so that finding
// a waiter is a look-up by a number, and those that wait at one time have mostly numbers next to each other: each has its
// place by the end of its number.
type table struct {
	prefix [8]byte
	last   atomic.Uint64     // the newest ticket
	near   []entry           // by the end of the ticket; a power of two
	far    map[Ticket]*entry // those whose place in near is taken, by one that waits for long
	calls  int               // entries that are no exchange
}

// entry is one who waits, and a free place when nobody does.
type entry struct {
	waiter   Waiter // nil: free
	ticket   Ticket
	deadline time.Duration // of a call with a time limit, since the connection's epoch
	end      int64         // where the request ends among all bytes of the outbox
	received int64         // bytes that had come when it was made
	size     int32         // of the request
	mode     mode
	unsent   bool // the request was not written when its time was up
}

const (
	firstPlaces = 64
	mostPlaces  = 4096
)

func newTable() table {
	return table{near: make([]entry, firstPlaces), far: make(map[Ticket]*entry)}
}

func (t *table) id(k Ticket) (id messages.ID) {
	copy(id[:8], t.prefix[:])
	binary.LittleEndian.PutUint64(id[8:], uint64(k))
	return id
}

// ticket is the reverse of id; false for an id that is none of ours.
func (t *table) ticket(id messages.ID) (Ticket, bool) {
	return Ticket(binary.LittleEndian.Uint64(id[8:])), [8]byte(id[:8]) == t.prefix
}

func (t *table) place(k Ticket) *entry { return &t.near[uint64(k)%uint64(len(t.near))] }

func (t *table) find(k Ticket) *entry {
	if e := t.place(k); e.ticket == k && e.waiter != nil {
		return e
	}
	return t.far[k]
}

func (t *table) add(e entry) {
	place := t.place(e.ticket)
	for place.waiter != nil {
		if len(t.near) == mostPlaces || place.mode == exchange {
			place = new(entry)
			t.far[e.ticket] = place
			break
		}
		t.grow()
		place = t.place(e.ticket)
	}
	*place = e
	if e.mode != exchange {
		t.calls++
	}
}

// grow makes twice the places: more calls are under way than there are, or one has been for long.
func (t *table) grow() {
	before := t.near
	t.near = make([]entry, 2*len(before))
	for i := range before {
		if e := &before[i]; e.waiter != nil {
			*t.place(e.ticket) = *e
		}
	}
}

func (t *table) remove(e *entry) {
	if e.mode != exchange {
		t.calls--
	}
	if e != t.place(e.ticket) {
		delete(t.far, e.ticket)
	}
	*e = entry{}
}

func (t *table) all() iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		for i := range t.near {
			if e := &t.near[i]; e.waiter != nil && !yield(e) {
				return
			}
		}
		for _, e := range t.far {
			if !yield(e) {
				return
			}
		}
	}
}

// due returns the calls whose deadline has come, the first deadline first, and the next deadline after now, if there is one
// before the given time. It looks at all, which is cheap: it is asked for about once in the time limit of a call.
func (t *table) due(now, before time.Duration) (due []Ticket, next time.Duration) {
	next = before
	var overdue []entry
	for e := range t.all() {
		switch {
		case e.mode != once:
		case e.deadline <= now:
			overdue = append(overdue, *e)
		default:
			next = min(next, e.deadline)
		}
	}
	slices.SortFunc(overdue, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.deadline, b.deadline), cmp.Compare(a.ticket, b.ticket))
	})
	for i := range overdue {
		due = append(due, overdue[i].ticket)
	}
	return due, next
}

// expire removes a call that was due, unless it is gone. One that is patient and has its request not written yet gets the
// time once more, and is to be asked whether it wants it: then the cause is an UnsentError. Once written, it has that time to
// be answered.
func (t *table) expire(k Ticket, now, more time.Duration, written, received int64) (w Waiter, cause error) {
	e := t.find(k)
	if e == nil {
		return nil, nil
	}
	w = e.waiter
	left := e.end - written
	if _, patient := w.(Patient); patient && (left > 0 || e.unsent) {
		e.deadline, e.unsent = now+more, left > 0
		if left > 0 {
			return w, &UnsentError{Size: int64(e.size), Left: min(left, int64(e.size)), Ahead: max(left-int64(e.size), 0)}
		}
		return nil, nil
	}
	cause = ErrTimeout
	if n := received - e.received; n >= slow {
		cause = &SlowError{n}
	}
	t.remove(e)
	return w, cause
}

// takeAll empties the table, in the order in which the requests were sent.
func (t *table) takeAll() []Waiter {
	var all []entry
	for e := range t.all() {
		all = append(all, *e)
	}
	slices.SortFunc(all, func(a, b entry) int { return cmp.Compare(a.ticket, b.ticket) })
	waiters := make([]Waiter, len(all))
	for i := range all {
		waiters[i] = all[i].waiter
	}
	clear(t.near)
	clear(t.far)
	return waiters
}

// NextTicket returns a new ticket. It is taken before the request is sent, so that its owner knows how to Forget it
// before the first answer can come.
func (c *Conn) NextTicket() Ticket { return Ticket(c.table.last.Add(1)) }

// Call sends r and has w told of the one answer, or of ErrTimeout when there is none within Config.Timeout; with wait it
// waits for as long as the connection lives. The credentials are a block made by messages.AppendCredentials, or nil. An
// error means that nothing was sent and w will not be called: the cause of the connection's end, or what is wrong with r.
func (c *Conn) Call(k Ticket, r messages.Request, credentials []byte, w Waiter, wait bool) error {
	if wait {
		return c.start(k, r, credentials, w, untimed)
	}
	return c.start(k, r, credentials, w, once)
}

// Open sends r and has w told of everything that comes with its correlation id, until Forget. Errors as in Call.
func (c *Conn) Open(k Ticket, r messages.Request, credentials []byte, w Waiter) error {
	return c.start(k, r, credentials, w, exchange)
}

// Send sends r with the correlation id of an open exchange.
func (c *Conn) Send(k Ticket, r messages.Request, credentials []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.queue(k, r, credentials)
	if err == nil {
		c.out.signal()
	}
	return err
}

// Queue is Send for one who calls Flush next.
func (c *Conn) Queue(k Ticket, r messages.Request, credentials []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.queue(k, r, credentials)
}

func (c *Conn) queue(k Ticket, r messages.Request, credentials []byte) error {
	if c.cause != nil {
		return c.cause
	}
	_, err := c.out.append(c.table.id(k), credentials, r)
	return err
}

// Forget drops the waiter: it is not called again, except by a call that is under way. It reports whether it was there.
func (c *Conn) Forget(k Ticket) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.table.find(k)
	if e == nil {
		return false
	}
	c.table.remove(e)
	return true
}

// sentAt is when a request that is queued now is sent, with mu held. Asking for the time costs as much as encoding a small
// request, so those that the write loop takes together, which is about to come, share it.
func (c *Conn) sentAt() time.Duration {
	if c.out.busy || c.out.since == 0 {
		c.out.since = c.now()
	}
	return c.out.since
}

// start registers the waiter under the lock that the frame is queued under, so that no answer can miss it.
func (c *Conn) start(k Ticket, r messages.Request, credentials []byte, w Waiter, m mode) error {
	c.lock()
	defer c.mu.Unlock()
	if c.cause != nil {
		return c.cause
	}
	var deadline time.Duration
	if m == once {
		deadline = c.sentAt() + c.cfg.Timeout
	}
	size, err := c.out.append(c.table.id(k), credentials, r)
	if err != nil {
		return err
	}
	c.out.signal()
	c.table.add(entry{waiter: w, ticket: k, deadline: deadline, end: c.out.total, received: c.received.Load(), size: int32(size), mode: m})
	return nil
}

// lockTries is how often the lock is tried before one waits for it. It is held for some 100 ns, and a goroutine that waits
// for a mutex is parked at once when others are ready to run on its processor, which costs ten times that. With 128 callers
// this saves an eighth of an append.
const lockTries = 30

// lock locks mu on the way of every request and every answer.
func (c *Conn) lock() {
	for range lockTries {
		if c.mu.TryLock() {
			return
		}
	}
	c.mu.Lock()
}
