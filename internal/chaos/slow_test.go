package chaos_test

import (
	"context"
	"encoding/binary"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/subscription"
)

// liveEvents is how many events the slow consumers get: EVENTS, else 50,000.
func liveEvents(t *testing.T) int {
	t.Helper()
	s := os.Getenv("EVENTS")
	if s == "" {
		return 50_000
	}
	n, err := strconv.Atoi(s)
	require.NoError(t, err, "EVENTS")
	return n
}

// Live events come as fast as they can be written, to a consumer that keeps up, to one that is slow all the time, and to one that
// stands still until everything is written. Each gets every event, in order, and holds no more than its buffer meanwhile.
func TestASlowConsumerGetsEverythingInBoundedMemory(t *testing.T) {
	const buffer, page = 1000, 500
	total := liveEvents(t)
	srv := eventstoretest.Run(t, eventstoretest.ForceEmbedded())
	writer := srv.Client(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	written := make(chan struct{})
	consumers := map[string]func(n int){
		"keeps up": func(int) {},
		"slow": func(n int) {
			if n%100 == 0 {
				time.Sleep(time.Millisecond) // its work
			}
		},
		"stands still": func(n int) {
			if n == 0 {
				<-written
			}
		},
	}
	var group, subscribed sync.WaitGroup
	subscribed.Add(len(consumers))
	for name, work := range consumers {
		client := srv.Client(t)
		group.Go(func() {
			fell := 0
			sub, err := subscription.Open(ctx, client, subscription.Config{
				Stream: "busy", From: eventstore.End, Buffer: buffer, PageSize: page,
				OnNotice: func(n subscription.Notice) {
					if n.Kind == subscription.FellBehind {
						fell++
					}
				},
			})
			subscribed.Done()
			if err != nil {
				t.Errorf("%s: %v", name, err)
				return
			}
			defer func() { _ = sub.Close() }()
			begun := time.Now()
			for n := range total {
				work(n)
				e, err := sub.Recv(ctx)
				if err != nil || e.Event.Number != int64(n) || binary.LittleEndian.Uint64(e.Event.Data) != uint64(n) {
					t.Errorf("%s: event %d: %v %v", name, n, e.Event, err)
					return
				}
				if held := sub.Stats().Buffered; held > buffer+page {
					t.Errorf("%s: it holds %d events, its buffer is %d and its page %d", name, held, buffer, page)
					return
				}
			}
			stats := sub.Stats()
			t.Logf("%-12s %d events, %.0f events/s, fell behind %d times, %d pages", name, total, float64(total)/time.Since(begun).Seconds(), fell, stats.Pages)
		})
	}
	subscribed.Wait()
	expected := eventstore.NoStream
	for n := 0; n < total; {
		batch := make([]eventstore.EventData, 0, 500)
		for ; n < total && len(batch) < cap(batch); n++ {
			batch = append(batch, eventstore.EventData{Type: "happened", Data: binary.LittleEndian.AppendUint64(make([]byte, 0, 64), uint64(n))})
		}
		r, err := writer.Append(ctx, "busy", expected, batch)
		require.NoError(t, err)
		expected = r.Last
	}
	close(written)
	group.Wait()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	t.Logf("heap at the end, with the server's %d events: %d MiB", total, m.HeapAlloc>>20)
}
