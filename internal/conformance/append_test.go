package conformance_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/messages"
)

// An outcome of a write: the first number that it got, or one of these.
const (
	isWrong   = -10
	isDeleted = -11
)

// versions is what becomes of a write with an expected version to a stream in a state, and its last number before.
var versions = []struct {
	state    state
	last     int64
	outcomes map[int64]int64 // by expected version
}{
	{missing, -1, map[int64]int64{-2: 0, -1: 0, -4: isWrong, 0: isWrong, 5: isWrong, messages.DeletedNumber: isWrong}},
	{existing, 2, map[int64]int64{-2: 3, -1: isWrong, -4: 3, 0: isWrong, 1: isWrong, 2: 3, 3: isWrong, 1<<31 + 5: isWrong}},
	{softDeleted, 2, map[int64]int64{-2: 3, -1: 3, -4: isDeleted, 0: isWrong, 1: isWrong, 2: 3, 3: isWrong}},
	{hardDeleted, -1, map[int64]int64{-2: isDeleted, -1: isDeleted, -4: isDeleted, 0: isDeleted, 2: isDeleted, 7: isDeleted}},
	{metadataOnly, -1, map[int64]int64{-2: 0, -1: 0, -4: 0, 0: isWrong}},
}

func TestExpectedVersions(t *testing.T) {
	ctx := within(t)
	srv := serve(t)
	p := dialPeer(t, srv)
	client := srv.Client(t)
	for _, c := range versions {
		for expected, want := range c.outcomes {
			t.Run(fmt.Sprintf("%s/%s", c.state, eventstore.ExpectedVersion(expected)), func(t *testing.T) {
				m := p.append(p.in(c.state), expected, uuid.NewString(), uuid.NewString())
				switch want {
				case isWrong:
					wrong(t, m, c.last)
				case isDeleted:
					require.Equal(t, messages.StreamDeleted, m.GetResult())
					failed(t, m, "Stream is deleted.", -1)
				default:
					written(t, m, want, want+1)
				}

				stream := p.in(c.state)
				result, err := client.Append(ctx, stream, eventstore.ExpectedVersion(expected), numbered(0, 2))
				require.False(t, eventstore.MaybeApplied(err))
				require.False(t, eventstore.Retryable(err))
				switch want {
				case isWrong:
					require.ErrorIs(t, err, eventstore.ErrWrongVersion)
					var wrong *eventstore.WrongVersionError
					require.ErrorAs(t, err, &wrong)
					require.Equal(t, stream, wrong.Stream)
					require.EqualValues(t, expected, wrong.Expected)
					if wrong.Actual != eventstore.Any { // the server says it, from 4.0 on
						require.EqualValues(t, c.last, wrong.Actual)
					}
				case isDeleted:
					require.ErrorIs(t, err, eventstore.ErrStreamDeleted)
				default:
					require.NoError(t, err)
					require.EqualValues(t, want, result.First)
					require.EqualValues(t, want+1, result.Last)
					require.Positive(t, result.Position.Commit)
				}
			})
		}
	}
}

func TestExpectedVersionsThatAreNone(t *testing.T) {
	srv := serve(t)
	p := dialPeer(t, srv)
	for _, expected := range []int64{-3, -5, -1 << 63} {
		p.refused(p.call(&messages.Append{Stream: newStream("none"), Expected: expected, Events: p.named("a")}), "WriteEvents")
	}
}

