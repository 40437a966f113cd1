package server

import (
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

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

// softDeleteMetadata replaces the metadata of a stream that is soft-deleted (4.11). Its number is the dialect's.
const softDeleteMetadata = `{"$tb":%d}`

// metadata is what a stream's metadata say, as far as a server looks at them (5.3). It never changes.
type metadata struct {
	maxCount       int64 // how many events from the last one on are readable, 0 for all
	maxAge         int64 // for how many seconds an event is readable, 0 for ever
	truncateBefore int64 // events with lower numbers are hidden
	acl            accessList
}

var noMetadata = new(metadata)

// parseMetadata reads a metadata event. One that is not JSON, or no object, or has a single value of a wrong kind, counts
// as empty (5.3). Text behind the object is tolerated.
func parseMetadata(e *messages.EventRecord) *metadata {
	var m metadata
	if e.ContentType != 1 || !m.parse(newJSONReader(e.Data)) {
		return noMetadata
	}
	m.maxCount, m.maxAge, m.truncateBefore = max(m.maxCount, 0), max(m.maxAge, 0), max(m.truncateBefore, 0)
	return &m
}

func (m *metadata) parse(r *jsonReader) bool {
	if !r.is(jsonObject) {
		return false
	}
	for r.is(jsonMember) {
		var ok bool
		switch r.text {
		case "$maxCount":
			ok = r.wholeNumber(&m.maxCount)
		case keyTruncateBefore:
			ok = r.wholeNumber(&m.truncateBefore)
		case "$maxAge":
			ok = r.seconds(&m.maxAge)
		case "$cacheControl":
			ok = r.seconds(new(int64))
		case "$tmp":
			ok = r.is(jsonBoolean)
		case "$acl":
			ok = m.acl.parse(r)
		default:
			ok = r.skipValue()
		}
		if !ok {
			return false
		}
	}
	return r.kind == jsonObjectEnd
}

func (r *jsonReader) wholeNumber(n *int64) bool {
	ok := r.is(jsonInteger)
	*n = r.integer
	return ok
}

// maxSeconds is the longest time that .NET has.
const maxSeconds int64 = math.MaxInt64 / ticksPerSecond

func (r *jsonReader) seconds(n *int64) bool {
	return r.wholeNumber(n) && *n >= -maxSeconds && *n <= maxSeconds
}

// metadataCache remembers what metadata events say, so that no read parses JSON. An event never changes, so that what is
// remembered is right for ever.
type metadataCache struct {
	mu     sync.RWMutex
	parsed map[string]numberedMetadata
}

type numberedMetadata struct {
	number int64 // of the metadata event
	*metadata
}

// maxCachedMetadata is how many streams' metadata are remembered; all are forgotten when there are more.
const maxCachedMetadata = 100_000

func (c *metadataCache) get(stream string, number int64) *metadata {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if m := c.parsed[stream]; m.metadata != nil && m.number == number {
		return m.metadata
	}
	return nil
}

// forget empties the cache: something in it was not written after all.
func (c *metadataCache) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.parsed = nil
}

func (c *metadataCache) put(stream string, number int64, m *metadata) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.parsed == nil || len(c.parsed) >= maxCachedMetadata {
		c.parsed = make(map[string]numberedMetadata)
	}
	c.parsed[stream] = numberedMetadata{number, m}
}

// view is the log as of a position. Readers have the tip that they began with, the writer has what it staged too.
type view struct {
	store store.Store
	cache *metadataCache
	now   func() time.Time
	at    int64
	end   int64 // where the log ends

	dialect *Dialect
}

// view is the log as it is committed now.
func (s *Server) view() view {
	tip := s.store.Tip()
	return s.viewAt(tip.Commit, tip.End)
}

func (s *Server) viewAt(at, end int64) view {
	return view{store: s.store, cache: &s.metadata, now: s.now, at: at, end: end, dialect: &s.dialect}
}

// indexed is the position of the last commit that a real server's index knows, -1 when there is none: a write without events is no
// such commit. It is what subscriptions confirm, while reads tell how far the log goes. It does not go back by a scavenge.
func (v view) indexed() (at int64, err error) {
	at = min(v.at, v.store.ScavengedTo())
	err = v.lender().LogBackward(store.Position{Commit: v.at + 1}, v.at, func(r *store.Record) bool {
		if r.Kind == store.Blank || r.Kind == store.Pending {
			return true
		}
		at = max(at, r.Commit)
		return false
	})
	return at, err
}

