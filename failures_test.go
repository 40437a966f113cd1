package eventstore_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/scripted"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// unknownCommand is none of the protocol's.
const unknownCommand messages.Command = 0x7F

// errDelivered says that an exchange handed its owner an answer of the wrong kind: judging it is the owner's.
var errDelivered = errors.New("delivered")

// failing is an operation, and the request of it that meets a failure.
type failing struct {
	name    string
	command messages.Command
	run     func(ctx context.Context, c *eventstore.Client) error
}

func failingOperations() (all []failing) {
	for _, expected := range []eventstore.ExpectedVersion{eventstore.Any, eventstore.NoStream, eventstore.StreamExists, 3} {
		name := fmt.Sprintf("Append with %v", expected)
		if expected == 3 {
			name = "Append with an exact version"
		}
		all = append(all, failing{name, messages.WriteEvents, func(ctx context.Context, c *eventstore.Client) error {
			_, err := c.Append(ctx, "s", expected, numbered(1))
			return err
		}})
	}
	opened := func(command messages.Command) func(ctx context.Context, c *eventstore.Client) error {
		return func(ctx context.Context, c *eventstore.Client) error {
			x, err := c.Open(ctx, messages.Raw(command, nil), window)
			if err != nil {
				return err
			}
			r, err := x.Recv(ctx)
			if err == nil && (r.Command != command+1 && r.Command != messages.SubscriptionConfirmation || len(r.Body) == 1) {
				err = errDelivered
			}
			return err
		}
	}
	called := func(command messages.Command) func(ctx context.Context, c *eventstore.Client) error {
		return func(ctx context.Context, c *eventstore.Client) error {
			_, err := c.Call(ctx, messages.Raw(command, nil))
			return err
		}
	}
	return append(all,
		failing{"AppendAsync", messages.WriteEvents, func(ctx context.Context, c *eventstore.Client) error {
			_, err := c.AppendAsync(ctx, "s", eventstore.Any, numbered(1)).Wait(ctx)
			return err
		}},
		failing{"SetMetadata", messages.WriteEvents, func(ctx context.Context, c *eventstore.Client) error {
			_, err := c.SetMetadata(ctx, "s", eventstore.Any, eventstore.StreamMetadata{MaxCount: 1})
			return err
		}},
		failing{"TruncateBefore", messages.WriteEvents, func(ctx context.Context, c *eventstore.Client) error {
			return c.TruncateBefore(ctx, "s", 3)
		}},
		failing{"Undelete", messages.WriteEvents, func(ctx context.Context, c *eventstore.Client) error {
			return c.Undelete(ctx, "gone")
		}},
		failing{"ReadEvent", messages.ReadEvent, func(ctx context.Context, c *eventstore.Client) error {
			_, err := c.ReadEvent(ctx, "holds", eventstore.Start)
			return err
		}},
		failing{"Metadata", messages.ReadEvent, func(ctx context.Context, c *eventstore.Client) error {
			_, err := c.Metadata(ctx, "gone")
			return err
		}},
		failing{"ReadStream", messages.ReadStreamEventsForward, func(ctx context.Context, c *eventstore.Client) (last error) {
			for _, err := range c.ReadStream(ctx, "s", eventstore.Start) {
				last = err
			}
			return last
		}},
		failing{"ReadSlice backward", messages.ReadStreamEventsBackward, func(ctx context.Context, c *eventstore.Client) error {
			_, err := c.ReadSlice(ctx, "s", eventstore.End, 10, eventstore.Backward())
			return err
		}},
		failing{"ReadAll", messages.ReadAllEventsForward, func(ctx context.Context, c *eventstore.Client) (last error) {
			for _, err := range c.ReadAll(ctx, eventstore.Start) {
				last = err
			}
			return last
		}},
		failing{"Ping", messages.Ping, func(ctx context.Context, c *eventstore.Client) error { return c.Ping(ctx) }},
		failing{"Authenticate", messages.Ping, func(ctx context.Context, c *eventstore.Client) error {
			return c.Authenticate(ctx, eventstore.As("me", "secret"))
		}},
		failing{"ReadAll with a filter", messages.FilteredReadAllEventsForward, func(ctx context.Context, c *eventstore.Client) (last error) {
			for _, err := range c.ReadAll(ctx, eventstore.Start, eventstore.StreamPrefix("s")) {
				last = err
			}
			return last
		}},
		failing{"Delete", messages.DeleteStream, func(ctx context.Context, c *eventstore.Client) error {
			_, err := c.Delete(ctx, "s", eventstore.Any)
			return err
		}},
		failing{"HardDelete", messages.DeleteStream, func(ctx context.Context, c *eventstore.Client) error {
			_, err := c.HardDelete(ctx, "s", eventstore.Any)
			return err
		}},
		failing{"StartTransaction", messages.TransactionStart, func(ctx context.Context, c *eventstore.Client) error {
			_, err := c.StartTransaction(ctx, "s", eventstore.Any)
			return err
		}},
		failing{"Transaction.Write", messages.TransactionWrite, func(ctx context.Context, c *eventstore.Client) error {
			return c.ContinueTransaction(1).Write(ctx, numbered(1))
		}},
		failing{"Transaction.Commit", messages.TransactionCommit, func(ctx context.Context, c *eventstore.Client) error {
			_, err := c.ContinueTransaction(1).Commit(ctx)
			return err
		}},
		failing{"Scavenge", messages.ScavengeDatabase, func(ctx context.Context, c *eventstore.Client) error {
			_, err := c.Scavenge(ctx)
			return err
		}},
		failing{"Call of a read", messages.ReadEvent, called(messages.ReadEvent)},
		failing{"Call of WriteEvents", messages.WriteEvents, func(ctx context.Context, c *eventstore.Client) error {
			_, err := c.Call(ctx, &messages.Append{Stream: "s", Expected: -2})
			return err
		}},
		failing{"Call of another change", messages.CreatePersistentSubscription, called(messages.CreatePersistentSubscription)},
		failing{"Call of an unknown command", unknownCommand, called(unknownCommand)},
		failing{"Open of a subscription", messages.SubscribeToStream, opened(messages.SubscribeToStream)},
		failing{"Open of a change", messages.CreatePersistentSubscription, opened(messages.CreatePersistentSubscription)},
	)
}

