// Command apidump writes what the packages of this module export to api, one file a package, so that a change of what
// users can call is seen in the diff of the change:
//
//	go run ./internal/apidump
//
// Its test fails while a file is not what the code exports. What is below internal, examples and cmd, and what is in
// nested modules, is nobody's to import and has no file.
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
)

const module = "github.com/goeventstore/eventstore"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := write(ctx, ".")
	stop()
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "apidump:", err)
		os.Exit(1)
	}
}

// write brings the files of api to what the code exports.
func write(ctx context.Context, root string) error {
	want, err := dumps(ctx, root)
	if err != nil {
		return err
	}
	have, err := files(root)
	if err != nil {
		return err
	}
	for name := range have {
		if _, ok := want[name]; !ok {
			if err := os.Remove(filepath.Join(root, "api", name)); err != nil {
				return err
			}
		}
	}
	for name, text := range want {
		if err := os.WriteFile(filepath.Join(root, "api", name), []byte(text), 0o644); err != nil { //nolint:gosec // as readable as the code
			return err
		}
	}
	return nil
}

// files is what stands in api, by name.
func files(root string) (map[string]string, error) {
	entries, err := os.ReadDir(filepath.Join(root, "api"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, os.Mkdir(filepath.Join(root, "api"), 0o755) //nolint:gosec // as readable as the code
	}
	if err != nil {
		return nil, err
	}
	have := make(map[string]string, len(entries))
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(root, "api", e.Name())) // #nosec G304 -- of this repository
		if err != nil {
			return nil, err
		}
		have[e.Name()] = string(b)
	}
	return have, nil
}

// fileName is the name of a package's file, by its path in the module.
func fileName(dir string) string {
	if dir == "." {
		return "eventstore.txt"
	}
	return strings.ReplaceAll(dir, "/", "-") + ".txt"
}
