package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/goeventstore/eventstore/internal/kills"
)

// With this variable set the test binary is the bank itself, until its standard input ends: the kill test starts it so.
const bankVariable = "BANK_TEST_PROCESS"

func TestMain(m *testing.M) {
	if os.Getenv(bankVariable) == "" {
		goleak.VerifyTestMain(m)
		return
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(3)
	}()
	main()
	os.Exit(0)
}

func TestASecondStartFindsEverythingDone(t *testing.T) {
	target, folder := outside(t), filepath.Join(t.TempDir(), "made", "when", "needed")
	first := table(t, "-events", "2000", "-seed", "7", "-connect", target, "-db", folder)
	require.Equal(t, table(t, "-events", "2000", "-seed", "7"), first, "as in memory")
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), []string{"-connect", target, "-db", folder}, &out))
	require.Contains(t, out.String(), "\ngoes on: of 2000 events 2000 are written, 2000 projected\n")
	require.Contains(t, out.String(), "\nwrote 0 events")
	require.Equal(t, first, cut(out.String()))

	for _, other := range [][]string{{"-seed", "8"}, {"-events", "2001"}} {
		err := run(t.Context(), append(other, "-connect", target, "-db", folder), &out)
		require.EqualError(t, err, folder+" keeps a run with -seed 7 -events 2000: go on with these, or take another folder")
	}
}

func TestAnInterruptedRunIsFinishedByTheNext(t *testing.T) {
	target, folder := outside(t), t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	client, err := connect(ctx, target)
	require.NoError(t, err)
	defer func() { require.NoError(t, client.Close()) }()
	d, err := openDisk(folder)
	require.NoError(t, err)
	p, projected, err := d.begin(ctx, plan{Category: "bankinterrupted", Seed: 7, Events: 2000}, nil)
	require.NoError(t, err)
	require.Zero(t, projected)
	require.NoError(t, write(ctx, client, p, nil))

	// Three batches are projected, and no more.
	followed := make(chan error, 1)
	go func() { followed <- d.follow(ctx, client, plan{Category: p.Category, Events: 1500}) }()
	require.NoError(t, <-followed)
	_, _, err = d.begin(ctx, p, nil)
	require.NoError(t, err)
	_, err = openDisk(folder)
	require.EqualError(t, err, filepath.Join(folder, "bank.db")+" is open in another process")
	require.NoError(t, d.Close())

	var out bytes.Buffer
	require.NoError(t, run(ctx, []string{"-connect", target, "-db", folder}, &out))
	require.Contains(t, out.String(), "category bankinterrupted\ngoes on: of 2000 events 2000 are written, 1500 projected\n")
	require.Equal(t, table(t, "-events", "2000", "-seed", "7"), cut(out.String()))
}

// A process is killed with a batch on its way. The next one looks, finds that nothing is there, and then the batch arrives.
func TestABatchThatArrivesLateIsNotWrittenTwice(t *testing.T) {
	client, err := connect(t.Context(), outside(t))
	require.NoError(t, err)
	defer func() { require.NoError(t, client.Close()) }()
	p := plan{Category: "banklate", Seed: 1, Events: 1200}
	var lengths map[string]int
	for range 2 {
		require.NoError(t, write(t.Context(), client, p, nil))
		var all int
		lengths, all, err = lengthsOf(t.Context(), client, p)
		require.NoError(t, err)
		require.Equal(t, p.Events, all)
	}
	// Of some accounts all is known, of others nothing.
	delete(lengths, "account-02")
	lengths["account-03"] = 0
	require.NoError(t, write(t.Context(), client, p, lengths))
	_, all, err := lengthsOf(t.Context(), client, p)
	require.NoError(t, err)
	require.Equal(t, p.Events, all)
}

// Without a server outside the log is in the folder of the balances, and the next start finds both.
func TestAFolderHasTheLogToo(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "made")
	first := table(t, "-events", "2000", "-seed", "7", "-db", folder)
	require.Equal(t, table(t, "-events", "2000", "-seed", "7"), first, "as in memory")
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), []string{"-db", folder}, &out))
	require.Contains(t, out.String(), "\ngoes on: of 2000 events 2000 are written, 2000 projected\n")
	require.Equal(t, first, cut(out.String()))
}

// The bank is killed again and again, writer and read model at once, until it has finished: with the table of a run that
// nobody has killed, with a server outside or with the log in the folder. KILLS says how often at most, SEED when.
func TestAKilledRunEndsWithTheSameTable(t *testing.T) {
	t.Run("server outside", func(t *testing.T) { killedRun(t, "-connect", outside(t)) })
	t.Run("log in the folder", func(t *testing.T) { killedRun(t) })
}

func killedRun(t *testing.T, args ...string) {
	t.Helper()
	plan := kills.Make(t, 10)
	events := strconv.Itoa(2000 * plan.Kills) // what is left is more than what a life of a few milliseconds does
	args = append(args, "-db", t.TempDir(), "-events", events, "-seed", fmt.Sprint(plan.Seed))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute+2*time.Second*time.Duration(plan.Kills))
	defer cancel()

	var places []string
	longest := 20 * time.Millisecond
	for range plan.Kills {
		if len(places) == 0 { // a slow machine does nothing in so short a life
			longest += 20 * time.Millisecond
		}
		out, killed := live(t, ctx, plan.Random, longest, args)
		if !killed {
			break
		}
		if _, place, ok := strings.Cut(out, "goes on: of "+events+" events "); ok {
			place, _, _ = strings.Cut(place, "\n")
			places = append(places, place)
		}
	}
	require.NotEmpty(t, places, "no life that was killed went on with an earlier one's work")
	out, _ := live(t, ctx, nil, 0, args)
	require.Equal(t, table(t, "-events", events, "-seed", fmt.Sprint(plan.Seed)), cut(out))
	t.Logf("seed %d: %d lives went on and were killed:\n%s", plan.Seed, len(places), strings.Join(places, "\n"))
}

// live runs the bank as a process, and kills it a moment after it has begun, the longest at most, if there are random numbers for
// that.
func live(t *testing.T, ctx context.Context, random *rand.Rand, longest time.Duration, args []string) (out string, killed bool) { //nolint:revive // t comes first
	t.Helper()
	p := kills.Start(t, ctx, bankVariable+"=1", args...)
	for begun := false; p.Lines.Scan(); {
		out += p.Lines.Text() + "\n"
		if random != nil && !begun {
			begun = true
			timer := time.AfterFunc(time.Duration(random.Int64N(int64(longest))), p.Kill)
			defer timer.Stop()
		}
	}
	err := p.Wait()
	require.NoError(t, ctx.Err(), "it hangs: %s", &p.Stderr)
	if random != nil && err != nil {
		require.Equal(t, -1, p.ProcessState.ExitCode(), "%s", &p.Stderr)
		return out, true
	}
	require.NoError(t, err, "%s", &p.Stderr)
	return out, false
}
