package conformance_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/admin"
	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/internal/realcluster"
)

const (
	// writeCompat has a run against a real server write down what came of it.
	writeCompat = "EVENTSTORE_TEST_COMPAT"
	// compatFolder has one file for each version of a server that the suite was run against.
	compatFolder = "../../testdata/compat"
)

// What came of a test. Behind skipped stands the reason.
const (
	passed  = "passed"
	failing = "failed"
	skipped = "skipped: "
)

// results has what came of the tests that met the real server, by their names.
var results = struct {
	sync.Mutex
	of map[string]string
}{of: map[string]string{}}

// serve is eventstoretest.Run for a test of the suite.
func serve(t *testing.T, opts ...eventstoretest.Option) *eventstoretest.Server {
	t.Helper()
	var srv *eventstoretest.Server
	t.Cleanup(func() { // the last one, which knows of what the others found
		if srv != nil && !srv.Embedded() {
			keepResult(t)
		}
	})
	srv = eventstoretest.Run(t, inDialect(t, opts)...)
	speaks(t, srv)
	return srv
}

// keepResult is for the cleanup of a test that met the real server.
func keepResult(t *testing.T) {
	t.Helper()
	results.Lock()
	defer results.Unlock()
	before := results.of[t.Name()] // with -count=2
	switch {
	case t.Failed() || before == failing:
		results.of[t.Name()] = failing
	case !t.Skipped():
		results.of[t.Name()] = passed
	case before == "":
		t.Error("a test of the suite is skipped with cannot, which keeps the reason")
	}
}

// cannot skips a test that the server, or the environment, does not allow. One in a dialect says nothing of the real server:
// only the embedded one speaks it.
func cannot(t *testing.T, format string, args ...any) {
	t.Helper()
	results.Lock()
	if results.of[t.Name()] == "" && dialectOf(t) == "" {
		results.of[t.Name()] = skipped + fmt.Sprintf(format, args...)
	}
	results.Unlock()
	t.Skipf("NOT TESTED: "+format, args...)
}

// compat is what the suite has found about one version of a server. A run of the whole suite begins anew; one of some of
// its tests (-run) is added, so that a second server, with projections or as a cluster, fills in what the first could not do.
type compat struct {
	Server  string            `json:"server"`
	Runs    []compatRun       `json:"runs"`
	Passed  int               `json:"passed"`
	Skipped int               `json:"skipped"`
	Failed  int               `json:"failed"`
	Tests   map[string]string `json:"tests"`
}

// compatRun is one run of the suite.
type compatRun struct {
	Date        string `json:"date"`
	Tests       string `json:"tests"` // all, or the pattern of -run
	Projections string `json:"projections"`
	Cluster     bool   `json:"cluster,omitempty"`
}

// add puts what came of a run in, in the place of earlier ones of its kind. What it skipped does not replace what another run
// has found.
func (c *compat) add(run compatRun, of map[string]string) {
	if run.Tests == allTests {
		c.Runs, c.Tests = nil, nil
	}
	kind := run
	c.Runs = append(slices.DeleteFunc(c.Runs, func(r compatRun) bool {
		kind.Date = r.Date
		return r == kind
	}), run)
	if c.Tests == nil {
		c.Tests = map[string]string{}
	}
	for name, result := range of {
		if c.Tests[name] == "" || !strings.HasPrefix(result, skipped) {
			c.Tests[name] = result
		}
	}
	c.count()
}

// count sets the numbers by the results.
func (c *compat) count() {
	c.Passed, c.Skipped, c.Failed = 0, 0, 0
	for _, result := range c.Tests {
		switch result {
		case passed:
			c.Passed++
		case failing:
			c.Failed++
		default:
			c.Skipped++
		}
	}
}

const allTests = "all"

// pattern says which tests were asked for.
func pattern() (string, error) {
	run, skip := flag.Lookup("test.run").Value.String(), flag.Lookup("test.skip").Value.String()
	if skip != "" || strings.Contains(run, "/") {
		return "", errors.New("-skip and a part of a test (-run with /) would make it look whole")
	}
	if run == "" {
		return allTests, nil
	}
	return run, nil
}

// askCompat asks the server what it is, if that is to be written: before the tests, one of which may end the node.
func askCompat() (info admin.Info, wanted bool, err error) {
	if os.Getenv(writeCompat) == "" {
		return info, false, nil
	}
	a, err := admin.New(os.Getenv(realHTTP), eventstore.WithCredentials("admin", "changeit"))
	if err != nil {
		return info, true, fmt.Errorf("%s, which says the version: %w", realHTTP, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), hang)
	defer cancel()
	info, err = a.Info(ctx)
	return info, true, err
}

// keepCompat writes what came of a whole run that came to its end. A run that failed is written as one, with the tests that
// did; when none of them did, but something else, nothing is written.
func keepCompat(info *admin.Info, code int) error {
	results.Lock()
	defer results.Unlock()
	if len(results.of) == 0 {
		return errors.New("no test met a real server")
	}
	if code != 0 && !slices.Contains(slices.Collect(maps.Values(results.of)), failing) {
		return errors.New("not written: the run failed, and not by a test against the real server")
	}
	tests, err := pattern()
	if err != nil {
		return err
	}
	version, err := release(info.Version)
	if err != nil {
		return err
	}
	c, err := readCompat(version)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err != nil && tests != allTests {
		return fmt.Errorf("the first run of a version is one of the whole suite: %w", err)
	}
	c.Server = version
	c.add(compatRun{
		Date: time.Now().UTC().Format(time.DateOnly), Tests: tests, Projections: info.Projections,
		Cluster: os.Getenv(realcluster.Nodes) != "",
	}, results.of)
	return c.write()
}

