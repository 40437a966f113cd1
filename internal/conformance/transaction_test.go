package conformance_test

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

func startOf(stream string, expected int64) messages.Request {
	return messages.Of(messages.TransactionStart, &pb.TransactionStart{
		EventStreamId: &stream, ExpectedVersion: &expected, RequireLeader: proto.Bool(true),
	})
}

func writeTo(transaction int64, events ...messages.NewEvent) messages.Request {
	m := &pb.TransactionWrite{TransactionId: &transaction, RequireLeader: proto.Bool(true)}
	for i := range events {
		e := &events[i]
		m.Events = append(m.Events, &pb.NewEvent{
			EventId: messages.AppendGUID(nil, e.ID), EventType: &e.Type, DataContentType: &e.ContentType,
			MetadataContentType: &e.MetadataType, Data: e.Data, Metadata: e.Metadata,
		})
	}
	return messages.Of(messages.TransactionWrite, m)
}

func commitOf(transaction int64) messages.Request {
	return messages.Of(messages.TransactionCommit, &pb.TransactionCommit{TransactionId: &transaction, RequireLeader: proto.Bool(true)})
}

// start starts a transaction, which always succeeds, and returns its id.
func (p *peer) start(stream string, expected int64) int64 {
	p.t.Helper()
	var m pb.TransactionStartCompleted
	p.call(startOf(stream, expected)).into(p.t, messages.TransactionStartCompleted, &m)
	require.Equal(p.t, messages.Success, m.GetResult(), "%s", m.GetMessage())
	require.Nil(p.t, m.Message)
	require.Positive(p.t, m.GetTransactionId())
	return m.GetTransactionId()
}

// addTo writes the named events to a transaction, which always succeeds.
func (p *peer) addTo(transaction int64, names ...string) {
	p.t.Helper()
	var m pb.TransactionWriteCompleted
	p.call(writeTo(transaction, p.named(names...)...)).into(p.t, messages.TransactionWriteCompleted, &m)
	require.Equal(p.t, messages.Success, m.GetResult(), "%s", m.GetMessage())
	require.Nil(p.t, m.Message)
	require.Equal(p.t, transaction, m.GetTransactionId())
}

func (p *peer) commit(transaction int64, credentials ...string) *pb.TransactionCommitCompleted {
	p.t.Helper()
	var m pb.TransactionCommitCompleted
	p.call(commitOf(transaction), credentials...).into(p.t, messages.TransactionCommitCompleted, &m)
	require.Equal(p.t, transaction, m.GetTransactionId())
	return &m
}

// commits commits a transaction that is good, and returns its position.
func (p *peer) commits(transaction, first, last int64) int64 {
	p.t.Helper()
	m := p.commit(transaction)
	require.Equal(p.t, messages.Success, m.GetResult(), "%s", m.GetMessage())
	require.Equal(p.t, proto.String(""), m.Message)
	require.Equal(p.t, []int64{first, last}, []int64{m.GetFirstEventNumber(), m.GetLastEventNumber()})
	require.Greater(p.t, m.GetCommitPosition(), transaction)
	require.Equal(p.t, m.GetCommitPosition(), m.GetPreparePosition())
	return m.GetCommitPosition()
}

// recommits commits a transaction whose events are there already.
func (p *peer) recommits(transaction, first, last int64) {
	p.t.Helper()
	m := p.commit(transaction)
	require.Equal(p.t, messages.Success, m.GetResult(), "%s", m.GetMessage())
	require.Equal(p.t, proto.String(""), m.Message)
	require.Equal(p.t, []int64{first, last, -1, -1}, []int64{
		m.GetFirstEventNumber(), m.GetLastEventNumber(), m.GetPreparePosition(), m.GetCommitPosition(),
	})
}

