package server

import (
	"os"
	ossignal "os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/server/internal/store"
)

// smallFile is less than a file of bbolt becomes when it grows for the sixth time.
const smallFile = 1 << 20

// limitFiles lets no file of this process be larger: a write beyond fails as on a disk that is full.
func limitFiles(size uint64) error {
	ossignal.Ignore(syscall.SIGXFSZ)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	limit.Cur = min(size, limit.Max)
	return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit)
}

// TestAFileThatMayNotGrow fills the file of a server in another process: from then on writes are refused and all that was
// acknowledged can be read; with more room writes go on, and the next server has all of it, and nothing that was refused.
func TestAFileThatMayNotGrow(t *testing.T) {
	ctx, folder := t.Context(), t.TempDir()
	p := startServed(ctx, t, smallStore, folder)
	require.NotEmpty(t, p.addr, "it did not start: %s", &p.stderr)
	c, err := dialKilled(p.addr)
	require.NoError(t, err)
	var kept []uuid.UUID
	write := func(c *killedConn) bool {
		t.Helper()
		id := uuid.New()
		require.NoError(t, c.send(&messages.Append{Stream: "s", Expected: expectAny, Events: []messages.NewEvent{
			{ID: id, Type: "t", Data: make([]byte, 3000)},
		}}))
		f, err := c.next()
		require.NoError(t, err)
		if f.Command == messages.BadRequest {
			require.Equal(t, textNotStored, string(f.Body))
			return false
		}
		var done messages.AppendCompleted
		require.NoError(t, done.Decode(f.Body))
		require.Equal(t, messages.Success, done.Result)
		require.EqualValues(t, len(kept), done.First)
		kept = append(kept, id)
		return true
	}
	read := func(c *killedConn) {
		t.Helper()
		ids, err := c.ids("s", 0)
		require.NoError(t, err)
		require.Equal(t, kept, ids)
	}
	for write(c) {
		require.Less(t, len(kept), smallFile/3000)
	}
	require.NotEmpty(t, kept)
	for range 20 {
		require.False(t, write(c))
	}
	read(c)
	_, err = p.in.Write([]byte("room\n"))
	require.NoError(t, err)
	require.True(t, p.lines.Scan())
	for range 600 {
		require.True(t, write(c))
	}
	read(c)
	require.NoError(t, c.Close())
	require.NoError(t, p.in.Close())
	require.NoError(t, p.Wait(), "%s", &p.stderr)

	n := runOn(t, folder)
	require.EqualValues(t, len(kept)-1, n.view().must(t, "s").last)
	n.peer(t).appended("s", int64(len(kept)-1), "a")
}

// touched is how many KiB of a server's file are mapped by what was read of it.
func touched(t *testing.T, folder string) int64 {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/smaps")
	require.NoError(t, err)
	_, of, found := strings.Cut(string(maps), filepath.Join(folder, store.DiskFile))
	require.True(t, found)
	_, rss, found := strings.Cut(of, "\nRss:")
	require.True(t, found)
	n, err := strconv.ParseInt(strings.Fields(rss)[0], 10, 64)
	require.NoError(t, err)
	return n
}
