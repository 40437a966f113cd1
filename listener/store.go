package listener

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/goeventstore/eventstore"
)

// ErrNoCheckpoint says that a store has no checkpoint of this name.
var ErrNoCheckpoint = errors.New("no checkpoint")

// Store keeps checkpoints by name, which a listener never leaves empty. Its methods are safe for concurrent use.
type Store interface {
	// Load returns the checkpoint, or an error for which errors.Is(err, ErrNoCheckpoint) holds when there is none.
	Load(ctx context.Context, name string) (eventstore.From, error)
	// Save replaces the checkpoint. When it has returned nil, the checkpoint survives what the store survives.
	Save(ctx context.Context, name string, at eventstore.From) error
}

// MemoryStore keeps checkpoints for as long as the process lives.
func MemoryStore() Store { return &memoryStore{at: make(map[string]eventstore.From)} }

type memoryStore struct {
	mu sync.Mutex
	at map[string]eventstore.From
}

func (s *memoryStore) Load(_ context.Context, name string) (eventstore.From, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.at[name]
	if !ok {
		return eventstore.From{}, ErrNoCheckpoint
	}
	return at, nil
}

func (s *memoryStore) Save(_ context.Context, name string, at eventstore.From) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at[name] = at
	return nil
}

// FileStore keeps each checkpoint in a file of its own in dir, which is made when needed. A save writes a second file, has the
// disk take it, and renames it, so that a crash leaves the old checkpoint or the new one. It is for one process at a time.
func FileStore(dir string) Store { return &fileStore{dir: dir} }

type fileStore struct {
	dir string
	mu  sync.Mutex // one save at a time: they share a name for the second file
}

func (s *fileStore) path(name string) string {
	return filepath.Join(s.dir, url.PathEscape(name)+".checkpoint")
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
	var at eventstore.From
	if err := at.UnmarshalText([]byte(strings.TrimSpace(string(b)))); err != nil {
		return eventstore.From{}, fmt.Errorf("%s is no checkpoint; remove it to begin anew: %w", path, err)
	}
	return at, nil
}

func (s *fileStore) Save(_ context.Context, name string, at eventstore.From) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := os.MkdirAll(s.dir, 0o750); err != nil {
		return err
	}
	path := s.path(name)
	if err := writeSynced(path+".new", []byte(at.String()+"\n")); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return syncFolder(s.dir)
}

func writeSynced(path string, b []byte) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600) // #nosec G304 -- see Load
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(b); err != nil {
		return err
	}
	return f.Sync()
}

// syncFolder has the disk take the rename too. Some systems cannot sync a folder, which is no failure of the save.
func syncFolder(dir string) error {
	f, err := os.Open(dir) // #nosec G304 -- see Load
	if err != nil {
		return err
	}
	_ = f.Sync()
	return f.Close()
}
