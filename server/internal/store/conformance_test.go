package store_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/goeventstore/eventstore/server/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMemory(t *testing.T) {
	Conformance(t, 500, func(testing.TB) store.Store { return store.NewMemory(100) })
}

func TestDisk(t *testing.T) {
	Conformance(t, 60, func(tb testing.TB) store.Store { tb.Helper(); return openDisk(tb, tb.TempDir()) })
}

func openDisk(tb testing.TB, folder string) *store.Disk {
	tb.Helper()
	d, err := store.OpenDisk(folder, 100)
	require.NoError(tb, err)
	return d
}

// Conformance is what every store must do. open returns an empty one whose first record goes to position 100. Tests with
// readers beside the writer have so many commits.
func Conformance(t *testing.T, commits int, open func(testing.TB) store.Store) {
	t.Helper()
	tests := map[string]func(*testing.T, *log){
		"an empty log":                    testEmpty,
		"records appear with the commit":  testCommit,
		"a stream is read by numbers":     testStream,
		"the log is read by positions":    testLog,
		"a reader sees one moment":        testMoment,
		"a tombstone ends a stream":       testTombstone,
		"metastreams belong to a stream":  testMetastream,
		"a void record is in no stream":   testVoid,
		"records come in order":           testOrder,
		"a transaction shares a commit":   testTransaction,
		"what is pending commits nothing": testPending,
		"a scavenge removes records":      testScavenge,
		"a scavenge that changes nothing": testNoScavenge,
		"a scavenge beside the writer":    testScavengeBeside,
		"readers run beside the writer":   testConcurrency,
		"a reader may stop at any record": testStop,
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			t.Cleanup(func() { require.NoError(t, s.Close()) })
			test(t, &log{t: t, Store: s, end: 100, commits: commits})
		})
	}
}

// log writes records of 10 bytes each.
type log struct {
	t testing.TB
	store.Store
	end     int64
	commits int
}

// stage stages an event, whose Encoded names it, and returns its position.
func (l *log) stage(stream string, number int64) int64 {
	l.t.Helper()
	position := l.end
	l.end += 10
	require.NoError(l.t, l.Stage(l.end, store.Record{
		Stream: stream, Number: number, ID: id(stream, number), Type: "t", Commit: position, Prepare: position,
		Encoded: fmt.Appendf(nil, "%d@%s", number, stream),
	}))
	return position
}

func id(stream string, number int64) uuid.UUID {
	return uuid.NewSHA1(uuid.NameSpaceURL, fmt.Append(nil, stream, number))
}

func (l *log) commit() {
	l.t.Helper()
	require.NoError(l.t, l.Commit())
}

func (l *log) head(stream string, at int64) store.Head {
	l.t.Helper()
	h, err := l.Head(stream, at)
	require.NoError(l.t, err)
	return h
}

// gather collects what a reading method yields.
func (l *log) gather(read func(func(*store.Record) bool) error) []string {
	l.t.Helper()
	names := []string{}
	require.NoError(l.t, read(func(r *store.Record) bool {
		names = append(names, string(r.Encoded))
		return true
	}))
	return names
}

func (l *log) events(stream string, first, last, at int64) []string {
	l.t.Helper()
	up := l.gather(func(yield func(*store.Record) bool) error { return l.Events(stream, first, last, at, yield) })
	down := l.gather(func(yield func(*store.Record) bool) error { return l.EventsBackward(stream, first, last, at, yield) })
	require.Equal(l.t, up, reversed(down), "both directions read the same")
	return up
}

// forward reads from the first record of a commit on.
func (l *log) forward(commit, at int64) []string {
	l.t.Helper()
	return l.from(store.Position{Commit: commit}, at)
}

func (l *log) from(p store.Position, at int64) []string {
	l.t.Helper()
	return l.gather(func(yield func(*store.Record) bool) error { return l.Log(p, at, yield) })
}

// backward reads down from the first record of a commit.
func (l *log) backward(commit, at int64) []string {
	l.t.Helper()
	return l.before(store.Position{Commit: commit}, at)
}

