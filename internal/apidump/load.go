package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/build"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

// dumps is the text of every public package of the module in this folder, by the name of its file.
func dumps(ctx context.Context, root string) (map[string]string, error) {
	dirs, err := public(root)
	if err != nil {
		return nil, err
	}
	if len(dirs) == 0 {
		return nil, errors.New("no packages: is this the folder of the module?")
	}
	compiled, err := exports(ctx, root, dirs)
	if err != nil {
		return nil, err
	}
	texts := make(map[string]string, len(dirs))
	for _, dir := range dirs {
		pkg, err := check(filepath.Join(root, dir), path.Join(module, dir), compiled)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", dir, err)
		}
		texts[fileName(dir)] = dump(pkg)
	}
	return texts, nil
}

// public lists the folders of the packages that users can import, with slashes.
func public(root string) ([]string, error) {
	var dirs []string
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		dir, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		if dir != "." && !isPublic(name, d.Name()) {
			return fs.SkipDir
		}
		info, err := build.ImportDir(name, 0)
		if none := (*build.NoGoError)(nil); errors.As(err, &none) {
			return nil
		}
		if len(info.GoFiles) > 0 { // else it has tests alone
			dirs = append(dirs, filepath.ToSlash(dir))
		}
		return err
	})
	return dirs, err
}

// isPublic says whether packages in and below this folder can be imported by users.
func isPublic(dir, name string) bool {
	switch name {
	case "internal", "examples", "cmd", "testdata", "node_modules":
		return false
	}
	if strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") {
		return false
	}
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err != nil // else it is another module
}

// exports compiles the packages and what they import, and says where the compiler put what each exports.
func exports(ctx context.Context, root string, dirs []string) (map[string]string, error) {
	args := []string{"list", "-export", "-deps", "-f", "{{.ImportPath}}\t{{.Export}}", "--"}
	for _, dir := range dirs {
		args = append(args, "./"+dir)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOWORK=off")
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w: %s", err, bytes.TrimSpace(complaint.Bytes()))
	}
	found := make(map[string]string)
	for line := range strings.Lines(string(out)) {
		pkg, file, _ := strings.Cut(strings.TrimSpace(line), "\t")
		found[pkg] = file
	}
	return found, nil
}

// check reads a package's source, which tells go test that its result depends on these files, and finds its types.
func check(dir, name string, compiled map[string]string) (*types.Package, error) {
	info, err := build.ImportDir(dir, 0)
	if err != nil {
		return nil, err
	}
	fset := token.NewFileSet()
	var parsed []*ast.File
	for _, file := range info.GoFiles {
		f, err := parser.ParseFile(fset, filepath.Join(dir, file), nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		parsed = append(parsed, f)
	}
	config := types.Config{
		IgnoreFuncBodies: true,
		Importer: importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) {
			return os.Open(compiled[path])
		}),
	}
	return config.Check(name, fset, parsed, nil)
}
