package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const root = "../.."

func table(t *testing.T) []row {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, tablePath))
	require.NoError(t, err)
	rows, err := parseTable(string(b))
	require.NoError(t, err)
	return rows
}

// What the table names is there: that it passes is for CI to say, which has run it.
func TestTheTableNamesTests(t *testing.T) {
	there := map[string]map[string]bool{} // by folder
	for _, r := range table(t) {
		for _, test := range r.tests {
			if there[test.folder] == nil {
				there[test.folder] = functions(t, test.folder)
			}
			name, _, _ := strings.Cut(test.test, "/")
			require.True(t, there[test.folder][name], "%s: there is no test %s", r.id, test)
		}
	}
}

// functions are the names of the functions in the tests of a package.
func functions(t *testing.T, folder string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, folder, "*_test.go"))
	require.NoError(t, err)
	names := map[string]bool{}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil {
				names[f.Name.Name] = true
			}
		}
	}
	return names
}

// No promise is forgotten: they are numbered.
func TestTheTableIsWhole(t *testing.T) {
	ids := map[string]bool{}
	for _, r := range table(t) {
		ids[r.id] = true
	}
	for prefix, last := range map[string]int{"P": 39, "PT": 15, "XM": 50, "XV": 68, "XP": 5, "M": 9, "AT": 17, "ST": 35, "CT": 11} {
		for n := 1; n <= last; n++ {
			require.True(t, ids[fmt.Sprintf("%s-%02d", prefix, n)], "%s-%02d", prefix, n)
		}
		require.False(t, ids[fmt.Sprintf("%s-%02d", prefix, last+1)])
	}
}

func TestParseTable(t *testing.T) {
	const head = "# about it\nid\twhat is promised\ttests\tnote\n"
	rows, err := parseTable(head + "A-1\tx\t.:TestA a/b:TestB/c_d\tnot all\n\nA-2\ty\t\tlater: z\n")
	require.NoError(t, err)
	require.Equal(t, []row{
		{"A-1", "x", []named{{".", "TestA"}, {"a/b", "TestB/c_d"}}, "not all"},
		{"A-2", "y", nil, "later: z"},
	}, rows)
	for text, says := range map[string]string{
		"":                           "no rows",
		head:                         "no rows",
		"id\ttests\n":                "line 1: the columns are",
		head + "A-1\tx\t.:TestA\n":   "line 3: 3 columns",
		head + "\tx\t.:TestA\t\n":    "no id",
		head + "A-1\t\t.:TestA\t\n":  "nothing promised",
		head + "A-1\tx\tTestA\t\n":   `have "TestA"`,
		head + "A-1\tx\t:TestA\t\n":  `have ":TestA"`,
		head + "A-1\tx\t\t\n":        "A-1: neither tests nor",
		head + "A-1\tx\t\tbecause\n": "A-1: neither tests nor",
		head + "A-1\tx\t\tlater: \n": "A-1: neither tests nor",
		head + strings.Repeat("A\tx\ta:T\t\n", 2): "line 4: A is there twice",
	} {
		_, err := parseTable(text)
		require.ErrorContains(t, err, says, text)
	}
}

func lines(events ...string) string {
	var b strings.Builder
	for _, e := range events {
		p := strings.Split(e, "|") // action, package, test, output
		fmt.Fprintf(&b, "{\"Action\":%q,\"Package\":%q,\"Test\":%q,\"Output\":%q}\n", p[0], p[1], p[2], p[3])
	}
	return b.String()
}