// notCommitted checks the answer to a commit that is refused: unlike a write's it has no positions.
func notCommitted(t *testing.T, m *pb.TransactionCommitCompleted, result messages.OperationResult, text string) {
	t.Helper()
	require.Equal(t, result, m.GetResult(), "%s", m.GetMessage())
	require.Equal(t, text, m.GetMessage())
	require.Equal(t, []int64{messages.FailedNumber, messages.FailedNumber, 0, 0}, []int64{
		m.GetFirstEventNumber(), m.GetLastEventNumber(), m.GetPreparePosition(), m.GetCommitPosition(),
	})
}

const (
	textWrong   = "Wrong expected version."
	textDeleted = "Stream is deleted."
	textDenied  = "Access denied."
)

func (p *peer) data(stream string) []string {
	p.t.Helper()
	var m pb.ReadStreamEventsCompleted
	p.call(&messages.StreamRead{Stream: stream, Count: 4096, RequireLeader: true}).into(p.t, messages.ReadStreamEventsForwardCompleted, &m)
	data := make([]string, 0, len(m.GetEvents()))
	for _, e := range m.GetEvents() {
		data = append(data, string(e.GetEvent().GetData()))
	}
	return data
}

// TestTransaction: nothing is seen before the commit, from whatever connection it is written and committed.
func TestTransaction(t *testing.T) {
	srv := serve(t)
	p, other := dialPeer(t, srv), dialPeer(t, srv)
	stream := newStream("transaction")
	id, confirmation := p.subscribe(stream)
	require.EqualValues(t, -1, confirmation.GetLastEventNumber())

	transaction := p.start(stream, -1)
	p.addTo(transaction, "a", "b")
	other.addTo(transaction, "c")
	p.addTo(transaction)
	require.Equal(t, messages.ReadStreamNoStream, p.forward(stream, 0, 9).result)
	position := other.commits(transaction, 0, 2)
	require.Equal(t, []string{"a", "b", "c"}, p.data(stream))

	// The events' own positions are those where they were written, behind the start.
	before := transaction
	for n := range int64(3) {
		e := p.event(id)
		require.Equal(t, n, e.GetEvent().GetEventNumber())
		require.Equal(t, position, e.GetCommitPosition())
		require.Greater(t, e.GetPreparePosition(), before)
		require.Less(t, e.GetPreparePosition(), position)
		before = e.GetPreparePosition()
	}

	// What is written behind the commit is lost.
	p.recommits(transaction, 0, 2)
	p.addTo(transaction, "d")
	p.recommits(transaction, 0, 2)
	require.Equal(t, messages.Success, p.append(stream, 2, "e").GetResult())
	p.recommits(transaction, 0, 2)
	require.Equal(t, []string{"a", "b", "c", "e"}, p.data(stream))
}

// TestTransactionVersions: the version is looked at by the commit alone, and then as a write's is.
func TestTransactionVersions(t *testing.T) {
	srv := serve(t)
	p := dialPeer(t, srv)
	before40 := p.before40()
	for _, c := range versions {
		for expected, want := range c.outcomes {
			if expected == -4 { // there is no such thing
				continue
			}
			if before40 && expected > math.MaxInt32 { // 3.9 stores 32 bits of it, and its writer stops for good when they are negative
				continue
			}
			t.Run(fmt.Sprintf("%s/%d", c.state, expected), func(t *testing.T) {
				p := dialPeer(t, srv)
				stream := p.in(c.state)
				transaction := p.start(stream, expected)
				p.addTo(transaction, uuid.NewString(), uuid.NewString())
				switch want {
				case isWrong:
					notCommitted(t, p.commit(transaction), messages.WrongExpectedVersion, textWrong)
				case isDeleted:
					notCommitted(t, p.commit(transaction), messages.StreamDeleted, textDeleted)
				default:
					p.commits(transaction, want, want+1)
					p.undeleted(stream)
					if c.state == softDeleted && expected == -1 { // its first event is another one
						notCommitted(t, p.commit(transaction), messages.WrongExpectedVersion, textWrong)
						return
					}
					p.recommits(transaction, want, want+1)
				}
			})
		}
	}
	for _, expected := range []int64{-3, -4, -5, math.MinInt64} {
		p.refused(p.call(startOf(newStream("transaction"), expected)), "TransactionStart")
	}
}

