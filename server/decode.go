package server

import (
	"math"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore/messages"
)

// What a real server's decoder refuses goes beyond what package messages does (3.9): a known field of another wire
// type, a boolean that is neither 0 nor 1, an int32 that does not fit. A shape is what it wants of a message.
type shape struct {
	fields [17]kind // by number
	nested *shape   // of the fields of kind message
}

// kind is the type of a field.
type kind uint8

const (
	unknown kind = iota // passed over
	text                // string or bytes
	int64s
	int32s
	boolean
	message
)

var (
	newEventShape = shape{fields: [17]kind{1: text, 2: text, 3: int32s, 4: int32s, 5: text, 6: text}}
	writeShape    = shape{fields: [17]kind{1: text, 2: int64s, 3: message, 4: boolean}, nested: &newEventShape}
	deleteShape   = shape{fields: [17]kind{1: text, 2: int64s, 3: boolean, 4: boolean}}

	transactionStartShape  = shape{fields: [17]kind{1: text, 2: int64s, 3: boolean}}
	transactionWriteShape  = shape{fields: [17]kind{1: int64s, 2: message, 3: boolean}, nested: &newEventShape}
	transactionCommitShape = shape{fields: [17]kind{1: int64s, 2: boolean}}

	readEventShape   = shape{fields: [17]kind{1: text, 2: int64s, 3: boolean, 4: boolean}}
	readStreamShape  = shape{fields: [17]kind{1: text, 2: int64s, 3: int32s, 4: boolean, 5: boolean}}
	readAllShape     = shape{fields: [17]kind{1: int64s, 2: int64s, 3: int32s, 4: boolean, 5: boolean}}
	subscribeShape   = shape{fields: [17]kind{1: text, 2: boolean}}
	unsubscribeShape = shape{}
	identifyShape    = shape{fields: [17]kind{1: int32s, 2: text}}
)

// fits reports whether b is a message of this shape.
func (s *shape) fits(b []byte) bool {
	for len(b) > 0 {
		number, typ, n := consumeTag(b)
		if n < 0 {
			return false
		}
		b = b[n:]
		want := unknown
		if int(number) < len(s.fields) {
			want = s.fields[number]
		}
		if n = s.field(want, number, typ, b); n < 0 {
			return false
		}
		b = b[n:]
	}
	return true
}

// consumeTag is protowire's, with a short way for a tag of one byte.
func consumeTag(b []byte) (protowire.Number, protowire.Type, int) {
	if t := b[0]; t >= 1<<3 && t < 0x80 {
		return protowire.Number(t >> 3), protowire.Type(t & 7), 1
	}
	return protowire.ConsumeTag(b)
}

// consumeVarint is protowire's, with a short way for one byte.
func consumeVarint(b []byte) (uint64, int) {
	if len(b) > 0 && b[0] < 0x80 {
		return uint64(b[0]), 1
	}
	return protowire.ConsumeVarint(b)
}

// field returns the length of the field's value, or something negative when it is not what is wanted.
func (s *shape) field(want kind, number protowire.Number, typ protowire.Type, b []byte) int {
	const refused = -1
	if want == unknown {
		return protowire.ConsumeFieldValue(number, typ, b)
	}
	if bytes := want == text || want == message; bytes != (typ == protowire.BytesType) || !bytes && typ != protowire.VarintType {
		return refused
	}
	value, n := consumeVarint(b)
	switch {
	case n < 0:
	case want != text && want != message:
		if !want.holds(value) {
			return refused
		}
	case value > uint64(len(b)-n):
		return refused
	default:
		body := b[n : n+int(value)]
		if want == message && !s.nested.fits(body) {
			return refused
		}
		n += len(body)
	}
	return n
}

// holds reports whether a varint is a value of the kind.
func (k kind) holds(value uint64) bool {
	switch k {
	case boolean:
		return value <= 1
	case int32s: // negative ones travel with 5 or with 10 bytes
		return value <= math.MaxUint32 || value >= 1<<64-1<<31
	default:
		return true
	}
}

// message reads a generated message of the shape, and reports whether it could.
func (s *shape) message(f *messages.Frame, m proto.Message) bool {
	return s.fits(f.Body) && messages.Reply{Command: f.Command, Body: f.Body}.Unmarshal(m) == nil
}

// readable is a name as a real server reads one that is not UTF-8: each wrong byte is replaced.
func readable(name string) string {
	if utf8.ValidString(name) {
		return name
	}
	return string([]rune(name))
}

// characters counts as .NET does, in UTF-16.
func characters(s string) int {
	n := 0
	for _, r := range s {
		n++
		if r > 0xFFFF {
			n++
		}
	}
	return n
}
