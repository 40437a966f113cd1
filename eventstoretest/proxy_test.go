package eventstoretest_test

import (
	"bytes"
	"io"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/messages"
)

func TestClientHealsAfterCut(t *testing.T) {
	for name, network := range networks {
		t.Run(name, func(t *testing.T) {
			srv := eventstoretest.Run(t, network())
			c := srv.Client(t)
			for n := range 3 {
				appendOne(t, c, "a", eventstore.ExpectedVersion(n-1))
				srv.Cut()
			}
			appendOne(t, c, "a", 2)
			requireEvents(t, srv, "a", 4)
		})
	}
}

func TestCutResetsBothSides(t *testing.T) {
	for name, network := range networks {
		t.Run(name, func(t *testing.T) {
			srv := eventstoretest.Run(t, network())
			c := dial(t, srv, srv.URL())
			c.ping(t, 1)
			c.wantPong(t, 1)
			srv.Cut()
			_, err := c.next()
			require.ErrorIs(t, err, syscall.ECONNRESET)
			srv.Cut() // nobody is there
		})
	}
}

func TestCutWhileAppending(t *testing.T) {
	for name, network := range networks {
		t.Run(name, func(t *testing.T) {
			srv := eventstoretest.Run(t, network())
			const writers, each = 4, 25
			c := srv.Client(t)
			var running sync.WaitGroup
			for w := range writers {
				running.Go(func() {
					stream := string(rune('a' + w))
					for n := range each {
						_, err := c.Append(t.Context(), stream, eventstore.ExpectedVersion(n-1), []eventstore.EventData{{Type: "t"}})
						if err != nil {
							t.Errorf("append %d@%s: %v", n, stream, err)
							return
						}
						if w == 0 && n%8 == 0 {
							srv.Cut()
						}
					}
				})
			}
			running.Wait()
			for w := range writers {
				requireEvents(t, srv, string(rune('a'+w)), each)
			}
		})
	}
}

func TestHalfClose(t *testing.T) {
	for name, network := range networks {
		t.Run(name, func(t *testing.T) {
			srv := eventstoretest.Run(t, network())
			c := dial(t, srv, srv.URL())
			for n := byte(1); n <= 100; n++ {
				c.ping(t, n)
			}
			for n := byte(1); n <= 100; n++ {
				c.wantPong(t, n)
			}
			require.NoError(t, c.Conn.(interface{ CloseWrite() error }).CloseWrite())
			c.wantEnd(t)
		})
	}
}

func TestLargeFramesPassUnchanged(t *testing.T) {
	for name, network := range networks {
		t.Run(name, func(t *testing.T) {
			srv := eventstoretest.Run(t, network())
			remove := srv.Intercept(func(*eventstoretest.Frame) eventstoretest.Fault { return eventstoretest.Pass })
			for range 2 { // looked at, and not
				c := dial(t, srv, srv.URL())
				large := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
				var sent sync.WaitGroup
				sent.Go(func() {
					b, _ := messages.AppendFrame(nil, id(1), nil, messages.Raw(messages.Ping, large))
					b, _ = messages.AppendFrame(b, id(2), nil, messages.Raw(messages.Ping, []byte("2")))
					_, _ = c.Write(b)
				})
				f, err := c.next()
				require.NoError(t, err)
				require.True(t, bytes.Equal(large, f.Body))
				c.wantPong(t, 2)
				sent.Wait()
				remove()
			}
		})
	}
}

func TestManyFramesKeepTheirOrder(t *testing.T) {
	for name, network := range networks {
		t.Run(name, func(t *testing.T) {
			srv := eventstoretest.Run(t, network())
			const frames = 20_000
			c := dial(t, srv, srv.URL())
			var sent sync.WaitGroup
			sent.Go(func() {
				var b []byte
				for n := range frames {
					b, _ = messages.AppendFrame(b[:0], id(byte(n)), nil, messages.Raw(messages.Ping, bytes.Repeat([]byte{byte(n)}, n%100)))
					if n%7 == 0 { // in pieces
						_, _ = c.Write(b[:3])
						b = b[3:]
					}
					if _, err := c.Write(b); err != nil {
						t.Errorf("write %d: %v", n, err)
						return
					}
				}
			})
			for n := range frames {
				f, err := c.next()
				require.NoError(t, err)
				require.Equal(t, id(byte(n)), f.ID)
				require.Len(t, f.Body, n%100)
			}
			sent.Wait()
		})
	}
}

