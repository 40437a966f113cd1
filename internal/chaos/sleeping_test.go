package chaos_test

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/listener"
)

// A handler sleeps for a minute over each event, and a loop over each of a page: neither is in the way of heartbeats, and the
// connection stays.
func TestHeartbeatsUnderAHandlerThatSleeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := eventstoretest.Run(t, eventstoretest.InMemory())
		write(t, srv.Client(t), 0, 5)
		dials := 0
		c, err := eventstore.Connect(t.Context(), srv.URL(), eventstore.WithDialer(func(ctx context.Context, network, addr string) (net.Conn, error) {
			dials++
			return srv.Dial(ctx, network, addr)
		}))
		require.NoError(t, err)
		defer func() { require.NoError(t, c.Close()) }()
		var l *listener.Listener
		handled := 0
		l, err = listener.New(c, listener.Config{Name: "l", Stream: stream, Store: listener.MemoryStore()}, func(context.Context, eventstore.ResolvedEvent) error {
			time.Sleep(time.Minute)
			if handled++; handled == 5 {
				l.Stop()
			}
			return nil
		})
		require.NoError(t, err)
		require.NoError(t, l.Run(t.Context()))
		for _, err := range c.ReadStream(t.Context(), stream, eventstore.Start, eventstore.PageSize(2)) {
			require.NoError(t, err)
			time.Sleep(time.Minute)
		}
		require.Equal(t, 1, dials)
	})
}
