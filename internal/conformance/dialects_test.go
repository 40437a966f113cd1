package conformance_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/admin"
	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/server"
)

// dialectName names the dialect that the embedded server speaks in the suite, such as 20.10: CI runs the suite in each.
const dialectName = "EVENTSTORE_TEST_DIALECT"

// dialectOf is the name of the dialect that a test is run in, "" for that of 4.1 by default: the environment's, or that of the
// part of TestDialects which runs it.
func dialectOf(t *testing.T) string {
	t.Helper()
	if parts := strings.Split(t.Name(), "/"); parts[0] == "TestDialects" && len(parts) > 1 {
		return parts[1]
	}
	return os.Getenv(dialectName)
}

// spoken is that dialect, but for TLS: the suite's frames are plain. TestDialectOverTLS has it.
func spoken(t *testing.T) server.Dialect {
	t.Helper()
	name := dialectOf(t)
	if name == "" {
		return server.Dialect41()
	}
	d, err := server.ParseDialect(name)
	require.NoError(t, err)
	d.TLS = false
	return d
}

// TestDialects runs some tests of the suite in every dialect. CI runs all that a dialect can do.
func TestDialects(t *testing.T) {
	for _, name := range server.DialectNames() {
		t.Run(name, func(t *testing.T) {
			for test, run := range map[string]func(*testing.T){
				"TestContent": TestContent, "TestConcurrentAppenders": TestConcurrentAppenders, "TestSoftDelete": TestSoftDelete,
				"TestHardDelete": TestHardDelete, "TestPagingIsTheWhole": TestPagingIsTheWhole, "TestClientReadAll": TestClientReadAll,
				"TestStreamMetadata": TestStreamMetadata, "TestClientTransaction": TestClientTransaction, "TestFilters": TestFilters,
				"TestSubscriptions": TestSubscriptions, "TestDeletesUnderASubscription": TestDeletesUnderASubscription,
				"TestPersistentCompeting": TestPersistentCompeting, "TestPersistentHardDelete": TestPersistentHardDelete,
				"TestAdminGossip": TestAdminGossip, "TestClientScavenge": TestClientScavenge,
			} {
				t.Run(test, run)
			}
		})
	}
}

// otherwise has, of each dialect, the tests that say what another one does, and why.
var otherwise = map[string]map[string]string{
	"3.9.3": {
		"TestReadEvent":  "a number that does not fit 32 bits is a bad request",
		"TestHTTPEvents": "the HTTP side is that of 4.1",
	},
	"3.9.4": {
		"TestGroupIsChangedWhileConnected": "a real group loses the first message that is not done, which is not imitated",
		"TestProjectionsOfDeletes":         "the projections are those of 4.1: metadata are in no category",
		"TestHTTPEvents":                   "the HTTP side is that of 4.1",
	},
	"5.0": {
		"TestGroupWindow":             "an ack frees its slot, whosever it is",
		"TestLinks":                   "a link whose number is none is an event like any other",
		"TestLinksOverASubscription":  "a link whose number is none is an event like any other",
		"TestReadAllResolvesLinks":    "a link whose number is none is an event like any other",
		"TestScavengeAnswers":         "a scavenge is answered when it begins",
		"TestScavengeTraces":          "a scavenge is answered when it begins, and what it leaves comes later",
		"TestScavengeChangesNoStream": "a scavenge is answered when it begins, and what it leaves comes later",
		"TestScavengedPlaces":         "a scavenge is answered when it begins, and what it leaves comes later",
	},
	"22.6": {
		"TestZerosLeftOut": "zeros are left out by the server itself",
	},
	"23.10": {
		"TestZerosLeftOut": "zeros are left out by the server itself",
		"TestAnonymous":    "nobody is let in without credentials",
		"TestHTTPEvents":   "nobody is let in without credentials",
		"TestHTTPRefusals": "nobody is let in without credentials",
	},
}

// differs skips a test that says what another dialect does.
func differs(t *testing.T) {
	t.Helper()
	name := dialectOf(t)
	if why := otherwise[name][t.Name()[strings.LastIndexByte(t.Name(), '/')+1:]]; why != "" {
		cannot(t, "in the dialect of %s %s", name, why)
	}
}

// inDialect are the options of a test of the suite, whose server speaks the dialect of the environment.
func inDialect(t *testing.T, opts []eventstoretest.Option) []eventstoretest.Option {
	t.Helper()
	if dialectOf(t) == "" {
		return opts
	}
	differs(t)
	return append([]eventstoretest.Option{speaking(spoken(t))}, opts...)
}

// speaking has the embedded server speak a dialect.
func speaking(d server.Dialect) eventstoretest.Option {
	return eventstoretest.WithServer(server.Config{Dialect: d})
}

// speakers are the servers of the suite, with the names of their dialects.
var speakers sync.Map

// speaks remembers the dialect of a test's server.
func speaks(t *testing.T, srv *eventstoretest.Server) {
	t.Helper()
	speakers.Store(srv, dialectOf(t))
	t.Cleanup(func() { speakers.Delete(srv) })
}

// framesAreKnown skips a test that looks at frames, or makes them, of a server of the suite in a dialect whose frames are not
// those of 4.1 but for little: the tests of the server, and the recordings, have them.
func framesAreKnown(tb testing.TB, srv dialer) {
	tb.Helper()
	spoken, _ := speakers.Load(srv)
	name, _ := spoken.(string)
	if t, ok := tb.(*testing.T); ok && (name == "3.9.3" || strings.HasPrefix(name, "2")) {
		cannot(t, "it is about frames as 4.1 has them, and this is the dialect of %s", name)
	}
}

