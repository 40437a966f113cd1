package messages_test

import (
	"slices"

	"github.com/google/uuid"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// The functions of this file translate between the two forms of the hot messages: from... makes the fast form of a
// generated message, presence collapsed where the fast form has no place for it; to... sets every field that the fast
// form writes. They share no code with the package, the byte order of ids included.

// dotnet swaps between the two orders of an id; swapping twice changes nothing.
func dotnet(b []byte) (id uuid.UUID) {
	if len(b) == 0 {
		return id
	}
	id = uuid.UUID(b)
	slices.Reverse(id[:4])
	slices.Reverse(id[4:6])
	slices.Reverse(id[6:8])
	return id
}

func wireID(id uuid.UUID) []byte {
	id = dotnet(id[:])
	return id[:]
}

// hasBadID reports whether an encoded message of kind d holds, at any depth and also where a later one replaces it, an
// event id of a length that only protobuf accepts.
func hasBadID(d protoreflect.MessageDescriptor, b []byte) bool {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeField(b)
		if n < 0 {
			return false
		}
		if fd := d.Fields().ByNumber(num); fd != nil && typ == protowire.BytesType {
			_, _, skip := protowire.ConsumeTag(b)
			v, _ := protowire.ConsumeBytes(b[skip:])
			if (fd.Name() == "event_id" || fd.Name() == "processed_event_ids") && len(v) != 0 && len(v) != 16 || fd.Message() != nil && hasBadID(fd.Message(), v) {
				return true
			}
		}
		b = b[n:]
	}
	return false
}

func fromRecord(p *pb.EventRecord) messages.EventRecord {
	return messages.EventRecord{
		Stream: p.GetEventStreamId(), Number: p.GetEventNumber(), ID: dotnet(p.GetEventId()), Type: p.GetEventType(),
		ContentType: p.GetDataContentType(), MetadataType: p.GetMetadataContentType(), Data: p.GetData(), Metadata: p.GetMetadata(),
		Created: p.GetCreated(), CreatedEpoch: p.GetCreatedEpoch(),
	}
}

func toRecord(e *messages.EventRecord) *pb.EventRecord {
	return &pb.EventRecord{
		EventStreamId: &e.Stream, EventNumber: &e.Number, EventId: wireID(e.ID), EventType: &e.Type,
		DataContentType: &e.ContentType, MetadataContentType: &e.MetadataType, Data: present(e.Data), Metadata: present(e.Metadata),
		Created: &e.Created, CreatedEpoch: &e.CreatedEpoch,
	}
}

func fromIndexed(p *pb.ResolvedIndexedEvent) messages.ResolvedEvent {
	return messages.ResolvedEvent{
		HasEvent: p.GetEvent() != nil, Event: fromRecord(p.GetEvent()),
		HasLink: p.GetLink() != nil, Link: fromRecord(p.GetLink()),
	}
}

func toIndexed(e *messages.ResolvedEvent) *pb.ResolvedIndexedEvent {
	p := new(pb.ResolvedIndexedEvent)
	if e.HasEvent {
		p.Event = toRecord(&e.Event)
	}
	if e.HasLink {
		p.Link = toRecord(&e.Link)
	}
	return p
}

func fromResolved(p *pb.ResolvedEvent) messages.ResolvedEvent {
	if p == nil {
		return messages.ResolvedEvent{}
	}
	e := fromIndexed(&pb.ResolvedIndexedEvent{Event: p.GetEvent(), Link: p.GetLink()})
	e.HasPosition = p.CommitPosition != nil || p.PreparePosition != nil
	e.Commit, e.Prepare = p.GetCommitPosition(), p.GetPreparePosition()
	return e
}

func toResolved(e *messages.ResolvedEvent) *pb.ResolvedEvent {
	p := toIndexed(e)
	return &pb.ResolvedEvent{Event: p.Event, Link: p.Link, CommitPosition: &e.Commit, PreparePosition: &e.Prepare}
}

