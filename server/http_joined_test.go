package server

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/server/internal/groups"
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

// TestGroupsOverHTTP: what the recordings have not.
func TestGroupsOverHTTP(t *testing.T) {
	n := run(t)
	p := n.peer(t)
	for _, path := range []string{"/subscriptions/s/g", "/subscriptions/s/h", "/subscriptions/a%20b/%24g"} {
		require.Equal(t, http.StatusCreated, n.asked(t, http.MethodPut, path, `{"extraStatistics": true}`, "admin").status, path)
	}
	p.appended("s", expectNoStream, "a")
	p.appended("s", 0, "b")
	p.connect("s", 1).gets(got{"0@s", "", 0})

	var info struct {
		Connections []httpGroupConnection `json:"connections"`
		InFlight    int                   `json:"totalInFlightMessages"`
	}
	require.NoError(t, json.Unmarshal(n.asked(t, http.MethodGet, "/subscriptions/s/g/info", "", "").body, &info))
	require.Equal(t, 1, info.InFlight)
	require.Len(t, info.Connections, 1)
	one := info.Connections[0]
	require.NotEmpty(t, one.From)
	require.Equal(t, nobodysName, one.User)
	require.EqualValues(t, 1, one.Processed)
	require.Equal(t, 1, one.InFlight)
	require.Zero(t, one.Slots)
	require.Equal(t, []httpGroupMeasurement{}, one.Extra)

	var all []struct {
		Messages string `json:"getMessagesUri"`
	}
	require.NoError(t, json.Unmarshal(n.asked(t, http.MethodGet, "/subscriptions", "", "").body, &all))
	require.Len(t, all, 3)
	require.Equal(t, "http://127.0.0.1:2133/subscriptions/a%20b/%24g/1", all[2].Messages)

	for query, status := range map[string]int{"": http.StatusOK, "?stopAt=7": http.StatusOK, "?stopAt=-7": http.StatusBadRequest, "?stopAt=x": http.StatusBadRequest} {
		require.Equal(t, status, n.asked(t, http.MethodPost, "/subscriptions/a%20b/%24g/replayParked"+query, "", "admin").status, query)
	}
}

