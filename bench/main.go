// Command bench compares this library with a peer, and with the limits of what a client can do:
//
//	go run -C bench .                               # all cases, as a table
//	go run -C bench . -case append128 -rounds 3     # one case
//	go run -C bench . -json                         # as JSON
//	go run -C bench . -server embedded              # against the embedded server, or tcp://user:password@host:port
//	go run -C bench . -case append1 -profile DIR    # with CPU profiles of the library
//
// README.md says what the cases and the contenders are and how to read the result.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/goeventstore/eventstore/bench/contend"
)

func main() {
	if len(os.Args) == 2 { // the other processes are this program too
		if role := roles[os.Args[1]]; role != nil {
			if err := role(); err != nil {
				_, _ = fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			return
		}
	}
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			_, _ = fmt.Fprintln(os.Stderr, "bench:", err)
		}
		os.Exit(1)
	}
}

const (
	roleContender = "be-contender"
	roleServer    = "be-server"
)

var roles = map[string]func() error{
	roleContender: func() error { return contend.Main(connect) },
	roleServer:    serve,
}

// connect makes the load of a contender of this program.
func connect(t *contend.Task) (contend.Load, error) {
	if t.Contender == library {
		return newLibrary(t)
	}
	return newLimit(t)
}

type options struct {
	server  string
	rounds  int
	run     time.Duration
	profile string
	strict  bool
}

func run(args []string, out, progress io.Writer) error {
	var o options
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(progress)
	only := f.String("case", "", "the cases to run, by commas; default: all")
	f.IntVar(&o.rounds, "rounds", 5, "how often each contender runs each case")
	f.DurationVar(&o.run, "time", 600*time.Millisecond, "how long each runs, after a quarter of it to warm up")
	f.StringVar(&o.server, "server", cannedServer, "canned, embedded, or the address of a real one")
	asJSON := f.Bool("json", false, "print JSON instead of a table")
	f.StringVar(&o.profile, "profile", "", "a folder for CPU profiles of the library")
	f.BoolVar(&o.strict, "strict", false, "fail when a contender fails; one that cannot be built is left out")
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() > 0 {
		return fmt.Errorf("what is %q? -help shows the flags", f.Arg(0))
	}
	if o.rounds < 1 || o.run <= 0 {
		return errors.New("-rounds and -time want more than 0")
	}
	chosen, err := choose(*only)
	if err != nil {
		return err
	}
	results, err := compare(&o, chosen, progress)
	if err != nil {
		return err
	}
	if *asJSON {
		err = results.json(out)
	} else {
		err = results.table(out)
	}
	if o.strict {
		err = errors.Join(err, results.failures())
	}
	return err
}

func choose(names string) ([]benchCase, error) {
	if names == "" {
		return cases, nil
	}
	var chosen []benchCase
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(cases, func(c benchCase) bool { return c.name == name })
		if i < 0 {
			return nil, fmt.Errorf("no case is called %q; there are %s", name, caseNames())
		}
		chosen = append(chosen, cases[i])
	}
	return chosen, nil
}
