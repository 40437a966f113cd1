package listener_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/listener"
	"github.com/goeventstore/eventstore/listener/internal/storetest"
)

func TestStores(t *testing.T) {
	t.Run("memory", func(t *testing.T) { storetest.Store(t, listener.MemoryStore()) })
	t.Run("file", func(t *testing.T) {
		storetest.Store(t, listener.FileStore(filepath.Join(t.TempDir(), "made", "when", "needed")))
	})
	t.Run("the ledger of these tests", func(t *testing.T) {
		storetest.TxStore(t, newLedger(), storetest.Effects[*page]{
			Put: func(p *page, key, value string) error { p.values[key] = value; return nil },
			Get: func(p *page, key string) string { return p.values[key] },
		})
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
	for _, content := range []string{"", "\x00\x00\x00", "after", "17"} {
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		_, err := listener.FileStore(dir).Load(t.Context(), "a")
		require.ErrorContains(t, err, path)
		require.NotErrorIs(t, err, listener.ErrNoCheckpoint)
	}
}
