package eventstoretest_test

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/internal/memnet"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/server"
)

// echo is a server that sends each frame back as it came, so that every command comes from the server too.
func echo(t *testing.T, n eventstoretest.Network) *eventstoretest.Server {
	t.Helper()
	l, err := n.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer func() { _ = c.Close() }()
				b := make([]byte, 4096)
				for {
					n, err := c.Read(b)
					if _, writeErr := c.Write(b[:n]); err != nil || writeErr != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		require.NoError(t, l.Close())
		running.Wait()
	})
	t.Setenv(environment, "tcp://admin:changeit@"+l.Addr().String())
	return eventstoretest.Run(t, eventstoretest.OnNetwork(n))
}

// commands are all of the protocol, and one that is none.
func commands() []messages.Command {
	list := []messages.Command{0x7F}
	for c := range 256 {
		if c := messages.Command(c); c.Known() {
			list = append(list, c)
		}
	}
	return list
}

// Whatever a frame's command and whoever sends it: an interceptor sees it, and every fault works on it.
func TestEveryCommandCanBeIntercepted(t *testing.T) {
	for name, network := range map[string]func() eventstoretest.Network{
		"tcp":    func() eventstoretest.Network { return tcp{} },
		"memory": func() eventstoretest.Network { return memnet.New() },
	} {
		t.Run(name, func(t *testing.T) {
			srv := echo(t, network())
			for _, command := range commands() {
				for _, fromServer := range []bool{false, true} {
					interceptEach(t, srv, command, fromServer)
				}
			}
		})
	}
}

// interceptEach gives a frame of a command each fault on one of its ways, and looks what comes back.
func interceptEach(t *testing.T, srv *eventstoretest.Server, command messages.Command, fromServer bool) {
	t.Helper()
	const other, behind = messages.Command(0x7E), messages.Command(0x7D)
	for _, c := range []struct {
		fault eventstoretest.Fault
		want  []messages.Command // what comes back to the client, beside the frame behind
		cut   bool
	}{
		{fault: eventstoretest.Pass, want: []messages.Command{command}},
		{fault: eventstoretest.Drop},
		{fault: eventstoretest.Delay(time.Microsecond), want: []messages.Command{command}},
		{fault: eventstoretest.Duplicate, want: []messages.Command{command, command}},
		{fault: eventstoretest.Replace(other, []byte("other")), want: []messages.Command{other}},
		{fault: eventstoretest.Answer(other, []byte("other")), want: []messages.Command{other}}, // the server sends it back
		{fault: eventstoretest.Cut, cut: true},
		{fault: eventstoretest.CutAfter, want: []messages.Command{command}, cut: true},
	} {
		conn := dial(t, srv, srv.URL())
		var seen atomic.Int64
		remove := srv.Intercept(func(f *eventstoretest.Frame) eventstoretest.Fault {
			if f.Command != command || f.FromServer != fromServer || seen.Add(1) > 1 {
				return eventstoretest.Pass
			}
			return c.fault
		})
		conn.write(t, append(frame(t, command, id(1), "body"), frame(t, behind, id(2), "behind")...))
		want := append(c.want, behind)
		if c.cut {
			want = c.want
			if !fromServer {
				want = nil // the client is reset
			}
		}
		var got []messages.Command
		for range want {
			f, err := conn.r.Next()
			require.NoError(t, err, "%s, from the server: %v", command, fromServer)
			got = append(got, f.Command)
		}
		require.ElementsMatch(t, want, got, "%s, from the server: %v", command, fromServer)
		if c.cut {
			_, err := conn.r.Next()
			require.Error(t, err)
		}
		require.Positive(t, seen.Load(), "%s, from the server: %v", command, fromServer)
		remove()
		require.NoError(t, conn.Close())
	}
}

func TestNotAuthenticated(t *testing.T) {
	for name, network := range networks {
		t.Run(name, func(t *testing.T) {
			srv := eventstoretest.Run(t, network())
			c := srv.Client(t)
			once(srv, messages.WriteEvents, eventstoretest.NotAuthenticated())
			_, err := c.Append(t.Context(), "a", eventstore.Any, []eventstore.EventData{{Type: "t"}})
			require.ErrorIs(t, err, eventstore.ErrNotAuthenticated)
			appendOne(t, c, "a", eventstore.NoStream)
		})
	}
}

func TestRefuseAndAccept(t *testing.T) {
	for name, network := range networks {
		t.Run(name, func(t *testing.T) {
			srv := eventstoretest.Run(t, network())
			target, err := eventstore.ParseTarget(srv.URL())
			require.NoError(t, err)
			c := dial(t, srv, srv.URL())
			c.ping(t, 0) // it is accepted, and does not only wait for that
			c.wantPong(t, 0)
			srv.Accept() // nothing to do
			for n := range byte(3) {
				srv.Refuse()
				srv.Refuse() // as one
				_, err = srv.Dial(t.Context(), "tcp", target.Addr)
				require.ErrorIs(t, err, syscall.ECONNREFUSED)
				c.ping(t, n) // what there was stays
				c.wantPong(t, n)
				srv.Accept()
				other := dial(t, srv, srv.URL())
				other.ping(t, n)
				other.wantPong(t, n)
			}
			srv.Refuse() // to the end of the test
		})
	}
}

// A client that loses its connection tries until it is let in again.
func TestClientOutlivesARefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := inMemory(t)
		start := time.Now()
		srv.Refuse()
		srv.Cut()
		time.AfterFunc(time.Minute, srv.Accept)
		require.NoError(t, c.Ping(t.Context()))
		require.GreaterOrEqual(t, time.Since(start), time.Minute)
	})
}

