package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

const module = "github.com/goeventstore/eventstore"

// event is a line of go test -json.
type event struct {
	Action, Package, Test, Output string
}

// A progress is a package while its tests run: what it printed, and the tests that have not passed yet.
type progress struct {
	printed []event
	failing map[string]bool // and those that have not ended
}

// record reads what go test -json prints. To out goes what go test prints without it: a line for each package, and all that
// tests printed that failed. To results goes a line for each test that ended.
func record(in io.Reader, out, results io.Writer) error {
	runs := map[string]*progress{}
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			if werr := recordLine(line, runs, out, results); werr != nil {
				return werr
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func recordLine(line string, runs map[string]*progress, out, results io.Writer) error {
	var e event
	if err := json.Unmarshal([]byte(line), &e); err != nil {
		_, err = io.WriteString(out, line) // of the go command itself
		return err
	}
	if e.Action == "build-output" {
		_, err := io.WriteString(out, e.Output)
		return err
	}
	if e.Package == "" {
		return nil
	}
	r := runs[e.Package]
	if r == nil {
		r = &progress{failing: map[string]bool{}}
		runs[e.Package] = r
	}
	switch e.Action {
	case "run":
		r.failing[e.Test] = true
	case "output":
		r.printed = append(r.printed, e)
	case "pass", "skip", "fail":
		if e.Test == "" {
			delete(runs, e.Package)
			return r.print(e.Action, out)
		}
		if e.Action != "fail" {
			delete(r.failing, e.Test)
		}
		folder := strings.TrimPrefix(strings.TrimPrefix(e.Package, module), "/")
		if folder == "" {
			folder = "."
		}
		_, err := fmt.Fprintf(results, "%s\t%s\t%s\n", e.Action, folder, e.Test)
		return err
	}
	return nil
}

// print shows a package that has ended.
func (r *progress) print(action string, out io.Writer) error {
	for _, e := range r.printed {
		verdict := strings.HasPrefix(e.Output, "ok  \t") || strings.HasPrefix(e.Output, "?   \t")
		switch {
		case e.Test == "" && (action == "fail" || verdict):
		case e.Test != "" && r.failing[e.Test] && !strings.HasPrefix(e.Output, "=== "):
		default:
			continue
		}
		if _, err := io.WriteString(out, e.Output); err != nil {
			return err
		}
	}
	return nil
}

// results are what became of tests.
type results map[named]string

func parseResults(in io.Reader) (results, error) {
	have := results{}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		columns := strings.Split(lines.Text(), "\t")
		if len(columns) != 3 {
			return nil, fmt.Errorf("no result: %q", lines.Text())
		}
		have.add(named{columns[1], columns[2]}, columns[0])
	}
	return have, lines.Err()
}

// rank orders what may become of a test that runs more than once: a failure counts, and to be skipped here does not when it
// passed there.
var rank = map[string]int{"skip": 1, "pass": 2, "fail": 3}

func (r results) add(test named, action string) {
	if rank[action] > rank[r[test]] {
		r[test] = action
	}
}

// of is what became of a test and its subtests, in words.
func (r results) of(test named) string {
	switch r[test] {
	case "":
		return "did not run"
	case "fail":
		return "failed"
	case "skip":
		return "was skipped"
	}
	for other, action := range r {
		if action == "skip" && other.folder == test.folder && strings.HasPrefix(other.test, test.test+"/") {
			return "was skipped in part: " + other.test
		}
	}
	return "pass"
}
