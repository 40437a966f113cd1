package messages_test

import (
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// oddities are legal and illegal bytes that no peer of ours writes, and where two decoders may well disagree. They are
// seeds of every target.
var oddities = []struct {
	name, wire string
	bad        bool
}{
	{"nothing", "", false},
	{"the largest field number", "f8ffffff0f 01", false},
	{"a field number over the limit", "8080808010 01", true},
	{"the largest field number that fits 31 bits", "f8ffffff3f 01", true},
	{"a field number over 32 bits", "8080808080 01 01", true},
	{"field number 0", "00 01", true},
	{"field number 0 with bytes", "02 00", true},
	{"a tag in more bytes than needed", "9080808000 07", false},
	{"a tag of ten bytes", "90808080808080808000 07", false},
	{"a tag that overflows 64 bits", "90808080808080808002 07", true},
	{"a value in more bytes than needed", "10 8780808000", false},
	{"a value of 64 bits", "10 ffffffffffffffffff01", false},
	{"a value that overflows 64 bits", "10 ffffffffffffffffff02", true},
	{"a value of eleven bytes", "10 8080808080808080808001", true},
	{"a value cut short", "10 80", true},
	{"a tag cut short", "10 01 90", true},
	{"a tag alone", "10", true},
	{"numbers over 32 bits", "08 8180808010 10 8280808010 18 8380808010 20 8480808010 28 8580808010 30 8680808010 38 8780808010", false},
	{"numbers with bit 31", "08 80808080f8ffffffff01 18 8080808008 28 ffffffff0f 30 ffffffff0f", false},
	{"booleans over 1", "18 02 20 80808080808080808001 28 ff7f", false},
	{"text where a number belongs", "12 0101 0a 00 1a 00 22 00 2a 00", false},
	{"numbers where text belongs", "08 05 18 05 22 00 38 01 40 02", false},
	{"32 and 64 bits of fixed width", "0d 01020304 11 0102030405060708 1d 01020304 21 0102030405060708", false},
	{"fixed width cut short", "0d 010203", true},
	{"wire type 6", "0e", true},
	{"wire type 7", "17 00", true},
	{"a group under a known number", "0b 08 01 0c", false},
	{"groups in a group", "0b 13 08 01 14 1a 02 6162 0c", false},
	{"a group that ends as another", "0b 14", true},
	{"a group without an end", "0b 08 01", true},
	{"an end without a group", "0c", true},
	{"a group over the limit of field numbers", "8380808010 8480808010", true},
	{"a length beyond the end", "0a 05 6162", true},
	{"a length over 63 bits", "0a ffffffffffffffffff01 61", true},
	{"a length in more bytes than needed", "0a 828000 0a00", false},
	{"bytes that are no UTF-8", "3a 02 fffe 12 01 80", false},
	{"the second position alone", "20 07 30 08", false},
	{"single fields twice", "10 05 10 06 18 01 18 00", false},
	{"embedded messages twice", "0a 02 1001 0a 02 2801 12 02 1001 12 04 10022801", false},
	{"an embedded message that ends in a tag", "0a 01 10", false}, // bad for those that embed one
}

// seed gives the oddities to a target.
func seed(f *testing.F) {
	f.Helper()
	for _, o := range oddities {
		f.Add(unhex(f, o.wire))
	}
	for _, b := range disordered() {
		f.Add(b)
	}
}

// disordered are a record and an event with a link and a position as servers write them, and what a field less, a field
// twice, two fields in each other's place, an end too early and a field more make of them.
func disordered() (all [][]byte) {
	e := sampleRecord(300, 200) // numbers of one, two and many bytes
	record := e.AppendTo(nil)
	for _, b := range [][]byte{
		record,
		messages.AppendIndexed(nil, 1, record, nil),
		messages.AppendResolved(nil, 1, record, record, 139466877, 1)[3:], // without what embeds it
	} {
		fields := split(b)
		all = append(all, b, append(b[:len(b):len(b)], 11<<3, 1), append(b[:len(b):len(b)], 0))
		for i := range fields {
			without := slices.Delete(slices.Clone(fields), i, i+1)
			last := i == len(fields)-1
			all = append(all, slices.Concat(without...), slices.Concat(slices.Insert(without, i, fields[i], fields[i])...))
			if !last {
				fields[i], fields[i+1] = fields[i+1], fields[i]
				all = append(all, slices.Concat(fields...))
				fields[i], fields[i+1] = fields[i+1], fields[i]
			}
			before := slices.Concat(fields[:i]...)
			all = append(all, slices.Concat(before, fields[i][:1]), slices.Concat(before, fields[i][:len(fields[i])-1]))
		}
	}
	return all
}

// split cuts a message into its fields.
func split(b []byte) (fields [][]byte) {
	for len(b) > 0 {
		_, _, n := protowire.ConsumeField(b)
		fields, b = append(fields, b[:n]), b[n:]
	}
	return fields
}

// Records in the order in which servers write them are read on a way of their own: it must lead where the other does.
func TestOrderOfFields(t *testing.T) {
	names := new(messages.Names)
	good := 0
	for _, b := range disordered() {
		var record pb.EventRecord
		_, ok := same(t, b, names, &record, func(b []byte, n *messages.Names) (e messages.EventRecord, err error) {
			err = e.Decode(b, n)
			return e, err
		}, func() messages.EventRecord { return fromRecord(&record) })
		var event pb.ResolvedEvent
		_, also := same(t, b, names, &event, func(b []byte, n *messages.Names) (e messages.ResolvedEvent, err error) {
			err = e.Decode(b, n)
			return e, err
		}, func() messages.ResolvedEvent { return fromResolved(&event) })
		if ok || also {
			good++
		}
	}
	require.Greater(t, good, 40, "of %d", len(disordered()))
}

// Field by field, the oddities mean what they mean in protobuf: here for the record, in the targets for all.
func TestOddBytes(t *testing.T) {
	for _, o := range oddities {
		t.Run(o.name, func(t *testing.T) {
			var slow pb.EventRecord
			_, ok := same(t, unhex(t, o.wire), nil, &slow, func(b []byte, n *messages.Names) (e messages.EventRecord, err error) {
				err = e.Decode(b, n)
				return e, err
			}, func() messages.EventRecord { return fromRecord(&slow) })
			require.Equal(t, o.bad, !ok)
		})
	}
}

// An event id has 16 bytes or none. Protobuf knows nothing of that.
func TestEventIDLengths(t *testing.T) {
	tests := []struct {
		name, wire string
		id         string // of the last one, none when malformed
	}{
		{"none", "", uuid.Nil.String()},
		{"empty", "1a 00", uuid.Nil.String()},
		{"16 bytes", "1a 10 00112233445566778899aabbccddeeff", "33221100-5544-7766-8899-aabbccddeeff"},
		{"an empty one behind it", "1a 10 00112233445566778899aabbccddeeff 1a 00", uuid.Nil.String()},
		{"15 bytes", "1a 0f 00112233445566778899aabbccddee", ""},
		{"17 bytes", "1a 11 00112233445566778899aabbccddeeff00", ""},
		{"a short one before a good one", "1a 01 00 1a 10 00112233445566778899aabbccddeeff", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			require.NoError(t, proto.Unmarshal(unhex(t, tt.wire), new(pb.EventRecord)))
			var e messages.EventRecord
			err := e.Decode(unhex(t, tt.wire), nil)
			if tt.id == "" {
				require.ErrorIs(t, err, messages.ErrMalformed)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tt.id, e.ID.String())
		})
	}
}

