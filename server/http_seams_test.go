package server

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/internal/memnet"
	"github.com/goeventstore/eventstore/server/internal/store"
)

// asked is what a request to the HTTP side of a node is answered.
func (n *node) asked(tb testing.TB, method, path, body, login string, header ...string) httpAnswer {
	tb.Helper()
	r := httptest.NewRequestWithContext(tb.Context(), method, "http://127.0.0.1:2133"+path, strings.NewReader(body))
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	if body != "" && r.Header.Get("Content-Type") == "" {
		r.Header.Set("Content-Type", mediaJSON)
	}
	if login != "" {
		r.SetBasicAuth(login, "changeit")
	}
	return n.api().answer(r)
}

func (n *node) api() *httpAPI { return n.http.server.Handler.(*guard).next.(*httpAPI) }

// fakeGroups are groups that do nothing.
type fakeGroups struct {
	outcome  httpGroupOutcome
	asked    []string
	settings *httpGroupSettings
	stopAt   int64
	groups   []httpGroupStatistics
}

func (f *fakeGroups) note(what string, by *user, stream, group string) httpGroupOutcome {
	login := ""
	if by != nil {
		login = by.login
	}
	f.asked = append(f.asked, strings.Join([]string{what, login, stream, group}, " "))
	return f.outcome
}

func (f *fakeGroups) CreateGroup(by *user, stream, group string, s *httpGroupSettings) httpGroupOutcome {
	f.settings = s
	return f.note("create", by, stream, group)
}

func (f *fakeGroups) UpdateGroup(by *user, stream, group string, s *httpGroupSettings) httpGroupOutcome {
	f.settings = s
	return f.note("update", by, stream, group)
}

func (f *fakeGroups) DeleteGroup(by *user, stream, group string) httpGroupOutcome {
	return f.note("delete", by, stream, group)
}

func (f *fakeGroups) ReplayParked(by *user, stream, group string, stopAt int64) httpGroupOutcome {
	f.stopAt = stopAt
	return f.note("replay", by, stream, group)
}

func (f *fakeGroups) GroupStatistics() []httpGroupStatistics { return f.groups }

// recordedBody returns the body of the recorded answer to the n-th request that begins so.
func recordedBody(t *testing.T, file, request string, n int) string {
	t.Helper()
	b, err := os.ReadFile("../testdata/captures/eventstore-4.1.4/" + file)
	require.NoError(t, err)
	blocks := strings.Split(string(b), "> "+request)
	require.Greater(t, len(blocks), n+1)
	block, _, _ := strings.Cut(blocks[n+1], "\n=== ")
	_, body, ok := strings.Cut(block, "\n\n")
	require.True(t, ok)
	return strings.TrimSpace(body)
}

var correlation = regexp.MustCompile(`"correlationId": "[0-9a-f-]{36}"`)

func withoutCorrelation(body []byte) string {
	return correlation.ReplaceAllString(string(body), `"correlationId": "x"`)
}

