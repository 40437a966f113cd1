package server

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/server/internal/store"
)

// The names of the system (5.1, 5.2).
const (
	metaPrefix        = store.MetastreamPrefix
	typeMetadata      = "$metadata"
	typeStreamDeleted = "$streamDeleted"
	keyTruncateBefore = "$tb"
)

// softDeleteMetadata replaces the metadata of a stream that is soft-deleted (4.11).
const softDeleteMetadata = `{"$tb":9223372036854775807}`

// view is the log as of a position. Readers have the tip that they began with, the writer has what it staged too.
type view struct {
	store store.Store
	at    int64
}

// streamInfo is what the answers about a stream depend on.
type streamInfo struct {
	last        int64 // the last event number, -1 without events
	deleted     bool  // hard-deleted, or the metastream of a stream that is
	softDeleted bool
	min         int64 // events below are hidden
	head        store.Head
}

// exists reports whether reads find a stream at all.
func (i *streamInfo) exists() bool { return i.last >= 0 && !i.softDeleted && !i.deleted }

// info reads the state of a stream: its own, and what its metadata make of it. Truncation by $maxCount and $maxAge, and
// the metadata of metastreams, which behave as if $maxCount were 1, have their place here.
func (v view) info(stream string) (streamInfo, error) {
	head, err := v.store.Head(stream, v.at)
	if err != nil {
		return streamInfo{}, err
	}
	i := streamInfo{last: head.Last, deleted: head.Tombstoned, head: head}
	if of, ok := strings.CutPrefix(stream, metaPrefix); ok {
		i.min = max(head.Last, 0)
		owner, err := v.store.Head(of, v.at)
		if err != nil {
			return streamInfo{}, err
		}
		i.deleted = i.deleted || owner.Tombstoned
		return i, nil
	}
	if head.Meta < 0 {
		return i, nil
	}
	event, err := v.metadataEvent(stream, head.Meta)
	if err != nil {
		return streamInfo{}, err
	}
	i.min = truncateBefore(&event)
	i.softDeleted = i.min == messages.DeletedNumber
	return i, nil
}

// metadataEvent returns the stream's metadata event with this number.
func (v view) metadataEvent(stream string, number int64) (e messages.EventRecord, err error) {
	var decodeErr error
	err = v.store.Events(metaPrefix+stream, number, number, v.at, func(r *store.Record) bool {
		decodeErr = e.Decode(r.Encoded, nil)
		return false
	})
	if err == nil {
		err = decodeErr
	}
	return e, err
}

// truncateBefore returns the $tb of metadata, 0 when there is none. An event that is not JSON, or no object, or whose $tb
// is no whole number, counts as empty (5.3). Text behind the object is tolerated.
func truncateBefore(metadata *messages.EventRecord) int64 {
	if metadata.ContentType != 1 {
		return 0
	}
	var keys map[string]json.RawMessage
	if err := json.NewDecoder(bytes.NewReader(trimBOM(metadata.Data))).Decode(&keys); err != nil {
		return 0
	}
	n, err := strconv.ParseInt(string(keys[keyTruncateBefore]), 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

func trimBOM(b []byte) []byte { return bytes.TrimPrefix(b, []byte("\xef\xbb\xbf")) }

// withTruncateBefore rewrites metadata so that they say $tb and keep everything else in its order, as a write to a
// soft-deleted stream does (4.11). Metadata that are no JSON object are not rewritten.
func withTruncateBefore(raw []byte, number int64) ([]byte, bool) {
	d := json.NewDecoder(bytes.NewReader(trimBOM(raw)))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, false
	}
	var keys []string
	values := make(map[string]json.RawMessage)
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, false
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, false
		}
		name, _ := key.(string) // a key of an object is nothing else
		if _, seen := values[name]; !seen {
			keys = append(keys, name)
		}
		values[name] = value
	}
	if _, err := d.Token(); err != nil {
		return nil, false
	}
	if _, seen := values[keyTruncateBefore]; !seen {
		keys = append(keys, keyTruncateBefore)
	}
	values[keyTruncateBefore] = strconv.AppendInt(nil, number, 10)
	return joinObject(keys, values), true
}

func joinObject(keys []string, values map[string]json.RawMessage) []byte {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	out.WriteByte('{')
	for i, key := range keys {
		if i > 0 {
			out.WriteByte(',')
		}
		_ = encoder.Encode(key) // a string into memory: it cannot fail
		out.Truncate(out.Len() - 1)
		out.WriteByte(':')
		_ = json.Compact(&out, values[key]) // it was decoded before
	}
	out.WriteByte('}')
	return out.Bytes()
}
