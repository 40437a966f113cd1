package store_test

import (
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/goeventstore/eventstore/server/internal/store"
)

// told is a record as a short text.
func told(r *store.Record) string {
	return fmt.Sprintf("%d %.40s %d %s %s %d %d %d %d bytes %x", r.Kind, r.Stream, r.Number, r.ID, r.Type, r.Commit, r.Prepare,
		r.Created, len(r.Encoded), crc32.ChecksumIEEE(r.Encoded))
}

// everything is all that a store tells, as text: of these streams and of the log, as of a position.
func everything(tb testing.TB, s store.Store, at int64, streams ...string) []string {
	tb.Helper()
	said := []string{fmt.Sprint(s.Tip(), s.ScavengedTo())}
	say := func(r *store.Record) bool {
		said = append(said, told(r))
		return true
	}
	for _, name := range streams {
		h, err := s.Head(name, at)
		require.NoError(tb, err)
		said = append(said, fmt.Sprintf("%.40s %+v", name, h))
		require.NoError(tb, s.Events(name, 0, store.DeletedNumber, at, say))
		require.NoError(tb, s.EventsBackward(name, 0, store.DeletedNumber, at, say))
	}
	require.NoError(tb, s.Log(store.Position{}, at, say))
	require.NoError(tb, s.LogBackward(store.Position{Commit: math.MaxInt64}, at, say))
	return said
}

// TestTheDiskIsAsMemory does the same at random with a store in memory and one on disk, which is closed and opened, or has a
// commit fail, now and then: both always tell the same.
func TestTheDiskIsAsMemory(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, 7))
			folder := t.TempDir()
			disk := openDisk(t, folder)
			defer func() { require.NoError(t, disk.Close()) }()
			memory := store.NewMemory(100)
			long := strings.Repeat("long", 100)
			names := []string{"a", "b", "$$a", "$$c", "c", long, "$$" + long, long + "er"}
			end, ats := int64(100), []int64{-1}
			next, gone := map[string]int64{}, map[string]bool{}
			for range 30 {
				var staged []store.Record
				before, beforeEnd := maps.Clone(next), end
				for range random.IntN(40) {
					r := store.Record{Kind: store.Kind(max(0, random.IntN(12)-9)), Commit: end, Prepare: end, Created: end * 3}
					if r.Kind == store.Event {
						name := names[random.IntN(len(names))]
						if gone[name] {
							continue
						}
						r.Stream, r.Type, r.Number, r.ID = name, fmt.Sprint("t", random.IntN(3)), next[name], id(name, next[name])
						r.Encoded = make([]byte, random.IntN(2)*random.IntN(3000))
						for i := range r.Encoded {
							r.Encoded[i] = byte(random.Uint32())
						}
						next[name]++
					}
					end += 10
					staged = append(staged, r)
				}
				stage := func(s store.Store) {
					for i := range staged {
						require.NoError(t, s.Stage(staged[i].Commit+10, staged[i]))
					}
				}
				stage(disk)
				switch random.IntN(8) {
				case 0: // it fails before anything is written
					disk.Committing(func(func() error) error { return errors.New("the disk is full") })
					if len(staged) > 0 {
						require.ErrorContains(t, disk.Commit(), "the disk is full")
					}
					require.NoError(t, disk.Rollback())
					disk.Committing(func(commit func() error) error { return commit() })
					next, end = before, beforeEnd
					staged = nil
				case 1: // and is never asked for
					require.NoError(t, disk.Rollback())
					next, end = before, beforeEnd
					staged = nil
				}
				stage(memory)
				at := ats[random.IntN(len(ats))]
				require.Equal(t, everything(t, memory, store.Staged, names...), everything(t, disk, store.Staged, names...))
				require.Equal(t, everything(t, memory, at, names...), everything(t, disk, at, names...))
				require.Equal(t, everything(t, memory, at, names...), everything(t, disk.Lend(), at, names...))
				require.NoError(t, memory.Commit())
				require.NoError(t, disk.Commit())
				ats = append(ats, disk.Tip().Commit, disk.Tip().End-1, random.Int64N(end))
				for range 5 {
					at, first := ats[random.IntN(len(ats))], random.Int64N(200)
					if random.IntN(2) == 0 {
						first = random.Int64N(end)
					}
					p := store.Position{Commit: first, Prepare: random.Int64N(end)}
					name := names[random.IntN(len(names))]
					limit := 1 + random.IntN(2)*100
					of := func(s store.Store) (found []string) {
						left := 0
						take := func(r *store.Record) bool { found = append(found, told(r)); left--; return left > 0 }
						left = limit
						require.NoError(t, s.Events(name, first, first+20, at, take))
						found, left = append(found, "and"), limit
						require.NoError(t, s.EventsBackward(name, first, first+20, at, take))
						found, left = append(found, "and"), limit
						require.NoError(t, s.Log(p, at, take))
						found, left = append(found, "and"), limit
						require.NoError(t, s.LogBackward(p, at, take))
						return found
					}
					require.Equal(t, of(memory), of(disk))
				}
				if random.IntN(6) == 0 {
					last := map[string]int64{}
					for _, name := range names {
						h, err := memory.Head(name, memory.Tip().Commit)
						require.NoError(t, err)
						last[name] = h.Last
					}
					luck := random.Uint64()
					for _, s := range []store.Store{memory, disk} {
						choice := rand.New(rand.NewPCG(luck, 0))
						found, err := s.Scavenge(func(r *store.Record) (bool, error) {
							drop := choice.IntN(3) > 0
							return drop && r.Number != last[r.Stream] && r.Kind != store.Pending || r.Kind == store.Void, nil
						})
						require.NoError(t, err)
						for more := true; more; {
							more, err = found.Apply()
							require.NoError(t, err)
						}
					}
					// An older reader sees what there was then.
					require.Equal(t, everything(t, memory, at, names...), everything(t, disk, at, names...))
				}
				if random.IntN(5) == 0 {
					require.NoError(t, disk.Close())
					disk = openDisk(t, folder)
				}
				require.Equal(t, everything(t, memory, memory.Tip().Commit, names...), everything(t, disk, disk.Tip().Commit, names...))
			}
			// A tombstone is the last of its stream, here as there.
			for _, s := range []store.Store{memory, disk} {
				require.NoError(t, s.Stage(end+10, store.Record{Stream: "a", Number: store.DeletedNumber, Commit: end, Prepare: end}))
				require.NoError(t, s.Commit())
			}
			for _, at := range ats {
				require.Equal(t, everything(t, memory, at, names...), everything(t, disk, at, names...))
			}
		})
	}
}

