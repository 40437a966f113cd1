package server_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/internal/memnet"
	"github.com/goeventstore/eventstore/server"
)

// answer is what of an HTTP answer counts.
type answer struct {
	status      int
	contentType string
	length      int64
	body        string
}

// get sends a request to a server of its own. The edit may change the request.
func get(t *testing.T, path string, edit func(*http.Request)) answer {
	t.Helper()
	network := memnet.New()
	s, err := server.Start(server.Config{Listen: network.Listen, HTTP: "127.0.0.1:2113"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	require.Equal(t, "http://127.0.0.1:2113", s.HTTPURL())
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.HTTPURL()+path, nil)
	require.NoError(t, err)
	edit(r)
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, n, _ string) (net.Conn, error) {
			return network.Dial(ctx, n, "127.0.0.1:2113")
		},
	}
	a, err := transport.RoundTrip(r)
	require.NoError(t, err)
	defer func() { require.NoError(t, a.Body.Close()) }()
	body, err := io.ReadAll(a.Body)
	require.NoError(t, err)
	return answer{a.StatusCode, a.Header.Get("Content-Type"), a.ContentLength, string(body)}
}

func TestPingOverHTTP(t *testing.T) {
	const (
		json  = "{\n  \"msgTypeId\": 177,\n  \"text\": \"Ping request successfully handled\"\n}"
		plain = "Text: Ping request successfully handled"
		xml   = `<?xml version="1.0" encoding="utf-8"?><TextMessage xmlns:xsd="http://www.w3.org/2001/XMLSchema" ` +
			`xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><Text>Ping request successfully handled</Text></TextMessage>`
	)
	for _, c := range []struct{ accept, media, body string }{
		{"", "application/json", json},
		{"*/*", "application/json", json},
		{"application/*", "application/json", json},
		{"application/json", "application/json", json},
		{"application/json;q=0.1, text/xml", "application/json", json},
		{"text/xml", "text/xml", xml},
		{"text/*", "text/xml", xml},
		{"text/xml;q=0.1, application/json", "text/xml", xml},
		{"application/xml", "application/xml", xml},
		{"text/plain", "text/plain", plain},
		{"text/html", "", ""},
		{"text/html, */*", "", ""},
		{"/", "", ""},
	} {
		t.Run(c.accept, func(t *testing.T) {
			a := get(t, "/ping?x=1", func(r *http.Request) {
				if c.accept != "" {
					r.Header.Set("Accept", c.accept)
				}
			})
			want := answer{http.StatusOK, c.media + "; charset=utf-8", int64(len(c.body)), c.body}
			if c.media == "" {
				want = answer{status: http.StatusNotAcceptable}
			}
			require.Equal(t, want, a)
		})
	}
}

func TestWhatHTTPDoesNotServe(t *testing.T) {
	for _, c := range []struct {
		name, path string
		edit       func(*http.Request)
		status     int
		body       string
	}{
		{"another path", "/nothing", func(*http.Request) {}, http.StatusNotFound, ""},
		{"a path below", "/ping/", func(*http.Request) {}, http.StatusNotFound, ""},
		{"capitals", "/PING", func(*http.Request) {}, http.StatusNotFound, ""},
		{"another method", "/ping", func(r *http.Request) { r.Method = http.MethodPost }, http.StatusMethodNotAllowed, ""},
		{
			"a name that leads here", "/ping", func(r *http.Request) { r.Host = "evil.example:2113" },
			http.StatusBadRequest, "<h1>Bad Request (Invalid host)</h1>",
		},
		{
			"another origin asks how it is", "/health/ready", func(r *http.Request) { r.Header.Set("Origin", "http://evil.example") },
			http.StatusForbidden, "requests from other origins are refused\n",
		},
		{
			"another origin", "/ping", func(r *http.Request) { r.Header.Set("Origin", "http://evil.example") },
			http.StatusForbidden, "requests from other origins are refused\n",
		},
		{
			"an origin without a name", "/ping", func(r *http.Request) { r.Header.Set("Origin", "null") },
			http.StatusForbidden, "requests from other origins are refused\n",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := get(t, c.path, c.edit)
			require.Equal(t, c.status, a.status)
			require.Equal(t, c.body, a.body)
			require.EqualValues(t, len(c.body), a.length)
			require.Equal(t, c.body == "", a.contentType == "")
		})
	}
}

func TestHTTPHostsOfThisMachine(t *testing.T) {
	for _, host := range []string{"127.0.0.1:2113", "localhost:2113", "LOCALHOST", "[::1]:2113", "[::1]", "192.168.1.7:2113"} {
		a := get(t, "/ping", func(r *http.Request) {
			r.Host = host
			r.Header.Set("Origin", "http://"+host)
		})
		require.Equal(t, http.StatusOK, a.status, host)
	}
}

func TestHTTPAddresses(t *testing.T) {
	for addr, want := range map[string]string{"": "http://127.0.0.1:", server.Off: "", "127.0.0.1:2113": "http://127.0.0.1:2113"} {
		s, err := server.Start(server.Config{Listen: memnet.New().Listen, HTTP: addr})
		require.NoError(t, err)
		require.Equal(t, want != "", s.HTTPURL() != "", addr)
		require.True(t, strings.HasPrefix(s.HTTPURL(), want), s.HTTPURL())
		require.NoError(t, s.Close())
	}
}

// A port that is taken for the one side leaves the other free again.
func TestHTTPAddressInUse(t *testing.T) {
	network := memnet.New()
	taken, err := network.Listen("tcp", "127.0.0.1:2113")
	require.NoError(t, err)
	cfg := server.Config{Listen: network.Listen, TCP: "127.0.0.1:1113", HTTP: "127.0.0.1:2113"}
	_, err = server.Start(cfg)
	require.ErrorContains(t, err, "listen on 127.0.0.1:2113")
	require.NoError(t, taken.Close())
	s, err := server.Start(cfg)
	require.NoError(t, err)
	require.NoError(t, s.Close())
}

// A peer that says nothing, or stops in the middle of a header, does not stay; nor does it keep the server from closing.
func TestSilentHTTPPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memnet.New()
		s, err := server.Start(server.Config{Listen: network.Listen, HTTP: "127.0.0.1:2113"})
		require.NoError(t, err)
		dial := func(sent string) net.Conn {
			c, err := network.Dial(t.Context(), "tcp", "127.0.0.1:2113")
			require.NoError(t, err)
			_, err = c.Write([]byte(sent))
			require.NoError(t, err)
			return c
		}
		start := time.Now()
		_, _ = io.ReadAll(dial(""))
		require.Equal(t, 10*time.Second, time.Since(start))
		_, _ = io.ReadAll(dial("GET /ping HTTP/1.1\r\nHost: "))
		require.Equal(t, 20*time.Second, time.Since(start))
		for range 3 {
			dial("GET ")
		}
		synctest.Wait()
		require.NoError(t, s.Close())
		require.Equal(t, 20*time.Second, time.Since(start))
	})
}

// Too many connections are closed at once.
func TestHTTPConnectionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memnet.New()
		s, err := server.Start(server.Config{Listen: network.Listen, HTTP: "127.0.0.1:2113"})
		require.NoError(t, err)
		start := time.Now()
		for range 1000 {
			_, err := network.Dial(t.Context(), "tcp", "127.0.0.1:2113")
			require.NoError(t, err)
		}
		c, err := network.Dial(t.Context(), "tcp", "127.0.0.1:2113")
		require.NoError(t, err)
		_, err = io.ReadAll(c)
		require.NoError(t, err)
		require.Zero(t, time.Since(start))
		require.NoError(t, s.Close())
	})
}
