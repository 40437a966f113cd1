package eventstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/goeventstore/eventstore/conn"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// call is one request on its way to its answer.
//
// States: waiting (in the client's queue, for a connection), sent (in a connection's table), delayed (its timer runs),
// settled. Whoever takes a call out of the queue, the table or the timers makes its next step, so that there is one at a time:
//
//	waiting -> sent      the supervisor publishes a connection; queued calls are sent in the order of their sequence
//	sent    -> settled   the answer: a result, or a refusal
//	sent    -> delayed   the server did not take it (NotHandled), or does not know the outcome (a time-out result)
//	sent    -> waiting   the connection ended, or the attempt timed out, and the request may be sent again
//	sent    -> settled   the same, and it may not, or the attempts are spent
//	delayed -> waiting   its time has come
//	any     -> settled   Close
//
// A call whose context ends is abandoned: its caller leaves at once, and whoever finds it afterwards drops it. Nothing reads
// the request any more when abandon has returned.
type call struct {
	c       *Client
	request messages.Request
	answer  messages.Command // the command that answers it; 0: any
	auth    []byte
	repeat  bool // may be sent again when an earlier attempt may have reached the server
	untimed bool // one attempt lasts as long as the connection

	sequence   uint64
	prev, next *call // in the queue

	mu        sync.Mutex // guards what follows
	abandoned bool
	conn      *conn.Conn // of the last attempt
	ticket    conn.Ticket
	attempts  int
	open      bool  // the last attempt has no answer yet
	unknown   bool  // an attempt may have reached the server and its answer does not tell, or never came
	last      error // why the last attempt did not settle it

	waits backoff.BackOff // before the next attempts; made when needed

	size     int64     // the room that an append takes
	started  time.Time // for hooks
	received int       // bytes of the answer
	// A page that turns out too large is asked for again with fewer events: count is where its request says how many.
	count *int32
	slow  int // attempts that timed out while bytes came

	stays int // guarded by mu: time-outs of attempts whose request was not written yet

	// A call that nobody has to wait for (AppendAsync) gives its place in flight back when it is settled, by whoever comes
	// first, and looks after its context itself.
	async   bool
	state   atomic.Uint32   // of async: what has happened to it, of claimed, settled and awaited
	unwatch func() bool     // of async: set when expire may be called at any time, also when it was settled long ago
	ctx     context.Context //nolint:containedctx // of async: it governs the operation, which no function call outlasts

	// The outcome, written before done gets its one value. Of an async call it gets one only if somebody awaits it there.
	done  chan struct{} // room for one, so that the read loop never waits
	err   error
	reply messages.Reply
	room  []byte // for the reply's body; it is the call's until that is settled

	// An append has its request and its decoded answer in place, so that it costs no allocation.
	append    messages.Append
	opts      []CallOption // the caller's, for reading it back
	completed messages.AppendCompleted
}

// begin takes a call from the pool.
func (c *Client) begin(r messages.Request, auth []byte) *call {
	k := c.calls.Get().(*call)
	k.request, k.auth = r, auth
	k.answer, k.repeat = rules(r.Command())
	return k
}

// beginAppend takes a call from the pool whose request is its own.
func (c *Client) beginAppend(auth []byte) *call {
	k := c.calls.Get().(*call)
	k.request, k.auth = &k.append, auth
	k.answer, k.repeat = messages.WriteEventsCompleted, true
	return k
}

// recycle gives a settled call back. Its memory is used again: nothing of it may be kept but the reply's body.
func (k *call) recycle() {
	k.mu.Lock() // whoever sent it may be about to let go of the lock
	defer k.mu.Unlock()
	if k.abandoned || k.unwatch != nil {
		return
	}
	clear(k.append.Events)
	k.append = messages.Append{Events: k.append.Events[:0]}
	k.request, k.auth, k.conn, k.last, k.waits, k.err = nil, nil, nil, nil, nil, nil
	k.async, k.ctx, k.room, k.opts = false, nil, nil, nil
	k.state.Store(0)
	k.reply = messages.Reply{}
	k.attempts, k.open, k.unknown, k.untimed = 0, false, false, false
	k.size, k.received = 0, 0
	k.count, k.slow, k.stays = nil, 0, 0
	k.c.calls.Put(k)
}

