package admin_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/admin"
	"github.com/goeventstore/eventstore/server"
)

// embedded starts a server, and returns an Admin with the credentials of its administrator, and its address.
func embedded(t *testing.T) (*admin.Admin, string) {
	t.Helper()
	s, err := server.Start(server.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return as(t, s.HTTPURL(), "admin", "changeit"), s.HTTPURL()
}

func as(t *testing.T, target, user, password string) *admin.Admin {
	t.Helper()
	a, err := admin.New(target, eventstore.WithCredentials(user, password))
	require.NoError(t, err)
	return a
}

// canned starts a server that is none of ours, and returns an Admin for it.
func canned(t *testing.T, serve http.HandlerFunc, opts ...eventstore.Option) *admin.Admin {
	t.Helper()
	s := httptest.NewServer(serve)
	t.Cleanup(s.Close)
	a, err := admin.New(s.URL, append([]eventstore.Option{eventstore.WithCredentials("me", "secret")}, opts...)...)
	require.NoError(t, err)
	return a
}

func TestTargets(t *testing.T) {
	for target, want := range map[string]string{
		"tcp://node":                      "http://node:2113",
		"tcp://node:1113":                 "http://node:2113",
		"tcp://me:secret@node:1234":       "http://node:2113",
		"tls://node:1113":                 "https://node:2113",
		"http://node":                     "http://node:2113",
		"http://me:secret@node:8080":      "http://node:8080",
		"https://node:8443/":              "https://node:8443",
		"http://[::1]:2113":               "http://[::1]:2113",
		"http://me:s%3A%40cret@[::1]:99/": "http://[::1]:99",
		"gossip://a,b:99":                 "http://a:2113",
		"gossip://a?tls=true":             "https://a:2113",
		"discover://me:secret@name:30778": "http://name:30778",
		"tcp://node?tls=true":             "https://node:2113",
	} {
		a, err := admin.New(target)
		require.NoError(t, err, target)
		require.Equal(t, want, a.URL(), target)
	}
	for _, target := range []string{
		"", "node", "ftp://node", "http://", "http://node:0", "http://node/path", "tcp://me:secret@", "http://me:secret@node:x",
	} {
		_, err := admin.New(target)
		require.ErrorIs(t, err, eventstore.ErrArgument, target)
		require.NotContains(t, err.Error(), "secret", target)
	}
	_, err := admin.New("http://node", eventstore.WithTimeout(-1))
	require.ErrorIs(t, err, eventstore.ErrArgument)
}

func TestUsers(t *testing.T) {
	ctx := t.Context()
	a, url := embedded(t)
	require.NoError(t, a.CreateUser(ctx, admin.NewUser{Login: "hugo", FullName: "Hugo U", Groups: []string{"g"}, Password: "pw"}))
	require.NoError(t, a.CreateUser(ctx, admin.NewUser{Login: "hugo", Password: "pw"}))
	require.ErrorIs(t, a.CreateUser(ctx, admin.NewUser{Login: "hugo", Password: "other"}), admin.ErrConflict)

	hugo := as(t, url, "hugo", "pw")
	self, err := hugo.CurrentUser(ctx)
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), self.Updated, time.Minute)
	self.Updated = time.Time{}
	want := admin.User{Login: "hugo", FullName: "Hugo U", Groups: []string{"g"}}
	require.Equal(t, want, self)

	require.NoError(t, a.UpdateUser(ctx, "hugo", "H", nil))
	require.NoError(t, a.DisableUser(ctx, "hugo"))
	u, err := a.User(ctx, "hugo")
	require.NoError(t, err)
	require.Equal(t, admin.User{Login: "hugo", FullName: "H", Groups: []string{}, Disabled: true}, u)
	_, err = hugo.CurrentUser(ctx)
	require.ErrorIs(t, err, eventstore.ErrNotAuthenticated)
	require.NoError(t, a.EnableUser(ctx, "hugo"))
	require.ErrorIs(t, hugo.ChangePassword(ctx, "hugo", "wrong", "x"), eventstore.ErrAccessDenied)
	require.NoError(t, hugo.ChangePassword(ctx, "hugo", "pw", "pw2"))
	require.ErrorIs(t, hugo.ChangePassword(ctx, "hugo", "pw", "pw2"), eventstore.ErrNotAuthenticated)
	require.NoError(t, a.ResetPassword(ctx, "hugo", "pw3"))
	hugo = as(t, url, "hugo", "pw3")
	require.ErrorIs(t, hugo.ResetPassword(ctx, "hugo", "pw4"), eventstore.ErrAccessDenied)

	users, err := a.Users(ctx)
	require.NoError(t, err)
	require.Len(t, users, 3)
	require.NoError(t, a.DeleteUser(ctx, "hugo"))
	err = a.DeleteUser(ctx, "hugo")
	require.ErrorIs(t, err, admin.ErrNotFound)
	require.EqualError(t, err, "delete user hugo at "+strings.TrimPrefix(url, "http://")+": not found: status 404 NotFound")
	var op *eventstore.OpError
	require.ErrorAs(t, err, &op)
	require.Equal(t, "delete user hugo", op.Op)
	var status *admin.StatusError
	require.ErrorAs(t, err, &status)
	require.Equal(t, http.StatusNotFound, status.Status)

	anonymous := as(t, url, "", "")
	require.ErrorIs(t, anonymous.DeleteUser(ctx, "ops"), eventstore.ErrAccessDenied)
	wrong := as(t, url, "admin", "wrong")
	require.ErrorIs(t, wrong.DeleteUser(ctx, "ops"), eventstore.ErrNotAuthenticated)
	require.ErrorIs(t, as(t, url, "ops", "changeit").DeleteUser(ctx, "admin"), eventstore.ErrAccessDenied)
}

