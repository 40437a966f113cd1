package chaos_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/persistent"
	"github.com/goeventstore/eventstore/server"
	"github.com/goeventstore/eventstore/subscription"
)

// The load: every connection has subscriptions and is a member of one group.
const (
	loadConnections   = 200
	loadSubscriptions = 2000
	loadGroups        = 50
	loadStreams       = 20
	loadEvents        = 50 // of each stream
	loadData          = 4 << 10
	loadBuffer        = 4  // events that a subscription holds, and those of a page
	loadStill         = 10 // of so many consumers one keeps up, and the others stand still until everything is written
	loadWindow        = 5
)

// heapBound is the most that the heap may have while most of the consumers stand still behind a log that is far longer than their
// buffers. It is what each part may hold by itself:
func heapBound() uint64 {
	const (
		event      = loadData + 256 // with its frame, and what is kept beside the bytes
		twice      = 2              // a slice that grows is up to twice as long as what is in it
		log        = loadStreams * loadEvents * event * twice
		readers    = loadSubscriptions * (loadBuffer + loadBuffer) * event * twice // pushed, and a page
		members    = loadConnections * (2*loadWindow + 16) * event * twice         // see Group.room of package persistent
		pump       = 256 << 10                                                     // the events of one write of a session, pumpLimit
		chunks     = (4 + 1) * 32 << 10                                            // its small frames
		reads      = 16<<10 + 64<<10                                               // what both ends read into
		goroutines = 16 << 10                                                      // what a connection has beside
	)
	return log + readers + members + loadConnections*(pump+chunks+reads+goroutines)
}