func TestGroupSettingsOverHTTP(t *testing.T) {
	n := run(t)
	with := func(change func(*httpGroupSettings)) httpGroupSettings {
		s := httpGroupDefaults
		change(&s)
		return s
	}
	for body, want := range map[string]httpGroupSettings{
		"{nonsense":                          httpGroupDefaults,
		"null":                               httpGroupDefaults,
		"[]":                                 httpGroupDefaults,
		`{"bufferSize": "10"}`:               httpGroupDefaults,
		`{"bufferSize": 0}`:                  httpGroupDefaults,
		`{"maxRetryCount": -1}`:              with(func(s *httpGroupSettings) { s.MaxRetries = -1 }),
		`{"startFrom": -5}`:                  with(func(s *httpGroupSettings) { s.StartFrom = -5 }),
		`{"namedConsumerStrategy":""}`:       with(func(s *httpGroupSettings) { s.Strategy = groups.DispatchToSingle }),
		`{"namedConsumerStrategy":"Pinned"}`: with(func(s *httpGroupSettings) { s.Strategy = groups.Pinned }),
		`{"resolveLinktos": true, "startFrom": 1, "messageTimeoutMilliseconds": 5000, "extraStatistics": true, "maxRetryCount": 3,
			"liveBufferSize": 50, "bufferSize": 60, "readBatchSize": 10, "checkPointAfterMilliseconds": 900, "minCheckPointCount": 2,
			"maxCheckPointCount": 20, "maxSubscriberCount": 5}`: {
			ResolveLinks: true, StartFrom: 1, MessageTimeout: 5000, ExtraStatistics: true, MaxRetries: 3, LiveBuffer: 50, Buffer: 60,
			ReadBatch: 10, CheckpointAfter: 900, MinCheckpoint: 2, MaxCheckpoint: 20, MaxSubscribers: 5, Strategy: groups.RoundRobin,
		},
	} {
		require.Equal(t, http.StatusCreated, n.asked(t, http.MethodPut, "/subscriptions/s/g", body, "admin").status, body)
		var info struct {
			Config httpGroupSettings `json:"config"`
		}
		require.NoError(t, json.Unmarshal(n.asked(t, http.MethodGet, "/subscriptions/s/g/info", "", "").body, &info))
		want.PreferRoundRobin = want.Strategy == groups.RoundRobin
		require.Equal(t, want, info.Config, body)
		require.Equal(t, http.StatusOK, n.asked(t, http.MethodDelete, "/subscriptions/s/g", "", "admin").status)
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

// TestMessagesOverHTTP: what the recordings have not. Messages come back when their time is up, and are shared with consumers.
func TestMessagesOverHTTP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := run(t)
		p := n.peer(t)
		settings := usualGroup("a b")
		settings.ResolveLinks, settings.MessageTimeout = true, 1500
		n.group(t, settings)
		p.appended("s", expectNoStream, "xy")
		p.linkTo("a b", "1@s", "9@nowhere")
		p.appended("a b", expectAny, "z")
		synctest.Wait() // the group has heard of it
		type messagesFeed struct {
			Links   []feedLink
			Entries []struct {
				Title  string
				Stream string `json:"positionStreamId"`
				Links  []feedLink
			}
		}
		take := func(path string) (titles []string, f messagesFeed) {
			a := n.asked(t, http.MethodGet, "/subscriptions/a%20b/g"+path, "", "")
			require.Equal(t, http.StatusOK, a.status, "%s: %s", path, a.reason)
			require.Equal(t, mediaMessages, a.media)
			require.NoError(t, json.Unmarshal(a.body, &f))
			for _, e := range f.Entries {
				titles = append(titles, e.Title)
			}
			return titles, f
		}
		titles, one := take("?embed=rich")
		require.Equal(t, []string{"1@s"}, titles, "one, when nobody says how many")
		require.Equal(t, "a b", one.Entries[0].Stream)
		titles, two := take("/5")
		require.Equal(t, []string{"2@a b", "9@nowhere"}, titles)
		titles, none := take("/5")
		require.Empty(t, titles)
		require.Len(t, none.Links, 2, "nothing to ack")
		process := func(uri string) int {
			path, ok := strings.CutPrefix(uri, "http://127.0.0.1:2133")
			require.True(t, ok, uri)
			return n.asked(t, http.MethodPost, path, "", "").status
		}
		require.Equal(t, http.StatusAccepted, process(two.Entries[0].Links[2].URI), "acked")
		require.Equal(t, http.StatusAccepted, process(two.Entries[1].Links[3].URI+"?action=retry"), "nacked")
		m := p.connect("a b", 10)
		m.gets(got{"", "1@a b", 1})
		m.gets(got{"1@s", "0@a b", 1}) // its time was up

		require.Equal(t, "nackAll", one.Links[1].Relation)
		require.Equal(t, http.StatusAccepted, process(one.Links[1].URI+"&action=PARK"), "the consumer's")
		m.settle()
		parked, err := n.view().info(parkedStreamOf("a b"))
		require.NoError(t, err)
		require.True(t, parked.exists())

		const path = "/subscriptions/a%20b/g"
		for _, bad := range []string{"/ack?ids=", "/ack", "/nack?ids=" + anID + "01,x", "/nack/x"} {
			require.Equal(t, http.StatusBadRequest, n.asked(t, http.MethodPost, path+bad, "", "").status, bad)
		}
		for _, bad := range []string{"/x", "/101", "/-1", "/4294967297"} {
			require.Equal(t, http.StatusBadRequest, n.asked(t, http.MethodGet, path+bad, "", "").status, bad)
		}
		require.Equal(t, http.StatusMethodNotAllowed, n.asked(t, http.MethodGet, path+"/ack/"+anID+"01", "", "").status)
		require.Equal(t, http.StatusUnauthorized, n.asked(t, http.MethodGet, "/subscriptions/%24users/g", "", "").status)
		require.Equal(t, http.StatusNotFound, n.asked(t, http.MethodGet, "/subscriptions/%24users/g", "", "admin").status)
	})
}