func (l *log) before(p store.Position, at int64) []string {
	l.t.Helper()
	return l.gather(func(yield func(*store.Record) bool) error { return l.LogBackward(p, at, yield) })
}

func reversed(in []string) []string {
	out := append([]string{}, in...)
	slices.Reverse(out)
	return out
}

func testEmpty(t *testing.T, l *log) {
	t.Helper()
	require.Equal(t, store.Tip{Commit: -1, End: 100}, l.Tip())
	require.Equal(t, store.Head{Last: -1, Meta: -1}, l.head("a", store.Staged))
	require.Empty(t, l.events("a", 0, math.MaxInt64, store.Staged))
	require.Empty(t, l.forward(0, store.Staged))
	require.Empty(t, l.backward(math.MaxInt64, store.Staged))
	l.commit()
	require.Equal(t, store.Tip{Commit: -1, End: 100}, l.Tip())
}

func testCommit(t *testing.T, l *log) {
	t.Helper()
	l.stage("a", 0)
	l.stage("b", 0)
	before := l.Tip()
	require.Equal(t, store.Tip{Commit: -1, End: 100}, before)
	require.Equal(t, store.Head{Last: -1, Meta: -1}, l.head("a", before.Commit))
	require.Empty(t, l.events("a", 0, 9, before.Commit))
	require.Empty(t, l.forward(0, before.Commit))
	require.Equal(t, store.Head{Last: 0, Meta: -1}, l.head("a", store.Staged), "the writer sees what it staged")
	require.Equal(t, []string{"0@b"}, l.events("b", 0, 9, store.Staged))
	l.commit()
	require.Equal(t, store.Tip{Commit: 110, End: 120}, l.Tip())
	require.Equal(t, []string{"0@a"}, l.events("a", 0, 9, l.Tip().Commit))
}

func testStream(t *testing.T, l *log) {
	t.Helper()
	for n := range int64(300) {
		l.stage("a", n)
		l.stage("b", n)
	}
	l.commit()
	at := l.Tip().Commit
	require.Equal(t, store.Head{Last: 299, Meta: -1}, l.head("a", at))
	require.Equal(t, []string{"3@a", "4@a", "5@a"}, l.events("a", 3, 5, at))
	require.Equal(t, []string{"299@a"}, l.events("a", 299, math.MaxInt64, at))
	require.Equal(t, []string{"0@a"}, l.events("a", -5, 0, at))
	require.Empty(t, l.events("a", 300, 400, at))
	require.Empty(t, l.events("a", 5, 4, at))
	require.Empty(t, l.events("c", 0, 9, at))
	require.Len(t, l.events("a", 0, math.MaxInt64, at), 300)
	var r store.Record
	require.NoError(t, l.Events("b", 7, 7, at, func(found *store.Record) bool { r = *found; return true }))
	require.Equal(t, store.Record{
		Stream: "b", Number: 7, ID: id("b", 7), Type: "t", Commit: 250, Prepare: 250, Encoded: []byte("7@b"),
	}, r)
}

func testLog(t *testing.T, l *log) {
	t.Helper()
	for n := range int64(3) {
		l.stage("a", n)
		l.stage("b", n)
	}
	l.commit()
	at := l.Tip().Commit
	all := []string{"0@a", "0@b", "1@a", "1@b", "2@a", "2@b"}
	require.Equal(t, all, l.forward(0, at))
	require.Equal(t, all, l.forward(100, at))
	require.Equal(t, all[1:], l.forward(101, at))
	require.Equal(t, all[5:], l.forward(150, at))
	require.Empty(t, l.forward(151, at))
	require.Equal(t, reversed(all), l.backward(math.MaxInt64, at))
	require.Equal(t, reversed(all[:5]), l.backward(150, at))
	require.Empty(t, l.backward(100, at))
}

func testMoment(t *testing.T, l *log) {
	t.Helper()
	l.stage("a", 0)
	l.stage("$$a", 0)
	l.commit()
	then := l.Tip().Commit
	for n := range int64(50) {
		l.stage("a", n+1)
		l.stage("$$a", n+1)
		l.commit()
	}
	l.stage("a", store.DeletedNumber)
	l.commit()
	require.Equal(t, store.Head{Last: 0, Meta: 0}, l.head("a", then))
	require.Equal(t, []string{"0@a"}, l.events("a", 0, math.MaxInt64, then))
	require.Equal(t, []string{"0@a", "0@$$a"}, l.forward(0, then))
	require.Equal(t, []string{"0@$$a", "0@a"}, l.backward(math.MaxInt64, then))
}

