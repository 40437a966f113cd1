package conformance_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/admin"
	"github.com/goeventstore/eventstore/server"
)

// realHTTP names the HTTP side of the real server to test against, such as http://127.0.0.1:2113.
const realHTTP = "EVENTSTORE_TEST_HTTP"

// httpSide is the HTTP side of the server to test: the real one that the environment names, else an embedded one. In a
// dialect it is an embedded one as well, as in inDialect.
func httpSide(t *testing.T) (url string, isReal bool) {
	t.Helper()
	if url := os.Getenv(realHTTP); url != "" && dialectOf(t) == "" {
		t.Cleanup(func() { keepResult(t) })
		return strings.TrimSuffix(url, "/"), true
	}
	differs(t)
	s, err := server.Start(server.Config{Dialect: spoken(t)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s.HTTPURL(), false
}

func adminOf(t *testing.T, url, user, password string) *admin.Admin {
	t.Helper()
	a, err := admin.New(url, eventstore.WithCredentials(user, password))
	require.NoError(t, err)
	return a
}

// newUser makes a user of a test, who is gone behind it.
func newUser(t *testing.T, a *admin.Admin, u admin.NewUser) {
	t.Helper()
	require.NoError(t, a.CreateUser(within(t), u))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), hang)
		defer cancel()
		require.NoError(t, a.DeleteUser(ctx, u.Login))
	})
}

// becomes waits for what a real server may take a second for, since it remembers whom it has let in and with which password.
func becomes(t *testing.T, what string, holds func(ctx context.Context) bool) {
	t.Helper()
	require.True(t, inTime(t, hang, holds), what)
}

func inTime(t *testing.T, limit time.Duration, holds func(ctx context.Context) bool) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	for !holds(ctx) {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(50 * time.Millisecond):
		}
	}
	return true
}

// passwords tells servers that remember passwords for ever from an admin that changes none.
type passwords struct {
	admin *admin.Admin
	url   string
	real  bool
}

// become is becomes for what a real server learns from $users-password-notifications, which it reads each second. Up to 4.1.2 it stops for
// ever when one of these reads meets the moment before it leads, as it may when it starts, or waits for 10 s behind others: nobody hears
// the refusal, and whom it has let in it goes on letting in, with the old password, until it is started anew. Later ones try again after
// 20 s. A 3.9 that has stopped is not tested any further.
func (p *passwords) become(t *testing.T, what string, holds func(ctx context.Context) bool) {
	t.Helper()
	if inTime(t, hang, holds) {
		return
	}
	info, err := p.admin.Info(within(t))
	require.NoError(t, err)
	if p.real && strings.HasPrefix(info.Version, "3.9.") && p.learns(t, false) && !p.learns(t, true) {
		cannot(t, "this server has stopped to look whose password was changed, as those up to 4.1.2 do: start it anew")
	}
	t.Fatal(what)
}

// learns reports whether the server takes a new user's new password: of one whom it has let in with the old one, or has yet to see.
func (p *passwords) learns(t *testing.T, seen bool) bool {
	t.Helper()
	login := "conformance-" + uuid.NewString()
	newUser(t, p.admin, admin.NewUser{Login: login, Password: "old"})
	if seen {
		_, err := adminOf(t, p.url, login, "old").CurrentUser(within(t))
		require.NoError(t, err)
	}
	require.NoError(t, p.admin.ResetPassword(within(t), login, "new"))
	changed := adminOf(t, p.url, login, "new")
	return inTime(t, 5*time.Second, func(ctx context.Context) bool { _, err := changed.CurrentUser(ctx); return err == nil })
}