func fromAppend(p *pb.WriteEvents) messages.Append {
	m := messages.Append{Stream: p.GetEventStreamId(), Expected: p.GetExpectedVersion(), RequireLeader: p.GetRequireLeader()}
	for _, e := range p.GetEvents() {
		m.Events = append(m.Events, messages.NewEvent{
			ID: dotnet(e.GetEventId()), Type: e.GetEventType(), ContentType: e.GetDataContentType(), MetadataType: e.GetMetadataContentType(),
			Data: e.GetData(), Metadata: e.GetMetadata(),
		})
	}
	return m
}

func toAppend(m *messages.Append) *pb.WriteEvents {
	p := &pb.WriteEvents{EventStreamId: &m.Stream, ExpectedVersion: &m.Expected, RequireLeader: &m.RequireLeader}
	for i := range m.Events {
		e := &m.Events[i]
		p.Events = append(p.Events, &pb.NewEvent{
			EventId: wireID(e.ID), EventType: &e.Type, DataContentType: &e.ContentType, MetadataContentType: &e.MetadataType,
			Data: present(e.Data), Metadata: e.Metadata, // nil is not sent
		})
	}
	return p
}

func fromAppendCompleted(p *pb.WriteEventsCompleted) messages.AppendCompleted {
	return messages.AppendCompleted{
		Result: p.GetResult(), Message: p.GetMessage(), First: p.GetFirstEventNumber(), Last: p.GetLastEventNumber(),
		HasPosition: p.PreparePosition != nil || p.CommitPosition != nil, Prepare: p.GetPreparePosition(), Commit: p.GetCommitPosition(),
		HasCurrent: p.CurrentVersion != nil, CurrentVersion: p.GetCurrentVersion(),
	}
}

func toAppendCompleted(m *messages.AppendCompleted) *pb.WriteEventsCompleted {
	p := &pb.WriteEventsCompleted{Result: &m.Result, Message: optional(m.Message), FirstEventNumber: &m.First, LastEventNumber: &m.Last}
	if m.HasPosition {
		p.PreparePosition, p.CommitPosition = &m.Prepare, &m.Commit
	}
	if m.HasCurrent {
		p.CurrentVersion = &m.CurrentVersion
	}
	return p
}

func fromStreamRead(p *pb.ReadStreamEvents) messages.StreamRead {
	return messages.StreamRead{
		Stream: p.GetEventStreamId(), From: p.GetFromEventNumber(), Count: p.GetMaxCount(),
		ResolveLinks: p.GetResolveLinkTos(), RequireLeader: p.GetRequireLeader(),
	}
}

func toStreamRead(m *messages.StreamRead) *pb.ReadStreamEvents {
	return &pb.ReadStreamEvents{
		EventStreamId: &m.Stream, FromEventNumber: &m.From, MaxCount: &m.Count,
		ResolveLinkTos: &m.ResolveLinks, RequireLeader: &m.RequireLeader,
	}
}

// page is a StreamPage together with its events.
type page struct {
	Result      messages.ReadStreamResult
	Next, Last  int64
	EndOfStream bool
	LastCommit  int64
	Error       string
	Count       int
	Events      []messages.ResolvedEvent
}

func decodePage(b []byte, names *messages.Names) (page, error) {
	var m messages.StreamPage
	if err := m.Decode(b); err != nil {
		return page{}, err
	}
	p := page{Result: m.Result, Next: m.Next, Last: m.Last, EndOfStream: m.EndOfStream, LastCommit: m.LastCommit, Error: m.Error, Count: m.Count}
	err := m.Each(names, func(e *messages.ResolvedEvent) bool {
		p.Events = append(p.Events, indexed(*e))
		return true
	})
	return p, err
}

func (p *page) appendTo(b []byte) []byte {
	for i := range p.Events {
		event, link := records(&p.Events[i])
		b = messages.AppendIndexed(b, 1, event, link)
	}
	m := messages.StreamPage{Result: p.Result, Next: p.Next, Last: p.Last, EndOfStream: p.EndOfStream, LastCommit: p.LastCommit, Error: p.Error}
	return m.AppendTo(b)
}

