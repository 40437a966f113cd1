package messages

import (
	"encoding/binary"
	"fmt"

	"github.com/google/uuid"
)

// Event ids travel in the layout of a .NET GUID: the first group (4 bytes), the second and the third (2 each) in
// little-endian order, the last 8 bytes as they are written. The functions of this file are the only place that knows.
// Without the conversion a client agrees with itself, but not with HTTP, projections, logs and other languages.

// AppendGUID appends the 16 bytes of id as they travel.
func AppendGUID(b []byte, id uuid.UUID) []byte {
	return append(b, id[3], id[2], id[1], id[0], id[5], id[4], id[7], id[6],
		id[8], id[9], id[10], id[11], id[12], id[13], id[14], id[15])
}

// ParseGUID reads an id as it travels. Anything but 16 bytes is an error, but for none at all: that is the zero id.
func ParseGUID(b []byte) (uuid.UUID, error) {
	if len(b) == 0 {
		return uuid.UUID{}, nil
	}
	if len(b) != 16 {
		return uuid.UUID{}, fmt.Errorf("%w: an event id of %d bytes, not 16", ErrMalformed, len(b))
	}
	return parseGUID(b), nil
}

// parseGUID is ParseGUID of 16 bytes, by whole groups: it is done for every event.
func parseGUID(b []byte) (id uuid.UUID) {
	_ = b[15]
	binary.BigEndian.PutUint32(id[0:], binary.LittleEndian.Uint32(b[0:]))
	binary.BigEndian.PutUint16(id[4:], binary.LittleEndian.Uint16(b[4:]))
	binary.BigEndian.PutUint16(id[6:], binary.LittleEndian.Uint16(b[6:]))
	copy(id[8:], b[8:16])
	return id
}