// lender is the store for who is done with a record when the next one comes.
func (v view) lender() store.Store {
	if l, ok := v.store.(store.Lender); ok {
		return l.Lend()
	}
	return v.store
}

// streamInfo is what the answers about a stream depend on.
type streamInfo struct {
	last        int64 // the last event number, -1 without events
	deleted     bool  // hard-deleted, or the metastream of a stream that is
	softDeleted bool
	min         int64 // events below are hidden
	maxAge      int64 // in seconds, 0 for none
	head        store.Head
}

// exists reports whether reads find a stream at all.
func (i *streamInfo) exists() bool { return i.last >= 0 && !i.softDeleted && !i.deleted }

// info reads the state of a stream: its own, and what its metadata make of it. Metastreams have no metadata of their own and
// behave as if $maxCount were 1.
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
	m, err := v.metadata(stream, head.Meta)
	if err != nil {
		return streamInfo{}, err
	}
	i.min, i.maxAge = m.truncateBefore, m.maxAge
	i.softDeleted = m.truncateBefore == v.dialect.softDelete()
	if m.maxCount > 0 {
		i.min = max(i.min, i.last-m.maxCount+1)
	}
	return i, nil
}

// ticksPerSecond is how many .NET ticks a second has.
const ticksPerSecond = 10_000_000

// readError is what a real server fails with, the text of the result Error.
type readError string

func (e readError) Error() string { return string(e) }

const textBeforeTime = "The added or subtracted value results in an un-representable DateTime.\nParameter name: t"

// oldest returns when, in .NET ticks, the oldest event was created that a stream's $maxAge leaves readable now. A real
// server cannot reach back behind the year 1.
func (v view) oldest(i *streamInfo) (int64, error) {
	if i.maxAge == 0 {
		return math.MinInt64, nil
	}
	oldest := messages.Ticks(v.now()) - i.maxAge*ticksPerSecond
	if oldest < 0 {
		return 0, readError(textBeforeTime)
	}
	return oldest, nil
}

// metadata returns what the metadata event with this number says of the stream.
func (v view) metadata(stream string, number int64) (*metadata, error) {
	if number < 0 {
		return noMetadata, nil
	}
	if m := v.cache.get(stream, number); m != nil {
		return m, nil
	}
	event, err := v.metadataEvent(stream, number)
	if err != nil {
		return nil, err
	}
	m := parseMetadata(&event)
	v.cache.put(strings.Clone(stream), number, m) // also what is only staged: when it cannot be stored the writer forgets all
	return m, nil
}

// metadataEvent returns the stream's metadata event with this number.
func (v view) metadataEvent(stream string, number int64) (messages.EventRecord, error) {
	return v.eventRecord(metaPrefix+stream, number)
}

// eventRecord returns the event of a stream with this number, which is there.
func (v view) eventRecord(stream string, number int64) (e messages.EventRecord, err error) {
	var decodeErr error
	err = v.store.Events(stream, number, number, v.at, func(r *store.Record) bool {
		decodeErr = e.Decode(r.Encoded, nil)
		return false
	})
	if err == nil {
		err = decodeErr
	}
	return e, err
}

// withTruncateBefore rewrites metadata so that they say $tb and keep everything else in its order, as a write to a
// soft-deleted stream does (4.11). Metadata that are not one JSON object, and nothing else, are not rewritten.
func withTruncateBefore(raw []byte, number int64) ([]byte, bool) {
	r := newTextReader(raw)
	for r.is(jsonComment) {
		continue
	}
	if r.kind != jsonObject {
		return nil, false
	}
	var names []string
	values := make(map[string][]byte) // with the colon
	set := func(name string, value []byte) {
		if _, seen := values[name]; !seen {
			names = append(names, name)
		}
		values[name] = value
	}
	for r.next() && r.kind != jsonObjectEnd {
		if r.kind != jsonMember {
			continue // a comment
		}
		name := r.text
		value, ok := r.copyValue([]byte{':'})
		if !ok {
			return nil, false
		}
		set(name, value)
	}
	ended := r.kind == jsonObjectEnd
	if r.skipSpace(); !ended || (r.rest != "" && !r.is(jsonComment)) {
		return nil, false
	}
	set(keyTruncateBefore, strconv.AppendInt([]byte{':'}, number, 10))
	out := []byte{'{'}
	for i, name := range names {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(appendQuoted(out, name), values[name]...)
	}
	return append(out, '}'), true
}
