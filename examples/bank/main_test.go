package main

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/server"
)

// table is what two runs with one seed have in common.
func table(t *testing.T, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), args, &out))
	require.Regexp(t, `^category bank[0-9a-f]{32}\n`, out.String())
	require.Regexp(t, `wrote \d+ events in .* \(\d+ events/s\), projected in .* \(\d+ events/s\)\n$`, out.String())
	return cut(out.String())
}

// cut leaves out what differs from run to run.
func cut(out string) string {
	return regexp.MustCompile(`(?m)^(category|goes on|wrote).*\n`).ReplaceAllString(out, "")
}

// outside starts a server that lives on when a run ends, and returns its target.
func outside(t *testing.T) string {
	t.Helper()
	srv, err := server.Start(server.Config{Projections: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, srv.Close()) })
	return strings.Replace(srv.URL(), "tcp://", "tcp://admin:changeit@", 1)
}

func TestTwoRunsWithOneSeedPrintTheSameTable(t *testing.T) {
	first := table(t, "-events", "2000", "-seed", "7")
	require.Equal(t, first, table(t, "-events", "2000", "-seed", "7"))
	require.NotEqual(t, first, table(t, "-events", "2000", "-seed", "8"))
	require.Contains(t, first, "account-10")
	require.Contains(t, first, "closed")
	require.Contains(t, first, "deposits")
}

func TestAServerOutsideGivesTheSameTable(t *testing.T) {
	require.Equal(t, table(t, "-events", "1500"), table(t, "-events", "1500", "-connect", outside(t)))
}

func TestAnySizeWorks(t *testing.T) {
	for _, n := range []string{"1", "2", "10", "11", "12", "13", "499", "500", "501"} {
		table(t, "-events", n)
	}
}

// A server that makes no index is told from one that is slow.
func TestAServerWithoutProjectionsIsSaidInASentence(t *testing.T) {
	srv, err := server.Start(server.Config{})
	require.NoError(t, err)
	defer func() { require.NoError(t, srv.Close()) }()
	defer func(before time.Duration) { projectionTime = before }(projectionTime)
	projectionTime = 200 * time.Millisecond
	var out bytes.Buffer
	err = run(t.Context(), []string{"-events", "20", "-connect", strings.Replace(srv.URL(), "tcp://", "tcp://admin:changeit@", 1)}, &out)
	require.ErrorContains(t, err, "are the server's system projections running?")
}

func TestNobodyThereIsSaidInASentence(t *testing.T) {
	var out bytes.Buffer
	err := run(t.Context(), []string{"-connect", "tcp://admin:s3cret@127.0.0.1:1"}, &out)
	require.ErrorContains(t, err, "no EventStore server answers at 127.0.0.1:1")
	require.NotContains(t, err.Error(), "s3cret")
	require.ErrorContains(t, run(t.Context(), []string{"-events", "0"}, &out), "want at least 1")
	require.ErrorContains(t, run(t.Context(), []string{"-connect", "http://127.0.0.1:2113"}, &out), "want tcp://127.0.0.1:1113")
}
