package groups

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/goeventstore/eventstore/server/internal/store"
)

// world is a stream and what a group does outside of it, with a clock that stands until it is moved.
type world struct {
	clock       time.Time
	stream      []*store.Record
	parkedLinks []int64 // the numbers that were parked
	reasons     []string
	parking     []*Message
	checkpoint  int64 // the last one, -1 for none
	checkpoints []int64
	writing     bool
	replayed    []int64
	*Group
}

func settings() Settings {
	return Settings{
		Stream: "s", Group: "g", MessageTimeout: 30_000, LiveBuffer: 500, Buffer: 500, MaxRetries: 10, ReadBatch: 20,
		CheckpointAfter: 2000, CheckpointMin: 10, CheckpointMax: 1000, Strategy: RoundRobin,
	}
}

func newWorld(events int, change func(*Settings)) *world {
	w := &world{clock: time.Unix(1e9, 0), checkpoint: -1}
	for range events {
		w.append()
	}
	s := settings()
	if change != nil {
		change(&s)
	}
	w.Group = New(s, nil, w, w.now)
	w.serve()
	return w
}

func (w *world) now() time.Time { return w.clock }

func (w *world) append() *store.Record {
	source := fmt.Sprintf("s-%d", len(w.stream)%5) // as if it were a category
	r := &store.Record{Stream: source, Number: int64(len(w.stream)), ID: idOf(int64(len(w.stream))), Type: "t"}
	w.stream = append(w.stream, r)
	return r
}

func idOf(number int64) (id uuid.UUID) {
	binary.BigEndian.PutUint64(id[:], uint64(number)+1)
	return id
}

// write appends an event that the group hears of.
func (w *world) write() {
	w.Live(Event{Record: w.append()})
	w.serve()
}

// serve reads what the group wants.
func (w *world) serve() {
	for {
		r, ok := w.Wants()
		if !ok {
			return
		}
		if r.Parked {
			panic("nothing is replayed here")
		}
		from, to := min(int(r.From), len(w.stream)), min(int(r.From)+max(r.Count, 0), len(w.stream))
		var page []Event
		for _, record := range w.stream[from:to] {
			page = append(page, Event{Record: record})
		}
		w.Page(page, int64(to), to == len(w.stream))
	}
}

func (w *world) Park(m *Message) {
	w.parkedLinks, w.reasons = append(w.parkedLinks, m.Number()), append(w.reasons, m.Reason())
	w.parking = append(w.parking, m)
}

func (w *world) Checkpoint(number int64) {
	w.checkpoint, w.writing = number, true
	w.checkpoints = append(w.checkpoints, number)
}

func (w *world) Replayed(before int64) { w.replayed = append(w.replayed, before) }

// written ends the writes under way.
func (w *world) written() {
	for _, m := range w.parking {
		w.Parked(m, true)
	}
	w.parking = nil
	if w.writing {
		w.writing = false
		w.CheckpointWritten()
	}
}

// tick passes a time and ticks.
func (w *world) tick(d time.Duration) {
	w.clock = w.clock.Add(d)
	w.Tick()
	w.serve()
}

// got is a consumer and what it got.
type got struct {
	Consumer
	numbers []int64
	retries []int
	dropped bool
}

func (c *got) Deliver(e *Event, retries int) {
	c.numbers, c.retries = append(c.numbers, e.Number()), append(c.retries, retries)
}
func (c *got) Drop() { c.dropped = true }

func (w *world) connect(name byte, window int) *got {
	c := &got{}
	c.Consumer = Consumer{ID: ID{name}, Window: window, Receiver: c}
	w.Connect(&c.Consumer)
	w.serve()
	return c
}

func (w *world) ack(c *got, numbers ...int64) {
	w.Ack(c.ID, ids(numbers))
	w.serve()
}

func (w *world) nak(c *got, action Action, numbers ...int64) {
	w.Nak(c.ID, ids(numbers), action, "why")
	w.serve()
}

func ids(numbers []int64) (ids []uuid.UUID) {
	for _, n := range numbers {
		ids = append(ids, idOf(n))
	}
	return ids
}

// all are the numbers from 0 on.
func all(n int) (numbers []int64) {
	for i := range n {
		numbers = append(numbers, int64(i))
	}
	return numbers
}

