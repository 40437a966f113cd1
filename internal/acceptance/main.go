// Command acceptance holds the repository to testdata/acceptance.tsv, which says for each thing that was promised which
// tests hold it. CI pipes its tests through it, and asks it in the end whether all of those passed:
//
//	go test -json ./... | go run ./internal/acceptance record results
//	go run ./internal/acceptance check results
//
// The first prints what go test without -json prints, and adds what became of each test to the file. The second fails when
// a test of the table is not among them, failed or was skipped.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
)

// tablePath is where the table is, seen from the root.
const tablePath = "testdata/acceptance.tsv"

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "acceptance:", err)
		os.Exit(1)
	}
}

func run(args []string, in io.Reader, out io.Writer) error {
	switch {
	case len(args) == 2 && args[0] == "record":
		return recordTo(args[1], in, out)
	case len(args) == 2 && args[0] == "check":
		return checkAgainst(args[1], out)
	}
	return fmt.Errorf("want record FILE or check FILE, have %q", args)
}

func recordTo(name string, in io.Reader, out io.Writer) error {
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600) // #nosec G304 G703 -- named by who runs it
	if err != nil {
		return err
	}
	results := bufio.NewWriter(f)
	err = record(in, out, results)
	if ferr := results.Flush(); err == nil {
		err = ferr
	}
	if ferr := f.Close(); err == nil {
		err = ferr
	}
	return err
}

func checkAgainst(name string, out io.Writer) error {
	b, err := os.ReadFile(tablePath)
	if err != nil {
		return err
	}
	rows, err := parseTable(string(b))
	if err != nil {
		return fmt.Errorf("%s: %w", tablePath, err)
	}
	f, err := os.Open(name) // #nosec G304 G703 -- named by who runs it
	if err != nil {
		return fmt.Errorf("no results: the tests have to run first: %w", err)
	}
	defer func() { _ = f.Close() }()
	have, err := parseResults(f)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	problems, tests := check(rows, have)
	for _, p := range problems {
		_, _ = fmt.Fprintln(out, p)
	}
	if len(problems) > 0 {
		return fmt.Errorf("%d of the tests that %s names did not pass", len(problems), tablePath)
	}
	held := 0
	for _, r := range rows {
		if len(r.tests) > 0 {
			held++
		}
	}
	_, err = fmt.Fprintf(out, "%d promises, %d of them held by %d tests, which passed; the others say why there is none\n", len(rows), held, tests)
	return err
}
