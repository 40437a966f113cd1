package persistent_test

import (
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore/internal/memnet"
	"github.com/goeventstore/eventstore/internal/scripted"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// fakeGroup is a small server with one group, which holds its members to the rules: no correlation id twice, no answer to what is
// not in flight, unless its time was up or the server itself dropped the member.
type fakeGroup struct {
	tb      testing.TB
	network *memnet.Network
	timeout time.Duration

	mu      sync.Mutex
	queue   []delivery
	members map[messages.ID]*fakeMember
	used    map[messages.ID]bool
	done    map[int]string // what became of each event
	lapsed  map[lapse]bool // whose time was up
	conns   map[net.Conn]bool
	serving sync.WaitGroup
	stop    chan struct{}
}

type delivery struct {
	event   int
	retries int32
}

type lapse struct {
	member messages.ID
	event  int
}

type fakeMember struct {
	conn   net.Conn
	id     messages.ID
	window int
	out    map[int]outstanding
}

type outstanding struct {
	retries int32
	until   time.Time
}

func newFakeGroup(tb testing.TB, events int, timeout time.Duration) *fakeGroup {
	tb.Helper()
	f := &fakeGroup{
		tb: tb, network: memnet.New(), timeout: timeout, members: map[messages.ID]*fakeMember{}, used: map[messages.ID]bool{},
		done: map[int]string{}, lapsed: map[lapse]bool{}, conns: map[net.Conn]bool{}, stop: make(chan struct{}),
	}
	for n := range events {
		f.queue = append(f.queue, delivery{event: n})
	}
	l, err := f.network.Listen("tcp", scripted.Addr)
	if err != nil {
		tb.Fatal(err)
	}
	f.serving.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			f.mu.Lock()
			f.conns[nc] = true
			f.mu.Unlock()
			f.serving.Go(func() { f.serve(nc) })
		}
	})
	f.serving.Go(f.clock)
	tb.Cleanup(func() {
		_ = l.Close()
		close(f.stop)
		f.mu.Lock()
		for nc := range f.conns {
			_ = nc.Close()
		}
		f.mu.Unlock()
		f.serving.Wait()
	})
	return f
}

func (f *fakeGroup) serve(nc net.Conn) {
	r := messages.NewReader(nc, 0)
	for {
		frame, err := r.Next()
		if err != nil {
			break
		}
		f.mu.Lock()
		f.take(nc, frame)
		f.mu.Unlock()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.conns, nc)
	_ = nc.Close()
	for _, m := range f.members {
		if m.conn == nc {
			f.leave(m)
		}
	}
	f.push()
}

// What follows is called with mu held.

func (f *fakeGroup) take(nc net.Conn, frame messages.Frame) {
	switch frame.Command {
	case messages.IdentifyClient:
		f.send(nc, frame.ID, messages.Raw(messages.ClientIdentified, nil))
	case messages.Ping:
		f.send(nc, frame.ID, messages.Raw(messages.Pong, frame.Body))
	case messages.HeartbeatRequest:
		f.send(nc, frame.ID, messages.Raw(messages.HeartbeatResponse, nil))
	case messages.ConnectToPersistentSubscription:
		var m pb.ConnectToPersistentSubscription
		if err := proto.Unmarshal(frame.Body, &m); err != nil || m.GetSubscriptionId() != group || m.GetEventStreamId() != stream || f.used[frame.ID] {
			f.tb.Errorf("join %v, id %x used %t, %v", &m, frame.ID, f.used[frame.ID], err)
		}
		f.used[frame.ID] = true
		f.members[frame.ID] = &fakeMember{conn: nc, id: frame.ID, window: int(m.GetAllowedInFlightMessages()), out: map[int]outstanding{}}
		f.send(nc, frame.ID, messages.Of(messages.PersistentSubscriptionConfirmation, &pb.PersistentSubscriptionConfirmation{
			LastCommitPosition: proto.Int64(1), SubscriptionId: proto.String(both),
		}))
	case messages.UnsubscribeFromStream:
		if m := f.members[frame.ID]; m != nil {
			f.leave(m)
			f.send(nc, frame.ID, messages.Raw(messages.SubscriptionDropped, nil))
		}
	case messages.PersistentSubscriptionAckEvents:
		var m messages.PersistentAck
		if err := m.Decode(frame.Body, nil); err != nil || len(m.IDs) == 0 || len(m.IDs) > 2000 || m.Subscription != both {
			f.tb.Errorf("acks %+v, %v", m, err)
		}
		for _, id := range m.IDs {
			f.answered(nc, frame.ID, int(id[14])<<8|int(id[15]), "acked")
		}
	case messages.PersistentSubscriptionNakEvents:
		var m messages.PersistentNak
		if err := m.Decode(frame.Body, nil); err != nil || len(m.IDs) == 0 || len(m.IDs) > 2000 || m.Subscription != both {
			f.tb.Errorf("naks %+v, %v", m, err)
		}
		for _, id := range m.IDs {
			f.answered(nc, frame.ID, int(id[14])<<8|int(id[15]), m.Action.String())
		}
	}
	f.push()
}

