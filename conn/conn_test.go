package conn_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/conn"
	"github.com/goeventstore/eventstore/internal/memnet"
	"github.com/goeventstore/eventstore/internal/scripted"
	"github.com/goeventstore/eventstore/messages"
)

// dialer returns a configuration to dial a scripted server with.
func dialer(network *memnet.Network) conn.Config {
	return conn.Config{
		Addr: scripted.Addr, Dial: network.Dial, Name: "test",
		Timeout: 7 * time.Second, HeartbeatInterval: 2 * time.Second, HeartbeatTimeout: 1500 * time.Millisecond,
	}
}

type outcome struct {
	command messages.Command
	body    string
	err     error
}

// waiter collects what a connection tells. It has room for all that a test expects.
type waiter chan outcome

func (w waiter) Reply(c messages.Command, body []byte) { w <- outcome{command: c, body: string(body)} }
func (w waiter) End(err error)                         { w <- outcome{err: err} }

func call(c *conn.Conn, body string) (waiter, conn.Ticket, error) {
	w := make(waiter, 4)
	k := c.NextTicket()
	return w, k, c.Call(k, messages.Raw(messages.Ping, []byte(body)), nil, w, false)
}

func TestCallsAreAnsweredByTheirIdsInAnyOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := dialer(scripted.Listen(t, scripted.Identified(func(p *scripted.Peer) {
			first := p.Want(messages.Ping)
			id, body := first.ID, string(first.Body) // valid until the next frame
			second := p.Want(messages.Ping)
			p.Send(messages.Pong, second.ID, string(second.Body))
			p.Send(messages.Pong, id, body)
			p.Send(messages.Pong, id, "twice: nobody waits any more")
			p.Send(messages.Pong, messages.ID{9}, "to nobody")
			scripted.Drain(p)
		})))
		c, err := conn.Dial(t.Context(), cfg)
		require.NoError(t, err)
		a, _, err := call(c, "a")
		require.NoError(t, err)
		b, _, err := call(c, "b")
		require.NoError(t, err)
		require.Equal(t, outcome{command: messages.Pong, body: "a"}, <-a)
		require.Equal(t, outcome{command: messages.Pong, body: "b"}, <-b)
		synctest.Wait()
		require.EqualValues(t, 2, c.LateFrames())
		c.Close()
		require.ErrorIs(t, c.Err(), conn.ErrClosed)
		require.Empty(t, a, "an answered waiter hears nothing of the end")
	})
}

func TestAnOlderServerIsIdentifiedByItsBadRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := dialer(scripted.Listen(t, func(p *scripted.Peer) {
			p.Send(messages.BadRequest, p.Want(messages.IdentifyClient).ID, "Could not unwrap network package for command 245.\n")
			scripted.Drain(p)
		}))
		c, err := conn.Dial(t.Context(), cfg)
		require.NoError(t, err)
		require.True(t, c.Numbers32())
		c.Close()
	})
}

// One virtual hour: the server never speaks of its own and answers each heartbeat; the connection lives.
func TestHeartbeatsForAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked []time.Duration
		start := time.Now()
		cfg := dialer(scripted.Listen(t, scripted.Identified(func(p *scripted.Peer) {
			for {
				f, err := p.Reader.Next()
				if err != nil {
					return
				}
				if f.Command == messages.HeartbeatRequest {
					asked = append(asked, time.Since(start))
					p.Send(messages.HeartbeatResponse, f.ID, "")
				}
			}
		})))
		c, err := conn.Dial(t.Context(), cfg)
		require.NoError(t, err)
		time.Sleep(time.Hour + time.Second) // virtual
		require.NoError(t, c.Err())
		c.Close()
		synctest.Wait()
		require.Len(t, asked, 1800)
		for i, at := range asked {
			require.Equal(t, time.Duration(i+1)*2*time.Second, at)
		}
	})
}