// TestTransactionsAreDecidedByTheCommit: whatever came in between counts.
func TestTransactionsAreDecidedByTheCommit(t *testing.T) {
	srv := serve(t)
	p := dialPeer(t, srv)
	for name, c := range map[string]struct {
		state    state
		expected int64
		between  func(stream string)
		result   messages.OperationResult
		text     string
	}{
		"written to": {existing, 2, func(s string) { p.append(s, 2, uuid.NewString()) }, messages.WrongExpectedVersion, textWrong},
		"as if":      {existing, 3, func(s string) { p.append(s, 2, uuid.NewString()) }, messages.Success, ""},
		"hard":       {existing, -2, func(s string) { p.delete(s, -2, true) }, messages.StreamDeleted, textDeleted},
		"soft":       {existing, 2, func(s string) { p.delete(s, -2, false) }, messages.Success, ""},
		"created":    {missing, -1, func(s string) { p.append(s, -1, uuid.NewString()) }, messages.WrongExpectedVersion, textWrong},
	} {
		t.Run(name, func(t *testing.T) {
			stream := p.in(c.state)
			transaction := p.start(stream, c.expected)
			p.addTo(transaction, uuid.NewString())
			c.between(stream)
			m := p.commit(transaction)
			require.Equal(t, c.result, m.GetResult())
			require.Equal(t, c.text, m.GetMessage())
			if c.result != messages.Success {
				notCommitted(t, p.commit(transaction), c.result, c.text)
			}
		})
	}

	// Two at a time, the second one first.
	stream := newStream("transaction")
	one, two := p.start(stream, -2), p.start(stream, -2)
	p.addTo(one, "one")
	p.addTo(two, "two")
	p.commits(two, 0, 0)
	p.commits(one, 1, 1)
	require.Equal(t, []string{"two", "one"}, p.data(stream))
}

// TestTheFirstCommitEndsATransaction: what is written behind one that was refused is in no later one.
func TestTheFirstCommitEndsATransaction(t *testing.T) {
	srv := serve(t)
	p := dialPeer(t, srv)
	stream := newStream("transaction")
	transaction := p.start(stream, 0)
	p.addTo(transaction, "a")
	notCommitted(t, p.commit(transaction), messages.WrongExpectedVersion, textWrong)
	p.addTo(transaction, "b")
	require.Equal(t, messages.Success, p.append(stream, -1, "x").GetResult())
	p.commits(transaction, 1, 1)
	require.Equal(t, []string{"x", "a"}, p.data(stream))
}

func TestEmptyTransactions(t *testing.T) {
	srv := serve(t)
	p := dialPeer(t, srv)
	stream := newStream("transaction")
	p.commits(p.start(stream, -2), 0, -1)
	p.commits(p.start(stream, -1), 0, -1)
	require.Equal(t, messages.ReadStreamNoStream, p.forward(stream, 0, 1).result)
	require.Equal(t, messages.Success, p.append(stream, -1, "a", "b").GetResult())
	transaction := p.start(stream, -2)
	p.addTo(transaction)
	p.commits(transaction, 2, 1)
	p.commits(transaction, 2, 1) // there is nothing by which it could be known
	p.commits(p.start(stream, 1), 2, 1)
	notCommitted(t, p.commit(p.start(stream, 0)), messages.WrongExpectedVersion, textWrong)
	// It undeletes.
	require.Equal(t, messages.Success, p.delete(stream, -2, false).GetResult())
	p.commits(p.start(stream, -2), 2, 1)
	p.undeleted(stream)
	require.Empty(t, p.forward(stream, 0, 9).numbers)
}