// enter takes a place among the calls in flight, for an operation with all that belongs to it: what it looks up on its way
// (within) needs no place of its own, and goes on while the client drains. leave gives the place back.
func (c *Client) enter(ctx context.Context, within bool) error {
	switch {
	case ctx.Err() != nil:
		return contextError(ctx, nil)
	case within:
		return nil
	case c.draining.Load():
		return ErrClosed
	}
	return refusedPlace(ctx, c.limit.acquire(ctx, 1))
}

func (c *Client) leave(within bool) {
	if !within {
		c.limit.release(1)
	}
}

// enterAppend is enter for an append, which needs room for its bytes before: who waits for that is in no reader's way.
func (c *Client) enterAppend(ctx context.Context, k *call) error {
	switch {
	case c.readOnly:
		return ErrReadOnly
	case ctx.Err() != nil:
		return contextError(ctx, nil)
	case c.draining.Load():
		return ErrClosed
	}
	n := int64(k.payload())
	if err := c.room.acquire(ctx, n); err != nil {
		return refusedPlace(ctx, err)
	}
	if err := c.enter(ctx, false); err != nil {
		c.room.release(n)
		return err
	}
	k.size = n
	return nil
}

func (c *Client) leaveAppend(k *call) {
	c.limit.release(1)
	c.room.release(k.size)
}

// payload is the size of an append: data, metadata and types.
func (k *call) payload() int {
	n := 0
	for i := range k.append.Events {
		e := &k.append.Events[i]
		n += len(e.Type) + len(e.Data) + len(e.Metadata)
	}
	return n
}

// refusedPlace is the error of a place that was not given.
func refusedPlace(ctx context.Context, err error) error {
	if err == nil || errors.Is(err, ErrQueueFull) {
		return err
	}
	return contextError(ctx, nil)
}

// do sends k and waits until it is settled or ctx ends. One whose credentials are refused is sent again once if the client has
// others by now.
func (c *Client) do(ctx context.Context, k *call) (err error) {
	if c.readOnly && changes(k.request.Command()) {
		return ErrReadOnly
	}
	if c.hooks.calls() {
		k.begun()
		defer func() { k.ended(err) }()
	}
	err = c.settle(ctx, k)
	if errors.Is(err, ErrNotAuthenticated) && c.renewed(ctx, k.auth) {
		k.auth, k.err = c.login(), nil
		err = c.settle(ctx, k)
	}
	return err
}

func (c *Client) settle(ctx context.Context, k *call) error {
	k.sequence = c.sequence.Add(1)
	c.submit(k)
	select {
	case <-k.done:
		return k.err
	case <-ctx.Done():
	}
	if settled, last := k.abandon(); !settled {
		return contextError(ctx, last)
	}
	return k.err
}

// contextError is the context's error, with its cause and the last failure beside it.
func contextError(ctx context.Context, last error) error {
	err := ctx.Err()
	if cause := context.Cause(ctx); !errors.Is(err, cause) {
		err = fmt.Errorf("%w: %w", err, cause)
	}
	if last != nil {
		err = fmt.Errorf("%w (last failure: %w)", err, last)
	}
	return err
}

// submit sends k on the live connection, or queues it for the next one.
func (c *Client) submit(k *call) {
	if cn := c.live.Load(); cn != nil && k.sendOn(cn) {
		return
	}
	var refused error
	c.mu.Lock()
	// Under the lock, a connection is either published, and then the queue was empty before, or not yet.
	switch cn := c.live.Load(); {
	case c.closed:
		refused = ErrClosed
	case cn != nil && k.sendOn(cn):
	case c.failFast:
		refused = k.disconnected(c.state.Err)
	case !c.queue.insert(k, k.wasSent()):
		refused = ErrQueueFull
	case k.async && k.unwatch == nil: // it may stay there for long, with nobody who waits
		k.unwatch = context.AfterFunc(k.ctx, k.expire)
	}
	c.mu.Unlock()
	if refused != nil {
		k.finish(refused)
	}
}

