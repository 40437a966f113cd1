package server

import (
	"bytes"

	"github.com/google/uuid"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
	"github.com/goeventstore/eventstore/server/internal/groups"
)

var (
	groupShape = shape{fields: [17]kind{
		1: text, 2: text, 3: boolean, 4: int64s, 5: int32s, 6: boolean, 7: int32s, 8: int32s, 9: int32s, 10: int32s,
		11: boolean, 12: int32s, 13: int32s, 14: int32s, 15: int32s, 16: text,
	}}
	groupConnectShape = shape{fields: [17]kind{1: text, 2: text, 3: int32s}}
)

// settingsOf are the settings in a request to create or to update, which have the same fields.
func settingsOf(m *pb.CreatePersistentSubscription) *groups.Settings {
	strategy := readable(m.GetNamedConsumerStrategy())
	if strategy == "" {
		strategy = groups.DispatchToSingle
		if m.GetPreferRoundRobin() {
			strategy = groups.RoundRobin
		}
	}
	return &groups.Settings{
		Stream: readable(m.GetEventStreamId()), Group: readable(m.GetSubscriptionGroupName()),
		ResolveLinks: m.GetResolveLinkTos(), Statistics: m.GetRecordStatistics(),
		MessageTimeout: m.GetMessageTimeoutMilliseconds(), StartFrom: m.GetStartFrom(),
		LiveBuffer: m.GetLiveBufferSize(), Buffer: m.GetBufferSize(), MaxRetries: m.GetMaxRetryCount(),
		ReadBatch: m.GetReadBatchSize(), CheckpointAfter: m.GetCheckpointAfterTime(),
		CheckpointMin: m.GetCheckpointMinCount(), CheckpointMax: m.GetCheckpointMaxCount(),
		MaxConsumers: m.GetSubscriberMaxCount(), Strategy: strategy,
	}
}

// createGroup serves CreatePersistentSubscription.
func (c *session) createGroup(f *messages.Frame, u *user) error {
	return c.manage(f, func(m *pb.CreatePersistentSubscription, done groupDone) {
		c.server.groups.create(u, settingsOf(m), done)
	})
}

// updateGroup serves UpdatePersistentSubscription.
func (c *session) updateGroup(f *messages.Frame, u *user) error {
	return c.manage(f, func(m *pb.CreatePersistentSubscription, done groupDone) {
		c.server.groups.update(u, settingsOf(m), done)
	})
}

// deleteGroup serves DeletePersistentSubscription, which a real server reads as it reads the others.
func (c *session) deleteGroup(f *messages.Frame, u *user) error {
	return c.manage(f, func(m *pb.CreatePersistentSubscription, done groupDone) {
		c.server.groups.delete(u, readable(m.GetEventStreamId()), readable(m.GetSubscriptionGroupName()), done)
	})
}

// manage reads a request about a group, has it done, and sends the answer when it is known. It counts in the session's share
// with the writer, with the size of what the writer gets.
func (c *session) manage(f *messages.Frame, do func(m *pb.CreatePersistentSubscription, done groupDone)) error {
	var m pb.CreatePersistentSubscription
	if !groupShape.message(f, &m) {
		c.badRequest(f, "")
		return nil
	}
	const entry = 512 // about, of each group in the event that keeps them
	id, completed, size := f.ID, f.Command+1, len(f.Body)+entry*int(c.server.groups.count.Load())
	if err := c.reserve(size); err != nil {
		return err
	}
	do(&m, func(result groupResult, reason string) { // in the writer's goroutine, perhaps
		b := messages.AppendFrameStart(nil, completed, id, nil)
		b = protowire.AppendTag(b, 1, protowire.VarintType)
		b = append(b, result.wire())
		b = protowire.AppendTag(b, 2, protowire.BytesType)
		b, err := messages.EndFrame(protowire.AppendString(b, reason), 0)
		if err == nil {
			err = c.out.answer(b, 1, size)
		}
		if err != nil {
			c.end(err)
		}
	})
	return nil
}

// connectGroup serves ConnectToPersistentSubscription.
func (c *session) connectGroup(f *messages.Frame, u *user) error {
	var m pb.ConnectToPersistentSubscription
	if !groupConnectShape.message(f, &m) || m.GetSubscriptionId() == "" || m.GetAllowedInFlightMessages() < 0 {
		c.badRequest(f, "")
		return nil
	}
	known := u != nil || c.server.dialect.generation < generation20
	if !known || !c.server.allowed(u, readable(m.GetEventStreamId()), rightRead) {
		return c.dropped(f.ID, pb.SubscriptionDropped_AccessDenied)
	}
	return c.server.groups.connect(c, f.ID, &m, u)
}

// processed is what an ack or a nak says. It aliases the frame, and ids the session's.
type processed struct {
	key    []byte
	ids    []uuid.UUID
	text   []byte
	action groups.Action
}

// decodeProcessed reads an ack, or a nak, into p, and reports whether a real server can. Unknown fields are passed over.
func decodeProcessed(b []byte, nak bool, p *processed) bool {
	for len(b) > 0 {
		number, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return false
		}
		b = b[n:]
		known := number <= 2 || (nak && number <= 4)
		want := protowire.BytesType
		if number == 4 {
			want = protowire.VarintType
		}
		if known && typ != want {
			return false
		}
		if n = protowire.ConsumeFieldValue(number, typ, b); n < 0 {
			return false
		}
		if known && !p.field(number, b[:n]) {
			return false
		}
		b = b[n:]
	}
	return len(p.ids) > 0
}

func (p *processed) field(number protowire.Number, value []byte) bool {
	if number == 4 {
		action, _ := protowire.ConsumeVarint(value)
		p.action = groups.Action(action)
		return action <= uint64(groups.Stop)
	}
	value, _ = protowire.ConsumeBytes(value)
	switch number {
	case 1:
		p.key = value
	case 2:
		id, err := messages.ParseGUID(value)
		if err != nil || len(value) == 0 {
			return false
		}
		p.ids = append(p.ids, id)
	default:
		p.text = value
	}
	return true
}

const maxKeptIDs = 4096

// processed reads the request at hand. Its key is a name like any other.
func (c *session) processed(f *messages.Frame, nak bool) (p processed, ok bool) {
	p.ids = c.ids[:0]
	ok = decodeProcessed(f.Body, nak, &p)
	if cap(p.ids) <= maxKeptIDs {
		c.ids = p.ids[:0]
	}
	if name := readable(string(p.key)); ok && len(name) != len(p.key) {
		p.key = []byte(name)
	}
	return p, ok
}

// ackEvents serves PersistentSubscriptionAckEvents, which has no answer.
func (c *session) ackEvents(f *messages.Frame, _ *user) error {
	p, ok := c.processed(f, false)
	if !ok || len(p.key) == 0 {
		c.badRequest(f, "")
		return nil
	}
	c.server.groups.ack(p.key, f.ID, p.ids)
	return nil
}

// maxReason bounds the text of a nak, which each message that it parks carries.
const maxReason = 64 << 10

// nakEvents serves PersistentSubscriptionNakEvents, which has no answer.
func (c *session) nakEvents(f *messages.Frame, _ *user) error {
	p, ok := c.processed(f, true)
	if !ok {
		c.badRequest(f, "")
		return nil
	}
	said := bytes.ToValidUTF8(p.text[:min(len(p.text), maxReason)], []byte("\uFFFD"))
	c.server.groups.nak(p.key, f.ID, p.ids, p.action, string(said))
	return nil
}
