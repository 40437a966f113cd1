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
	numbers32 // event numbers of 32 bits: what needs the sign's bit is none, while another int32 has a negative one then
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
	f := fields{rest: b}
	for f.next(s) {
		if s.fields[f.number] == message && !s.nested.fits(f.bytes) {
			return false
		}
	}
	return !f.bad
}

// fields walks the known fields of a message, and stops at what is not of its shape.
type fields struct {
	rest   []byte
	bad    bool // it is no message of the shape
	number int
	value  uint64 // of a number or a boolean
	bytes  []byte // of all else, aliasing the message
}

// next goes to the next known field and reports whether there is one.
func (f *fields) next(s *shape) bool {
	for len(f.rest) > 0 {
		number, typ, n := consumeTag(f.rest)
		if n < 0 || number > protowire.MaxValidNumber {
			f.bad = true
			return false
		}
		f.rest = f.rest[n:]
		if int(number) < len(s.fields) && s.fields[number] != unknown {
			f.number = int(number)
			f.bad = !f.take(s.fields[number], typ)
			return !f.bad
		}
		if n = protowire.ConsumeFieldValue(number, typ, f.rest); n < 0 {
			f.bad = true
			return false
		}
		f.rest = f.rest[n:]
	}
	return false
}

// take takes the value of a field, and reports whether it is of the kind that is wanted.
func (f *fields) take(want kind, typ protowire.Type) bool {
	bytes := want == text || want == message
	if bytes != (typ == protowire.BytesType) || !bytes && typ != protowire.VarintType {
		return false
	}
	value, n := consumeVarint(f.rest)
	if n < 0 {
		return false
	}
	f.rest = f.rest[n:]
	if !bytes {
		f.value = value
		return want.holds(value)
	}
	if value > uint64(len(f.rest)) {
		return false
	}
	f.bytes = f.rest[:value:value]
	f.rest = f.rest[value:]
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

// holds reports whether a varint is a value of the kind.
func (k kind) holds(value uint64) bool {
	switch k {
	case boolean:
		return value <= 1
	case int32s: // negative ones travel with 5 or with 10 bytes
		return value <= math.MaxUint32 || value >= 1<<64-1<<31
	case numbers32:
		return value <= math.MaxInt32 || value >= 1<<64-1<<31
	default:
		return true
	}
}

// decodeWrite reads a WriteEvents request into m, whose Events it uses again, and reports whether it is one: what
// writeShape.fits and m.Decode say, in one pass.
func decodeWrite(b []byte, m *messages.Append, names *messages.Names) bool {
	*m = messages.Append{Events: m.Events[:0]}
	f := fields{rest: b}
	for f.next(&writeShape) {
		switch f.number {
		case 1:
			m.Stream = names.String(f.bytes)
		case 2:
			m.Expected = int64(f.value)
		case 3:
			m.Events = append(m.Events, messages.NewEvent{})
			if !decodeNewEvent(f.bytes, &m.Events[len(m.Events)-1], names) {
				return false
			}
		case 4:
			m.RequireLeader = f.value != 0
		}
	}
	return !f.bad
}

func decodeNewEvent(b []byte, e *messages.NewEvent, names *messages.Names) bool {
	f := fields{rest: b}
	for f.next(&newEventShape) {
		switch f.number {
		case 1:
			id, err := messages.ParseGUID(f.bytes)
			if err != nil {
				return false
			}
			e.ID = id
		case 2:
			e.Type = names.String(f.bytes)
		case 3:
			e.ContentType = int32(f.value)
		case 4:
			e.MetadataType = int32(f.value)
		case 5:
			e.Data = f.bytes
		case 6:
			e.Metadata = f.bytes
		}
	}
	return !f.bad
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
