package eventstore_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/memnet"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/server"
)

// embedded starts a server in memory and returns a connected client.
func embedded(t *testing.T, opts ...eventstore.Option) *eventstore.Client {
	t.Helper()
	network := memnet.New()
	srv, err := server.Start(server.Config{Listen: network.Listen})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, srv.Close()) })
	opts = append([]eventstore.Option{eventstore.WithDialer(network.Dial), eventstore.WithCredentials("admin", "changeit")}, opts...)
	c, err := eventstore.Connect(t.Context(), srv.URL(), opts...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

func numbered(n int) []eventstore.EventData {
	events := make([]eventstore.EventData, n)
	for i := range events {
		events[i] = eventstore.EventData{Type: "numbered", Data: fmt.Appendf(nil, "%d", i)}
	}
	return events
}

func numbers(t *testing.T, c *eventstore.Client, stream string, from eventstore.From, opts ...eventstore.ReadOption) (got []int64) {
	t.Helper()
	for e, err := range c.ReadStream(t.Context(), stream, from, opts...) {
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint(e.Event.Number), string(e.Event.Data))
		got = append(got, e.Event.Number)
	}
	return got
}

func TestAppendAndRead(t *testing.T) {
	c := embedded(t)
	require.NoError(t, c.Ping(t.Context()))
	id := uuid.New()
	r, err := c.Append(t.Context(), "s", eventstore.NoStream, []eventstore.EventData{
		{ID: id, Type: "first", JSON: true, Data: []byte(`{"a":1}`), Metadata: []byte(`{"m":2}`)},
		eventstore.JSONEvent("second", map[string]int{"b": 2}),
		{Type: "third"},
	})
	require.NoError(t, err)
	require.EqualValues(t, 0, r.First)
	require.EqualValues(t, 2, r.Last)
	require.Positive(t, r.Position.Commit)
	require.Equal(t, r.Position.Commit, r.Position.Prepare)

	first, err := c.ReadEvent(t.Context(), "s", eventstore.Start)
	require.NoError(t, err)
	e := first.Event
	require.Equal(t, "s", e.Stream)
	require.Equal(t, id, e.ID)
	require.Equal(t, "first", e.Type)
	require.True(t, e.JSON)
	require.JSONEq(t, `{"a":1}`, string(e.Data))
	require.JSONEq(t, `{"m":2}`, string(e.Metadata))
	require.False(t, e.Created.IsZero())
	require.Nil(t, first.Link)
	require.Equal(t, eventstore.After(0), first.Checkpoint())
	var decoded struct{ A int }
	require.NoError(t, e.Decode(&decoded))
	require.Equal(t, 1, decoded.A)

	last, err := c.ReadEvent(t.Context(), "s", eventstore.End)
	require.NoError(t, err)
	require.Equal(t, "third", last.Event.Type)
	require.NotZero(t, last.Event.ID, "made for the caller")
	require.False(t, last.Event.JSON)
	behind, err := c.ReadEvent(t.Context(), "s", eventstore.After(0))
	require.NoError(t, err)
	require.EqualValues(t, 1, behind.Event.Number)
}

