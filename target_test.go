package eventstore_test

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
)

func TestParseTarget(t *testing.T) {
	for s, want := range map[string]string{
		"tcp://127.0.0.1:1113":            "tcp://127.0.0.1:1113",
		"tcp://node":                      "tcp://node:1113",
		"tcp://[::1]:1200":                "tcp://[::1]:1200",
		"tcp://[fe80::1%25en0]":           "tcp://[fe80::1%25en0]:1113",
		"tcp://admin:s3cret@node:1/":      "tcp://admin:xxxxx@node:1",
		"tls://admin:p%40ss@node.example": "tls://admin:xxxxx@node.example:1113",
	} {
		target, err := eventstore.ParseTarget(s)
		require.NoError(t, err, s)
		require.Equal(t, want, target.String())
	}
}

func TestABadTargetIsRefusedInWords(t *testing.T) {
	for s, says := range map[string]string{
		"":                            "want tcp://",
		"node:1113":                   "want tcp",
		"localhost":                   "want tcp://host",
		"http://node:2113":            "this client speaks the TCP protocol, want tcp://node:1113",
		"ftp://node":                  `unknown scheme "ftp"`,
		"tcp://:1113":                 "the host is missing",
		"tcp://::":                    "an IPv6 address stands in brackets",
		"tcp://node:0":                `port "0"`,
		"tcp://node:99999":            `port "99999"`,
		"tcp://node/path":             "a path has no meaning",
		"tcp://node?namee=x":          `unknown key "namee", did you mean "name"?`,
		"tcp://admin:s3cret@node:bad": "no URL",
		"tcp://admin:s3cret@node?x=y": "unknown key",
	} {
		_, err := eventstore.Connect(t.Context(), s)
		require.ErrorIs(t, err, eventstore.ErrArgument, s)
		require.ErrorContains(t, err, says, s)
		require.NotContains(t, err.Error(), "s3cret")
	}
}

func TestBadOptionsAreRefusedInWords(t *testing.T) {
	for says, o := range map[string]eventstore.Option{
		"WithTimeout(0s)":           eventstore.WithTimeout(0),
		"WithHeartbeat(0s, 1s)":     eventstore.WithHeartbeat(0, time.Second),
		"WithMaxAttempts(-1)":       eventstore.WithMaxAttempts(-1),
		"WithMaxInFlight(0)":        eventstore.WithMaxInFlight(0),
		"WithBackoff(nil)":          eventstore.WithBackoff(nil),
		"WithLogger(nil)":           eventstore.WithLogger(nil),
		"a nil Option":              nil,
		"the password is empty":     eventstore.WithCredentials("admin", ""),
		"the login has 300 bytes":   eventstore.WithCredentials(string(make([]byte, 300)), "x"),
		"the login is empty":        eventstore.WithCredentials("", "x"),
		"the wire carries 127":      eventstore.WithCredentials("ä", string(make([]byte, 128))),
		"the password has 256 byte": eventstore.WithCredentials("a", string(make([]byte, 256))),
	} {
		_, err := eventstore.Connect(t.Context(), "tcp://127.0.0.1:1", o)
		require.ErrorIs(t, err, eventstore.ErrArgument, says)
		require.ErrorContains(t, err, says)
	}
}

func TestAnotherKindOfPortEndsConnectAtOnce(t *testing.T) {
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // it finds our client as odd as we find it
	secure.StartTLS()
	defer secure.Close()
	for name, tt := range map[string]struct{ target, says string }{
		"HTTP":              {"tcp://" + web.Listener.Addr().String(), "is this the HTTP port?"},
		"TLS":               {"tcp://" + secure.Listener.Addr().String(), "TLS"},
		"plain, not TLS":    {"tls://" + web.Listener.Addr().String(), "does not speak it on this port"},
		"a bad certificate": {"tls://" + secure.Listener.Addr().String(), "certificate is not accepted"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			_, err := eventstore.Connect(ctx, tt.target, eventstore.WithTimeout(time.Minute))
			require.ErrorIs(t, err, eventstore.ErrRefused)
			require.ErrorContains(t, err, tt.says)
			var op *eventstore.OpError
			require.ErrorAs(t, err, &op)
			require.Equal(t, 1, op.Attempts)
			require.NotEmpty(t, op.Addr)
		})
	}
}

func TestConnectToNobodySaysWhereAndWhy(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := l.Addr().String()
	require.NoError(t, l.Close())
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err = eventstore.Connect(ctx, "tcp://"+addr)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, addr)
	require.ErrorContains(t, err, "refused")
	var op *eventstore.OpError
	require.ErrorAs(t, err, &op)
	require.Greater(t, op.Attempts, 1, "it tries until the context ends")
}
