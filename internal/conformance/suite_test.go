package conformance_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// newStream is a stream that nobody has written to.
func newStream(name string) string { return "conformance-" + name + "-" + uuid.NewString() }

// within is a context that ends with the test, or when it hangs.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hang)
	t.Cleanup(cancel)
	return ctx
}

// numbered makes n events whose data are their numbers, from the first one on.
func numbered(first, n int) []eventstore.EventData {
	events := make([]eventstore.EventData, n)
	for i := range events {
		events[i] = eventstore.EventData{Type: "numbered", Data: fmt.Append(nil, first+i)}
	}
	return events
}

// isNumbered checks that an event is number n of a stream that was written with numbered from 0 on.
func isNumbered(t *testing.T, n int, e eventstore.ResolvedEvent) {
	t.Helper()
	require.NotNil(t, e.Event)
	require.Nil(t, e.Link)
	require.EqualValues(t, n, e.Event.Number)
	require.Equal(t, fmt.Sprint(n), string(e.Event.Data))
}

// A state is what became of a stream of three events.
type state string

const (
	missing      state = "missing"
	existing     state = "existing"
	softDeleted  state = "soft-deleted"
	hardDeleted  state = "hard-deleted"
	metadataOnly state = "metadata only" // and no events at all
)

// in makes a new stream in this state.
func (p *peer) in(s state) string {
	p.t.Helper()
	name := newStream("state")
	if s == missing {
		return name
	}
	if s == metadataOnly {
		m := p.metadata(name, `{"k":1}`)
		require.Equal(p.t, messages.Success, m.GetResult(), "%s", m.GetMessage())
		return name
	}
	one, two, three := uuid.NewString(), uuid.NewString(), uuid.NewString()
	require.Equal(p.t, messages.Success, p.append(name, -1, one, two, three).GetResult())
	switch s {
	case softDeleted:
		require.Equal(p.t, messages.Success, p.delete(name, 2, false).GetResult())
	case hardDeleted:
		require.Equal(p.t, messages.Success, p.delete(name, 2, true).GetResult())
	default:
	}
	return name
}

// metadata writes the metadata of a stream.
func (p *peer) metadata(stream, json string) *pb.WriteEventsCompleted {
	p.t.Helper()
	return p.appendEvents("$$"+stream, -2, messages.NewEvent{ID: uuid.New(), Type: "$metadata", ContentType: 1, Data: []byte(json)})
}

// written checks the answer to a write that was done: nothing but numbers and positions.
func written(tb testing.TB, m *pb.WriteEventsCompleted, first, last int64) {
	tb.Helper()
	require.Equal(tb, messages.Success, m.GetResult(), "%s", m.GetMessage())
	require.Nil(tb, m.Message)
	require.Equal(tb, []int64{first, last}, []int64{m.GetFirstEventNumber(), m.GetLastEventNumber()})
	require.Positive(tb, m.GetCommitPosition())
	require.Equal(tb, m.GetCommitPosition(), m.GetPreparePosition())
	if m.CurrentVersion != nil { // 4.0 and later
		require.Zero(tb, m.GetCurrentVersion())
	}
}

// recognized checks the answer to a write whose events are there already.
func recognized(tb testing.TB, m *pb.WriteEventsCompleted, first, last int64) {
	tb.Helper()
	require.Equal(tb, messages.Success, m.GetResult(), "%s", m.GetMessage())
	require.Equal(tb, []int64{first, last}, []int64{m.GetFirstEventNumber(), m.GetLastEventNumber()})
	require.Equal(tb, []int64{-1, -1}, []int64{m.GetPreparePosition(), m.GetCommitPosition()})
	if m.CurrentVersion != nil {
		require.Zero(tb, m.GetCurrentVersion())
	}
}

// wrong checks the answer to a write that expected another version.
func wrong(tb testing.TB, m *pb.WriteEventsCompleted, current int64) {
	tb.Helper()
	require.Equal(tb, messages.WrongExpectedVersion, m.GetResult())
	failed(tb, m, "Wrong expected version.", current)
}

// failed checks what a write that was refused has in the place of numbers and positions.
func failed(tb testing.TB, m *pb.WriteEventsCompleted, text string, current int64) {
	tb.Helper()
	require.Equal(tb, text, m.GetMessage())
	require.Equal(tb, []int64{messages.FailedNumber, messages.FailedNumber, messages.FailedNumber, 0},
		[]int64{m.GetFirstEventNumber(), m.GetLastEventNumber(), m.GetPreparePosition(), m.GetCommitPosition()})
	if m.CurrentVersion != nil { // 4.0 and later
		require.Equal(tb, current, m.GetCurrentVersion())
	}
}

// undeleted waits until a stream that was written to after a soft delete can be read: a real server commits the write
// first and the metadata that brings the stream back behind it.
func (p *peer) undeleted(stream string) {
	p.t.Helper()
	require.Eventually(p.t, func() bool { return p.forward(stream, 0, 1).result == messages.ReadStreamSuccess }, hang, time.Millisecond)
}