func testTombstone(t *testing.T, l *log) {
	t.Helper()
	l.stage("a", 0)
	l.stage("a", 1)
	l.stage("a", store.DeletedNumber)
	l.stage("never", store.DeletedNumber)
	l.commit()
	at := l.Tip().Commit
	require.Equal(t, store.Head{Last: 1, Tombstoned: true, Meta: -1}, l.head("a", at))
	require.Equal(t, store.Head{Last: -1, Tombstoned: true, Meta: -1}, l.head("never", at))
	require.Equal(t, []string{"0@a", "1@a"}, l.events("a", 0, math.MaxInt64-1, at))
	require.Equal(t, []string{"1@a", "9223372036854775807@a"}, l.events("a", 1, math.MaxInt64, at))
	require.Equal(t, []string{"9223372036854775807@a"}, l.events("a", 2, math.MaxInt64, at))
	require.ErrorIs(t, l.Stage(1000, store.Record{Stream: "a", Number: 2, Commit: 500, Prepare: 500}), store.ErrOrder)
}

func testMetastream(t *testing.T, l *log) {
	t.Helper()
	l.stage("$$a", 0)
	l.stage("$$a", 1)
	l.stage("b", 0)
	l.stage("$$b", 0)
	l.stage("$$$$a", 0)
	l.commit()
	at := l.Tip().Commit
	require.Equal(t, store.Head{Last: -1, Meta: 1}, l.head("a", at))
	require.Equal(t, store.Head{Last: 1, Meta: 0}, l.head("$$a", at))
	require.Equal(t, store.Head{Last: 0, Meta: 0}, l.head("b", at))
	l.stage("a", 0)
	require.Equal(t, store.Head{Last: 0, Meta: 1}, l.head("a", store.Staged))
}

func testVoid(t *testing.T, l *log) {
	t.Helper()
	l.stage("a", 0)
	require.NoError(t, l.Stage(125, store.Record{Kind: store.Void, Commit: 110, Prepare: 110}))
	l.commit()
	require.Equal(t, store.Tip{Commit: 110, End: 125}, l.Tip())
	require.Equal(t, []string{"0@a", ""}, l.forward(0, 110))
	require.Equal(t, store.Head{Last: -1, Meta: -1}, l.head("", 110))
}

func testOrder(t *testing.T, l *log) {
	t.Helper()
	l.stage("a", 0)
	for name, r := range map[string]store.Record{
		"a position that was passed": {Stream: "a", Number: 1, Commit: 99, Prepare: 99},
		"a number twice":             {Stream: "a", Number: 0, Commit: 110, Prepare: 110},
		"a gap":                      {Stream: "a", Number: 2, Commit: 110, Prepare: 110},
		"prepared after its commit":  {Stream: "a", Number: 1, Commit: 110, Prepare: 111},
		"the place of another":       {Stream: "b", Number: 0, Commit: 100, Prepare: 100},
		"before it in its commit":    {Stream: "b", Number: 0, Commit: 100, Prepare: 99},
	} {
		require.ErrorIs(t, l.Stage(200, r), store.ErrOrder, name)
	}
}

// transaction stages one of two events with another event in between.
func (l *log) transaction() {
	l.t.Helper()
	pending := func(position, end int64) {
		require.NoError(l.t, l.Stage(end, store.Record{Kind: store.Pending, Commit: position, Prepare: position}))
	}
	l.stage("a", 0) // 100
	pending(110, 120)
	pending(120, 130)
	l.end = 130
	l.stage("a", 1)
	pending(140, 150)
	l.commit()
	require.Equal(l.t, store.Tip{Commit: 130, End: 150}, l.Tip())
	require.NoError(l.t, l.Stage(160,
		store.Record{Stream: "b", Number: 0, Commit: 150, Prepare: 120, Encoded: []byte("0@b")},
		store.Record{Stream: "b", Number: 1, Commit: 150, Prepare: 140, Encoded: []byte("1@b")},
	))
	l.end = 160
	l.commit()
	l.stage("a", 2)
	l.commit()
}