// TestProjectionsOverHTTP: what the recordings have not, and that a projection that was stopped misses nothing.
func TestProjectionsOverHTTP(t *testing.T) {
	off := run(t)
	const one = "/projection/$by_category"
	for _, path := range []string{"/projections/any", one, one + "/state"} {
		require.Equal(t, httpAnswer{status: http.StatusNotFound}, off.asked(t, http.MethodGet, path, "", "admin"))
	}
	n := runProjected(t)
	p := n.peer(t)
	indexed := func() {
		t.Helper()
		require.NoError(t, n.WaitForProjections(t.Context()))
	}
	state := func() (s httpProjectionItem) {
		t.Helper()
		require.NoError(t, json.Unmarshal(n.asked(t, http.MethodGet, one, "", "").body, &s))
		return s
	}
	linked := func(stream string) (data []string) {
		t.Helper()
		v := n.view()
		require.NoError(t, v.store.Events(stream, 0, store.DeletedNumber, v.at, func(r *store.Record) bool {
			data = append(data, string(dataOf(r.Encoded)))
			return true
		}))
		return data
	}
	switched := func(command string) {
		t.Helper()
		require.Equal(t, http.StatusOK, n.asked(t, http.MethodPost, one+"/command/"+command, "", "admin").status)
	}
	for _, login := range []string{"", "ops"} {
		a := n.asked(t, http.MethodPost, one+"/command/disable", "", login)
		require.Equal(t, httpAnswer{http.StatusUnauthorized, "Not Authorized", mediaPlain, nil, []byte("Not authorized"), nil}, a)
	}
	indexed()
	p.appended("c-1", expectNoStream, "a")
	indexed()
	switched("disable")
	switched("disable")
	require.Equal(t, "Stopped", state().Status)
	p.appended("c-1", 0, "b")
	p.appended("c-2", expectNoStream, "c")
	indexed()
	require.Equal(t, []string{"0@c-1"}, linked("$ce-c"))
	require.Equal(t, []string{"0@c-1", "0@c-2"}, linked("$streams"), "the others go on")
	require.Less(t, state().Progress, 100.0)
	switched("enable")
	indexed()
	p.appended("c-2", 0, "d")
	indexed()
	require.Equal(t, []string{"0@c-1", "1@c-1", "0@c-2", "1@c-2"}, linked("$ce-c"), "what it missed, once")
	require.Equal(t, []string{"0@c-1", "0@c-2"}, linked("$streams"), "nothing twice")
	require.Equal(t, []string{"c-1", "c-2"}, linked("$category-c"))
	s := state()
	require.Equal(t, "Running", s.Status)
	require.EqualValues(t, 4, s.Version)
	require.EqualValues(t, 3, s.Events)
	require.NotEqual(t, s.LastCheckpoint, s.Position)
}

// TestRightsOverHTTP: who may do what keeps the server running.
func TestRightsOverHTTP(t *testing.T) {
	n := run(t)
	var shutdowns []string
	n.api().shutdown = func() func() { return func() { shutdowns = append(shutdowns, "down") } }
	for login, status := range map[string]int{"": http.StatusUnauthorized, "admin": http.StatusOK, "ops": http.StatusOK, "nobody": http.StatusUnauthorized} {
		require.Equal(t, httpAnswer{status: status}, n.asked(t, http.MethodPost, "/admin/scavenge", "", login), login)
		a := n.asked(t, http.MethodPost, "/admin/shutdown", "", login)
		require.Equal(t, status, a.status, login)
		if a.then != nil {
			a.then()
		}
	}
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

// TestHealth: nobody needs a login to ask, and who was told to shut down lives on for a moment without being ready.
func TestHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := run(t)
		expect := func(status int, body, path string) {
			t.Helper()
			a := n.asked(t, http.MethodGet, path, "", "")
			require.Equal(t, status, a.status, path)
			require.Equal(t, body, string(a.body), path)
		}
		expect(http.StatusNoContent, "", "/health/live")
		expect(http.StatusOK, "ready\n", "/health/ready")
		expect(http.StatusNotFound, "", "/health")
		rest := n.shutDown()
		expect(http.StatusNoContent, "", "/health/live")
		expect(http.StatusServiceUnavailable, "shutting down\n", "/health/ready")
		rest()
		<-n.stop
	})
}
