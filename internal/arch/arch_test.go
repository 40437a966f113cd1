package arch

import (
	"encoding/json"
	"errors"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	module = "github.com/goeventstore/eventstore"
	root   = "../.." // folder of the root module, seen from here
)

// A row is one package of ours and the packages of ours that it may import. Paths are relative to the module, "." is the
// root package, "x/..." is x with everything below it and "..." is everything.
type row struct {
	pkg     string
	imports []string
	low     bool     // of floors 0 to 2: its tests may not import eventstoretest, which stands on them
	tests   []string // what its tests may import beside what all tests may
}

// table lists the packages from the bottom up. A new package comes with its row. Who may import messages may import
// messages/pb.
var table = []row{
	// under all floors: nothing of the protocol's
	{pkg: "internal/pieces", low: true},
	{pkg: "internal/pause", low: true},
	{pkg: "internal/secure", low: true},
	// floor 0
	{pkg: "messages/pb", low: true},
	{pkg: "messages", low: true, imports: []string{"messages/pb"}},
	{pkg: "cluster", low: true},
	// floor 1
	{pkg: "conn", low: true, imports: []string{"messages"}},
	// floor 2
	{
		pkg: ".", low: true, imports: []string{"messages", "conn", "cluster", "internal/pause"},
		tests: []string{"subscription", "persistent"}, // whose waits are measured beside those of calls
	},
	// floor 3
	{pkg: "subscription", imports: []string{".", "messages", "internal/pieces", "internal/pause"}},
	{pkg: "persistent", imports: []string{".", "messages", "internal/pieces", "internal/pause"}},
	{pkg: "admin", imports: []string{"."}},
	// floor 4
	{pkg: "listener", imports: []string{".", "subscription", "internal/pause"}},
	{pkg: "listener/boltstore", imports: []string{".", "listener"}},
	{pkg: "listener/sqlstore", imports: []string{".", "listener", "internal/pause"}},
	{pkg: "internal/storetest", imports: []string{".", "listener"}},
	// side
	{pkg: "server", imports: []string{"messages", "internal/memnet", "internal/secure", "server/internal/..."}},
	{pkg: "server/internal/...", imports: []string{"messages", "internal/memnet", "server/internal/..."}},
	{pkg: "eventstoretest", imports: []string{"server", ".", "messages", "internal/memnet", "internal/faultnet", "internal/secure"}},
	{pkg: "internal/memnet"},
	{pkg: "internal/scripted", imports: []string{"messages", "internal/memnet"}},
	{pkg: "internal/faultnet"},
	{pkg: "internal/kills"},
	{pkg: "internal/realcluster", imports: []string{"cluster"}},
	{pkg: "internal/conformance", imports: []string{
		".", "messages", "cluster", "conn", "subscription", "persistent", "listener", "admin",
		"server", "eventstoretest", "internal/memnet", "internal/faultnet", "internal/realcluster",
	}},
	{pkg: "internal/chaos", imports: []string{
		".", "messages", "cluster", "conn", "subscription", "persistent", "listener", "admin",
		"server", "eventstoretest", "internal/memnet", "internal/faultnet", "internal/realcluster",
	}},
	{pkg: "internal/chaos/followers", imports: []string{
		".", "subscription", "listener", "listener/boltstore", "server", "internal/memnet", "internal/faultnet", "internal/pause",
	}},
	{pkg: "internal/arch"},
	{pkg: "internal/apidump"},
	{pkg: "internal/acceptance"},
	// top
	{pkg: "cmd/eventstore", imports: []string{"..."}},
	{pkg: "examples/...", imports: []string{"..."}},
	// nested modules
	{pkg: "internal/tools/..."},
	{pkg: "bench", imports: []string{".", "messages", "persistent", "server", "bench/canned", "bench/contend"}},
	{pkg: "bench/canned", imports: []string{"messages"}},
	{pkg: "bench/contend"},
	{pkg: "bench/gesclient", imports: []string{"bench/contend"}}, // nothing of ours that has dependencies
	{pkg: "bench/servercost", imports: []string{".", "bench/canned", "bench/contend", "server", "messages", "internal/memnet"}},
	{pkg: "internal/interop", imports: []string{".", "messages"}},
	{pkg: "internal/interop/sqltest", imports: []string{".", "listener", "listener/sqlstore", "internal/chaos/followers"}},
}

