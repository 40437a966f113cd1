package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/internal/memnet"
)

const anID = "11111111-1111-1111-1111-1111111111"

// post writes one event of JSON to a stream.
func (n *node) post(tb testing.TB, stream, id, body string) httpAnswer {
	tb.Helper()
	return n.asked(tb, http.MethodPost, "/streams/"+stream, body, "", "Es-Eventtype", "t", "Es-Eventid", anID+id)
}

func TestPostedBatches(t *testing.T) {
	n := run(t)
	for i, c := range []struct{ value, stored string }{
		{`{"a":1, "b":[]}`, "{\n  \"a\": 1,\n  \"b\": []\n}"},
		{`{ }`, "{}"},
		{`[1,true,null]`, "[\n  1,\n  true,\n  null\n]"},
		{`"{\"a\":1}"`, "{\n  \"a\": 1\n}"},
		{`"x"`, "x"},
		{`"{nonsense"`, "{nonsense"},
		{`5`, ""},
		{`true`, ""},
		{`null`, ""},
		{`{"a\"}":"\\"}`, "{\n  \"a\\\"}\": \"\\\\\"\n}"},
	} {
		body := fmt.Sprintf(`[{"eventId":"%s%02d","eventType":"t","data":%s}]`, anID, i, c.value)
		a := n.asked(t, http.MethodPost, "/streams/s", body, "", "Content-Type", mediaEvents)
		require.Equal(t, http.StatusCreated, a.status, c.value)
		require.Equal(t, []string{"Location", "http://127.0.0.1:2133/streams/s/" + strconv.Itoa(i)}, a.header)
		e, err := n.view().eventRecord("s", int64(i))
		require.NoError(t, err)
		require.Equal(t, c.stored, string(e.Data), c.value)
		require.Equal(t, c.stored != "" && strings.ContainsAny(c.stored[:1], "{[") && c.stored != "{nonsense", e.ContentType == 1, c.value)
	}
	a := n.asked(t, http.MethodGet, "/streams/s/5", "", "", "Accept", mediaJSON)
	require.Equal(t, `"{nonsense"`, string(a.body))
}

// TestBatchesDoNotBlowUp: laid out, some JSON is a thousand times as long.
func TestBatchesDoNotBlowUp(t *testing.T) {
	n := run(t)
	deep := strings.Repeat("[", 5000) + strings.Repeat("]", 5000)
	for _, data := range []string{deep, strings.Repeat("[", 100) + strings.Repeat("1,", 500_000) + "1" + strings.Repeat("]", 100)} {
		events := strings.TrimSuffix(strings.Repeat(`{"eventId":"`+anID+`01","eventType":"t","data":`+data+`},`, 10), ",")
		a := n.asked(t, http.MethodPost, "/streams/s", "["+events+"]", "", "Content-Type", mediaEvents)
		require.Contains(t, []int{http.StatusBadRequest, http.StatusRequestEntityTooLarge}, a.status)
	}
	require.Equal(t, http.StatusCreated, n.post(t, "s", "01", deep).status)
	a := n.asked(t, http.MethodGet, "/streams/s?embed=pretty", "", "", "Accept", mediaJSON)
	require.Equal(t, http.StatusOK, a.status)
	require.Less(t, len(a.body), 100_000)
	a = n.asked(t, http.MethodGet, "/streams/s/0", "", "", "Accept", mediaFeed)
	require.Equal(t, http.StatusOK, a.status)
	require.Less(t, len(a.body), 200_000)
}

func TestLargePosts(t *testing.T) {
	n := run(t)
	require.Equal(t, http.StatusCreated, n.post(t, "s", "01", strings.Repeat("x", maxPostEvent)).status)
	require.Equal(t, httpAnswer{status: http.StatusRequestEntityTooLarge, reason: "Too large events received. Limit is 4mb"},
		n.post(t, "s", "02", strings.Repeat("x", maxPostEvent+1)))
	require.Equal(t, http.StatusRequestEntityTooLarge, n.post(t, "s", "03", strings.Repeat("x", maxPost+1)).status)
	require.Equal(t, http.StatusRequestEntityTooLarge, n.asked(t, http.MethodPost, "/users", strings.Repeat(" ", maxSmallBody+1), "admin").status)
}

