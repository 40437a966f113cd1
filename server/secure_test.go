package server

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/internal/memnet"
	"github.com/goeventstore/eventstore/messages"
)

// certificate is one for example.com, and a configuration that trusts it.
func certificate(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	web := httptest.NewUnstartedServer(http.NotFoundHandler())
	web.StartTLS()
	defer web.Close()
	pool := x509.NewCertPool()
	pool.AddCert(web.Certificate())
	return &tls.Config{Certificates: web.TLS.Certificates}, &tls.Config{RootCAs: pool, ServerName: "example.com"}
}

// securely runs a server with both ports in a bubble of virtual time.
func securely(t *testing.T, test func(t *testing.T, n *node, dial func() net.Conn, trust *tls.Config)) {
	t.Helper()
	keys, trust := certificate(t)
	synctest.Test(t, func(t *testing.T) {
		network := memnet.New()
		s, err := Start(Config{Listen: network.Listen, Secure: "127.0.0.1:0", TLS: keys})
		require.NoError(t, err)
		test(t, &node{Server: s, network: network}, func() net.Conn {
			nc, err := network.Dial(t.Context(), "tcp", strings.TrimPrefix(s.SecureURL(), "tls://"))
			require.NoError(t, err)
			return nc
		}, trust)
		begun := time.Now()
		require.NoError(t, s.Close())
		require.Zero(t, time.Since(begun), "no peer holds up the end")
	})
}

func TestBothPortsServeTheSame(t *testing.T) {
	securely(t, func(t *testing.T, n *node, dial func() net.Conn, trust *tls.Config) {
		plain := n.peer(t)
		plain.appended("s", expectNoStream, "a")
		nc := tls.Client(dial(), trust)
		defer nc.Close() //nolint:errcheck // the server has gone first
		secure := &peer{t: t, reader: messages.NewReader(nc, 4096)}
		_, err := nc.Write(frame(t, secure.id(), &messages.EventRead{Stream: "s"}))
		require.NoError(t, err)
		a := secure.next()
		require.Equal(t, messages.ReadEventCompleted, a.command)
		require.EqualValues(t, tls.VersionTLS13, nc.ConnectionState().Version)
		_ = plain.conn.Close()
	})
}

// A peer that does not come to the end of the handshake goes like any that is silent, and holds up nobody meanwhile: neither
// one that says nothing, nor one that drips, nor one that speaks plain.
func TestAHandshakeThatDoesNotEnd(t *testing.T) {
	securely(t, func(t *testing.T, n *node, dial func() net.Conn, trust *tls.Config) {
		ended := func(nc net.Conn) {
			t.Helper()
			begun := time.Now()
			for buf := make([]byte, 1<<10); ; {
				if _, err := nc.Read(buf); err != nil {
					break
				}
			}
			require.LessOrEqual(t, time.Since(begun), firstFrameDeadline)
			_ = nc.Close()
		}
		silent, drips, plain := dial(), dial(), dial()
		var dripping sync.WaitGroup
		dripping.Go(func() {
			for {
				if _, err := drips.Write([]byte{0x16}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		})
		_, err := plain.Write(frame(t, messages.ID{1}, messages.Raw(messages.Ping, nil)))
		require.NoError(t, err)
		good := tls.Client(dial(), trust)
		require.NoError(t, good.HandshakeContext(t.Context()))
		ended(plain)
		ended(silent)
		ended(drips)
		_ = good.NetConn().Close()
		dripping.Wait()
		synctest.Wait()
		n.mu.Lock()
		defer n.mu.Unlock()
		require.Empty(t, n.sessions)
	})
}

// A peer that does not read is closed without a goodbye, for which there is no room.
func TestAPeerThatDoesNotReadDoesNotDelayClose(t *testing.T) {
	securely(t, func(t *testing.T, _ *node, dial func() net.Conn, trust *tls.Config) {
		nc := tls.Client(dial(), trust)
		for i := range 1000 {
			id := messages.ID{1, byte(i), byte(i >> 8)}
			_, err := nc.Write(frame(t, id, messages.Raw(messages.Ping, make([]byte, 4096))))
			require.NoError(t, err)
		}
		_ = nc.NetConn().Close()
	})
}

func TestSecureNeedsACertificate(t *testing.T) {
	_, err := Start(Config{Listen: memnet.New().Listen, Secure: "127.0.0.1:0"})
	require.ErrorContains(t, err, "Config.Secure needs Config.TLS")
	require.Empty(t, run(t).SecureURL())
}
