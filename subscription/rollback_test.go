package subscription_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
	"github.com/goeventstore/eventstore/subscription"
)

// deposed has the server confirm, until it is cut, that the stream goes up to event last: as a leader does that is deposed by
// the time that another answers the reads.
func deposed(t *testing.T, srv *eventstoretest.Server, last int64) (cut func()) {
	t.Helper()
	var over atomic.Bool
	body, err := proto.Marshal(&pb.SubscriptionConfirmation{LastCommitPosition: proto.Int64(1 << 40), LastEventNumber: &last})
	require.NoError(t, err)
	srv.Intercept(func(f *eventstoretest.Frame) eventstoretest.Fault {
		if f.Command == messages.SubscriptionConfirmation && !over.Load() {
			return eventstoretest.Replace(messages.SubscriptionConfirmation, body)
		}
		return eventstoretest.Pass
	})
	return func() {
		over.Store(true)
		srv.Cut()
	}
}

// A stream of a deposed leader that nobody else has is not there yet, and not soft-deleted: its numbers are given out again.
func TestAStreamThatWasRolledBack(t *testing.T) {
	bubble(t, func(t *testing.T, srv *eventstoretest.Server, c *eventstore.Client) {
		cut := deposed(t, srv, 5)
		var told notices
		s, err := subscription.Open(t.Context(), c, subscription.Config{Stream: "s", OnNotice: told.add})
		require.NoError(t, err)
		defer func() { require.NoError(t, s.Close()) }()
		silent(t, s)
		require.Empty(t, told)
		write(t, c, "s", 0, 2)
		want(t, s, 0, 2)
		cut()
		for range 10 { // it finds out when it looks
			silent(t, s)
		}
		require.Equal(t, notices{"Resubscribed", "CaughtUp"}, told)
		begun := time.Now()
		write(t, c, "s", 2, 5)
		want(t, s, 2, 5)
		require.Less(t, time.Since(begun), time.Second, "they are pushed")
	})
}

// Who follows from the end of a deposed leader gets what the next one writes under the same numbers.
func TestAnEndThatWasRolledBack(t *testing.T) {
	for stream, first := range map[string]int{"s": 3, eventstore.All: 3} {
		t.Run(stream, func(t *testing.T) {
			bubble(t, func(t *testing.T, srv *eventstoretest.Server, c *eventstore.Client) {
				write(t, c, "s", 0, 3)
				cut := deposed(t, srv, 5)
				var told notices
				s, err := subscription.Open(t.Context(), c, subscription.Config{Stream: stream, From: eventstore.End, OnNotice: told.add})
				require.NoError(t, err)
				defer func() { require.NoError(t, s.Close()) }()
				silent(t, s)
				cut()
				for range 10 {
					silent(t, s)
				}
				require.NotContains(t, told, "Beyond")
				write(t, c, "s", first, 5)
				for n := first; n < first+5; n++ {
					e, err := s.Recv(t.Context())
					require.NoError(t, err)
					require.EqualValues(t, n, e.Event.Number)
				}
			})
		})
	}
}

// What was passed over as soft-deleted, and is to come on the node that answers next, comes. What had come before does not.
func TestASoftDeleteThatWasRolledBack(t *testing.T) {
	bubble(t, func(t *testing.T, srv *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, "s", 0, 3)
		cut := deposed(t, srv, 5)
		hidden := messages.StreamPage{Result: messages.ReadStreamNoStream, Next: -1, Last: 5, EndOfStream: true}
		remove := srv.Intercept(func(f *eventstoretest.Frame) eventstoretest.Fault {
			if f.Command == messages.ReadStreamEventsForwardCompleted {
				return eventstoretest.Replace(messages.ReadStreamEventsForwardCompleted, hidden.AppendTo(nil))
			}
			return eventstoretest.Pass
		})
		var told notices
		s, err := subscription.Open(t.Context(), c, subscription.Config{Stream: "s", From: eventstore.After(1), OnNotice: told.add})
		require.NoError(t, err)
		defer func() { require.NoError(t, s.Close()) }()
		silent(t, s)
		require.Equal(t, notices{"SoftDeleted", "CaughtUp"}, told)
		require.Equal(t, eventstore.After(5), s.Checkpoint())
		remove()
		cut()
		silent(t, s)
		require.Equal(t, eventstore.After(2), s.Checkpoint())
		write(t, c, "s", 3, 2)
		want(t, s, 3, 2)
	})
}