// sound is the answer of a server where nothing fails.
func sound(f messages.Frame) messages.Request {
	switch f.Command {
	case messages.WriteEvents:
		return &messages.AppendCompleted{}
	case messages.ReadEvent:
		var m messages.EventRead
		_ = m.Decode(f.Body, nil)
		record := messages.EventRecord{Stream: m.Stream, ID: uuid.New(), Type: "t", Data: []byte(`{"$tb":9223372036854775807}`)}
		if m.Stream != "holds" && m.Stream != "$$gone" {
			return messages.Raw(messages.ReadEventCompleted, messages.AppendEventRead(nil, messages.ReadEventNotFound, nil, nil, ""))
		}
		return messages.Raw(messages.ReadEventCompleted, messages.AppendEventRead(nil, messages.ReadEventSuccess, record.AppendTo(nil), nil, ""))
	case messages.ReadStreamEventsForward, messages.ReadStreamEventsBackward:
		return messages.Raw(f.Command+1, (&messages.StreamPage{Next: -1, EndOfStream: true}).AppendTo(nil))
	case messages.ReadAllEventsForward:
		return messages.Raw(f.Command+1, (&messages.AllPage{}).AppendTo(nil))
	case messages.FilteredReadAllEventsForward:
		return messages.Raw(f.Command+1, append((&messages.AllPage{}).AppendTo(nil), 6<<3, 1))
	case messages.DeleteStream:
		return messages.Of(f.Command+1, &pb.DeleteStreamCompleted{Result: pb.OperationResult(0).Enum()})
	case messages.TransactionStart:
		return messages.Of(f.Command+1, &pb.TransactionStartCompleted{TransactionId: proto.Int64(1), Result: pb.OperationResult(0).Enum()})
	case messages.TransactionWrite:
		return messages.Of(f.Command+1, &pb.TransactionWriteCompleted{TransactionId: proto.Int64(1), Result: pb.OperationResult(0).Enum()})
	case messages.TransactionCommit:
		return messages.Of(f.Command+1, &pb.TransactionCommitCompleted{
			TransactionId: proto.Int64(1), Result: pb.OperationResult(0).Enum(), FirstEventNumber: proto.Int64(0), LastEventNumber: proto.Int64(0),
		})
	case messages.Ping:
		return messages.Raw(messages.Pong, nil)
	case messages.SubscribeToStream:
		return messages.Of(messages.SubscriptionConfirmation, &pb.SubscriptionConfirmation{LastCommitPosition: proto.Int64(0)})
	}
	return messages.Raw(f.Command+1, nil)
}