func TestEmptyAppends(t *testing.T) {
	ctx := within(t)
	srv := serve(t)
	p := dialPeer(t, srv)
	client := srv.Client(t)

	stream := newStream("empty")
	for _, expected := range []int64{-2, -1} {
		written(t, p.append(stream, expected), 0, -1)
	}
	for _, expected := range []int64{-4, 0} {
		wrong(t, p.append(stream, expected), -1)
	}
	require.Equal(t, messages.ReadStreamNoStream, p.forward(stream, 0, 10).result)

	stream = p.in(existing)
	for _, expected := range []int64{-2, -4, 2} {
		written(t, p.append(stream, expected), 3, 2)
	}
	for _, expected := range []int64{-1, 0, 3} {
		wrong(t, p.append(stream, expected), 2)
	}
	result, err := client.Append(ctx, stream, 2, nil)
	require.NoError(t, err)
	require.EqualValues(t, 3, result.First)
	require.EqualValues(t, 2, result.Last)
	_, err = client.Append(ctx, stream, 1, nil)
	require.ErrorIs(t, err, eventstore.ErrWrongVersion)
	require.EqualValues(t, 2, p.forward(stream, 0, 10).last)

	// It undeletes: the stream is there again, and empty.
	stream = p.in(softDeleted)
	written(t, p.append(stream, -2), 3, 2)
	p.undeleted(stream)
	require.Equal(t, page{result: messages.ReadStreamSuccess, next: 3, last: 2, end: true}, p.forward(stream, 3, 10))

	failed(t, p.append(p.in(hardDeleted), -2), "Stream is deleted.", -1)
}

// TestContent: what is written is what is read.
func TestContent(t *testing.T) {
	ctx := within(t)
	srv := serve(t)
	client := srv.Client(t)
	stream := newStream("content")
	events := []eventstore.EventData{
		{Type: "json", JSON: true, Data: []byte(`{"a":1}`), Metadata: []byte(`{"m":1}`)},
		{Type: "json that is none", JSON: true, Data: []byte("not json")},
		{Type: "bytes", Data: []byte{0, 1, 2, 255}, Metadata: []byte{255, 0}},
		{Type: "nothing"},
		{Type: "nothing but metadata", Metadata: []byte("m")},
		{Type: "Ärger ☃ " + strings.Repeat("x", 500), Data: []byte("long")},
	}
	ids := newEventIDs()
	for i := range events {
		events[i].ID = ids.of(events[i].Type)
	}
	_, err := client.Append(ctx, stream, eventstore.NoStream, events)
	require.NoError(t, err)
	n := 0
	for e, err := range client.ReadStream(ctx, stream, eventstore.Start) {
		require.NoError(t, err)
		require.Equal(t, stream, e.Event.Stream)
		require.Equal(t, events[n].ID, e.Event.ID)
		require.Equal(t, events[n].Type, e.Event.Type)
		require.Equal(t, events[n].JSON, e.Event.JSON)
		require.Equal(t, string(events[n].Data), string(e.Event.Data))
		require.Equal(t, string(events[n].Metadata), string(e.Event.Metadata))
		require.False(t, e.Event.Created.IsZero())
		n++
	}
	require.Equal(t, len(events), n)
}

// TestContentTypes: 1 is JSON, everything else binary; that of the metadata is ignored.
func TestContentTypes(t *testing.T) {
	srv := serve(t)
	p := dialPeer(t, srv)
	stream := newStream("types")
	events := p.named("a", "b", "c", "d")
	events[0].ContentType, events[0].MetadataType = 1, 0
	events[1].ContentType, events[1].MetadataType = 0, 1
	events[2].ContentType, events[2].MetadataType = 2, 2
	events[3].Metadata = []byte("m")
	written(t, p.appendEvents(stream, -1, events...), 0, 3)
	for n, want := range []int32{1, 0, 0, 0} {
		e := p.readEvent(stream, int64(n)).GetEvent().GetEvent()
		require.Equal(t, want, e.GetDataContentType())
		require.Equal(t, want, e.GetMetadataContentType())
		require.NotNil(t, e.Metadata, "there, and empty if need be")
		require.Equal(t, string(events[n].Metadata), string(e.GetMetadata()))
		require.Positive(t, e.GetCreated())
		require.Equal(t, e.GetCreated()/10_000-62_135_596_800_000, e.GetCreatedEpoch())
	}
}

