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

// FuzzParseTarget: whatever a target is, it is refused in words or shown without its password.
func FuzzParseTarget(f *testing.F) {
	for _, s := range []string{"tcp://admin:changeit@127.0.0.1:1113", "tls://[::1]:1", "tcp://a:b@c:d@e", "tcp://:1", "http://x", "%", "tcp://u:p%zz@h"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		target, err := eventstore.ParseTarget(s)
		if err != nil {
			require.ErrorIs(t, err, eventstore.ErrArgument)
			return
		}
		require.NotEmpty(t, target.Addr)
		again, err := eventstore.ParseTarget(target.String())
		require.NoError(t, err)
		require.Equal(t, target.Addr, again.Addr)
		if _, rest, ok := strings.Cut(s, "://"); ok {
			if user, _, ok := strings.Cut(rest, "@"); ok {
				if _, password, ok := strings.Cut(user, ":"); ok && len(password) > 8 {
					require.NotContains(t, target.String(), password)
				}
			}
		}
	})
}