// 200 connections, 2,000 subscriptions and 50 groups at once. Some of the subscriptions and of the members keep up with what is
// written, most stand still until all of it is: nobody loses an event or gets it twice, and what is held meanwhile
// is bounded by the buffers, not by the log.
func TestManySubscriptionsAndGroupsAtOnce(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	before := heap()
	srv, err := server.Start(server.Config{HTTP: server.Off})
	require.NoError(t, err)
	defer func() { require.NoError(t, srv.Close()) }()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	clients := make([]*eventstore.Client, loadConnections)
	for i := range clients {
		clients[i], err = eventstore.Connect(ctx, srv.URL(), eventstore.WithCredentials("admin", "changeit"))
		require.NoError(t, err)
		defer func() { require.NoError(t, clients[i].Close()) }()
	}
	settings := persistent.DefaultSettings()
	settings.MessageTimeout = persistent.Never // so that nothing is given out twice
	settings.Buffer = 4*loadWindow + settings.ReadBatch + 10
	for g := range loadGroups {
		require.NoError(t, persistent.Create(ctx, clients[0], loadStream(g), loadGroup(g), settings))
	}

	l := &load{ctx: ctx, t: t, written: make(chan struct{}), all: make(chan struct{})}
	l.left.Store(loadGroups * loadEvents)
	l.opened.Add(loadSubscriptions + loadConnections)
	var crew sync.WaitGroup
	for i := range loadSubscriptions {
		crew.Go(func() { l.subscribe(i, clients[i%loadConnections]) })
	}
	working, done := context.WithCancel(ctx)
	defer done()
	var members sync.WaitGroup
	for i, c := range clients {
		members.Go(func() { l.join(working, i, c) })
	}
	l.opened.Wait()
	begun := time.Now()
	writeLoad(ctx, t, clients)
	held := heap() - before
	t.Logf("%d events written in %v, heap %d MiB of at most %d", loadStreams*loadEvents, time.Since(begun), held>>20, heapBound()>>20)
	require.Less(t, held, heapBound())
	require.Less(t, heapBound(), uint64(loadSubscriptions*(loadStill-1)/loadStill*loadEvents*loadData), "a bound that holding everything would not meet")
	close(l.written)
	crew.Wait()
	select {
	case <-l.all:
	case <-ctx.Done():
	}
	done()
	members.Wait()
	for g := range l.handled {
		for n, times := range l.handled[g].count {
			require.Positive(t, times, "event %d of group %d", n, g)
			if l.lost.Load() == 0 { // a machine that is too busy for heartbeats loses connections
				require.Equal(t, 1, times, "event %d of group %d", n, g)
			}
		}
	}
	t.Logf("all of it was had after %v, %d memberships were lost meanwhile", time.Since(begun), l.lost.Load())
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func loadStream(i int) string { return fmt.Sprintf("load-%d", i%loadStreams) }

func loadGroup(i int) string { return fmt.Sprintf("group-%d", i) }

// load are the consumers.
type load struct {
	ctx     context.Context //nolint:containedctx // that of one test
	t       *testing.T
	opened  sync.WaitGroup // everybody is there
	written chan struct{}  // closed when everything is written: nobody sends
	left    atomic.Int64   // events that the groups have not handled
	all     chan struct{}  // closed with the last of them: nobody sends
	lost    atomic.Int64   // memberships, by a connection that was lost
	handled [loadGroups]struct {
		sync.Mutex // guards what follows
		count      [loadEvents]int
	}
}

// stand has a consumer do nothing until everything is written, if it is one of those.
func (l *load) stand(i int) {
	if i%loadStill == 0 {
		return
	}
	select {
	case <-l.written:
	case <-l.ctx.Done():
	}
}

// subscribe follows a stream to its end.
func (l *load) subscribe(i int, c *eventstore.Client) {
	sub, err := subscription.Open(l.ctx, c, subscription.Config{Stream: loadStream(i / 3), From: eventstore.End, Buffer: loadBuffer, PageSize: loadBuffer})
	l.opened.Done()
	if err != nil {
		l.t.Errorf("subscription %d: %v", i, err)
		return
	}
	defer func() { _ = sub.Close() }()
	for n := range int64(loadEvents) {
		l.stand(i)
		e, err := sub.Recv(l.ctx)
		if err != nil || e.Event.Number != n || binary.LittleEndian.Uint64(e.Event.Data) != uint64(n) {
			l.t.Errorf("subscription %d, event %d: %v %v", i, n, e.Event, err)
			return
		}
	}
}

// join is a member of a group until everything is handled.
func (l *load) join(ctx context.Context, i int, c *eventstore.Client) {
	g, err := persistent.Join(ctx, c, persistent.Config{
		Stream: loadStream(i % loadGroups), Group: loadGroup(i % loadGroups), Window: loadWindow,
		OnNotice: func(n persistent.Notice) {
			if n.Kind == persistent.Lost {
				l.lost.Add(1)
			}
		},
	})
	l.opened.Done()
	if err != nil {
		l.t.Errorf("member %d: %v", i, err)
		return
	}
	defer func() { _ = g.Close() }() //nolint:contextcheck // its error says that acks may be lost, and all is handled
	err = g.Run(ctx, 1, func(_ context.Context, m *persistent.Message) error {
		l.stand(i)
		handled := &l.handled[i%loadGroups]
		handled.Lock()
		defer handled.Unlock()
		handled.count[m.Event.Number]++
		if handled.count[m.Event.Number] == 1 && l.left.Add(-1) == 0 {
			close(l.all)
		}
		return nil
	})
	if err != nil {
		l.t.Errorf("member %d: %v", i, err)
	}
}

// writeLoad fills the streams, all at once.
func writeLoad(ctx context.Context, t *testing.T, clients []*eventstore.Client) {
	t.Helper()
	const batch = 10
	errs := make(chan error, loadStreams) // one of each writer; never closed
	for s := range loadStreams {
		go func() {
			expected := eventstore.NoStream
			for n := 0; n < loadEvents; n += batch {
				var events []eventstore.EventData
				for k := range batch {
					data := binary.LittleEndian.AppendUint64(make([]byte, 0, loadData), uint64(n+k))
					events = append(events, eventstore.EventData{Type: "happened", Data: data[:loadData]})
				}
				r, err := clients[s].Append(ctx, loadStream(s), expected, events)
				if err != nil {
					errs <- err
					return
				}
				expected = r.Last
			}
			errs <- nil
		}()
	}
	for range loadStreams {
		require.NoError(t, <-errs)
	}
}
