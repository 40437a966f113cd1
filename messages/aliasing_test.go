package messages_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/messages"
)

// What a message says about its bytes: strings and ids are its own, Data and Metadata alias what was decoded.

// scribble overwrites the bytes, as the next frame does.
func scribble(b []byte) {
	for i := range b {
		b[i] = '#'
	}
}

// scribbled is a record whose bytes were overwritten.
func scribbled(e messages.EventRecord) messages.EventRecord {
	e.Data, e.Metadata = bytes.Repeat([]byte("#"), len(e.Data)), bytes.Repeat([]byte("#"), len(e.Metadata))
	return e
}

// someOrNone are the two ways to decode names.
func someOrNone() map[string]*messages.Names {
	return map[string]*messages.Names{"names": new(messages.Names), "none": nil}
}

func TestAppearedAliasesDataOnly(t *testing.T) {
	for name, names := range someOrNone() {
		t.Run(name, func(t *testing.T) {
			b := sampleAppeared(16)
			var e messages.ResolvedEvent
			require.NoError(t, messages.DecodeAppeared(b, names, &e))
			require.Equal(t, sampleRecord(7, 16), e.Event)
			scribble(b)
			require.Equal(t, scribbled(sampleRecord(7, 16)), e.Event)
			require.Equal(t, scribbled(sampleRecord(7, 16)), e.Link)
			require.Equal(t, int64(139466877), e.Commit)
		})
	}
}

func TestPersistentEventAliasesDataOnly(t *testing.T) {
	for name, names := range someOrNone() {
		t.Run(name, func(t *testing.T) {
			record := sampleRecord(7, 16)
			b := messages.AppendPersistentEvent(nil, record.AppendTo(nil), record.AppendTo(nil), 3)
			var e messages.PersistentEvent
			require.NoError(t, e.Decode(b, names))
			scribble(b)
			require.Equal(t, messages.PersistentEvent{Retries: 3, Event: messages.ResolvedEvent{
				HasEvent: true, Event: scribbled(record), HasLink: true, Link: scribbled(record),
			}}, e)
		})
	}
}

func TestAppendAliasesDataOnly(t *testing.T) {
	for name, names := range someOrNone() {
		t.Run(name, func(t *testing.T) {
			want := sampleAppend(2, 16)
			b, err := want.AppendTo(nil)
			require.NoError(t, err)
			var m messages.Append
			require.NoError(t, m.Decode(b, names))
			require.Equal(t, want, &m)
			scribble(b)
			for i := range want.Events {
				e := &want.Events[i]
				e.Data, e.Metadata = bytes.Repeat([]byte("#"), len(e.Data)), bytes.Repeat([]byte("#"), len(e.Metadata))
			}
			require.Equal(t, want, &m)
		})
	}
}

func TestPageAliasesItsBody(t *testing.T) {
	for name, names := range someOrNone() {
		t.Run(name, func(t *testing.T) {
			b := samplePage(3, 16)
			var kept []messages.EventRecord
			var p messages.StreamPage
			require.NoError(t, p.Decode(b))
			require.NoError(t, p.Each(names, func(e *messages.ResolvedEvent) bool {
				kept = append(kept, e.Event)
				return true
			}))
			scribble(b)
			for i, e := range kept {
				require.Equal(t, scribbled(sampleRecord(i, 16)), e)
			}
		})
	}
}