func TestAdminUsers(t *testing.T) {
	url, isReal := httpSide(t)
	ctx := within(t)
	a := adminOf(t, url, "admin", "changeit")
	known := passwords{admin: a, url: url, real: isReal}
	login := "conformance-" + uuid.NewString()
	newUser(t, a, admin.NewUser{Login: login, FullName: "A B", Groups: []string{"g", "h"}, Password: "pw"})
	require.NoError(t, a.CreateUser(ctx, admin.NewUser{Login: login, Password: "pw"}))
	require.ErrorIs(t, a.CreateUser(ctx, admin.NewUser{Login: login, Password: "other"}), admin.ErrConflict)
	u, err := a.User(ctx, login)
	require.NoError(t, err)
	require.Equal(t, admin.User{Login: login, FullName: "A B", Groups: []string{"g", "h"}}, u)
	all, err := a.Users(ctx)
	require.NoError(t, err)
	require.Contains(t, all, u)

	own := adminOf(t, url, login, "pw")
	self, err := own.CurrentUser(ctx)
	require.NoError(t, err)
	require.Equal(t, login, self.Login)
	require.NoError(t, a.UpdateUser(ctx, login, "C", nil))
	u, err = own.User(ctx, login)
	require.NoError(t, err)
	require.Equal(t, admin.User{Login: login, FullName: "C", Groups: []string{}}, u)

	require.ErrorIs(t, own.UpdateUser(ctx, login, "D", nil), eventstore.ErrAccessDenied)
	require.ErrorIs(t, own.ResetPassword(ctx, login, "x"), eventstore.ErrAccessDenied)
	require.ErrorIs(t, own.DeleteUser(ctx, login), eventstore.ErrAccessDenied)
	require.ErrorIs(t, own.ChangePassword(ctx, login, "wrong", "x"), eventstore.ErrAccessDenied)
	require.NoError(t, own.ChangePassword(ctx, login, "pw", "pw2"))
	changed := adminOf(t, url, login, "pw2")
	known.become(t, "the new password is not taken", func(ctx context.Context) bool { _, err := changed.CurrentUser(ctx); return err == nil })
	_, err = own.CurrentUser(ctx)
	require.ErrorIs(t, err, eventstore.ErrNotAuthenticated)
	require.NoError(t, a.ResetPassword(ctx, login, "pw3"))
	reset := adminOf(t, url, login, "pw3")
	known.become(t, "the reset password is not taken", func(ctx context.Context) bool { _, err := reset.CurrentUser(ctx); return err == nil })

	require.NoError(t, a.DisableUser(ctx, login))
	require.NoError(t, a.DisableUser(ctx, login))
	u, err = a.User(ctx, login)
	require.NoError(t, err)
	require.True(t, u.Disabled)
	known.become(t, "a disabled user is let in", func(ctx context.Context) bool { _, err := reset.CurrentUser(ctx); return err != nil })
	require.NoError(t, a.EnableUser(ctx, login))
	becomes(t, "an enabled user is not let in", func(ctx context.Context) bool { _, err := reset.CurrentUser(ctx); return err == nil })
}

func TestAdminUsersThatAreNone(t *testing.T) {
	url, _ := httpSide(t)
	ctx := within(t)
	a := adminOf(t, url, "admin", "changeit")
	login := "conformance-" + uuid.NewString()
	_, err := a.User(ctx, login)
	require.ErrorIs(t, err, admin.ErrNotFound)
	require.ErrorIs(t, a.UpdateUser(ctx, login, "", nil), admin.ErrNotFound)
	require.ErrorIs(t, a.EnableUser(ctx, login), admin.ErrNotFound)
	require.ErrorIs(t, a.DisableUser(ctx, login), admin.ErrNotFound)
	require.ErrorIs(t, a.ResetPassword(ctx, login, "x"), admin.ErrNotFound)
	require.ErrorIs(t, a.ChangePassword(ctx, login, "x", "y"), admin.ErrNotFound)
	require.ErrorIs(t, a.DeleteUser(ctx, login), admin.ErrNotFound)

	anonymous := adminOf(t, url, "", "")
	require.ErrorIs(t, anonymous.CreateUser(ctx, admin.NewUser{Login: login, Password: "x"}), eventstore.ErrAccessDenied)
	require.ErrorIs(t, anonymous.DeleteUser(ctx, "ops"), eventstore.ErrAccessDenied)
	_, err = anonymous.CurrentUser(ctx)
	require.ErrorIs(t, err, eventstore.ErrAccessDenied)
	stranger := adminOf(t, url, login, "x")
	_, err = stranger.CurrentUser(ctx)
	require.ErrorIs(t, err, eventstore.ErrNotAuthenticated)
	require.ErrorIs(t, stranger.Ping(ctx), eventstore.ErrNotAuthenticated) // open resources too
	ops := adminOf(t, url, "ops", "changeit")
	require.ErrorIs(t, ops.CreateUser(ctx, admin.NewUser{Login: login, Password: "x"}), eventstore.ErrAccessDenied)
}

