package store_test

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/server/internal/store"
)

// fill writes n events of 1,000 bytes to a stream, 100 a commit.
func (l *log) fill(stream string, first, n int64) {
	l.t.Helper()
	for number := first; number < first+n; number++ {
		require.NoError(l.t, l.Stage(l.end+10, store.Record{
			Stream: stream, Number: number, ID: id(stream, number), Commit: l.end, Prepare: l.end, Encoded: make([]byte, 1000),
		}))
		l.end += 10
		if number%100 == 99 {
			l.commit()
		}
	}
	l.commit()
}

// TestAScavengeThatIsNotFinished: some of it is applied when the process ends. Nothing is half gone, the places that it took
// stay places, and the next run does the rest.
func TestAScavengeThatIsNotFinished(t *testing.T) {
	folder := t.TempDir()
	d := openDisk(t, folder)
	l := &log{t: t, Store: d, end: 100}
	l.fill("a", 0, 3000)
	l.fill("b", 0, 3)
	drop := func(r *store.Record) (bool, error) { return r.Stream == "a" && r.Number < 2990, nil }
	found, err := d.Scavenge(drop)
	require.NoError(t, err)
	more, err := found.Apply()
	require.NoError(t, err)
	require.True(t, more, "one step is not all")
	tip := d.Tip()
	require.NoError(t, d.Close())

	d = openDisk(t, folder)
	l.Store = d
	require.Equal(t, tip, d.Tip())
	require.Equal(t, tip.Commit, d.ScavengedTo())
	require.Equal(t, store.Head{Last: 2999, Meta: -1}, l.head("a", tip.Commit))
	next := int64(0)
	var numbers []int64
	require.NoError(t, d.Events("a", 0, math.MaxInt64, tip.Commit, func(r *store.Record) bool {
		numbers = append(numbers, r.Number)
		next = r.Number + 1
		return true
	}))
	require.Greater(t, len(numbers), 1000)
	require.Less(t, len(numbers), 2500)
	require.EqualValues(t, 3000, next)
	require.EqualValues(t, len(numbers), numbers[len(numbers)-1]-numbers[0]+1, "they follow each other")
	require.Len(t, l.forward(0, tip.Commit), len(numbers)+3)

	l.scavenge(func(r *store.Record) bool { gone, _ := drop(r); return gone })
	require.Len(t, l.events("a", 0, math.MaxInt64, tip.Commit), 10)
	require.Len(t, l.forward(0, tip.Commit), 13)
	l.fill("a", 3000, 1)
	require.NoError(t, d.Close())
}

// TestAScavengeThatCannotBeWritten leaves everything as it was, and can be tried again.
func TestAScavengeThatCannotBeWritten(t *testing.T) {
	d := openDisk(t, t.TempDir())
	l := &log{t: t, Store: d, end: 100}
	l.fill("a", 0, 100)
	before := l.forward(0, d.Tip().Commit)
	found, err := d.Scavenge(func(r *store.Record) (bool, error) { return r.Number < 99, nil })
	require.NoError(t, err)
	d.Committing(func(func() error) error { return os.ErrPermission })
	_, err = found.Apply()
	require.ErrorIs(t, err, os.ErrPermission)
	require.Equal(t, before, l.forward(0, d.Tip().Commit))
	d.Committing(func(commit func() error) error { return commit() })
	_, err = found.Apply()
	require.NoError(t, err)
	require.Len(t, l.forward(0, d.Tip().Commit), 1)
	require.NoError(t, d.Close())
}

// TestAScavengeMakesRoom: what is written behind it takes the place of what is gone, so that the file does not grow.
func TestAScavengeMakesRoom(t *testing.T) {
	folder := t.TempDir()
	d := openDisk(t, folder)
	l := &log{t: t, Store: d, end: 100}
	size := func() int64 {
		info, err := os.Stat(filepath.Join(folder, store.DiskFile))
		require.NoError(t, err)
		return info.Size()
	}
	const events = 5000
	l.fill("a", 0, events)
	full := size()
	require.Greater(t, full, int64(events*1000))
	for round := int64(1); round <= 3; round++ {
		l.scavenge(func(r *store.Record) bool { return r.Number < round*events-1 })
		l.fill("a", round*events, events)
	}
	require.LessOrEqual(t, size(), full+full/3)
	require.NoError(t, d.Close())
}
