package server

import (
	"bytes"
	"encoding/json"
	"net/url"
	"strings"
)

// escaped is a text as one segment of a path, with all but letters, digits and - . _ ~ escaped.
func escaped(text string) string { return strings.ReplaceAll(url.QueryEscape(text), "+", "%20") }

// indented is JSON as a real server lays it out. It is no JSON, or gets longer than the limit, when ok is false: every byte may
// stand behind as many blanks as it is deep.
func indented(text []byte, limit int) (out []byte, ok bool) {
	if !json.Valid(text) {
		return nil, false
	}
	depth := 0
	line := func() {
		out = append(out, '\n')
		for range depth {
			out = append(out, "  "...)
		}
	}
	for i := 0; i < len(text) && len(out) <= limit; i++ {
		switch b := text[i]; b {
		case ' ', '\t', '\r', '\n':
		case '"':
			end := i + 1
			for ; text[end] != '"'; end++ {
				if text[end] == '\\' {
					end++
				}
			}
			out = append(out, text[i:end+1]...)
			i = end
		case '{', '[':
			out = append(out, b)
			if next := firstOf(text[i+1:]); next == '}' || next == ']' {
				i += 1 + bytes.IndexByte(text[i+1:], next)
				out = append(out, next)
				continue
			}
			depth++
			line()
		case '}', ']':
			depth--
			line()
			out = append(out, b)
		case ',':
			out = append(out, b)
			line()
		case ':':
			out = append(out, ": "...)
		default:
			out = append(out, b)
		}
	}
	return out, len(out) <= limit
}

// firstOf is the first byte that is no blank.
func firstOf(text []byte) byte {
	for _, b := range text {
		if b != ' ' && b != '\t' && b != '\r' && b != '\n' {
			return b
		}
	}
	return 0
}