func TestNames(t *testing.T) {
	ctx := within(t)
	srv := serve(t)
	client := srv.Client(t)
	for _, name := range []string{" with blanks ", "with@at@", "ünïcödé ☃", "with/?&#%20", "two\nlines", strings.Repeat("long-", 100)} {
		stream := newStream(name) + name
		_, err := client.Append(ctx, stream, eventstore.NoStream, numbered(0, 1))
		require.NoError(t, err, name)
		e, err := client.ReadEvent(ctx, stream, eventstore.Start)
		require.NoError(t, err, name)
		require.Equal(t, stream, e.Event.Stream)
	}
	stream := newStream("case")
	_, err := client.Append(ctx, stream, eventstore.NoStream, numbered(0, 1))
	require.NoError(t, err)
	_, err = client.Append(ctx, strings.ToUpper(stream), eventstore.NoStream, numbered(0, 1))
	require.NoError(t, err, "upper and lower case are two")
}

func TestRefusedAppends(t *testing.T) {
	ctx := within(t)
	srv := serve(t)
	p := dialPeer(t, srv)
	client := srv.Client(t)
	stream := newStream("refused")

	_, err := client.Append(ctx, "", eventstore.Any, numbered(0, 1))
	require.ErrorIs(t, err, eventstore.ErrArgument)
	_, err = client.Append(ctx, stream, eventstore.Any, []eventstore.EventData{{}})
	require.ErrorIs(t, err, eventstore.ErrArgument)
	_, err = client.Append(ctx, stream, -3, numbered(0, 1))
	require.ErrorIs(t, err, eventstore.ErrArgument)

	// Past the client, which asks no server about these.
	event := func(change func(*messages.NewEvent)) *messages.Append {
		e := messages.NewEvent{ID: uuid.New(), Type: "t"}
		change(&e)
		return &messages.Append{Stream: stream, Expected: -2, Events: []messages.NewEvent{e}}
	}
	nothing := func(*messages.NewEvent) {}
	nameless := event(nothing)
	nameless.Stream = ""
	p.refused(p.call(nameless), "WriteEvents")
	p.refused(p.call(event(func(e *messages.NewEvent) { e.Type = "" })), "WriteEvents")
	p.refused(p.call(event(func(e *messages.NewEvent) { e.ID = uuid.Nil })), "WriteEvents")
	for _, size := range []int{0, 15, 17} {
		body := protowire.AppendTag(nil, 1, protowire.BytesType)
		body = protowire.AppendString(body, stream)
		body = protowire.AppendTag(body, 2, protowire.VarintType)
		body = protowire.AppendVarint(body, 0)
		e := protowire.AppendTag(nil, 1, protowire.BytesType)
		e = protowire.AppendBytes(e, bytes.Repeat([]byte{7}, size))
		e = protowire.AppendTag(e, 2, protowire.BytesType)
		e = protowire.AppendString(e, "t")
		body = protowire.AppendTag(body, 3, protowire.BytesType)
		body = protowire.AppendBytes(body, e)
		p.refused(p.call(messages.Raw(messages.WriteEvents, body)), "WriteEvents")
	}
	require.Equal(t, messages.ReadStreamNoStream, p.forward(stream, 0, 1).result)
}

// maxEvent is how large one event may be: data, metadata and two bytes for each character of its type.
const maxEvent = 16<<20 - 10_000

func TestLargeEvents(t *testing.T) {
	ctx := within(t)
	srv := serve(t)
	client := srv.Client(t)
	stream := newStream("large")
	mebi := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	_, err := client.Append(ctx, stream, eventstore.NoStream, []eventstore.EventData{{Type: "t", Data: mebi, Metadata: mebi[:1000]}})
	require.NoError(t, err)
	e, err := client.ReadEvent(ctx, stream, eventstore.Start)
	require.NoError(t, err)
	require.True(t, bytes.Equal(mebi, e.Event.Data))
	require.True(t, bytes.Equal(mebi[:1000], e.Event.Metadata))

	if testing.Short() {
		cannot(t, "it writes the largest event there may be, 16 MiB, and this is -short")
	}
	p := dialPeer(t, srv)
	data := bytes.Repeat([]byte{'x'}, maxEvent)
	sized := func(size int) []messages.NewEvent {
		return []messages.NewEvent{{ID: uuid.New(), Type: "four", Data: data[:size-8-10], Metadata: data[:10]}}
	}
	written(t, p.appendEvents(stream, 0, sized(maxEvent)...), 1, 1)
	p.refused(p.call(&messages.Append{Stream: stream, Expected: 1, Events: sized(maxEvent + 1)}), "WriteEvents")
	_, err = client.Append(ctx, stream, 1, []eventstore.EventData{{Type: "four", Data: data[:maxEvent-7]}})
	require.ErrorIs(t, err, eventstore.ErrTooLarge)
	result, err := client.Append(ctx, stream, 1, []eventstore.EventData{{Type: "four", Data: data[:maxEvent-8]}})
	require.NoError(t, err)
	require.EqualValues(t, 2, result.Last)
}

