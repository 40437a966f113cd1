package server

import (
	"bytes"
	"errors"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/goeventstore/eventstore/server/internal/store"
)

// typeLink is the type of the events that are links to others.
const typeLink = "$>"

// resolved is a record as it is delivered to whoever wants links resolved: what AppendIndexed and AppendResolved take.
type resolved struct {
	event []byte // the target of a link, nil when there is none to read; every other record itself
	link  []byte // nil when the record is no link
	// target is the stream that the link names, whether there is such an event or not. A read needs the right to read
	// it (4.9), a subscription does not. "" when the record is no link, or one that names nothing.
	target string
}

// resolve follows a link by one step (4.9). Its target is what ReadEvent finds now: not what is deleted, truncated or
// too old.
func (v view) resolve(r *store.Record) (resolved, error) {
	if r.Type != typeLink {
		return resolved{event: r.Encoded}, nil
	}
	target, stream, err := v.follow(r)
	if stream == "" && v.dialect.generation >= generation50 { // not even the name of an event
		return resolved{event: r.Encoded}, err
	}
	out := resolved{link: r.Encoded, target: stream}
	if target != nil {
		out.event = target.Encoded
	}
	return out, err
}

// follow returns what a link leads to, nil when there is nothing, and the stream that it names.
func (v view) follow(r *store.Record) (target *store.Record, stream string, err error) {
	number, stream, ok := parseLink(dataOf(r.Encoded))
	if !ok {
		return nil, "", nil
	}
	if number < -1 {
		return nil, stream, nil
	}
	_, target, err = v.event(stream, number)
	if text := readError(""); errors.As(err, &text) {
		err = nil
	}
	return target, stream, err
}

// parseLink reads the data of a link, N@stream, as .NET does: the number may have a sign, blanks around it and zero bytes
// behind it, the stream's name may hold further @.
func parseLink(data []byte) (number int64, stream string, ok bool) {
	n, name, ok := bytes.Cut(data, []byte("@"))
	if !ok || len(name) == 0 {
		return 0, "", false
	}
	n = bytes.Trim(bytes.TrimRight(n, "\x00"), "\t\n\v\f\r ")
	number, err := strconv.ParseInt(string(n), 10, 64)
	return number, readable(string(name)), err == nil
}

// dataOf returns the data of an encoded event without decoding the rest.
func dataOf(encoded []byte) []byte {
	const data = 7
	for len(encoded) > 0 {
		number, typ, n := protowire.ConsumeTag(encoded)
		if n < 0 {
			return nil
		}
		encoded = encoded[n:]
		if number == data {
			value, _ := protowire.ConsumeBytes(encoded)
			return value
		}
		if n = protowire.ConsumeFieldValue(number, typ, encoded); n < 0 {
			return nil
		}
		encoded = encoded[n:]
	}
	return nil
}
