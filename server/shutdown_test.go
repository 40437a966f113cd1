package server

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// TestShutdown: a server that was told to shut down takes no requests, drops every subscription with an empty body, and is
// gone a moment later.
func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := run(t)
		p, other := n.peer(t), n.peer(t)
		p.appended("s", expectNoStream, "a")
		stream, _ := p.subscribe("s")
		n.group(t, usualGroup("s"))
		member := n.peer(t).connect("s", 10)
		member.gets(got{subject: "0@s"})
		all, _ := p.subscribe("", "admin", "changeit")

		rest := n.shutDown()
		n.shutDown()() // again
		// Who has the answer to the request and writes used to be faster, sometimes.
		refused := other.call(&messages.Append{Stream: "s", Expected: expectAny, Events: events("b")})
		require.Equal(t, messages.NotHandled, refused.command)
		var m pb.NotHandled
		require.NoError(t, messages.Reply{Command: refused.command, Body: refused.body}.Unmarshal(&m))
		require.Equal(t, pb.NotHandled_NotReady, m.GetReason())
		begun := time.Now()
		rest()
		for _, dropped := range []answer{p.reply(stream), p.reply(all), member.reply(member.id)} {
			require.Equal(t, messages.SubscriptionDropped, dropped.command)
			require.Empty(t, dropped.body)
		}
		require.Equal(t, messages.Pong, other.call(messages.Raw(messages.Ping, nil)).command, "it is still there")
		other.closed()
		require.Equal(t, shutdownTime, time.Since(begun))
		synctest.Wait()
		_, err := n.network.Dial(context.Background(), "tcp", n.listener.Addr().String())
		require.Error(t, err)
	})
}
