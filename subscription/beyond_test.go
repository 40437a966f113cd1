package subscription_test

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/internal/memnet"
	"github.com/goeventstore/eventstore/server"
	"github.com/goeventstore/eventstore/subscription"
)

// Who was behind an event that is not there is told so before anything else, and once.
func TestBeyondTheEnd(t *testing.T) {
	tests := map[string]struct {
		stream string
		from   func(last eventstore.Position) eventstore.From
		told   notices
	}{
		"behind the last":  {"s", func(eventstore.Position) eventstore.From { return eventstore.After(9) }, notices{"CaughtUp"}},
		"behind no event":  {"s", func(eventstore.Position) eventstore.From { return eventstore.After(10) }, notices{"Beyond", "CaughtUp"}},
		"at one to come":   {"s", func(eventstore.Position) eventstore.From { return eventstore.At(12) }, notices{"CaughtUp"}},
		"no stream":        {"t", func(eventstore.Position) eventstore.From { return eventstore.After(0) }, notices{"Beyond", "NoStream", "CaughtUp"}},
		"the last of all":  {eventstore.All, eventstore.AfterPosition, notices{"CaughtUp"}},
		"the end of all":   {eventstore.All, nil, notices{"CaughtUp"}},
		"behind all":       {eventstore.All, func(p eventstore.Position) eventstore.From { return eventstore.AfterPosition(far(p)) }, notices{"Beyond", "CaughtUp"}},
		"a place far away": {eventstore.All, func(p eventstore.Position) eventstore.From { return eventstore.AtPosition(far(p)) }, notices{"Beyond", "CaughtUp"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, srv *eventstoretest.Server, c *eventstore.Client) {
				write(t, c, "s", 0, 10)
				page, err := c.ReadAllSlice(t.Context(), eventstore.Start, 4096)
				require.NoError(t, err)
				from := page.Next
				if tt.from != nil {
					from = tt.from(page.Events[len(page.Events)-1].Position)
				}
				var told notices
				s, err := subscription.Open(t.Context(), c, subscription.Config{Stream: tt.stream, From: from, OnNotice: func(n subscription.Notice) {
					told.add(n)
					if n.Kind == subscription.Beyond {
						require.ErrorIs(t, n.Err, subscription.ErrBeyond)
						require.ErrorContains(t, n.Err, from.String())
					}
				}})
				require.NoError(t, err)
				defer func() { require.NoError(t, s.Close()) }()
				silent(t, s)
				require.Equal(t, tt.told, told)
				srv.Cut()
				silent(t, s)
				require.Equal(t, append(tt.told, "FellBehind", "Resubscribed", "CaughtUp"), told, "once, as it was told already")
			})
		})
	}
}

func far(p eventstore.Position) eventstore.Position {
	return eventstore.Position{Commit: p.Commit + 1<<20, Prepare: p.Commit + 1<<20}
}

// The server is replaced by one with fewer events: who followed hears of it, and when the place is there again, no more.
func TestADatabaseThatWasRestored(t *testing.T) {
	for _, stream := range []string{"s", eventstore.All} {
		t.Run(stream, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				network := memnet.New()
				start := func() *server.Server {
					srv, err := server.Start(server.Config{TCP: "server:1113", HTTP: server.Off, Listen: func(n, addr string) (net.Listener, error) {
						return network.Listen(n, addr)
					}})
					require.NoError(t, err)
					return srv
				}
				srv := start()
				c, err := eventstore.Connect(t.Context(), "tcp://admin:changeit@server:1113", eventstore.WithDialer(network.Dial))
				require.NoError(t, err)
				defer func() { require.NoError(t, c.Close()) }()
				write(t, c, "s", 0, 30)
				var told notices
				s, err := subscription.Open(t.Context(), c, subscription.Config{Stream: stream, OnNotice: told.add})
				require.NoError(t, err)
				defer func() { require.NoError(t, s.Close()) }()
				for range 30 {
					_, err := s.Recv(t.Context())
					require.NoError(t, err)
				}
				drain(t, s)
				require.Equal(t, notices{"CaughtUp"}, told)
				require.NoError(t, srv.Close())
				srv = start()
				defer func() { require.NoError(t, srv.Close()) }()
				other, err := eventstore.Connect(t.Context(), "tcp://admin:changeit@server:1113", eventstore.WithDialer(network.Dial))
				require.NoError(t, err)
				defer func() { require.NoError(t, other.Close()) }()
				write(t, other, "s", 0, 1)
				drain(t, s)
				require.Equal(t, notices{"CaughtUp", "FellBehind", "Resubscribed", "Beyond", "CaughtUp"}, told)
				write(t, other, "s", 1, 40)
				e, err := s.Recv(t.Context())
				require.NoError(t, err)
				if stream == "s" {
					require.EqualValues(t, 30, e.Event.Number)
				}
			})
		})
	}
}

// drain takes what there is, until nothing comes for a while.
func drain(t *testing.T, s *subscription.Subscription) (count int) {
	t.Helper()
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		_, err := s.Recv(ctx)
		cancel()
		if err != nil {
			require.ErrorIs(t, err, ctx.Err())
			return count
		}
		count++
	}
}
