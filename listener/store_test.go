package listener_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/listener"
)

func TestStores(t *testing.T) {
	stores := map[string]listener.Store{
		"memory": listener.MemoryStore(),
		"file":   listener.FileStore(filepath.Join(t.TempDir(), "made", "when", "needed")),
	}
	for name, s := range stores {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			_, err := s.Load(ctx, "a")
			require.ErrorIs(t, err, listener.ErrNoCheckpoint)
			for _, at := range []eventstore.From{
				eventstore.After(0), eventstore.After(41), eventstore.Start,
				eventstore.AfterPosition(eventstore.Position{Commit: 7, Prepare: 5}),
			} {
				require.NoError(t, s.Save(ctx, "a", at))
				got, err := s.Load(ctx, "a")
				require.NoError(t, err)
				require.Equal(t, at, got)
			}
			for _, name := range []string{"a/b", "../a", "..", ".", "", "ä ö%", "a:b*?"} {
				_, err := s.Load(ctx, name)
				require.ErrorIs(t, err, listener.ErrNoCheckpoint, name)
				require.NoError(t, s.Save(ctx, name, eventstore.After(1)), name)
			}
			got, err := s.Load(ctx, "a")
			require.NoError(t, err)
			require.Equal(t, eventstore.AfterPosition(eventstore.Position{Commit: 7, Prepare: 5}), got, "names do not meet")
		})
	}
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
