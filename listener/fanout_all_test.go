package listener_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/listener"
	"github.com/goeventstore/eventstore/server"
)

// appendOne appends an event of a type to a stream.
func appendOne(t *testing.T, c *eventstore.Client, stream, typ string) {
	t.Helper()
	_, err := c.Append(t.Context(), stream, eventstore.Any, []eventstore.EventData{{Type: typ}})
	require.NoError(t, err)
}

func named(e eventstore.ResolvedEvent) string {
	return fmt.Sprintf("%d@%s", e.Original().Number, e.Original().Stream)
}

// getsNamed takes events whose originals have these names, and then nothing.
func getsNamed(t *testing.T, c *listener.Consumer, names ...string) {
	t.Helper()
	for _, name := range names {
		e, err := c.Recv(t.Context())
		require.NoError(t, err)
		require.Equal(t, name, named(e))
		require.Equal(t, e.Checkpoint(), c.Checkpoint())
	}
	getsNothing(t, c)
}

// Of everything a fan-out hands out what its filter wants, whoever picks it, over losses too; the places are the log's.
func TestAFanoutOfEverything(t *testing.T) {
	for name, filtered := range map[string]bool{"the server picks": true, "the client picks": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := eventstoretest.Run(t, eventstoretest.InMemory(), eventstoretest.WithServer(server.Config{Dialect: server.Dialect{Filtered: filtered}}))
				c := srv.Client(t)
				appendOne(t, c, "wanted-a", "before")
				filter := eventstore.StreamPrefix("wanted-")
				f := fanOut(t, c, func(cfg *listener.FanoutConfig) { cfg.Stream, cfg.Filter = eventstore.All, &filter })
				all := f.Attach(listener.AttachOptions{})
				a := f.Attach(listener.AttachOptions{Stream: "wanted-a"})
				dropping := f.Attach(listener.AttachOptions{OnOverflow: listener.DropOldest, Buffer: 2})
				began, isPosition := dropping.Checkpoint().Position()
				require.True(t, isPosition, "%v", dropping.Checkpoint())
				for range 3 {
					appendOne(t, c, "wanted-a", "t")
					appendOne(t, c, "other", "t")
					srv.Cut()
					appendOne(t, c, "wanted-b", "t")
				}
				getsNamed(t, all, "1@wanted-a", "0@wanted-b", "2@wanted-a", "1@wanted-b", "3@wanted-a", "2@wanted-b")
				getsNamed(t, a, "1@wanted-a", "2@wanted-a", "3@wanted-a")

				// What a gap tells is enough to read what is in it.
				_, err := dropping.Recv(t.Context())
				var gap *listener.GapError
				require.ErrorAs(t, err, &gap)
				require.EqualValues(t, 4, gap.Dropped)
				require.Equal(t, eventstore.AfterPosition(began), gap.From)
				var lost []string
				for e, err := range c.ReadAll(t.Context(), gap.From, filter) {
					require.NoError(t, err)
					if after, err := e.Checkpoint().Compare(gap.Until); err != nil || after > 0 {
						break
					}
					lost = append(lost, named(e))
				}
				require.Equal(t, []string{"1@wanted-a", "0@wanted-b", "2@wanted-a", "1@wanted-b"}, lost)
				getsNamed(t, dropping, "3@wanted-a", "2@wanted-b")
			})
		})
	}
}

// In $all an event comes once by itself and once by each link to it. Who wants one stream gets the first alone.
func TestConsumersOfOneStreamOfEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := eventstoretest.Run(t, eventstoretest.InMemory(), eventstoretest.Projections())
		c := srv.Client(t)
		f := fanOut(t, c, func(cfg *listener.FanoutConfig) { cfg.Stream = eventstore.All })
		own, links := f.Attach(listener.AttachOptions{Stream: "account-1"}), f.Attach(listener.AttachOptions{Stream: "$ce-account"})
		for range 3 {
			appendOne(t, c, "account-1", "t")
			appendOne(t, c, "account-2", "t")
			synctest.Wait()
		}
		getsNamed(t, own, "0@account-1", "1@account-1", "2@account-1")
		getsNamed(t, links, "0@$ce-account", "1@$ce-account", "2@$ce-account", "3@$ce-account", "4@$ce-account", "5@$ce-account")
	})
}

func TestABadFilterIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		filter := eventstore.StreamRegexp("(")
		_, err := listener.NewFanout(c, listener.FanoutConfig{Stream: eventstore.All, Filter: &filter})
		require.ErrorIs(t, err, eventstore.ErrArgument)
	})
}

// Everything needs the right to it: without, Run ends with the reason, and so do those who wait for it.
func TestAFanoutOfEverythingNeedsTheRight(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		f, err := listener.NewFanout(c, listener.FanoutConfig{
			Stream: eventstore.All, Call: []eventstore.CallOption{eventstore.As("nobody", "wrong")},
		})
		require.NoError(t, err)
		one := f.Attach(listener.AttachOptions{})
		err = f.Run(t.Context())
		require.True(t, errors.Is(err, eventstore.ErrNotAuthenticated) || errors.Is(err, eventstore.ErrAccessDenied), "%v", err)
		require.Equal(t, err, one.Ready(t.Context()))
	})
}