// Bytes that are no frame reach the server, whose refusal reaches the client.
func TestGarbagePasses(t *testing.T) {
	for name, network := range networks {
		t.Run(name, func(t *testing.T) {
			srv := eventstoretest.Run(t, network())
			for name, garbage := range map[string]string{
				"http":    "GET / HTTP/1.1\r\n\r\n",
				"zero":    "\x00\x00\x00\x00",
				"short":   "\x05\x00\x00\x00\x03\x00\x01\x02\x03",
				"endless": strings.Repeat("\xff", 100_000),
			} {
				t.Run(name, func(t *testing.T) {
					c := dial(t, srv, srv.URL())
					c.ping(t, 1)
					c.wantPong(t, 1)
					_, _ = c.Write([]byte(garbage))
					viaProxy, err := c.next()
					if err != nil { // the server went while bytes were on their way
						require.ErrorIs(t, err, syscall.ECONNRESET)
						return
					}
					require.Equal(t, messages.BadRequest, viaProxy.Command)
					_, err = c.next()
					require.Error(t, err)
				})
			}
		})
	}
}

// A part of a frame, and then the end: the server finds both.
func TestPartOfAFramePasses(t *testing.T) {
	for name, network := range networks {
		t.Run(name, func(t *testing.T) {
			srv := eventstoretest.Run(t, network())
			c := dial(t, srv, srv.URL())
			c.ping(t, 1)
			c.wantPong(t, 1)
			c.write(t, frame(t, messages.Ping, id(2), "two")[:10])
			require.NoError(t, c.Conn.(interface{ CloseWrite() error }).CloseWrite())
			c.wantEnd(t)
		})
	}
}

func TestClientGoesDuringAPause(t *testing.T) {
	for name, network := range networks {
		t.Run(name, func(t *testing.T) {
			srv := eventstoretest.Run(t, network())
			c := dial(t, srv, srv.URL())
			c.ping(t, 1)
			c.wantPong(t, 1)
			srv.Pause()
			srv.Pause() // as one
			c.ping(t, 2)
			require.NoError(t, c.Close())
			other := dial(t, srv, srv.URL())
			other.ping(t, 3)
			srv.Resume()
			other.wantPong(t, 3)
			srv.Resume() // nothing to do
		})
	}
}

func TestPausedToTheEnd(t *testing.T) {
	for name, network := range networks {
		t.Run(name, func(t *testing.T) {
			srv := eventstoretest.Run(t, network())
			c := srv.Client(t)
			r := dial(t, srv, srv.URL())
			srv.Pause()
			r.ping(t, 1)
			require.NoError(t, c.Close())
		})
	}
}

// An interceptor that pauses the proxy holds the very frame that it was shown.
func TestInterceptorPauses(t *testing.T) {
	for name, network := range networks {
		t.Run(name, func(t *testing.T) {
			srv := eventstoretest.Run(t, network())
			paused := make(chan struct{}) // closed by the interceptor
			remove := srv.Intercept(func(f *eventstoretest.Frame) eventstoretest.Fault {
				if f.Command == messages.Ping {
					srv.Pause()
					close(paused)
				}
				return eventstoretest.Pass
			})
			pongs := once(srv, messages.Pong, eventstoretest.Pass)
			c := dial(t, srv, srv.URL())
			c.ping(t, 1)
			<-paused
			remove()
			require.Zero(t, pongs())
			srv.Resume()
			c.wantPong(t, 1)
		})
	}
}

func TestInterceptorCuts(t *testing.T) {
	for name, network := range networks {
		t.Run(name, func(t *testing.T) {
			srv := eventstoretest.Run(t, network())
			pongs := once(srv, messages.Pong, eventstoretest.Pass)
			srv.Intercept(func(f *eventstoretest.Frame) eventstoretest.Fault {
				if f.Command == messages.Ping {
					srv.Cut()
				}
				return eventstoretest.Pass
			})
			c := dial(t, srv, srv.URL())
			c.ping(t, 1)
			_, err := c.next()
			require.ErrorIs(t, err, syscall.ECONNRESET)
			require.Zero(t, pongs())
		})
	}
}

func TestTraceOfAFailedTest(t *testing.T) {
	fake := &tb{TB: t}
	fake.run(func() {
		srv := eventstoretest.Run(fake, eventstoretest.ForceEmbedded())
		once(srv, messages.Ping, eventstoretest.Drop)
		c := dial(t, srv, srv.URL())
		for n := byte(1); n <= 100; n++ {
			c.ping(t, n)
		}
		for n := byte(2); n <= 100; n++ {
			c.wantPong(t, n)
		}
		second := dial(t, srv, srv.URL())
		second.ping(t, 1)
		second.wantPong(t, 1)
		srv.Cut()
		_, err := io.ReadAll(c)
		require.Error(t, err)
	})
	require.Regexp(t, `the proxy saw, the last 64 of 2\d\d:`, fake.log())
	require.Regexp(t, `(?m)^ .*s connection 1 server 99: Pong ee0+64, 3 bytes$`, fake.log())
	require.Regexp(t, `(?m)connection 2 accepted$`, fake.log())
	require.Regexp(t, `(?m)connection 1 cut$`, fake.log())
	require.LessOrEqual(t, strings.Count(fake.log(), "\n"), 65)
}