func TestReadStreamInBothDirections(t *testing.T) {
	c := embedded(t)
	_, err := c.Append(t.Context(), "s", eventstore.NoStream, numbered(25))
	require.NoError(t, err)
	up := func(from, to int64) (n []int64) {
		for i := from; i <= to; i++ {
			n = append(n, i)
		}
		return n
	}
	down := func(from, to int64) (n []int64) {
		for i := from; i >= to; i-- {
			n = append(n, i)
		}
		return n
	}
	tests := []struct {
		name string
		from eventstore.From
		opts []eventstore.ReadOption
		want []int64
	}{
		{"all", eventstore.Start, nil, up(0, 24)},
		{"pages of 7", eventstore.Start, []eventstore.ReadOption{eventstore.PageSize(7)}, up(0, 24)},
		{"pages of 5, which end with the stream", eventstore.Start, []eventstore.ReadOption{eventstore.PageSize(5)}, up(0, 24)},
		{"one by one", eventstore.Start, []eventstore.ReadOption{eventstore.PageSize(1)}, up(0, 24)},
		{"at", eventstore.At(20), nil, up(20, 24)},
		{"after", eventstore.After(20), nil, up(21, 24)},
		{"after the last", eventstore.After(24), nil, nil},
		{"far behind the last", eventstore.At(1000), nil, nil},
		{"at the largest number", eventstore.At(math.MaxInt64), nil, nil},
		{"after the largest number", eventstore.After(math.MaxInt64), []eventstore.ReadOption{eventstore.PageSize(7)}, nil},
		{"limit", eventstore.At(3), []eventstore.ReadOption{eventstore.Limit(4)}, up(3, 6)},
		{"limit over several pages", eventstore.At(3), []eventstore.ReadOption{eventstore.Limit(10), eventstore.PageSize(4)}, up(3, 12)},
		{"limit behind the end", eventstore.At(20), []eventstore.ReadOption{eventstore.Limit(100)}, up(20, 24)},
		{"backward", eventstore.End, []eventstore.ReadOption{eventstore.Backward()}, down(24, 0)},
		{"backward in pages", eventstore.End, []eventstore.ReadOption{eventstore.Backward(), eventstore.PageSize(7)}, down(24, 0)},
		{"backward at", eventstore.At(3), []eventstore.ReadOption{eventstore.Backward()}, down(3, 0)},
		{"backward after", eventstore.After(3), []eventstore.ReadOption{eventstore.Backward()}, down(2, 0)},
		{"backward after the first", eventstore.After(0), []eventstore.ReadOption{eventstore.Backward()}, nil},
		{"backward from behind the end", eventstore.At(40), []eventstore.ReadOption{eventstore.Backward(), eventstore.PageSize(3)}, down(24, 0)},
		{"backward with a limit", eventstore.End, []eventstore.ReadOption{eventstore.Backward(), eventstore.Limit(2)}, down(24, 23)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.want, numbers(t, c, "s", tt.from, tt.opts...))
		})
	}
}

func TestALoopThatStopsEarlyAsksForNoMore(t *testing.T) {
	c := embedded(t)
	_, err := c.Append(t.Context(), "s", eventstore.NoStream, numbered(25))
	require.NoError(t, err)
	n := 0
	for _, err := range c.ReadStream(t.Context(), "s", eventstore.Start, eventstore.PageSize(5)) {
		require.NoError(t, err)
		if n++; n == 7 {
			break
		}
	}
	require.Equal(t, 7, n)
}

func TestReadSlice(t *testing.T) {
	c := embedded(t)
	_, err := c.Append(t.Context(), "s", eventstore.NoStream, numbered(10))
	require.NoError(t, err)
	slice, err := c.ReadSlice(t.Context(), "s", eventstore.At(2), 3)
	require.NoError(t, err)
	require.Len(t, slice.Events, 3)
	require.EqualValues(t, 5, slice.Next)
	require.EqualValues(t, 9, slice.Last)
	require.False(t, slice.EndOfStream)
	slice, err = c.ReadSlice(t.Context(), "s", eventstore.At(8), 3)
	require.NoError(t, err)
	require.True(t, slice.EndOfStream)
	require.EqualValues(t, 10, slice.Next)
	slice, err = c.ReadSlice(t.Context(), "s", eventstore.End, 3, eventstore.Backward())
	require.NoError(t, err)
	require.EqualValues(t, 9, slice.Events[0].Event.Number)
	require.EqualValues(t, 6, slice.Next)
	for _, count := range []int{0, -1, eventstore.MaxPageSize + 1} {
		_, err = c.ReadSlice(t.Context(), "s", eventstore.Start, count)
		require.ErrorIs(t, err, eventstore.ErrArgument)
	}
}

