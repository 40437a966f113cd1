package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/bench/contend"
)

// The processes of servers and contenders are this program, which is the test here.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && roles[os.Args[1]] != nil {
		if err := roles[os.Args[1]](); err != nil {
			_, _ = fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// Every contender that is there does every case, first against the embedded server and then against the canned one.
func TestEveryContenderDoesEveryCase(t *testing.T) {
	var progress, out strings.Builder
	require.NoError(t, run([]string{"-strict", "-json", "-rounds", "1", "-time", "20ms"}, &out, &progress))
	var rows []map[string]any
	require.NoError(t, json.Unmarshal([]byte(out.String()), &rows))
	require.Len(t, rows, len(cases)*len(contenders))
	for _, r := range rows {
		if r["error"] != nil {
			require.Equal(t, peer, r["contender"])
			require.ErrorContains(t, errors.New(r["error"].(string)), errNotBuilt.Error())
			continue
		}
		require.Positive(t, r["ops_per_s"], "%v", r)
		require.Positive(t, r["cpu_us_per_op"], "%v", r)
		require.Contains(t, r, "allocs_per_op")
		require.Positive(t, r["ratio_to_l1"], "%v", r)
		require.Contains(t, r, "ratio_to_peer")
	}
}

// A contender that says that it did more than the server has seen is found out.
func TestWhatTheServerHasNotSeen(t *testing.T) {
	for _, server := range []string{cannedServer, embeddedServer} {
		for _, c := range []benchCase{cases[0], {"read", reads(16, false)}, {"group", group(8)}} {
			if server == embeddedServer && c.task.Read {
				continue // there every event is looked at
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			b, err := start(ctx, server, &c.task)
			require.NoError(t, err)
			task := c.task
			task.Contender, task.Count = library, 2
			task.Addr, task.User, task.Password, task.Stream = b.addr, b.user, b.password, b.stream
			r, err := contender(ctx, &task, "")
			require.NoError(t, err)
			r.Ops++
			require.Error(t, b.check(ctx, &task, &r))
			require.NoError(t, b.close(ctx))
			cancel()
		}
	}
}

func TestAContenderThatFails(t *testing.T) {
	took := func(ops int64) []contend.Result {
		return []contend.Result{{Ops: ops, Elapsed: time.Second, Cost: contend.Cost{CPU: time.Second, Allocs: 5}, P50: time.Microsecond}}
	}
	r := &results{
		cases: cases[:1], server: cannedServer, loads: [2]string{"1 2 3", "4 5 6"},
		bench: map[string]map[string]*entry{"append1": {
			library: {rounds: took(100)}, peer: {err: errors.New("dropped")}, frames: {rounds: took(400)}, decoded: {rounds: took(200)},
		}},
	}
	require.EqualError(t, r.failures(), "gesclient in append1: dropped")
	var out strings.Builder
	require.NoError(t, r.table(&out))
	require.Contains(t, out.String(), "FAILS")
	require.Contains(t, out.String(), "dropped")
	require.NotContains(t, out.String(), "NaN")
	out.Reset()
	require.NoError(t, r.json(&out))
	var rows []row
	require.NoError(t, json.Unmarshal([]byte(out.String()), &rows))
	require.Nil(t, rows[0].RatioToPeer)
	require.InDelta(t, 0.5, *rows[0].RatioToL1, 1e-9)
	require.InDelta(t, 0.05, rows[0].AllocsPerOp, 1e-9)
	require.Equal(t, "dropped", rows[1].Error)
}

func TestSpread(t *testing.T) {
	require.Equal(t, spread{2, 1, 9}, newSpread([]float64{9, 1, 2}))
	require.Equal(t, spread{1.5, 1, 2}, newSpread([]float64{2, 1}))
}

func TestArguments(t *testing.T) {
	for args, want := range map[string]string{
		"-case nothing": `no case is called "nothing"`,
		"-rounds 0":     "want more than 0",
		"append1":       `what is "append1"?`,
		"-server ftp://x -case append1 -rounds 1": "want canned, embedded or tcp://",
	} {
		var out, progress strings.Builder
		err := run(append(strings.Fields(args), "-strict"), &out, &progress)
		require.ErrorContains(t, err, want)
	}
}
