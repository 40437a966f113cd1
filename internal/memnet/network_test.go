package memnet_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/internal/memnet"
)

func listen(t *testing.T, n *memnet.Network, addr string) net.Listener {
	t.Helper()
	l, err := n.Listen("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func dial(t *testing.T, n *memnet.Network, addr string) net.Conn {
	t.Helper()
	c, err := n.Dial(t.Context(), "tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func accept(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	c, err := l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestDialMeetsAccept(t *testing.T) {
	n := memnet.New()
	l := listen(t, n, "node1:1113")
	require.Equal(t, "node1:1113", l.Addr().String())
	require.Equal(t, "tcp", l.Addr().Network())

	c := dial(t, n, "node1:1113")
	write(t, c, "before accept")
	s := accept(t, l)
	require.Equal(t, "before accept", read(t, s, 13))

	require.Equal(t, "node1:1113", c.RemoteAddr().String())
	require.Equal(t, c.RemoteAddr(), s.LocalAddr())
	require.Equal(t, c.LocalAddr(), s.RemoteAddr())
	require.NotEqual(t, c.LocalAddr(), dial(t, n, "node1:1113").LocalAddr())
	for _, a := range []net.Addr{l.Addr(), c.LocalAddr(), c.RemoteAddr()} {
		_, _, err := net.SplitHostPort(a.String())
		require.NoError(t, err)
	}
}

func TestAddresses(t *testing.T) {
	for _, tc := range []struct{ listen, addr, dial string }{
		{"127.0.0.1:1113", "127.0.0.1:1113", "localhost:1113"},
		{"localhost:1113", "127.0.0.1:1113", "[::1]:1113"},
		{"[::1]:1113", "127.0.0.1:1113", "127.0.0.1:1113"},
		{":1113", "[::]:1113", "node1:1113"},
		{"0.0.0.0:1113", "[::]:1113", "127.0.0.1:1113"},
		{"[::]:1113", "[::]:1113", "[::]:1113"},
		{"", "[::]:20000", "[::]:20000"},
		{"node1:", "node1:20000", "node1:20000"},
		{"node1:0", "node1:20000", "node1:20000"},
	} {
		n := memnet.New()
		require.Equal(t, tc.addr, listen(t, n, tc.listen).Addr().String(), tc.listen)
		dial(t, n, tc.dial)
	}
}

func TestFreePortsDiffer(t *testing.T) {
	n := memnet.New()
	seen := map[string]bool{}
	for i := range 50 {
		l := listen(t, n, []string{"127.0.0.1:0", ":0", ""}[i%3])
		_, port, err := net.SplitHostPort(l.Addr().String())
		require.NoError(t, err)
		require.False(t, seen[port])
		seen[port] = true
	}
}

func TestAddressInUse(t *testing.T) {
	for _, tc := range [][2]string{
		{"127.0.0.1:1113", "localhost:1113"},
		{"node1:1113", "node1:1113"},
		{"node1:1113", ":1113"},
		{":1113", "node1:1113"},
	} {
		n := memnet.New()
		l := listen(t, n, tc[0])
		_, err := n.Listen("tcp", tc[1])
		requireOpError(t, err, syscall.EADDRINUSE, "listen")
		listen(t, n, "node2:1114")
		require.NoError(t, l.Close())
		listen(t, n, tc[1])
	}
}

func TestBadAddresses(t *testing.T) {
	n := memnet.New()
	for _, tc := range [][2]string{
		{"udp", "a:1"}, {"unix", "/tmp/a"}, {"tcp", "a"}, {"tcp", "a:http"}, {"tcp", "a:-1"}, {"tcp", "a:65536"}, {"tcp", "a:b:1"},
	} {
		var oe *net.OpError
		_, err := n.Listen(tc[0], tc[1])
		require.ErrorAs(t, err, &oe, tc)
		_, err = n.Dial(t.Context(), tc[0], tc[1])
		require.ErrorAs(t, err, &oe, tc)
	}
}

func TestDialIsRefused(t *testing.T) {
	n := memnet.New()
	c, err := n.Dial(t.Context(), "tcp", "127.0.0.1:1113")
	require.Nil(t, c)
	requireOpError(t, err, syscall.ECONNREFUSED, "dial")
	require.EqualError(t, err, "dial tcp 127.0.0.1:1113: connect: connection refused")

	l := listen(t, n, "127.0.0.1:1113")
	dial(t, n, "127.0.0.1:1113")
	_, err = n.Dial(t.Context(), "tcp", "node1:1113")
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	require.NoError(t, l.Close())
	_, err = n.Dial(t.Context(), "tcp", "127.0.0.1:1113")
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
}

func TestDialWaitsForRoomInTheBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(memnet.WithBacklog(2))
		l := listen(t, n, "node1:1113")
		dial(t, n, "node1:1113")
		dial(t, n, "node1:1113")

		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, err := n.Dial(ctx, "tcp", "node1:1113")
		requireOpError(t, err, context.DeadlineExceeded, "dial")
		require.Equal(t, 3*time.Second, time.Since(began))

		_, err = n.Dial(ctx, "tcp", "node1:1113")
		require.ErrorIs(t, err, context.DeadlineExceeded, "a context that has ended dials nothing")

		third := start(func() (int, error) {
			c, err := n.Dial(t.Context(), "tcp", "node1:1113")
			if err == nil {
				err = c.Close()
			}
			return 0, err
		})
		time.Sleep(time.Hour)
		require.Empty(t, third)
		accept(t, l)
		require.NoError(t, (<-third).err)
		accept(t, l)
		_, err = accept(t, l).Read(make([]byte, 1))
		require.Same(t, io.EOF, err)
	})
}

func TestListenerClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(memnet.WithBacklog(1))
		l := listen(t, n, "node1:1113")
		accepted := dial(t, n, "node1:1113")
		server := accept(t, l)
		waiting := dial(t, n, "node1:1113")
		write(t, waiting, "lost")
		r := startRead(waiting, 1)
		dialling := start(func() (int, error) {
			_, err := n.Dial(t.Context(), "tcp", "node1:1113")
			return 0, err
		})
		synctest.Wait()

		require.NoError(t, l.Close())
		requireOpError(t, (<-r).err, syscall.ECONNRESET, "read")
		requireOpError(t, (<-dialling).err, syscall.ECONNREFUSED, "dial")
		_, err := l.Accept()
		requireOpError(t, err, net.ErrClosed, "accept")
		requireOpError(t, l.Close(), net.ErrClosed, "close")

		write(t, accepted, "lives on")
		require.Equal(t, "lives on", read(t, server, 8))
	})
}

func TestListenerCloseInterruptsAccept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := listen(t, memnet.New(), "")
		a := start(func() (int, error) {
			_, err := l.Accept()
			return 0, err
		})
		synctest.Wait()
		require.NoError(t, l.Close())
		requireOpError(t, (<-a).err, net.ErrClosed, "accept")
	})
}

// Whatever the order, a dial that races with Close is refused, reset, or accepted; none is left waiting.
func TestDialRacesWithListenerClose(t *testing.T) {
	n := memnet.New(memnet.WithBacklog(2))
	for range 200 {
		l := listen(t, n, "node1:1113")
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				c, err := n.Dial(t.Context(), "tcp", "node1:1113")
				if err != nil {
					return
				}
				_, _ = c.Read(make([]byte, 1))
				_ = c.Close()
			})
		}
		wg.Go(func() {
			if c, err := l.Accept(); err == nil {
				_ = c.Close()
			}
			_ = l.Close()
		})
		wg.Wait()
	}
}

func TestManyConns(t *testing.T) {
	const conns, rounds = 200, 20
	n := memnet.New(memnet.WithBuffer(64), memnet.WithBacklog(8))
	l := listen(t, n, "node1:0")
	var servers, clients sync.WaitGroup
	servers.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			servers.Go(func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			})
		}
	})
	for i := range conns {
		clients.Go(func() {
			c, err := n.Dial(t.Context(), "tcp", l.Addr().String())
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = c.Close() }()
			for j := range rounds {
				want := fmt.Sprintf("%d/%d", i, j)
				got := make([]byte, len(want))
				if _, err := c.Write([]byte(want)); err != nil {
					t.Error(err)
				}
				if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
					t.Errorf("got %q, %v, want %q", got, err, want)
				}
			}
		})
	}
	clients.Wait()
	require.NoError(t, l.Close())
	servers.Wait()
}

// net/http and crypto/tls lean on every detail of a net.Conn: interrupting deadlines, half-close, EOF without a wrapper.
func TestCarriesHTTPS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New()
		srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Hour)
			_, _ = io.Copy(w, r.Body)
		}))
		_ = srv.Listener.Close()
		srv.Listener = listen(t, n, "127.0.0.1:2113")
		srv.StartTLS()
		defer srv.Close()
		srv.Client().Transport.(*http.Transport).DialContext = n.Dial

		began := time.Now()
		for range 3 {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL, http.NoBody)
			require.NoError(t, err)
			resp, err := srv.Client().Do(req)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, http.StatusOK, resp.StatusCode)
		}
		require.Equal(t, 3*time.Hour, time.Since(began))
	})
}