func TestVerdictsOfTheServer(t *testing.T) {
	c := embedded(t)
	ctx := t.Context()
	_, err := c.Append(ctx, "s", eventstore.NoStream, numbered(3))
	require.NoError(t, err)

	_, err = c.Append(ctx, "s", 7, numbered(1))
	require.ErrorIs(t, err, eventstore.ErrWrongVersion)
	var wrong *eventstore.WrongVersionError
	require.ErrorAs(t, err, &wrong)
	require.Equal(t, &eventstore.WrongVersionError{Stream: "s", Expected: 7, Actual: 2}, wrong)
	require.EqualError(t, wrong, "wrong expected version: expected 7, the stream is at 2")
	var op *eventstore.OpError
	require.ErrorAs(t, err, &op)
	require.Equal(t, "append", op.Op)
	require.Equal(t, "s", op.Stream)
	require.Equal(t, 1, op.Attempts)
	require.NotEmpty(t, op.Addr)
	require.False(t, eventstore.MaybeApplied(err))
	require.False(t, eventstore.Retryable(err))

	_, err = c.Append(ctx, "new", eventstore.StreamExists, numbered(1))
	require.ErrorAs(t, err, &wrong)
	require.Equal(t, eventstore.NoStream, wrong.Actual)

	_, err = c.ReadEvent(ctx, "missing", eventstore.Start)
	require.ErrorIs(t, err, eventstore.ErrStreamNotFound)
	_, err = c.ReadEvent(ctx, "s", eventstore.At(3))
	require.ErrorIs(t, err, eventstore.ErrEventNotFound)
	for _, err = range c.ReadStream(ctx, "missing", eventstore.Start) {
		require.ErrorIs(t, err, eventstore.ErrStreamNotFound)
	}
	require.Error(t, err, "a missing stream yields its error")

	_, err = c.Delete(ctx, "s", 1)
	require.ErrorIs(t, err, eventstore.ErrWrongVersion)
	d, err := c.Delete(ctx, "s", 2)
	require.NoError(t, err)
	require.Positive(t, d.Position.Commit)
	_, err = c.ReadEvent(ctx, "s", eventstore.End)
	require.ErrorIs(t, err, eventstore.ErrStreamNotFound)
	r, err := c.Append(ctx, "s", eventstore.NoStream, numbered(1))
	require.NoError(t, err)
	require.EqualValues(t, 3, r.First, "numbers go on after a soft delete")

	_, err = c.HardDelete(ctx, "s", eventstore.Any)
	require.NoError(t, err)
	_, err = c.HardDelete(ctx, "s", eventstore.Any)
	require.ErrorIs(t, err, eventstore.ErrStreamDeleted)
	_, err = c.Append(ctx, "s", eventstore.Any, numbered(1))
	require.ErrorIs(t, err, eventstore.ErrStreamDeleted)
	_, err = c.ReadSlice(ctx, "s", eventstore.Start, 1)
	require.ErrorIs(t, err, eventstore.ErrStreamDeleted)
}

func TestWrongPasswordsFailTheFirstCall(t *testing.T) {
	c := embedded(t, eventstore.WithCredentials("admin", "s3cret"))
	require.ErrorIs(t, c.Ping(t.Context()), eventstore.ErrNotAuthenticated)
	_, err := c.Append(t.Context(), "s", eventstore.Any, numbered(1))
	require.ErrorIs(t, err, eventstore.ErrNotAuthenticated)
	require.False(t, eventstore.Retryable(err))
	require.False(t, eventstore.MaybeApplied(err))
	require.NotContains(t, err.Error(), "s3cret")
	_, err = c.Append(t.Context(), "s", eventstore.Any, numbered(1), eventstore.As("admin", "changeit"))
	require.NoError(t, err, "credentials of the call")
	_, err = c.Append(t.Context(), "s", eventstore.Any, numbered(1), eventstore.As("", ""))
	require.ErrorIs(t, err, eventstore.ErrArgument)
}

