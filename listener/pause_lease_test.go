package listener_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/listener"
)

// A paused instance keeps its lease. One that waits for it is paused at once, and stays so when it gets it.
func TestPauseWithALease(t *testing.T) {
	for _, parallel := range []int{1, 3} {
		bubble(t, func(t *testing.T, srv *eventstoretest.Server, c *eventstore.Client) {
			write(t, c, 0, 10)
			var got [2]seen
			var l [2]*listener.Listener
			var stop [2]func() error
			for i := range l {
				client := srv.Client(t)
				var err error
				l[i], err = listener.New(client, listener.Config{
					Name: "l", Stream: "s", Store: listener.StreamStore(client, "checkpoint-"), Parallel: parallel, Key: by(1),
				}, got[i].handle)
				require.NoError(t, err)
				stop[i] = start(t, l[i])
				time.Sleep(time.Second)
			}
			require.Equal(t, listener.Following, l[0].Status().State)
			require.Equal(t, listener.Waiting, l[1].Status().State)
			began := time.Now()
			for i := range l {
				at, err := l[i].Pause(t.Context())
				require.NoError(t, err)
				require.Equal(t, eventstore.After(9), at)
			}
			require.Zero(t, time.Since(began))
			write(t, c, 10, 5)
			time.Sleep(time.Hour)
			synctest.Wait()
			require.Equal(t, listener.Paused, l[0].Status().State)
			require.Equal(t, listener.Waiting, l[1].Status().State)
			require.NoError(t, stop[0]())
			time.Sleep(time.Minute)
			synctest.Wait()
			require.Equal(t, listener.Paused, l[1].Status().State)
			require.NoError(t, l[1].Resume(t.Context()))
			synctest.Wait()
			got[0].want(t, 0, 10)
			got[1].want(t, 10, 5)
			require.NoError(t, stop[1]())
		})
	}
}