func testTransaction(t *testing.T, l *log) {
	t.Helper()
	l.transaction()
	at := l.Tip().Commit
	all := []string{"0@a", "", "", "1@a", "", "0@b", "1@b", "2@a"}
	require.Equal(t, all, l.forward(0, at))
	require.Equal(t, reversed(all), l.backward(math.MaxInt64, at))
	require.Equal(t, all[:5], l.forward(0, 149))
	for place, first := range map[store.Position]int{
		{Commit: 149, Prepare: 999}: 5,
		{Commit: 150, Prepare: 0}:   5,
		{Commit: 150, Prepare: 120}: 5,
		{Commit: 150, Prepare: 121}: 6,
		{Commit: 150, Prepare: 140}: 6,
		{Commit: 150, Prepare: 141}: 7,
		{Commit: 150, Prepare: 150}: 7,
		{Commit: 151, Prepare: 0}:   7,
	} {
		require.Equal(t, all[first:], l.from(place, at), place)
		require.Equal(t, reversed(all[:first]), l.before(place, at), place)
	}
	require.Equal(t, []string{"0@b", "1@b"}, l.events("b", 0, 9, at))
	require.Empty(t, l.events("b", 0, 9, 149))
}

// testPending: the parts of a transaction that is not committed are behind the last commit, and before the end.
func testPending(t *testing.T, l *log) {
	t.Helper()
	require.NoError(t, l.Stage(110, store.Record{Kind: store.Pending, Commit: 100, Prepare: 100}))
	l.commit()
	require.Equal(t, store.Tip{Commit: -1, End: 110}, l.Tip())
	require.Empty(t, l.forward(0, l.Tip().Commit))
	require.Equal(t, []string{""}, l.forward(0, l.Tip().End-1))
	require.Equal(t, []string{""}, l.backward(math.MaxInt64, l.Tip().End-1))
	l.end = 110
	l.stage("a", 0)
	l.commit()
	require.Equal(t, store.Tip{Commit: 110, End: 120}, l.Tip())
	require.Equal(t, []string{"", "0@a"}, l.forward(0, 110))
}

func testStop(t *testing.T, l *log) {
	t.Helper()
	for n := range int64(5) {
		l.stage("a", n)
	}
	l.commit()
	at := l.Tip().Commit
	for name, read := range map[string]func(func(*store.Record) bool) error{
		"events":   func(y func(*store.Record) bool) error { return l.Events("a", 0, 9, at, y) },
		"backward": func(y func(*store.Record) bool) error { return l.EventsBackward("a", 0, 9, at, y) },
		"log":      func(y func(*store.Record) bool) error { return l.Log(store.Position{}, at, y) },
		"log backward": func(y func(*store.Record) bool) error {
			return l.LogBackward(store.Position{Commit: math.MaxInt64}, at, y)
		},
	} {
		seen := 0
		require.NoError(t, read(func(*store.Record) bool { seen++; return seen < 2 }), name)
		require.Equal(t, 2, seen, name)
	}
}

// scavenge drops records and applies what was found.
func (l *log) scavenge(drop func(*store.Record) bool) {
	l.t.Helper()
	found, err := l.Scavenge(func(r *store.Record) (bool, error) { return drop(r), nil })
	require.NoError(l.t, err)
	for more := true; more; {
		more, err = found.Apply()
		require.NoError(l.t, err)
	}
}

