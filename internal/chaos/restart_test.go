package chaos_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/messages"
)

// A server that was just restarted accepts connections and drops what has credentials until it knows its users. A call that
// was under way goes out when it answers again, and not before: it does not wait for the time-out of an attempt that was
// dropped, and one that must not be sent twice is not lost.
func TestCallsWaitForAServerThatKnowsItsUsers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const starting = 1400 * time.Millisecond
		srv := eventstoretest.Run(t, eventstoretest.InMemory())
		c := srv.Client(t, eventstore.WithCredentials("admin", "changeit"))
		_, err := c.Append(t.Context(), "doomed", eventstore.NoStream, []eventstore.EventData{{Type: "t"}})
		require.NoError(t, err)

		cut := time.Now()
		srv.Cut()
		srv.Intercept(func(f *eventstoretest.Frame) eventstoretest.Fault {
			if !f.FromServer && f.Login != "" && time.Since(cut) < starting {
				return eventstoretest.Drop
			}
			return eventstoretest.Pass
		})
		_, err = c.HardDelete(t.Context(), "doomed", 0)
		require.NoError(t, err)
		require.GreaterOrEqual(t, time.Since(cut), starting)
		require.Less(t, time.Since(cut), starting+time.Second)
	})
}

// A server that never answers the greeting is given calls all the same, after the time of one attempt.
func TestAServerThatDropsPings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := eventstoretest.Run(t, eventstoretest.InMemory())
		c := srv.Client(t, eventstore.WithCredentials("admin", "changeit"), eventstore.WithTimeout(3*time.Second))
		srv.Cut()
		srv.Intercept(func(f *eventstoretest.Frame) eventstoretest.Fault {
			if f.Command == messages.Ping {
				return eventstoretest.Drop
			}
			return eventstoretest.Pass
		})
		begun := time.Now()
		_, err := c.Append(t.Context(), "s", eventstore.NoStream, []eventstore.EventData{{Type: "t"}})
		require.NoError(t, err)
		require.InDelta(t, 3, time.Since(begun).Seconds(), 0.5)
	})
}
