package faultnet_test

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/internal/faultnet"
	"github.com/goeventstore/eventstore/internal/memnet"
)

// fakeTB stands in for a test: it keeps what it is told.
type fakeTB struct {
	testing.TB
	name     string
	failed   bool
	log      string
	cleanups []func()
}

func (*fakeTB) Helper()            {}
func (f *fakeTB) Name() string     { return f.name }
func (f *fakeTB) Failed() bool     { return f.failed }
func (f *fakeTB) Cleanup(c func()) { f.cleanups = append(f.cleanups, c) }

func (f *fakeTB) Logf(format string, args ...any) { f.log += fmt.Sprintf(format, args...) }

func (f *fakeTB) Fatalf(format string, args ...any) {
	f.Logf(format, args...)
	f.failed = true
	runtime.Goexit()
}

// seeds returns what Seeds gives, and what it says when it ends the test.
func seeds(def int) (all []uint64, fatal string) {
	tb := &fakeTB{}
	done := make(chan struct{}) // closed by the test's goroutine, which Fatalf ends
	go func() {
		defer close(done)
		all = slices.Collect(faultnet.Seeds(tb, def))
	}()
	<-done
	return all, tb.log
}

func TestSeeds(t *testing.T) {
	for _, c := range []struct {
		seed, count string
		want        []uint64
		fatal       string
	}{
		{want: []uint64{1, 2, 3}},
		{count: "2", want: []uint64{1, 2}},
		{count: "5", want: []uint64{1, 2, 3, 4, 5}},
		{seed: "17", want: []uint64{17}},
		{seed: "18446744073709551615", count: "5", want: []uint64{1<<64 - 1}},
		{seed: "x", fatal: "SEED: "},
		{count: "0", fatal: "SEEDS=0 is not a number of seeds"},
		{count: "-1", fatal: "SEEDS=-1 is not a number of seeds"},
	} {
		t.Setenv("SEED", c.seed)
		t.Setenv("SEEDS", c.count)
		got, fatal := seeds(3)
		require.Equal(t, c.want, got, "%+v", c)
		require.True(t, strings.HasPrefix(fatal, c.fatal), fatal)
		require.Equal(t, c.fatal == "", fatal == "", fatal)
	}
}

func TestSeedsStop(t *testing.T) {
	t.Setenv("SEED", "")
	t.Setenv("SEEDS", "")
	for seed := range faultnet.Seeds(t, 20) {
		require.Equal(t, uint64(1), seed)
		break
	}
}

func TestReport(t *testing.T) {
	// The first seed that repeats the first frame to the server.
	var plan faultnet.Plan
	seed := uint64(0)
	for wanted := func(f faultnet.Fault) bool { return f.At.Dir == faultnet.ToServer && f.At.Frame == 1 }; !slices.ContainsFunc(plan.Conn(1), wanted); {
		seed++
		plan = faultnet.Random(seed, faultnet.Options{Kinds: []faultnet.Kind{faultnet.Duplicate}, Frames: 2})
	}
	for _, failed := range []bool{true, false} {
		tb := &fakeTB{name: "TestIt's/seed/a+b"}
		fn := faultnet.New(memnet.New(), plan)
		faultnet.Report(tb, fn)
		_, err := fn.Dial(t.Context(), "tcp", "nobody:1113")
		require.Error(t, err)
		client, server := dial(t, fn)
		write(t, client, stream)
		write(t, server, stream)
		read(t, client, len(stream))
		require.NoError(t, client.Close())

		tb.failed = failed
		for _, c := range tb.cleanups {
			c()
		}
		if !failed {
			require.Empty(t, tb.log)
			continue
		}
		for _, want := range []string{
			fmt.Sprintf("seed %d\nplan: ", seed) + plan.String() + "\n",
			"which for connections 1 to 1 is: " + plan.Fixed(1).String() + "\n",
			"dial tcp nobody:1113: connect: connection refused\n",
			"connection 1 to 127.0.0.1:20000\n",
			"connection 1 to-server, byte 0, frame 1 + 0: duplicate at conn1-to-server-frame1+",
			"connection 1 closed by the client\n",
			fmt.Sprintf("\nseed %[1]d: SEED=%[1]d go test ", seed),
			`-run '^TestIt'\''s$/^seed$/^a\+b$' -count=100 ./internal/faultnet`,
		} {
			require.Contains(t, tb.log, want)
		}
	}
}

func TestRepeatWithoutASeed(t *testing.T) {
	command := faultnet.Repeat(t, faultnet.Faults())
	require.Regexp(t, `^repeat: go test (-race )?-run '\^TestRepeatWithoutASeed\$' -count=100 \./internal/faultnet$`, command)
	require.Equal(t, "plan: faultnet.Faults()\ntrace: 0 faults happened; the last 0 of 0 entries:",
		faultnet.New(memnet.New(), faultnet.Plan{}).Explain())
}

func TestTheTraceIsBounded(t *testing.T) {
	n := faultnet.New(memnet.New(), faultnet.Plan{})
	for range 1000 {
		_, err := n.Dial(t.Context(), "tcp", "nobody:1")
		require.Error(t, err)
	}
	require.Contains(t, n.Trace(), "the last 256 of 1000 entries:")
	require.Equal(t, 256, strings.Count(n.Trace(), "\n"))
	require.Zero(t, n.Conns())
}