// TestACommitIsOnDiskWhenItReturns: while the file is written nobody sees what is, and syncing is on.
func TestACommitIsOnDiskWhenItReturns(t *testing.T) {
	d := openDisk(t, t.TempDir())
	l := &log{t: t, Store: d, end: 100}
	require.True(t, d.Syncs())
	at := -1
	d.Committing(func(commit func() error) error {
		require.Empty(t, l.events("a", 0, 9, d.Tip().Commit))
		err := commit()
		at = int(d.Tip().Commit)
		require.Empty(t, l.events("a", 0, 9, d.Tip().Commit), "not before Commit has returned")
		return err
	})
	l.stage("a", 0)
	l.commit()
	require.Equal(t, -1, at)
	require.Equal(t, []string{"0@a"}, l.events("a", 0, 9, d.Tip().Commit))
	require.NoError(t, d.Close())
}

// TestACommitWhoseEndIsNotKnown: the file has it and the disk said no. Nothing is written any more; what was there can be
// read, and the next start has all of it or nothing.
func TestACommitWhoseEndIsNotKnown(t *testing.T) {
	folder := t.TempDir()
	d := openDisk(t, folder)
	l := &log{t: t, Store: d, end: 100}
	l.stage("a", 0)
	l.commit()
	d.Committing(func(commit func() error) error { return errors.Join(commit(), errors.New("sync failed")) })
	l.stage("a", 1)
	l.stage("b", 0)
	require.ErrorContains(t, d.Commit(), "sync failed")
	require.ErrorContains(t, d.Rollback(), "sync failed")
	require.ErrorContains(t, d.Stage(200, store.Record{Stream: "a", Number: 1, Commit: 110, Prepare: 110}), "sync failed")
	require.ErrorContains(t, d.Commit(), "sync failed")
	require.Equal(t, []string{"0@a"}, l.forward(0, d.Tip().Commit))
	require.Equal(t, store.Head{Last: 0, Meta: -1}, l.head("a", d.Tip().Commit))
	require.NoError(t, d.Close())
	l.Store = openDisk(t, folder)
	require.Equal(t, []string{"0@a", "1@a", "0@b"}, l.forward(0, l.Tip().Commit))
	require.NoError(t, l.Close())
}

func TestOneProcessOpensAFolder(t *testing.T) {
	folder := t.TempDir()
	d := openDisk(t, folder)
	_, err := store.OpenDisk(folder, 100)
	require.EqualError(t, err, "the folder "+folder+" is open in another process, or twice in this one")
	require.NoError(t, d.Close())
	require.NoError(t, openDisk(t, folder).Close())
	files, err := filepath.Glob(filepath.Join(folder, "*"))
	require.NoError(t, err)
	require.Equal(t, []string{filepath.Join(folder, store.DiskFile)}, files, "nothing else is left in the folder")
}

// TestUnknownFilesAreRefused in words, and left as they are.
func TestUnknownFilesAreRefused(t *testing.T) {
	change := func(do func(tx *bbolt.Tx) error) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			t.Helper()
			db, err := bbolt.Open(path, 0o600, nil)
			require.NoError(t, err)
			require.NoError(t, db.Update(do))
			require.NoError(t, db.Close())
		}
	}
	for says, make := range map[string]func(t *testing.T, path string){
		"it is empty": func(t *testing.T, path string) {
			t.Helper()
			require.NoError(t, os.WriteFile(path, nil, 0o600))
		},
		"is no database of this program": func(t *testing.T, path string) {
			t.Helper()
			require.NoError(t, os.WriteFile(path, []byte(strings.Repeat("no", 10_000)), 0o600))
		},
		"a file of bbolt, but no database of this program": func(t *testing.T, path string) {
			t.Helper()
			require.NoError(t, os.Remove(path))
			change(func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("log")); return err })(t, path)
		},
		`its format is "goeventstore log 2", this program knows "goeventstore log 1"`: change(func(tx *bbolt.Tx) error {
			return tx.Bucket([]byte("state")).Put([]byte("format"), []byte("goeventstore log 2"))
		}),
		`something that this program does not know: "more"`: change(func(tx *bbolt.Tx) error {
			_, err := tx.CreateBucket([]byte("more"))
			return err
		}),
		"parts of it are missing":            change(func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte("names")) }),
		"it does not say where the log ends": change(func(tx *bbolt.Tx) error { return tx.Bucket([]byte("state")).Delete([]byte("tip")) }),
	} {
		t.Run(says, func(t *testing.T) {
			folder := t.TempDir()
			path := filepath.Join(folder, store.DiskFile)
			require.NoError(t, openDisk(t, folder).Close())
			make(t, path)
			before, err := os.ReadFile(path)
			require.NoError(t, err)
			_, err = store.OpenDisk(folder, 100)
			require.ErrorContains(t, err, says)
			require.ErrorContains(t, err, path)
			after, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, before, after)
		})
	}
}