func TestAdminNode(t *testing.T) {
	url, _ := httpSide(t)
	ctx := within(t)
	a := adminOf(t, url, "", "")
	require.NoError(t, a.Ping(ctx))
	info, err := a.Info(ctx)
	require.NoError(t, err)
	require.NotEmpty(t, info.Version)
	require.Contains(t, []string{"master", "leader"}, info.State)
	stats, err := a.Stats(ctx)
	require.NoError(t, err)
	id, ok := stats.Number("proc", "id")
	require.True(t, ok)
	require.Positive(t, id)
	require.ErrorIs(t, a.Scavenge(ctx), eventstore.ErrAccessDenied)
	require.ErrorIs(t, a.Shutdown(ctx), eventstore.ErrAccessDenied)
	require.ErrorIs(t, adminOf(t, url, "admin", "wrong").Shutdown(ctx), eventstore.ErrNotAuthenticated)
}

// TestAdminGossip: a real single node lets the caller wait, unless it is told to gossip.
func TestAdminGossip(t *testing.T) {
	url, isReal := httpSide(t)
	gossip, err := adminOf(t, url, "", "").Gossip(within(t))
	if isReal && errors.Is(err, eventstore.ErrTimeout) {
		cannot(t, "the server is a single node that was not told to gossip")
	}
	require.NoError(t, err)
	// Of a cluster any of the others may be dead.
	require.True(t, slices.ContainsFunc(gossip.Members, func(m admin.Member) bool { return m.Alive && m.ExternalTCPPort > 0 }))
}

// rawAnswer is an answer to a request of a test, as it came.
type rawAnswer struct {
	status, media, location string
}

func ask(t *testing.T, url, method, path, body string, header ...string) rawAnswer {
	t.Helper()
	r, err := http.NewRequestWithContext(within(t), method, url+path, strings.NewReader(body))
	require.NoError(t, err)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	transport := &http.Transport{DisableKeepAlives: true}
	a, err := transport.RoundTrip(r)
	require.NoError(t, err)
	require.NoError(t, a.Body.Close())
	return rawAnswer{a.Status, a.Header.Get("Content-Type"), strings.TrimPrefix(a.Header.Get("Location"), url)}
}