func TestTextsAreCopies(t *testing.T) {
	for name, names := range someOrNone() {
		t.Run(name, func(t *testing.T) {
			b, err := (&messages.AppendCompleted{Message: "Wrong expected version."}).AppendTo(nil)
			require.NoError(t, err)
			var reply messages.AppendCompleted
			require.NoError(t, reply.Decode(b))
			scribble(b)
			require.Equal(t, "Wrong expected version.", reply.Message)

			b = messages.AppendEventRead(nil, messages.ReadEventError, nil, nil, "some error")
			var event messages.EventReadCompleted
			require.NoError(t, event.Decode(b, names))
			scribble(b)
			require.Equal(t, "some error", event.Error)

			b = (&messages.StreamPage{Error: "some error"}).AppendTo(nil)
			var p messages.StreamPage
			require.NoError(t, p.Decode(b))
			scribble(b)
			require.Equal(t, "some error", p.Error)

			b, err = (&messages.StreamRead{Stream: "account-1"}).AppendTo(nil)
			require.NoError(t, err)
			var read messages.StreamRead
			require.NoError(t, read.Decode(b, names))
			scribble(b)
			require.Equal(t, "account-1", read.Stream)

			b, err = (&messages.EventRead{Stream: "account-1"}).AppendTo(nil)
			require.NoError(t, err)
			var one messages.EventRead
			require.NoError(t, one.Decode(b, names))
			scribble(b)
			require.Equal(t, "account-1", one.Stream)

			b, err = (&messages.PersistentNak{Subscription: "s::g", Message: "why"}).AppendTo(nil)
			require.NoError(t, err)
			var nak messages.PersistentNak
			require.NoError(t, nak.Decode(b, names))
			scribble(b)
			require.Equal(t, "s::g", nak.Subscription)
			require.Equal(t, "why", nak.Message)
		})
	}
}

// Whoever appends to what was decoded must not write into what lies behind it.
func TestDecodedBytesHaveNoRoom(t *testing.T) {
	record, request := sampleRecord(1, 16), sampleAppend(1, 16)
	b := record.AppendTo(nil)
	var e messages.EventRecord
	require.NoError(t, e.Decode(b, nil))
	_, _ = append(e.Data, "####"...), append(e.Metadata, "####"...)
	require.Equal(t, record.AppendTo(nil), b)

	b, err := request.AppendTo(nil)
	require.NoError(t, err)
	want := bytes.Clone(b)
	var m messages.Append
	require.NoError(t, m.Decode(b, nil))
	_, _ = append(m.Events[0].Data, "####"...), append(m.Events[0].Metadata, "####"...)
	require.Equal(t, want, b)

	wire, err := messages.AppendFrame(nil, messages.ID{1}, nil, request)
	require.NoError(t, err)
	wire, err = messages.AppendFrame(wire, messages.ID{2}, nil, request)
	require.NoError(t, err)
	r := messages.NewReader(bytes.NewReader(wire), len(wire))
	f, err := r.Next()
	require.NoError(t, err)
	_ = append(f.Body, "####"...)
	f, err = r.Next()
	require.NoError(t, err)
	require.Equal(t, messages.ID{2}, f.ID)
	require.Equal(t, want, f.Body)
}

// A request is decoded into the events of the one before; nothing of those may shine through.
func TestAppendIsUsedAgain(t *testing.T) {
	long, err := sampleAppend(3, 16).AppendTo(nil)
	require.NoError(t, err)
	var m messages.Append
	require.NoError(t, m.Decode(long, nil))
	require.Len(t, m.Events, 3)
	require.NoError(t, m.Decode(unhex(t, "0a0161 1a00 1a020a00"), nil))
	require.Equal(t, messages.Append{Stream: "a", Events: []messages.NewEvent{{}, {}}}, m)
	require.NoError(t, m.Decode(nil, nil))
	require.Empty(t, m.Events)
}

// The record of a page is used again, but not while an outer Each has it.
func TestEachInsideOfEach(t *testing.T) {
	var p messages.StreamPage
	require.NoError(t, p.Decode(samplePage(3, 16)))
	var seen [][2]int64
	for range 2 { // the second time with a record left from the first
		seen = nil
		require.NoError(t, p.Each(nil, func(outer *messages.ResolvedEvent) bool {
			require.NoError(t, p.Each(nil, func(inner *messages.ResolvedEvent) bool {
				seen = append(seen, [2]int64{outer.Event.Number, inner.Event.Number})
				return true
			}))
			return true
		}))
	}
	require.Equal(t, [][2]int64{{0, 0}, {0, 1}, {0, 2}, {1, 0}, {1, 1}, {1, 2}, {2, 0}, {2, 1}, {2, 2}}, seen)
}
