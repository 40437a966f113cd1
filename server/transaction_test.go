package server

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
	"github.com/goeventstore/eventstore/server/internal/store"
)

func (p *peer) start(stream string, expected int64) int64 {
	p.t.Helper()
	var m pb.TransactionStartCompleted
	p.transact(&m, messages.Of(messages.TransactionStart, &pb.TransactionStart{EventStreamId: &stream, ExpectedVersion: &expected}))
	require.Equal(p.t, messages.Success, m.GetResult())
	return m.GetTransactionId()
}

func (p *peer) addTo(transaction int64, letters string) {
	p.t.Helper()
	r := &pb.TransactionWrite{TransactionId: &transaction}
	for _, e := range events(letters) {
		r.Events = append(r.Events, &pb.NewEvent{
			EventId: messages.AppendGUID(nil, e.ID), EventType: &e.Type, DataContentType: &e.ContentType, MetadataContentType: &e.MetadataType,
			Data: e.Data,
		})
	}
	var m pb.TransactionWriteCompleted
	p.transact(&m, messages.Of(messages.TransactionWrite, r))
	require.Equal(p.t, messages.Success, m.GetResult())
}

func (p *peer) commit(transaction int64) *pb.TransactionCommitCompleted {
	p.t.Helper()
	var m pb.TransactionCommitCompleted
	p.transact(&m, messages.Of(messages.TransactionCommit, &pb.TransactionCommit{TransactionId: &transaction}))
	return &m
}

func (p *peer) transact(m proto.Message, r messages.Request) {
	p.t.Helper()
	a := p.call(r)
	require.NoError(p.t, messages.Reply{Command: r.Command() + 1, Body: a.body}.Unmarshal(m))
}

// TestTransactionPositions has those of a recording: each record takes its place, and the log is read to the last commit.
func TestTransactionPositions(t *testing.T) {
	n := run(t)
	p := n.peer(t)
	before := n.store.Tip()
	const stream = "t-o-db6e4427"
	transaction := p.start(stream, expectNoStream)
	require.Equal(t, before.End, transaction)
	p.addTo(transaction, "a")
	p.addTo(transaction, "b")
	require.Equal(t, before.Commit, n.store.Tip().Commit)
	m := p.commit(transaction)
	require.EqualValues(t, 3186387-3185963, m.GetCommitPosition()-transaction)
	require.Equal(t, m.GetCommitPosition(), n.store.Tip().Commit)
	require.EqualValues(t, 3186453-3185963, p.start(stream, expectAny)-transaction)
}

// TestForgottenTransactions: what is bounded is what is not committed, and the one used last is the last to go.
func TestForgottenTransactions(t *testing.T) {
	all := newTransactions(10 * transactionSize)
	event := func(size int) store.Record { return store.Record{Encoded: make([]byte, size)} }
	for id := range int64(16) {
		all.add(&transaction{id: id})
		require.NotNil(t, all.find(0))
	}
	require.Len(t, all.byID, 10)
	require.Equal(t, all.limit, all.size)
	require.Nil(t, all.find(6))
	require.NotNil(t, all.find(7))

	last := all.find(15)
	all.keep(last, event(4*transactionSize))
	require.Len(t, all.byID, 5)
	all.committed(last, 0, 0)
	require.Equal(t, 5*transactionSize, all.size)
	require.Empty(t, last.events)

	// One that is too large for all is forgotten too, and what still comes for it is of no account.
	huge := &transaction{id: 99}
	all.add(huge)
	all.keep(huge, event(20*transactionSize))
	require.Empty(t, all.byID)
	require.Zero(t, all.size)
	all.keep(huge, event(1))
	require.Zero(t, all.size)
}

// TestAForgottenTransactionIsUnknown: nothing of it can be committed.
func TestAForgottenTransactionIsUnknown(t *testing.T) {
	n := run(t)
	p := n.peer(t)
	p.start("s", expectAny) // the writer has seen a request: it rests, and its limit may be changed
	n.writer.transactions.limit = 4 * transactionSize
	one := p.start("s", expectAny)
	p.addTo(one, "a")
	two := p.start("s", expectAny)
	p.addTo(two, "b")
	p.addTo(one, "c") // Success, and lost
	require.Equal(t, messages.AccessDenied, p.commit(one).GetResult())
	require.Equal(t, messages.Success, p.commit(two).GetResult())
	require.EqualValues(t, 0, p.commit(two).GetLastEventNumber())
}

// TestACommittedTransactionIsInTheLogAlone: it can be committed again, even when its events are not known any more.
func TestACommittedTransactionIsInTheLogAlone(t *testing.T) {
	n := run(t)
	p := n.peer(t)
	transaction := p.start("s", expectAny)
	p.addTo(transaction, "ab")
	require.Equal(t, messages.Success, p.commit(transaction).GetResult())
	require.EqualValues(t, -1, p.commit(transaction).GetCommitPosition())
	n.writer.ids = store.NewIDs(0)
	m := p.commit(transaction)
	require.Equal(t, []int64{2, 3}, []int64{m.GetFirstEventNumber(), m.GetLastEventNumber()})
	require.Len(t, p.forward("s", 0, 9).numbers, 4)
	require.Equal(t, events("a")[0].ID, p.readEvent("s", 2).Event.Event.ID)
}
