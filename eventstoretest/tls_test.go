package eventstoretest_test

import (
	"net/url"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/messages"
)

// Whoever connects to the targets speaks TLS and trusts the server, and nobody else does.
func TestTLS(t *testing.T) {
	for name, network := range networks {
		t.Run(name, func(t *testing.T) {
			srv := eventstoretest.Run(t, eventstoretest.TLS(), network())
			other := eventstoretest.Run(t, eventstoretest.TLS(), network())
			for _, target := range []string{srv.URL(), srv.DirectURL()} {
				u, err := url.Parse(target)
				require.NoError(t, err)
				require.Equal(t, "tls", u.Scheme)
				c, err := eventstore.Connect(t.Context(), target, eventstore.WithDialer(srv.Dial))
				require.NoError(t, err)
				require.NoError(t, c.Authenticate(t.Context(), eventstore.As("admin", "changeit")))
				require.NoError(t, c.Close())

				u.RawQuery = ""
				_, err = eventstore.Connect(t.Context(), u.String(), eventstore.WithDialer(srv.Dial))
				require.ErrorContains(t, err, "is its CA given?")
				u.RawQuery = queryOf(t, other)
				_, err = eventstore.Connect(t.Context(), u.String(), eventstore.WithDialer(srv.Dial))
				require.ErrorIs(t, err, eventstore.ErrRefused)
				u.Scheme, u.RawQuery = "tcp", ""
				_, err = eventstore.Connect(t.Context(), u.String(), eventstore.WithDialer(srv.Dial))
				require.ErrorContains(t, err, "the server speaks TLS on this port")
			}
		})
	}
}

func queryOf(t *testing.T, srv *eventstoretest.Server) string {
	t.Helper()
	u, err := url.Parse(srv.URL())
	require.NoError(t, err)
	return u.RawQuery
}

// Faults work as without TLS, and in virtual time too.
func TestFaultsUnderTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := eventstoretest.Run(t, eventstoretest.TLS(), eventstoretest.InMemory())
		c := srv.Client(t)
		var appends atomic.Int32
		srv.Intercept(func(f *eventstoretest.Frame) eventstoretest.Fault {
			switch {
			case f.Command == messages.WriteEvents && appends.Add(1) == 1:
				require.Equal(t, "admin", f.Login)
				return eventstoretest.CutAfter
			case f.Command == messages.WriteEventsCompleted && appends.Load() == 2:
				return eventstoretest.Delay(time.Second)
			}
			return eventstoretest.Pass
		})
		began := time.Now()
		r, err := c.Append(t.Context(), "s", eventstore.NoStream, []eventstore.EventData{{Type: "t", Data: make([]byte, 1<<20)}})
		require.NoError(t, err)
		require.Zero(t, r.First)
		require.GreaterOrEqual(t, time.Since(began), time.Second)
		require.EqualValues(t, 2, appends.Load())

		srv.Cut()
		require.NoError(t, c.Ping(t.Context()))
		srv.Pause()
		time.AfterFunc(time.Second, srv.Resume)
		require.NoError(t, c.Ping(t.Context()))
		srv.Refuse()
		srv.Cut()
		time.AfterFunc(time.Second, srv.Accept)
		require.NoError(t, c.Ping(t.Context()))
		time.Sleep(time.Hour) // of heartbeats
		require.NoError(t, c.Ping(t.Context()))
		require.EqualValues(t, 3, c.Stats().Reconnects)
	})
}

// A client that never comes to the end of the handshake holds up nobody, and not the end of the test.
func TestAClientThatDoesNotShakeHands(t *testing.T) {
	for name, network := range networks {
		t.Run(name, func(t *testing.T) {
			srv := eventstoretest.Run(t, eventstoretest.TLS(), network())
			u, err := url.Parse(srv.URL())
			require.NoError(t, err)
			silent, err := srv.Dial(t.Context(), "tcp", u.Host)
			require.NoError(t, err)
			t.Cleanup(func() { _ = silent.Close() })
			require.NoError(t, srv.Client(t).Ping(t.Context()))
		})
	}
}

// A real server keeps its plain port: TLS ends at the proxy.
func TestTLSBeforeARealServer(t *testing.T) {
	another := eventstoretest.Run(t, eventstoretest.ForceEmbedded())
	t.Setenv(environment, another.DirectURL())
	srv := eventstoretest.Run(t, eventstoretest.TLS())
	require.False(t, srv.Embedded())
	require.Equal(t, another.DirectURL(), srv.DirectURL())
	require.Contains(t, srv.URL(), "tls://admin:changeit@")
	require.NoError(t, srv.Client(t).Ping(t.Context()))
}
