package chaos_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/messages"
)

// exchange is what a test of an ambiguous append sees and does at the proxy. Frames of appends are counted from 1 over all
// connections.
type exchange struct {
	t       *testing.T
	other   *eventstore.Client // somebody else, past the proxy
	request hook
	answer  hook
	page    hook // an answer to a read

	mu                       sync.Mutex // guards what follows
	requests, answers, pages int
}

func (x *exchange) intercept(f *eventstoretest.Frame) eventstoretest.Fault {
	var count *int
	var decide hook
	switch f.Command {
	case messages.WriteEvents:
		count, decide = &x.requests, x.request
	case messages.WriteEventsCompleted:
		count, decide = &x.answers, x.answer
	case messages.ReadStreamEventsForwardCompleted, messages.ReadStreamEventsBackwardCompleted:
		count, decide = &x.pages, x.page
	default:
		return eventstoretest.Pass
	}
	x.mu.Lock()
	*count++
	n := *count
	x.mu.Unlock()
	if decide == nil {
		return eventstoretest.Pass
	}
	return decide(x, n, f)
}

// hook decides what becomes of the n-th frame of its kind.
type hook func(x *exchange, n int, f *eventstoretest.Frame) eventstoretest.Fault

// first gives a fault to the first frame.
func first(fault eventstoretest.Fault) hook { return upToNth(1, fault) }

func upToNth(last int, fault eventstoretest.Fault) hook {
	return func(_ *exchange, n int, _ *eventstoretest.Frame) eventstoretest.Fault {
		if n > last {
			return eventstoretest.Pass
		}
		return fault
	}
}

// meanwhile has something happen when the first frame comes, before its fault does.
func meanwhile(happen func(x *exchange), fault eventstoretest.Fault) hook {
	return func(x *exchange, n int, _ *eventstoretest.Frame) eventstoretest.Fault {
		if n > 1 {
			return eventstoretest.Pass
		}
		happen(x)
		return fault
	}
}

func othersWrite(x *exchange) {
	_, err := x.other.Append(x.t.Context(), ambiguousStream, eventstore.Any, labelled(theirs))
	require.NoError(x.t, err)
}

func othersDelete(x *exchange) {
	_, err := x.other.Delete(x.t.Context(), ambiguousStream, eventstore.Any)
	require.NoError(x.t, err)
}

func othersDeleteForEver(x *exchange) {
	_, err := x.other.HardDelete(x.t.Context(), ambiguousStream, eventstore.Any)
	require.NoError(x.t, err)
}

// forgetting is a server that does not know the ids of a repeated append any more, from the one with this index on. Since the
// embedded one never forgets that soon, the repeated append comes to it with other ids.
func forgetting(from int) hook {
	return func(x *exchange, n int, f *eventstoretest.Frame) eventstoretest.Fault {
		if n == 1 {
			return eventstoretest.Pass
		}
		var m messages.Append
		require.NoError(x.t, m.Decode(f.Body, nil))
		for i := from; i < len(m.Events); i++ {
			m.Events[i].ID = uuid.New()
		}
		return instead(&m)
	}
}

// answering gives all frames from the second on an answer that the server did not give.
func answering(result messages.OperationResult) hook {
	return func(_ *exchange, n int, f *eventstoretest.Frame) eventstoretest.Fault {
		if n == 1 {
			return eventstoretest.Pass
		}
		body, err := (&messages.AppendCompleted{Result: result, Message: "no"}).AppendTo(nil)
		if err != nil {
			panic(err) // of a message without events
		}
		return eventstoretest.Answer(f.Command+1, body)
	}
}

const ambiguousStream = "ambiguous"

var (
	before = []string{"before 0", "before 1"} // what the stream holds where the version wants one
	ours   = []string{"ours 0", "ours 1", "ours 2"}
	theirs = []string{"theirs"}
)

// verdict is what the caller is told of an append, and what the log then holds behind the events before it.
type verdict struct {
	errs    []error // all of them are told; none is success
	maybe   bool    // MaybeApplied
	holds   [][]string
	gone    error // the stream cannot be read any more
	elapsed time.Duration
}

func stored(holds ...[]string) verdict { return verdict{holds: holds} }

