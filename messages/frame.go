package messages

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// MaxFrame is the largest length that a frame may announce, in bytes behind the prefix: 64 MiB, enforced by the server
// and by every client (protocol: a larger one closes the connection).
const MaxFrame = 64 << 20

const (
	prefixSize = 4
	headerSize = 18 // command, flags, correlation id

	flagCredentials = 0x01
	flagTrusted     = 0x02
)

var (
	// ErrMalformed is the root of every error about bytes that are not what the protocol says.
	ErrMalformed = errors.New("malformed")
	// ErrFrameTooLarge says that a frame is, or would be, over MaxFrame.
	ErrFrameTooLarge = errors.New("frame too large")
)

// LengthError is the error of a frame that announces a length which no frame has.
type LengthError struct {
	Length int32  // as announced
	prefix []byte // the first bytes, and what they look like
	guess  string
}

// Error shows the first bytes and says what the peer seems to speak instead, if they tell.
func (e *LengthError) Error() string {
	return fmt.Sprintf("the prefix % x announces %d bytes, 1 to %d are legal%s", e.prefix, e.Length, MaxFrame, e.guess)
}

// Is makes it ErrFrameTooLarge for a large length, and ErrMalformed for one that is no length.
func (e *LengthError) Is(target error) bool {
	return target == ErrFrameTooLarge && e.Length > 0 || target == ErrMalformed && e.Length <= 0
}

// ID is a correlation id: 16 bytes that a reply repeats unchanged, in no particular order.
type ID [16]byte

// Frame is one package as it came. Its slices alias the bytes that it was parsed from.
type Frame struct {
	Command         Command
	ID              ID
	HasCredentials  bool // Login and Password came with it
	Trusted         bool // the flag of the internal port; refused on a client port
	Login, Password []byte
	Body            []byte
}

// ParseFrame reads a package: the bytes behind the length prefix.
func ParseFrame(b []byte) (Frame, error) {
	var f Frame
	if err := f.parse(b); err != nil {
		return Frame{}, err
	}
	return f, nil
}

func (f *Frame) parse(b []byte) error {
	if len(b) < headerSize {
		return fmt.Errorf("%w: a package of %d bytes, at least %d are needed", ErrMalformed, len(b), headerSize)
	}
	*f = Frame{
		Command:        Command(b[0]),
		ID:             ID(b[2:headerSize]),
		HasCredentials: b[1]&flagCredentials != 0,
		Trusted:        b[1]&flagTrusted != 0,
	}
	b = b[headerSize:]
	if f.HasCredentials {
		var err error
		if f.Login, b, err = cutShort(b, "login"); err != nil {
			return err
		}
		if f.Password, b, err = cutShort(b, "password"); err != nil {
			return err
		}
		// A real server closes the connection here: it wants one byte more than the password's length behind the login.
		if len(f.Password) == 0 && len(b) == 0 {
			return fmt.Errorf("%w: an empty password in front of an empty body", ErrMalformed)
		}
	}
	f.Body = b
	return nil
}

func cutShort(b []byte, what string) (field, rest []byte, err error) {
	if len(b) < 1 || len(b) < 1+int(b[0]) {
		return nil, nil, fmt.Errorf("%w: the package ends inside the %s", ErrMalformed, what)
	}
	n := 1 + int(b[0])
	return b[1:n:n], b[n:], nil
}

// AppendCredentials appends the block that a frame with credentials carries. Login and password travel with one byte of
// length each, so over 255 bytes is an error; so are an empty login, an empty password, which closes the connection
// in front of an empty body, and a login that starts with a non-ASCII character while being over 127 bytes or in front
// of a password over 127 bytes, which servers from 20.6 on misread as a token.
func AppendCredentials(b []byte, login, password string) ([]byte, error) {
	limit := 255
	if login != "" && login[0] >= 0x80 {
		limit = 127
	}
	switch {
	case login == "":
		return b, errors.New("the login is empty")
	case password == "":
		return b, errors.New("the password is empty: servers close the connection on one")
	case len(login) > limit:
		return b, fmt.Errorf("the login has %d bytes, the wire carries %d", len(login), limit)
	case len(password) > limit:
		return b, fmt.Errorf("the password has %d bytes, the wire carries %d", len(password), limit)
	}
	b = append(b, byte(len(login)))
	b = append(b, login...)
	b = append(b, byte(len(password)))
	return append(b, password...), nil
}

// AppendFrame appends one whole frame: prefix, header, credentials if any (a block made by AppendCredentials) and the
// body of r. On an error b is returned as it was.
func AppendFrame(b []byte, id ID, credentials []byte, r Request) ([]byte, error) {
	start := len(b)
	b = AppendFrameStart(b, r.Command(), id, credentials)
	b, err := r.AppendTo(b)
	if err != nil {
		return b[:start], fmt.Errorf("encode %s: %w", r.Command(), err)
	}
	return EndFrame(b, start)
}

// AppendFrameStart appends prefix, header and credentials; whoever calls it appends the body and then calls EndFrame
// with the length that b had before.
func AppendFrameStart(b []byte, c Command, id ID, credentials []byte) []byte {
	b = slices.Grow(b, prefixSize+headerSize+len(credentials))
	b = append(b, 0, 0, 0, 0, byte(c), 0)
	if len(credentials) > 0 {
		b[len(b)-1] = flagCredentials
	}
	b = append(b, id[:]...)
	return append(b, credentials...)
}

