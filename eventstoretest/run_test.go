package eventstoretest_test

import (
	"net"
	"net/url"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/internal/memnet"
	"github.com/goeventstore/eventstore/server"
)

const environment = "EVENTSTORE_TEST_TCP"

func TestURLs(t *testing.T) {
	for name, network := range networks {
		t.Run(name, func(t *testing.T) {
			srv := eventstoretest.Run(t, network())
			require.True(t, srv.Embedded())
			require.NotEqual(t, srv.URL(), srv.DirectURL())
			for _, target := range []string{srv.URL(), srv.DirectURL()} {
				u, err := url.Parse(target)
				require.NoError(t, err)
				require.Equal(t, "tcp", u.Scheme)
				require.Equal(t, "admin:changeit", u.User.String())
				c, err := eventstore.Connect(t.Context(), target, eventstore.WithDialer(srv.Dial))
				require.NoError(t, err)
				require.NoError(t, c.Ping(t.Context()))
				require.NoError(t, c.Close())
			}
		})
	}
}

// The options of the caller come last: wrong credentials beat those of the URL.
func TestClientOptions(t *testing.T) {
	for name, network := range networks {
		t.Run(name, func(t *testing.T) {
			srv := eventstoretest.Run(t, network())
			c := srv.Client(t, eventstore.WithCredentials("admin", "wrong"))
			_, err := c.Append(t.Context(), "a", eventstore.Any, []eventstore.EventData{{Type: "t"}})
			require.ErrorIs(t, err, eventstore.ErrNotAuthenticated)
		})
	}
}

func TestProjections(t *testing.T) {
	for name, opts := range map[string][]eventstoretest.Option{
		"alone":  {eventstoretest.Projections(), eventstoretest.ForceEmbedded()},
		"before": {eventstoretest.Projections(), eventstoretest.WithServer(server.Config{})},
		"behind": {eventstoretest.WithServer(server.Config{}), eventstoretest.Projections()},
		"config": {eventstoretest.WithServer(server.Config{Projections: true})},
	} {
		t.Run(name, func(t *testing.T) {
			c := eventstoretest.Run(t, opts...).Client(t)
			_, err := c.Append(t.Context(), "account-1", eventstore.Any, []eventstore.EventData{{Type: "opened"}})
			require.NoError(t, err)
			require.Eventually(t, func() bool {
				e, err := c.ReadEvent(t.Context(), "$ce-account", eventstore.At(0))
				return err == nil && e.Event.Stream == "account-1" && string(e.Link.Data) == "0@account-1"
			}, 10*time.Second, time.Millisecond)
		})
	}
}

func TestServerOfTheEnvironment(t *testing.T) {
	other, err := server.Start(server.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, other.Close()) })
	u, err := url.Parse(other.URL())
	require.NoError(t, err)
	u.User = url.UserPassword("ops", "changeit")
	t.Setenv(environment, u.String())

	srv := eventstoretest.Run(t)
	require.False(t, srv.Embedded())
	require.Equal(t, u.String(), srv.DirectURL())
	proxied, err := url.Parse(srv.URL())
	require.NoError(t, err)
	require.Equal(t, "ops:changeit", proxied.User.String())
	require.NotEqual(t, u.Host, proxied.Host)
	c := srv.Client(t)
	appendOne(t, c, "a", eventstore.NoStream)
	srv.Cut()
	appendOne(t, c, "a", 0)
	requireEvents(t, srv, "a", 2)

	direct, err := eventstore.Connect(t.Context(), u.String())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, direct.Close()) })
	for _, err := range direct.ReadStream(t.Context(), "a", eventstore.From{}) {
		require.NoError(t, err)
	}
	for name, opts := range map[string][]eventstoretest.Option{
		"ForceEmbedded": {eventstoretest.ForceEmbedded()},
		"InMemory":      {eventstoretest.InMemory()},
		"WithServer":    {eventstoretest.WithServer(server.Config{})},
	} {
		t.Run(name, func(t *testing.T) { require.True(t, eventstoretest.Run(t, opts...).Embedded()) })
	}
}