func (v verdict) after(d time.Duration) verdict {
	v.elapsed = d
	return v
}

func unknown(errs []error, holds ...[]string) verdict {
	return verdict{errs: errs, maybe: true, holds: holds}
}

var refusedForTheirs = verdict{errs: []error{eventstore.ErrWrongVersion}, holds: [][]string{theirs}}

type ambiguity struct {
	name                  string
	request, answer, page hook
	opts                  []eventstore.Option
	exact, noStream       verdict
	any, exists           verdict
}

// same is for ambiguities that end the same with each version.
func (a ambiguity) same(v verdict) ambiguity {
	a.exact, a.noStream, a.any, a.exists = v, v, v, v
	return a
}

// fixed is for those that end the same with versions that fix a place, and otherwise with those that do not.
func (a ambiguity) fixed(v, loose verdict) ambiguity {
	a.exact, a.noStream, a.any, a.exists = v, v, loose, loose
	return a
}

// pause is between attempts where there is one.
const pause = 100 * time.Millisecond

// callTime is how long a call may take.
const callTime = 20 * time.Second

func ambiguities() []ambiguity {
	steady := []eventstore.Option{eventstore.WithHeartbeat(time.Minute, time.Minute)}
	hasty := []eventstore.Option{eventstore.WithHeartbeat(time.Second/2, time.Second/2)}
	timedOut := instead(&messages.AppendCompleted{Result: messages.CommitTimeout})
	denied := []error{eventstore.ErrAccessDenied}
	exhausted := []error{eventstore.ErrRetriesExhausted}
	return []ambiguity{
		ambiguity{name: "cuts before it is stored", request: first(eventstoretest.Cut)}.same(stored(ours)),
		ambiguity{name: "cuts while it is stored", request: first(eventstoretest.CutAfter)}.same(stored(ours)),
		ambiguity{name: "loses the request", request: first(eventstoretest.Drop)}.same(stored(ours).after(7 * time.Second)),
		ambiguity{name: "stores and cuts", answer: first(eventstoretest.Cut)}.same(stored(ours)),
		ambiguity{name: "stores and cuts, again and again", answer: upToNth(5, eventstoretest.Cut)}.same(stored(ours).after(4 * pause)),
		ambiguity{name: "stores, answers and cuts", answer: first(eventstoretest.CutAfter)}.same(stored(ours)),
		ambiguity{name: "answers twice", answer: first(eventstoretest.Duplicate)}.same(stored(ours)),
		ambiguity{name: "answers late, on a connection that lives", answer: first(eventstoretest.Delay(8 * time.Second)), opts: steady}.
			same(stored(ours).after(8 * time.Second)),
		ambiguity{name: "answers late, on a connection that was given up", answer: first(eventstoretest.Delay(8 * time.Second))}.
			same(stored(ours).after(3500 * time.Millisecond)), // 2 s of silence, and 1.5 s for the heartbeat
		ambiguity{name: "gets it late, on a connection that was given up", request: first(eventstoretest.Delay(2 * time.Second)), opts: hasty}.
			same(stored(ours).after(time.Second)), // and a second time after another second
		ambiguity{name: "stores and says CommitTimeout", answer: first(timedOut)}.same(stored(ours).after(pause)),
		ambiguity{name: "stores and says CommitTimeout, always", answer: upToNth(99, timedOut), opts: []eventstore.Option{eventstore.WithMaxAttempts(3)}}.
			same(unknown([]error{eventstore.ErrRetriesExhausted, eventstore.ErrTimeout}, ours).after(2 * pause)),
		ambiguity{name: "stores and cuts, always", answer: upToNth(99, eventstoretest.Cut), opts: []eventstore.Option{eventstore.WithMaxAttempts(3)}}.
			same(unknown([]error{eventstore.ErrRetriesExhausted, eventstore.ErrConnectionLost}, ours).after(pause)),
		ambiguity{name: "stores and never answers", answer: upToNth(99, eventstoretest.Drop)}.
			same(unknown([]error{context.DeadlineExceeded}, ours).after(callTime)),
		ambiguity{name: "never gets it", request: upToNth(99, eventstoretest.Drop)}.
			same(unknown([]error{context.DeadlineExceeded}).after(callTime)),

		// Its memory of ids: an exact version and NoStream do not need it, the others get a second copy, as documented, or are
		// read back.
		ambiguity{name: "forgets all ids", answer: first(eventstoretest.Cut), request: forgetting(0)}.
			fixed(stored(ours), stored(ours, ours)),
		ambiguity{name: "forgets the later ids", answer: first(eventstoretest.Cut), request: forgetting(1)}.same(stored(ours)),
		ambiguity{name: "forgets the last id", answer: first(eventstoretest.Cut), request: forgetting(2)}.same(stored(ours)),
		ambiguity{name: "forgets the later ids, and the first page of the read-back is lost", answer: first(eventstoretest.Cut), request: forgetting(1), page: first(eventstoretest.Cut)}.
			same(stored(ours).after(pause)),
		ambiguity{name: "forgets the later ids, and is never read back", answer: first(eventstoretest.Cut), request: forgetting(1), page: upToNth(99, eventstoretest.Drop)}.
			same(unknown([]error{eventstore.ErrWrongVersion, context.DeadlineExceeded}, ours).after(callTime)),
		ambiguity{name: "forgets all ids, and somebody else writes on", answer: meanwhile(othersWrite, eventstoretest.Cut), request: forgetting(0)}.
			fixed(stored(ours, theirs), stored(ours, theirs, ours)),
		ambiguity{name: "forgets the later ids, and somebody else writes on", answer: meanwhile(othersWrite, eventstoretest.Cut), request: forgetting(1)}.
			same(stored(ours, theirs)),

		// Somebody else is there too.
		ambiguity{name: "cuts before it is stored, and somebody else is first", request: meanwhile(othersWrite, eventstoretest.Cut)}.
			fixed(refusedForTheirs, stored(theirs, ours)),
		ambiguity{name: "says CommitTimeout and stores nothing, and somebody else is first", request: meanwhile(othersWrite, timedOutAnswer())}.
			fixed(refusedForTheirs.after(pause), stored(theirs, ours).after(pause)),
		ambiguity{name: "stores and cuts, and somebody else writes on", answer: meanwhile(othersWrite, eventstoretest.Cut)}.
			same(stored(ours, theirs)),
		ambiguity{name: "stores and cuts, and the stream is deleted for ever", answer: meanwhile(othersDeleteForEver, eventstoretest.Cut)}.
			same(verdict{errs: []error{eventstore.ErrStreamDeleted}, maybe: true, gone: eventstore.ErrStreamDeleted}),
		{
			name: "stores and cuts, and the stream is deleted", answer: meanwhile(othersDelete, eventstoretest.Cut),
			exact:    verdict{gone: eventstore.ErrStreamNotFound},
			noStream: verdict{gone: eventstore.ErrStreamNotFound},
			any:      verdict{gone: eventstore.ErrStreamNotFound},
			exists:   verdict{errs: []error{eventstore.ErrStreamDeleted}, maybe: true, gone: eventstore.ErrStreamNotFound},
		},
		ambiguity{name: "stores, cuts and denies access", answer: first(eventstoretest.Cut), request: answering(messages.AccessDenied)}.
			same(unknown(denied, ours)),
		ambiguity{name: "cuts before it is stored and denies access", request: both(first(eventstoretest.Cut), answering(messages.AccessDenied))}.
			same(unknown(denied)),
		ambiguity{name: "cuts before it is stored, and refuses it then", request: both(first(eventstoretest.Cut), answering(messages.WrongExpectedVersion))}.
			same(unknown([]error{eventstore.ErrWrongVersion})),
		ambiguity{name: "cuts before it is stored, refuses it then, and somebody else is first", request: both(meanwhile(othersWrite, eventstoretest.Cut), answering(messages.WrongExpectedVersion))}.
			fixed(refusedForTheirs, unknown([]error{eventstore.ErrWrongVersion}, theirs)),
		ambiguity{name: "stores, cuts and answers with nonsense", answer: first(eventstoretest.Cut), request: answering(99)}.
			same(unknown([]error{eventstore.ErrProtocol}, ours)),
		ambiguity{name: "is busy", request: upToNth(99, eventstoretest.TooBusy()), opts: []eventstore.Option{eventstore.WithMaxAttempts(3)}}.
			same(verdict{errs: slices.Concat(exhausted, []error{eventstore.ErrBusy})}.after(2 * pause)),
		ambiguity{name: "cuts before it is stored, and is busy then", request: both(first(eventstoretest.Cut), upToNth(99, eventstoretest.TooBusy())), opts: []eventstore.Option{eventstore.WithMaxAttempts(3)}}.
			same(unknown(slices.Concat(exhausted, []error{eventstore.ErrBusy})).after(pause)),
	}
}

