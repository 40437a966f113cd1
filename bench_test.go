package eventstore_test

import (
	"bytes"
	"context"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/server"
)

func benchClient(b *testing.B) *eventstore.Client {
	b.Helper()
	return clientOf(b, server.Config{})
}

func clientOf(b *testing.B, cfg server.Config) *eventstore.Client {
	b.Helper()
	srv, err := server.Start(cfg)
	require.NoError(b, err)
	b.Cleanup(func() { _ = srv.Close() })
	c, err := eventstore.Connect(b.Context(), srv.URL(), eventstore.WithCredentials("admin", "changeit"))
	require.NoError(b, err)
	b.Cleanup(func() { _ = c.Close() })
	return c
}

// BenchmarkAppend measures an append of one event of 256 bytes, the embedded server in the same process included.
func BenchmarkAppend(b *testing.B) {
	for _, inFlight := range []int{1, 128} {
		b.Run(map[int]string{1: "1InFlight", 128: "128InFlight"}[inFlight], func(b *testing.B) {
			c := benchClient(b)
			events := []eventstore.EventData{{Type: "happened", Data: bytes.Repeat([]byte("x"), 256)}}
			var left atomic.Int64
			left.Store(int64(b.N))
			var group sync.WaitGroup
			b.ReportAllocs()
			b.ResetTimer()
			for range inFlight {
				group.Go(func() {
					for left.Add(-1) >= 0 {
						if _, err := c.Append(context.Background(), "bench", eventstore.Any, events); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			group.Wait()
		})
	}
}

// BenchmarkReadPage measures a page of 500 events of 256 bytes, the embedded server in the same process included.
func BenchmarkReadPage(b *testing.B) { readPages(b, server.Config{}) }

// BenchmarkReadPageOnDisk is the same with the server's log on disk.
func BenchmarkReadPageOnDisk(b *testing.B) { readPages(b, server.Config{DB: b.TempDir()}) }

func readPages(b *testing.B, cfg server.Config) {
	b.Helper()
	c := clientOf(b, cfg)
	batch := make([]eventstore.EventData, 500)
	for i := range batch {
		batch[i] = eventstore.EventData{Type: "happened", Data: bytes.Repeat([]byte("x"), 256)}
	}
	_, err := c.Append(b.Context(), "bench", eventstore.NoStream, batch)
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		slice, err := c.ReadSlice(b.Context(), "bench", eventstore.Start, 500)
		if err != nil || len(slice.Events) != 500 {
			b.Fatal(len(slice.Events), err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/500, "ns/event")
}
