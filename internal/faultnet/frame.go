package faultnet

import (
	"encoding/binary"
	"math"
)

const (
	prefixSize = 4
	headerSize = 18 // command, flags, correlation id; only Places cares
	maxFrame   = 64 << 20
)

// finder follows the frames of one direction. It is a value: a copy looks ahead without moving the original.
type finder struct {
	offset int64 // bytes so far
	frame  int   // the one that the next byte belongs to, counted from 1
	start  int64 // its offset
	size   int64 // with its prefix; 0 until that is complete
	prefix [prefixSize]byte
	lost   bool // a prefix was no length: nothing is known about frames any more
}

func newFinder() finder { return finder{frame: 1} }

// pos returns how many bytes of the current frame have passed.
func (f *finder) pos() int64 { return f.offset - f.start }

func (f *finder) atBoundary() bool { return !f.lost && f.offset == f.start }

// step takes bytes from b, at most limit of them and not past the end of a prefix or of a frame, and returns how many.
func (f *finder) step(b []byte, limit int64) int {
	n := min(int64(len(b)), limit)
	pos := f.pos()
	switch {
	case f.lost:
	case f.size == 0:
		n = int64(copy(f.prefix[pos:], b[:n]))
		if pos+n == prefixSize {
			length := int32(binary.LittleEndian.Uint32(f.prefix[:]))
			f.lost = length < 1 || length > maxFrame
			f.size = prefixSize + int64(length)
		}
	default:
		n = min(n, f.size-pos)
	}
	f.offset += n
	if !f.lost && f.size > 0 && f.pos() == f.size {
		f.frame, f.start, f.size = f.frame+1, f.offset, 0
	}
	return int(n)
}

const unreachable = math.MaxInt64

// distance returns how many bytes still pass before the place; 0 means here. It is unreachable also for a place that is
// not known yet: it is in a later frame, or behind a prefix that is not complete, where step stops anyway.
func (f *finder) distance(p Place) int64 {
	at := p.Byte - f.offset
	if p.Frame > 0 {
		if f.lost || f.frame != p.Frame {
			return unreachable
		}
		inside := p.Byte
		switch {
		case f.size > 0:
			inside = min(inside, f.size-1)
		case inside >= prefixSize:
			return unreachable
		}
		at = inside - f.pos()
	}
	if at < 0 {
		return unreachable
	}
	return at
}

// frameDistance is distance for what needs a whole frame: the frame of the place, or the first one that starts at its
// byte or later.
func (f *finder) frameDistance(p Place) int64 {
	if f.atBoundary() && (p.Frame == f.frame || p.Frame == 0 && f.offset >= p.Byte) {
		return 0
	}
	return unreachable
}