// reserved are the modules of others that only some packages may import, with their tests.
var reserved = map[string][]string{
	"github.com/alecthomas/kong/...":        {"cmd/eventstore"},
	"github.com/jdextraze/go-gesclient/...": {"bench/gesclient"},
}

// Tests may import these beside what their package imports.
var (
	lowTests  = []string{"server", "internal/memnet", "internal/faultnet", "internal/scripted", "internal/kills"}
	highTests = append([]string{"eventstoretest", "messages", "internal/storetest"}, lowTests...) // its frames have commands of messages
)

// rootLinks is all that the root package may link outside the standard library and this module.
var rootLinks = []string{
	"google.golang.org/protobuf/...",
	"github.com/google/uuid",
	"github.com/cenkalti/backoff/v4",
}

func TestImportsGoDownTheTable(t *testing.T) {
	var pkgs []listed
	for _, dir := range moduleDirs(t) {
		pkgs = append(pkgs, list(t, dir, "./...")...)
	}
	require.NotEmpty(t, pkgs)
	for _, problem := range check(table, pkgs) {
		t.Error(problem)
	}
}

func TestRootLinksLittle(t *testing.T) {
	for _, problem := range checkLinks(list(t, root, "-deps", module)) {
		t.Error(problem)
	}
}

func TestTableNamesItsOwnRows(t *testing.T) {
	seen := map[string]bool{"...": true}
	for _, r := range table {
		require.False(t, seen[r.pkg], "two rows for %s", r.pkg)
		seen[r.pkg] = true
	}
	for _, r := range table {
		for _, name := range slices.Concat(r.imports, r.tests) {
			require.True(t, seen[name], "the row of %s names %s, which has no row", r.pkg, name)
		}
	}
	for _, name := range highTests {
		require.True(t, seen[name], "%s has no row", name)
	}
}

func TestCheck(t *testing.T) {
	const (
		client = module
		conn   = module + "/conn"
		pb     = module + "/messages/pb"
		etest  = module + "/eventstoretest"
		server = module + "/server"
		kong   = "github.com/alecthomas/kong"
	)
	for _, c := range []struct {
		name string
		pkg  listed
		want []string
	}{
		{name: "allowed", pkg: listed{ImportPath: client, Imports: []string{"net", conn, "go.uber.org/goleak"}}},
		{name: "who has messages has messages/pb", pkg: listed{ImportPath: conn, Imports: []string{pb}}},
		{
			name: "up",
			pkg:  listed{ImportPath: conn, Imports: []string{client}},
			want: []string{"conn may not import ."},
		},
		{
			name: "past its own floor",
			pkg:  listed{ImportPath: module + "/listener", Imports: []string{conn}},
			want: []string{"listener may not import conn"},
		},
		{
			name: "messages/pb imports nothing of ours",
			pkg:  listed{ImportPath: pb, Imports: []string{module + "/messages"}},
			want: []string{"messages/pb may not import messages"},
		},
		{
			name: "unknown package",
			pkg:  listed{ImportPath: module + "/util", Imports: []string{"fmt"}},
			want: []string{"util is not in the table"},
		},
		{
			name: "below a package is not the package",
			pkg:  listed{ImportPath: module + "/conn/pool"},
			want: []string{"conn/pool is not in the table"},
		},
		{
			name: "of an unknown package every import of ours",
			pkg:  listed{ImportPath: conn, Imports: []string{module + "/util"}},
			want: []string{"conn may not import util"},
		},
		{name: "test with the server", pkg: listed{ImportPath: conn, TestImports: []string{server}}},
		{name: "test of itself from outside", pkg: listed{ImportPath: conn, XTestImports: []string{conn}}},
		{
			name: "code with the server",
			pkg:  listed{ImportPath: conn, Imports: []string{server}},
			want: []string{"conn may not import server"},
		},
		{
			name: "low test with eventstoretest",
			pkg:  listed{ImportPath: conn, XTestImports: []string{etest}},
			want: []string{"tests of conn may not import eventstoretest"},
		},
		{name: "high test with eventstoretest", pkg: listed{ImportPath: module + "/listener", XTestImports: []string{etest}}},
		{name: "a row for everything below", pkg: listed{ImportPath: server + "/internal/log", Imports: []string{pb}}},
		{name: "anything", pkg: listed{ImportPath: module + "/examples/bank", Imports: []string{etest, conn}}},
		{name: "the command parses its line", pkg: listed{ImportPath: module + "/cmd/eventstore", Imports: []string{kong}}},
		{
			name: "nobody else does",
			pkg:  listed{ImportPath: server, Imports: []string{kong}, TestImports: []string{kong + "/x"}},
			want: []string{"server may not import " + kong, "server may not import " + kong + "/x"},
		},
		{name: "another module with our name in front", pkg: listed{ImportPath: conn, Imports: []string{module + "x/y"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, c.want, check(table, []listed{c.pkg}))
		})
	}
}