func (k *call) wasSent() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.attempts > 0
}

// disconnected is the error of a call that does not wait for a connection: the cause is that of its last attempt, if it had one.
func (k *call) disconnected(cause error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.last != nil {
		cause = k.last
	}
	return disconnected{cause}
}

// sendOn makes an attempt on cn. It returns false when cn has ended, and k is still to be sent; true when it was sent, is
// abandoned, or cannot be encoded and is settled.
func (k *call) sendOn(cn *conn.Conn) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.abandoned {
		return true
	}
	k.conn, k.ticket = cn, cn.NextTicket()
	k.attempts++
	k.open = true
	err := cn.Call(k.ticket, k.request, k.auth, k, k.untimed)
	if err == nil {
		return true
	}
	k.attempts--
	k.open = false
	if cn.Err() != nil {
		return false
	}
	k.finish(tooLarge(err))
	return true
}

func tooLarge(err error) error {
	if errors.Is(err, messages.ErrFrameTooLarge) {
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	}
	return err
}

// finish settles k. Only its owner of the moment calls it, once; one that is async may meet the end of its context.
func (k *call) finish(err error) {
	if k.async {
		if k.state.Or(claimed)&claimed != 0 {
			return
		}
		if k.unwatch != nil {
			k.unwatch()
		}
		k.c.leaveAppend(k)
		k.err = err
		if k.state.Or(settled)&awaited != 0 {
			k.done <- struct{}{}
		}
		return
	}
	k.err = err
	k.done <- struct{}{}
}

// What has happened to an async call, as bits of its state.
const (
	claimed uint32 = 1 << iota // somebody settles it
	settled                    // its outcome is there
	awaited                    // somebody waits for the outcome at done, which costs more than to look
)

// hasSettled reports, of an async call that nobody awaits, whether its outcome is there.
func (k *call) hasSettled() bool { return k.state.Load() == claimed|settled }

// outcome gives a value, or is closed, when an async call is settled.
func (k *call) outcome() <-chan struct{} {
	if k.state.Or(awaited) == claimed|settled {
		k.state.Store(claimed | settled) // nobody writes to it any more
		return isSettled
	}
	return k.done
}

var isSettled = func() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// abandon takes k away from wherever it is. It returns true if k was settled meanwhile, else the last attempt's failure.
func (k *call) abandon() (settled bool, last error) {
	last = k.withdraw()
	select {
	case <-k.done:
		return true, last
	default:
		return false, last
	}
}

// expire settles an async call whose context has ended, unless it is settled already.
func (k *call) expire() { k.finish(contextError(k.ctx, k.withdraw())) }

// withdraw takes k away from wherever it is and returns the last attempt's failure.
func (k *call) withdraw() (last error) {
	k.mu.Lock()
	k.abandoned = true
	cn, ticket := k.conn, k.ticket
	last = k.last
	k.mu.Unlock()
	if cn != nil {
		cn.Forget(ticket)
	}
	c := k.c
	c.mu.Lock()
	c.queue.remove(k)
	if timer := c.delayed[k]; timer != nil {
		delete(c.delayed, k)
		if timer.Stop() {
			c.loops.Done()
		}
	}
	c.mu.Unlock()
	return last
}

// largePage is how many bytes keep a caller busy for longer than it takes to let it run first.
const largePage = 32 << 10

