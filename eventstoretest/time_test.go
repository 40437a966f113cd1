package eventstoretest_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/messages"
)

// inMemory starts a server and a client for a bubble. Nothing of them takes time.
func inMemory(t *testing.T) (*eventstoretest.Server, *eventstore.Client) {
	t.Helper()
	srv := eventstoretest.Run(t, eventstoretest.InMemory())
	return srv, srv.Client(t)
}

// A pause looks like a dead line: the client asks after 2 s of silence and gives up 1.5 s later, not a nanosecond earlier.
func TestPauseEndsInAHeartbeatTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := inMemory(t)
		var asked atomic.Int64
		start := time.Now()
		srv.Pause()
		time.Sleep(3500*time.Millisecond - 1)
		synctest.Wait()
		require.Equal(t, eventstore.Connected, c.State().Phase)
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		require.Equal(t, eventstore.Reconnecting, c.State().Phase)
		require.ErrorContains(t, c.State().Err, "heartbeat")

		// New connections are accepted, and nobody answers on them.
		srv.Intercept(func(f *eventstoretest.Frame) eventstoretest.Fault {
			if f.Command == messages.IdentifyClient {
				asked.Add(1)
			}
			return eventstoretest.Pass
		})
		time.Sleep(6 * time.Second)
		synctest.Wait()
		require.Zero(t, asked.Load())
		require.Equal(t, 9500*time.Millisecond, time.Since(start))
		srv.Resume()
		synctest.Wait()
		require.Equal(t, eventstore.Connected, c.State().Phase)
		require.NoError(t, c.Ping(t.Context()))
		require.Equal(t, 9500*time.Millisecond, time.Since(start))
	})
}

// A short pause is a late answer and no more.
func TestPauseAndResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := inMemory(t)
		conns := once(srv, messages.IdentifyClient, eventstoretest.Pass)
		start := time.Now()
		srv.Pause()
		time.AfterFunc(time.Second, srv.Resume)
		require.NoError(t, c.Ping(t.Context()))
		require.Equal(t, time.Second, time.Since(start))
		require.Zero(t, conns())
	})
}

func TestLostRequestIsSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := inMemory(t)
		once(srv, messages.WriteEvents, eventstoretest.Drop)
		start := time.Now()
		appendOne(t, c, "a", eventstore.NoStream)
		require.Equal(t, 7*time.Second, time.Since(start))
		requireEvents(t, srv, "a", 1)
	})
}

func TestLostAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := inMemory(t)
		once(srv, messages.WriteEventsCompleted, eventstoretest.Drop)
		start := time.Now()
		appendOne(t, c, "a", eventstore.NoStream)
		require.Equal(t, 7*time.Second, time.Since(start))
		requireEvents(t, srv, "a", 1)
	})
}

// The answer comes when the attempt has timed out and its copy is under way.
func TestLateAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := inMemory(t)
		once(srv, messages.WriteEventsCompleted, eventstoretest.Delay(8*time.Second))
		start := time.Now()
		_, err := c.Append(t.Context(), "a", eventstore.NoStream, []eventstore.EventData{{Type: "t"}})
		require.NoError(t, err)
		require.Less(t, time.Since(start), 9*time.Second)
		requireEvents(t, srv, "a", 1)
	})
}

func TestNoAnswerWithinTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := inMemory(t)
		once(srv, messages.WriteEventsCompleted, eventstoretest.Drop)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := c.Append(ctx, "a", eventstore.NoStream, []eventstore.EventData{{Type: "t"}})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.True(t, eventstore.MaybeApplied(err))
		requireEvents(t, srv, "a", 1)
	})
}

// A delayed frame holds those behind it, in its direction and on its connection only.
func TestDelayHoldsWhatIsBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := eventstoretest.Run(t, eventstoretest.InMemory())
		once(srv, messages.Pong, eventstoretest.Delay(500*time.Millisecond))
		start := time.Now()
		c, other := dial(t, srv, srv.URL()), dial(t, srv, srv.URL())
		c.ping(t, 1)
		synctest.Wait()
		c.ping(t, 2)
		other.ping(t, 3)
		other.wantPong(t, 3)
		require.Zero(t, time.Since(start))
		c.wantPong(t, 1)
		c.wantPong(t, 2)
		require.Equal(t, 500*time.Millisecond, time.Since(start))
	})
}