func TestRefusedBeforeAnythingIsSent(t *testing.T) {
	c := embedded(t)
	ctx := t.Context()
	big := make([]byte, 16<<20)
	appendOf := func(e ...eventstore.EventData) func() error {
		return func() error {
			_, err := c.Append(ctx, "s", eventstore.Any, e)
			return err
		}
	}
	ok := eventstore.EventData{Type: "ok"}
	tests := []struct {
		name string
		call func() error
		is   error
		says string
	}{
		{"empty stream", func() error { _, err := c.Append(ctx, "", eventstore.Any, numbered(1)); return err }, eventstore.ErrArgument, "the stream's name is empty"},
		{"the stream $$", func() error { _, err := c.Append(ctx, "$$", eventstore.Any, numbered(1)); return err }, eventstore.ErrArgument, "ends a real server"},
		{"expected -3", func() error { _, err := c.Append(ctx, "s", -3, numbered(1)); return err }, eventstore.ErrArgument, "expected version -3"},
		{"expected -5", func() error { _, err := c.Append(ctx, "s", -5, numbered(1)); return err }, eventstore.ErrArgument, "expected version -5"},
		{"empty type", appendOf(ok, eventstore.EventData{}), eventstore.ErrArgument, "event 1 of 2: invalid argument: its type is empty"},
		{"event too large", appendOf(ok, ok, eventstore.EventData{Type: "t", Data: big}), eventstore.ErrTooLarge, "event 2 of 3"},
		{"one character too large", appendOf(eventstore.EventData{Type: "é", Data: big[:16<<20-10_000-1]}), eventstore.ErrTooLarge, "16767217 bytes"},
		{
			"frame too large", appendOf(eventstore.EventData{Type: "t", Data: big[:15<<20]}, eventstore.EventData{Type: "t", Data: big[:15<<20]},
				eventstore.EventData{Type: "t", Data: big[:15<<20]}, eventstore.EventData{Type: "t", Data: big[:15<<20]}, eventstore.EventData{Type: "t", Data: big[:15<<20]}),
			eventstore.ErrTooLarge, "at most 67108864",
		},
		{"JSON that cannot be", appendOf(eventstore.JSONEvent("bad", make(chan int))), nil, `encode event "bad" as JSON`},
		{"delete with StreamExists", func() error { _, err := c.Delete(ctx, "s", eventstore.StreamExists); return err }, eventstore.ErrArgument, "21.10"},
		{"read of no stream", func() error { _, err := c.ReadEvent(ctx, "", eventstore.Start); return err }, eventstore.ErrArgument, "empty"},
		{"read of a negative number", func() error { _, err := c.ReadEvent(ctx, "s", eventstore.At(-1)); return err }, eventstore.ErrArgument, "not negative"},
		{"read at a position", func() error {
			_, err := c.ReadSlice(ctx, "s", eventstore.AtPosition(eventstore.Position{}), 1)
			return err
		}, eventstore.ErrArgument, "positions are of $all"},
		{"forward from the end", func() error { _, err := c.ReadSlice(ctx, "s", eventstore.End, 1); return err }, eventstore.ErrArgument, "forward from End"},
		{"backward from the start", func() error {
			_, err := c.ReadSlice(ctx, "s", eventstore.Start, 1, eventstore.Backward())
			return err
		}, eventstore.ErrArgument, "backward from Start"},
		{"page size", func() error {
			_, err := c.ReadSlice(ctx, "s", eventstore.Start, 1, eventstore.PageSize(5000))
			return err
		}, eventstore.ErrArgument, "PageSize(5000)"},
		{"limit", func() error {
			for _, err := range c.ReadStream(ctx, "s", eventstore.Start, eventstore.Limit(0)) {
				return err
			}
			return nil
		}, eventstore.ErrArgument, "Limit(0)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.call()
			require.ErrorContains(t, err, tt.says)
			if tt.is != nil {
				require.ErrorIs(t, err, tt.is)
			}
			require.False(t, eventstore.MaybeApplied(err))
			var op *eventstore.OpError
			require.ErrorAs(t, err, &op)
			require.Zero(t, op.Attempts)
		})
	}
	require.NoError(t, appendOf(eventstore.EventData{Type: "é", Data: big[:16<<20-10_000-2]})(), "the largest event that there may be")
	_, err := c.ReadEvent(ctx, "s", eventstore.At(1))
	require.ErrorIs(t, err, eventstore.ErrEventNotFound, "nothing else was written")
}

func TestTheCallersEventsAreNotWrittenTo(t *testing.T) {
	c := embedded(t)
	events := []eventstore.EventData{{Type: "t"}}
	_, err := c.Append(t.Context(), "s", eventstore.Any, events)
	require.NoError(t, err)
	require.Zero(t, events[0].ID)
	_, err = c.Append(t.Context(), "s", eventstore.Any, events)
	require.NoError(t, err)
	require.Equal(t, []int64{0, 1}, func() (n []int64) {
		for e, err := range c.ReadStream(t.Context(), "s", eventstore.Start) {
			require.NoError(t, err)
			n = append(n, e.Event.Number)
		}
		return n
	}(), "two appends, two events")
}

