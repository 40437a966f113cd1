// Package kills is for tests that kill processes: of the test's own program, which does what a variable of its environment says.
package kills

import (
	"bufio"
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// Plan is how often a test kills, and when: a seed fixes the plan, not what the processes do meanwhile.
type Plan struct {
	Kills  int
	Seed   uint64
	Random *rand.Rand
}

// Make makes the plan of a test: as many kills as the variable KILLS says, or def, by the seed that SEED says, or another one each
// time. When the test fails it logs how to repeat it.
func Make(tb testing.TB, def int) Plan {
	tb.Helper()
	p := Plan{Kills: def, Seed: uint64(time.Now().UnixNano() % 1e6)}
	var err error
	if s := os.Getenv("KILLS"); s != "" {
		if p.Kills, err = strconv.Atoi(s); err != nil {
			tb.Fatalf("KILLS: %v", err)
		}
	}
	if s := os.Getenv("SEED"); s != "" {
		if p.Seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			tb.Fatalf("SEED: %v", err)
		}
	}
	p.Random = rand.New(rand.NewPCG(p.Seed, 0)) // #nosec G404 -- a plan is to be repeated
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("to repeat, in the test's folder: SEED=%d KILLS=%d go test -run '^%s$' -count=10 .", p.Seed, p.Kills, tb.Name())
		}
	})
	return p
}

// Process is the test's program, started once more.
type Process struct {
	*exec.Cmd
	Lines  *bufio.Scanner // of its standard output
	Stderr bytes.Buffer   // complete behind Wait
}

// Start starts the test's program with a variable set ("NAME=value"). Its standard input ends when the test's process does, and it
// should end then. When ctx ends it tells where it hangs, and is killed if it does not.
func Start(tb testing.TB, ctx context.Context, variable string, args ...string) *Process { //nolint:revive // tb comes first
	tb.Helper()
	program, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	p := &Process{Cmd: exec.CommandContext(ctx, program, args...)} // #nosec G204 -- it is this program
	p.Env = append(os.Environ(), variable)
	p.Cmd.Stderr = &p.Stderr
	p.Cancel = func() error { return p.Process.Signal(syscall.SIGQUIT) }
	p.WaitDelay = 5 * time.Second
	out, err := p.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if _, err = p.StdinPipe(); err != nil {
		tb.Fatal(err)
	}
	if err := p.Start(); err != nil {
		tb.Fatal(err)
	}
	p.Lines = bufio.NewScanner(out)
	return p
}

// Kill kills it. Wait tells when it is gone.
func (p *Process) Kill() { _ = p.Process.Kill() }
