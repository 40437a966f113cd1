package listener_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/listener"
	"github.com/goeventstore/eventstore/messages"
)

// confirming has the server confirm subscriptions as one that has not come farther than event last.
func confirming(srv *eventstoretest.Server, last byte) (remove func()) {
	body := []byte{1 << 3, 1, 2 << 3, last} // lastCommitPosition and lastEventNumber
	return srv.Intercept(func(f *eventstoretest.Frame) eventstoretest.Fault {
		if f.Command == messages.SubscriptionConfirmation {
			return eventstoretest.Replace(messages.SubscriptionConfirmation, body)
		}
		return eventstoretest.Pass
	})
}

// A node confirms less than the leader has, for longer than anybody is given time to come as far.
func TestANodeThatIsFarBehind(t *testing.T) {
	bubble(t, func(t *testing.T, srv *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 10)
		store := listener.MemoryStore()
		require.NoError(t, store.Save(t.Context(), "l", eventstore.After(8)))
		remove := confirming(srv, 4)
		var got seen
		l, err := listener.New(c, listener.Config{Name: "l", Stream: "s", Store: store}, got.handle)
		require.NoError(t, err)
		stop := start(t, l)
		time.Sleep(time.Minute)
		got.want(t, 0, 0)
		remove()
		time.Sleep(10 * time.Second)
		got.want(t, 9, 1)
		require.NoError(t, stop())
	})
}

// To be beyond the end now and then is not to be so for long.
func TestBeyondTheEndAgain(t *testing.T) {
	bubble(t, func(t *testing.T, srv *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 5)
		store := listener.MemoryStore()
		require.NoError(t, store.Save(t.Context(), "l", eventstore.After(8)))
		var got seen
		l, err := listener.New(c, listener.Config{Name: "l", Stream: "s", Store: store}, got.handle)
		require.NoError(t, err)
		stop := start(t, l)
		time.Sleep(3 * time.Second)
		require.ErrorIs(t, l.Status().LastError, listener.ErrBeyondEnd)
		write(t, c, 5, 5)
		time.Sleep(time.Minute)
		got.want(t, 9, 1)
		_, err = c.Delete(t.Context(), "s", eventstore.Any) // so that nothing can be read
		require.NoError(t, err)
		remove := confirming(srv, 4)
		srv.Cut()
		time.Sleep(5 * time.Second)
		remove()
		time.Sleep(5 * time.Second)
		write(t, c, 10, 2)
		time.Sleep(5 * time.Second)
		require.NoError(t, stop())
		got.want(t, 9, 3)
	})
}