func TestGroupsOverHTTP(t *testing.T) {
	n := run(t)
	const group = "/subscriptions/hs-2aa08a/g"
	f := &fakeGroups{}
	n.api().groups = f

	f.outcome = httpGroupOutcome{httpGroupAccessDenied, "You do not have permissions to create streams"}
	a := n.asked(t, http.MethodPut, group, "{}", "")
	require.Equal(t, http.StatusUnauthorized, a.status)
	require.Equal(t, []string{"Location", "http://127.0.0.1:2133" + group}, a.header)
	require.Equal(t, withoutCorrelation([]byte(recordedBody(t, "subscriptions.http.txt", "PUT "+group+"\n", 0))), withoutCorrelation(a.body))
	require.Equal(t, &httpGroupDefaults, f.settings)

	f.outcome = httpGroupOutcome{result: httpGroupSuccess}
	a = n.asked(t, http.MethodPut, group, "{}", "admin")
	require.Equal(t, http.StatusCreated, a.status)
	require.Equal(t, withoutCorrelation([]byte(recordedBody(t, "subscriptions.http.txt", "PUT "+group+" (admin", 0))), withoutCorrelation(a.body))
	f.outcome = httpGroupOutcome{httpGroupExists, "Group 'g' already exists."}
	a = n.asked(t, http.MethodPut, group, "{}", "admin")
	require.Equal(t, http.StatusConflict, a.status)
	require.Equal(t, withoutCorrelation([]byte(recordedBody(t, "subscriptions.http.txt", "PUT "+group+" (admin", 1))), withoutCorrelation(a.body))
	f.outcome = httpGroupOutcome{httpGroupDoesNotExist, "Group 'nope' does not exist."}
	require.Equal(t, http.StatusNotFound, n.asked(t, http.MethodPost, group, "{}", "admin").status)
	f.outcome = httpGroupOutcome{httpGroupFail, "Bad stream name."}
	require.Equal(t, http.StatusInternalServerError, n.asked(t, http.MethodPut, "/subscriptions/$all/g", "{}", "admin").status)

	f.outcome = httpGroupOutcome{result: httpGroupSuccess}
	f.asked = nil
	a = n.asked(t, http.MethodPost, group, `{"maxRetryCount": 2}`, "ops")
	require.Equal(t, http.StatusOK, a.status)
	require.Equal(t, withoutCorrelation([]byte(recordedBody(t, "subscriptions.http.txt", "POST "+group+" (admin", 0))), withoutCorrelation(a.body))
	a = n.asked(t, http.MethodDelete, group, "", "")
	require.Equal(t, http.StatusOK, a.status)
	require.Equal(t, withoutCorrelation([]byte(recordedBody(t, "subscriptions.http.txt", "DELETE "+group+" (admin", 0))), withoutCorrelation(a.body))
	require.Empty(t, a.header)
	a = n.asked(t, http.MethodPost, "/subscriptions/a%20b/%24g/replayParked", "", "admin")
	require.Equal(t, http.StatusOK, a.status)
	require.Equal(t, withoutCorrelation([]byte(recordedBody(t, "subscriptions.http.txt", "POST "+group+"/replayParked (admin", 0))), withoutCorrelation(a.body))
	require.EqualValues(t, -1, f.stopAt)
	require.Equal(t, http.StatusOK, n.asked(t, http.MethodPost, group+"/replayParked?stopAt=7", "", "admin").status)
	require.EqualValues(t, 7, f.stopAt)
	require.Equal(t, http.StatusBadRequest, n.asked(t, http.MethodPost, group+"/replayParked?stopAt=-7", "", "admin").status)
	require.Equal(t, []string{
		"update ops hs-2aa08a g", "delete  hs-2aa08a g", "replay admin a b $g", "replay admin hs-2aa08a g",
	}, f.asked)
}

func TestGroupSettingsOverHTTP(t *testing.T) {
	n := run(t)
	f := &fakeGroups{outcome: httpGroupOutcome{result: httpGroupSuccess}}
	n.api().groups = f
	with := func(change func(*httpGroupSettings)) *httpGroupSettings {
		s := httpGroupDefaults
		change(&s)
		return &s
	}
	for body, want := range map[string]*httpGroupSettings{
		"{nonsense":                        &httpGroupDefaults,
		"null":                             &httpGroupDefaults,
		"[]":                               &httpGroupDefaults,
		`{"bufferSize": "10"}`:             &httpGroupDefaults,
		`{"bufferSize": 0}`:                &httpGroupDefaults,
		`{"maxRetryCount": -1}`:            with(func(s *httpGroupSettings) { s.MaxRetries = -1 }),
		`{"startFrom": -5}`:                with(func(s *httpGroupSettings) { s.StartFrom = -5 }),
		`{"namedConsumerStrategy":"Nope"}`: with(func(s *httpGroupSettings) { s.Strategy = "Nope" }),
		`{"namedConsumerStrategy":""}`:     with(func(s *httpGroupSettings) { s.Strategy = "DispatchToSingle" }),
	} {
		require.Equal(t, http.StatusCreated, n.asked(t, http.MethodPut, "/subscriptions/s/g", body, "admin").status, body)
		require.Equal(t, want, f.settings, body)
	}
	for body, reason := range map[string]string{
		`{"bufferSize": -1}`:                       "Buffer Size (-1) must be positive",
		`{"liveBufferSize": -1}`:                   "Live Buffer Size (-1) must be positive",
		`{"readBatchSize": -1}`:                    "Read Batch Size (-1) must be positive",
		`{"bufferSize": 10, "readBatchSize": 20}`:  "BufferSize (10) must be larger than ReadBatchSize (20)",
		`{"bufferSize": 500, "readBatchSize":500}`: "BufferSize (500) must be larger than ReadBatchSize (500)",
	} {
		require.Equal(t, httpAnswer{status: http.StatusBadRequest, reason: reason}, n.asked(t, http.MethodPut, "/subscriptions/s/g", body, "admin"))
	}
}

