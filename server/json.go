package server

import (
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// jsonReader reads JSON token by token, as the library of a real server does (5.3). That takes more than JSON: names
// without quotes, single quotes, a comma too many, hexadecimal and octal numbers, any character in a text. It does not
// look at what is behind the token that was asked for, and nesting costs a byte for each level.
type jsonReader struct {
	rest  string // valid UTF-8
	open  []byte // the containers around, { or [
	state jsonState

	// The token at hand.
	kind    jsonKind
	text    string // of a name or a text
	integer int64
	literal string // what the library writes for a number or a word
}

type jsonState uint8

const (
	jsonValue jsonState = iota // a value is next
	jsonName                   // a name is next
	jsonAfter                  // a comma is next, or the end of what surrounds the value
)

type jsonKind uint8

const (
	jsonNothing jsonKind = iota // the end, or no token
	jsonObject
	jsonObjectEnd
	jsonArray
	jsonArrayEnd
	jsonMember // the name of one
	jsonText
	jsonInteger // of 64 bits
	jsonNumber  // any other
	jsonBoolean
	jsonNull
	jsonUndefined
	jsonComment
)

// newJSONReader reads data as a stream reader would: a byte order mark in front is passed over.
func newJSONReader(data []byte) *jsonReader {
	return &jsonReader{rest: readable(strings.TrimPrefix(string(data), "\ufeff"))}
}

// newTextReader reads data as a text was read from them first, which begins with its byte order mark if there is one.
func newTextReader(data []byte) *jsonReader { return &jsonReader{rest: readable(string(data))} }

// next reads a token. It returns false at the end, and where no token can be.
func (r *jsonReader) next() bool {
	if r.read() {
		return true
	}
	r.kind = jsonNothing
	return false
}

func (r *jsonReader) read() bool {
	for {
		r.skipSpace()
		if r.rest == "" {
			return false
		}
		c := r.rest[0]
		switch {
		case c == '/':
			return r.comment()
		case r.state == jsonValue:
			return r.value(c)
		case c == '}' || (c == ']' && r.state == jsonAfter):
			return r.closeWith(c)
		case r.state == jsonName:
			return r.name(c)
		case c == ',' && len(r.open) > 0:
			r.rest = r.rest[1:]
			r.state = jsonName
			if r.open[len(r.open)-1] == '[' {
				r.state = jsonValue
			}
		default:
			return false
		}
	}
}

// skipSpace skips what .NET takes for blank, and zero characters.
func (r *jsonReader) skipSpace() {
	r.rest = strings.TrimLeftFunc(r.rest, func(c rune) bool { return c == 0 || unicode.IsSpace(c) })
}

// is reports whether the next token is of a kind.
func (r *jsonReader) is(kind jsonKind) bool { return r.next() && r.kind == kind }

// take makes the first n bytes of the rest a token that is a value.
func (r *jsonReader) take(n int, kind jsonKind) bool {
	r.literal, r.rest = r.rest[:n], r.rest[n:]
	r.kind, r.state = kind, jsonAfter
	return true
}

func (r *jsonReader) comment() bool {
	ok := true
	switch {
	case strings.HasPrefix(r.rest, "/*"):
		_, r.rest, ok = strings.Cut(r.rest[2:], "*/")
	case strings.HasPrefix(r.rest, "//"):
		r.rest = strings.TrimLeftFunc(r.rest, func(c rune) bool { return c != '\r' && c != '\n' })
	default:
		return false
	}
	r.kind = jsonComment
	return ok
}

func (r *jsonReader) closeWith(c byte) bool {
	kind, other := jsonObjectEnd, byte('{')
	if c == ']' {
		kind, other = jsonArrayEnd, '['
	}
	last := len(r.open) - 1
	if last < 0 || r.open[last] != other {
		return false
	}
	r.open = r.open[:last]
	return r.take(1, kind)
}

func (r *jsonReader) name(c byte) bool {
	if c == '"' || c == '\'' {
		if !r.quoted() {
			return false
		}
	} else {
		end := strings.IndexFunc(r.rest, func(c rune) bool {
			return !unicode.IsLetter(c) && !unicode.IsDigit(c) && c != '_' && c != '$'
		})
		if end <= 0 {
			return false
		}
		r.text, r.rest = r.rest[:end], r.rest[end:]
	}
	r.skipSpace()
	if !strings.HasPrefix(r.rest, ":") {
		return false
	}
	r.rest = r.rest[1:]
	r.kind, r.state = jsonMember, jsonValue
	return true
}

func (r *jsonReader) value(c byte) bool {
	switch c {
	case '"', '\'':
		if !r.quoted() {
			return false
		}
		return r.take(0, jsonText)
	case '{', '[':
		r.open = append(r.open, c)
		kind, state := jsonObject, jsonName
		if c == '[' {
			kind, state = jsonArray, jsonValue
		}
		r.take(1, kind)
		r.state = state
		return true
	case ']':
		return r.closeWith(c)
	case ',': // there is none: the comma stays
		r.take(0, jsonUndefined)
		r.literal = "undefined"
		return true
	}
	for _, w := range jsonWords {
		if strings.HasPrefix(r.rest, w.text) && separated(r.rest[len(w.text):]) {
			r.take(len(w.text), w.kind)
			r.literal = w.written
			return true
		}
	}
	return r.number(c)
}

var jsonWords = []struct {
	text, written string
	kind          jsonKind
}{
	{"true", "true", jsonBoolean},
	{"false", "false", jsonBoolean},
	{"null", "null", jsonNull},
	{"undefined", "undefined", jsonUndefined},
	{"NaN", `"NaN"`, jsonNumber},
	{"Infinity", `"Infinity"`, jsonNumber},
	{"-Infinity", `"-Infinity"`, jsonNumber},
}

// separated reports whether a word or a number can end before s.
func separated(s string) bool {
	c, _ := utf8.DecodeRuneInString(s)
	return s == "" || strings.ContainsRune("}],/\x00", c) || unicode.IsSpace(c)
}

var (
	jsonInt   = regexp.MustCompile(`^-?[0-9]+$`)
	jsonFloat = regexp.MustCompile(`^-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$`)
)

func (r *jsonReader) number(c byte) bool {
	if c != '-' && c != '.' && (c < '0' || c > '9') {
		return false
	}
	n := len(r.rest) - len(strings.TrimLeft(r.rest, "-+.0123456789abcdefABCDEFxX"))
	digits := r.rest[:n]
	if !separated(r.rest[n:]) {
		return false
	}
	r.take(n, jsonInteger)
	var err error
	switch {
	case n > 1 && c == '0' && !strings.Contains(".eE", digits[1:2]):
		base := 8
		if digits[1] == 'x' || digits[1] == 'X' {
			base, digits = 16, digits[2:]
		}
		var bits uint64
		bits, err = strconv.ParseUint(digits, base, 64)
		r.integer = int64(bits)
	case jsonInt.MatchString(digits):
		if r.integer, err = strconv.ParseInt(digits, 10, 64); err != nil {
			r.kind = jsonNumber
			return true
		}
	case jsonFloat.MatchString(digits):
		var f float64
		f, err = strconv.ParseFloat(digits, 64)
		r.kind, r.literal = jsonNumber, writtenFloat(f)
		return err == nil
	default:
		return false
	}
	r.literal = strconv.FormatInt(r.integer, 10)
	return err == nil
}

// writtenFloat is a number as .NET writes it so that it reads the same: 15 digits if they do, else 17.
func writtenFloat(f float64) string {
	if f == 0 {
		return "0.0"
	}
	precision := 15
	text := strconv.FormatFloat(f, 'E', precision-1, 64)
	if back, _ := strconv.ParseFloat(text, 64); back != f {
		precision = 17
		text = strconv.FormatFloat(f, 'E', precision-1, 64)
	}
	digits, exponent, _ := strings.Cut(text, "E")
	whole, fraction, _ := strings.Cut(digits, ".")
	fraction = strings.TrimRight(fraction, "0")
	e, _ := strconv.Atoi(exponent)
	switch {
	case e > -5 && e < precision:
		return strconv.FormatFloat(f, 'f', max(1, len(fraction)-e), 64)
	case fraction != "":
		whole += "."
	}
	return whole + fraction + "E" + exponent
}

// quoted reads what stands in quotes into text.
func (r *jsonReader) quoted() bool {
	quote, rest := r.rest[0], r.rest[1:]
	var b strings.Builder
	for {
		end := strings.IndexAny(rest, `\`+string(quote))
		if end < 0 {
			return false
		}
		b.WriteString(rest[:end])
		c := rest[end]
		rest = rest[end+1:]
		if c == quote {
			r.text, r.rest = b.String(), rest
			return true
		}
		n := unescape(&b, rest)
		if n == 0 {
			return false
		}
		rest = rest[n:]
	}
}

// unescape reads what follows a backslash, and returns its length, 0 when it is nothing.
func unescape(b *strings.Builder, s string) int {
	if s == "" {
		return 0
	}
	if i := strings.IndexByte(`bfnrt"'/\`, s[0]); i >= 0 {
		b.WriteByte("\b\f\n\r\t\"'/\\"[i])
		return 1
	}
	high, ok := escapedUnit(s)
	if !ok {
		return 0
	}
	if utf16.IsSurrogate(high) && strings.HasPrefix(s[5:], `\`) {
		if low, ok := escapedUnit(s[6:]); ok {
			if pair := utf16.DecodeRune(high, low); pair != unicode.ReplacementChar {
				b.WriteRune(pair)
				return 11
			}
		}
	}
	b.WriteRune(high) // half a pair is written as the replacement character
	return 5
}

// escapedUnit reads uXXXX.
func escapedUnit(s string) (rune, bool) {
	if len(s) < 5 || s[0] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(s[1:5], 16, 16)
	return rune(n), err == nil
}

// appendQuoted appends a text as the library writes it.
func appendQuoted(b []byte, s string) []byte {
	b = append(b, '"')
	if isPlain(s) {
		b = append(b, s...)
		return append(b, '"')
	}
	for _, c := range s {
		switch i := strings.IndexRune("\b\f\n\r\t\"\\", c); {
		case i >= 0:
			b = append(b, '\\', `bfnrt"\`[i])
		case c < ' ', c == '\u0085', c == '\u2028', c == '\u2029':
			const digits = "0123456789abcdef"
			b = append(b, '\\', 'u', digits[c>>12], digits[c>>8&15], digits[c>>4&15], digits[c&15])
		default:
			b = utf8.AppendRune(b, c)
		}
	}
	return append(b, '"')
}

// isPlain reports whether nothing of a text has to be escaped.
func isPlain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// copyValue appends the next value to b, behind what needs one, as the library writes it.
func (r *jsonReader) copyValue(b []byte) ([]byte, bool) {
	for depth := len(r.open); r.next(); {
		begins := r.kind != jsonObjectEnd && r.kind != jsonArrayEnd
		switch {
		case r.kind == jsonComment: // forgotten
			continue
		case begins && !strings.Contains("{[:", string(b[len(b)-1])):
			b = append(b, ',')
		}
		switch r.kind {
		case jsonMember:
			b = append(appendQuoted(b, r.text), ':')
		case jsonText:
			b = appendQuoted(b, r.text)
		default:
			b = append(b, r.literal...)
		}
		if len(r.open) == depth {
			return b, true
		}
	}
	return b, false
}

// skipValue reads past the next value.
func (r *jsonReader) skipValue() bool {
	for depth := len(r.open); r.next(); {
		if len(r.open) == depth {
			return true
		}
	}
	return false
}