func TestWindow(t *testing.T) {
	w := newWorld(6, nil)
	c := w.connect(1, 2)
	require.Equal(t, []int64{0, 1}, c.numbers)
	w.ack(c, 0)
	require.Equal(t, []int64{0, 1, 2}, c.numbers)
	w.ack(c, 1, 2)
	w.ack(c, 1, 77) // stale and unknown
	require.Equal(t, all(5), c.numbers)
	w.write()
	w.ack(c, 3, 4)
	require.Equal(t, all(7), c.numbers)
	require.Zero(t, c.free())
}

func TestAPageIsReadWhenABatchFits(t *testing.T) {
	w := newWorld(30, func(s *Settings) { s.ReadBatch, s.Buffer = 5, 10 })
	c := w.connect(1, 100)
	require.Equal(t, all(5), c.numbers)
	w.ack(c, 0)
	require.Equal(t, all(10), c.numbers)
	for i := range 30 {
		w.ack(c, int64(i))
	}
	require.Equal(t, all(30), c.numbers)
	require.Equal(t, "Live", w.status())
}

func TestSettingsThatDeliverNothing(t *testing.T) {
	for name, change := range map[string]func(*Settings){
		"buffer 0":          func(s *Settings) { s.Buffer = 0 },
		"buffer -1":         func(s *Settings) { s.Buffer = -1 },
		"batch of a buffer": func(s *Settings) { s.ReadBatch = 500 },
		"all 0":             func(s *Settings) { *s = Settings{Strategy: RoundRobin} },
	} {
		w := newWorld(3, change)
		c := w.connect(1, 5)
		w.write()
		w.ack(c, 0)
		require.Empty(t, c.numbers, name)
	}
	w := newWorld(3, func(s *Settings) { s.ReadBatch = -1 })
	c := w.connect(1, 5)
	w.write()
	require.Equal(t, []int64{3}, c.numbers, "no history")
	w = newWorld(3, func(s *Settings) { s.ReadBatch, s.LiveBuffer = 0, 0 })
	c = w.connect(1, 5)
	w.write()
	require.Equal(t, all(4), c.numbers)
}

func TestALiveGroupFallsBehindAndCatchesUp(t *testing.T) {
	w := newWorld(0, func(s *Settings) { s.Buffer, s.LiveBuffer, s.ReadBatch = 10, 5, 3 })
	c := w.connect(1, 1)
	for range 40 {
		w.write()
	}
	require.Equal(t, "Behind", w.status())
	for i := range 40 {
		require.Equal(t, all(i+1), c.numbers)
		w.ack(c, int64(i))
	}
	require.Equal(t, "Live", w.status())
}

// TestAGroupWhoseMessagesAllTimeOutGoesOn: nobody acks, so that a real server would never read again.
func TestAGroupWhoseMessagesAllTimeOutGoesOn(t *testing.T) {
	w := newWorld(30, func(s *Settings) { s.ReadBatch, s.Buffer, s.MaxRetries, s.MessageTimeout = 5, 10, 0, 500 })
	w.connect(1, 100)
	for range 20 {
		w.tick(time.Second)
		w.written()
	}
	require.Equal(t, all(30), w.parkedLinks)
	require.Equal(t, "Reached retry count of 0", w.reasons[0])
}

func TestNak(t *testing.T) {
	for action, want := range map[Action][]int64{Unknown: {0, 0}, Retry: {0, 0}, Skip: {0, 1}, Stop: {0, 1}, Park: {0, 1}} {
		w := newWorld(2, nil)
		c := w.connect(1, 1)
		w.nak(c, action, 0)
		require.Equal(t, want, c.numbers, action)
		require.Equal(t, action == Park, slices.Equal(w.parkedLinks, []int64{0}))
	}
	w := newWorld(1, func(s *Settings) { s.MaxRetries = 2 })
	c := w.connect(1, 1)
	for range 5 {
		w.nak(c, Retry, 0)
	}
	require.Equal(t, []int{0, 1, 2}, c.retries)
	require.Equal(t, []string{"Reached retry count of 2"}, w.reasons)
	w = newWorld(1, nil)
	w.nak(w.connect(1, 1), Park, 0)
	require.Equal(t, []string{"Client explicitly NAK'ed message.\nwhy"}, w.reasons)
}