func TestPagesOfAStream(t *testing.T) {
	n := run(t)
	for i := range 5 {
		require.Equal(t, http.StatusCreated, n.post(t, "s", fmt.Sprintf("%02d", i), fmt.Sprint(i)).status)
	}
	type page struct {
		HeadOfStream bool
		Entries      []struct{ Title string }
		Links        []struct{ URI, Relation string }
	}
	read := func(path string) (p page, titles string) {
		a := n.asked(t, http.MethodGet, path, "", "admin", "Accept", mediaJSON)
		require.Equal(t, http.StatusOK, a.status, path)
		require.NoError(t, json.Unmarshal(a.body, &p))
		for _, e := range p.Entries {
			titles += e.Title + " "
		}
		return p, titles
	}
	follow := func(p page, relation string) string {
		for _, l := range p.Links {
			if l.Relation == relation {
				return strings.TrimPrefix(l.URI, "http://127.0.0.1:2133")
			}
		}
		return ""
	}
	// Back to the first page and forward again by the links alone.
	p, titles := read("/streams/s/head/backward/2")
	require.Equal(t, "4@s 3@s ", titles)
	p, titles = read(follow(p, "next"))
	require.Equal(t, "2@s 1@s ", titles)
	p, titles = read(follow(p, "next"))
	require.Equal(t, "0@s ", titles)
	require.Empty(t, follow(p, "next"))
	p, titles = read(follow(p, "previous"))
	require.Equal(t, "2@s 1@s ", titles)
	p, titles = read(follow(p, "previous"))
	require.Equal(t, "4@s 3@s ", titles)
	p, titles = read(follow(p, "previous"))
	require.Empty(t, titles)
	require.Empty(t, follow(p, "previous"))
	require.True(t, p.HeadOfStream)
	_, titles = read("/streams/s/9223372036854775807/forward/5") // the sum overflows
	require.Empty(t, titles)

	// The whole log likewise.
	p, titles = read("/streams/$all/head/backward/2")
	require.Equal(t, "4@s 3@s ", titles)
	p, titles = read(follow(p, "next"))
	require.Equal(t, "2@s 1@s ", titles)
	p, titles = read(follow(p, "previous"))
	require.Equal(t, "4@s 3@s ", titles)
	p, titles = read(follow(p, "previous"))
	require.Empty(t, titles)
	require.Empty(t, follow(p, "previous"))
	p, titles = read("/streams/%24all/00000000000000000000000000000000/forward/3")
	require.Equal(t, "0@$user-admin 0@$$$user-ops 0@$$$user-admin ", titles)
	_, titles = read(follow(p, "previous"))
	require.Equal(t, "1@$users 0@$users 0@$user-ops ", titles)
	for _, bad := range []string{"x", "0000000000000000-000000000000001", strings.Repeat("F", 32), "head"} {
		require.Equal(t, http.StatusBadRequest, n.asked(t, http.MethodGet, "/streams/$all/"+bad+"/forward/2", "", "admin", "Accept", mediaJSON).status, bad)
	}
}

func TestLinksOverHTTP(t *testing.T) {
	n := run(t)
	require.Equal(t, http.StatusCreated, n.post(t, "s", "01", `{"a":1}`).status)
	for i, target := range []string{"0@s", "7@s", "0@$users", "none"} {
		a := n.asked(t, http.MethodPost, "/streams/l"+strconv.Itoa(i), target, "", "Content-Type", mediaRaw, "Es-Eventtype", typeLink, "Es-Eventid", fmt.Sprintf("%s1%d", anID, i))
		require.Equal(t, http.StatusCreated, a.status)
	}
	event := func(stream string, header ...string) httpAnswer {
		return n.asked(t, http.MethodGet, "/streams/"+stream+"/0", "", "", append(header, "Accept", mediaJSON)...)
	}
	require.JSONEq(t, `{"a":1}`, string(event("l0").body))
	require.Equal(t, `"0@s"`, string(event("l0", headerResolveLinks, "false").body))
	require.Equal(t, http.StatusBadRequest, event("l0", headerResolveLinks, "perhaps").status)
	require.Equal(t, http.StatusNotFound, event("l1").status)
	require.Equal(t, http.StatusUnauthorized, event("l2").status)
	require.Equal(t, http.StatusNotFound, event("l3").status)
	for i, status := range []int{http.StatusOK, http.StatusOK, http.StatusUnauthorized, http.StatusOK} {
		a := n.asked(t, http.MethodGet, "/streams/l"+strconv.Itoa(i)+"?embed=tryharder", "", "", "Accept", mediaFeed)
		require.Equal(t, status, a.status)
	}
}