// both is the first hook for the first frame and the second one for those behind it.
func both(a, b hook) hook {
	return func(x *exchange, n int, f *eventstoretest.Frame) eventstoretest.Fault {
		if n == 1 {
			return a(x, n, f)
		}
		return b(x, n, f)
	}
}

func timedOutAnswer() eventstoretest.Fault {
	body, err := (&messages.AppendCompleted{Result: messages.CommitTimeout}).AppendTo(nil)
	if err != nil {
		panic(err) // of a message without events
	}
	return eventstoretest.Answer(messages.WriteEventsCompleted, body)
}

// A server loses an append, its answer, or its memory, and somebody else is there too: the caller is told what the log holds, or
// that nobody knows, and never gets a second copy behind its back with a version that fixes its place.
func TestAmbiguousAppends(t *testing.T) {
	for _, a := range ambiguities() {
		for _, v := range []struct {
			name     string
			expected eventstore.ExpectedVersion
			holds    []string
			want     verdict
		}{
			{"exact", 1, before, a.exact},
			{"no stream", eventstore.NoStream, nil, a.noStream},
			{"any", eventstore.Any, before, a.any},
			{"stream exists", eventstore.StreamExists, before, a.exists},
		} {
			for _, async := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/async=%v", a.name, v.name, async), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { a.test(t, async, v.expected, v.holds, v.want) })
				})
			}
		}
	}
}

