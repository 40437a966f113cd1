package faultnet

import (
	"cmp"
	"slices"
	"sync"
)

// Recording is where the frames of a run were.
type Recording []Stream

// Stream is one direction of a recorded connection.
type Stream struct {
	Conn       int
	Dir        Direction
	Boundaries []int64 // offsets of the frames and of the end of the last one, which are one more than the frames
}

// Frames returns how many frames passed whole.
func (s Stream) Frames() int { return len(s.Boundaries) - 1 }

// Places returns, for every frame of every connection in both directions, the boundary before it and three places inside
// it: within the prefix, within the header, and in the middle of the body or before the last byte where there is no
// body to speak of. Tiny frames have fewer.
func (r Recording) Places() []Place {
	var places []Place
	for _, s := range r {
		for i := range s.Frames() {
			size := s.Boundaries[i+1] - s.Boundaries[i]
			inside := []int64{0, prefixSize / 2, prefixSize + headerSize/2, prefixSize + headerSize + (size-prefixSize-headerSize)/2}
			if size < prefixSize+headerSize+2 {
				inside = []int64{0, prefixSize / 2, prefixSize + (size-prefixSize-1)/2, size - 1}
			}
			for _, b := range slices.Compact(inside) {
				places = append(places, Place{Conn: s.Conn, Dir: s.Dir, Frame: i + 1, Byte: b})
			}
		}
	}
	return places
}

// recorder keeps the boundaries of all connections of a network.
type recorder struct {
	mu      sync.Mutex
	streams []*Stream
}

// stream returns nil, which records nothing, for a nil recorder.
func (r *recorder) stream(conn int, dir Direction) *recorded {
	if r == nil {
		return nil
	}
	s := &Stream{Conn: conn, Dir: dir, Boundaries: []int64{0}}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.streams = append(r.streams, s)
	return &recorded{r, s}
}

type recorded struct {
	recorder *recorder
	stream   *Stream
}

// end notes the end of a frame.
func (r *recorded) end(offset int64) {
	if r == nil {
		return
	}
	r.recorder.mu.Lock()
	defer r.recorder.mu.Unlock()
	r.stream.Boundaries = append(r.stream.Boundaries, offset)
}

func (r *recorder) recording() Recording {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := make(Recording, len(r.streams))
	for i, s := range r.streams {
		rec[i] = *s
		rec[i].Boundaries = slices.Clone(s.Boundaries)
	}
	slices.SortFunc(rec, func(a, b Stream) int {
		return cmp.Or(cmp.Compare(a.Conn, b.Conn), cmp.Compare(a.Dir, b.Dir))
	})
	return rec
}
