package subscription_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/subscription"
)

// The connection of a live subscription is lost a hundred times: each time it is told, each time it comes back, and no event
// is lost or comes twice.
func TestEachOfAHundredLossesIsTold(t *testing.T) {
	const losses = 100
	bubble(t, func(t *testing.T, srv *eventstoretest.Server, c *eventstore.Client) {
		told := map[subscription.Kind]int{}
		s, err := subscription.Open(t.Context(), c, subscription.Config{Stream: "s", OnNotice: func(n subscription.Notice) {
			told[n.Kind]++
			if n.Kind == subscription.FellBehind {
				require.ErrorIs(t, n.Err, eventstore.ErrConnectionLost)
			}
		}})
		require.NoError(t, err)
		defer func() { require.NoError(t, s.Close()) }()
		silent(t, s)
		for n := range losses {
			srv.Cut()
			write(t, c, "s", n, 1)
			want(t, s, n, 1)
			silent(t, s)
			require.Equal(t, n+1, told[subscription.FellBehind])
			require.Equal(t, n+1, told[subscription.Resubscribed])
			require.Equal(t, n+2, told[subscription.CaughtUp])
		}
		require.EqualValues(t, losses, s.Stats().Resubscriptions)
	})
}
