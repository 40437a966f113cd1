package interop_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/messages"
)

// TestNodeClient runs each scenario of the foreign client as a subtest.
func TestNodeClient(t *testing.T) {
	s := newScript(t)
	srv := eventstoretest.Run(t)
	restore := func() {}
	r, err := s.run(t.Context(), scriptTime, srv.URL(), func(what string) error {
		switch what {
		case "lose the answers to writes":
			restore = srv.Intercept(func(f *eventstoretest.Frame) eventstoretest.Fault {
				if f.Command == messages.WriteEventsCompleted {
					return eventstoretest.Drop
				}
				return eventstoretest.Pass
			})
		case "cut all connections":
			srv.Cut()
			restore() // not before: an answer may still be under way
		default:
			return fmt.Errorf("nobody knows how to do that")
		}
		return nil
	})
	restore()
	require.NoError(t, err)
	t.Logf("run with %v", r.versions)
	for _, res := range r.results {
		t.Run(res.Name, func(t *testing.T) {
			t.Logf("%d ms, %s", res.MS, res.Details)
			if !res.OK {
				t.Error(res.Error)
			}
		})
	}
	t.Run("read by our client", func(t *testing.T) { sameEvents(t, srv, r) })
	for _, problem := range r.problems {
		t.Error(problem)
	}
	if t.Failed() {
		t.Logf("standard error of the script:\n%s", r.stderr)
	}
}

// sameEvents reads what the scenario about the fields of events has written with our client. A client that turns the bytes
// of an id around on the way out and again on the way in reads its own ids well; this one would see them turned.
func sameEvents(t *testing.T, srv *eventstoretest.Server, r *report) {
	t.Helper()
	type event struct {
		ID       string `json:"id"`
		Type     string `json:"type"`
		JSON     bool   `json:"json"`
		Data     []byte `json:"data"`
		Metadata []byte `json:"metadata"`
	}
	var want struct {
		Stream string  `json:"stream"`
		Events []event `json:"events"`
	}
	res, ok := r.result("event fields")
	require.True(t, ok, "there is no such result")
	require.NoError(t, json.Unmarshal(res.Details, &want))
	require.NotEmpty(t, want.Events)

	var got []event
	for e, err := range srv.Client(t).ReadStream(t.Context(), want.Stream, eventstore.Start) {
		require.NoError(t, err)
		got = append(got, event{
			ID:       e.Event.ID.String(),
			Type:     e.Event.Type,
			JSON:     e.Event.JSON,
			Data:     append([]byte{}, e.Event.Data...),
			Metadata: append([]byte{}, e.Event.Metadata...),
		})
	}
	require.Equal(t, want.Events, got)
}

// TestScenariosNotice shows that the scenarios see what a server does wrong.
func TestScenariosNotice(t *testing.T) {
	s := newScript(t)
	for _, c := range []struct {
		name, scenario string
		command        messages.Command
		fault          eventstoretest.Fault
		why            string
	}{
		{
			name:     "events that come twice",
			scenario: "live subscription",
			command:  messages.StreamEventAppeared,
			fault:    eventstoretest.Duplicate,
			why:      "came, 20 were expected",
		},
		{
			name:     "a write that is always the first",
			scenario: "write",
			command:  messages.WriteEventsCompleted,
			fault:    eventstoretest.Replace(messages.WriteEventsCompleted, []byte{0x08, 0, 0x18, 0, 0x20, 0, 0x28, 1, 0x30, 1}),
			why:      "0 !== 1",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			srv := eventstoretest.Run(t)
			defer srv.Intercept(func(f *eventstoretest.Frame) eventstoretest.Fault {
				if f.Command == c.command {
					return c.fault
				}
				return eventstoretest.Pass
			})()
			r, err := s.run(t.Context(), time.Minute, srv.URL(), nil, c.scenario)
			require.NoError(t, err)
			require.Empty(t, r.problems, "standard error: %s", r.stderr)
			require.Equal(t, []string{c.scenario}, r.failed())
			require.Contains(t, r.results[0].Error, c.why)
		})
	}
}

// TestRunnerNotices shows that a run that goes wrong is not taken for a good one.
func TestRunnerNotices(t *testing.T) {
	s := newScript(t)
	for _, c := range []struct {
		name      string
		scenarios []string
		failed    []string
		why       string // part of the error of the last result
		problems  []string
	}{
		{name: "nothing", scenarios: []string{"selftest-ok"}},
		{
			name:      "a scenario that fails, and goes on",
			scenarios: []string{"selftest-fail", "selftest-ok", "selftest-fail"},
			failed:    []string{"selftest-fail", "selftest-fail"},
			why:       "one is not two",
		},
		{
			name:      "a scenario that does not end",
			scenarios: []string{"selftest-late"},
			failed:    []string{"selftest-late"},
			why:       "not done within 0.1 s",
		},
		{
			name:      "an error that nobody handles",
			scenarios: []string{"selftest-stray"},
			failed:    []string{"selftest-stray"},
			why:       "thrown by nobody",
		},
		{
			name:      "results that are missing",
			scenarios: []string{"selftest-ok", "selftest-exit"},
			problems:  []string{`planned ["selftest-ok" "selftest-exit"], and there are results of ["selftest-ok"]`},
		},
		{
			name:      "a script that crashes",
			scenarios: []string{"selftest-crash"},
			problems:  []string{"ended by signal: killed", `planned ["selftest-crash"], and there are results of []`},
		},
		{
			name:      "a script that hangs",
			scenarios: []string{"selftest-stuck"},
			problems:  []string{"killed: it has not ended within 2s", `planned ["selftest-stuck"], and there are results of []`},
		},
		{
			name:      "a scenario that is unknown",
			scenarios: []string{"selftest-none"},
			problems:  []string{"ended by exit status 2", "no plan"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			limit := time.Minute
			if c.scenarios[0] == "selftest-stuck" {
				limit = 2 * time.Second
			}
			r, err := s.run(t.Context(), limit, "tcp://admin:changeit@127.0.0.1:1", nil, c.scenarios...)
			require.NoError(t, err)
			require.Equal(t, c.failed, r.failed())
			if c.why != "" {
				require.Contains(t, r.results[len(r.results)-1].Error, c.why)
			}
			require.Equal(t, c.problems, r.problems, "standard error: %s", r.stderr)
		})
	}
}
