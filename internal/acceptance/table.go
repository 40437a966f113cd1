package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A row is one promise. It has tests, or a note that begins with one of the reasons; a row with tests may have a note about
// what they leave out.
type row struct {
	id, promise string
	tests       []named
	note        string
}

// named is a test: the folder of its package, relative to the root, and its name, which may be that of a subtest.
type named struct{ folder, test string }

func (n named) String() string { return n.folder + ":" + n.test }

// reasons are how the note of a row without tests begins.
var reasons = []string{"later: ", "none: ", "open: "}

// parseTable reads the rows of the table: four columns with tabs between them. Lines that begin with # are comments, and the
// first other line has the names of the columns.
func parseTable(text string) (rows []row, err error) {
	seen := map[string]bool{}
	head := true
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSuffix(line, "\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		columns := strings.Split(line, "\t")
		if head {
			head = false
			if !slices.Equal(columns, []string{"id", "what is promised", "tests", "note"}) {
				return nil, fmt.Errorf("line %d: the columns are %q", n, columns)
			}
			continue
		}
		r, rerr := parseRow(columns)
		if rerr == nil && seen[r.id] {
			rerr = fmt.Errorf("%s is there twice", r.id)
		}
		if rerr != nil {
			err = errors.Join(err, fmt.Errorf("line %d: %w", n, rerr))
			continue
		}
		seen[r.id] = true
		rows = append(rows, r)
	}
	if err == nil && len(rows) == 0 {
		err = errors.New("no rows")
	}
	return rows, err
}

func parseRow(columns []string) (row, error) {
	if len(columns) != 4 {
		return row{}, fmt.Errorf("%d columns", len(columns))
	}
	r := row{id: columns[0], promise: columns[1], note: columns[3]}
	if r.id == "" || r.promise == "" {
		return r, errors.New("no id, or nothing promised")
	}
	for test := range strings.FieldsSeq(columns[2]) {
		folder, name, ok := strings.Cut(test, ":")
		if !ok || folder == "" || name == "" {
			return r, fmt.Errorf("%s: want FOLDER:TEST, have %q", r.id, test)
		}
		r.tests = append(r.tests, named{folder, name})
	}
	reasoned := slices.ContainsFunc(reasons, func(reason string) bool { return len(r.note) > len(reason) && strings.HasPrefix(r.note, reason) })
	if len(r.tests) == 0 && !reasoned {
		return r, fmt.Errorf("%s: neither tests nor a note that begins with one of %q", r.id, reasons)
	}
	return r, nil
}

// check returns what is wrong with the tests that the rows name, and how many different ones they are. A test counts as skipped
// when a part of it was.
func check(rows []row, have results) (problems []string, tests int) {
	asked := map[named][]string{}
	for _, r := range rows {
		for _, test := range r.tests {
			asked[test] = append(asked[test], r.id)
		}
	}
	for test, ids := range asked {
		if is := have.of(test); is != "pass" {
			problems = append(problems, fmt.Sprintf("%s: %s (%s)", test, is, strings.Join(ids, ", ")))
		}
	}
	slices.Sort(problems)
	return problems, len(asked)
}
