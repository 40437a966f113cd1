package conformance_test

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"net/textproto"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
	"github.com/goeventstore/eventstore/server"
)

// recordedURL is the address of the servers of the recordings of HTTP.
var recordedURL = regexp.MustCompile(`http://127\.0\.0\.1:21[23]3`)

// An httpPair is a request and its answer as they were recorded.
type httpPair struct {
	n            int // the line of the request
	method, path string
	login        []string // and the password, or nil
	header       http.Header
	body         string // of the request
	hasBody      bool
	answer       httpReply
	cut          bool // the answer's body is not all there
}

type httpReply struct {
	status int
	reason string
	header http.Header
	body   string
}

// parseHTTP reads a recording of HTTP. Blocks begin with ===, what was sent with >, the head of the answer with <, and its body
// follows behind an empty line.
func parseHTTP(text string) ([]httpPair, error) {
	var pairs []httpPair
	var p *httpPair
	inBody := false
	lines := strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
	for i, l := range lines {
		sent, isSent := strings.CutPrefix(l, "> ")
		head, isHead := strings.CutPrefix(l, "< ")
		switch {
		case strings.HasPrefix(l, "==="):
			p, inBody = nil, false
		case inBody:
			p.answer.body += l + "\n"
		case isSent && p == nil:
			pairs = append(pairs, httpPair{n: i + 1, header: http.Header{}, answer: httpReply{header: http.Header{}}})
			p = &pairs[len(pairs)-1]
			p.method, p.path, _ = strings.Cut(sent, " ")
			if path, login, ok := strings.Cut(strings.TrimSuffix(p.path, ")"), " ("); ok {
				p.path, p.login = path, strings.SplitN(login, ":", 2)
			}
		case isSent:
			name, value, _ := strings.Cut(sent, ": ")
			if name == "body" {
				p.body, p.hasBody = value, true
			} else {
				p.header.Set(name, value)
			}
		case isHead && strings.HasPrefix(head, "("): // how long it took
		case isHead && p != nil && p.answer.status == 0:
			var version, rest string
			version, rest, _ = strings.Cut(head, " ")
			code, reason, _ := strings.Cut(rest, " ")
			n, err := strconv.Atoi(code)
			if err != nil || version != "HTTP/1.1" {
				return nil, fmt.Errorf("line %d: %q is no status line", i+1, head)
			}
			p.answer.status, p.answer.reason = n, reason
		case isHead && p != nil:
			name, value, _ := strings.Cut(head, ": ")
			p.answer.header.Add(textproto.CanonicalMIMEHeaderKey(strings.TrimSuffix(name, ":")), value)
		case l == "" && p != nil && p.answer.status != 0:
			inBody = true
		case l != "":
			return nil, fmt.Errorf("line %d: %q is no line of a recording", i+1, l)
		}
	}
	for i := range pairs {
		a := &pairs[i].answer
		a.body = strings.TrimSpace(a.body)
		pairs[i].cut = strings.Contains(a.body, "\n... (cut here, ") || strings.HasPrefix(a.body, "(trimmed: ")
	}
	return pairs, nil
}

// comparedHeaders are those that mean something to a caller; the others are the library's, or let pages of other origins in.
var comparedHeaders = []string{
	"Content-Type", "Location", "Www-Authenticate", "Es-Currentversion", "Es-Position", "Cache-Control", "Vary", "Etag",
}

// replayHTTP plays a recording of HTTP to a server of its own.
func replayHTTP(t *testing.T, rec *recording) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(capturesDir, filepath.FromSlash(rec.path)))
	require.NoError(t, err)
	pairs, err := parseHTTP(string(b))
	require.NoError(t, err)
	srv := newServed(t, server.Config{Projections: true})
	admin := dialPeer(t, srv)
	problems := rec.storedBefore(admin)
	p := httpPlayer{t: t, url: srv.HTTPURL(), ids: map[string]string{}, ready: func() {
		admin.writerIsIdle()
		require.NoError(t, srv.WaitForProjections(t.Context()))
	}}
	more, found, compared := p.play(rec, pairs)
	problems = append(problems, more...)
	for _, problem := range append(problems, rec.unlisted(found)...) {
		t.Error(problem)
	}
	t.Logf("%d of %d recorded answers compared, %d ranges left out, %d differences listed", compared, len(pairs), len(rec.outs)+len(rec.words), len(rec.diffs))
}

// httpPlayer plays to one server.
type httpPlayer struct {
	t   testing.TB
	url string
	ids map[string]string // ours by the recorded ones, and positions
	// ready waits until the next request may be sent.
	ready func()
}

