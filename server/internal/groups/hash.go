package groups

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf16"
)

// What a real server hashes with: a variant of xxHash.
const (
	start  uint32 = 0x63c6942c // the seed 0xc58f1a7b and the first prime
	prime1 uint32 = 2654435761
	prime2 uint32 = 2246822519
	prime3 uint32 = 3266489917
	prime4 uint32 = 668265263
	prime5 uint32 = 374761393
)

// hash is a real server's hash of a stream's name, which it has in UTF-16.
func hash(name string) uint32 {
	var room [256]byte
	b := room[:0]
	for _, r := range name {
		if r1, r2 := utf16.EncodeRune(r); r > 0xFFFF {
			b = binary.LittleEndian.AppendUint16(b, uint16(r1))
			b = binary.LittleEndian.AppendUint16(b, uint16(r2))
		} else {
			b = binary.LittleEndian.AppendUint16(b, uint16(r))
		}
	}
	size := uint32(len(b))
	if size < 16 {
		return hashShort(b, size)
	}
	var lanes [4]uint32
	lanes[0] = start
	lanes[1] = lanes[0]*prime2 + size
	lanes[2] = lanes[1] * prime3
	lanes[3] = lanes[2] * prime4
	word := func(b []byte, lane int) uint32 { return binary.LittleEndian.Uint32(b[4*lane:]) }
	for rest := b; len(rest) > 16; rest = rest[16:] {
		for i, turn := range [4]int{13, 11, 17, 19} {
			lanes[i] = (lanes[i]+bits.RotateLeft32(lanes[i], turn))*prime1 + word(rest, i)
		}
	}
	last := b[len(b)-16:]
	for i, turn := range [4]int{17, 19, 13, 11} {
		lanes[i] = ((lanes[i]+bits.RotateLeft32(lanes[i], turn))*prime1 + word(last, i)) * prime2
	}
	for i, turn := range [4]int{11, 17, 19, 13} {
		lanes[i] = (lanes[i] + bits.RotateLeft32(lanes[i], turn)) * prime3
	}
	h := lanes[0] + bits.RotateLeft32(lanes[1], 3) + bits.RotateLeft32(lanes[2], 6) + bits.RotateLeft32(lanes[3], 9)
	h ^= h >> 11
	h += (prime4 + size) * prime1
	h ^= h >> 15
	h *= prime2
	return h ^ h>>13
}

func hashShort(b []byte, size uint32) uint32 {
	h, index := prime5, start
	for ; len(b) > 4; b = b[4:] {
		h += binary.LittleEndian.Uint32(b) + index
		index++
		h += bits.RotateLeft32(h, 17) * prime4
		h *= prime1
	}
	for _, c := range b {
		h += uint32(c) + index
		index++
		h *= prime1
	}
	h += size
	h ^= h >> 15
	h *= prime2
	h ^= h >> 13
	h *= prime3
	return h ^ h>>16
}