// place is where and how a request fails. The fault happens to the first request of the operation's command; after it, and on later
// connections, all is sound.
type place struct {
	name  string
	fault func(p *scripted.Peer, f messages.Frame) (goOn bool) // instead of the answer; nil: see serve
}

const (
	beforeTheRequest = "there is no connection"
	insideTheRequest = "lost inside the request"
)

func failurePlaces() []place {
	instead := func(r messages.Request) func(p *scripted.Peer, f messages.Frame) bool {
		return func(p *scripted.Peer, f messages.Frame) bool { p.SendRequest(f.ID, r); return true }
	}
	refused := func(reason pb.NotHandled_NotHandledReason, info []byte) func(p *scripted.Peer, f messages.Frame) bool {
		return instead(messages.Of(messages.NotHandled, &pb.NotHandled{Reason: &reason, AdditionalInfo: info}))
	}
	leader, err := proto.Marshal(&pb.LeaderInfo{
		ExternalTcpAddress: proto.String("server"), ExternalTcpPort: proto.Int32(1113),
		HttpAddress: proto.String("server"), HttpPort: proto.Int32(2113),
	})
	if err != nil {
		panic(err) // of a message that has all it needs
	}
	return []place{
		{beforeTheRequest, nil},
		{insideTheRequest, nil},
		{"lost before the answer", func(*scripted.Peer, messages.Frame) bool { return false }},
		{"lost inside the answer", func(p *scripted.Peer, f messages.Frame) bool {
			b, _ := messages.AppendFrame(nil, f.ID, nil, sound(f))
			_, _ = p.Conn.Write(b[:len(b)-1])
			return false
		}},
		{"reset before the answer", func(p *scripted.Peer, _ messages.Frame) bool {
			p.Conn.(interface{ Reset() }).Reset()
			return false
		}},
		{"half-open: nothing comes any more", func(p *scripted.Peer, _ messages.Frame) bool { scripted.Drain(p); return false }},
		{"no answer, the server is alive", func(*scripted.Peer, messages.Frame) bool { return true }},
		{"NotHandled: NotReady", refused(pb.NotHandled_NotReady, nil)},
		{"NotHandled: TooBusy", refused(pb.NotHandled_TooBusy, nil)},
		{"NotHandled: NotLeader, no address", refused(pb.NotHandled_NotLeader, nil)},
		{"NotHandled: NotLeader, with the address", refused(pb.NotHandled_NotLeader, leader)},
		{"NotHandled: IsReadOnly", refused(pb.NotHandled_IsReadOnly, leader)},
		{"result CommitTimeout", func(p *scripted.Peer, f messages.Frame) bool {
			p.SendRequest(f.ID, commitTimeout(f.Command))
			return true
		}},
		{"NotAuthenticated", instead(messages.Raw(messages.NotAuthenticated, nil))},
		{"BadRequest to the request", instead(messages.Raw(messages.BadRequest, []byte("no")))},
		{"BadRequest to nobody", func(p *scripted.Peer, _ messages.Frame) bool {
			p.Send(messages.BadRequest, messages.ID{}, "no")
			scripted.Drain(p)
			return false
		}},
		{"an answer of another kind", instead(messages.Raw(messages.ClientIdentified, nil))},
		{"an answer that cannot be decoded", func(p *scripted.Peer, f messages.Frame) bool {
			p.SendRequest(f.ID, messages.Raw(sound(f).Command(), []byte{0xff}))
			return true
		}},
		{"an answer larger than a frame", func(p *scripted.Peer, f messages.Frame) bool {
			oversize(p, sound(f).Command(), f.ID)
			return false
		}},
		{"answers to nobody, and twice", func(p *scripted.Peer, f messages.Frame) bool {
			b, _ := messages.AppendFrame(nil, messages.ID{1, 2, 3}, nil, sound(f))
			b, _ = messages.AppendFrame(b, f.ID, nil, sound(f))
			b, _ = messages.AppendFrame(b, f.ID, nil, sound(f))
			_, err := p.Conn.Write(b) // at once: the client may go when it has the first
			return err == nil
		}},
		{"the answer comes byte by byte", func(p *scripted.Peer, f messages.Frame) bool {
			b, _ := messages.AppendFrame(nil, f.ID, nil, sound(f))
			for i := range b {
				time.Sleep(10 * time.Millisecond)
				if _, err := p.Conn.Write(b[i : i+1]); err != nil {
					return false
				}
			}
			return true
		}},
	}
}

