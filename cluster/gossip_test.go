package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/internal/memnet"
)

// serving answers a question for gossip with a document.
func serving(t *testing.T, file string) http.HandlerFunc {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", file))
	require.NoError(t, err)
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.String() != "/gossip?format=json" {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(b)
	}
}

func node(t *testing.T, h http.HandlerFunc) (addr string) {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}

func secureNode(t *testing.T, h http.HandlerFunc) (addr string, trust *tls.Config) {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	pool := x509.NewCertPool()
	pool.AddCert(srv.Certificate())
	return srv.Listener.Addr().String(), &tls.Config{RootCAs: pool}
}

func gossip(t *testing.T, cfg Config) *Gossip {
	t.Helper()
	if cfg.Dial == nil && cfg.Timeout == 0 { // over real sockets it is a guard, no more
		cfg.Timeout = 30 * time.Second
	}
	g, err := NewGossip(cfg)
	require.NoError(t, err)
	return g
}

func TestTheFirstGoodAnswerIsTaken(t *testing.T) {
	dead, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, dead.Close())
	g := gossip(t, Config{Seeds: []string{
		dead.Addr().String(),
		node(t, http.NotFound),
		node(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"members":[]}`) }),
		node(t, serving(t, "cluster-4.1.4/steady-n2-01.json")),
	}})
	for range 20 { // whatever the order
		g.known = nil
		addr, err := g.Resolve(t.Context())
		require.NoError(t, err)
		require.Equal(t, "127.0.0.1:41313", addr)
	}
}

func TestHTTPS(t *testing.T) {
	addr, trust := secureNode(t, serving(t, "cluster-4.1.4/secure-n1.json"))
	got, err := gossip(t, Config{Seeds: []string{addr}, TLS: trust, Secure: true}).Resolve(t.Context())
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1:41115", got)
}

// Every answer that is none, and what is said of it.
func TestWhatANodeSaysInstead(t *testing.T) {
	elsewhere := node(t, func(http.ResponseWriter, *http.Request) { t.Error("was asked by a redirection") })
	secure, trust := secureNode(t, serving(t, "cluster-4.1.4/secure-n1.json"))
	plain := node(t, serving(t, "cluster-4.1.4/steady-n2-01.json"))
	answer := func(status int, body string) string {
		return node(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		})
	}
	member := `{"state":"Master","isAlive":true,"externalTcpIp":"h","externalTcpPort":1},`
	tests := []struct {
		name    string
		seed    string
		tls     *tls.Config
		refused bool
		says    string
	}{
		{"another host", node(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://"+elsewhere+"/gossip", http.StatusFound)
		}), nil, false, "redirects to http://" + elsewhere},
		{"round in circles", node(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/gossip", http.StatusFound) }), nil, false, "not followed"},
		{"a single node", answer(408, ""), nil, false, "GossipOnSingleNode"},
		{"a node that ends", answer(500, "oh no"), nil, false, `500 Internal Server Error "oh no"`},
		{"no JSON", answer(200, "<html>"), nil, false, "is no gossip"},
		{"other JSON", answer(200, `{"members":[{"externalTcpPort":"1113"}]}`), nil, false, "is no gossip"},
		{"no members", answer(200, `{}`), nil, false, "has no members"},
		{"too many members", answer(200, `{"members":[`+strings.Repeat(member, maxMembers)+strings.TrimSuffix(member, ",")+`]}`), nil, false, "has 257 members"},
		{"too long", answer(200, strings.Repeat(" ", maxDocument+1)), nil, false, "more than 1048576 bytes"},
		{"HTTPS for HTTP", secure, nil, true, "speaks HTTPS on this port"},
		{"HTTP for HTTPS", plain, trust, true, "speaks plain HTTP on this port"},
		{"another certificate", secure, &tls.Config{ServerName: "node.other"}, true, "is for example.com, *.example.com, 127.0.0.1"},
		{"a good certificate for a bad name", secure, func() *tls.Config { c := trust.Clone(); c.ServerName = "node.other"; return c }(), true, "not node.other"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := gossip(t, Config{Seeds: []string{tt.seed}, TLS: tt.tls}).Resolve(t.Context())
			require.ErrorIs(t, err, ErrNoGossip)
			require.ErrorContains(t, err, tt.says)
			require.ErrorContains(t, err, "gossip of "+tt.seed)
			require.Equal(t, tt.refused, errors.Is(err, ErrRefused))
		})
	}
	t.Run("one refuses and one does not answer", func(t *testing.T) {
		_, err := gossip(t, Config{Seeds: []string{secure, answer(500, "")}}).Resolve(t.Context())
		require.ErrorContains(t, err, "speaks HTTPS")
		require.NotErrorIs(t, err, ErrRefused, "the other may be better next time")
	})
}

// A node that has no seed any more is asked as one of the members of the last good answer.
func TestMembersAreAskedWhenTheSeedsAreGone(t *testing.T) {
	document := func(t *testing.T, port string) http.HandlerFunc {
		t.Helper()
		return answering(t, fmt.Sprintf(`{"members":[
			{"state":"Master","isAlive":true,"externalTcpIp":"leader","externalTcpPort":1,"externalHttpIp":"127.0.0.1","externalHttpPort":%s},
			{"state":"Manager","isAlive":true,"externalTcpIp":"x","externalTcpPort":1,"externalHttpIp":"made-up","externalHttpPort":1}]}`, port))
	}
	var second *httptest.Server
	second = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, port, _ := net.SplitHostPort(second.Listener.Addr().String())
		document(t, port)(w, r)
	}))
	defer second.Close()
	_, port, err := net.SplitHostPort(second.Listener.Addr().String())
	require.NoError(t, err)
	first := httptest.NewServer(document(t, port))
	g := gossip(t, Config{Seeds: []string{first.Listener.Addr().String()}})
	_, err = g.Resolve(t.Context())
	require.NoError(t, err)
	require.Equal(t, []seed{{addr: "127.0.0.1:" + port, dial: "127.0.0.1:" + port}}, g.known)
	first.Close()
	addr, err := g.Resolve(t.Context())
	require.NoError(t, err)
	require.Equal(t, "leader:1", addr)
}

func answering(t *testing.T, body string) http.HandlerFunc {
	t.Helper()
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }
}

// The name is looked up each time, and every address it has is asked.
func TestANameIsResolvedEachTime(t *testing.T) {
	_, port, err := net.SplitHostPort(node(t, serving(t, "cluster-4.1.4/steady-n2-01.json")))
	require.NoError(t, err)
	answers := [][]string{{"127.0.0.1"}, {"127.0.0.2", "127.0.0.1"}, nil}
	var asked atomic.Int32
	g := gossip(t, Config{DNS: "cluster.example:" + port, Lookup: func(_ context.Context, host string) ([]string, error) {
		require.Equal(t, "cluster.example", host)
		if a := answers[asked.Add(1)-1]; a != nil {
			return a, nil
		}
		return nil, errors.New("no such host")
	}})
	for range 2 {
		addr, err := g.Resolve(t.Context())
		require.NoError(t, err)
		require.Equal(t, "127.0.0.1:41313", addr)
		g.known = nil
	}
	_, err = g.Resolve(t.Context())
	require.ErrorIs(t, err, ErrNoGossip)
	require.ErrorContains(t, err, "resolve cluster.example: no such host")
	require.EqualValues(t, 3, asked.Load())
}

// The name of the certificate is the one in DNS, not the address that it resolved to.
func TestTheCertificateIsForTheNameInDNS(t *testing.T) {
	addr, trust := secureNode(t, serving(t, "cluster-4.1.4/secure-n1.json"))
	_, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	lookup := func(context.Context, string) ([]string, error) { return []string{"127.0.0.1"}, nil }
	_, err = gossip(t, Config{DNS: "example.com:" + port, TLS: trust, Lookup: lookup}).Resolve(t.Context())
	require.NoError(t, err)
	_, err = gossip(t, Config{DNS: "example.org:" + port, TLS: trust, Lookup: lookup}).Resolve(t.Context())
	require.ErrorIs(t, err, ErrRefused)
	require.ErrorContains(t, err, "example.org")
}

// A node that accepts and is silent costs the time-out, no more; a context that ends, no more than that.
func TestASilentNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memnet.New()
		l, err := network.Listen("tcp", "silent:2113")
		require.NoError(t, err)
		g := gossip(t, Config{Seeds: []string{"silent:2113"}, Timeout: 3 * time.Second, Dial: network.Dial})
		begun := time.Now()
		_, err = g.Resolve(t.Context())
		require.ErrorIs(t, err, ErrNoGossip)
		require.Equal(t, 3*time.Second, time.Since(begun))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun = time.Now()
		_, err = g.Resolve(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(begun))
		require.NoError(t, l.Close())
	})
}

func TestABadConfigIsRefused(t *testing.T) {
	for says, cfg := range map[string]Config{
		"neither seeds nor a name":     {},
		"a seed: address a":            {Seeds: []string{"a"}},
		"the name in DNS: address a":   {DNS: "a"},
		"unknown Preference(7)":        {DNS: "a:1", Preference: 7},
		"the name in DNS: address a:b": {DNS: "a:b:c"},
	} {
		_, err := NewGossip(cfg)
		require.ErrorContains(t, err, says)
	}
}

func TestStatic(t *testing.T) {
	addr, err := Static("node:1113").Resolve(t.Context())
	require.NoError(t, err)
	require.Equal(t, "node:1113", addr)
}

// What single nodes were recorded to answer, as it came.
func TestARecordedSingleNode(t *testing.T) {
	for _, version := range []string{"cluster-4.1.4", "eventstore-3.9.4"} {
		b, err := os.ReadFile(filepath.Join("testdata", version, "single-gossip.txt"))
		require.NoError(t, err)
		synctest.Test(t, func(t *testing.T) {
			network := memnet.New()
			l, err := network.Listen("tcp", "single:2113")
			require.NoError(t, err)
			done := make(chan struct{})
			go func() {
				defer close(done)
				nc, err := l.Accept()
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = nc.Read(make([]byte, 4096))
				_, _ = nc.Write(b)
				_ = nc.Close()
			}()
			_, err = gossip(t, Config{Seeds: []string{"single:2113"}, Dial: network.Dial}).Resolve(t.Context())
			require.ErrorIs(t, err, ErrNoGossip)
			require.ErrorContains(t, err, "408 Server was unable to handle request in time: a single node tells nothing unless GossipOnSingleNode is set")
			require.NoError(t, l.Close())
			<-done
		})
	}
}