func TestGroupStatisticsOverHTTP(t *testing.T) {
	n := run(t)
	pinned := httpGroupSettings{
		ResolveLinks: true, StartFrom: 1, MessageTimeout: 5000, ExtraStatistics: true, MaxRetries: 3, LiveBuffer: 50, Buffer: 60, ReadBatch: 10,
		CheckpointAfter: 900, MinCheckpoint: 2, MaxCheckpoint: 20, MaxSubscribers: 5, Strategy: "Pinned",
	}
	f := &fakeGroups{groups: []httpGroupStatistics{
		{stream: "hs-2aa08a", group: "g", settings: httpGroupDefaults, status: "Live", lastProcessed: -1, lastKnown: 3, readBuffer: 4},
		{stream: "$other", group: "h", connections: []httpGroupConnection{{From: "127.0.0.1:7", User: "admin", Slots: 9, InFlight: 1}}},
		{stream: "hs-2aa08a", group: "h", settings: pinned, status: "Live", lastProcessed: -1, lastKnown: 3, readBuffer: 3},
	}}
	n.api().groups = f
	for path, at := range map[string]int{"/subscriptions/hs-2aa08a/g/info\n": 0, "/subscriptions/hs-2aa08a/h/info\n": 0} {
		a := n.asked(t, http.MethodGet, strings.TrimSpace(path), "", "")
		require.Equal(t, http.StatusOK, a.status)
		require.JSONEq(t, recordedBody(t, "subscriptions.http.txt", "GET "+path, at), string(a.body))
	}
	first := f.groups
	f.groups = f.groups[:2]
	a := n.asked(t, http.MethodGet, "/subscriptions/hs-2aa08a", "", "")
	require.JSONEq(t, recordedBody(t, "subscriptions.http.txt", "GET /subscriptions/hs-2aa08a\n", 0), string(a.body))
	f.groups = first
	var all []struct {
		Messages    string `json:"getMessagesUri"`
		Connections int    `json:"connectionCount"`
	}
	require.NoError(t, json.Unmarshal(n.asked(t, http.MethodGet, "/subscriptions", "", "").body, &all))
	require.Len(t, all, 3)
	require.Equal(t, 1, all[1].Connections)
	require.Equal(t, "http://127.0.0.1:2133/subscriptions/%24other/h/1", all[1].Messages)
	require.Contains(t, string(n.asked(t, http.MethodGet, "/subscriptions/$other/h/info", "", "").body), `"extraStatistics": []`)
	require.Equal(t, httpAnswer{status: http.StatusNotFound, media: mediaJSON, body: []byte("[]")}, n.asked(t, http.MethodGet, "/subscriptions/nothing", "", ""))
	require.Equal(t, httpAnswer{status: http.StatusNotFound, media: mediaJSON}, n.asked(t, http.MethodGet, "/subscriptions/nothing/g/info", "", ""))
}

// fakeProjections are projections that only remember what they were told.
type fakeProjections struct {
	list    []httpProjection
	enabled map[string]bool
	err     error
}

func (f *fakeProjections) Projections() []httpProjection { return f.list }

func (f *fakeProjections) EnableProjection(name string, enabled bool) error {
	f.enabled[name] = enabled
	return f.err
}

