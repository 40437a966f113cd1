package messages

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// fields walks the fields of an encoded message without copying. As generated code does, it passes over unknown fields
// and over known ones of the wrong wire type, and takes the last of a repeated single field.
type fields struct {
	rest []byte
	num  protowire.Number
	typ  protowire.Type
	u    uint64 // the value of a varint field
	b    []byte // the value of a bytes field, aliasing the message
	err  error
}

// protowire itself takes larger field numbers than a message may have.
var errFieldNumber = errors.New("invalid field number")

// next advances to the next field of varint or bytes type, false at the end or at an error.
func (f *fields) next() bool {
	for f.err == nil && len(f.rest) > 0 {
		num, typ, n := protowire.ConsumeTag(f.rest)
		if n < 0 {
			f.err = protowire.ParseError(n)
			return false
		}
		if num > protowire.MaxValidNumber {
			f.err = errFieldNumber
			return false
		}
		f.rest = f.rest[n:]
		f.num, f.typ = num, typ
		switch typ {
		case protowire.VarintType:
			f.u, n = protowire.ConsumeVarint(f.rest)
		case protowire.BytesType:
			f.b, n = protowire.ConsumeBytes(f.rest)
		default:
			n = protowire.ConsumeFieldValue(num, typ, f.rest)
		}
		if n < 0 {
			f.err = protowire.ParseError(n)
			return false
		}
		f.rest = f.rest[n:]
		if typ == protowire.VarintType || typ == protowire.BytesType {
			return true
		}
	}
	return false
}

// is reports whether the field at hand is number num of type typ.
func (f *fields) is(num protowire.Number, typ protowire.Type) bool {
	return f.num == num && f.typ == typ
}

func (f *fields) fail(message string) error {
	if f.err == nil {
		return nil
	}
	return fmt.Errorf("%w: %s: %w", ErrMalformed, message, f.err)
}

const (
	varint = protowire.VarintType
	text   = protowire.BytesType
)

// tag is a field's first byte; all numbers of the hot messages are below 16.
func tag(num protowire.Number, typ protowire.Type) byte { return byte(num)<<3 | byte(typ) }

func appendInt(b []byte, num protowire.Number, v int64) []byte {
	return protowire.AppendVarint(append(b, tag(num, varint)), uint64(v))
}

func appendBool(b []byte, num protowire.Number, v bool) []byte {
	return append(b, tag(num, varint), byte(protowire.EncodeBool(v)))
}

func appendString(b []byte, num protowire.Number, s string) []byte {
	b = protowire.AppendVarint(append(b, tag(num, text)), uint64(len(s)))
	return append(b, s...)
}

func appendBytes(b []byte, num protowire.Number, s []byte) []byte {
	b = protowire.AppendVarint(append(b, tag(num, text)), uint64(len(s)))
	return append(b, s...)
}

// appendHead starts an embedded message of size bytes.
func appendHead(b []byte, num protowire.Number, size int) []byte {
	return protowire.AppendVarint(append(b, tag(num, text)), uint64(size))
}

func sizeInt(v int64) int { return 1 + protowire.SizeVarint(uint64(v)) }

func sizeText(n int) int { return 1 + protowire.SizeBytes(n) }