func TestServerOfTheEnvironmentGoes(t *testing.T) {
	other, err := server.Start(server.Config{})
	require.NoError(t, err)
	t.Setenv(environment, other.URL())
	fake := &tb{TB: t}
	fake.run(func() {
		srv := eventstoretest.Run(fake)
		target, err := eventstore.ParseTarget(srv.URL())
		require.NoError(t, err)
		require.NoError(t, other.Close())
		c, err := srv.Dial(t.Context(), "tcp", target.Addr)
		if err == nil { // else the reset came first
			defer func() { _ = c.Close() }()
			_, err = c.Read(make([]byte, 1))
		}
		require.ErrorIs(t, err, syscall.ECONNRESET)
	})
	require.Contains(t, fake.log(), "connection refused")
}

func TestBadEnvironment(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it is closed at once
	require.NoError(t, err)
	require.NoError(t, l.Close())
	nobody := l.Addr().String()
	for _, c := range []struct{ name, target, want string }{
		{"scheme", "http://admin:secret@127.0.0.1:2113", "speaks the TCP protocol"},
		{"no URL", "tcp://admin:secret@127.0.0.1:port", "EVENTSTORE_TEST_TCP"},
		{"TLS", "tls://admin:secret@127.0.0.1:1113", "does not speak TLS"},
		{"nobody", "tcp://admin:secret@" + nobody, "nobody answers"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv(environment, c.target)
			fake := &tb{TB: t}
			fake.run(func() { eventstoretest.Run(fake) })
			require.Contains(t, fake.fatal, c.want)
			require.Contains(t, fake.fatal, environment)
			require.NotContains(t, fake.fatal, "secret")
		})
	}
}

func TestClientThatCannotConnectEndsTheTest(t *testing.T) {
	srv := eventstoretest.Run(t, eventstoretest.InMemory())
	fake := &tb{TB: t}
	fake.run(func() { srv.Client(fake, eventstore.WithName("x"), eventstore.WithTimeout(0)) })
	require.Contains(t, fake.fatal, "WithTimeout")
}

func TestServerConfig(t *testing.T) {
	now := time.Date(2020, 2, 2, 20, 20, 0, 0, time.UTC)
	srv := eventstoretest.Run(t, eventstoretest.WithServer(server.Config{
		Now:   func() time.Time { return now },
		NewID: func() uuid.UUID { return uuid.UUID{1} },
	}))
	c := srv.Client(t)
	appendOne(t, c, "a", eventstore.NoStream)
	e, err := c.ReadEvent(t.Context(), "a", eventstore.From{})
	require.NoError(t, err)
	require.Equal(t, now, e.Event.Created)
}

func TestNetworkOfTheTest(t *testing.T) {
	n := memnet.New()
	srv := eventstoretest.Run(t, eventstoretest.OnNetwork(n), eventstoretest.ForceEmbedded())
	appendOne(t, srv.Client(t), "a", eventstore.NoStream)
	target, err := eventstore.ParseTarget(srv.URL())
	require.NoError(t, err)
	c, err := n.Dial(t.Context(), "tcp", target.Addr)
	require.NoError(t, err)
	require.NoError(t, c.Close())
}

// Everything that Run starts ends with the test, in a bubble too: synctest fails the test otherwise.
func TestInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := eventstoretest.Run(t, eventstoretest.InMemory())
		c := srv.Client(t)
		appendOne(t, c, "a", eventstore.NoStream)
		start := time.Now()
		time.Sleep(time.Hour) // of heartbeats
		require.Equal(t, eventstore.Connected, c.State().Phase)
		appendOne(t, c, "a", 0)
		require.Equal(t, time.Hour, time.Since(start))
	})
}
