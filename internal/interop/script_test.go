package interop_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	nodeVariable = "EVENTSTORE_TEST_NODE" // what needs node fails when it is set, and is skipped otherwise
	installTime  = time.Minute
	scriptTime   = 210 * time.Second // more than the limits of all scenarios together; they take some ten seconds
)

// A script is client.js, ready to run.
type script struct {
	node    string // the program
	modules string // the folder with what it needs
}

// result is a line of the script about one scenario.
type result struct {
	Name    string          `json:"name"`
	OK      bool            `json:"ok"`
	Error   string          `json:"error"`
	Details json.RawMessage `json:"details"`
	MS      int             `json:"ms"`
}

// report is all that a run of the script has said.
type report struct {
	plan     []string
	versions map[string]string
	results  []result
	problems []string // what is wrong with the run itself, beside scenarios that failed
	stderr   string
}

// failed returns the names of the scenarios that were not ok, in their order.
func (r *report) failed() []string {
	var names []string
	for _, res := range r.results {
		if !res.OK {
			names = append(names, res.Name)
		}
	}
	return names
}

// result returns what the script has said about a scenario.
func (r *report) result(name string) (result, bool) {
	i := slices.IndexFunc(r.results, func(res result) bool { return res.Name == name })
	if i < 0 {
		return result{}, false
	}
	return r.results[i], true
}

// newScript finds node and installs the packages, or skips the test.
func newScript(t *testing.T) *script {
	t.Helper()
	missing := func(what string, err error) {
		t.Helper()
		if os.Getenv(nodeVariable) != "" {
			t.Fatalf("%s is set, and %s: %v", nodeVariable, what, err)
		}
		t.Skipf("THE FOREIGN CLIENT WAS NOT RUN: %s: %v (with %s=1 this fails)", what, err, nodeVariable)
	}
	node, err := exec.LookPath("node")
	if err != nil {
		missing("node is needed", err)
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		missing("npm is needed", err)
	}
	modules, err := install(t, npm)
	if err != nil {
		missing("its packages cannot be installed", err)
	}
	return &script{node: node, modules: modules}
}

// install has npm install what package-lock.json says into a folder of the user's cache, unless it is there already, and
// returns that folder.
func install(t *testing.T, npm string) (string, error) {
	t.Helper()
	// Reading them here also tells go test that its cached result depends on them.
	names := []string{"package.json", "package-lock.json", ".npmrc"}
	files := make(map[string][]byte)
	sum := sha256.New()
	for _, name := range names {
		content, err := os.ReadFile(name)
		require.NoError(t, err)
		files[name] = content
		_, _ = fmt.Fprintf(sum, "%s %d\n%s", name, len(content), content)
	}
	for _, name := range []string{"client.js", "scenarios.js"} {
		_, err := os.ReadFile(name)
		require.NoError(t, err)
	}

	cache, err := os.UserCacheDir()
	if err != nil {
		cache = t.TempDir() // no home
	}
	cache = filepath.Join(cache, "goeventstore-interop")
	dir := filepath.Join(cache, hex.EncodeToString(sum.Sum(nil))[:16])
	modules := filepath.Join(dir, "node_modules")
	if _, err := os.Stat(modules); err == nil {
		return modules, nil
	}

	// Beside it first: another test may be at the same, and a half of it must not look like the whole.
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	work, err := os.MkdirTemp(cache, "new-") //nolint:usetesting // a rename needs it on the same file system
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(work) }()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(work, name), content, 0o600); err != nil {
			return "", err
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), installTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, npm, "ci", "--prefer-offline", "--no-progress", "--no-update-notifier")
	cmd.Dir = work
	cmd.WaitDelay = 5 * time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm ci: %w\n%s", err, out)
	}
	if err := os.Rename(work, dir); err != nil {
		if _, statErr := os.Stat(modules); statErr != nil {
			return "", err
		}
		// Somebody else was faster.
	}
	return modules, nil
}

// run runs the script against the server that target names, with the given scenarios or all of them, and kills it when it
// takes longer than the limit. What the script asks for is done by serve.
func (s *script) run(ctx context.Context, limit time.Duration, target string, serve func(what string) error, scenarios ...string) (*report, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(u.Host)
	if err != nil {
		return nil, err
	}
	password, _ := u.User.Password()
	args := []string{"client.js", "--host", host, "--port", port, "--login", u.User.Username(), "--password", password}

	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.node, append(args, scenarios...)...) // kills the process that it has started
	cmd.Env = append(os.Environ(), "NODE_PATH="+s.modules)
	cmd.WaitDelay = 5 * time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	r := &report{}
	r.read(stdout, func(what string) {
		answer := "ok"
		if err := serve(what); err != nil {
			answer = strings.ReplaceAll(err.Error(), "\n", " ")
		}
		_, _ = io.WriteString(stdin, answer+"\n") // it may have ended meanwhile
	})
	err = cmd.Wait()
	r.stderr = stderr.String()
	r.judge(err, ctx.Err() != nil, limit)
	return r, nil
}

// read reads the lines of the script to their end.
func (r *report) read(stdout io.Reader, ask func(what string)) {
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var line struct {
			result
			Plan     []string          `json:"plan"`
			Versions map[string]string `json:"versions"`
			Ask      string            `json:"ask"`
		}
		err := json.Unmarshal(lines.Bytes(), &line)
		switch {
		case err != nil:
			r.problem("a line that is no JSON object: %q", lines.Text())
		case line.Plan != nil:
			r.plan, r.versions = line.Plan, line.Versions
		case line.Ask != "":
			ask(line.Ask)
		case line.Name != "":
			r.results = append(r.results, line.result)
		default:
			r.problem("a line that says nothing: %q", lines.Text())
		}
	}
	if err := lines.Err(); err != nil {
		r.problem("read the script's output: %v", err)
		_, _ = io.Copy(io.Discard, stdout) // or it waits for a reader
	}
}

func (r *report) problem(format string, args ...any) {
	r.problems = append(r.problems, fmt.Sprintf(format, args...))
}

// judge compares what the script has said with its plan and with how it ended.
func (r *report) judge(ended error, late bool, limit time.Duration) {
	var exit *exec.ExitError
	switch {
	case late:
		r.problem("killed: it has not ended within %s", limit)
	case ended != nil && (!errors.As(ended, &exit) || exit.ExitCode() != 1):
		r.problem("ended by %v", ended)
	case (ended != nil) != (len(r.failed()) > 0):
		r.problem("%d scenarios failed, and it ended with %v", len(r.failed()), ended)
	}
	if len(r.plan) == 0 {
		r.problem("no plan")
	}
	var names []string
	for _, res := range r.results {
		names = append(names, res.Name)
	}
	if !slices.Equal(names, r.plan) {
		r.problem("planned %q, and there are results of %q", r.plan, names)
	}
}