// Reply implements conn.Waiter, on the read loop.
func (k *call) Reply(command messages.Command, body []byte) {
	k.mu.Lock()
	k.open = false
	k.received = len(body)
	k.mu.Unlock()
	if err := refusal(command, body); err != nil {
		if command == messages.NotHandled {
			k.c.heed(err)
			k.again(err, false, true)
			return
		}
		k.finish(err)
		return
	}
	if k.answer != 0 && command != k.answer {
		k.failUnknown(fmt.Errorf("%w: %s to %s", ErrProtocol, command, k.request.Command()))
		return
	}
	if k.request != &k.append {
		k.reply = messages.Reply{Command: command, Body: append(k.room, body...)}
		k.finish(nil)
		if len(body) >= largePage {
			runtime.Gosched() // or its caller waits for this processor, while the next one is read
		}
		return
	}
	if err := k.completed.Decode(body); err != nil {
		k.failUnknown(fmt.Errorf("%w: %w", ErrProtocol, err))
		return
	}
	if isTimeout(k.completed.Result) {
		k.again(resultError(k.completed.Result, k.completed.Message), true, true)
		return
	}
	k.finish(nil)
}

// failUnknown settles k with an answer that does not tell what the server did.
func (k *call) failUnknown(err error) {
	k.mu.Lock()
	k.unknown = true
	k.mu.Unlock()
	k.finish(err)
}

// End implements conn.Waiter: the attempt timed out, or its connection ended.
func (k *call) End(err error) {
	switch {
	case errors.Is(err, conn.ErrClosed):
		k.failUnknown(ErrClosed)
	case errors.Is(err, conn.ErrAnswerTooLarge):
		err = tooLarge(err)
		if k.halve() {
			k.again(err, true, false)
			return
		}
		k.failUnknown(err)
	case errors.Is(err, messages.ErrFrameTooLarge): // whose answer that was did not come any more
		k.halve()
		k.again(err, true, false)
	default:
		var slow *conn.SlowError
		if errors.As(err, &slow) {
			if k.slow++; k.slow > 1 { // the first request or its answer may have been lost
				k.halve()
			}
		}
		k.again(err, true, false)
	}
}

// Unsent implements conn.Patient: the attempt's time is up, and its request is not written yet. To send it again would only make
// the line longer, so the call goes on waiting, which counts as an attempt.
func (k *call) Unsent(ticket conn.Ticket, err *conn.UnsentError) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ticket != ticket || k.abandoned {
		return true // another call by now
	}
	k.stays++
	limit := k.c.maxAttempts
	if limit > 0 && k.attempts+k.stays > limit {
		return false
	}
	k.last = err
	return true
}

// halve has a page asked for again with half the events; false if there is nothing to halve.
func (k *call) halve() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.abandoned || k.count == nil || *k.count <= 1 {
		return false
	}
	*k.count /= 2
	return true
}

// again makes the next attempt, if there may be one: after a pause when the server is to be given time, else at once. The
// outcome of the last is unknown if the server may have acted on it.
func (k *call) again(cause error, unknown, pause bool) {
	k.mu.Lock()
	k.open = false
	k.last = cause
	k.unknown = k.unknown || unknown
	attempts, abandoned, from := k.attempts+k.stays, k.abandoned, k.conn
	k.mu.Unlock()
	switch limit := k.c.maxAttempts; {
	case abandoned:
	case k.async && k.ctx.Err() != nil:
		k.finish(contextError(k.ctx, cause))
	case unknown && !k.repeat:
		k.finish(cause)
	case limit > 0 && attempts >= limit:
		k.finish(fmt.Errorf("%w: %w", ErrRetriesExhausted, cause))
	case pause:
		k.delay(attempts, cause, from)
	default:
		k.c.retried(k, attempts, 0, cause)
		k.c.submit(k)
	}
}

// retried tells the hooks.
func (c *Client) retried(k *call, attempts int, after time.Duration, cause error) {
	if len(c.hooks.onRetry) > 0 {
		c.hooks.later(RetryInfo{Command: k.request.Command(), Attempt: attempts, After: after, Err: cause})
	}
}

