package server

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// httpAPI is what the HTTP side answers with (6).
type httpAPI struct {
	*Server
	side    *httpSide
	routes  []route
	node    nodeIdentity
	started time.Time

	shutdown func() (rest func())
}

// route is one method of one resource. Of several that match a path the last one counts, so that what is in braces in one
// can be spelled out in another behind it.
type route struct {
	method, path string
	serve        func(*httpCall) httpAnswer
	takes        []string // the media types of its body; nil: nobody looks
	gives        []string // the media types of its answer, the default first; nil: nobody looks
	segments     []string // of the path
}

// httpCall is a request on its way to its answer.
type httpCall struct {
	*http.Request
	*httpAPI
	user  *user    // nil: anonymous
	vars  []string // what stands in the places of the braces
	media string   // of the answer
	body  string   // the media type of the body
}

// httpAnswer is an answer. A reason of its own is sent as a real server sends it, although nobody should depend on it.
type httpAnswer struct {
	status int
	reason string // "": the usual one
	media  string // "": without Content-Type
	header []string
	body   []byte
	then   func() // what is done when the answer is on its way, nil for nothing
}

// The media types of the resources that are not streams.
const (
	mediaJSON  = "application/json"
	mediaPlain = "text/plain"
)

var jsonOnly = []string{mediaJSON}

// The reasons that several resources have in common, and the challenge of 401.
const (
	reasonNoSuchFormat = "Requested URI is not available in requested format"
	reasonBadMediaType = "Invalid or missing Content-Type"
	basicChallenge     = `BasicCustom realm="ES"`
)

// The limits of a request and of an answer that is sent past the library.
const (
	maxSmallBody   = 64 << 10
	maxCredentials = 8 << 10
	maxDrained     = 256 << 10
	drainDeadline  = time.Second
	hijackDeadline = 10 * time.Second
)

func newHTTPAPI(s *Server, side *httpSide, cfg *Config) *httpAPI {
	a := &httpAPI{Server: s, side: side, started: time.Now(), shutdown: s.shutDown}
	a.node = newNodeIdentity(s, side, cfg)
	a.routes = slices.Concat(a.nodeRoutes(), a.userRoutes(), a.groupRoutes(), a.projectionRoutes(), a.streamRoutes())
	for i := range a.routes {
		a.routes[i].segments = strings.Split(a.routes[i].path, "/")
	}
	return a
}

// ServeHTTP implements http.Handler.
func (a *httpAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer := a.answer(r)
	a.send(w, r, &answer)
	if answer.then != nil {
		_ = http.NewResponseController(w).Flush() // the peer may have gone
		answer.then()
	}
}

// answer goes through what a real server looks at, in its order.
func (a *httpAPI) answer(r *http.Request) httpAnswer {
	u, refusal := a.signedIn(r)
	if refusal != nil {
		return *refusal
	}
	matches := a.match(r)
	if len(matches) == 0 {
		return httpAnswer{status: http.StatusNotFound}
	}
	if r.Method == http.MethodOptions {
		return httpAnswer{status: http.StatusOK}
	}
	var found *match
	for i := range matches {
		if matches[i].method == r.Method {
			found = &matches[i]
		}
	}
	if found == nil {
		return httpAnswer{status: http.StatusMethodNotAllowed}
	}
	c := &httpCall{Request: r, httpAPI: a, user: u, vars: found.vars}
	if found.takes != nil {
		c.body, _, _ = mime.ParseMediaType(r.Header.Get("Content-Type"))
		if !slices.Contains(found.takes, c.body) {
			return httpAnswer{status: http.StatusUnsupportedMediaType, reason: reasonBadMediaType}
		}
	}
	if found.gives != nil {
		if c.media = choose(r, found.gives); c.media == "" {
			return httpAnswer{status: http.StatusNotAcceptable, reason: reasonNoSuchFormat}
		}
	}
	return found.serve(c)
}

// match is a route with what stands in the places of its braces.
type match struct {
	*route
	vars []string
}

func (a *httpAPI) match(r *http.Request) (found []match) {
	segments := strings.Split(r.URL.EscapedPath(), "/")
	for i, s := range segments {
		plain, err := url.PathUnescape(s)
		if err != nil || strings.Contains(plain, "/") {
			return nil
		}
		segments[i] = plain
	}
	for i := range a.routes {
		if vars, ok := a.routes[i].fits(segments); ok {
			found = append(found, match{&a.routes[i], vars})
		}
	}
	return found
}

func (r *route) fits(segments []string) (vars []string, ok bool) {
	if len(segments) != len(r.segments) {
		return nil, false
	}
	for i, want := range r.segments {
		switch {
		case !strings.HasPrefix(want, "{"):
			if segments[i] != want {
				return nil, false
			}
		case segments[i] == "":
			return nil, false
		default:
			vars = append(vars, readable(segments[i]))
		}
	}
	return vars, true
}

// formats are the values of ?format=, which goes before Accept.
var formats = map[string]string{"json": mediaJSON, "xml": "text/xml", "text": mediaPlain, "atom": "application/atom+xml"}

// choose returns the media type to answer with, "" when there is none that is wanted.
func choose(r *http.Request, gives []string) string {
	if format := r.URL.Query().Get("format"); format != "" {
		if media := formats[strings.ToLower(format)]; slices.Contains(gives, media) {
			return media
		}
		return ""
	}
	accept := r.Header.Get("Accept")
	if accept == "" {
		return gives[0]
	}
	for _, wanted := range byPriority(accept) {
		for _, media := range gives {
			kind, _, _ := strings.Cut(media, "/")
			if wanted == media || wanted == "*/*" || wanted == kind+"/*" {
				return media
			}
		}
	}
	return ""
}