// The server goes silent for good: asked at 2 s, given up at exactly 3.5 s, and the waiting call is told the cause.
func TestSilenceEndsTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := dialer(scripted.Listen(t, scripted.Identified(scripted.Drain)))
		c, err := conn.Dial(t.Context(), cfg)
		require.NoError(t, err)
		start := time.Now()
		w, _, err := call(c, "")
		require.NoError(t, err)
		got := <-w
		require.ErrorIs(t, got.err, conn.ErrHeartbeatTimeout)
		require.ErrorIs(t, got.err, conn.ErrLost)
		require.ErrorContains(t, got.err, scripted.Addr)
		require.Equal(t, 3500*time.Millisecond, time.Since(start))
		<-c.Done()
	})
}

// slow takes its time over an answer.
type slow struct {
	waiter
	takes time.Duration
}

func (w slow) Reply(command messages.Command, body []byte) {
	time.Sleep(w.takes) // virtual
	w.waiter.Reply(command, body)
}

// However long the read loop takes over an answer, what the server sends meanwhile lies in the socket: it is not blamed. When it
// really falls silent behind that, this is noticed as soon as ever.
func TestTheServerIsNotBlamedForASlowReadLoop(t *testing.T) {
	for _, ms := range []int{1000, 1999, 2001, 3400, 3499, 3501, 4999, 5001, 6600} {
		takes := time.Duration(ms) * time.Millisecond
		synctest.Test(t, func(t *testing.T) {
			cfg := dialer(scripted.Listen(t, scripted.Identified(func(p *scripted.Peer) {
				for pings := 0; pings < 2; {
					switch f := p.Next(); f.Command {
					case messages.HeartbeatRequest:
						p.Send(messages.HeartbeatResponse, f.ID, "")
					default:
						pings++
						p.Send(messages.Pong, f.ID, "")
					}
				}
				scripted.Drain(p)
			})))
			cfg.Timeout = time.Minute
			c, err := conn.Dial(t.Context(), cfg)
			require.NoError(t, err)
			w := slow{make(waiter, 1), takes}
			require.NoError(t, c.Call(c.NextTicket(), messages.Raw(messages.Ping, nil), nil, w, false))
			require.NoError(t, (<-w.waiter).err, "%v", takes)
			require.NoError(t, c.Err())
			last, _, err := call(c, "")
			require.NoError(t, err)
			require.NoError(t, (<-last).err, "%v", takes)
			start := time.Now()
			<-c.Done()
			require.ErrorIs(t, c.Err(), conn.ErrHeartbeatTimeout)
			require.Equal(t, 3500*time.Millisecond, time.Since(start), "%v", takes)
		})
	}
}

// Any byte is a sign of life: a frame that drips in for a minute keeps the connection.
func TestDrippingBytesAreLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := dialer(scripted.Listen(t, scripted.Identified(func(p *scripted.Peer) {
			b, err := messages.AppendFrame(nil, messages.ID{1}, nil, messages.Raw(messages.Pong, make([]byte, 100)))
			require.NoError(t, err)
			for i := range b {
				time.Sleep(time.Second)
				if _, err := p.Conn.Write(b[i : i+1]); err != nil {
					return
				}
			}
			scripted.Drain(p)
		})))
		c, err := conn.Dial(t.Context(), cfg)
		require.NoError(t, err)
		time.Sleep(time.Minute)
		require.NoError(t, c.Err())
		c.Close()
	})
}

// The server asks for life while our write stands, as it does not read: the answer overtakes what is queued.
func TestHeartbeatAnswersOvertakeQueuedWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const calls = 64
		answered := -1
		cfg := dialer(scripted.Listen(t, scripted.Identified(func(p *scripted.Peer) {
			p.Send(messages.HeartbeatRequest, messages.ID{7}, "")
			time.Sleep(time.Second) // lets the client fill the network
			for i := range calls + 1 {
				if f := p.Next(); f.Command == messages.HeartbeatResponse {
					require.Equal(t, messages.ID{7}, f.ID)
					answered = i
				}
			}
		})))
		c, err := conn.Dial(t.Context(), cfg)
		require.NoError(t, err)
		synctest.Wait()
		for range calls {
			_, _, err := call(c, strings.Repeat("x", 256<<10))
			require.NoError(t, err)
		}
		<-c.Done()
		require.GreaterOrEqual(t, answered, 0)
		require.LessOrEqual(t, answered, 2, "of %d frames of 256 KiB that were queued", calls)
	})
}

