package eventstore_test

import (
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/scripted"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// What a server from 20.6 on is asked for each filter, and what an older one is, which refuses that: the log as it is, once and
// for all pages that follow on the connection. The caller sees the same.
func TestFiltersOnTheWire(t *testing.T) {
	names := []string{"orders-1 placed", "orders-2 $metadata", "$stats cpu", "users-1 placed"}
	page := func(f messages.Frame, from int64, picks []int) messages.Request {
		head := messages.AllPage{Commit: from, Prepare: from, NextCommit: int64(len(names)), NextPrepare: int64(len(names))}
		body := head.AppendHead(nil)
		if from < int64(len(names)) {
			for _, n := range picks {
				record := messages.EventRecord{ID: uuid.New()}
				record.Stream, record.Type, _ = strings.Cut(names[n], " ")
				body = messages.AppendResolved(body, 3, record.AppendTo(nil), nil, int64(n), int64(n))
			}
		}
		body = head.AppendTo(body)
		if f.Command == messages.FilteredReadAllEventsForward && from >= int64(len(names)) {
			body = append(body, 6<<3, 1) // the end of the stream
		}
		return messages.Raw(f.Command+1, body)
	}
	tests := []struct {
		name   string
		filter eventstore.Filter
		wire   *pb.Filter
		picks  []int
	}{
		{"stream prefixes", eventstore.StreamPrefix("orders-", "x"), wire(pb.Filter_StreamId, pb.Filter_Prefix, "orders-", "x"), []int{0, 1}},
		{"type prefix", eventstore.EventTypePrefix("pla"), wire(pb.Filter_EventType, pb.Filter_Prefix, "pla"), []int{0, 3}},
		{"stream pattern", eventstore.StreamRegexp("-1$"), wire(pb.Filter_StreamId, pb.Filter_Regex, "-1$"), []int{0, 3}},
		{"type pattern", eventstore.EventTypeRegexp("^c.u"), wire(pb.Filter_EventType, pb.Filter_Regex, "^c.u"), []int{2}},
		{"no system events", eventstore.ExcludeSystemEvents(), wire(pb.Filter_EventType, pb.Filter_Regex, `^[^\$]`), []int{0, 2, 3}},
	}
	for _, tt := range tests {
		for _, old := range []bool{false, true} {
			t.Run(map[bool]string{false: "20.6, ", true: "older, "}[old]+tt.name, func(t *testing.T) {
				var commands []messages.Command
				play(t, func(p *scripted.Peer) {
					alive(p, func(f messages.Frame) bool {
						commands = append(commands, f.Command)
						var filtered pb.FilteredReadAllEvents
						var plain messages.AllRead
						switch {
						case f.Command == messages.FilteredReadAllEventsForward && old:
							p.Send(messages.BadRequest, f.ID, "Could not unwrap network package for command 186.")
						case f.Command == messages.FilteredReadAllEventsForward:
							require.NoError(t, (messages.Reply{Body: f.Body}).Unmarshal(&filtered))
							require.True(t, proto.Equal(tt.wire, filtered.GetFilter()), prototext.Format(&filtered))
							require.True(t, filtered.GetResolveLinkTos())
							require.EqualValues(t, 100, filtered.GetMaxCount())
							p.SendRequest(f.ID, page(f, filtered.GetCommitPosition(), tt.picks))
						default:
							require.NoError(t, plain.Decode(f.Body))
							require.EqualValues(t, 100, plain.Count)
							p.SendRequest(f.ID, page(f, plain.Commit, []int{0, 1, 2, 3}))
						}
						return true
					})
				}, func(t *testing.T, c *eventstore.Client) {
					var got []int
					for e, err := range c.ReadAll(t.Context(), eventstore.Start, tt.filter, eventstore.PageSize(100)) {
						require.NoError(t, err)
						got = append(got, int(e.Position.Commit))
						require.Equal(t, names[e.Position.Commit], e.Event.Stream+" "+e.Event.Type)
					}
					require.Equal(t, tt.picks, got)
					want := []messages.Command{messages.FilteredReadAllEventsForward, messages.FilteredReadAllEventsForward}
					if old {
						want = []messages.Command{messages.FilteredReadAllEventsForward, messages.ReadAllEventsForward, messages.ReadAllEventsForward}
					}
					require.Equal(t, want, commands)
				})
			})
		}
	}
}

func wire(context pb.Filter_FilterContext, kind pb.Filter_FilterType, data ...string) *pb.Filter {
	return &pb.Filter{Context: &context, Type: &kind, Data: data}
}

func TestFiltersThatAreNone(t *testing.T) {
	play(t, scripted.Drain, func(t *testing.T, c *eventstore.Client) {
		for says, f := range map[string]eventstore.Filter{
			"without a prefix": eventstore.StreamPrefix(),
			"error parsing":    eventstore.StreamRegexp("("),
			"an empty Filter":  {},
		} {
			_, err := c.ReadAllSlice(t.Context(), eventstore.Start, 10, f)
			require.ErrorIs(t, err, eventstore.ErrArgument)
			require.ErrorContains(t, err, says)
		}
	})
}