func TestCheckSeesFilesOfOtherPlatforms(t *testing.T) {
	dir := t.TempDir()
	src := "//go:build never\n\npackage conn\n\nimport _ \"" + module + "/listener\"\n"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "never.go"), []byte(src), 0o600))
	got := check(table, []listed{{ImportPath: module + "/conn", Dir: dir, IgnoredGoFiles: []string{"never.go"}}})
	require.Equal(t, []string{"conn may not import listener"}, got)
}

func TestCheckLinks(t *testing.T) {
	got := checkLinks([]listed{
		{ImportPath: "net", Standard: true},
		{ImportPath: module + "/conn"},
		{ImportPath: "google.golang.org/protobuf/proto"},
		{ImportPath: "github.com/google/uuid"},
		{ImportPath: "github.com/cenkalti/backoff/v4"},
		{ImportPath: "github.com/cenkalti/backoff/v5"},
		{ImportPath: "github.com/stretchr/testify/require"},
	})
	require.Equal(t, []string{
		"the root package links github.com/cenkalti/backoff/v5",
		"the root package links github.com/stretchr/testify/require",
	}, got)
}

// listed is what go list says about a package.
type listed struct {
	ImportPath, Dir                    string
	Standard                           bool
	Imports, TestImports, XTestImports []string
	IgnoredGoFiles                     []string // left out by a build constraint here
}

// check returns what breaks the rules.
func check(rows []row, pkgs []listed) []string {
	var problems []string
	for _, p := range pkgs {
		name, _ := ours(p.ImportPath)
		r, ok := find(rows, name)
		if !ok {
			problems = append(problems, name+" is not in the table")
			continue
		}
		ignored, ignoredTests, err := importsOfIgnored(p)
		if err != nil {
			problems = append(problems, err.Error())
		}
		for _, imp := range forbidden(name, slices.Concat(p.Imports, ignored), r.allowed()) {
			problems = append(problems, name+" may not import "+imp)
		}
		tests := slices.Concat(p.TestImports, p.XTestImports, ignoredTests)
		for _, imp := range forbidden(name, tests, r.allowedInTests()) {
			problems = append(problems, "tests of "+name+" may not import "+imp)
		}
		for _, imp := range slices.Concat(p.Imports, ignored, tests) {
			for foreign, users := range reserved {
				if match(foreign, imp) && !matchAny(users, name) {
					problems = append(problems, name+" may not import "+imp)
				}
			}
		}
	}
	return problems
}