func TestBigBatch(t *testing.T) {
	ctx := within(t)
	srv := serve(t)
	client := srv.Client(t)
	stream := newStream("batch")
	const n = 2000
	events := numbered(0, n)
	ids := newEventIDs()
	for i := range events {
		events[i].ID = ids.of(fmt.Sprint(i))
	}
	result, err := client.Append(ctx, stream, eventstore.NoStream, events)
	require.NoError(t, err)
	require.Equal(t, []eventstore.ExpectedVersion{0, n - 1}, []eventstore.ExpectedVersion{result.First, result.Last})
	again, err := client.Append(ctx, stream, eventstore.NoStream, events)
	require.NoError(t, err)
	require.Equal(t, []eventstore.ExpectedVersion{0, n - 1}, []eventstore.ExpectedVersion{again.First, again.Last})
	read := 0
	for e, err := range client.ReadStream(ctx, stream, eventstore.Start) {
		require.NoError(t, err)
		isNumbered(t, read, e)
		read++
	}
	require.Equal(t, n, read)
}

// TestConcurrentAppenders: of many writers who expect the same version exactly one gets the number.
func TestConcurrentAppenders(t *testing.T) {
	ctx := within(t)
	srv := serve(t)
	clients := []*eventstore.Client{srv.Client(t), srv.Client(t)}
	stream := newStream("race")
	const writers, each = 8, 25
	var mu sync.Mutex
	winners := map[int64]string{} // by number
	var problems []error
	var wg sync.WaitGroup
	for w := range writers {
		client := clients[w%len(clients)]
		wg.Go(func() {
			for i := range each {
				name := fmt.Sprintf("%d-%d", w, i)
				number, err := appendAtEnd(ctx, client, stream, name)
				mu.Lock()
				if _, taken := winners[number]; err != nil || taken {
					problems = append(problems, fmt.Errorf("%s: number %d, taken %t: %w", name, number, taken, err))
				}
				winners[number] = name
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	require.Empty(t, problems)
	require.Len(t, winners, writers*each)
	read := int64(0)
	for e, err := range clients[0].ReadStream(ctx, stream, eventstore.Start) {
		require.NoError(t, err)
		require.Equal(t, read, e.Event.Number)
		require.Equal(t, winners[read], string(e.Event.Data))
		read++
	}
	require.EqualValues(t, writers*each, read)
}

// appendAtEnd appends an event with the exact version, again and again until nobody was faster.
func appendAtEnd(ctx context.Context, client *eventstore.Client, stream, data string) (int64, error) {
	expected := eventstore.NoStream
	for {
		result, err := client.Append(ctx, stream, expected, []eventstore.EventData{{Type: "t", Data: []byte(data)}})
		if err == nil {
			if result.First != expected+1 || result.Last != expected+1 {
				return 0, fmt.Errorf("expected %s and got %s to %s", expected, result.First, result.Last)
			}
			return int64(result.First), nil
		}
		if !errors.Is(err, eventstore.ErrWrongVersion) {
			return 0, err
		}
		last, err := client.ReadEvent(ctx, stream, eventstore.End)
		if errors.Is(err, eventstore.ErrStreamNotFound) {
			continue // a real server refuses by writes that cannot be read yet
		}
		if err != nil {
			return 0, err
		}
		expected = eventstore.ExpectedVersion(last.Event.Number)
	}
}
