package eventstore_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/memnet"
	"github.com/goeventstore/eventstore/internal/scripted"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
	"github.com/goeventstore/eventstore/server"
)

// witness is every hook, and keeps what it is told in words.
type witness struct {
	mu   sync.Mutex
	told []string
}

func (w *witness) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told = append(w.told, fmt.Sprintf(format, args...))
}

func (w *witness) take() []string {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	told := w.told
	w.told = nil
	return told
}

func (w *witness) OnDial(i eventstore.DialInfo)       { w.note("dial %s %v: %v", i.Addr, i.Took, i.Err) }
func (w *witness) OnConnect(i eventstore.ConnectInfo) { w.note("connect %s", i.Addr) }
func (w *witness) OnDisconnect(i eventstore.DisconnectInfo) {
	w.note("disconnect %s: %v", i.Addr, i.Err)
}
func (w *witness) OnCallStart(i eventstore.CallStartInfo) { w.note("start %s", i.Command) }
func (w *witness) OnCallEnd(i eventstore.CallEndInfo) {
	w.note("end %s at %s, attempts %d, sent %d, received %d, %v: %v", i.Command, i.Addr, i.Attempts, i.Sent, i.Received, i.Took, i.Err)
}

func (w *witness) OnHeartbeat(i eventstore.HeartbeatInfo) {
	w.note("heartbeat %s %v", i.Addr, i.RoundTrip)
}

func (w *witness) OnRetry(i eventstore.RetryInfo) {
	w.note("retry %s after %d and %v: %v", i.Command, i.Attempt, i.After, i.Err)
}

func (w *witness) OnLateFrame(i eventstore.LateFrameInfo) {
	w.note("late %s %s %d", i.Addr, i.Command, i.Bytes)
}

// What hooks are told, from dialling to the end, and in which order.
func TestHooksAreToldOfEverything(t *testing.T) {
	w := new(witness)
	serve := func(p *scripted.Peer) {
		asked := 0
		for {
			f, err := p.Reader.Next()
			switch {
			case err != nil:
				return
			case f.Command == messages.HeartbeatRequest:
				id := f.ID
				time.Sleep(30 * time.Millisecond)
				p.Send(messages.HeartbeatResponse, id, "")
			case f.Command == messages.Ping && p.Number == 1:
				if asked++; asked == 1 {
					reason := pb.NotHandled_NotReady
					p.SendRequest(f.ID, messages.Of(messages.NotHandled, &pb.NotHandled{Reason: &reason}))
					continue
				}
				p.Send(messages.Pong, f.ID, "four")
				p.Send(messages.Pong, f.ID, "late!")
			case f.Command == messages.WriteEvents && p.Number == 1:
				return // the connection goes
			case f.Command == messages.WriteEvents:
				stored(p, f.ID)
			}
		}
	}
	play(t, serve, func(t *testing.T, c *eventstore.Client) {
		const at = scripted.Addr
		require.Equal(t, []string{"dial " + at + " 0s: <nil>", "connect " + at}, w.take())
		require.NoError(t, c.Ping(t.Context()))
		require.ElementsMatch(t, []string{ // the last two come from goroutines that nothing orders
			"start Ping",
			"retry Ping after 1 and 100ms: the server is not ready",
			"end Ping at " + at + ", attempts 2, sent 0, received 4, 100ms: <nil>",
			"late " + at + " Pong 5",
		}, w.take())
		require.EqualValues(t, 1, c.Stats().LateFrames)
		time.Sleep(3 * time.Second)
		require.Equal(t, []string{"heartbeat " + at + " 30ms"}, w.take())
		require.Equal(t, 30*time.Millisecond, c.Stats().RoundTrip)

		_, err := c.AppendAsync(t.Context(), "s", eventstore.Any, numbered(1)).Wait(t.Context())
		require.NoError(t, err)
		told := w.take()
		require.Len(t, told, 6)
		require.Equal(t, "start WriteEvents", told[0])
		require.ElementsMatch(t, []string{
			"retry WriteEvents after 1 and 0s: connection lost: " + at + ": the server closed it: EOF",
			"disconnect " + at + ": connection lost: " + at + ": the server closed it: EOF",
			"dial " + at + " 0s: <nil>",
			"connect " + at,
		}, told[1:5])
		require.Contains(t, told[5], "end WriteEvents at "+at+", attempts 2, sent 9, received ")
		s := c.Stats()
		require.EqualValues(t, 1, s.Reconnects)
		require.EqualValues(t, 1, s.LateFrames, "of both connections")
		require.Greater(t, s.Sent, int64(100))
		require.Greater(t, s.Received, int64(50))

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.Error(t, c.Ping(ctx))
		require.Equal(t, []string{"start Ping", "end Ping at " + at + ", attempts 1, sent 0, received 0, 1s: context deadline exceeded"}, w.take())
	}, eventstore.WithHooks(w))
}