// release is a version as it is spoken of: 4.1.4 for 4.1.4.0.
func release(version string) (string, error) {
	parts := strings.Split(version, ".")
	if len(parts) < 3 {
		return "", fmt.Errorf("the server says that it is version %q", version)
	}
	for _, p := range parts[:3] {
		if _, err := strconv.ParseUint(p, 10, 16); err != nil {
			return "", fmt.Errorf("the server says that it is version %q", version)
		}
	}
	return strings.Join(parts[:3], "."), nil
}

func compatFile(version string) string { return filepath.Join(compatFolder, version+".json") }

func readCompat(version string) (compat, error) {
	var c compat
	text, err := os.ReadFile(compatFile(version))
	if err != nil {
		return c, err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return c, fmt.Errorf("%s: %w", compatFile(version), err)
	}
	return c, nil
}

func (c *compat) write() error {
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(compatFolder, 0o755); err != nil {
		return err
	}
	return os.WriteFile(compatFile(c.Server), append(text, '\n'), 0o600)
}

// TestServersOfTheREADME: what the README says of real servers are the files that runs against them have written. A server
// whose run failed is not in it.
func TestServersOfTheREADME(t *testing.T) {
	if os.Getenv(writeCompat) != "" {
		t.Skip("NOT COMPARED: this run writes what it would be compared with")
	}
	files, err := filepath.Glob(filepath.Join(compatFolder, "*.json"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	rows := []string{"| Server | Tests that passed | Not run | On |", "|---|---|---|---|"}
	slices.Sort(files)
	for _, file := range files {
		version := strings.TrimSuffix(filepath.Base(file), ".json")
		c, err := readCompat(version)
		require.NoError(t, err)
		require.Equal(t, version, c.Server, file)
		require.NotEmpty(t, c.Runs, file)
		is := c
		is.count()
		require.Equal(t, is, c, "%s: the numbers are those of its tests", file)
		for name, result := range c.Tests {
			ok := result == passed || result == failing || len(result) > len(skipped) && strings.HasPrefix(result, skipped)
			require.True(t, ok, "%s: %s is %q", file, name, result)
		}
		if c.Failed == 0 {
			rows = append(rows, fmt.Sprintf("| [%s](testdata/compat/%s.json) | %d | %d | %s |",
				version, version, c.Passed, c.Skipped, c.Runs[len(c.Runs)-1].Date))
		}
	}
	const file = "../../README.md"
	page, err := os.ReadFile(file)
	require.NoError(t, err)
	const begin, end = "<!-- testdata/compat -->\n", "<!-- end -->\n"
	head, rest, ok := strings.Cut(string(page), begin)
	require.True(t, ok)
	is, tail, ok := strings.Cut(rest, end)
	require.True(t, ok)
	want := strings.Join(rows, "\n") + "\n"
	if os.Getenv("UPDATE_DOCS") != "" {
		require.NoError(t, os.WriteFile(file, []byte(head+begin+want+end+tail), 0o600))
		return
	}
	require.Equal(t, want, is, "%s says what testdata/compat says; UPDATE_DOCS=1 with this test writes it", file)
}

func TestCompatRunsAreMerged(t *testing.T) {
	var c compat
	c.add(compatRun{Tests: allTests}, map[string]string{"A": passed, "B": skipped + "no cluster", "C": failing, "D": skipped + "why"})
	require.Equal(t, []int{1, 2, 1}, []int{c.Passed, c.Skipped, c.Failed})
	c.add(compatRun{Tests: "B|C|A"}, map[string]string{"A": skipped + "no", "B": passed, "C": passed, "E": failing})
	require.Equal(t, map[string]string{"A": passed, "B": passed, "C": passed, "D": skipped + "why", "E": failing}, c.Tests)
	require.Equal(t, []int{3, 1, 1}, []int{c.Passed, c.Skipped, c.Failed})
	c.add(compatRun{Tests: "B|C|A", Date: "later"}, nil)
	require.Equal(t, []compatRun{{Tests: allTests}, {Tests: "B|C|A", Date: "later"}}, c.Runs)
	// What one run has found, one of the whole suite does not keep.
	c.add(compatRun{Tests: allTests}, map[string]string{"A": passed})
	require.Equal(t, compat{Runs: []compatRun{{Tests: allTests}}, Passed: 1, Tests: map[string]string{"A": passed}}, c)
}

func TestReleases(t *testing.T) {
	for is, want := range map[string]string{"4.1.4.0": "4.1.4", "23.10.0.0": "23.10.0", "21.10.9": "21.10.9", "5.0.11.0-rc1": "5.0.11"} {
		got, err := release(is)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	for _, is := range []string{"", "4.1", "../4.1.4", "4.1.x.0"} {
		_, err := release(is)
		require.Error(t, err, is)
	}
}