// TestETagsOverHTTP: what has not changed is not sent again, to those who may read it.
func TestETagsOverHTTP(t *testing.T) {
	n := run(t)
	for _, path := range []string{"/streams/$users", "/streams/$all"} {
		a := n.asked(t, http.MethodGet, path, "", "admin", "Accept", mediaJSON)
		require.Equal(t, "Etag", a.header[0])
		require.Equal(t, http.StatusNotModified, n.asked(t, http.MethodGet, path, "", "admin", "Accept", mediaJSON, "If-None-Match", a.header[1]).status)
		require.Equal(t, http.StatusOK, n.asked(t, http.MethodGet, path, "", "admin", "Accept", mediaFeed, "If-None-Match", a.header[1]).status)
		require.Equal(t, http.StatusUnauthorized, n.asked(t, http.MethodGet, path, "", "", "Accept", mediaJSON, "If-None-Match", a.header[1]).status)
	}
}

// raw sends bytes to a server's HTTP side and returns all that comes back.
func raw(t *testing.T, sent string) string {
	t.Helper()
	network := memnet.New()
	s, err := Start(Config{Listen: network.Listen, HTTP: "127.0.0.1:2113", DB: folder(t)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	c, err := network.Dial(t.Context(), "tcp", "127.0.0.1:2113")
	require.NoError(t, err)
	require.NoError(t, c.SetDeadline(time.Now().Add(10*time.Second)))
	go func() { _, _ = io.Copy(c, strings.NewReader(sent)) }() // it may be refused before all is sent
	b, _ := io.ReadAll(c)
	require.NoError(t, c.Close())
	return string(b)
}

func TestHostileHTTP(t *testing.T) {
	const host = "Host: 127.0.0.1:2113\r\nConnection: close\r\n"
	const post = "ES-EventType: t\r\nES-EventId: " + anID + "01\r\nContent-Type: application/json\r\n"
	for _, c := range []struct{ name, sent, status string }{
		{"a huge header", "GET /ping HTTP/1.1\r\n" + host + "X: " + strings.Repeat("x", 100<<10) + "\r\n\r\n", "431"},
		{"many headers", "GET /ping HTTP/1.1\r\n" + host + strings.Repeat("X: y\r\n", 50_000) + "\r\n", "431"},
		{"a huge path", "GET /" + strings.Repeat("x", 100<<10) + " HTTP/1.1\r\n" + host + "\r\n", "431"},
		{"a deep path", "GET " + strings.Repeat("/x", 10_000) + " HTTP/1.1\r\n" + host + "\r\n", "404"},
		{"dots", "GET /streams/../users HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"escaped dots", "GET /streams/%2e%2e/%2e%2e/x/y/z HTTP/1.1\r\n" + host + "\r\n", "404"},
		{"an escaped slash", "GET /users%2Fadmin HTTP/1.1\r\n" + host + "\r\n", "404"},
		{"a bad escape", "GET /users/%zz HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"a zero byte", "GET /users/%00 HTTP/1.1\r\n" + host + "\r\n", "404"},
		{"no UTF-8", "GET /users/%ff%fe HTTP/1.1\r\n" + host + "\r\n", "404"},
		{"another host", "GET /users HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", "400"},
		{"another origin", "POST /admin/shutdown HTTP/1.1\r\n" + host + "Origin: http://evil.example\r\nContent-Length: 0\r\n\r\n", "403"},
		{"no origin", "DELETE /streams/s HTTP/1.1\r\n" + host + "Origin: null\r\n\r\n", "403"},
		{"a preflight", "OPTIONS /users HTTP/1.1\r\n" + host + "Origin: http://evil.example\r\n\r\n", "403"},
		{"bad Basic", "GET /ping HTTP/1.1\r\n" + host + "Authorization: Basic !!!\r\n\r\n", "200"},
		{"Basic alone", "GET /ping HTTP/1.1\r\n" + host + "Authorization: Basic\r\n\r\n", "200"},
		{"a long password", "GET /ping HTTP/1.1\r\n" + host + "Authorization: Basic " + strings.Repeat("OjpB", 5000) + "\r\n\r\n", "401"},
		{"a length that is none", "POST /streams/s HTTP/1.1\r\n" + host + post + "Content-Length: -1\r\n\r\n", "400"},
		{"a huge length", "POST /streams/s HTTP/1.1\r\n" + host + post + "Content-Length: 99999999999\r\n\r\n", "413"},
		{"two lengths", "POST /streams/s HTTP/1.1\r\n" + host + post + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", "400"},
		{"endless chunks", "POST /streams/s HTTP/1.1\r\n" + host + post + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("100000\r\n"+strings.Repeat("x", 1<<20)+"\r\n", 18), "413"},
		{"bad chunks", "POST /streams/s HTTP/1.1\r\n" + host + post + "Transfer-Encoding: chunked\r\n\r\nzz\r\n", "400"},
		{"lines in a name", "POST /streams/a%0d%0aSet-Cookie:x HTTP/1.1\r\n" + host + post + "Content-Length: 2\r\n\r\n{}", "201"},
		{"lines in a reason", "GET /streams/s/a%0d%0aSet-Cookie:x HTTP/1.1\r\n" + host + "Accept: application/json\r\n\r\n", "400"},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "400"},
		{"another version", "GET /ping HTTP/9.9\r\n" + host + "\r\n", "505"},
		{"the first version", "GET /ping HTTP/1.0\r\nHost: localhost\r\n\r\n", "200"},
		{"a weight that is none", "GET /info HTTP/1.1\r\n" + host + "Accept: application/json;q=x,*/*;q=1e999\r\n\r\n", "200"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := raw(t, c.sent)
			require.True(t, strings.HasPrefix(got, "HTTP/1.1 "+c.status) || strings.HasPrefix(got, "HTTP/1.0 "+c.status), "%.300s", got)
			require.NotContains(t, got, "\nSet-Cookie")
			require.NotContains(t, got, "Access-Control")
		})
	}
}

// TestReasonsOnTheWire: an answer with a reason of its own is whole, and ends the connection.
func TestReasonsOnTheWire(t *testing.T) {
	got := raw(t, "GET /streams/s HTTP/1.1\r\nHost: localhost:2113\r\n\r\nGET /ping HTTP/1.1\r\nHost: localhost:2113\r\n\r\n")
	require.True(t, strings.HasPrefix(got, "HTTP/1.1 406 We are unable to represent the stream in the format requested.\r\n"), got)
	head, body, ok := strings.Cut(got, "\r\n\r\n")
	require.True(t, ok)
	require.Contains(t, head, "\r\nConnection: close\r\n")
	require.Contains(t, head, fmt.Sprintf("\r\nContent-Length: %d", len(body)))
	require.NotContains(t, body, "Ping")
}

// TestShutdownOverHTTP: the server ends, whether its answer comes through or not.
func TestShutdownOverHTTP(t *testing.T) {
	s, err := Start(Config{DB: folder(t)})
	require.NoError(t, err)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.HTTPURL()+"/admin/shutdown", nil)
	require.NoError(t, err)
	r.SetBasicAuth("ops", "changeit")
	a, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
	if err == nil { // else the server was faster than its answer
		require.NoError(t, a.Body.Close())
		require.Equal(t, http.StatusOK, a.StatusCode)
	}
	<-s.Done()
	require.NoError(t, s.Close())
	_, err = (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.URL(), "tcp://"))
	require.Error(t, err)
}

func FuzzIndented(f *testing.F) {
	for _, seed := range []string{`{"a":[1,{"b":"\"}"}],"c":{}}`, `[[],[ ]]`, `"x"`, `1.50e3`, `{`, ``, ` null `} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		const limit = 1 << 16
		out, ok := indented(text, limit)
		if !json.Valid(text) {
			require.False(t, ok)
			return
		}
		var want bytes.Buffer
		require.NoError(t, json.Indent(&want, text, "", "  "))
		require.Equal(t, want.Len() <= limit, ok)
		if ok {
			require.Equal(t, strings.TrimSpace(want.String()), string(out))
		}
	})
}