func TestTimeouts(t *testing.T) {
	w := newWorld(2, func(s *Settings) { s.MessageTimeout, s.MaxRetries = 1500, 1 })
	c := w.connect(1, 1)
	w.tick(time.Second)
	require.Equal(t, []int64{0}, c.numbers)
	w.tick(time.Second)
	require.Equal(t, []int64{0, 0}, c.numbers)
	w.tick(2 * time.Second)
	require.Equal(t, []int64{0}, w.parkedLinks)
	require.Equal(t, []int64{0, 0}, c.numbers, "it has its slot until it is parked")
	w.written()
	require.Equal(t, []int64{0, 0, 1}, c.numbers)

	w = newWorld(1, func(s *Settings) { s.MessageTimeout = 0 })
	c = w.connect(1, 1)
	w.tick(1000 * time.Hour)
	require.Equal(t, []int64{0}, c.numbers)
}

func TestParkingThatFails(t *testing.T) {
	w := newWorld(1, nil)
	w.nak(w.connect(1, 1), Park, 0)
	for range parkAttempts {
		require.Len(t, w.parking, 1)
		m := w.parking[0]
		w.parking = nil
		w.Parked(m, false)
	}
	require.Empty(t, w.parking)
	require.Empty(t, w.table.byID)
}

func TestAConsumerLeaves(t *testing.T) {
	w := newWorld(6, nil)
	a, b := w.connect(1, 2), w.connect(2, 3)
	w.nak(a, Retry, 1) // again with 1 retry
	w.Disconnect(&a.Consumer)
	require.True(t, a.dropped)
	require.Equal(t, []int64{2, 3, 4}, b.numbers)
	w.ack(b, 2, 3, 4)
	require.Equal(t, []int64{2, 3, 4, 0, 1, 5}, b.numbers)
	require.Equal(t, []int{0, 0, 0, 1, 1, 0}, b.retries)
	w.Close()
	require.True(t, b.dropped)
	w.write()
	require.Len(t, b.numbers, 6)
}

// TestForeignAcks: the message is gone and the slot is taken, until the right one acks too or leaves.
func TestForeignAcks(t *testing.T) {
	w := newWorld(3, nil)
	c := w.connect(1, 1)
	w.Ack(ID{9}, ids([]int64{0}))
	require.Equal(t, []int64{0}, c.numbers)
	require.Zero(t, w.table.size)
	w.ack(c, 0)
	require.Equal(t, []int64{0, 1}, c.numbers)
	require.Len(t, w.table.byID, 1)
}

// TestEventsWithOneID: each delivery has a slot, and each ack ends one.
// TestTake: without slots, whatever consumers and the strategy say, and as long as its time lasts.
func TestTake(t *testing.T) {
	take := func(w *world, n, bytes int) (numbers []int64) {
		for _, e := range w.Take(n, bytes) {
			numbers = append(numbers, e.Number())
		}
		return numbers
	}
	w := newWorld(7, func(s *Settings) { s.MaxRetries = 1; s.Strategy = Pinned })
	for _, r := range w.stream {
		r.Encoded = make([]byte, 100)
	}
	c := w.connect(1, 1)
	require.Equal(t, []int64{0}, c.numbers)
	require.Equal(t, []int64{1, 2}, take(w, 2, 1000))
	require.Equal(t, []int64{3}, take(w, 10, 1), "one, however large")
	require.Equal(t, []int64{4, 5}, take(w, 10, 299))
	require.Equal(t, []int64{6}, take(w, 10, 1000))
	require.Empty(t, take(w, 10, 1000))
	w.Ack(ID{9}, ids([]int64{1, 0}))
	w.Nak(ID{9}, ids([]int64{2}), Park, "why")
	w.Nak(ID{9}, ids([]int64{3, 77}), Unknown, "")
	w.serve()
	require.Equal(t, []int64{0}, c.numbers, "its slot is not free")
	require.Equal(t, []int64{3}, take(w, 10, 1000))
	w.written()
	require.Equal(t, []int64{2}, w.parkedLinks)
	w.tick(30 * time.Second)
	require.Equal(t, []int64{2, 3}, w.parkedLinks, "its only retry failed")
	w.ack(c, 0)
	require.Equal(t, []int64{0, 4}, c.numbers)
	require.Equal(t, []int{0, 1}, c.retries)
	require.Equal(t, []int64{5, 6}, take(w, 10, 1000))
	require.Equal(t, int64(11), w.Stats().Total)
}