// A page's events are looked at by Each alone, which gives those before the bad one.
func TestPageWithABadEvent(t *testing.T) {
	b := unhex(t, "0a 04 0a02 1001 0a 03 0a01 10 0a 04 0a02 1003 20 07")
	var p messages.StreamPage
	require.NoError(t, p.Decode(b))
	require.Equal(t, 3, p.Count)
	require.Equal(t, int64(7), p.Last)
	var numbers []int64
	err := p.Each(nil, func(e *messages.ResolvedEvent) bool {
		numbers = append(numbers, e.Event.Number)
		return true
	})
	require.ErrorIs(t, err, messages.ErrMalformed)
	require.Equal(t, []int64{1}, numbers)

	numbers = nil
	require.NoError(t, p.Each(nil, func(e *messages.ResolvedEvent) bool {
		numbers = append(numbers, e.Event.Number)
		return false
	}), "stopped before it came to the bad one")
	require.Equal(t, []int64{1}, numbers)
}

// Each decodes into one record: what an event has not must not be what the one before had.
func TestEachForgetsTheEventBefore(t *testing.T) {
	first := messages.EventRecord{Stream: "s", Number: 1, ID: uuid.New(), Type: "t", Data: []byte("d"), Metadata: []byte("m"), Created: 5}
	b := messages.AppendIndexed(nil, 1, first.AppendTo(nil), first.AppendTo(nil))
	b = messages.AppendIndexed(b, 1, nil, nil)
	b = messages.AppendIndexed(b, 1, []byte{}, nil)
	p, err := decodePage(b, nil)
	require.NoError(t, err)
	require.Equal(t, []messages.ResolvedEvent{{HasEvent: true, HasLink: true, Event: first, Link: first}, {}, {HasEvent: true}}, p.Events)
}
