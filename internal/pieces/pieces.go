// Package pieces keeps copies of small byte slices in large pieces of memory.
package pieces

// Size is how long a piece is, in the end: the first has the Least, and each is twice as long as the one before, so that who has
// little to copy holds little.
const (
	Size  = 64 << 10
	Least = 512
)

// Memory copies what is somebody else's, such as the body of a pushed event, to pieces that many copies share. The zero value is
// ready. It is for one goroutine at a time; the copies may be read, and are kept alive, by anybody: a piece is free when the last
// of its copies is.
type Memory struct{ piece []byte }

// Copy copies b. What is large gets memory of its own.
func (m *Memory) Copy(b []byte) []byte {
	if len(b) == 0 {
		if b == nil {
			return nil
		}
		return []byte{} // which keeps neither memory alive
	}
	if len(b) > Size/4 {
		return append([]byte(nil), b...)
	}
	if cap(m.piece)-len(m.piece) < len(b) {
		m.piece = make([]byte, 0, min(max(Least, 2*cap(m.piece), 4*len(b)), Size))
	}
	start := len(m.piece)
	m.piece = append(m.piece, b...)
	return m.piece[start:len(m.piece):len(m.piece)]
}