func TestEventsWithOneID(t *testing.T) {
	w := newWorld(3, nil)
	for _, r := range w.stream {
		r.ID = idOf(0)
	}
	c := w.connect(1, 3)
	require.Equal(t, all(3), c.numbers)
	w.ack(c, 0)
	require.Equal(t, 2, w.table.size)
	w.ack(c, 0, 0)
	require.Zero(t, w.table.size)
	require.Empty(t, w.table.byID)
	require.Equal(t, 3, c.free())
}

func TestCheckpoints(t *testing.T) {
	short := func(s *Settings) { s.CheckpointAfter, s.CheckpointMin = 1000, 1 }
	w := newWorld(5, short)
	c := w.connect(1, 5)
	w.ack(c, 1, 2)
	w.tick(time.Second)
	require.Empty(t, w.checkpoints, "0 is not done")
	w.ack(c, 0)
	require.Empty(t, w.checkpoints, "by time it is written at a tick")
	w.tick(time.Second)
	require.Equal(t, []int64{2}, w.checkpoints)
	w.written()
	w.tick(time.Hour)
	require.Equal(t, []int64{2}, w.checkpoints, "never twice the same")
	w.ack(c, 3, 4)
	w.tick(time.Second)
	require.Equal(t, []int64{2, 4}, w.checkpoints)

	w = newWorld(6, func(s *Settings) { s.CheckpointAfter, s.CheckpointMin, s.CheckpointMax = 0, 5, 2 })
	c = w.connect(1, 6)
	for i := range 6 {
		w.ack(c, int64(i))
		w.written()
	}
	w.tick(time.Hour)
	require.Equal(t, []int64{1, 3, 5}, w.checkpoints)

	w = newWorld(5, nil)
	checkpoint := int64(2)
	w.Group = New(settings(), &checkpoint, w, w.now)
	w.serve()
	require.Equal(t, []int64{3, 4}, w.connect(1, 9).numbers)
	deleted := int64(math.MaxInt64)
	w.Group = New(settings(), &deleted, w, w.now)
	w.serve()
	require.Empty(t, w.connect(1, 9).numbers)
}

func TestStartFrom(t *testing.T) {
	for from, want := range map[int64][]int64{-1: {3}, -5: {3}, 0: {0, 1, 2, 3}, 1: {1, 2, 3}, 3: {3}, 4: nil} {
		w := newWorld(3, func(s *Settings) { s.StartFrom = from })
		c := w.connect(1, 9)
		w.write()
		require.Equal(t, want, c.numbers, from)
	}
}

func TestConsumerLimit(t *testing.T) {
	w := newWorld(0, func(s *Settings) { s.MaxConsumers = 1 })
	require.False(t, w.Full())
	c := w.connect(1, 1)
	require.True(t, w.Full())
	require.False(t, w.Connect(&Consumer{ID: c.ID}))
	w = newWorld(0, func(s *Settings) { s.MaxConsumers = -1 })
	require.True(t, w.Full())
}

// TestReplay: parked messages come in the order of what they are about and are acked by their own ids.
func TestReplay(t *testing.T) {
	w := newWorld(0, nil)
	c := w.connect(1, 9)
	parked := func(n, of int64) Event {
		return Event{
			Record: &store.Record{Stream: "parked", Number: n, ID: idOf(100 + n)}, Followed: true, Replayed: true,
			Target: &store.Record{Stream: "s", Number: of, ID: idOf(of)},
		}
	}
	w.Replay(25)
	w.Replay(99) // one at a time
	r, ok := w.Wants()
	require.True(t, ok)
	require.Equal(t, Read{Parked: true, From: 0, Count: 20}, r)
	w.ParkedPage([]Event{parked(18, 7), parked(19, 3)}, 20, false)
	r, ok = w.Wants()
	require.True(t, ok)
	require.Equal(t, Read{Parked: true, From: 20, Count: 5}, r)
	require.Equal(t, "ReplayingParkedMessages, Live", w.status())
	w.ParkedPage([]Event{parked(20, 1), parked(25, 9)}, 26, true)
	require.Equal(t, []int64{18, 19, 20}, slices.Sorted(slices.Values(c.numbers)))
	require.Equal(t, []int64{25}, w.replayed)
	require.Len(t, w.Unfinished(), 3)
	w.ack(c, 7, 3) // not the links
	require.Equal(t, 3, w.table.size)
	w.ack(c, 118, 119, 120)
	require.Zero(t, w.table.size)
	require.Empty(t, w.checkpoints)
}