func (p *httpPlayer) play(rec *recording, pairs []httpPair) (problems []string, found []difference, compared int) {
	for _, o := range rec.outs {
		if !slices.ContainsFunc(pairs, func(x httpPair) bool { return o.has(x.n) }) {
			problems = append(problems, o.String()+": there is no request")
		}
	}
	outs := make(map[int]bool, len(rec.outs)) // by their index: whether all is as recorded
	owns := make(map[int]bool, len(rec.owns))
	for _, w := range rec.words {
		if !slices.ContainsFunc(pairs, func(x httpPair) bool { return w.has(x.n) }) {
			problems = append(problems, w.String()+": there is no request")
		}
	}
	for i := range pairs {
		x := &pairs[i]
		if slices.ContainsFunc(rec.words, func(w inWords) bool { return w.has(x.n) }) {
			continue
		}
		p.ready()
		differences := p.differences(x, p.send(x))
		if out := slices.IndexFunc(rec.outs, func(o leftOut) bool { return o.has(x.n) }); out >= 0 {
			same, seen := outs[out]
			outs[out] = len(differences) == 0 && (same || !seen)
			continue
		}
		compared++
		if at := slices.IndexFunc(rec.owns, func(o own) bool { return o.has(x.n) }); at >= 0 {
			head := slices.DeleteFunc(slices.Clone(differences), func(d difference) bool { return strings.HasPrefix(d.field, "body") })
			owns[at] = owns[at] || len(differences) > len(head)
			differences = head
		}
		found = append(found, differences...)
	}
	for i, same := range outs {
		if same {
			problems = append(problems, rec.outs[i].String()+": all is as recorded now, delete the entry")
		}
	}
	for i, differs := range owns {
		if !differs {
			problems = append(problems, rec.owns[i].String()+": nothing differs, delete the entry")
		}
	}
	return problems, found, compared
}

// writerIsIdle returns when what the server had to write before is written, such as a parked message: it asks for a write that is
// refused.
func (p *peer) writerIsIdle() {
	p.t.Helper()
	var m pb.WriteEventsCompleted
	refused := messages.Append{Stream: "nothing-to-see", Expected: 1, Events: []messages.NewEvent{{ID: uuid.New(), Type: "t"}}}
	p.call(&refused, p.admin()...).into(p.t, messages.WriteEventsCompleted, &m)
	require.Equal(p.t, messages.WrongExpectedVersion, m.GetResult())
}

// send sends a recorded request, with our ids in its path.
func (p *httpPlayer) send(x *httpPair) httpReply {
	p.t.Helper()
	var body io.Reader
	if x.hasBody {
		body = strings.NewReader(x.body)
	}
	path := anID.ReplaceAllStringFunc(x.path, func(id string) string { return cmp.Or(p.ids[id], id) })
	r, err := http.NewRequestWithContext(p.t.Context(), x.method, p.url+path, body)
	require.NoError(p.t, err, "line %d", x.n)
	r.Header = x.header.Clone()
	if x.hasBody && r.Header.Get("Content-Type") == "" {
		r.Header.Set("Content-Type", "application/json") // so it was, and the recording does not say it
	}
	if x.login != nil {
		r.SetBasicAuth(x.login[0], x.login[1])
	}
	transport := &http.Transport{DisableKeepAlives: true, DisableCompression: true}
	a, err := transport.RoundTrip(r)
	require.NoError(p.t, err, "line %d", x.n)
	defer a.Body.Close() //nolint:errcheck // it was read
	b, err := io.ReadAll(bufio.NewReader(a.Body))
	require.NoError(p.t, err, "line %d", x.n)
	_, reason, _ := strings.Cut(a.Status, " ")
	return httpReply{a.StatusCode, reason, a.Header, strings.TrimSpace(string(b))}
}

// differences compares an answer with the recorded one.
func (p *httpPlayer) differences(x *httpPair, ours httpReply) (found []difference) {
	differs := func(field, recorded, got string) {
		found = append(found, difference{x.n, field, recorded, got})
	}
	if x.answer.status != ours.status {
		differs("status", strconv.Itoa(x.answer.status), strconv.Itoa(ours.status))
	}
	if x.answer.reason != ours.reason {
		differs("reason", or(x.answer.reason), or(ours.reason))
	}
	for _, name := range comparedHeaders {
		recorded, got := x.answer.header.Get(name), ours.header.Get(name)
		if !p.same(recorded, got) {
			differs(strings.ToLower(name), or(recorded), or(got))
		}
	}
	if x.cut {
		return found
	}
	recorded, isJSON := jsonOf(x.answer.body)
	got, ours2JSON := jsonOf(ours.body)
	switch {
	case isJSON && ours2JSON:
		p.compare("body", recorded, got, differs)
	case x.answer.body != ours.body:
		differs("body", or(strconv.Quote(x.answer.body)), or(strconv.Quote(ours.body)))
	}
	return found
}

