package listener

import (
	"context"
	"errors"
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