func TestProjectionsOverHTTP(t *testing.T) {
	n := run(t)
	const one = "/projection/$by_category"
	for _, path := range []string{"/projections/any", one, one + "/state"} {
		require.Equal(t, httpAnswer{status: http.StatusNotFound}, n.asked(t, http.MethodGet, path, "", "admin"))
	}
	f := &fakeProjections{enabled: map[string]bool{}, list: []httpProjection{
		{name: "$by_category", version: 1, position: position(881926), checkpoint: store.Position{Prepare: -1}, progress: 100, events: 86},
		{name: "$stream_by_category", stopped: true, version: 1, position: position(881926), checkpoint: position(881926), progress: 100, events: 86},
	}}
	n.api().projections = f
	// How long a real server took is not told.
	same := func(request string, a httpAnswer) {
		recorded := strings.ReplaceAll(recordedBody(t, "projections.http.txt", request, 0), `"coreProcessingTime": 1,`, `"coreProcessingTime": 0,`)
		require.JSONEq(t, recorded, string(a.body), request)
		require.Equal(t, http.StatusOK, a.status)
	}
	for _, path := range []string{one, one + "/statistics", one + "/config"} {
		a := n.asked(t, http.MethodGet, path, "", "admin")
		same("GET "+path+" (admin", a)
		require.Equal(t, neverCached, a.header)
	}
	same("GET /projection/$stream_by_category/statistics\n", n.asked(t, http.MethodGet, "/projection/$stream_by_category/statistics", "", ""))
	same("GET /projections/onetime\n", n.asked(t, http.MethodGet, "/projections/onetime", "", ""))
	require.Equal(t, n.asked(t, http.MethodGet, "/projections/any", "", ""), n.asked(t, http.MethodGet, "/projections/all-non-transient", "", ""))
	a := n.asked(t, http.MethodGet, one+"/state", "", "")
	require.Equal(t, append([]string{"Es-Position", `{"$c":881926,"$p":881926}`}, neverCached...), a.header)
	require.Equal(t, http.StatusOK, a.status)
	require.Empty(t, a.body)
	for _, path := range []string{"", "/statistics", "/state", "/result", "/config"} {
		require.Equal(t, noProjection, n.asked(t, http.MethodGet, "/projection/nothing"+path, "", "admin"))
	}
	require.Equal(t, noProjection, n.asked(t, http.MethodPost, "/projection/nothing/command/enable", "", "admin"))
	for _, login := range []string{"", "ops"} {
		a = n.asked(t, http.MethodPost, one+"/command/disable", "", login)
		require.Equal(t, httpAnswer{http.StatusUnauthorized, "Not Authorized", mediaPlain, nil, []byte("Not authorized"), nil}, a)
	}
	same("POST /projection/$stream_by_category/command/disable (admin", n.asked(t, http.MethodPost, "/projection/$stream_by_category/command/disable", "", "admin"))
	require.Equal(t, http.StatusOK, n.asked(t, http.MethodPost, one+"/command/enable", "", "admin").status)
	require.Equal(t, map[string]bool{"$by_category": true, "$stream_by_category": false}, f.enabled)
	require.Equal(t, notAuthorized, n.asked(t, http.MethodDelete, one, "", "ops"))
	require.Equal(t, http.StatusInternalServerError, n.asked(t, http.MethodDelete, one, "", "admin").status)
	require.Equal(t, noProjection, n.asked(t, http.MethodDelete, "/projection/nothing", "", "admin"))
	f.err = errors.New("no")
	require.Equal(t, http.StatusInternalServerError, n.asked(t, http.MethodPost, one+"/command/enable", "", "admin").status)
}

func position(p int64) store.Position { return store.Position{Commit: p, Prepare: p} }

