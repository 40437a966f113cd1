package listener

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/goeventstore/eventstore"
)

// FileStore keeps each checkpoint in a file of its own in dir, which is made when needed: one line, the checkpoint in words. A
// save writes a second file, has the disk take it, renames it and has the disk take that, so that a crash leaves the old
// checkpoint or the new one. So do two processes at once; but nothing keeps the slower of two under one name from moving the
// checkpoint back, which a Leaser does.
//
// The file is called after the checkpoint: small letters, digits, dots, lines and underscores stand for themselves and all else
// for its hexadecimal code, so that it is a name on every system. A very long name is cut and has its checksum at the end.
func FileStore(dir string) Store { return &fileStore{dir: dir} }

type fileStore struct {
	dir   string
	ready sync.Mutex // held while the folder is made ready
	made  bool       // under ready: the folder is there
}

const (
	fileExt = ".checkpoint"
	tempExt = ".new"
	// tempAge is when a second file is what a crash has left.
	tempAge = time.Hour
	// longestFileName leaves room for the extensions and what makes a second file unique, of the 255 that systems allow.
	longestFileName = 200
)

func (s *fileStore) path(name string) string { return filepath.Join(s.dir, fileName(name)+fileExt) }

// fileName makes a file's name of a checkpoint's, another one of each.
func fileName(name string) string {
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_', c == '.' && i > 0:
			b.WriteByte(c)
		default: // capitals too: not every system tells them apart
			fmt.Fprintf(&b, "%%%02x", c)
		}
	}
	if b.Len() <= longestFileName {
		return b.String()
	}
	sum := fmt.Sprintf("%%%x", sha256.Sum256([]byte(name)))
	return b.String()[:longestFileName-len(sum)] + sum
}

func (s *fileStore) Load(_ context.Context, name string) (eventstore.From, error) {
	path := s.path(name)
	b, err := os.ReadFile(path) // #nosec G304 -- the folder is the caller's, the name is escaped
	if errors.Is(err, fs.ErrNotExist) {
		return eventstore.From{}, fmt.Errorf("%w in %s", ErrNoCheckpoint, path)
	}
	if err != nil {
		return eventstore.From{}, err
	}
	text, whole := strings.CutSuffix(string(b), "\n")
	var at eventstore.From
	if err = at.UnmarshalText([]byte(text)); err == nil && !whole {
		err = errors.New("its line has no end")
	}
	if err != nil {
		return eventstore.From{}, fmt.Errorf("%s is no checkpoint; remove it to begin anew: %w", path, err)
	}
	return at, nil
}

func (s *fileStore) Save(_ context.Context, name string, at eventstore.From) error {
	if err := s.makeReady(); err != nil {
		return err
	}
	path := s.path(name)
	written, err := writeSynced(path, at.String()+"\n")
	if err != nil {
		return err
	}
	if err := os.Rename(written, path); err != nil {
		return errors.Join(err, os.Remove(written))
	}
	return syncFolder(s.dir)
}

// writeSynced writes a second file beside path and returns its name, which nobody else has.
func writeSynced(path, content string) (name string, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*"+tempExt)
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// makeReady makes the folder, so that a crash does not take it away, and removes what earlier crashes have left.
func (s *fileStore) makeReady() error {
	s.ready.Lock()
	defer s.ready.Unlock()
	if s.made {
		return nil
	}
	if err := makeFolder(s.dir); err != nil {
		return err
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.Contains(e.Name(), fileExt+".") || !strings.HasSuffix(e.Name(), tempExt) {
			continue
		}
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > tempAge {
			_ = os.Remove(filepath.Join(s.dir, e.Name())) // another process may have been quicker
		}
	}
	s.made = true
	return nil
}

// makeFolder makes dir and the folders above it that are missing.
func makeFolder(dir string) error {
	if _, err := os.Stat(dir); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := makeFolder(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncFolder(parent)
}

// syncFolder has the disk take what was renamed or made in a folder. Some systems cannot do that to a folder, which is no failure
// of the save.
func syncFolder(dir string) error {
	f, err := os.Open(dir) // #nosec G304 -- see Load
	if err != nil {
		return err
	}
	err = f.Sync()
	if runtime.GOOS == "windows" || errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		err = nil
	}
	return errors.Join(err, f.Close())
}
