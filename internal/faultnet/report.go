package faultnet

import (
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
)

// The environment variables of chaos tests.
const (
	seedVariable  = "SEED"  // the only seed to run
	seedsVariable = "SEEDS" // how many to run
)

// Seeds are the seeds that a chaos test runs: 1 to def, or as many as the environment variable SEEDS says, or only the
// one that SEED names. Variables that make no sense end the test.
func Seeds(tb testing.TB, def int) iter.Seq[uint64] {
	tb.Helper()
	first, count := uint64(1), uint64(max(def, 0))
	if s := os.Getenv(seedVariable); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			tb.Fatalf("%s: %v", seedVariable, err)
		}
		first, count = seed, 1
	} else if s := os.Getenv(seedsVariable); s != "" {
		n, err := strconv.ParseUint(s, 10, 31)
		if err != nil || n == 0 {
			tb.Fatalf("%s=%s is not a number of seeds", seedsVariable, s)
		}
		count = n
	}
	return func(yield func(uint64) bool) {
		for i := range count {
			if !yield(first + i) {
				return
			}
		}
	}
}

// Report logs, if the test has failed when it ends, what [Network.Explain] tells and the command that repeats the test.
func Report(tb testing.TB, n *Network) {
	tb.Helper()
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("%s\n%s", n.Explain(), Repeat(tb, n.plan))
		}
	})
}

// Repeat returns the command that repeats a test with its plan, many times: a seed fixes the plan, not the order in
// which goroutines run.
func Repeat(tb testing.TB, plan Plan) string {
	tb.Helper()
	var b strings.Builder
	if seed, ok := plan.Seed(); ok {
		fmt.Fprintf(&b, "seed %d: %s=%d ", seed, seedVariable, seed)
	} else {
		b.WriteString("repeat: ")
	}
	b.WriteString("go test ")
	if raceDetector() {
		b.WriteString("-race ")
	}
	levels := strings.Split(tb.Name(), "/")
	for i, l := range levels {
		levels[i] = "^" + regexp.QuoteMeta(l) + "$"
	}
	run := strings.ReplaceAll(strings.Join(levels, "/"), "'", `'\''`)
	fmt.Fprintf(&b, "-run '%s' -count=100 %s", run, packageFolder())
	return b.String()
}

// packageFolder returns the folder of the tested package, where go test starts a test, seen from its module's.
func packageFolder() string {
	dir, err := os.Getwd()
	if err != nil {
		return "."
	}
	for root := dir; ; root = filepath.Dir(root) {
		if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
			rel, err := filepath.Rel(root, dir)
			if err != nil || rel == "." {
				return "."
			}
			return "./" + filepath.ToSlash(rel)
		}
		if root == filepath.Dir(root) {
			return "."
		}
	}
}

func raceDetector() bool {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return false
	}
	for _, s := range info.Settings {
		if s.Key == "-race" {
			return s.Value == "true"
		}
	}
	return false
}