// TestNothingIsLost plays whatever consumers and time may do: a message is with a consumer at most so often, no window is
// ever exceeded, no checkpoint is ahead of what is not done, and in the end every message is acked, skipped or parked.
func TestNothingIsLost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		retries := rapid.Int32Range(0, 3).Draw(t, "retries")
		w := newWorld(rapid.IntRange(0, 60).Draw(t, "history"), func(s *Settings) {
			s.MaxRetries, s.MessageTimeout = retries, 1500
			s.Buffer = rapid.Int32Range(2, 30).Draw(t, "buffer")
			s.ReadBatch = rapid.Int32Range(0, s.Buffer-1).Draw(t, "batch")
			s.LiveBuffer = rapid.Int32Range(0, 10).Draw(t, "live buffer")
			s.CheckpointMin, s.CheckpointMax, s.CheckpointAfter = 1, rapid.Int32Range(1, 10).Draw(t, "max"), 1000
			s.Strategy = rapid.SampledFrom([]string{RoundRobin, DispatchToSingle, Pinned}).Draw(t, "strategy")
		})
		m := &model{w: w, t: t, sent: map[int64]int{}, done: map[int64]bool{}}
		m.taker = &tracked{Consumer: Consumer{ID: ID{255}}, model: m, has: map[int64]int{}}
		t.Repeat(map[string]func(*rapid.T){
			"": func(*rapid.T) { m.check() },
			"write": func(t *rapid.T) {
				for range rapid.IntRange(1, 20).Draw(t, "events") {
					w.write()
				}
			},
			"connect": func(t *rapid.T) {
				if len(m.consumers) < 4 {
					m.connect(rapid.IntRange(1, 8).Draw(t, "window"))
				}
			},
			"leave": func(t *rapid.T) {
				if c := m.any(t); c != nil {
					m.leave(c)
				}
			},
			"take": func(t *rapid.T) { m.take(rapid.IntRange(1, 10).Draw(t, "messages")) },
			"ack":  func(t *rapid.T) { m.act(t, func(c *tracked, numbers []int64) { m.finish(c, numbers, Skip, true) }) },
			"skip": func(t *rapid.T) { m.act(t, func(c *tracked, numbers []int64) { m.finish(c, numbers, Skip, false) }) },
			"park": func(t *rapid.T) { m.act(t, func(c *tracked, numbers []int64) { m.finish(c, numbers, Park, false) }) },
			"retry": func(t *rapid.T) {
				m.act(t, func(c *tracked, numbers []int64) { m.finish(c, numbers, Retry, false) })
			},
			"tick":    func(t *rapid.T) { w.tick(time.Duration(rapid.IntRange(1, 2500).Draw(t, "ms")) * time.Millisecond) },
			"written": func(*rapid.T) { w.written() },
		})
		m.drain()
	})
}

// model is what the consumers of a world know.
type model struct {
	w         *world
	t         *rapid.T
	last      byte
	consumers []*tracked
	taker     *tracked      // takes messages, and is no consumer
	sent      map[int64]int // deliveries in a row, since a consumer left with it
	done      map[int64]bool
}

// tracked is a consumer and what it holds.
type tracked struct {
	Consumer
	model *model
	has   map[int64]int // the retry count
}

func (c *tracked) Deliver(e *Event, retries int) {
	m, number := c.model, e.Number()
	for _, other := range m.all() {
		delete(other.has, number) // it timed out there
	}
	if m.done[number] {
		m.t.Fatalf("%d comes after it was done", number)
	}
	if retries > int(m.w.settings.MaxRetries) && retries != 1 { // of a consumer that left: 1, whatever it was
		m.t.Fatalf("%d comes with %d retries", number, retries)
	}
	if retries == 0 {
		m.sent[number]++
		if m.sent[number] > 1 {
			m.t.Fatalf("%d comes a second time for the first time", number)
		}
	}
	c.has[number] = retries
}