func (f *fakeGroup) send(nc net.Conn, id messages.ID, r messages.Request) {
	b, err := messages.AppendFrame(nil, id, nil, r)
	if err != nil {
		f.tb.Error(err)
	}
	_, _ = nc.Write(b) // one that is gone is noticed by its reader
}

func (f *fakeGroup) answered(nc net.Conn, id messages.ID, event int, how string) {
	m := f.members[id]
	if m == nil && f.used[id] {
		return // it was dropped, and could not know yet
	}
	if m == nil || m.conn != nc {
		f.tb.Errorf("event %d is %s by a member that there never was", event, how)
		return
	}
	out, held := m.out[event]
	if !held {
		if !f.lapsed[lapse{id, event}] {
			f.tb.Errorf("event %d is %s by a member that does not hold it", event, how)
		}
		return
	}
	delete(m.out, event)
	if how == "Retry" {
		f.again(delivery{event, out.retries + 1})
		return
	}
	if f.done[event] == "" {
		f.done[event] = how
	}
}

func (f *fakeGroup) again(d delivery) { f.queue = slices.Insert(f.queue, 0, d) }

// leave gives what a member holds to others.
func (f *fakeGroup) leave(m *fakeMember) {
	delete(f.members, m.id)
	for event, out := range m.out {
		f.again(delivery{event, out.retries + 1})
	}
}

// push delivers to members with room, in the random order of a map.
func (f *fakeGroup) push() {
	for _, m := range f.members {
		for len(m.out) < m.window && len(f.queue) > 0 {
			d := f.queue[0]
			f.queue = f.queue[1:]
			m.out[d.event] = outstanding{d.retries, time.Now().Add(f.timeout)}
			f.send(m.conn, m.id, messages.Raw(messages.PersistentSubscriptionStreamEventAppeared,
				messages.AppendPersistentEvent(nil, record(d.event), nil, d.retries)))
		}
	}
}

// clock takes back, once a second, what was not answered in time.
func (f *fakeGroup) clock() {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-f.stop:
			return
		case <-ticker.C:
		}
		f.mu.Lock()
		for _, m := range f.members {
			for event, out := range m.out {
				if time.Now().After(out.until) {
					delete(m.out, event)
					f.lapsed[lapse{m.id, event}] = true
					f.again(delivery{event, out.retries + 1})
				}
			}
		}
		f.push()
		f.mu.Unlock()
	}
}

// fault does something to the members.
func (f *fakeGroup) fault(random func(int) int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if random(3) == 0 { // the group is updated
		for _, m := range f.members {
			f.leave(m)
			f.send(m.conn, m.id, messages.Raw(messages.SubscriptionDropped, nil))
		}
		return
	}
	for nc := range f.conns {
		_ = nc.Close()
		if random(2) == 0 {
			break
		}
	}
}

// finished reports whether nothing is left to do.
func (f *fakeGroup) finished(events int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.done) == events
}

func (f *fakeGroup) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return fmt.Sprintf("%d done, queue %v, %d members", len(f.done), f.queue, len(f.members))
}
