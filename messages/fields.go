package messages

import (
	"errors"
	"fmt"
	"io"

	"google.golang.org/protobuf/encoding/protowire"
)

// fields walks the fields of an encoded message without copying. As generated code does, it passes over unknown fields
// and over known ones of the wrong wire type, and takes the last of a repeated single field.
type fields struct {
	rest []byte
	key  uint64 // number and type of the field at hand, as they travel: num<<3 | varint, or num<<3 | text
	u    uint64 // the value of a varint field
	b    []byte // the value of a bytes field, aliasing the message
	err  error
}

// protowire itself takes larger field numbers than a message may have.
var errFieldNumber = errors.New("invalid field number")

// next advances to the next field of varint or bytes type, false at the end or at an error.
func (f *fields) next() bool {
	for f.err == nil && len(f.rest) > 0 {
		if b := f.rest; len(b) > 1 && b[0] >= 1<<3 && b[0] < 0x80 { // nearly all of them
			v, n := uint64(b[1]), 1
			if v >= 0x80 {
				v, n = protowire.ConsumeVarint(b[1:])
			}
			f.key = uint64(b[0])
			switch rest := b[1+max(n, 0):]; {
			case n < 0: // long says what is wrong
			case b[0]&7 == varint:
				f.u, f.rest = v, rest
				return true
			case b[0]&7 == text && v <= uint64(len(rest)):
				f.b, f.rest = rest[:v], rest[v:]
				return true
			}
		}
		if f.long() {
			return true
		}
	}
	return false
}

// long takes a field of any form; false for one that is passed over, and for an error.
func (f *fields) long() bool {
	num, typ, n := protowire.ConsumeTag(f.rest)
	switch {
	case n < 0:
		f.err = protowire.ParseError(n)
		return false
	case num > protowire.MaxValidNumber:
		f.err = errFieldNumber
		return false
	}
	b := f.rest[n:]
	switch typ {
	case protowire.VarintType:
		f.u, n = protowire.ConsumeVarint(b)
	case protowire.BytesType:
		var size uint64
		if size, n = protowire.ConsumeVarint(b); n > 0 {
			if size > uint64(len(b)-n) {
				f.err = io.ErrUnexpectedEOF
				return false
			}
			f.b = b[n : n+int(size)]
			n += int(size)
		}
	default:
		n = protowire.ConsumeFieldValue(num, typ, b)
	}
	if n < 0 {
		f.err = protowire.ParseError(n)
		return false
	}
	f.key = uint64(num)<<3 | uint64(typ)
	f.rest = b[n:]
	return typ == protowire.VarintType || typ == protowire.BytesType
}

// is reports whether the field at hand is number num of type typ.
func (f *fields) is(num protowire.Number, typ protowire.Type) bool {
	return f.key == uint64(num)<<3|uint64(typ)
}

// startsWith reports whether the first field of b has this key, in one byte.
func startsWith(b []byte, key byte) bool { return len(b) > 0 && b[0] == key }

// value reads the number behind a key of one byte: the value of a varint field, or the length of a bytes field. Of a number
// that is malformed or ends too early it leaves a rest that starts with no field.
func value(b []byte) (v uint64, rest []byte) {
	if len(b) > 1 && b[1] < 0x80 {
		return uint64(b[1]), b[2:]
	}
	if len(b) > 2 && b[2] < 0x80 {
		return uint64(b[1]&0x7f) | uint64(b[2])<<7, b[3:]
	}
	v, n := protowire.ConsumeVarint(b[1:])
	if n < 0 {
		return 0, noField
	}
	return v, b[1+n:]
}

// cut cuts the field in front of b, if it has this key of one byte and is of bytes type.
func cut(b []byte, key byte) (field, rest []byte, ok bool) {
	if len(b) < 2 || b[0] != key {
		return nil, nil, false
	}
	size, rest := uint64(b[1]), b[2:]
	if size >= 0x80 {
		size, rest = value(b)
	}
	if size > uint64(len(rest)) {
		return nil, nil, false
	}
	return rest[:size], rest[size:], true
}

// skipAll counts the fields in front of b with this key.
func skipAll(b []byte, key byte) (n int, rest []byte) {
	for {
		_, behind, ok := cut(b, key)
		if !ok {
			return n, b
		}
		n, b = n+1, behind
	}
}

// noField is the key of field 0, which there is not.
var noField = []byte{0}

func (f *fields) fail(message string) error {
	if f.err == nil {
		return nil
	}
	return fmt.Errorf("%w: %s: %w", ErrMalformed, message, f.err)
}

// The wire types of the fields of the hot messages.
const (
	varint = 0
	text   = 2
)

// tag is a field's first byte; all numbers of the hot messages are below 16.
func tag(num protowire.Number, typ protowire.Type) byte { return byte(num)<<3 | byte(typ) }

func appendInt(b []byte, num protowire.Number, v int64) []byte {
	if uint64(v) < 0x80 { // nearly all of them
		return append(b, tag(num, varint), byte(v))
	}
	return protowire.AppendVarint(append(b, tag(num, varint)), uint64(v))
}

func appendBool(b []byte, num protowire.Number, v bool) []byte {
	return append(b, tag(num, varint), byte(protowire.EncodeBool(v)))
}

func appendString(b []byte, num protowire.Number, s string) []byte {
	return append(appendHead(b, num, len(s)), s...)
}

func appendBytes(b []byte, num protowire.Number, s []byte) []byte {
	return append(appendHead(b, num, len(s)), s...)
}

// appendHead starts an embedded message of size bytes.
func appendHead(b []byte, num protowire.Number, size int) []byte {
	if size < 0x80 {
		return append(b, tag(num, text), byte(size))
	}
	return protowire.AppendVarint(append(b, tag(num, text)), uint64(size))
}

func sizeInt(v int64) int { return 1 + protowire.SizeVarint(uint64(v)) }

func sizeText(n int) int { return 1 + protowire.SizeBytes(n) }