func fromPage(p *pb.ReadStreamEventsCompleted) page {
	m := page{
		Result: p.GetResult(), Next: p.GetNextEventNumber(), Last: p.GetLastEventNumber(), EndOfStream: p.GetIsEndOfStream(),
		LastCommit: p.GetLastCommitPosition(), Error: p.GetError(), Count: len(p.GetEvents()),
	}
	for _, e := range p.GetEvents() {
		m.Events = append(m.Events, fromIndexed(e))
	}
	return m
}

func toPage(m *page) *pb.ReadStreamEventsCompleted {
	p := &pb.ReadStreamEventsCompleted{
		Result: &m.Result, NextEventNumber: &m.Next, LastEventNumber: &m.Last, IsEndOfStream: &m.EndOfStream,
		LastCommitPosition: &m.LastCommit, Error: &m.Error,
	}
	for i := range m.Events {
		p.Events = append(p.Events, toIndexed(&m.Events[i]))
	}
	return p
}

func fromAllRead(p *pb.ReadAllEvents) messages.AllRead {
	return messages.AllRead{
		Commit: p.GetCommitPosition(), Prepare: p.GetPreparePosition(), Count: p.GetMaxCount(),
		ResolveLinks: p.GetResolveLinkTos(), RequireLeader: p.GetRequireLeader(),
	}
}

func toAllRead(m *messages.AllRead) *pb.ReadAllEvents {
	return &pb.ReadAllEvents{
		CommitPosition: &m.Commit, PreparePosition: &m.Prepare, MaxCount: &m.Count,
		ResolveLinkTos: &m.ResolveLinks, RequireLeader: &m.RequireLeader,
	}
}

// allPage is an AllPage together with its events.
type allPage struct {
	Commit, Prepare         int64
	NextCommit, NextPrepare int64
	Result                  messages.ReadAllResult
	Error                   string
	Count                   int
	Events                  []messages.ResolvedEvent
}

func decodeAllPage(b []byte, names *messages.Names) (allPage, error) {
	var m messages.AllPage
	if err := m.Decode(b); err != nil {
		return allPage{}, err
	}
	p := allPage{
		Commit: m.Commit, Prepare: m.Prepare, NextCommit: m.NextCommit, NextPrepare: m.NextPrepare,
		Result: m.Result, Error: m.Error, Count: m.Count,
	}
	err := m.Each(names, func(e *messages.ResolvedEvent) bool {
		p.Events = append(p.Events, *e)
		return true
	})
	return p, err
}

func (p *allPage) appendTo(b []byte) []byte {
	m := messages.AllPage{
		Commit: p.Commit, Prepare: p.Prepare, NextCommit: p.NextCommit, NextPrepare: p.NextPrepare, Result: p.Result, Error: p.Error,
	}
	b = m.AppendHead(b)
	for i := range p.Events {
		e := &p.Events[i]
		event, link := records(e)
		b = messages.AppendResolved(b, 3, event, link, e.Commit, e.Prepare)
	}
	return m.AppendTo(b)
}

func fromAllPage(p *pb.ReadAllEventsCompleted) allPage {
	m := allPage{
		Commit: p.GetCommitPosition(), Prepare: p.GetPreparePosition(), NextCommit: p.GetNextCommitPosition(),
		NextPrepare: p.GetNextPreparePosition(), Result: p.GetResult(), Error: p.GetError(), Count: len(p.GetEvents()),
	}
	for _, e := range p.GetEvents() {
		m.Events = append(m.Events, fromResolved(e))
	}
	return m
}

func toAllPage(m *allPage) *pb.ReadAllEventsCompleted {
	p := &pb.ReadAllEventsCompleted{
		CommitPosition: &m.Commit, PreparePosition: &m.Prepare, NextCommitPosition: &m.NextCommit, NextPreparePosition: &m.NextPrepare,
		Error: optional(m.Error),
	}
	if m.Result != messages.ReadAllSuccess {
		p.Result = &m.Result
	}
	for i := range m.Events {
		p.Events = append(p.Events, toResolved(&m.Events[i]))
	}
	return p
}

