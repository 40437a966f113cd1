package server

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/server/internal/store"
)

// filled has a folder with so many events in it, of 256 bytes, in streams of 50 events, to 100 of them at a time.
func filled(t *testing.T, events int) string {
	t.Helper()
	folder := t.TempDir()
	require.NoError(t, runOn(t, folder).Close()) // what every log begins with
	d, err := store.OpenDisk(folder, firstPosition)
	require.NoError(t, err)
	end := d.Tip().End
	numbers := make(map[string]int64)
	data := make([]byte, 256)
	for i := range events {
		stream := fmt.Sprint("stream-", i/5000*100+i%100)
		e := messages.EventRecord{Stream: stream, Number: numbers[stream], ID: uuid.New(), Type: "happened", Data: data}
		require.NoError(t, d.Stage(end+400, store.Record{
			Stream: stream, Number: e.Number, ID: e.ID, Type: e.Type, Commit: end, Prepare: end, Encoded: e.AppendTo(nil),
		}))
		end += 400
		numbers[stream]++
		if i%2000 == 1999 {
			require.NoError(t, d.Commit())
		}
	}
	require.NoError(t, d.Commit())
	require.NoError(t, d.Close())
	return folder
}

// TestAStartDoesNotReadTheLog: with many events it reads about as many pages as with few, and has as much in memory, also when
// it was written to and read from. EVENTS says how many are many.
func TestAStartDoesNotReadTheLog(t *testing.T) {
	const few = 10_000
	many := 100_000
	if s := os.Getenv("EVENTS"); s != "" {
		n, err := strconv.Atoi(s)
		require.NoError(t, err, "EVENTS")
		many = n
	}
	heap := func() int64 {
		for range 3 {
			runtime.GC()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	measure := func(folder string, streams int) (pages, grown int64) {
		before := heap()
		s, err := Start(Config{DB: folder, HTTP: Off})
		require.NoError(t, err)
		defer func() { require.NoError(t, s.Close()) }()
		pages = touched(t, folder)
		for i := range min(streams, 3000) { // spread over all
			_, err := s.writeOwn(fmt.Sprint("stream-", i*streams/3000), expectAny, jsonEvent("t", []byte("{}")))
			require.NoError(t, err)
		}
		v := s.view()
		require.NoError(t, v.lender().Log(store.Position{}, v.at, func(*store.Record) bool { return true }))
		return pages, heap() - before
	}
	fewFolder, manyFolder := filled(t, few), filled(t, many)
	fewPages, fewHeap := measure(fewFolder, few/50)
	manyPages, manyHeap := measure(manyFolder, many/50)
	t.Logf("%d events: %d KiB of the file are read, %d KiB of heap; %d events: %d KiB, %d KiB", few, fewPages, fewHeap>>10, many, manyPages, manyHeap>>10)
	require.LessOrEqual(t, manyPages, 3*fewPages)
	require.LessOrEqual(t, manyHeap, fewHeap+8<<20, "the ids and heads that are remembered are bounded")
}