func TestEveryCallTimesOutExactly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := dialer(scripted.Listen(t, scripted.Identified(func(p *scripted.Peer) {
			for { // alive, but answers nothing else
				f, err := p.Reader.Next()
				if err != nil {
					return
				}
				if f.Command == messages.HeartbeatRequest {
					p.Send(messages.HeartbeatResponse, f.ID, "")
				}
			}
		})))
		c, err := conn.Dial(t.Context(), cfg)
		require.NoError(t, err)
		var waiters []waiter
		var sent []time.Time
		for range 20 {
			w, _, err := call(c, "")
			require.NoError(t, err)
			waiters, sent = append(waiters, w), append(sent, time.Now())
			time.Sleep(333 * time.Millisecond)
		}
		for i, w := range waiters {
			got := <-w
			require.ErrorIs(t, got.err, conn.ErrTimeout)
			require.Equal(t, sent[i].Add(7*time.Second), time.Now())
		}
		untimed := make(waiter, 1)
		require.NoError(t, c.Call(c.NextTicket(), messages.Raw(messages.ScavengeDatabase, nil), nil, untimed, true))
		time.Sleep(time.Hour)
		require.Empty(t, untimed)
		c.Close()
		require.ErrorIs(t, (<-untimed).err, conn.ErrClosed)
	})
}

func TestForgottenCallsHearNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := dialer(scripted.Listen(t, scripted.Identified(func(p *scripted.Peer) {
			f := p.Want(messages.Ping)
			time.Sleep(time.Second)
			p.Send(messages.Pong, f.ID, "late")
			scripted.Drain(p)
		})))
		c, err := conn.Dial(t.Context(), cfg)
		require.NoError(t, err)
		w, k, err := call(c, "")
		require.NoError(t, err)
		require.True(t, c.Forget(k))
		require.False(t, c.Forget(k))
		time.Sleep(2 * time.Second)
		require.EqualValues(t, 1, c.LateFrames())
		c.Close()
		require.Empty(t, w)
	})
}

func TestTheFirstCauseOfTheEndIsKept(t *testing.T) {
	tests := []struct {
		name string
		play func(p *scripted.Peer)
		is   error
		says string
	}{
		{"the server closes", func(*scripted.Peer) {}, io.EOF, "the server closed it"},
		{"reset", func(p *scripted.Peer) { p.Conn.(*memnet.Conn).Reset() }, conn.ErrLost, "reset"},
		{"garbage", func(p *scripted.Peer) { _, _ = p.Conn.Write([]byte("\xff\xff\xff\xff")); scripted.Drain(p) }, messages.ErrMalformed, "announces -1 bytes"},
		{"a frame too large", func(p *scripted.Peer) { _, _ = p.Conn.Write([]byte("\x01\x00\x00\x04")); scripted.Drain(p) }, messages.ErrFrameTooLarge, "67108865"},
		{"a frame too short", func(p *scripted.Peer) { _, _ = p.Conn.Write([]byte("\x02\x00\x00\x00\x01\x02")); scripted.Drain(p) }, messages.ErrMalformed, "2 bytes"},
		{"bad request without an id", func(p *scripted.Peer) { p.Send(messages.BadRequest, messages.ID{}, "go away"); scripted.Drain(p) }, conn.ErrLost, `"go away"`},
		{"cut inside a frame", func(p *scripted.Peer) { _, _ = p.Conn.Write([]byte("\x20\x00\x00\x00\x01")) }, io.ErrUnexpectedEOF, "5 bytes into it"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := dialer(scripted.Listen(t, scripted.Identified(func(p *scripted.Peer) {
					p.Want(messages.Ping)
					p.Want(messages.Ping)
					tt.play(p)
				})))
				c, err := conn.Dial(t.Context(), cfg)
				require.NoError(t, err)
				one, _, err := call(c, "")
				require.NoError(t, err)
				two, _, err := call(c, "")
				require.NoError(t, err)
				<-c.Done()
				for _, err := range []error{(<-one).err, (<-two).err, c.Err()} {
					require.ErrorIs(t, err, conn.ErrLost)
					require.ErrorIs(t, err, tt.is)
					require.ErrorContains(t, err, tt.says)
				}
				_, _, err = call(c, "")
				require.Equal(t, c.Err(), err)
				c.Close()
				require.ErrorIs(t, c.Err(), tt.is, "Close does not change the cause")
			})
		})
	}
}

func TestExchangesHearEverythingInOrderThenTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := dialer(scripted.Listen(t, scripted.Identified(func(p *scripted.Peer) {
			id := p.Want(messages.SubscribeToStream).ID
			for _, body := range []string{"1", "2", "3"} {
				p.Send(messages.StreamEventAppeared, id, body)
			}
			require.Equal(t, id, p.Want(messages.UnsubscribeFromStream).ID)
		})))
		c, err := conn.Dial(t.Context(), cfg)
		require.NoError(t, err)
		w, k := make(waiter, 4), c.NextTicket()
		require.NoError(t, c.Open(k, messages.Raw(messages.SubscribeToStream, nil), nil, w))
		for _, body := range []string{"1", "2", "3"} {
			require.Equal(t, body, (<-w).body)
		}
		require.NoError(t, c.Send(k, messages.Raw(messages.UnsubscribeFromStream, nil), nil))
		require.ErrorIs(t, (<-w).err, io.EOF)
		<-c.Done()
	})
}

func TestARequestThatCannotBeEncodedHarmsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := dialer(scripted.Listen(t, scripted.Identified(func(p *scripted.Peer) {
			p.Send(messages.Pong, p.Want(messages.Ping).ID, "")
			scripted.Drain(p)
		})))
		c, err := conn.Dial(t.Context(), cfg)
		require.NoError(t, err)
		_, _, err = call(c, strings.Repeat("x", messages.MaxFrame))
		require.ErrorIs(t, err, messages.ErrFrameTooLarge)
		require.NoError(t, c.Err())
		w, _, err := call(c, "small")
		require.NoError(t, err)
		require.NoError(t, (<-w).err)
		c.Close()
	})
}

func TestDialEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := dialer(scripted.Listen(t, scripted.Drain))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		_, err := conn.Dial(ctx, cfg)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(start))

		_, err = conn.Dial(t.Context(), cfg)
		require.ErrorIs(t, err, conn.ErrHeartbeatTimeout, "a mute server is noticed before the time limit")
	})
}

func TestDialSaysWhatThePortSpeaksInstead(t *testing.T) {
	config := func(addr string) conn.Config {
		return conn.Config{
			Addr: strings.TrimPrefix(strings.TrimPrefix(addr, "http://"), "https://"),
			// Long enough that a test that needs it to pass is noticed.
			Timeout: 30 * time.Second, HeartbeatInterval: 30 * time.Second, HeartbeatTimeout: 30 * time.Second,
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	defer secure.Close()

	t.Run("HTTP", func(t *testing.T) {
		_, err := conn.Dial(ctx, config(web.URL))
		require.ErrorIs(t, err, conn.ErrRefused)
		require.ErrorContains(t, err, "is this the HTTP port?")
	})
	t.Run("TLS", func(t *testing.T) {
		_, err := conn.Dial(ctx, config(secure.URL))
		require.ErrorIs(t, err, conn.ErrRefused)
		require.ErrorContains(t, err, "TLS")
	})
	t.Run("HTTP where TLS is asked for", func(t *testing.T) {
		cfg := config(web.URL)
		cfg.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
		_, err := conn.Dial(ctx, cfg)
		require.ErrorIs(t, err, conn.ErrRefused)
		require.ErrorContains(t, err, "does not speak it")
	})
	t.Run("a certificate of nobody", func(t *testing.T) {
		cfg := config(secure.URL)
		cfg.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
		_, err := conn.Dial(ctx, cfg)
		require.ErrorIs(t, err, conn.ErrRefused)
		require.ErrorContains(t, err, "example.com", "the names of the certificate")
	})
	t.Run("nobody", func(t *testing.T) {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
		require.NoError(t, err)
		cfg := config(l.Addr().String())
		require.NoError(t, l.Close())
		_, err = conn.Dial(ctx, cfg)
		require.ErrorContains(t, err, "connect to "+cfg.Addr)
		require.NotErrorIs(t, err, conn.ErrRefused)
	})
}