func or(text string) string {
	if text == "" {
		return absent
	}
	return text
}

func jsonOf(text string) (v any, ok bool) {
	return v, json.Unmarshal([]byte(text), &v) == nil
}

// compare compares two values of JSON, and names what differs by its place.
func (p *httpPlayer) compare(place string, recorded, got any, differs func(field, recorded, got string)) {
	switch r := recorded.(type) {
	case map[string]any:
		if g, ok := got.(map[string]any); ok {
			keys := maps.Clone(r)
			maps.Copy(keys, g)
			for _, key := range slices.Sorted(maps.Keys(keys)) {
				inRecorded, has := r[key]
				inGot, hasOurs := g[key]
				switch {
				case !has:
					differs(place+"."+key, absent, shown(inGot))
				case !hasOurs:
					differs(place+"."+key, shown(inRecorded), absent)
				case !ofTheRun(key, inRecorded, inGot):
					p.compare(place+"."+key, inRecorded, inGot, differs)
				}
			}
			return
		}
	case []any:
		if g, ok := got.([]any); ok && len(g) == len(r) {
			for i := range r {
				p.compare(place+"["+strconv.Itoa(i)+"]", r[i], g[i], differs)
			}
			return
		}
	case string:
		if g, ok := got.(string); ok && p.same(r, g) {
			return
		}
	}
	if a, b := shown(recorded), shown(got); a != b {
		differs(place, a, b)
	}
}

// ofTheRun reports whether both values are of a kind that is another one in each run, and may be the same by chance: how fast
// a client was, if it did anything, and the address that it came from.
func ofTheRun(key string, recorded, got any) bool {
	switch key {
	case "averageItemsPerSecond":
		return isRate(recorded) && isRate(got) && recorded != 0.0
	case "from":
		return isAddress(recorded) && isAddress(got)
	default:
		return false
	}
}

func isRate(v any) bool {
	rate, ok := v.(float64)
	return ok && rate >= 0
}

func isAddress(v any) bool {
	text, ok := v.(string)
	addr, err := netip.ParseAddrPort(text)
	return ok && err == nil && addr.Addr().IsLoopback() && addr.Port() != 0
}