func testScavenge(t *testing.T, l *log) {
	t.Helper()
	const n = 1000
	for i := range int64(n) {
		l.stage("a", i)
		l.stage("b", i)
		l.stage(fmt.Sprint("c", i), 0)
	}
	require.NoError(t, l.Stage(l.end+5, store.Record{Kind: store.Void, Commit: l.end, Prepare: l.end}))
	l.end += 5
	l.stage("d", 0)
	l.stage("$$d", 0)
	l.stage("d", store.DeletedNumber)
	l.commit()
	then := l.Tip()
	l.stage("a", n) // not committed: nobody asks for it
	keep := func(r *store.Record) bool {
		require.LessOrEqual(t, r.Commit, then.Commit)
		switch r.Stream {
		case "a":
			return r.Number >= n-3
		case "b":
			return r.Number%10 == 3 || r.Number == n-1
		case "d", "$$d":
			return r.Number == store.DeletedNumber
		}
		return r.Kind == store.Event
	}
	l.scavenge(func(r *store.Record) bool { return !keep(r) })
	require.Equal(t, then, l.Tip())
	require.Equal(t, []string{"997@a", "998@a", "999@a"}, l.events("a", 0, math.MaxInt64, then.Commit))
	require.Equal(t, []string{"998@a"}, l.events("a", 998, 998, then.Commit))
	require.Equal(t, []string{"13@b", "23@b"}, l.events("b", 4, 30, then.Commit))
	require.Empty(t, l.events("b", 4, 12, then.Commit))
	require.Equal(t, []string{"0@c7"}, l.events("c7", 0, 9, then.Commit))
	require.Equal(t, []string{"9223372036854775807@d"}, l.events("d", 0, math.MaxInt64, then.Commit))
	require.Empty(t, l.events("$$d", 0, math.MaxInt64, then.Commit))
	require.Equal(t, store.Head{Last: n - 1, Meta: -1}, l.head("a", then.Commit))
	require.Equal(t, store.Head{Last: n - 1, Meta: -1}, l.head("b", then.Commit))
	require.True(t, l.head("d", then.Commit).Tombstoned)
	all := l.forward(0, then.Commit)
	require.Len(t, all, 3+101+n+1)
	require.Equal(t, all, reversed(l.backward(math.MaxInt64, then.Commit)))
	var r store.Record
	require.NoError(t, l.Events("b", 23, 23, then.Commit, func(found *store.Record) bool { r = *found; return true }))
	position := int64(100 + 10*(3*23+1))
	require.Equal(t, store.Record{
		Stream: "b", Number: 23, ID: id("b", 23), Type: "t", Commit: position, Prepare: position, Encoded: []byte("23@b"),
	}, r, "what stays is what it was")

	// It goes on behind what was staged.
	l.commit()
	l.stage("b", n)
	l.stage("a", n+1)
	l.commit()
	at := l.Tip().Commit
	require.Equal(t, []string{"997@a", "998@a", "999@a", "1000@a", "1001@a"}, l.events("a", 0, math.MaxInt64, at))
	require.Equal(t, append(all, "1000@a", "1000@b", "1001@a"), l.forward(0, at))
	require.ErrorIs(t, l.Stage(l.end, store.Record{Stream: "d", Number: 1, Commit: l.end, Prepare: l.end}), store.ErrOrder)
	l.scavenge(func(r *store.Record) bool { return r.Stream == "a" && r.Number < n+1 })
	require.Equal(t, []string{"1001@a"}, l.events("a", 0, math.MaxInt64, at))
}

func testNoScavenge(t *testing.T, l *log) {
	t.Helper()
	l.scavenge(func(*store.Record) bool { t.Error("there is nothing"); return true })
	require.EqualValues(t, -1, l.ScavengedTo())
	l.stage("a", 0)
	l.stage("a", 1)
	l.commit()
	l.scavenge(func(*store.Record) bool { return false })
	failure := errors.New("not now")
	asked := 0
	_, err := l.Scavenge(func(*store.Record) (bool, error) { asked++; return true, failure })
	require.ErrorIs(t, err, failure)
	require.Equal(t, 1, asked)
	found, err := l.Scavenge(func(r *store.Record) (bool, error) { return r.Number == 0, nil })
	require.NoError(t, err)
	require.Equal(t, []string{"0@a", "1@a"}, l.forward(0, l.Tip().Commit), "it is not applied")
	require.EqualValues(t, -1, l.ScavengedTo())
	_, err = found.Apply()
	require.NoError(t, err)
	require.Equal(t, []string{"1@a"}, l.forward(0, l.Tip().Commit))
	require.EqualValues(t, 110, l.ScavengedTo())
}