func TestAcceptThatCannotFailsTheTest(t *testing.T) {
	n := memnet.New()
	fake := &tb{TB: t}
	fake.run(func() {
		srv := eventstoretest.Run(fake, eventstoretest.OnNetwork(n), eventstoretest.ForceEmbedded())
		target, err := eventstore.ParseTarget(srv.URL())
		require.NoError(t, err)
		srv.Refuse()
		l, err := n.Listen("tcp", target.Addr)
		require.NoError(t, err)
		srv.Accept()
		require.NoError(t, l.Close())
	})
	require.Contains(t, strings.Join(fake.errors, "\n"), "address already in use")
}

func TestSlowReads(t *testing.T) {
	for name, network := range networks {
		t.Run(name, func(t *testing.T) {
			srv := eventstoretest.Run(t, network())
			c := dial(t, srv, srv.URL())
			body := bytes.Repeat([]byte("0123456789abcdef"), 1<<14)
			b := frame(t, messages.Ping, id(1), string(body))
			ping := func() time.Duration {
				start := time.Now()
				c.write(t, b)
				c.want(t, messages.Pong, id(1), string(body))
				return time.Since(start)
			}
			ping()
			srv.SlowReads(2 * len(b))
			require.GreaterOrEqual(t, ping(), 500*time.Millisecond) // once each way, but for what the buffers hide
			srv.SlowReads(0)
			ping()
		})
	}
}

// The time is that of the slower line, to the byte.
func TestSlowReadsTakeTheirTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := eventstoretest.Run(t, eventstoretest.InMemory())
		c := dial(t, srv, srv.URL())
		srv.SlowReads(20) // so that all is over before the server thinks of a heartbeat
		start := time.Now()
		b := frame(t, messages.Ping, id(1), "1")
		c.ping(t, 1)
		c.wantPong(t, 1)
		require.Equal(t, time.Duration(2*len(b))*time.Second/20, time.Since(start))
	})
}

// A slow line is not a dead one: what comes late comes, on the same connection.
func TestSlowReadsKeepTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := inMemory(t)
		srv.SlowReads(10 << 10)
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		for n := range 50 {
			large := []eventstore.EventData{{Type: "t", Data: make([]byte, 5<<10)}}
			_, err := c.Append(ctx, "a", eventstore.ExpectedVersion(n-1), large)
			require.NoError(t, err)
			_, err = c.ReadEvent(ctx, "a", eventstore.End)
			require.NoError(t, err)
		}
		require.Greater(t, time.Since(start), 50*time.Second)
		srv.SlowReads(0)
		var conn atomic.Int64
		srv.Intercept(func(f *eventstoretest.Frame) eventstoretest.Fault {
			conn.Store(int64(f.Conn))
			return eventstoretest.Pass
		})
		require.NoError(t, c.Ping(ctx))
		require.EqualValues(t, 1, conn.Load())
	})
}

func TestClock(t *testing.T) {
	for name, network := range networks {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			now := time.Date(2020, 2, 2, 20, 20, 0, 0, time.UTC)
			clock := func() time.Time {
				mu.Lock()
				defer mu.Unlock()
				return now
			}
			// Whatever the order: WithServer does not take the clock back.
			srv := eventstoretest.Run(t, network(), eventstoretest.Clock(clock), eventstoretest.WithServer(server.Config{}))
			c := srv.Client(t)
			for n := range 3 {
				appendOne(t, c, "a", eventstore.ExpectedVersion(n-1))
				e, err := c.ReadEvent(t.Context(), "a", eventstore.End)
				require.NoError(t, err)
				require.Equal(t, clock(), e.Event.Created)
				mu.Lock()
				now = now.Add(time.Hour)
				mu.Unlock()
			}
		})
	}
}

func TestIDs(t *testing.T) {
	ids := func(opts ...eventstoretest.Option) (list []uuid.UUID) {
		srv := eventstoretest.Run(t, append(opts, eventstoretest.InMemory())...)
		c := srv.Client(t)
		for _, stream := range []string{"a", "b"} {
			appendOne(t, c, stream, eventstore.NoStream)
			_, err := c.Delete(t.Context(), stream, eventstore.Any)
			require.NoError(t, err)
			e, err := c.ReadEvent(t.Context(), "$$"+stream, eventstore.End)
			require.NoError(t, err)
			require.EqualValues(t, 4, e.Event.ID.Version())
			require.Equal(t, uuid.RFC4122, e.Event.ID.Variant())
			list = append(list, e.Event.ID)
		}
		require.NotEqual(t, list[0], list[1])
		return list
	}
	first := ids(eventstoretest.IDs(7))
	require.Equal(t, first, ids(eventstoretest.IDs(7)))
	require.NotEqual(t, first, ids(eventstoretest.IDs(8)))
	require.NotEqual(t, first, ids())
}

// The examples of the documentation do what they say. They are tests' parts, with the test in a variable.
func TestExamples(tt *testing.T) {
	for name, example := range map[string]func(){
		"Intercept": ExampleServer_Intercept,
		"Refuse":    ExampleServer_Refuse,
		"Pause":     ExampleServer_Pause,
		"SlowReads": ExampleServer_SlowReads,
		"Clock":     ExampleClock,
	} {
		tt.Run(name, func(tt *testing.T) {
			t = tt
			example()
		})
	}
}
