package eventstore_test

import (
	"encoding/binary"
	"math"
	"net"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// writing is how often the stream of played nodes gets an event while one of them leads.
const writing = 50 * time.Millisecond

// playedLine is a connection to a played node, with who follows over it.
type playedLine struct {
	nc net.Conn

	mu      sync.Mutex            // guards what follows, and is held for a write; taken before that of the nodes
	subs    map[messages.ID]int64 // with the number of the next event
	members map[messages.ID]struct{}
}

func (l *playedLine) send(id messages.ID, r messages.Request) bool {
	b, err := messages.AppendFrame(nil, id, nil, r)
	if err != nil {
		panic(err)
	}
	_, err = l.nc.Write(b)
	return err == nil
}

// write has the stream grow for as long as the test runs, and everybody who can tell of it tell.
func (p *nodes) write() {
	p.served.Go(func() {
		for {
			select {
			case <-p.stop:
				return
			case <-time.After(writing):
			}
			var lines []*playedLine
			var of []*playedNode
			p.mu.Lock()
			for _, n := range p.nodes {
				if n.paused || n.dead {
					continue
				}
				if n.state == "Leader" {
					p.written++
				}
				for _, l := range n.conns {
					lines, of = append(lines, l), append(of, n)
				}
			}
			p.mu.Unlock()
			for i, l := range lines {
				p.push(l, of[i])
			}
		}
	})
}

// push tells who follows over a line what is new: a node that neither leads nor follows knows of nothing, and one that does not lead
// drops the members of groups, as real ones do.
func (p *nodes) push(l *playedLine, n *playedNode) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p.mu.Lock()
	state, written := n.state, p.written
	p.mu.Unlock()
	for id := range l.members {
		if state == "Leader" {
			l.send(id, messages.Of(messages.PersistentSubscriptionStreamEventAppeared, &pb.PersistentSubscriptionStreamEventAppeared{
				Event: &pb.ResolvedIndexedEvent{Event: playedEvent(written - 1)},
			}))
			continue
		}
		l.send(id, messages.Raw(messages.SubscriptionDropped, nil))
		delete(l.members, id)
	}
	if state == "Unknown" {
		return
	}
	for id := range l.subs {
		for ; l.subs[id] < written; l.subs[id]++ {
			l.send(id, messages.Of(messages.StreamEventAppeared, &pb.StreamEventAppeared{Event: &pb.ResolvedEvent{
				Event: playedEvent(l.subs[id]), CommitPosition: proto.Int64(0), PreparePosition: proto.Int64(0),
			}}))
		}
	}
}

// follow notes who follows; false for a request that is about something else. It is called with both locks held.
func (p *nodes) follow(l *playedLine, n *playedNode, f messages.Frame) (answer messages.Request, ok bool) {
	switch f.Command {
	case messages.SubscribeToStream: // every node answers that
		l.subs[f.ID] = p.written
		return messages.Of(messages.SubscriptionConfirmation, &pb.SubscriptionConfirmation{
			LastCommitPosition: proto.Int64(0), LastEventNumber: proto.Int64(p.written - 1),
		}), true
	case messages.ConnectToPersistentSubscription:
		if n.state != "Leader" {
			return nil, false
		}
		l.members[f.ID] = struct{}{}
		return messages.Of(messages.PersistentSubscriptionConfirmation, &pb.PersistentSubscriptionConfirmation{
			LastCommitPosition: proto.Int64(0), SubscriptionId: proto.String("s::g"),
		}), true
	case messages.UnsubscribeFromStream:
		delete(l.subs, f.ID)
		delete(l.members, f.ID)
		return nil, true
	case messages.PersistentSubscriptionAckEvents:
		return nil, true
	}
	return nil, false
}

// page answers a read. It is called with the lock held.
func (p *nodes) page(f messages.Frame) messages.Request {
	var read pb.ReadStreamEvents
	if err := (messages.Reply{Command: f.Command, Body: f.Body}).Unmarshal(&read); err != nil {
		p.t.Error(err)
	}
	from := read.GetFromEventNumber()
	to := min(from+int64(read.GetMaxCount()), p.written)
	page := &pb.ReadStreamEventsCompleted{
		Result: pb.ReadStreamEventsCompleted_Success.Enum(), NextEventNumber: proto.Int64(max(from, to)), LastEventNumber: proto.Int64(p.written - 1),
		IsEndOfStream: proto.Bool(to == p.written || from > to), LastCommitPosition: proto.Int64(0),
	}
	for number := from; number < to; number++ {
		page.Events = append(page.Events, &pb.ResolvedIndexedEvent{Event: playedEvent(number)})
	}
	return messages.Of(messages.ReadStreamEventsForwardCompleted, page)
}

func playedEvent(number int64) *pb.EventRecord {
	stream, kind, format := "s", "t", int32(0)
	id := binary.BigEndian.AppendUint64(make([]byte, 8, 16), uint64(number%math.MaxInt64))
	return &pb.EventRecord{
		EventStreamId: &stream, EventNumber: &number, EventId: id, EventType: &kind, DataContentType: &format, MetadataContentType: &format,
		Data: []byte{},
	}
}
