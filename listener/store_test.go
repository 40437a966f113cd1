package listener_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/internal/storetest"
	"github.com/goeventstore/eventstore/listener"
)

func TestStores(t *testing.T) {
	t.Run("memory", func(t *testing.T) { storetest.Store(t, listener.MemoryStore()) })
	t.Run("file", func(t *testing.T) {
		storetest.Store(t, listener.FileStore(filepath.Join(t.TempDir(), "made", "when", "needed")))
	})
	t.Run("stream", func(t *testing.T) {
		srv := eventstoretest.Run(t)
		stores := [2]listener.Store{}
		for i := range stores {
			stores[i] = listener.StreamStore(srv.Client(t), "checkpoint-")
		}
		storetest.Store(t, stores[0])
		storetest.Leaser(t, stores[0].(storetest.LeaserStore), stores[1].(storetest.LeaserStore))
	})
	t.Run("the ledgers of these tests", func(t *testing.T) {
		effects := storetest.Effects[*page]{
			Put: func(p *page, key, value string) error { p.values[key] = value; return nil },
			Get: func(p *page, key string) string { return p.values[key] },
		}
		storetest.TxStore(t, newLedger(), effects)
		s := newLeasedLedger()
		storetest.TxLeaser(t, s, s, effects)
	})
}

func TestAFileStoreStaysInItsFolderAndReadsItsOwn(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "store")
	require.NoError(t, listener.FileStore(dir).Save(t.Context(), "../../evil", eventstore.After(5)))
	entries, err := os.ReadDir(parent)
	require.NoError(t, err)
	require.Len(t, entries, 1)
	got, err := listener.FileStore(dir).Load(t.Context(), "../../evil")
	require.NoError(t, err)
	require.Equal(t, eventstore.After(5), got)
	entries, err = os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1, "no second file is left")
}

func TestAFileThatIsNoCheckpointIsNamed(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.checkpoint")
	for _, content := range []string{"", "\x00\x00\x00", "after", "17", "after 4", "after 4\n1\n", " after 4\n"} {
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		_, err := listener.FileStore(dir).Load(t.Context(), "a")
		require.ErrorContains(t, err, path)
		require.NotErrorIs(t, err, listener.ErrNoCheckpoint)
	}
}

// Two processes save at once, and a third reads: it never sees half a checkpoint. With one name for the second file it did.
func TestAFileIsNeverSeenHalf(t *testing.T) {
	dir := t.TempDir()
	places := []eventstore.From{eventstore.After(7), eventstore.AfterPosition(eventstore.Position{Commit: 1 << 60, Prepare: 1 << 60})}
	require.NoError(t, listener.FileStore(dir).Save(t.Context(), "a", places[0]))
	var writers sync.WaitGroup
	for _, at := range places {
		writers.Go(func() {
			s := listener.FileStore(dir)
			for range 200 {
				if err := s.Save(t.Context(), "a", at); err != nil {
					t.Errorf("save: %v", err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { writers.Wait(); close(done) }()
	for reader, over := listener.FileStore(dir), false; !over; {
		select {
		case <-done:
			over = true
		default:
		}
		at, err := reader.Load(t.Context(), "a")
		require.NoError(t, err)
		require.Contains(t, places, at)
	}
	require.Equal(t, []string{"a.checkpoint"}, files(t, dir))
}

func TestWhatACrashHasLeftIsRemoved(t *testing.T) {
	dir := t.TempDir()
	left, fresh := filepath.Join(dir, "a.checkpoint.17.new"), filepath.Join(dir, "a.checkpoint.18.new")
	for _, path := range []string{left, fresh} {
		require.NoError(t, os.WriteFile(path, []byte("aft"), 0o600))
	}
	hours := time.Now().Add(-2 * time.Hour)
	require.NoError(t, os.Chtimes(left, hours, hours))
	require.NoError(t, listener.FileStore(dir).Save(t.Context(), "b", eventstore.After(1)))
	require.Equal(t, []string{"a.checkpoint.18.new", "b.checkpoint"}, files(t, dir), "the younger one may be under way")
}

func TestNamesOfFiles(t *testing.T) {
	dir := t.TempDir()
	s := listener.FileStore(dir)
	var want []string
	for name, file := range map[string]string{
		"balances":                "balances",
		"$ce-account_7.v2":        "%24ce-account_7.v2",
		"Balances":                "%42alances",
		"../a":                    "%2e.%2fa",
		"":                        "",
		strings.Repeat("a", 200):  strings.Repeat("a", 200),
		strings.Repeat("a", 1000): strings.Repeat("a", 135) + "%41edece42d63e8d9bf515a9ba6932e1c20cbc9f5a5d134645adb5db1b9737ea3",
	} {
		require.NoError(t, s.Save(t.Context(), name, eventstore.After(1)))
		want = append(want, file+".checkpoint")
	}
	require.ElementsMatch(t, want, files(t, dir))
}

func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