func shown(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

// same reports whether two texts say the same, whatever the server's address, the time, and ids, which are learned.
func (p *httpPlayer) same(recorded, got string) bool {
	recorded = recordedURL.ReplaceAllString(recorded, p.url)
	if recorded == got || p.samePlaces(recorded, got) {
		return true
	}
	if theirs := aTime.ReplaceAllString(recorded, "$2"); theirs != recorded && theirs == aTime.ReplaceAllString(got, "$2") {
		return true
	}
	return p.sameIDs(recorded, got)
}

// aTime is a time in a text, with its zone.
var aTime = regexp.MustCompile(`[0-9]{4}(?:-[0-9]{2}){2}T[0-9]{2}(?::[0-9]{2}){2}(\.[0-9]+)?(Z|\+00:00)`)

// anID is an id in a text.
var anID = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

// sameIDs reports whether two texts have ids in the same places and differ in nothing else. Ours are learned.
func (p *httpPlayer) sameIDs(recorded, got string) bool {
	theirs, ours := anID.FindAllString(recorded, -1), anID.FindAllString(got, -1)
	if len(theirs) == 0 || len(theirs) != len(ours) || anID.ReplaceAllString(recorded, "") != anID.ReplaceAllString(got, "") {
		return false
	}
	for i, id := range theirs {
		if known, ok := p.ids[id]; ok && known != ours[i] {
			return false
		}
		p.ids[id] = ours[i]
	}
	return true
}

// aPlace is a position in the log in a text.
var aPlace = regexp.MustCompile(`(C:|P:|\$c":|\$p":)[0-9]+`)

// samePlaces reports whether two texts tell of the same places in the log and differ in nothing else. Ours are learned.
func (p *httpPlayer) samePlaces(recorded, got string) bool {
	theirs, ours := aPlace.FindAllString(recorded, -1), aPlace.FindAllString(got, -1)
	if len(theirs) == 0 || len(theirs) != len(ours) || aPlace.ReplaceAllString(recorded, "$1") != aPlace.ReplaceAllString(got, "$1") {
		return false
	}
	for i := range theirs {
		number := func(place string) string { return place[strings.LastIndexByte(place, ':')+1:] }
		if known, ok := p.ids[number(theirs[i])]; ok && known != number(ours[i]) {
			return false
		}
		p.ids[number(theirs[i])] = number(ours[i])
	}
	return true
}

// TestWhatIsOfTheRun is not compared, and no more than that.
func TestWhatIsOfTheRun(t *testing.T) {
	for _, c := range []struct {
		recorded, got string
		field         string // that differs
	}{
		{`{"averageItemsPerSecond": 5.0}`, `{"averageItemsPerSecond": 7}`, ""},
		{`{"averageItemsPerSecond": 5.0}`, `{"averageItemsPerSecond": 5}`, ""},
		{`{"averageItemsPerSecond": 5.0}`, `{"averageItemsPerSecond": -1}`, "body.averageItemsPerSecond"},
		{`{"averageItemsPerSecond": 5.0}`, `{"averageItemsPerSecond": "7"}`, "body.averageItemsPerSecond"},
		{`{"averageItemsPerSecond": 0.0}`, `{"averageItemsPerSecond": 7}`, "body.averageItemsPerSecond"},
		{`{"connections": [{"from": "127.0.0.1:35180"}]}`, `{"connections": [{"from": "127.0.0.1:35181"}]}`, ""},
		{`{"connections": [{"from": "127.0.0.1:35180"}]}`, `{"connections": [{"from": "127.0.0.1:35180"}]}`, ""},
		{`{"connections": [{"from": "127.0.0.1:35180"}]}`, `{"connections": [{"from": "127.0.0.1:0"}]}`, "body.connections[0].from"},
		{`{"connections": [{"from": "127.0.0.1:35180"}]}`, `{"connections": [{"from": ""}]}`, "body.connections[0].from"},
		{`{"connections": [{"from": "127.0.0.1:35180"}]}`, `{"connections": [{}]}`, "body.connections[0].from"},
		{`{"total": 5}`, `{"total": 7}`, "body.total"},
	} {
		p := httpPlayer{t: t, url: "http://127.0.0.1:1", ids: map[string]string{}}
		found := p.differences(&httpPair{answer: httpReply{body: c.recorded}}, httpReply{body: c.got})
		if c.field == "" {
			require.Empty(t, found, "%s, %s", c.recorded, c.got)
			continue
		}
		require.Len(t, found, 1, "%s, %s", c.recorded, c.got)
		require.Equal(t, c.field, found[0].field)
	}
}

// TestHTTPEntriesMustBeTrue: what is left out although all of it is served, and what is a server's own although nothing differs,
// fails, and so does what a recording does not say in its form.
func TestHTTPEntriesMustBeTrue(t *testing.T) {
	const text = `=== a remark

> GET /nothing (admin:changeit)
> Accept: application/json
< (after 1 ms)
< HTTP/1.1 404 Not Found
< Date: Sat, 21 Nov 2026 09:40:59 GMT



===
> POST /ping
> body: {"a": 1}
< HTTP/1.1 405 No Such Method

{"b":
 1}
`
	pairs, err := parseHTTP(text)
	require.NoError(t, err)
	require.Len(t, pairs, 2)
	require.Equal(t, []string{"admin", "changeit"}, pairs[0].login)
	require.Equal(t, 12, pairs[1].n)
	srv, err := server.Start(server.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, srv.Close()) })
	play := func(rec *recording) ([]string, []difference) {
		p := httpPlayer{t: t, url: srv.HTTPURL(), ids: map[string]string{}, ready: func() {}}
		problems, found, _ := p.play(rec, pairs)
		return problems, found
	}
	problems, found := play(&recording{})
	require.Empty(t, problems)
	require.Equal(t, []difference{
		{12, "reason", "No Such Method", "Method Not Allowed"}, {12, "body", `"{\"b\":\n 1}"`, `""`},
	}, found)
	problems, found = play(&recording{outs: []leftOut{{lineRange{3, 3}, 5, "w"}, {lineRange{12, 12}, 5, "x"}, {lineRange{1, 2}, 5, "y"}}})
	require.Empty(t, found)
	require.Equal(t, []string{
		"frames 1-2, left out until step 5 (y): there is no request",
		"frames 3-3, left out until step 5 (w): all is as recorded now, delete the entry",
	}, problems)
	problems, found = play(&recording{owns: []own{{lineRange{3, 3}, "w"}, {lineRange{12, 12}, "x"}}})
	require.Equal(t, []string{"frames 3-3, a server's own (w): nothing differs, delete the entry"}, problems)
	require.Equal(t, []difference{{12, "reason", "No Such Method", "Method Not Allowed"}}, found)

	for _, bad := range []string{"hello", "> GET /\n< HTTP/1.1 x y\n", "> GET /\n< HTTP/2 200 OK\n"} {
		_, err := parseHTTP(bad)
		require.Error(t, err)
	}
}