// A delayed frame that comes due during a pause waits on.
func TestDelayEndsInAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := eventstoretest.Run(t, eventstoretest.InMemory())
		once(srv, messages.Pong, eventstoretest.Delay(500*time.Millisecond))
		start := time.Now()
		c := dial(t, srv, srv.URL())
		c.ping(t, 1)
		synctest.Wait()
		srv.Pause()
		time.AfterFunc(time.Second, srv.Resume)
		c.wantPong(t, 1)
		require.Equal(t, time.Second, time.Since(start))
	})
}

func TestCutDuringADelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := inMemory(t)
		once(srv, messages.Pong, eventstoretest.Delay(time.Hour))
		time.AfterFunc(time.Second, srv.Cut)
		start := time.Now()
		require.NoError(t, c.Ping(t.Context()))
		require.Less(t, time.Since(start), 2*time.Second)
	})
}

// Heartbeats are frames like others: without the answers the client takes the server for dead and dials again.
func TestHeartbeatsCanBeIntercepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := inMemory(t)
		srv.Intercept(func(f *eventstoretest.Frame) eventstoretest.Fault {
			if f.FromServer && f.Command <= messages.HeartbeatResponse {
				return eventstoretest.Drop
			}
			return eventstoretest.Pass
		})
		again := once(srv, messages.ClientIdentified, eventstoretest.Pass)
		time.Sleep(3500*time.Millisecond - 1)
		synctest.Wait()
		require.Zero(t, again())
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		require.Equal(t, 1, again())
		require.NoError(t, c.Ping(t.Context()))
	})
}

// What is on its way when one side closes arrives, then the end.
func TestCloseDeliversWhatIsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := eventstoretest.Run(t, eventstoretest.InMemory())
		c := dial(t, srv, srv.URL())
		srv.Pause()
		body, err := (&messages.Append{Stream: "a", Expected: -1, Events: []messages.NewEvent{{ID: uuid.New(), Type: "t"}}}).AppendTo(nil)
		require.NoError(t, err)
		c.write(t, frame(t, messages.WriteEvents, id(1), string(body)))
		require.NoError(t, c.Close())
		synctest.Wait()
		srv.Resume()
		synctest.Wait()
		requireEvents(t, srv, "a", 1)
	})
}

// While nobody intercepts, bytes pass as they come: the server, which hears nothing else from this client, takes them for
// signs of life. A frame that has begun to pass is past interception; the next one is not.
func TestSlowFrameIsASignOfLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := eventstoretest.Run(t, eventstoretest.InMemory())
		c := dial(t, srv, srv.URL())
		start := time.Now()
		b := frame(t, messages.Ping, id(1), "1")
		var remove func()
		for i := range b {
			if i == len(b)/2 {
				remove = srv.Intercept(func(f *eventstoretest.Frame) eventstoretest.Fault {
					if f.Command == messages.Ping {
						return eventstoretest.Drop
					}
					return eventstoretest.Pass
				})
			}
			time.Sleep(time.Second)
			c.write(t, b[i:i+1])
		}
		c.wantPong(t, 1)
		require.Equal(t, time.Duration(len(b))*time.Second, time.Since(start))
		c.ping(t, 2) // lost
		synctest.Wait()
		remove()
		c.ping(t, 3)
		c.wantPong(t, 3)
	})
}

// The proxy's answer does not fall into the middle of a frame that is under way to the same client.
func TestAnswerWaitsForTheFrameUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := eventstoretest.Run(t, eventstoretest.InMemory())
		c := dial(t, srv, srv.URL())
		large := strings.Repeat("0123456789abcdef", 1<<16)
		b := frame(t, messages.Ping, id(1), large)
		go func() { _, _ = c.Write(b) }()
		synctest.Wait() // its answer has come as far as the buffers go
		srv.Intercept(func(f *eventstoretest.Frame) eventstoretest.Fault {
			if f.Command == messages.Ping {
				return eventstoretest.Answer(messages.Pong, []byte("from the proxy"))
			}
			return eventstoretest.Pass
		})
		c.ping(t, 2)
		synctest.Wait()
		c.want(t, messages.Pong, id(1), large)
		c.want(t, messages.Pong, id(2), "from the proxy")
	})
}

// With everything behind it blocked, a connection still ends with the test.
func TestBlockedAnswerEndsWithTheTest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := eventstoretest.Run(t, eventstoretest.InMemory())
		c := dial(t, srv, srv.URL())
		b := frame(t, messages.Ping, id(1), strings.Repeat("x", 1<<20))
		go func() { _, _ = c.Write(b) }()
		synctest.Wait()
		once(srv, messages.Ping, eventstoretest.Answer(messages.Pong, nil))
		c.ping(t, 2)
		synctest.Wait()
	})
}