// TestHTTPRefusals: what a real server says to requests that are not good, in its order.
func TestHTTPRefusals(t *testing.T) {
	url, _ := httpSide(t)
	stream := "/streams/" + newStream("http")
	const (
		json, batch = "application/json", "application/vnd.eventstore.events+json"
		plain       = "text/plain; charset=utf-8"
		badType     = "415 Invalid or missing Content-Type"
		badFormat   = "406 Requested URI is not available in requested format"
	)
	id := uuid.NewString()
	users := "/users"
	if httpBefore40(t, adminOf(t, url, "", "")) {
		users = "/users/"
	}
	for _, c := range []struct {
		method, path, body string
		header             []string
		want               rawAnswer
	}{
		{"GET", "/nothing", "", nil, rawAnswer{"404 Not Found", "", ""}},
		{"OPTIONS", "/nothing", "", nil, rawAnswer{"404 Not Found", "", ""}},
		{"OPTIONS", users, "", nil, rawAnswer{"200 OK", "", ""}},
		{"PATCH", users, "", nil, rawAnswer{"405 Method Not Allowed", "", ""}},
		{"GET", "/users/a/b", "", nil, rawAnswer{"404 Not Found", "", ""}},
		{"GET", "/users/a%2Fb", "", nil, rawAnswer{"404 Not Found", "", ""}},
		{"GET", "/ping/", "", nil, rawAnswer{"404 Not Found", "", ""}},
		{"GET", users, "", []string{"Accept", "text/html"}, rawAnswer{badFormat, "", ""}},
		{"GET", "/info", "", []string{"Accept", "text/html, */*"}, rawAnswer{badFormat, "", ""}},
		{"GET", "/info", "", []string{"Accept", "text/html,application/json"}, rawAnswer{"200 OK", json + "; charset=utf-8", ""}},
		{"GET", "/info?format=json", "", []string{"Accept", "text/html"}, rawAnswer{"200 OK", json + "; charset=utf-8", ""}},
		{"GET", "/info", "", []string{"Authorization", "Bearer x"}, rawAnswer{"200 OK", json + "; charset=utf-8", ""}},
		{"POST", "/users/", "{}", []string{"Content-Type", "text/html"}, rawAnswer{badType, "", ""}},
		{"POST", "/users/", "{}", nil, rawAnswer{badType, "", ""}},
		{"POST", "/users/", "{nonsense", []string{"Content-Type", json}, rawAnswer{"500 Internal Server Error", "", ""}},
		{"GET", "/stats/proc/mem", "", nil, rawAnswer{"404 Not Found", plain, ""}},
		{"POST", stream, "[]", []string{"Content-Type", batch}, rawAnswer{"400 Write request body invalid.", "", ""}},
		{"POST", stream, "{}", []string{"Content-Type", batch}, rawAnswer{"400 Write request body invalid.", "", ""}},
		{"POST", stream, "nonsense", []string{"Content-Type", batch}, rawAnswer{"400 Write request body invalid.", "", ""}},
		{"POST", stream, `[{"eventType":"t","data":{}}]`, []string{"Content-Type", batch}, rawAnswer{"400 Empty eventId provided.", "", ""}},
		{"POST", stream, `[{"eventId":"` + id + `","data":{}}]`, []string{"Content-Type", batch}, rawAnswer{"400 Empty eventType provided.", "", ""}},
		{"POST", stream, `[{"eventId":"zz","eventType":"t","data":{}}]`, []string{"Content-Type", batch}, rawAnswer{"400 Write request body invalid.", "", ""}},
		{"POST", stream, "x", []string{"Content-Type", "text/plain", "ES-EventType", "t", "ES-EventId", id}, rawAnswer{badType, "", ""}},
		{"POST", stream, "x", []string{"Content-Type", json, "ES-EventType", "t", "ES-EventId", "zz"}, rawAnswer{"400 ES-EventId header in wrong format.", "", ""}},
		{"POST", stream, "x", []string{"Content-Type", json, "ES-EventType", "t", "ES-EventId", id, "ES-ExpectedVersion", "-5"}, rawAnswer{"400 ES-ExpectedVersion header in wrong format.", "", ""}},
		{"POST", stream, "x", []string{"Content-Type", json, "ES-EventType", "t", "ES-EventId", id, "ES-ExpectedVersion", "-3"}, rawAnswer{"500 Internal Server Error", "", ""}},
		{"POST", stream + "/incoming/zz", "{}", []string{"Content-Type", json, "ES-EventType", "t"}, rawAnswer{"400 Invalid request. Unable to parse guid", "", ""}},
		{"POST", stream + "/incoming/" + id, "{}", []string{"Content-Type", json}, rawAnswer{"400 Empty eventType provided.", "", ""}},
		{"POST", stream + "/metadata", "{}", []string{"Content-Type", json}, rawAnswer{"400 Empty eventId provided.", "", ""}},
		{"POST", stream + "/metadata", "{}", []string{"Content-Type", json, "ES-EventId", id, "ES-EventType", "x"}, rawAnswer{"400 Bad Request. You should not include an event type for metadata.", "", ""}},
		{"GET", stream + "/0/forward/5000", "", []string{"Accept", json}, rawAnswer{"500 Read size too big, should be less than 4096 items", plain, ""}},
		{"GET", stream + "/abc", "", []string{"Accept", json}, rawAnswer{"400 'abc' is not valid event number", "", ""}},
		{"GET", stream + "/head/backward/99999999999", "", []string{"Accept", json}, rawAnswer{"400 '99999999999' is not valid count. Should be positive integer", "", ""}},
		{"DELETE", stream, "", []string{"ES-HardDelete", "maybe"}, rawAnswer{"400 ES-HardDelete header in wrong format.", "", ""}},
		{"GET", "/streams/$users", "", []string{"Accept", json}, rawAnswer{"401 Unauthorized", plain, ""}},
		{"DELETE", "/streams/$users", "", nil, rawAnswer{"401 Unauthorized", plain, ""}},
		{"POST", stream + "/incoming/" + id, `{"a":1}`, []string{"Content-Type", json, "ES-EventType", "t"}, rawAnswer{"201 Created", plain, stream + "/0"}},
		{"GET", stream + "/0", "", []string{"Accept", json}, rawAnswer{"200 OK", json + "; charset=utf-8", ""}},
	} {
		require.Equal(t, c.want, ask(t, url, c.method, c.path, c.body, c.header...), "%s %s %s %v", c.method, c.path, c.body, c.header)
	}
}