func TestTransactionIdempotency(t *testing.T) {
	srv := serve(t)
	p := dialPeer(t, srv)
	stream := newStream("transaction")
	fill := func(expected int64, names ...string) int64 {
		transaction := p.start(stream, expected)
		p.addTo(transaction, names...)
		return transaction
	}
	p.commits(fill(-1, "a", "b"), 0, 1)
	p.recommits(fill(-1, "a", "b"), 0, 1)
	p.recommits(fill(-2, "a", "b"), 0, 1)
	p.recommits(fill(0, "b"), 1, 1)
	notCommitted(t, p.commit(fill(-2, "a", "c")), messages.WrongExpectedVersion, textWrong)
	recognized(t, p.append(stream, -1, "a", "b"), 0, 1)
	recognized(t, p.append(stream, -2, "b"), 1, 1)
	p.commits(fill(-2, "d", "d"), 2, 3) // twice in one
	p.recommits(fill(-2, "d", "d"), 2, 2)
	require.Equal(t, messages.Success, p.append(stream, -2, "e").GetResult())
	p.recommits(fill(3, "e"), 4, 4)
}

// TestUnknownTransactions: a write to one succeeds, and is lost.
func TestUnknownTransactions(t *testing.T) {
	srv := serve(t)
	p := dialPeer(t, srv)
	for _, id := range []int64{0, 1, 123456789012345, math.MaxInt64, p.start(newStream("transaction"), -2) + 1} {
		p.addTo(id, uuid.NewString())
		notCommitted(t, p.commit(id), messages.AccessDenied, textDenied)
		notCommitted(t, p.commit(id, p.admin()...), messages.AccessDenied, textDenied)
	}
	for _, id := range []int64{-1, math.MinInt64} {
		p.refused(p.call(writeTo(id, p.named(uuid.NewString())...)), "TransactionWrite")
		p.refused(p.call(commitOf(id)), "TransactionCommit")
	}
}

// TestTransactionRights: the start and the commit need the right to write, a write in between none.
func TestTransactionRights(t *testing.T) {
	srv := serve(t)
	p := dialPeer(t, srv)
	denied := func(stream string, credentials ...string) {
		t.Helper()
		var m pb.TransactionStartCompleted
		p.call(startOf(stream, -2), credentials...).into(t, messages.TransactionStartCompleted, &m)
		require.Equal(t, messages.AccessDenied, m.GetResult())
		require.Equal(t, textDenied, m.GetMessage())
		require.EqualValues(t, -1, m.GetTransactionId())
	}
	stream := "$" + newStream("transaction")
	denied(stream)
	denied("$all", p.admin()...)
	denied("$$$$"+newStream("transaction"), p.admin()...)

	var m pb.TransactionStartCompleted
	p.call(startOf(stream, -2), p.admin()...).into(t, messages.TransactionStartCompleted, &m)
	require.Equal(t, messages.Success, m.GetResult())
	p.addTo(m.GetTransactionId(), "a")
	notCommitted(t, p.commit(m.GetTransactionId()), messages.AccessDenied, textDenied)
	p.addTo(m.GetTransactionId(), "b") // that was no commit
	c := p.commit(m.GetTransactionId(), p.admin()...)
	require.Equal(t, messages.Success, c.GetResult(), "%s", c.GetMessage())
	require.EqualValues(t, 1, c.GetLastEventNumber())
}

