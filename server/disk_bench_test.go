package server

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
)

// BenchmarkAppendOnDisk is BenchmarkAppend1024InFlight on disk.
func BenchmarkAppendOnDisk(b *testing.B) {
	commits := appendOnDisk(b)
	b.ReportMetric(float64(b.N)/float64(commits), "appends/commit")
}

// appendOnDisk returns how many commits it took.
func appendOnDisk(b *testing.B) int64 {
	b.Helper()
	s, conn := dialServer(b, Config{DB: b.TempDir(), HTTP: Off})
	c := &committing{Store: s.writer.store}
	var commits atomic.Int64
	count := func(commit func() error) error {
		commits.Add(1)
		return commit()
	}
	c.commit.Store(&count)
	s.writer.store = c // there was no request yet
	append1024InFlight(b, conn, "bench")
	return commits.Load()
}

// TestOnDiskIsHalfAsQuickAsBareBolt compares the two in one run, and has 50 appends in a commit at least. It needs a machine with
// nothing else to do: EVENTS, which says that tests may take their time, has it run.
func TestOnDiskIsHalfAsQuickAsBareBolt(t *testing.T) {
	if os.Getenv("EVENTS") == "" {
		t.Skip("EVENTS is not set: figures that others do not disturb are taken in CI")
	}
	var commits int64
	ours := testing.Benchmark(func(b *testing.B) { b.Helper(); commits = appendOnDisk(b) })
	together := int64(ours.N) / max(commits, 1)
	bare := testing.Benchmark(func(b *testing.B) { b.Helper(); bareBolt(b, int(together)) })
	t.Logf("%d appends/s on disk, %d in a commit; bare bbolt %d/s", int64(ours.N)*1e9/int64(ours.T), together, int64(bare.N)*1e9/int64(bare.T))
	require.GreaterOrEqual(t, together, int64(50))
	require.LessOrEqual(t, ours.NsPerOp(), 2*bare.NsPerOp())
}

// BenchmarkBareBolt is what bbolt itself takes for as many records as an append of BenchmarkAppendOnDisk has bytes, one put
// each, 500 a transaction.
func BenchmarkBareBolt(b *testing.B) { bareBolt(b, 500) }

func bareBolt(b *testing.B, together int) {
	b.Helper()
	const size = 330 // of an event of 256 bytes as it is stored
	db, err := bbolt.Open(filepath.Join(b.TempDir(), "bare.db"), 0o600, &bbolt.Options{FreelistType: bbolt.FreelistMapType})
	require.NoError(b, err)
	defer func() { require.NoError(b, db.Close()) }()
	value := make([]byte, size)
	bucket := []byte("records")
	b.ResetTimer()
	for n := 0; n < b.N; {
		err := db.Update(func(tx *bbolt.Tx) error {
			records, err := tx.CreateBucketIfNotExists(bucket)
			for range together {
				if n < b.N && err == nil {
					err = records.Put(binary.BigEndian.AppendUint64(nil, uint64(n)), value)
					n++
				}
			}
			return err
		})
		require.NoError(b, err)
	}
}