// TestDialectOverTLS: a client that knows the address of the HTTP side alone finds the only port that there is by gossip over
// HTTPS, and the HTTP side serves what it has.
func TestDialectOverTLS(t *testing.T) {
	web := httptest.NewUnstartedServer(http.NotFoundHandler())
	web.StartTLS() // for its certificate, which is for 127.0.0.1
	defer web.Close()
	trusted := x509.NewCertPool()
	trusted.AddCert(web.Certificate())
	trust := &tls.Config{RootCAs: trusted}
	for _, name := range server.DialectNames() {
		d, err := server.ParseDialect(name)
		require.NoError(t, err)
		if !d.TLS {
			continue
		}
		t.Run(name, func(t *testing.T) {
			ctx := within(t)
			srv := newServed(t, server.Config{Dialect: d, TLS: &tls.Config{Certificates: web.TLS.Certificates}})
			seed, ok := strings.CutPrefix(srv.HTTPURL(), "https://")
			require.True(t, ok, srv.HTTPURL())
			for _, target := range []string{srv.DirectURL(), "gossip://admin:changeit@" + seed} {
				client, err := eventstore.Connect(ctx, target, eventstore.WithTLS(trust))
				require.NoError(t, err, target)
				_, err = client.Append(ctx, newStream("secure"), eventstore.NoStream, numbered(0, 3))
				require.NoError(t, err, target)
				require.NoError(t, client.Close())
			}
			_, err := eventstore.Connect(ctx, strings.Replace(srv.DirectURL(), "tls://", "tcp://", 1))
			require.Error(t, err, "without TLS")
			a, err := admin.New(srv.HTTPURL(), eventstore.WithTLS(trust), eventstore.WithCredentials("admin", "changeit"))
			require.NoError(t, err)
			gossip, err := a.Gossip(ctx)
			require.NoError(t, err)
			require.Len(t, gossip.Members, 1)
			require.Equal(t, "Leader", gossip.Members[0].State)
		})
	}
}

// TestFilters: what a server picks is what the client picks, in both directions and from page to page, and who of the two
// does it is the dialect's.
func TestFilters(t *testing.T) {
	ctx := within(t)
	srv := serve(t)
	client := srv.Client(t)
	var filtered, plain atomic.Int64
	srv.Intercept(func(f *eventstoretest.Frame) eventstoretest.Fault {
		switch f.Command {
		case messages.FilteredReadAllEventsForwardCompleted, messages.FilteredReadAllEventsBackwardCompleted:
			filtered.Add(1)
		case messages.ReadAllEventsForwardCompleted, messages.ReadAllEventsBackwardCompleted:
			plain.Add(1)
		default:
		}
		return eventstoretest.Pass
	})
	a, b := newStream("filter-a"), newStream("filter-b")
	var first eventstore.Position
	for i := range 40 {
		stream := []string{a, b}[i%2]
		result, err := client.Append(ctx, stream, eventstore.Any, []eventstore.EventData{{Type: fmt.Sprint("kind", i%3)}})
		require.NoError(t, err)
		if i == 0 {
			first = result.Position
		}
	}
	_, err := client.SetMetadata(ctx, a, eventstore.Any, eventstore.StreamMetadata{MaxCount: 1000})
	require.NoError(t, err)
	for _, c := range []struct {
		name   string
		filter eventstore.Filter
		count  int
	}{
		{"a stream", eventstore.StreamPrefix(a), 20},
		{"two streams", eventstore.StreamPrefix(b, a), 40},
		{"the metadata too", eventstore.StreamRegexp(`^(\$\$)?` + a), 21},
		{"a type", eventstore.EventTypePrefix("kind1"), 13},
		{"types", eventstore.EventTypeRegexp("^kind[02]$"), 27},
		{"no system events", eventstore.ExcludeSystemEvents(), 40},
		{"nothing", eventstore.StreamPrefix(newStream("filter-none")), 0},
	} {
		for _, backward := range []bool{false, true} {
			for _, size := range []int{1, 7, 1000} {
				if backward && size < 1000 && !srv.Embedded() {
					continue // what is not there is looked for down to the beginning of a log that has whatever else was written
				}
				// Raw: a page with a link that leads to a stream for nobody, such as TestLinksToWhatMayNotBeRead writes, is refused as a whole.
				opts := []eventstore.ReadOption{c.filter, eventstore.PageSize(size), eventstore.RawLinks()}
				from := eventstore.AtPosition(first)
				if backward {
					opts, from = append(opts, eventstore.Backward()), eventstore.End
				}
				n := 0
				for e, err := range client.ReadAll(ctx, from, opts...) {
					require.NoError(t, err)
					require.True(t, c.filter.Match(e.Event), "%s: %d@%s", c.name, e.Event.Number, e.Event.Stream)
					if e.Position.Commit < first.Commit {
						break
					}
					if slices.Contains([]string{a, b, "$$" + a}, e.Event.Stream) { // others write to a real server too
						n++
					}
				}
				require.Equal(t, c.count, n, "%s, backward %v, pages of %d", c.name, backward, size)
			}
		}
	}
	if srv.Embedded() {
		require.Equal(t, spoken(t).Filtered, filtered.Load() > 0)
		require.Equal(t, spoken(t).Filtered, plain.Load() == 0)
	}
}

// TestCIRunsEveryDialect: the step of .ci/run has a name for each.
func TestCIRunsEveryDialect(t *testing.T) {
	b, err := os.ReadFile("../../.ci/run")
	require.NoError(t, err)
	require.Contains(t, string(b), "\tfor name in "+strings.Join(server.DialectNames(), " ")+"; do\n")
}