// TestHTTPEvents: what becomes of the values of a batch, and in which forms an event is told.
func TestHTTPEvents(t *testing.T) {
	url, _ := httpSide(t)
	before40 := httpBefore40(t, adminOf(t, url, "", ""))
	stream := "/streams/" + newStream("http")
	get := func(number int, media string) string {
		r, err := http.NewRequestWithContext(within(t), http.MethodGet, url+stream+"/"+strconv.Itoa(number), nil)
		require.NoError(t, err)
		r.Header.Set("Accept", media)
		transport := &http.Transport{DisableKeepAlives: true}
		a, err := transport.RoundTrip(r)
		require.NoError(t, err)
		defer a.Body.Close() //nolint:errcheck // it was read
		require.Equal(t, media+"; charset=utf-8", a.Header.Get("Content-Type"))
		b, err := io.ReadAll(a.Body)
		require.NoError(t, err)
		return string(b)
	}
	for i, c := range []struct{ data, told, older string }{
		{`5`, `""`, ""},
		{`true`, `""`, ""},
		{`null`, `""`, ""},
		{`"x"`, `"x"`, ""},
		{`"{\"a\":1}"`, "{\n  \"a\": 1\n}", `"{\"a\":1}"`},
		{`[1,true,null]`, "[\n  1,\n  true,\n  null\n]", `""`},
		{`{"a":{},"b":[]}`, "{\n  \"a\": {},\n  \"b\": []\n}", ""},
	} {
		body := `[{"eventId":"` + uuid.NewString() + `","eventType":"t","data":` + c.data + `}]`
		want := rawAnswer{"201 Created", "text/plain; charset=utf-8", stream + "/" + strconv.Itoa(i)}
		require.Equal(t, want, ask(t, url, http.MethodPost, stream, body, "Content-Type", "application/vnd.eventstore.events+json"), c.data)
		if before40 && c.older != "" {
			c.told = c.older
		}
		require.Equal(t, c.told, get(i, "application/json"), c.data)
	}
	require.Contains(t, get(6, "application/vnd.eventstore.event+json"), "\"data\": {\n    \"a\": {},\n    \"b\": []\n  },\n  \"metadata\": \"\"\n}")
	require.NotContains(t, get(3, "application/vnd.eventstore.atom+json"), "content")
}