// checkLinks returns which of the root package's dependencies it should not have.
func checkLinks(deps []listed) []string {
	var problems []string
	for _, d := range deps {
		if _, own := ours(d.ImportPath); own || d.Standard || matchAny(rootLinks, d.ImportPath) {
			continue
		}
		problems = append(problems, "the root package links "+d.ImportPath)
	}
	return problems
}

// forbidden returns those of the imports of a package that are ours and not allowed, once each.
func forbidden(pkg string, imports, allowed []string) []string {
	var bad []string
	for _, path := range imports {
		imp, own := ours(path)
		if own && imp != pkg && !matchAny(allowed, imp) && !slices.Contains(bad, imp) {
			bad = append(bad, imp)
		}
	}
	return bad
}

func (r row) allowed() []string {
	if slices.Contains(r.imports, "messages") {
		return append([]string{"messages/pb"}, r.imports...)
	}
	return r.imports
}

func (r row) allowedInTests() []string {
	if r.low {
		return slices.Concat(r.allowed(), r.tests, lowTests)
	}
	return slices.Concat(r.allowed(), r.tests, highTests)
}

func find(rows []row, name string) (row, bool) {
	i := slices.IndexFunc(rows, func(r row) bool { return match(r.pkg, name) })
	if i < 0 {
		return row{}, false
	}
	return rows[i], true
}

// ours returns the path relative to the module and whether it is of the module, nested ones included.
func ours(path string) (string, bool) {
	if path == module {
		return ".", true
	}
	return strings.CutPrefix(path, module+"/")
}

func matchAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return match(p, name) })
}

func match(pattern, name string) bool {
	if pattern == "..." {
		return true
	}
	if dir, ok := strings.CutSuffix(pattern, "/..."); ok {
		return name == dir || strings.HasPrefix(name, dir+"/")
	}
	return name == pattern
}

// importsOfIgnored reads the files that go list left out on this platform.
func importsOfIgnored(p listed) (imports, testImports []string, err error) {
	for _, name := range p.IgnoredGoFiles {
		f, perr := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.ImportsOnly)
		if perr != nil {
			err = errors.Join(err, perr)
			continue
		}
		for _, spec := range f.Imports {
			path, perr := strconv.Unquote(spec.Path.Value)
			switch {
			case perr != nil:
				err = errors.Join(err, perr)
			case strings.HasSuffix(name, "_test.go"):
				testImports = append(testImports, path)
			default:
				imports = append(imports, path)
			}
		}
	}
	return imports, testImports, err
}

// moduleDirs finds the folder of every go.mod. It also keeps the test's cached result honest: go test does not know what
// go list reads, but it does see this walk, which opens every folder.
func moduleDirs(t *testing.T) []string {
	t.Helper()
	var dirs []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && skipped(d.Name()):
			return fs.SkipDir
		case d.Name() == "go.mod":
			dirs = append(dirs, filepath.Dir(path))
		}
		return nil
	})
	require.NoError(t, err)
	return dirs
}

// skipped tells the folders that ./... does not match.
func skipped(name string) bool {
	return name == "testdata" || name == "node_modules" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_")
}

// list runs go list in a module's folder. It reads source files only: -e keeps what is missing or broken listed, which is
// the compiler's to report, and nothing is downloaded for a nested module that is not built here.
func list(t *testing.T, dir string, args ...string) []listed {
	t.Helper()
	args = append([]string{"list", "-e", "-json=ImportPath,Dir,Standard,Imports,TestImports,XTestImports,IgnoredGoFiles"}, args...)
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOPROXY=off", "GOFLAGS=")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "go list in %s: %s", dir, &stderr)

	var pkgs []listed
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return pkgs
		}
		require.NoError(t, err, "go list in %s", dir)
		pkgs = append(pkgs, p)
	}
}