func (a *ambiguity) test(t *testing.T, async bool, expected eventstore.ExpectedVersion, before []string, want verdict) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	srv := eventstoretest.Run(t, eventstoretest.InMemory())
	other, err := eventstore.Connect(ctx, srv.DirectURL(), eventstore.WithDialer(srv.Dial))
	require.NoError(t, err)
	defer func() { require.NoError(t, other.Close()) }()
	if len(before) > 0 {
		_, err = other.Append(ctx, ambiguousStream, eventstore.NoStream, labelled(before))
		require.NoError(t, err)
	}
	c := srv.Client(t, append([]eventstore.Option{
		eventstore.WithBackoff(func() backoff.BackOff { return backoff.NewConstantBackOff(pause) }),
	}, a.opts...)...)
	x := &exchange{t: t, other: other, request: a.request, answer: a.answer, page: a.page}
	time.Sleep(time.Second) // a connection that lives that long is replaced at once
	require.NoError(t, c.Ping(ctx))
	remove := srv.Intercept(x.intercept)

	batch := labelled(ours)
	begun := time.Now()
	callCtx, done := context.WithTimeout(ctx, callTime)
	var result eventstore.WriteResult
	if async {
		result, err = c.AppendAsync(callCtx, ambiguousStream, expected, batch).Wait(ctx)
	} else {
		result, err = c.Append(callCtx, ambiguousStream, expected, batch)
	}
	done()
	require.Equal(t, want.elapsed, time.Since(begun))
	remove()

	requireVerdict(t, want, err)
	holds := holdsOf(ctx, t, other, want.gone)
	if want.gone == nil {
		require.Equal(t, slices.Concat(before, slices.Concat(want.holds...)), holds)
	}
	if err == nil && want.gone == nil {
		require.Equal(t, ours, holds[result.First:result.Last+1], "the numbers are of our events")
	}
	// A connection that got answers to nobody, or too many, has the right ones for those who come then.
	require.NoError(t, c.Ping(ctx))
	after, err := c.Append(ctx, "another", eventstore.NoStream, labelled(theirs))
	require.NoError(t, err)
	require.Equal(t, eventstore.ExpectedVersion(0), after.Last)

	// A copy of the request that is still under way changes nothing when it is there at last.
	time.Sleep(5 * time.Second)
	require.Equal(t, holds, holdsOf(ctx, t, other, want.gone))
	if want.maybe && want.gone == nil && expected >= eventstore.NoStream {
		// As MaybeApplied says, the same events with the same ids may be written again.
		result, err = c.Append(ctx, ambiguousStream, expected, batch)
		require.NoError(t, err)
		require.Equal(t, expected+1, result.First)
		require.Equal(t, slices.Concat(before, ours), holdsOf(ctx, t, other, nil))
	}
}

