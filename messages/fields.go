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
		if !f.tag() {
			return false
		}
		var n int
		switch f.typ {
		case protowire.VarintType:
			f.u, n = shortVarint(f.rest)
		case protowire.BytesType:
			var size uint64
			if size, n = shortVarint(f.rest); n > 0 {
				if size > uint64(len(f.rest)-n) {
					f.err = io.ErrUnexpectedEOF
					return false
				}
				f.b = f.rest[n : n+int(size)]
				n += int(size)
			}
		default:
			n = protowire.ConsumeFieldValue(f.num, f.typ, f.rest)
		}
		if n < 0 {
			f.err = protowire.ParseError(n)
			return false
		}
		f.rest = f.rest[n:]
		if f.typ == protowire.VarintType || f.typ == protowire.BytesType {
			return true
		}
	}
	return false
}

// tag takes a field's number and type.
func (f *fields) tag() bool {
	if b := f.rest[0]; b >= 1<<3 && b < 0x80 { // nearly all of them
		f.num, f.typ = protowire.Number(b>>3), protowire.Type(b&7)
		f.rest = f.rest[1:]
		return true
	}
	num, typ, n := protowire.ConsumeTag(f.rest)
	switch {
	case n < 0:
		f.err = protowire.ParseError(n)
		return false
	case num > protowire.MaxValidNumber:
		f.err = errFieldNumber
		return false
	}
	f.num, f.typ = num, typ
	f.rest = f.rest[n:]
	return true
}

// shortVarint is protowire.ConsumeVarint with the way of one byte made short enough to be inlined.
func shortVarint(b []byte) (uint64, int) {
	if len(b) > 0 && b[0] < 0x80 {
		return uint64(b[0]), 1
	}
	return protowire.ConsumeVarint(b)
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
