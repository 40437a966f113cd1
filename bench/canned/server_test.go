package canned_test

import (
	"io"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/bench/canned"
	"github.com/goeventstore/eventstore/internal/memnet"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

func TestAnswers(t *testing.T) {
	network := memnet.New()
	l, err := network.Listen("tcp", "127.0.0.1:1113")
	require.NoError(t, err)
	s, err := canned.Serve(l, canned.Config{Events: 3, EventSize: 10})
	require.NoError(t, err)
	c, err := network.Dial(t.Context(), "tcp", "127.0.0.1:1113")
	require.NoError(t, err)

	requests := []messages.Request{
		&messages.Append{Stream: "a", Events: []messages.NewEvent{{Type: "t", Data: make([]byte, 300<<10)}}}, // over the read buffer
		&messages.StreamRead{Stream: "a", Count: 3},
		messages.Raw(messages.Ping, []byte("body")),
		&messages.StreamRead{Stream: "b", From: 1, Count: 1},
		&messages.StreamRead{Stream: "b", From: 3, Count: 1},
		messages.Raw(messages.HeartbeatRequest, nil),
		messages.Raw(messages.IdentifyClient, nil),
		messages.Raw(messages.Authenticate, nil),
		messages.Raw(messages.ScavengeDatabase, nil),
	}
	want := []messages.Command{
		messages.WriteEventsCompleted, messages.ReadStreamEventsForwardCompleted, messages.Pong,
		messages.ReadStreamEventsForwardCompleted, messages.ReadStreamEventsForwardCompleted, messages.HeartbeatResponse, messages.ClientIdentified,
		messages.Authenticated, messages.BadRequest,
	}
	credentials, err := messages.AppendCredentials(nil, "admin", "changeit")
	require.NoError(t, err)
	var sent []byte
	for i, r := range requests {
		sent, err = messages.AppendFrame(sent, messages.ID{7, byte(i)}, credentials, r)
		require.NoError(t, err)
	}
	for _, piece := range []int{len(sent), 1000, 7} {
		go func() {
			for rest := sent; len(rest) > 0; {
				n := min(piece, len(rest))
				_, _ = c.Write(rest[:n])
				rest = rest[n:]
			}
		}()
		r := messages.NewReader(c, 4096)
		for i := range requests {
			f, err := r.Next()
			require.NoError(t, err)
			require.Equal(t, want[i], f.Command)
			require.Equal(t, messages.ID{7, byte(i)}, f.ID)
			switch f.Command {
			case messages.WriteEventsCompleted:
				var m messages.AppendCompleted
				require.NoError(t, m.Decode(f.Body))
				require.Equal(t, messages.Success, m.Result)
			case messages.ReadStreamEventsForwardCompleted:
				read := requests[i].(*messages.StreamRead)
				requirePage(t, f.Body, read.From, min(read.From+int64(read.Count), 3))
			case messages.Pong:
				require.Equal(t, "body", string(f.Body))
			default:
			}
		}
	}
	_, err = c.Write([]byte("GET / HTTP/1.1\r\nHost: ...\r\n\r\n"))
	require.NoError(t, err)
	_, err = c.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	require.NoError(t, s.Close())
	require.EqualValues(t, 3, s.Came(messages.WriteEvents))
	require.EqualValues(t, 9, s.Came(messages.ReadStreamEventsForward))
}

// requirePage wants the events before next, from the first on, of the three that there are.
func requirePage(t *testing.T, body []byte, first, next int64) {
	t.Helper()
	var p messages.StreamPage
	require.NoError(t, p.Decode(body))
	require.EqualValues(t, next-first, p.Count)
	require.Equal(t, next, p.Next)
	require.EqualValues(t, 2, p.Last)
	require.Equal(t, next == 3, p.EndOfStream)
	n := first
	require.NoError(t, p.Each(nil, func(e *messages.ResolvedEvent) bool {
		require.Equal(t, n, e.Event.Number)
		require.Equal(t, append([]byte{byte(n)}, "\x00\x00\x00\x00\x00\x00\x00xx"...), e.Event.Data)
		n++
		return true
	}))
}

func TestCloseEndsConnections(t *testing.T) {
	network := memnet.New()
	l, err := network.Listen("tcp", "127.0.0.1:1113")
	require.NoError(t, err)
	s, err := canned.Serve(l, canned.Config{})
	require.NoError(t, err)
	c, err := network.Dial(t.Context(), "tcp", "127.0.0.1:1113")
	require.NoError(t, err)
	require.NoError(t, s.Close())
	_, err = c.Read(make([]byte, 1))
	require.Error(t, err)
}

// A member is delivered the events in their order, around and around, as many as its window has room for.
func TestGroup(t *testing.T) {
	network := memnet.New()
	l, err := network.Listen("tcp", "127.0.0.1:1113")
	require.NoError(t, err)
	s, err := canned.Serve(l, canned.Config{Events: 3, EventSize: 10})
	require.NoError(t, err)
	c, err := network.Dial(t.Context(), "tcp", "127.0.0.1:1113")
	require.NoError(t, err)
	r := messages.NewReader(c, 4096)
	id := messages.ID{7, 1}
	send := func(request messages.Request) {
		b, err := messages.AppendFrame(nil, id, nil, request)
		require.NoError(t, err)
		_, err = c.Write(b)
		require.NoError(t, err)
	}
	want := func(command messages.Command) messages.Frame {
		t.Helper()
		f, err := r.Next()
		require.NoError(t, err)
		require.Equal(t, command, f.Command)
		require.Equal(t, id, f.ID)
		return f
	}
	name, stream, window := "billing", "orders", int32(4)
	send(messages.Of(messages.ConnectToPersistentSubscription,
		&pb.ConnectToPersistentSubscription{SubscriptionId: &name, EventStreamId: &stream, AllowedInFlightMessages: &window}))
	var joined pb.PersistentSubscriptionConfirmation
	require.NoError(t, messages.Reply{Body: want(messages.PersistentSubscriptionConfirmation).Body}.Unmarshal(&joined))
	require.Equal(t, "orders::billing", joined.GetSubscriptionId())
	next := 0
	delivered := func(n int) (ids []uuid.UUID) {
		t.Helper()
		for range n {
			var m messages.PersistentEvent
			require.NoError(t, m.Decode(want(messages.PersistentSubscriptionStreamEventAppeared).Body, nil))
			require.EqualValues(t, next%3, m.Event.Event.Number)
			require.Equal(t, uuid.UUID{3: byte(next%3) + 1}, m.Event.Event.ID)
			require.Equal(t, byte(next%3), m.Event.Event.Data[0])
			ids = append(ids, m.Event.Event.ID)
			next++
		}
		send(messages.Raw(messages.Ping, nil)) // and then nothing, which the answer to this shows
		want(messages.Pong)
		return ids
	}
	ids := delivered(4)
	send(&messages.PersistentAck{Subscription: "orders::billing", IDs: ids[:3]})
	ids = append(ids[3:], delivered(3)...)
	send(&messages.PersistentAck{Subscription: "orders::billing", IDs: ids})
	ids = delivered(4)
	send(messages.Raw(messages.UnsubscribeFromStream, nil))
	want(messages.SubscriptionDropped)
	send(&messages.PersistentAck{Subscription: "orders::billing", IDs: ids}) // of no member
	_, err = r.Next()
	require.ErrorIs(t, err, io.EOF)
	require.NoError(t, s.Close())
	require.EqualValues(t, 7, s.Acked())
}