func TestCloneSharesNoMemory(t *testing.T) {
	c := embedded(t)
	_, err := c.Append(t.Context(), "s", eventstore.Any, numbered(2))
	require.NoError(t, err)
	slice, err := c.ReadSlice(t.Context(), "s", eventstore.Start, 2)
	require.NoError(t, err)
	clone := slice.Events[1].Clone()
	require.Equal(t, slice.Events[1], clone)
	slice.Events[1].Event.Data[0] = 'X'
	require.Equal(t, "1", string(clone.Event.Data))
	require.Equal(t, "0", string(slice.Events[0].Event.Data))
}

func TestCallSendsAnyMessage(t *testing.T) {
	c := embedded(t)
	reply, err := c.Call(t.Context(), messages.Raw(messages.Ping, []byte("hello")))
	require.NoError(t, err)
	require.Equal(t, messages.Reply{Command: messages.Pong, Body: []byte("hello")}, reply)
	reply, err = c.Call(t.Context(), messages.Raw(messages.Authenticate, nil))
	require.NoError(t, err)
	require.Equal(t, messages.Authenticated, reply.Command)
	_, err = c.Call(t.Context(), messages.Raw(0x7F, nil))
	var refused *eventstore.ServerError
	require.ErrorAs(t, err, &refused)
	require.ErrorContains(t, err, "Could not unwrap network package for command 127.")
	require.False(t, eventstore.MaybeApplied(err), "the server refused it")
	reply, err = c.Call(t.Context(), &messages.Append{Stream: "s", Expected: 5, Events: []messages.NewEvent{{ID: uuid.New(), Type: "t"}}})
	require.NoError(t, err, "result codes come back as they are")
	var m messages.AppendCompleted
	require.NoError(t, m.Decode(reply.Body))
	require.Equal(t, messages.WrongExpectedVersion, m.Result)
	_, err = c.Call(t.Context(), &messages.StreamRead{Stream: "s", From: -2, Count: 1})
	require.ErrorAs(t, err, &refused)
}

func TestEverythingFailsOnceClosed(t *testing.T) {
	c := embedded(t)
	require.Equal(t, eventstore.Connected, c.State().Phase)
	require.True(t, strings.HasPrefix(c.State().String(), "connected to "))
	require.NoError(t, c.Close())
	require.NoError(t, c.Close(), "twice is fine")
	require.Equal(t, eventstore.Closed, c.State().Phase)
	_, err := c.Append(t.Context(), "s", eventstore.Any, numbered(1))
	require.ErrorIs(t, err, eventstore.ErrClosed)
	require.False(t, eventstore.MaybeApplied(err))
	require.ErrorIs(t, c.Ping(t.Context()), eventstore.ErrClosed)
	_, err = c.Open(t.Context(), messages.Raw(messages.SubscribeToStream, nil), eventstore.Window{Frames: 1, Bytes: 1})
	require.ErrorIs(t, err, eventstore.ErrClosed)
	require.NoError(t, c.Shutdown(t.Context()))
}

func TestAContextThatHasEndedSendsNothing(t *testing.T) {
	c := embedded(t)
	cause := errors.New("the user went away")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	_, err := c.Append(ctx, "s", eventstore.Any, numbered(1))
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, err, cause)
	require.False(t, eventstore.MaybeApplied(err))
	_, err = c.ReadEvent(t.Context(), "s", eventstore.Start)
	require.ErrorIs(t, err, eventstore.ErrStreamNotFound)
}

// Events that are lent are what they are until the next step, and a clone of one stays so.
func TestBorrowedEvents(t *testing.T) {
	c := embedded(t)
	ctx := t.Context()
	const n = 100
	_, err := c.Append(ctx, "s", eventstore.NoStream, numbered(n))
	require.NoError(t, err)
	var owned, kept []eventstore.ResolvedEvent
	for e, err := range c.ReadStream(ctx, "s", eventstore.Start) {
		require.NoError(t, err)
		owned = append(owned, e)
	}
	require.Len(t, owned, n)
	for e, err := range c.ReadStream(ctx, "s", eventstore.Start, eventstore.Borrowed(), eventstore.PageSize(7)) {
		require.NoError(t, err)
		require.Equal(t, owned[len(kept)], e)
		kept = append(kept, e.Clone())
	}
	require.Equal(t, owned, kept)
	slice, err := c.ReadSlice(ctx, "s", eventstore.Start, n, eventstore.Borrowed())
	require.NoError(t, err)
	require.Equal(t, owned, slice.Events, "a page is the caller's")
}