func TestNode(t *testing.T) {
	ctx := t.Context()
	a, url := embedded(t)
	require.NoError(t, a.Ping(ctx))
	info, err := a.Info(ctx)
	require.NoError(t, err)
	require.Equal(t, admin.Info{Version: "4.1.4.0", State: "master", Projections: "None"}, info)
	stats, err := a.Stats(ctx)
	require.NoError(t, err)
	mem, ok := stats.Number("proc", "mem")
	require.True(t, ok)
	require.Positive(t, mem)
	_, ok = stats.Number("proc", "mem", "more")
	require.False(t, ok)
	_, ok = stats.Number("proc")
	require.False(t, ok)
	gossip, err := a.Gossip(ctx)
	require.NoError(t, err)
	require.Len(t, gossip.Members, 1)
	m := gossip.Members[0]
	require.True(t, m.Alive)
	require.Equal(t, "Master", m.State)
	_, port, err := net.SplitHostPort(strings.TrimPrefix(url, "http://"))
	require.NoError(t, err)
	require.Equal(t, gossip.ServerPort, m.ExternalHTTPPort)
	require.Equal(t, port, itoa(m.ExternalHTTPPort))
	require.Positive(t, m.WriterCheckpoint)
	_, err = a.Projections(ctx)
	require.ErrorIs(t, err, admin.ErrNotFound)
	require.ErrorIs(t, as(t, url, "", "").Scavenge(ctx), eventstore.ErrAccessDenied)
	require.ErrorIs(t, as(t, url, "", "").Shutdown(ctx), eventstore.ErrAccessDenied)
	require.NoError(t, as(t, url, "ops", "changeit").Shutdown(ctx))
}

func itoa(n int) string { return strings.TrimPrefix((&net.TCPAddr{Port: n}).String(), ":") }