// What is printed is what go test would have printed, and every test that ended is in the results.
func TestRecord(t *testing.T) {
	const a, root, other = module + "/a/b", module, "example/other"
	var out, results bytes.Buffer
	require.NoError(t, record(strings.NewReader("go: downloading x\n"+
		`{"ImportPath":"m","Action":"build-output","Output":"# m\n"}`+"\n"+`{"ImportPath":"m","Action":"build-fail"}`+"\n"+lines(
		"start|"+a+"||",
		"run|"+a+"|TestGood|", "output|"+a+"|TestGood|=== RUN   TestGood\n", "output|"+a+"|TestGood|said\n",
		"run|"+root+"|TestBad|", "output|"+root+"|TestBad|=== RUN   TestBad\n", "output|"+root+"|TestBad|why\n",
		"run|"+root+"|TestBad/part|", "output|"+root+"|TestBad/part|fine\n", "pass|"+root+"|TestBad/part|",
		"pass|"+a+"|TestGood|", "run|"+a+"|TestNo|", "skip|"+a+"|TestNo|", "output|"+a+"||PASS\n", "output|"+a+"||ok  \ta/b\t0.1s\n", "pass|"+a+"||",
		"fail|"+root+"|TestBad|", "run|"+root+"|TestHangs|", "output|"+root+"|TestHangs|goroutine 1\n",
		"output|"+root+"||FAIL\n", "output|"+root+"||FAIL\teventstore\t0.1s\n", "fail|"+root+"||",
		"output|"+other+"||?   \tother\t[no test files]\n", "skip|"+other+"||",
	)), &out, &results))
	require.Equal(t, "go: downloading x\n# m\nok  \ta/b\t0.1s\nwhy\ngoroutine 1\nFAIL\nFAIL\teventstore\t0.1s\n?   \tother\t[no test files]\n", out.String())
	require.Equal(t, "pass\t.\tTestBad/part\npass\ta/b\tTestGood\nskip\ta/b\tTestNo\nfail\t.\tTestBad\n", results.String())
}

func TestCheck(t *testing.T) {
	have, err := parseResults(strings.NewReader("pass\t.\tTestGood\npass\t.\tTestGood/part\nfail\ta\tTestGood\npass\ta\tTestGood\n" +
		"skip\ta\tTestThere\npass\ta\tTestThere\nskip\ta\tTestNo\npass\ta\tTestPartly\nskip\ta\tTestPartly/last\n"))
	require.NoError(t, err)
	rows := func(tests ...named) []row { return []row{{"A-1", "x", tests, ""}, {"A-2", "y", tests, ""}} }
	problems, n := check(rows(named{".", "TestGood"}, named{".", "TestGood/part"}, named{"a", "TestThere"}), have)
	require.Empty(t, problems)
	require.Equal(t, 3, n)
	for test, says := range map[named]string{
		{"a", "TestGood"}:       "a:TestGood: failed (A-1, A-2)",
		{"a", "TestNo"}:         "a:TestNo: was skipped (A-1, A-2)",
		{"a", "TestPartly"}:     "a:TestPartly: was skipped in part: TestPartly/last (A-1, A-2)",
		{"b", "TestGood"}:       "b:TestGood: did not run (A-1, A-2)",
		{".", "TestGood/other"}: ".:TestGood/other: did not run (A-1, A-2)",
	} {
		problems, _ := check(rows(test), have)
		require.Equal(t, []string{says}, problems)
	}
	_, err = parseResults(strings.NewReader("pass\tx\n"))
	require.ErrorContains(t, err, "no result")
}

func TestCommandLine(t *testing.T) {
	for _, args := range [][]string{nil, {"record"}, {"check", "a", "b"}, {"other", "a"}} {
		require.ErrorContains(t, run(args, nil, nil), "want record FILE or check FILE")
	}
	t.Chdir(root)
	results := filepath.Join(t.TempDir(), "results")
	require.ErrorContains(t, run([]string{"check", results}, nil, nil), "the tests have to run first")
	var out bytes.Buffer
	require.NoError(t, run([]string{"record", results}, strings.NewReader(lines("pass|"+module+"|TestOfNobody|")), &out))
	require.ErrorContains(t, run([]string{"check", results}, nil, &out), "did not pass")
	require.Contains(t, out.String(), "did not run")
}