// testScavengeBeside has a scavenge and readers run while the writer goes on. Of each stream the last event stays.
func testScavengeBeside(t *testing.T, l *log) {
	t.Helper()
	const streams, rounds = 20, 50
	scavenges := l.commits / 25
	write := func(round int64) {
		for s := range streams {
			l.stage(fmt.Sprint("s", s), round)
		}
		l.commit()
	}
	write(0)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for s := 0; ; s = (s + 1) % streams {
				select {
				case <-stop:
					return
				default:
				}
				name, at := fmt.Sprint("s", s), l.Tip().Commit
				before := int64(-1)
				err := l.Events(name, 0, math.MaxInt64, at, func(r *store.Record) bool {
					ok := r.Number > before && string(r.Encoded) == fmt.Sprintf("%d@%s", r.Number, name)
					before = r.Number
					return ok
				})
				// A scavenge in between makes a reader younger, never blind.
				if head, headErr := l.Head(name, at); err != nil || headErr != nil || before < 0 || head.Last < before {
					t.Errorf("%s as of %d: the last is %d, its head says %d (%v, %v)", name, at, before, head.Last, err, headErr)
					return
				}
			}
		})
	}
	round := int64(1)
	for range scavenges {
		at := l.Tip().Commit
		found := make(chan store.Scavenged)
		go func() {
			s, err := l.Scavenge(func(r *store.Record) (bool, error) {
				head, err := l.Head(r.Stream, at)
				return r.Number < head.Last, err
			})
			if err != nil {
				t.Error(err)
			}
			found <- s
		}()
		for range rounds / 2 {
			write(round)
			round++
		}
		s := <-found
		for more := true; more; {
			var err error
			more, err = s.Apply()
			require.NoError(t, err)
			write(round)
			round++
		}
	}
	close(stop)
	readers.Wait()
	require.Less(t, len(l.forward(0, l.Tip().Commit)), streams*3*rounds)
	for s := range streams {
		require.Equal(t, round-1, l.head(fmt.Sprint("s", s), store.Staged).Last)
	}
}

// testConcurrency has readers check that each commit, of one event in each of two streams, appears whole.
func testConcurrency(t *testing.T, l *log) {
	t.Helper()
	commits := int64(l.commits)
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for last := int64(-1); last < commits-1; {
				at := l.Tip().Commit
				a, errA := l.Head("a", at)
				b, errB := l.Head("b", at)
				count := int64(0)
				err := l.Events("b", 0, math.MaxInt64, at, func(r *store.Record) bool {
					count++
					return string(r.Encoded) == fmt.Sprintf("%d@b", r.Number)
				})
				if errA != nil || errB != nil || err != nil || a.Last != b.Last || count != b.Last+1 || a.Last < last {
					t.Errorf("as of %d: a %d, b %d, %d events of b, before %d", at, a.Last, b.Last, count, last)
					return
				}
				last = a.Last
			}
		})
	}
	for n := range commits {
		l.stage("a", n)
		l.stage("b", n)
		l.commit()
	}
	readers.Wait()
}

func TestIDsRememberTheFirstUse(t *testing.T) {
	ids := store.NewIDs(store.IDsLimit)
	ids.Add(id("a", 0), store.Place{Stream: "a", Number: 0})
	ids.Add(id("a", 0), store.Place{Stream: "b", Number: 7})
	place, known := ids.Find(id("a", 0))
	require.True(t, known)
	require.Equal(t, store.Place{Stream: "a", Number: 0}, place)
	_, known = ids.Find(id("a", 1))
	require.False(t, known)
}

func TestIDsForgetTheOldest(t *testing.T) {
	ids := store.NewIDs(30 * 10) // ten ids of a stream with a name of one character
	for n := range int64(1000) {
		ids.Add(id("a", n), store.Place{Stream: "a", Number: n})
		require.Equal(t, min(int(n)+1, 10), ids.Len())
	}
	for n := range int64(1000) {
		_, known := ids.Find(id("a", n))
		require.Equal(t, n >= 990, known, n)
	}
}