// delay submits k again after the next interval of its backoff, or at once if calls go to another connection by now than the one
// that it is to give time: publish sends those that are delayed, and this one is not yet.
func (k *call) delay(attempts int, cause error, from *conn.Conn) {
	c := k.c
	if k.waits == nil {
		k.waits = c.backoff()
	}
	d := k.waits.NextBackOff()
	if d == backoff.Stop {
		k.finish(fmt.Errorf("%w: %w", ErrRetriesExhausted, cause))
		return
	}
	c.retried(k, attempts, d, cause)
	c.logger.Warn("call is sent again",
		slog.String("command", k.request.Command().String()), slog.Duration("after", d), slog.Any("err", cause))
	c.mu.Lock()
	closed, moved := c.closed, c.live.Load() != from
	if !closed && !moved {
		c.loops.Add(1)
		c.delayed[k] = time.AfterFunc(d, func() { c.due(k) })
	}
	c.mu.Unlock()
	switch {
	case closed:
		k.finish(ErrClosed)
	case moved:
		c.submit(k)
	}
}

func (c *Client) due(k *call) {
	defer c.loops.Done()
	c.mu.Lock()
	_, mine := c.delayed[k]
	delete(c.delayed, k)
	c.mu.Unlock()
	if mine {
		c.submit(k)
	}
}

// fail wraps the error of a call that failed with what is known of its attempts.
func (k *call) fail(op, stream string, err error) *OpError {
	k.mu.Lock()
	defer k.mu.Unlock()
	e := &OpError{Op: op, Stream: stream, Attempts: k.attempts, Err: err}
	if k.conn != nil {
		e.Addr = k.conn.Addr()
	}
	e.Unknown = changes(k.request.Command()) && (k.unknown || k.open)
	return e
}

// exec makes a call of any request but an append. The reply's body is the caller's.
func (c *Client) exec(ctx context.Context, op string, r messages.Request, o callOptions) (messages.Reply, error) {
	if err := c.enter(ctx, o.within); err != nil {
		return messages.Reply{}, &OpError{Op: op, Err: err}
	}
	defer c.leave(o.within)
	k := c.begin(r, o.credentials)
	defer k.recycle()
	if err := c.do(ctx, k); err != nil {
		return messages.Reply{}, k.fail(op, "", err)
	}
	return k.reply, nil
}

// Call sends any message of the protocol and returns its answer, whose body belongs to the caller. NotHandled is followed
// and NotAuthenticated and BadRequest are errors; result codes come back as they are, inside the body. A read is sent again
// after a lost connection or a time-out, as is WriteEvents, whose event ids make that safe; other requests are not, and
// neither are unknown commands: see MaybeApplied.
func (c *Client) Call(ctx context.Context, r messages.Request, opts ...CallOption) (messages.Reply, error) {
	o, err := c.callOptions(opts)
	if err != nil {
		return messages.Reply{}, &OpError{Op: "call " + r.Command().String(), Err: err}
	}
	return c.exec(ctx, "call "+r.Command().String(), r, o)
}

// callQueue holds calls in the order of their sequence. The links are in the calls, so that removing one is cheap.
type callQueue struct {
	head, tail *call
	waiting    *waiting
}

func (q *callQueue) first() *call { return q.head }

// insert reports whether there is room; a call that must come in always finds it.
func (q *callQueue) insert(k *call, must bool) bool {
	if !q.waiting.enter(must) {
		return false
	}
	after := q.tail
	for after != nil && after.sequence > k.sequence {
		after = after.prev
	}
	k.prev = after
	if after == nil {
		k.next = q.head
		q.head = k
	} else {
		k.next = after.next
		after.next = k
	}
	if k.next == nil {
		q.tail = k
	} else {
		k.next.prev = k
	}
	return true
}

// remove takes k out if it is there.
func (q *callQueue) remove(k *call) {
	if k.prev == nil && q.head != k {
		return
	}
	q.waiting.leave()
	if k.prev == nil {
		q.head = k.next
	} else {
		k.prev.next = k.next
	}
	if k.next == nil {
		q.tail = k.prev
	} else {
		k.next.prev = k.prev
	}
	k.prev, k.next = nil, nil
}