// byPriority returns the media types of an Accept header by their weights. As on a real server one behind a blank is none.
func byPriority(accept string) []string {
	type weighted struct {
		media  string
		weight float64
	}
	var all []weighted
	for part := range strings.SplitSeq(accept, ",") {
		if strings.HasPrefix(part, " ") {
			continue
		}
		media, parameters, _ := mime.ParseMediaType(part)
		weight := 1.0
		if q, err := strconv.ParseFloat(parameters["q"], 64); err == nil {
			weight = q
		}
		all = append(all, weighted{media, weight})
	}
	slices.SortStableFunc(all, func(a, b weighted) int { return cmp.Compare(b.weight, a.weight) })
	media := make([]string, len(all))
	for i := range all {
		media[i] = all[i].media
	}
	return media
}

// signedIn returns whom a request speaks for. What is no Basic authentication at all is anonymous; wrong credentials are refused
// on open resources too (6.4).
func (a *httpAPI) signedIn(r *http.Request) (*user, *httpAnswer) {
	login, password, ok := r.BasicAuth()
	if !ok {
		return nil, nil
	}
	if len(login)+len(password) > maxCredentials {
		return nil, &httpAnswer{status: http.StatusUnauthorized}
	}
	u, err := a.signIn(readable(login), readable(password))
	switch {
	case err == nil:
		return u, nil
	case errors.Is(err, errUnauthorized):
		return nil, &httpAnswer{status: http.StatusUnauthorized}
	case errors.Is(err, errOtherLogin):
		return nil, &httpAnswer{status: http.StatusInternalServerError}
	}
	a.log.LogAttrs(r.Context(), slog.LevelError, "a user could not be read", slog.Any("err", err))
	return nil, &httpAnswer{status: http.StatusServiceUnavailable}
}

// text reads the body, of which a resource takes so many bytes.
func (c *httpCall) text(limit int64) ([]byte, *httpAnswer) {
	tooLarge := &httpAnswer{status: http.StatusRequestEntityTooLarge}
	if c.ContentLength > limit {
		return nil, tooLarge
	}
	b, err := io.ReadAll(io.LimitReader(c.Body, limit+1))
	switch {
	case err != nil:
		return nil, &httpAnswer{status: http.StatusBadRequest}
	case int64(len(b)) > limit:
		return nil, tooLarge
	}
	return b, nil
}

// link is the address of a resource of this server, as the caller reaches it.
func (c *httpCall) link(path string) string { return c.side.scheme + c.Host + path }

// json is an answer in JSON.
func (c *httpCall) json(status int, v any, header ...string) httpAnswer {
	return httpAnswer{status: status, media: mediaJSON, header: header, body: encodeIndented(v)}
}

// send writes an answer.
func (a *httpAPI) send(w http.ResponseWriter, r *http.Request, answer *httpAnswer) {
	header := w.Header()
	for i := 0; i+1 < len(answer.header); i += 2 {
		header.Set(answer.header[i], oneLine(answer.header[i+1]))
	}
	if answer.status == http.StatusUnauthorized {
		header.Set("Www-Authenticate", basicChallenge)
	}
	header["Content-Type"] = nil // the library does not guess it
	if answer.media != "" {
		header.Set("Content-Type", answer.media+"; charset=utf-8")
	}
	if answer.reason != "" && answer.reason != http.StatusText(answer.status) {
		if hijacker, ok := w.(http.Hijacker); ok {
			// What is not read of a request resets the connection under its answer.
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(drainDeadline))
			_, _ = io.CopyN(io.Discard, r.Body, maxDrained)
			a.sendRaw(hijacker, answer, header)
			return
		}
	}
	w.WriteHeader(answer.status)
	_, _ = w.Write(answer.body)
}

// sendRaw writes an answer with a reason, which the library has no way to say, and closes the connection.
func (a *httpAPI) sendRaw(hijacker http.Hijacker, answer *httpAnswer, header http.Header) {
	a.side.running.Add(1)
	defer a.side.running.Done()
	conn, _, err := hijacker.Hijack()
	if err != nil {
		return
	}
	defer conn.Close() //nolint:errcheck // nobody is left to tell
	if conn.SetDeadline(time.Now().Add(hijackDeadline)) != nil {
		return
	}
	writeRaw(conn, answer, header)
}

func writeRaw(conn net.Conn, answer *httpAnswer, header http.Header) {
	w := bufio.NewWriter(conn)
	_, _ = fmt.Fprintf(w, "HTTP/1.1 %d %s\r\nDate: %s\r\nConnection: close\r\n", answer.status, oneLine(answer.reason),
		time.Now().UTC().Format(http.TimeFormat))
	if answer.status != http.StatusNoContent {
		_, _ = fmt.Fprintf(w, "Content-Length: %d\r\n", len(answer.body))
	}
	for name, values := range header {
		for _, value := range values {
			_, _ = fmt.Fprintf(w, "%s: %s\r\n", name, value)
		}
	}
	_, _ = w.WriteString("\r\n")
	_, _ = w.Write(answer.body)
	_ = w.Flush()
}

// oneLine keeps a text that a caller had a hand in from being more than one line of a head.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7F {
			return ' '
		}
		return r
	}, text)
}
