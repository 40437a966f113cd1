package main

import (
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const root = "../.."

func TestTheFilesAreWhatTheCodeExports(t *testing.T) {
	want, err := dumps(t.Context(), root)
	require.NoError(t, err)
	have, err := files(root)
	require.NoError(t, err)
	require.NotEmpty(t, want)
	for name, text := range want {
		if have[name] != text {
			t.Errorf("api/%s is not what the package exports (go run ./internal/apidump writes it)\nmissing:\n%sno longer so:\n%s",
				name, without(text, have[name]), without(have[name], text))
		}
	}
	for name := range have {
		require.Contains(t, want, name, "no package has the file api/%s: go run ./internal/apidump removes it", name)
	}
}

// without is the lines of a text that another does not have.
func without(text, other string) string {
	var left strings.Builder
	has := slices.Collect(strings.Lines(other))
	for line := range strings.Lines(text) {
		if !slices.Contains(has, line) {
			left.WriteString(line)
		}
	}
	return left.String()
}

func TestDump(t *testing.T) {
	const source = `package sample

import "io"

const Answer Number = 6 * 7
const Text, hidden = "a\nb", 1

const (
	zero = iota
	One
)

var Err error
var none = []int{1}

func Do(n int, rest ...*T) (r io.Reader, err error) { return nil, nil }
func do() {}

type Number int
func (Number) String() string { return "" }
func (n Number) odd() bool { return false }

type Same = io.Reader

type T struct {
	Z string ` + "`json:\"z\"`" + `
	A func(Number) map[string]chan<- int
	io.Reader
	inner
	x int
}
func (t *T) Set(A int) {}
func (t T) get() {}

type inner struct { Through bool }
func (inner) Also() {}

type All struct{ Only int }

type I interface {
	io.Closer
	B()
	A() error
	secret()
}

type List[E comparable] []E
func (l List[E]) First() (e E) { return }
`
	require.Equal(t, `package sample // example/sample

import "io"

const Answer Number = 42
const One = 1
const Text = "a\nb"

var Err error

func Do(n int, rest ...*T) (r io.Reader, err error)

type All struct {
	Only int
}

type I interface {
	io.Closer
	A() error
	B()
	// and unexported methods
}

type List[E comparable] []E
func (List[E comparable]) First() (e E)

type Number int
func (Number) String() string

type Same = io.Reader

type T struct {
	Z string `+"`json:\"z\"`"+`
	A func(Number) map[string]chan<- int
	io.Reader
	Through bool
	// and unexported fields
}
func (T) Also()
func (T) Read(p []byte) (n int, err error)
func (*T) Set(A int)
`, dumpSource(t, source))
}

// What users cannot see does not change the text, and whatever they can see does.
func TestAChangeIsSeen(t *testing.T) {
	const before = "package sample\n\ntype T struct{ A int }\n\nfunc (T) M() {}\n"
	for _, more := range []string{"const c = 1", "func f() {}", "type t struct{ B int }", "func (t T) m() {}", "var v = T{1}"} {
		require.Equal(t, dumpSource(t, before), dumpSource(t, before+more), more)
	}
	for _, more := range []string{"const C = 1", "func F() {}", "type U struct{}", "func (t *T) N() {}", "var V = T{1}"} {
		require.NotEqual(t, dumpSource(t, before), dumpSource(t, before+more), more)
	}
}

func TestPublicPackages(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a.go": "package a", "b/b.go": "package b", "b/c/c.go": "package c", "tests/only_test.go": "package tests",
		"internal/i/i.go": "package i", "b/internal/i.go": "package i", "cmd/x/x.go": "package main", "examples/e/e.go": "package main",
		"testdata/t.go": "package t", ".ci/x.go": "package x", "nested/n.go": "package n", "nested/go.mod": "module n",
	} {
		file := filepath.Join(dir, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o750))
		require.NoError(t, os.WriteFile(file, []byte(text+"\n"), 0o600))
	}
	dirs, err := public(dir)
	require.NoError(t, err)
	require.Equal(t, []string{".", "b", "b/c"}, dirs)
}

func dumpSource(t *testing.T, source string) string {
	t.Helper()
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, "sample.go", source, 0)
	require.NoError(t, err)
	config := types.Config{Importer: importer.ForCompiler(fset, "source", nil)}
	pkg, err := config.Check("example/sample", fset, []*ast.File{file}, nil)
	require.NoError(t, err)
	return dump(pkg)
}