const oneGroup = `{"links":[],"config":{"resolveLinktos":true,"startFrom":1,"messageTimeoutMilliseconds":5000,"extraStatistics":true,
"maxRetryCount":3,"liveBufferSize":50,"bufferSize":60,"readBatchSize":10,"preferRoundRobin":false,"checkPointAfterMilliseconds":900,
"minCheckPointCount":2,"maxCheckPointCount":20,"maxSubscriberCount":5,"namedConsumerStrategy":"Pinned"},"eventStreamId":"s/1","groupName":"h",
"status":"Live","averageItemsPerSecond":7.0,"totalItemsProcessed":4,"countSinceLastMeasurement":4,"lastProcessedEventNumber":-1,
"lastKnownEventNumber":3,"readBufferCount":3,"liveBufferCount":2,"retryBufferCount":1,"totalInFlightMessages":9,
"connections":[{"from":"127.0.0.1:5","username":"u","averageItemsPerSecond":1.5,"totalItemsProcessed":3,"availableSlots":4,"inFlightMessages":2}]}`

func TestGroups(t *testing.T) {
	ctx := t.Context()
	var paths []string
	a := canned(t, func(w http.ResponseWriter, r *http.Request) {
		paths = append(paths, r.Method+" "+r.RequestURI)
		user, password, _ := r.BasicAuth()
		if user != "me" || password != "secret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		switch r.URL.Path {
		case "/info":
			_, _ = io.WriteString(w, `{"esVersion":"20.10.0.0"}`)
		case "/subscriptions":
			_, _ = io.WriteString(w, `[{"eventStreamId":"s","groupName":"g","status":"Live","lastProcessedEventNumber":13,"lastKnownEventNumber":34,"connectionCount":2,"totalInFlightMessages":1}]`)
		case "/subscriptions/none":
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, "[]")
		case "/subscriptions/s/1/h/info":
			_, _ = io.WriteString(w, oneGroup)
		case "/subscriptions/s/h/replayParked":
			_, _ = io.WriteString(w, `{"reason":"","result":"Success"}`)
		case "/streams/$persistentsubscription-s::h-parked/head/backward/1":
			_, _ = io.WriteString(w, `{"eTag":"7;-1955838367","entries":[]}`)
		case "/streams/$persistentsubscription-s::h-parked/metadata":
			_, _ = io.WriteString(w, `{"$tb":5}`)
		case "/streams/$persistentsubscription-s::h-parked/head/backward/10":
			_, _ = io.WriteString(w, `{"entries":[{"eventId":"31111510-fc6f-fcb0-9ea9-cec62a46d511","eventType":"t","eventNumber":1,"linkMetaData":"{\n  \"added\": \"2026-11-21T09:42:37.516395+00:00\",\n  \"reason\": \"why\"\n}","streamId":"s","positionEventNumber":6,"title":"1@s"},{"title":"9@gone@s"}]}`)
		default:
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"correlationId":"x","reason":"Unable to locate 's::nope'","result":"DoesNotExist"}`)
		}
	})
	groups, err := a.Groups(ctx)
	require.NoError(t, err)
	require.Equal(t, []admin.Group{{Stream: "s", Name: "g", Status: "Live", LastProcessed: 13, LastKnown: 34, Connections: 2, InFlight: 1}}, groups)
	require.EqualValues(t, 21, groups[0].Lag())
	groups, err = a.GroupsOf(ctx, "none")
	require.NoError(t, err)
	require.Empty(t, groups)
	g, err := a.Group(ctx, "s/1", "h")
	require.NoError(t, err)
	require.Equal(t, admin.Group{
		Stream: "s/1", Name: "h", Status: "Live", PerSecond: 7, Processed: 4, LastProcessed: -1, LastKnown: 3, ReadBuffer: 3, LiveBuffer: 2,
		RetryBuffer: 1, InFlight: 9, Connections: 1,
		Consumers: []admin.Consumer{{From: "127.0.0.1:5", User: "u", PerSecond: 1.5, Processed: 3, Slots: 4, InFlight: 2}},
		Settings: admin.GroupSettings{
			ResolveLinks: true, StartFrom: 1, MessageTimeout: 5 * time.Second, ExtraStatistics: true, MaxRetries: 3, LiveBuffer: 50, Buffer: 60,
			ReadBatch: 10, CheckpointAfter: 900 * time.Millisecond, MinCheckpoint: 2, MaxCheckpoint: 20, MaxSubscribers: 5, Strategy: "Pinned",
		},
	}, g)
	require.EqualValues(t, 4, g.Lag())
	require.NoError(t, a.ReplayParked(ctx, "s", "h"))
	require.NoError(t, a.ReplayParkedUpTo(ctx, "s", "h", 12))
	require.Equal(t, "POST /subscriptions/s/h/replayParked?stopAt=12", paths[len(paths)-1])
	err = a.ReplayParked(ctx, "s", "nope")
	require.ErrorIs(t, err, admin.ErrNotFound)
	require.ErrorContains(t, err, `replay parked messages of group nope "s" at 127.0.0.1:`)
	require.ErrorContains(t, err, ": not found: status 404 Unable to locate 's::nope'")
	n, err := a.ParkedCount(ctx, "s", "h")
	require.NoError(t, err)
	require.EqualValues(t, 3, n)
	n, err = a.ParkedCount(ctx, "s", "none")
	require.NoError(t, err)
	require.Zero(t, n)
	parked, err := a.Parked(ctx, "s", "h", 10)
	require.NoError(t, err)
	require.Len(t, parked, 2)
	require.Equal(t, "why", parked[0].Reason)
	require.EqualValues(t, 6, parked[0].Number)
	require.True(t, parked[0].Added.Equal(time.Date(2026, 11, 21, 9, 42, 37, 516395000, time.UTC)))
	require.Equal(t, admin.ParkedMessage{Number: -1, Stream: "gone@s", EventNumber: 9}, parked[1])

	old, _ := embedded(t)
	require.ErrorIs(t, old.ReplayParkedUpTo(ctx, "s", "h", 12), admin.ErrUnsupported)
}

func TestProjections(t *testing.T) {
	ctx := t.Context()
	var commands []string
	a := canned(t, func(w http.ResponseWriter, r *http.Request) {
		const item = `{"name":"$by_category","status":"Running","mode":"Continuous","version":4,"epoch":-1,"position":"C:9/P:9","progress":94.8,"lastCheckpoint":"C:0/P:-1","eventsProcessedAfterRestart":86}`
		switch {
		case r.Method == http.MethodPost:
			commands = append(commands, r.RequestURI)
		case r.URL.Path == "/projections/any":
			_, _ = io.WriteString(w, `{"projections":[`+item+`]}`)
		case strings.HasSuffix(r.URL.Path, "/state"):
			_, _ = io.WriteString(w, `{"of":"`+r.URL.Query().Get("partition")+`"}`)
		case strings.HasSuffix(r.URL.Path, "/result"):
		default:
			_, _ = io.WriteString(w, item)
		}
	})
	want := admin.Projection{
		Name: "$by_category", Status: "Running", Mode: "Continuous", Version: 4, Epoch: -1, Position: "C:9/P:9", Progress: 94.8,
		LastCheckpoint: "C:0/P:-1", Events: 86,
	}
	all, err := a.Projections(ctx)
	require.NoError(t, err)
	require.Equal(t, []admin.Projection{want}, all)
	one, err := a.Projection(ctx, "$by_category")
	require.NoError(t, err)
	require.Equal(t, want, one)
	require.True(t, one.Running())
	state, err := a.ProjectionState(ctx, "$by_category", "a b&c")
	require.NoError(t, err)
	require.JSONEq(t, `{"of":"a b&c"}`, string(state))
	result, err := a.ProjectionResult(ctx, "$by_category", "")
	require.NoError(t, err)
	require.Empty(t, result)
	require.NoError(t, a.EnableProjection(ctx, "$by_category"))
	require.NoError(t, a.DisableProjection(ctx, "a/b"))
	require.Equal(t, []string{"/projection/$by_category/command/enable", "/projection/a%2Fb/command/disable"}, commands)
}

// Nobody else gets the credentials, whatever a server says.
func TestRedirectsAreNotFollowed(t *testing.T) {
	var stolen atomic.Bool
	thief := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { stolen.Store(true) }))
	defer thief.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		a := canned(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, thief.URL, status) })
		_, err := a.Users(t.Context())
		require.ErrorContains(t, err, "to "+thief.URL)
		require.NotContains(t, err.Error(), "secret")
		require.Error(t, a.CreateUser(t.Context(), admin.NewUser{Login: "x"}))
	}
	require.False(t, stolen.Load())
}

func TestAnswersThatAreNone(t *testing.T) {
	for name, c := range map[string]struct {
		serve http.HandlerFunc
		is    error
	}{
		"no JSON":      {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }, eventstore.ErrProtocol},
		"another kind": {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `[1]`) }, eventstore.ErrProtocol},
		"nothing":      {func(http.ResponseWriter, *http.Request) {}, eventstore.ErrProtocol},
		"endless": {func(w http.ResponseWriter, _ *http.Request) {
			for b := make([]byte, 1<<20); ; {
				if _, err := w.Write(b); err != nil {
					return
				}
			}
		}, admin.ErrTooLarge},
		"500": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, nil},
		"cut": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, nil},
		"cut behind": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "9")
			_, _ = io.WriteString(w, "{}")
		}, nil},
		"long reason": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"error":"`+strings.Repeat("\u20ac", 1000)+`"}`)
		}, nil},
		"huge headers": {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 1<<20)) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			a := canned(t, c.serve)
			_, err := a.Users(t.Context())
			require.Error(t, err)
			require.Less(t, len(err.Error()), 1000)
			if c.is != nil {
				require.ErrorIs(t, err, c.is)
			}
		})
	}
}