func fromEventRead(p *pb.ReadEvent) messages.EventRead {
	return messages.EventRead{
		Stream: p.GetEventStreamId(), Number: p.GetEventNumber(), ResolveLinks: p.GetResolveLinkTos(), RequireLeader: p.GetRequireLeader(),
	}
}

func toEventRead(m *messages.EventRead) *pb.ReadEvent {
	return &pb.ReadEvent{EventStreamId: &m.Stream, EventNumber: &m.Number, ResolveLinkTos: &m.ResolveLinks, RequireLeader: &m.RequireLeader}
}

func fromEventReadCompleted(p *pb.ReadEventCompleted) messages.EventReadCompleted {
	return messages.EventReadCompleted{Result: p.GetResult(), Event: fromIndexed(p.GetEvent()), Error: p.GetError()}
}

func toEventReadCompleted(m *messages.EventReadCompleted) *pb.ReadEventCompleted {
	return &pb.ReadEventCompleted{Result: &m.Result, Event: toIndexed(&m.Event), Error: optional(m.Error)}
}

func fromPersistentEvent(p *pb.PersistentSubscriptionStreamEventAppeared) messages.PersistentEvent {
	return messages.PersistentEvent{Event: fromIndexed(p.GetEvent()), Retries: p.GetRetryCount()}
}

func toPersistentEvent(m *messages.PersistentEvent) *pb.PersistentSubscriptionStreamEventAppeared {
	return &pb.PersistentSubscriptionStreamEventAppeared{Event: toIndexed(&m.Event), RetryCount: &m.Retries}
}

func fromIDs(ids [][]byte) []uuid.UUID {
	var out []uuid.UUID
	for _, id := range ids {
		out = append(out, dotnet(id))
	}
	return out
}

func toIDs(ids []uuid.UUID) [][]byte {
	var out [][]byte
	for _, id := range ids {
		out = append(out, wireID(id))
	}
	return out
}

func fromPersistentAck(p *pb.PersistentSubscriptionAckEvents) messages.PersistentAck {
	return messages.PersistentAck{Subscription: p.GetSubscriptionId(), IDs: fromIDs(p.GetProcessedEventIds())}
}

func toPersistentAck(m *messages.PersistentAck) *pb.PersistentSubscriptionAckEvents {
	return &pb.PersistentSubscriptionAckEvents{SubscriptionId: &m.Subscription, ProcessedEventIds: toIDs(m.IDs)}
}

func fromPersistentNak(p *pb.PersistentSubscriptionNakEvents) messages.PersistentNak {
	return messages.PersistentNak{
		Subscription: p.GetSubscriptionId(), IDs: fromIDs(p.GetProcessedEventIds()), Message: p.GetMessage(), Action: p.GetAction(),
	}
}

func toPersistentNak(m *messages.PersistentNak) *pb.PersistentSubscriptionNakEvents {
	return &pb.PersistentSubscriptionNakEvents{
		SubscriptionId: &m.Subscription, ProcessedEventIds: toIDs(m.IDs), Message: optional(m.Message), Action: &m.Action,
	}
}

// indexed takes the positions out: a ResolvedIndexedEvent has none, but the fast form reads fields 3 and 4 in it as well.
func indexed(e messages.ResolvedEvent) messages.ResolvedEvent {
	e.HasPosition, e.Commit, e.Prepare = false, 0, 0
	return e
}

// records encodes what e has, nil for what it has not.
func records(e *messages.ResolvedEvent) (event, link []byte) {
	if e.HasEvent {
		event = e.Event.AppendTo([]byte{})
	}
	if e.HasLink {
		link = e.Link.AppendTo([]byte{})
	}
	return event, link
}

// present is b where a field is written in any case.
func present(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// optional is a text that is left out when empty.
func optional(s string) *string {
	if s == "" {
		return nil
	}
	return proto.String(s)
}