func TestTransactionOfMetadata(t *testing.T) {
	srv := serve(t)
	p := dialPeer(t, srv)
	stream := p.in(existing)
	transaction := p.start("$$"+stream, -1)
	for _, json := range []string{`{"$tb":1}`, `{"$tb":2}`} {
		p.call(writeTo(transaction, messages.NewEvent{ID: uuid.New(), Type: "$metadata", ContentType: 1, Data: []byte(json)}))
	}
	require.Len(t, p.forward(stream, 0, 9).numbers, 3)
	p.commits(transaction, 0, 1)
	require.Equal(t, []int64{2}, p.forward(stream, 0, 9).numbers)
	// One that undeletes is followed by one of the server's.
	require.Equal(t, messages.Success, p.delete(stream, -2, false).GetResult())
	transaction = p.start("$$"+stream, -2)
	p.call(writeTo(transaction, messages.NewEvent{ID: uuid.New(), Type: "$metadata", ContentType: 1, Data: []byte(`{"k":1}`)}))
	p.commits(transaction, 3, 3)
	// The stream is there with the first of them, and a real server may need a moment for its own.
	require.Eventually(t, func() bool {
		return p.readEvent("$$"+stream, -1).GetEvent().GetEvent().GetEventNumber() == 4
	}, hang, time.Millisecond)
	require.JSONEq(t, `{"k":1,"$tb":3}`, string(p.readEvent("$$"+stream, -1).GetEvent().GetEvent().GetData()))
}

func TestRefusedTransactionRequests(t *testing.T) {
	srv := serve(t)
	p := dialPeer(t, srv)
	p.refused(p.call(startOf("", -2)), "TransactionStart")
	p.refused(p.call(messages.Raw(messages.TransactionStart, nil)), "TransactionStart")
	transaction := p.start(newStream("transaction"), -2)
	large := p.named(uuid.NewString())
	large[0].Data = make([]byte, 16<<20)
	none := p.named(uuid.NewString())
	none[0].Type = ""
	for _, r := range []messages.Request{
		writeTo(transaction, large...), writeTo(transaction, none...), writeTo(transaction, messages.NewEvent{Type: "t"}),
		messages.Raw(messages.TransactionWrite, []byte{0xff}), messages.Raw(messages.TransactionCommit, []byte{0xff}),
		messages.Raw(messages.TransactionWrite, []byte("\x08\x01\x12\x05\x0a\x03123")), // an id of three bytes
	} {
		p.refused(p.call(r), r.Command().String())
	}
	p.commits(transaction, 0, -1)
	// The fields that a body without any does not have are zero.
	for command, want := range map[messages.Command]messages.OperationResult{
		messages.TransactionWrite: messages.Success, messages.TransactionCommit: messages.AccessDenied,
	} {
		var m pb.TransactionWriteCompleted // the others are behind its fields
		p.call(messages.Raw(command, nil)).into(t, command+1, &m)
		require.Equal(t, want, m.GetResult())
	}
}

// TestPipelinedTransaction: writes and commits that are sent without waiting are taken in their order.
func TestPipelinedTransaction(t *testing.T) {
	srv := serve(t)
	p := dialPeer(t, srv)
	stream := newStream("transaction")
	transaction := p.start(stream, -1)
	var segment []byte
	var want []string
	for i := range 50 {
		want = append(want, fmt.Sprint(i))
		segment = append(segment, p.frame(p.id(), writeTo(transaction, p.named(want[i])...))...)
	}
	first, second := p.id(), p.id()
	p.write(slices.Concat(segment, p.frame(first, commitOf(transaction)), p.frame(second, commitOf(transaction))))
	var m pb.TransactionCommitCompleted
	p.reply(first).into(t, messages.TransactionCommitCompleted, &m)
	require.EqualValues(t, 49, m.GetLastEventNumber(), "%s", &m)
	p.reply(second).into(t, messages.TransactionCommitCompleted, &m)
	if m.GetResult() == messages.CommitTimeout { // a real server may find the first one under way
		notCommitted(t, &m, messages.CommitTimeout, "Commit phase timeout.")
		p.recommits(transaction, 0, 49)
	} else {
		require.Equal(t, []int64{0, 49, -1}, []int64{m.GetFirstEventNumber(), m.GetLastEventNumber(), m.GetCommitPosition()})
	}
	require.Equal(t, want, p.data(stream))
}