// TestRightsOverHTTP: who may do what keeps the server running.
func TestRightsOverHTTP(t *testing.T) {
	n := run(t)
	var scavenges, shutdowns []string
	name := func(u *user) string { return u.login }
	n.api().scavenge = func(by *user) { scavenges = append(scavenges, name(by)) }
	n.api().shutdown = func() { shutdowns = append(shutdowns, "down") }
	for login, status := range map[string]int{"": http.StatusUnauthorized, "admin": http.StatusOK, "ops": http.StatusOK, "nobody": http.StatusUnauthorized} {
		require.Equal(t, httpAnswer{status: status}, n.asked(t, http.MethodPost, "/admin/scavenge", "", login), login)
		a := n.asked(t, http.MethodPost, "/admin/shutdown", "", login)
		require.Equal(t, status, a.status, login)
		if a.then != nil {
			a.then()
		}
	}
	require.ElementsMatch(t, []string{"admin", "ops"}, scavenges)
	require.Len(t, shutdowns, 2)
	for _, c := range []struct {
		method, path, body string
		anonymous, ops     int
	}{
		{http.MethodGet, "/users", "", http.StatusOK, http.StatusOK},
		{http.MethodGet, "/users/admin", "", http.StatusOK, http.StatusOK},
		{http.MethodGet, "/users/$current", "", http.StatusUnauthorized, http.StatusOK},
		{http.MethodPost, "/users", `{"loginName":"x","password":"y"}`, http.StatusUnauthorized, http.StatusUnauthorized},
		{http.MethodPut, "/users/ops", `{}`, http.StatusUnauthorized, http.StatusUnauthorized},
		{http.MethodDelete, "/users/ops", "", http.StatusUnauthorized, http.StatusUnauthorized},
		{http.MethodPost, "/users/ops/command/disable", "", http.StatusUnauthorized, http.StatusUnauthorized},
		{http.MethodPost, "/users/ops/command/enable", "", http.StatusUnauthorized, http.StatusUnauthorized},
		{http.MethodPost, "/users/ops/command/reset-password", `{"newPassword":"x"}`, http.StatusUnauthorized, http.StatusUnauthorized},
		{http.MethodGet, "/streams/$all?format=json", "", http.StatusUnauthorized, http.StatusUnauthorized},
		{http.MethodGet, "/streams/$users?format=json", "", http.StatusUnauthorized, http.StatusUnauthorized},
		{http.MethodGet, "/streams/$users/0?format=json", "", http.StatusUnauthorized, http.StatusUnauthorized},
		{http.MethodDelete, "/streams/$users", "", http.StatusUnauthorized, http.StatusUnauthorized},
		{http.MethodGet, "/streams/$$$users?format=json", "", http.StatusUnauthorized, http.StatusUnauthorized},
		{http.MethodPost, "/streams/$users/incoming/11111111-1111-1111-1111-111111111111", "{}", http.StatusUnauthorized, http.StatusUnauthorized},
		{http.MethodPost, "/streams/$x/metadata", "{}", http.StatusUnauthorized, http.StatusUnauthorized},
	} {
		header := []string{"Es-Eventid", "11111111-1111-1111-1111-111111111111"}
		if strings.Contains(c.path, "incoming") {
			header = append(header, "Es-Eventtype", "t")
		}
		require.Equal(t, c.anonymous, n.asked(t, c.method, c.path, c.body, "", header...).status, c.path)
		require.Equal(t, c.ops, n.asked(t, c.method, c.path, c.body, "ops", header...).status, c.path)
	}
	u, result := n.getUser("ops")
	require.Equal(t, userSuccess, result)
	require.False(t, u.disabled)
}

// TestScavengeOverHTTP: it is answered at once, and runs.
func TestScavengeOverHTTP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := Start(Config{Listen: memnet.New().Listen})
		require.NoError(t, err)
		n := &node{Server: s}
		require.Equal(t, http.StatusOK, n.asked(t, http.MethodPost, "/admin/scavenge", "", "ops").status)
		synctest.Wait()
		info, err := s.view().info(scavengesStream)
		require.NoError(t, err)
		require.EqualValues(t, 1, info.last) // begun and completed
		require.NoError(t, s.Close())
	})
}

// TestGossipOfASecureNode: the second port is told.
func TestGossipOfASecureNode(t *testing.T) {
	n := run(t)
	n.api().node.secure = endpoint{"127.0.0.1", 1115}
	a := n.asked(t, http.MethodGet, "/gossip?format=json", "", "")
	require.Contains(t, string(a.body), `"externalSecureTcpPort": 1115,`)
}