// EndFrame writes the length of the frame that starts at start and ends with b. A frame over MaxFrame is an error that
// leaves b as it was before the frame.
func EndFrame(b []byte, start int) ([]byte, error) {
	n := len(b) - start - prefixSize
	if n > MaxFrame {
		return b[:start], fmt.Errorf("%w: %d bytes, at most %d", ErrFrameTooLarge, n, MaxFrame)
	}
	binary.LittleEndian.PutUint32(b[start:], uint32(n))
	return b, nil
}

// Reader cuts frames out of a stream of bytes. Its buffer grows with the bytes that came, at most twofold at a time,
// never with a length that a peer only announced, and shrinks again after a large frame. It is not safe for concurrent use.
type Reader struct {
	r          io.Reader
	buf        []byte
	start, end int // what is buffered and not yet returned
	base       int
	idle       int  // reads in a row that brought nothing
	first      bool // nothing was returned yet: the peer may not speak this protocol at all
	err        error
}

// NewReader returns a Reader with a buffer of size bytes, at least 64.
func NewReader(r io.Reader, size int) *Reader {
	size = max(size, 64)
	return &Reader{r: r, buf: make([]byte, size), base: size, first: true}
}

// Next returns the next frame, valid until the next call that is not Ready. At the end of the stream it returns io.EOF between frames and
// an error with io.ErrUnexpectedEOF inside one. After an error it returns the same error again.
func (r *Reader) Next() (Frame, error) {
	var f Frame
	if err := r.ReadTo(&f); err != nil {
		return Frame{}, err
	}
	return f, nil
}

// ReadTo is Next into a frame of the caller's, which is of no use after an error.
func (r *Reader) ReadTo(f *Frame) error {
	for r.err == nil {
		b := r.buf[r.start:r.end]
		if len(b) >= prefixSize {
			n := binary.LittleEndian.Uint32(b)
			if n == 0 || n > MaxFrame {
				r.err = &LengthError{Length: int32(n), prefix: slices.Clone(b[:prefixSize]), guess: r.guess(b)}
				break
			}
			if total := prefixSize + int(n); len(b) >= total {
				r.err = f.parse(b[prefixSize:total:total])
				r.start += total
				r.first = false
				return r.err
			}
		}
		r.fill()
	}
	return r.err
}

// Refused returns the correlation id of a frame that Next refused for being too large, reading on until it has come.
func (r *Reader) Refused() (id ID, ok bool) {
	refused := r.err
	if !errors.Is(refused, ErrFrameTooLarge) {
		return id, false
	}
	r.err = nil
	for r.err == nil && r.Buffered() < prefixSize+headerSize {
		r.fill()
	}
	ok = r.err == nil
	r.err = refused
	if ok {
		copy(id[:], r.buf[r.start+prefixSize+2:])
	}
	return id, ok
}

// Buffered reports how many bytes came that Next has not returned yet.
func (r *Reader) Buffered() int { return r.end - r.start }

// Ready reports whether Next returns without waiting for more bytes. Then it leaves the frames before valid.
func (r *Reader) Ready() bool {
	b := r.buf[r.start:r.end]
	if len(b) < prefixSize {
		return r.err != nil
	}
	n := binary.LittleEndian.Uint32(b)
	return r.err != nil || n > MaxFrame || len(b) >= prefixSize+int(n)
}

// fill reads once, with room for at least one byte more.
func (r *Reader) fill() {
	have := r.end - r.start
	switch {
	case have == 0 && len(r.buf) > 8*r.base:
		r.buf = make([]byte, r.base) // one large frame must not pin its memory for the connection's life
		r.start, r.end = 0, 0
	case have == len(r.buf):
		grown := make([]byte, min(2*have, prefixSize+MaxFrame))
		copy(grown, r.buf)
		r.buf = grown
	case r.start > 0 && (have == 0 || r.end == len(r.buf)):
		copy(r.buf, r.buf[r.start:r.end])
		r.start, r.end = 0, have
	}
	n, err := r.r.Read(r.buf[r.end:])
	r.end += n
	switch {
	case n > 0:
		r.idle = 0
		return // an error beside bytes comes again
	case err == nil:
		if r.idle++; r.idle < 100 {
			return
		}
		err = io.ErrNoProgress
	}
	r.err = err
	if errors.Is(err, io.EOF) && have > 0 {
		r.err = fmt.Errorf("the connection ended inside a frame, %d bytes into it: %w", have, io.ErrUnexpectedEOF)
		if guess := r.guess(r.buf[r.start:r.end]); guess != "" {
			r.err = fmt.Errorf("%w%s: %w", ErrMalformed, guess, r.err)
		}
	}
}

// guess says what a peer seems to speak instead, when its very first bytes tell.
func (r *Reader) guess(b []byte) string {
	if !r.first || len(b) < 3 {
		return ""
	}
	s := string(b[:min(len(b), 8)])
	for _, verb := range []string{"GET ", "POST ", "PUT ", "HEAD ", "DELETE ", "OPTIONS ", "CONNECT "} {
		if strings.HasPrefix(s, verb) {
			return ": the peer sends HTTP requests, and this is the TCP port"
		}
	}
	switch {
	case strings.HasPrefix(s, "HTTP"):
		return ": the peer answers in HTTP, is this the HTTP port?"
	case b[0] == 0x15 && b[1] == 0x03, b[0] == 0x16 && b[1] == 0x03:
		return ": the peer speaks TLS, and this connection is plain"
	case strings.HasPrefix(s, "SSH-"):
		return ": the peer speaks SSH"
	}
	return ""
}