func requireVerdict(t *testing.T, want verdict, err error) {
	t.Helper()
	if len(want.errs) == 0 {
		require.NoError(t, err)
		return
	}
	for _, is := range want.errs {
		require.ErrorIs(t, err, is)
	}
	require.Equal(t, want.maybe, eventstore.MaybeApplied(err), "%v", err)
	require.Equal(t, want.maybe, strings.Contains(err.Error(), "may have been applied"), "%v", err)
	var op *eventstore.OpError
	require.ErrorAs(t, err, &op)
	require.Equal(t, ambiguousStream, op.Stream)
}

// holdsOf returns what the log holds, as somebody sees it whom the faults do not meet.
func holdsOf(ctx context.Context, t *testing.T, c *eventstore.Client, gone error) (labels []string) {
	t.Helper()
	for e, err := range c.ReadStream(ctx, ambiguousStream, eventstore.Start) {
		switch {
		case gone != nil:
			require.ErrorIs(t, err, gone)
			return nil
		case errors.Is(err, eventstore.ErrStreamNotFound):
			return nil
		}
		require.NoError(t, err)
		labels = append(labels, label(e, int64(len(labels))))
	}
	return labels
}

// The caller gives up while the request is under way, on the connection that the client has or on one that it has replaced:
// it is stored when nobody waits for it any more.
func TestAnAppendThatWasGivenUpMayComeLater(t *testing.T) {
	for name, heartbeat := range map[string]time.Duration{"same connection": time.Minute, "another connection": time.Second / 2} {
		for _, expected := range []eventstore.ExpectedVersion{eventstore.NoStream, eventstore.Any} {
			t.Run(fmt.Sprintf("%s/%v", name, expected), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					srv := eventstoretest.Run(t, eventstoretest.InMemory())
					c := srv.Client(t, eventstore.WithHeartbeat(heartbeat, heartbeat))
					x := &exchange{t: t, request: both(first(eventstoretest.Delay(3*time.Second)), upToNth(99, eventstoretest.Drop))}
					srv.Intercept(x.intercept)
					ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
					defer cancel()
					_, err := c.Append(ctx, ambiguousStream, expected, labelled(ours))
					require.ErrorIs(t, err, context.DeadlineExceeded)
					require.True(t, eventstore.MaybeApplied(err), "%v", err)
					require.Empty(t, holdsOf(t.Context(), t, srv.Client(t), nil))
					time.Sleep(2 * time.Second)
					require.Equal(t, ours, holdsOf(t.Context(), t, srv.Client(t), nil))
				})
			})
		}
	}
}

// The version is ahead of the stream from the beginning. A first attempt that was lost may still come, when the stream is
// there: what the caller is told is that nobody knows. Nothing was lost: it is refused.
func TestAnAppendWithAVersionAheadMayComeLater(t *testing.T) {
	for _, lost := range []bool{false, true} {
		for _, holds := range [][]string{nil, before} {
			t.Run(fmt.Sprintf("lost=%v/behind %d events", lost, len(holds)), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					srv := eventstoretest.Run(t, eventstoretest.InMemory())
					c := srv.Client(t)
					if len(holds) > 0 {
						_, err := c.Append(t.Context(), ambiguousStream, eventstore.NoStream, labelled(holds))
						require.NoError(t, err)
					}
					x := &exchange{t: t}
					if lost {
						x.request = first(eventstoretest.Cut)
					}
					srv.Intercept(x.intercept)
					_, err := c.Append(t.Context(), ambiguousStream, 5, labelled(ours))
					require.ErrorIs(t, err, eventstore.ErrWrongVersion)
					require.Equal(t, lost, eventstore.MaybeApplied(err), "%v", err)
					require.Equal(t, holds, holdsOf(t.Context(), t, c, nil))
				})
			})
		}
	}
}