func (c *tracked) Drop() {}

func (m *model) all() []*tracked { return append(slices.Clone(m.consumers), m.taker) }

func (m *model) take(n int) {
	for _, e := range m.w.Take(n, math.MaxInt) {
		m.taker.Deliver(&e, m.w.table.find(e.Record.ID, m.taker.ID).Retries)
	}
	m.w.serve()
}

func (m *model) connect(window int) *tracked {
	m.last++
	c := &tracked{model: m, has: map[int64]int{}}
	c.Consumer = Consumer{ID: ID{m.last}, Window: window, Receiver: c}
	m.consumers = append(m.consumers, c)
	m.w.Connect(&c.Consumer)
	m.w.serve()
	return c
}

func (m *model) leave(c *tracked) {
	m.consumers = slices.DeleteFunc(m.consumers, func(other *tracked) bool { return other == c })
	m.w.Disconnect(&c.Consumer)
	m.w.serve()
}

func (m *model) any(t *rapid.T) *tracked {
	if len(m.consumers) == 0 {
		return nil
	}
	return rapid.SampledFrom(m.consumers).Draw(t, "consumer")
}

func (m *model) act(t *rapid.T, do func(c *tracked, numbers []int64)) {
	c := rapid.SampledFrom(m.all()).Draw(t, "consumer")
	var numbers []int64
	for number := range c.has {
		numbers = append(numbers, number)
	}
	slices.Sort(numbers)
	if len(numbers) > 0 {
		do(c, numbers[:rapid.IntRange(1, len(numbers)).Draw(t, "messages")])
	}
}

func (m *model) finish(c *tracked, numbers []int64, action Action, ack bool) {
	for _, number := range numbers {
		if held := m.w.table.find(idOf(number), c.ID); held == nil || !held.outstanding {
			continue // it timed out, and waits
		}
		if action != Retry {
			m.done[number] = true
		}
		delete(c.has, number)
	}
	if ack {
		m.w.ack2(c.ID, numbers)
		return
	}
	m.w.Nak(c.ID, ids(numbers), action, "")
	m.w.serve()
}

func (w *world) ack2(of ID, numbers []int64) {
	w.Ack(of, ids(numbers))
	w.serve()
}

// check holds what must be true at any time.
func (m *model) check() {
	w := m.w
	for _, number := range w.parkedLinks {
		m.done[number] = true
	}
	free := 0
	for _, c := range m.consumers {
		if c.held > c.Window || c.held < 0 {
			m.t.Fatalf("%d messages in a window of %d", c.held, c.Window)
		}
		free += c.free()
	}
	if free != w.free {
		m.t.Fatalf("%d slots are free, not %d", free, w.free)
	}
	for number := range w.checkpoint + 1 {
		if !m.done[number] {
			m.t.Fatalf("the checkpoint %d is ahead of %d", w.checkpoint, number)
		}
	}
	if n := w.buffer.len() + w.aside.n; n > int(w.settings.Buffer)+3*int(w.settings.LiveBuffer)+mostRead {
		m.t.Fatalf("%d events are held", n)
	}
}

// drain has a good consumer finish everything.
func (m *model) drain() {
	for _, c := range slices.Clone(m.consumers) {
		m.leave(c)
	}
	m.w.written()
	c := m.connect(100)
	for range 1000 {
		m.check()
		var numbers []int64
		for number := range c.has {
			numbers = append(numbers, number)
		}
		if len(numbers) > 0 {
			m.finish(c, numbers, Skip, true)
		}
		m.w.written()
		m.w.tick(time.Second)
		if len(m.done) == len(m.w.stream) {
			break
		}
	}
	for number := range int64(len(m.w.stream)) {
		if !m.done[number] {
			m.t.Fatalf("%d of %d is lost: %s", number, len(m.w.stream), fmt.Sprint(m.w.status(), m.w.buffer.len(), m.w.retrying.len(), m.w.table.size))
		}
	}
}
