package eventstore_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
)

// FuzzFrom: whatever a checkpoint's file holds is a place that is written as it was read, or an error.
func FuzzFrom(f *testing.F) {
	for _, s := range []string{"start", "end", "at 0", "after 9223372036854775807", "at C:1/P:2", "after C:-1/P:1", "at +5", "", "at \x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var from eventstore.From
		if err := from.UnmarshalText([]byte(s)); err != nil {
			require.ErrorIs(t, err, eventstore.ErrArgument)
			require.Zero(t, from)
			return
		}
		var again eventstore.From
		require.NoError(t, again.UnmarshalText([]byte(from.String())))
		require.Equal(t, from, again)
	})
}

// FuzzParseTarget: whatever a target is, it is refused in words or shown without its password, and what is shown reads as the
// same target.
func FuzzParseTarget(f *testing.F) {
	for _, s := range []string{
		"tcp://admin:changeit@127.0.0.1:1113", "tls://[::1]:1", "tcp://a:b@c:d@e", "tcp://:1", "http://x", "%", "tcp://u:p%zz@h",
		"tcp://h?name=a%20b&timeout=1s", "discover://u:secretpassword@h?tls=true&tlsServerName=x", "gossip://u:p@a:1,[::1],c:2113/?gossip=http",
		"gossip://a,,b", "gossip://a:1,u:p@b", "ConnectTo=tcp://admin:secretpassword@h:1; Heartbeat Timeout=5",
		"GossipSeeds=a:1,b:2;NodePreference=Slave;UseSslConnection=true", "ClusterDns=h;GossipPort=1;DefaultUserCredentials=a:secretpassword",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		shows := func(text string) {
			t.Helper()
			if _, rest, ok := strings.Cut(s, "://"); ok {
				if user, host, ok := strings.Cut(rest, "@"); ok {
					if _, password, ok := strings.Cut(user, ":"); ok && len(password) > 8 && !strings.Contains(user[:len(user)-len(password)]+host, password) {
						require.NotContains(t, text, password)
					}
				}
			}
		}
		target, err := eventstore.ParseTarget(s)
		if err != nil {
			require.ErrorIs(t, err, eventstore.ErrArgument)
			return
		}
		require.NotEmpty(t, target.Addr)
		shows(target.String())
		again, err := eventstore.ParseTarget(target.String())
		require.NoError(t, err, target.String())
		require.Equal(t, target.Addr, again.Addr)
		require.Equal(t, target.Scheme, again.Scheme)
		require.Equal(t, target.TLS, again.TLS)
		require.Equal(t, target.String(), again.String())
	})
}