// commitTimeout is that result, nil where the answer has no such results.
func commitTimeout(c messages.Command) messages.Request {
	result := pb.OperationResult_CommitTimeout
	switch c {
	case messages.WriteEvents:
		return &messages.AppendCompleted{Result: messages.CommitTimeout}
	case messages.DeleteStream:
		return messages.Of(c+1, &pb.DeleteStreamCompleted{Result: &result})
	case messages.TransactionStart:
		return messages.Of(c+1, &pb.TransactionStartCompleted{TransactionId: proto.Int64(-1), Result: &result})
	case messages.TransactionWrite:
		return messages.Of(c+1, &pb.TransactionWriteCompleted{TransactionId: proto.Int64(1), Result: &result})
	case messages.TransactionCommit:
		return messages.Of(c+1, &pb.TransactionCommitCompleted{
			TransactionId: proto.Int64(1), Result: &result, FirstEventNumber: proto.Int64(0), LastEventNumber: proto.Int64(0),
		})
	}
	return nil
}

// fails plays an operation with a failure and returns what became of it, in the words of docs/failures.md.
func fails(t *testing.T, op failing, at place) (outcome string) {
	t.Helper()
	var sent, looked atomic.Int32 // requests of the operation, and looks whether a delete is needed
	serve := func(p *scripted.Peer) {
		if p.Number == 1 && at.name == beforeTheRequest {
			return
		}
		if p.Number == 1 && at.name == insideTheRequest {
			upToCommand(p, op.command)
			return
		}
		failed := false
		alive(p, func(f messages.Frame) bool {
			if f.Command == messages.ReadEvent && op.command == messages.DeleteStream {
				looked.Add(1)
			}
			if f.Command == op.command && sent.Add(1) == 1 && at.fault != nil {
				failed = true
				return at.fault(p, f)
			}
			if failed && f.Command == messages.UnsubscribeFromStream {
				return true // the farewell of an exchange
			}
			p.SendRequest(f.ID, sound(f))
			return true
		})
	}
	times := 1
	if op.name == "Undelete" {
		times = 2 // it is two writes
	}
	play(t, serve, func(t *testing.T, c *eventstore.Client) {
		if at.name == beforeTheRequest {
			synctest.Wait()
			require.Equal(t, eventstore.Reconnecting, c.State().Phase)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		outcome = became(op.run(ctx, c), int(sent.Load()) > times, int(looked.Load()))
	})
	return outcome
}

// upToCommand answers what comes until a request of this command has begun.
func upToCommand(p *scripted.Peer, command messages.Command) {
	for {
		head := make([]byte, 5)
		if _, err := io.ReadFull(p.Conn, head); err != nil || messages.Command(head[4]) == command {
			return
		}
		r := messages.NewReader(io.MultiReader(strings.NewReader(string(head)), p.Conn), 0)
		f, err := r.Next()
		if err != nil {
			return
		}
		p.SendRequest(f.ID, sound(f))
	}
}

func became(err error, again bool, looked int) string {
	var refused *eventstore.ServerError
	for _, known := range []struct {
		is   bool
		text string
	}{
		{err == nil && looked > 0, "looks, and again"},
		{err == nil && again, "again"},
		{err == nil, "done"},
		{errors.Is(err, errDelivered), "delivered"},
		{errors.Is(err, context.DeadlineExceeded), "waits"},
		{errors.Is(err, eventstore.ErrTooLarge) && looked > 0, "looks, then ErrTooLarge"},
		{errors.Is(err, eventstore.ErrTooLarge), "ErrTooLarge"},
		{errors.Is(err, eventstore.ErrNotAuthenticated), "ErrNotAuthenticated"},
		{errors.Is(err, eventstore.ErrConnectionLost), "ErrConnectionLost"},
		{errors.Is(err, eventstore.ErrTimeout), "ErrTimeout"},
		{errors.Is(err, eventstore.ErrProtocol) && looked > 0, "looks, then ErrProtocol"},
		{errors.Is(err, eventstore.ErrProtocol), "ErrProtocol"},
		{errors.As(err, &refused), "ServerError"},
	} {
		if !known.is {
			continue
		}
		if eventstore.MaybeApplied(err) {
			return known.text + ", maybe applied"
		}
		return known.text
	}
	return err.Error()
}

// Every operation meets every failure. The page docs/failures.md says what becomes of it: its table is made of what happens here,
// and this test fails when they differ. UPDATE_DOCS=1 writes it anew, to be read before it is committed.
func TestFailures(t *testing.T) {
	const file = "docs/failures.md"
	operations, places := failingOperations(), failurePlaces()
	outcomes := make([][]string, len(operations)) // of each operation, at each place
	for i, op := range operations {
		t.Run(op.name, func(t *testing.T) {
			for _, at := range places {
				if at.name == "result CommitTimeout" && commitTimeout(op.command) == nil || op.name == "Call of a read" && at.name == "result CommitTimeout" {
					outcomes[i] = append(outcomes[i], "-")
					continue
				}
				outcomes[i] = append(outcomes[i], "")
				t.Run(at.name, func(t *testing.T) { outcomes[i][len(outcomes[i])-1] = fails(t, op, at) })
			}
		})
	}
	for _, row := range outcomes {
		if slices.Contains(row, "") || len(row) != len(places) {
			t.Skip("only some of the cases ran: " + file + " was not compared")
		}
	}
	page, err := os.ReadFile(file)
	require.NoError(t, err)
	const begin, end = "<!-- TestFailures -->\n", "<!-- end -->\n"
	head, rest, ok := strings.Cut(string(page), begin)
	require.True(t, ok)
	is, tail, ok := strings.Cut(rest, end)
	require.True(t, ok)
	want := failureTable(operations, places, outcomes)
	if os.Getenv("UPDATE_DOCS") != "" {
		require.NoError(t, os.WriteFile(file, []byte(head+begin+want+end+tail), 0o600))
		return
	}
	require.Equal(t, want, is, "%s is made of what this test sees", file)
}

// failureTable has a row for each place, and a column for each kind of operation: those that fare alike everywhere.
func failureTable(operations []failing, places []place, outcomes [][]string) string {
	var kinds [][]int
	for i := range operations {
		k := slices.IndexFunc(kinds, func(kind []int) bool { return slices.Equal(outcomes[kind[0]], outcomes[i]) })
		if k < 0 {
			kinds = append(kinds, nil)
			k = len(kinds) - 1
		}
		kinds[k] = append(kinds[k], i)
	}
	var b strings.Builder
	for k, kind := range kinds {
		var names []string
		for _, i := range kind {
			names = append(names, operations[i].name)
		}
		fmt.Fprintf(&b, "* %c: %s\n", 'A'+k, strings.Join(names, ", "))
	}
	b.WriteString("\n| |")
	for k := range kinds {
		fmt.Fprintf(&b, " %c |", 'A'+k)
	}
	b.WriteString("\n|" + strings.Repeat("---|", len(kinds)+1) + "\n")
	for n, at := range places {
		b.WriteString("| " + at.name + " |")
		for _, kind := range kinds {
			b.WriteString(" " + outcomes[kind[0]][n] + " |")
		}
		b.WriteString("\n")
	}
	return b.String()
}
