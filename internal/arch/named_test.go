package arch_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Documents name the tests that hold what they say: each exists, in some package.
func TestTestsThatDocumentsNameExist(t *testing.T) {
	root := filepath.Join("..", "..")
	tests := make(map[string]bool)
	var documents []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == ".git" || d.Name() == "node_modules" || d.Name() == "testdata"):
			return filepath.SkipDir
		case strings.HasSuffix(path, ".md") && (filepath.Base(filepath.Dir(path)) == "docs" || d.Name() == "DESIGN.md"):
			documents = append(documents, path)
		case strings.HasSuffix(path, "_test.go"):
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			for _, d := range file.Decls {
				if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil {
					tests[f.Name.Name] = true
				}
			}
		}
		return nil
	})
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(documents), 2)
	named := regexp.MustCompile(`\b(Test|Fuzz)[A-Z]\w+`)
	count := 0
	for _, document := range documents {
		b, err := os.ReadFile(document) // #nosec G304 -- of this repository
		require.NoError(t, err)
		for _, name := range named.FindAllString(string(b), -1) {
			count++
			require.True(t, tests[name], "%s names %s, which is no test", document, name)
		}
	}
	require.Greater(t, count, 50)
}