func (q *callQueue) takeAll() []*call {
	var all []*call
	for k := q.head; k != nil; k = q.head {
		q.remove(k)
		all = append(all, k)
	}
	return all
}

// rules tells which command answers a request, and whether the request may be sent again when its outcome is unknown: it
// changes nothing, or its event ids tell the server.
func rules(c messages.Command) (answer messages.Command, repeat bool) {
	switch c {
	case messages.Ping:
		return messages.Pong, true
	case messages.WriteEvents:
		return messages.WriteEventsCompleted, true
	case messages.ReadEvent, messages.ReadStreamEventsForward, messages.ReadStreamEventsBackward,
		messages.ReadAllEventsForward, messages.ReadAllEventsBackward, messages.FilteredReadAllEventsForward:
		return c + 1, true
	case messages.FilteredReadAllEventsBackward:
		return messages.FilteredReadAllEventsBackwardCompleted, true
	case messages.Authenticate:
		return messages.Authenticated, true
	case messages.IdentifyClient:
		return messages.ClientIdentified, true
	case messages.SubscribeToStream, messages.FilteredSubscribeToStream, messages.ConnectToPersistentSubscription:
		return 0, true // an exchange; on another connection it is another one
	case messages.TransactionStart, messages.TransactionWrite, messages.TransactionCommit, messages.DeleteStream,
		messages.CreatePersistentSubscription, messages.DeletePersistentSubscription, messages.UpdatePersistentSubscription,
		messages.ScavengeDatabase:
		return c + 1, false
	}
	return 0, false
}

// changes reports whether the request may change what the server holds.
func changes(c messages.Command) bool {
	_, repeat := rules(c)
	return !repeat || c == messages.WriteEvents
}

// refusal is the error of an answer that any request may get instead of its own; nil for all others.
func refusal(command messages.Command, body []byte) error {
	switch command {
	case messages.NotAuthenticated:
		return fmt.Errorf("%w: the server says %q", ErrNotAuthenticated, body)
	case messages.BadRequest:
		return &ServerError{Command: messages.BadRequest, Message: string(body)}
	case messages.NotHandled:
		return notHandled(body)
	}
	return nil
}

func notHandled(body []byte) error {
	var m pb.NotHandled
	if err := (messages.Reply{Command: messages.NotHandled, Body: body}).Unmarshal(&m); err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	switch m.GetReason() {
	case pb.NotHandled_NotReady:
		return ErrNotReady
	case pb.NotHandled_TooBusy:
		return ErrBusy
	case pb.NotHandled_NotLeader:
		return leaderHint(ErrNotLeader, m.GetAdditionalInfo())
	case pb.NotHandled_IsReadOnly:
		return leaderHint(ErrServerReadOnly, m.GetAdditionalInfo())
	}
	return fmt.Errorf("%w: NotHandled with reason %d", ErrProtocol, m.GetReason())
}

func isTimeout(r messages.OperationResult) bool {
	return r == messages.PrepareTimeout || r == messages.CommitTimeout || r == messages.ForwardTimeout
}

// resultError is the error of a write's result, nil for success.
func resultError(r messages.OperationResult, message string) error {
	switch {
	case r == messages.Success:
		return nil
	case r == messages.WrongExpectedVersion:
		return ErrWrongVersion
	case r == messages.StreamDeleted:
		return ErrStreamDeleted
	case r == messages.AccessDenied:
		return ErrAccessDenied
	case r == messages.InvalidTransaction:
		return fmt.Errorf("%w: %s", ErrInvalidTransaction, message)
	case isTimeout(r):
		return fmt.Errorf("%w: the server answered %s", ErrTimeout, r)
	}
	return fmt.Errorf("%w: result %s %s", ErrProtocol, r, message)
}