func TestTimeoutsAndContexts(t *testing.T) {
	gone := make(chan struct{})
	silent := func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-gone:
		}
	}
	defer close(gone)
	a := canned(t, silent, eventstore.WithTimeout(10*time.Millisecond))
	require.ErrorIs(t, a.Ping(t.Context()), eventstore.ErrTimeout)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, canned(t, silent).Ping(ctx), context.Canceled)
	ctx, cancel = context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	err := canned(t, silent).Ping(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NotErrorIs(t, err, eventstore.ErrTimeout)
}

func TestOptionsAreUsed(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") }))
	defer s.Close()
	a, err := admin.New(s.URL)
	require.NoError(t, err)
	require.ErrorContains(t, a.Ping(t.Context()), "certificate") // it is verified
	a, err = admin.New(s.URL, eventstore.WithTLS(s.Client().Transport.(*http.Transport).TLSClientConfig))
	require.NoError(t, err)
	require.NoError(t, a.Ping(t.Context()))
	_, err = admin.New(strings.Replace(s.URL, "https", "http", 1), eventstore.WithTLS(s.Client().Transport.(*http.Transport).TLSClientConfig))
	require.ErrorIs(t, err, eventstore.ErrArgument)

	// Of a cluster the first node that is reached is asked, with credentials that are asked for each time.
	node, url := embedded(t)
	require.NoError(t, node.Ping(t.Context()))
	addr := strings.TrimPrefix(url, "http://")
	a, err = admin.New("gossip://127.0.0.1:1,"+addr, eventstore.WithCredentialsFunc(func(context.Context) (string, string, error) {
		return "ops", "changeit", nil
	}))
	require.NoError(t, err)
	self, err := a.CurrentUser(t.Context())
	require.NoError(t, err)
	require.Equal(t, "ops", self.Login)

	refused := errors.New("no network today")
	a, err = admin.New("tcp://node", eventstore.WithDialer(func(_ context.Context, _, addr string) (net.Conn, error) {
		require.Equal(t, "node:2113", addr)
		return nil, refused
	}))
	require.NoError(t, err)
	require.ErrorIs(t, a.Ping(t.Context()), refused)
}