// A hook that never returns holds up what it may hold up, and neither the connection nor calls.
type stuck struct{ forever chan struct{} }

func (s stuck) OnHeartbeat(eventstore.HeartbeatInfo) { <-s.forever }
func (s stuck) OnRetry(eventstore.RetryInfo)         { <-s.forever }
func (s stuck) OnLateFrame(eventstore.LateFrameInfo) { <-s.forever }

func TestASlowHookHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := stuck{forever: make(chan struct{})}
		network := scripted.Listen(t, scripted.Identified(func(p *scripted.Peer) {
			alive(p, func(f messages.Frame) bool {
				p.Send(messages.Pong, f.ID, "")
				p.Send(messages.Pong, f.ID, "late")
				return true
			})
		}))
		c, err := eventstore.Connect(t.Context(), "tcp://"+scripted.Addr, eventstore.WithDialer(network.Dial), eventstore.WithHooks(s))
		require.NoError(t, err)
		for range 3000 {
			require.NoError(t, c.Ping(t.Context()))
		}
		time.Sleep(time.Minute)
		require.Equal(t, eventstore.Connected, c.State().Phase)
		close(s.forever)
		require.NoError(t, c.Close())
	})
}

func TestAHookThatIsNoneIsRefused(t *testing.T) {
	for _, h := range []eventstore.Hook{42, nil, func() {}} {
		_, err := eventstore.Connect(t.Context(), "tcp://127.0.0.1:1", eventstore.WithHooks(h))
		require.ErrorIs(t, err, eventstore.ErrArgument)
		require.ErrorContains(t, err, "implements none of the hooks")
	}
}

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &line{Network: memnet.New()}
		srv, err := server.Start(server.Config{Listen: l.Listen})
		require.NoError(t, err)
		c, err := eventstore.Connect(t.Context(), srv.URL(), eventstore.WithDialer(l.Dial))
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		phases := make(chan eventstore.Phase, 100)
		watch := func(ctx context.Context) {
			for s := range c.Watch(ctx) {
				phases <- s.Phase
			}
			close(phases)
		}
		go watch(ctx)
		synctest.Wait()
		l.mu.Lock()
		l.refuse = errors.New("nobody is there")
		l.mu.Unlock()
		l.cut()
		synctest.Wait()
		l.mu.Lock()
		l.refuse = nil
		l.mu.Unlock()
		time.Sleep(time.Minute)
		synctest.Wait()
		cancel()
		var got []eventstore.Phase
		for p := range phases {
			if len(got) == 0 || got[len(got)-1] != p { // an attempt that fails is news of the same phase
				got = append(got, p)
			}
		}
		require.Equal(t, []eventstore.Phase{eventstore.Connected, eventstore.Reconnecting, eventstore.Connected}, got)

		for range c.Watch(t.Context()) {
			break // a loop may end by itself
		}
		phases = make(chan eventstore.Phase, 100)
		go watch(t.Context())
		synctest.Wait()
		require.NoError(t, c.Close())
		require.Equal(t, eventstore.Connected, <-phases)
		require.Equal(t, eventstore.Closed, <-phases)
		_, more := <-phases
		require.False(t, more, "it ends with the client")
		require.NoError(t, srv.Close())
	})
}
