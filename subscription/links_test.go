package subscription_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/subscription"
)

// A stream of links is followed by the numbers of the links, whatever those of their targets are: links that lead nowhere
// are delivered as well, and over every loss each comes once.
func TestAStreamOfLinks(t *testing.T) {
	targets := []int64{7, 3, -1, 5, 0, -1, 3, 3, 1, 2} // -1: it leads nowhere
	for name, raw := range map[string]bool{"resolved": false, "raw": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, srv *eventstoretest.Server, c *eventstore.Client) {
				write(t, c, "target", 0, 8)
				link := func(n int) {
					to := fmt.Sprintf("%d@target", targets[n])
					if targets[n] < 0 {
						to = "99@target"
					}
					_, err := c.Append(t.Context(), "links", eventstore.ExpectedVersion(n-1), []eventstore.EventData{{Type: "$>", Data: []byte(to)}})
					require.NoError(t, err)
				}
				for n := range 6 {
					link(n)
				}
				s, err := subscription.Open(t.Context(), c, subscription.Config{Stream: "links", RawLinks: raw, PageSize: 2})
				require.NoError(t, err)
				defer func() { require.NoError(t, s.Close()) }()
				for n, target := range targets {
					if n >= 6 {
						link(n)
					}
					e, err := s.Recv(t.Context())
					require.NoError(t, err)
					require.EqualValues(t, n, e.Original().Number)
					require.Equal(t, "links", e.Original().Stream)
					require.Equal(t, eventstore.After(int64(n)), e.Checkpoint())
					require.Equal(t, eventstore.After(int64(n)), s.Checkpoint())
					switch {
					case raw:
						require.Nil(t, e.Link)
						require.Equal(t, "$>", e.Event.Type)
					case target < 0:
						require.NotNil(t, e.Link)
						require.Nil(t, e.Event)
					default:
						require.Equal(t, target, e.Event.Number)
						require.Equal(t, fmt.Sprint(target), string(e.Event.Data))
					}
					if n%2 == 1 {
						srv.Cut()
					}
				}
				silent(t, s)
			})
		})
	}
}
