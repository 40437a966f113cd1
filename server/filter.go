package server

import (
	"regexp"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
	"github.com/goeventstore/eventstore/server/internal/store"
)

// maxPattern bounds a regular expression: what it compiles to is larger by far.
const maxPattern = 4 << 10

var (
	filterShape            = shape{fields: [17]kind{1: int32s, 2: int32s, 3: text}}
	filteredReadShape      = shape{fields: [17]kind{1: int64s, 2: int64s, 3: int32s, 4: int32s, 5: boolean, 6: boolean, 7: message}, nested: &filterShape}
	filteredSubscribeShape = shape{fields: [17]kind{1: text, 2: boolean, 3: message, 4: int32s}, nested: &filterShape}
)

// filter picks events by themselves: of a link it is the link's own stream and type that count.
type filter struct {
	byType   bool
	prefixes []string       // any of them suffices
	pattern  *regexp.Regexp // nil with prefixes
}

// newFilter reads a filter, nil for one that picks everything, and reports whether it is one.
func newFilter(m *pb.Filter) (f *filter, ok bool) {
	context, kind := m.GetContext(), m.GetType()
	switch {
	case context < pb.Filter_StreamId || context > pb.Filter_EventType || kind < pb.Filter_Regex || kind > pb.Filter_Prefix:
		return nil, false
	case len(m.GetData()) == 0:
		return nil, true
	}
	f = &filter{byType: context == pb.Filter_EventType}
	if kind == pb.Filter_Prefix {
		f.prefixes = m.GetData()
		return f, true
	}
	if len(m.GetData()[0]) > maxPattern {
		return nil, false
	}
	pattern, err := regexp.Compile(m.GetData()[0])
	f.pattern = pattern
	return f, err == nil
}

// picks reports whether an event passes.
func (f *filter) picks(r *store.Record) bool {
	if f == nil {
		return true
	}
	name := r.Stream
	if f.byType {
		name = r.Type
	}
	if f.pattern != nil {
		return f.pattern.MatchString(name)
	}
	return slices.ContainsFunc(f.prefixes, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}

// window is what a filtered page looks at: it ends when so many events were seen, picked or not.
type window struct {
	*filter
	left int32
}

// filteredRequest is a request with a filter.
type filteredRequest interface {
	proto.Message
	GetFilter() *pb.Filter
}

// filtered reads a request into m, and reports whether it and its filter are what they should be.
func (s *shape) filtered(f *messages.Frame, m filteredRequest) (picked *filter, ok bool) {
	if !s.message(f, m) {
		return nil, false
	}
	return newFilter(m.GetFilter())
}

// readFiltered serves FilteredReadAllEventsForward and FilteredReadAllEventsBackward (4.10).
func (c *session) readFiltered(f *messages.Frame, u *user) error {
	var m pb.FilteredReadAllEvents
	picked, ok := filteredReadShape.filtered(f, &m)
	if !ok {
		c.badRequest(f, "")
		return nil
	}
	read := messages.AllRead{
		Commit: m.GetCommitPosition(), Prepare: m.GetPreparePosition(), Count: m.GetMaxCount(), ResolveLinks: m.GetResolveLinkTos(),
		Backward: f.Command == messages.FilteredReadAllEventsBackward,
	}
	answer := messages.FilteredReadAllEventsForwardCompleted
	if read.Backward {
		answer = messages.FilteredReadAllEventsBackwardCompleted
	}
	w := &window{picked, m.GetMaxSearchWindow()}
	if w.left <= 0 {
		w.left = read.Count
	}
	return c.allPage(f.ID, answer, &read, w, u)
}

// appendFilteredTail appends what follows the events of a filtered page: AllPage.AppendTo is that of the others.
func appendFilteredTail(b []byte, p *messages.AllPage) []byte {
	number := func(field protowire.Number, value uint64) {
		b = protowire.AppendTag(b, field, protowire.VarintType)
		b = protowire.AppendVarint(b, value)
	}
	number(4, uint64(p.NextCommit))
	number(5, uint64(p.NextPrepare))
	number(6, protowire.EncodeBool(p.EndOfStream))
	if p.Result != messages.ReadAllSuccess {
		number(7, uint64(p.Result))
	}
	if p.Error != "" {
		b = protowire.AppendTag(b, 8, protowire.BytesType)
		b = protowire.AppendString(b, p.Error)
	}
	return b
}

// subscribeFiltered serves FilteredSubscribeToStream (4.13).
func (c *session) subscribeFiltered(f *messages.Frame, u *user) error {
	var m pb.FilteredSubscribeToStream
	picked, ok := filteredSubscribeShape.filtered(f, &m)
	if !ok {
		c.badRequest(f, "")
		return nil
	}
	return c.subscribeTo(f, u, &subscription{
		stream: readable(m.GetEventStreamId()), resolve: m.GetResolveLinkTos(),
		filter: picked, interval: max(m.GetCheckpointInterval(), 1),
	})
}

// appendCheckpoint counts an event that a filtered subscription has seen, and appends the frame that says how far it has
// looked when there were enough.
func (sub *subscription) appendCheckpoint(b []byte, at store.Position) ([]byte, error) {
	if sub.interval == 0 {
		return b, nil
	}
	if sub.seen++; sub.seen < sub.interval {
		return b, nil
	}
	sub.seen = 0
	start := len(b)
	b = messages.AppendFrameStart(b, messages.CheckpointReached, sub.id, nil)
	b, err := messages.Of(messages.CheckpointReached, &pb.CheckpointReached{
		CommitPosition: &at.Commit, PreparePosition: &at.Prepare,
	}).AppendTo(b)
	if err != nil {
		return b, err
	}
	return messages.EndFrame(b, start)
}
