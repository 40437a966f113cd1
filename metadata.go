package eventstore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

// metaPrefix in front of a stream's name makes the name of the stream of its metadata.
const metaPrefix = "$$"

// The types of the system's events that a client writes.
const (
	typeMetadata = "$metadata"
	typeSettings = "$settings"
)

// softDeleted is the number before which a soft-deleted stream is truncated: all of them. What a server older than 4.0 has
// deleted is truncated before softDeleted32, also when a newer server has its database.
const (
	softDeleted   = math.MaxInt64
	softDeleted32 = math.MaxInt32
)

// StreamMetadata is what is said about a stream: how much of it can be read, by whom, and whatever else an application
// keeps there. Zero fields say nothing.
type StreamMetadata struct {
	// Version is the number of the metadata event, NoStream when there was none: what SetMetadata expects next. It is not
	// written.
	Version ExpectedVersion
	// MaxCount is how many events from the last one on can be read.
	MaxCount int64
	// MaxAge is how long an event can be read, in whole seconds.
	MaxAge time.Duration
	// TruncateBefore is the first number that can be read, unless SoftDeleted says that it hides them all.
	TruncateBefore int64
	// CacheControl is what a server tells HTTP clients about caching, in whole seconds.
	CacheControl time.Duration
	// ACL is who may do what; nil leaves all of it to the server's defaults.
	ACL *ACL
	// Custom are all other keys with their JSON, kept as they are when metadata that were read are written again. Keys that
	// a server knows do not belong here.
	Custom map[string]json.RawMessage
	// Raw is the data of the event as it was read. It is not written.
	Raw []byte
}

// SoftDeleted reports the metadata of a stream that was deleted softly: TruncateBefore is math.MaxInt64 then, or
// math.MaxInt32 where a server older than 4.0 deleted it.
func (m *StreamMetadata) SoftDeleted() bool {
	return m.TruncateBefore == softDeleted || m.TruncateBefore == softDeleted32
}

// ACL is who may do what with a stream: names of users and groups, or RoleAll. A nil list leaves that right to the server's
// default, an empty one leaves it to the administrators alone.
type ACL struct {
	Read, Write, Delete, MetaRead, MetaWrite []string
}

// RoleAll stands for everybody, RoleAdmins for the group of administrators.
const (
	RoleAll    = "$all"
	RoleAdmins = "$admins"
)

// The keys that servers know (5.3).
const (
	keyMaxCount       = "$maxCount"
	keyMaxAge         = "$maxAge"
	keyTruncateBefore = "$tb"
	keyCacheControl   = "$cacheControl"
	keyACL            = "$acl"
)

// known are the keys with a field, and those that a server treats as its own.
var known = map[string]bool{
	keyMaxCount: true, keyMaxAge: true, keyTruncateBefore: true, keyCacheControl: true, keyACL: true, "$tmp": true,
}

// MarshalJSON returns the metadata as a server reads them: zero fields are left out.
func (m StreamMetadata) MarshalJSON() ([]byte, error) {
	object := make(map[string]any, len(m.Custom)+5)
	for key, value := range m.Custom {
		switch {
		case known[key]:
			return nil, argument("metadata: %q has a meaning for servers and does not belong into Custom", key)
		case !json.Valid(value):
			return nil, argument("metadata: what Custom has for %q is no JSON", key)
		}
		object[key] = value
	}
	age, ageErr := seconds("MaxAge", m.MaxAge)
	cache, cacheErr := seconds("CacheControl", m.CacheControl)
	switch {
	case m.MaxCount < 0:
		return nil, argument("metadata: MaxCount %d: want 0 for no limit, or more", m.MaxCount)
	case m.TruncateBefore < 0:
		return nil, argument("metadata: TruncateBefore %d: want 0 or more", m.TruncateBefore)
	case ageErr != nil || cacheErr != nil:
		return nil, errors.Join(ageErr, cacheErr)
	}
	for key, n := range map[string]int64{
		keyMaxCount: m.MaxCount, keyMaxAge: age, keyTruncateBefore: m.TruncateBefore, keyCacheControl: cache,
	} {
		if n > 0 {
			object[key] = n
		}
	}
	if m.ACL != nil {
		object[keyACL] = m.ACL
	}
	return json.Marshal(object)
}

func seconds(field string, d time.Duration) (int64, error) {
	if d < 0 || d%time.Second != 0 {
		return 0, argument("metadata: %s %v: want whole seconds, 0 or more", field, d)
	}
	return int64(d / time.Second), nil
}

// UnmarshalJSON reads metadata. A value of a wrong kind is an error: a server then takes all of the metadata as empty.
func (m *StreamMetadata) UnmarshalJSON(b []byte) error {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(b, &object); err != nil {
		return err
	}
	if object == nil {
		return errors.New("metadata are no JSON object")
	}
	var age, cache int64
	*m = StreamMetadata{Version: m.Version, Raw: m.Raw}
	for key, v := range map[string]any{
		keyMaxCount: &m.MaxCount, keyMaxAge: &age, keyTruncateBefore: &m.TruncateBefore, keyCacheControl: &cache,
		keyACL: &m.ACL, "$tmp": new(bool),
	} {
		raw, there := object[key]
		if !there {
			continue
		}
		if bytes.Equal(raw, []byte("null")) {
			return fmt.Errorf("%s is null", key)
		}
		if err := json.Unmarshal(raw, v); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		delete(object, key)
	}
	m.MaxAge, m.CacheControl = duration(age), duration(cache)
	m.MaxCount, m.TruncateBefore = max(m.MaxCount, 0), max(m.TruncateBefore, 0)
	if len(object) > 0 {
		m.Custom = object
	}
	return nil
}

// duration is that many seconds, as far as a Duration goes; a server ignores what is not positive.
func duration(seconds int64) time.Duration {
	const most = int64(math.MaxInt64 / time.Second)
	return time.Duration(min(max(seconds, 0), most)) * time.Second
}

// roles is a list of an ACL: a text when there is one of them, else an array.
type roles []string

func (r roles) MarshalJSON() ([]byte, error) {
	if len(r) == 1 {
		return json.Marshal(r[0])
	}
	return json.Marshal([]string(r))
}

func (r *roles) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil && !bytes.Equal(b, []byte("null")) {
		*r = roles{one}
		return nil
	}
	var several []*string
	if err := json.Unmarshal(b, &several); err != nil {
		return err
	}
	if several == nil {
		return errors.New("null where a role or a list of them is wanted")
	}
	*r = make(roles, 0, len(several))
	for _, s := range several {
		if s == nil {
			return errors.New("null where a role is wanted")
		}
		*r = append(*r, *s)
	}
	return nil
}

func (a *ACL) rights() map[string]*[]string {
	return map[string]*[]string{"$r": &a.Read, "$w": &a.Write, "$d": &a.Delete, "$mr": &a.MetaRead, "$mw": &a.MetaWrite}
}

// MarshalJSON returns the list as a server reads it: rights without a list are left out.
func (a ACL) MarshalJSON() ([]byte, error) {
	object := make(map[string]roles, 5)
	for key, list := range a.rights() {
		if *list != nil {
			object[key] = *list
		}
	}
	return json.Marshal(object)
}

// UnmarshalJSON reads a list; a right may have one role or an array of them.
func (a *ACL) UnmarshalJSON(b []byte) error {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(b, &object); err != nil {
		return err
	}
	*a = ACL{}
	rights := a.rights()
	for key, raw := range object {
		list, known := rights[key]
		if !known {
			return fmt.Errorf("%q is no right", key)
		}
		var r roles
		if err := r.UnmarshalJSON(raw); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		*list = r
	}
	return nil
}

// SystemSettings are the rights on streams whose metadata say nothing about them. What they leave out is everybody's for users'
// streams and the administrators' for those with a name that begins with $.
type SystemSettings struct {
	UserStreams   *ACL `json:"$userStreamAcl,omitempty"`
	SystemStreams *ACL `json:"$systemStreamAcl,omitempty"`
}

// Metadata returns what is said about a stream. For one without metadata that is nothing, with the Version NoStream, also when
// the stream itself does not exist; a hard-deleted stream is ErrStreamDeleted. Metadata that are not what a server reads
// are an error, and come back with their Version and Raw alone.
func (c *Client) Metadata(ctx context.Context, stream string, opts ...CallOption) (StreamMetadata, error) {
	m := StreamMetadata{Version: NoStream}
	if err := checkMetadataOf(stream); err != nil {
		return m, &OpError{Op: "read metadata", Stream: stream, Err: err}
	}
	e, err := c.ReadEvent(ctx, metaPrefix+stream, End, append(ReadOptions(opts), RawLinks())...)
	switch {
	case errors.Is(err, ErrStreamNotFound), errors.Is(err, ErrEventNotFound):
		return m, nil
	case err != nil:
		return m, renamed(err, "read metadata", stream)
	}
	record := e.Original()
	m.Version, m.Raw = ExpectedVersion(record.Number), record.Data
	err = json.Unmarshal(bytes.TrimPrefix(record.Data, []byte("\xef\xbb\xbf")), &m)
	if err != nil {
		err = fmt.Errorf("%w: version %d is not what a server reads as metadata, and counts as empty: %w", ErrMetadata, m.Version, err)
		return StreamMetadata{Version: m.Version, Raw: m.Raw}, &OpError{Op: "read metadata", Stream: stream, Err: err}
	}
	return m, nil
}

// SetMetadata replaces what is said about a stream, if its metadata are at the expected version; else the error is a
// *WrongVersionError. Whoever changes metadata that were read writes them back with their Version: keys that this client does
// not know stay as they are. It undeletes a soft-deleted stream, for which the server writes a second metadata event behind
// this one.
func (c *Client) SetMetadata(ctx context.Context, stream string, expected ExpectedVersion, m StreamMetadata, opts ...CallOption) (WriteResult, error) {
	err := checkMetadataOf(stream)
	var data []byte
	if err == nil {
		data, err = m.MarshalJSON()
	}
	if err != nil {
		return WriteResult{}, &OpError{Op: "set metadata", Stream: stream, Err: err}
	}
	return c.SetRawMetadata(ctx, stream, expected, data, opts...)
}

// SetRawMetadata is SetMetadata with the JSON as the caller has it, which is not looked at.
func (c *Client) SetRawMetadata(ctx context.Context, stream string, expected ExpectedVersion, data []byte, opts ...CallOption) (WriteResult, error) {
	if err := checkMetadataOf(stream); err != nil {
		return WriteResult{}, &OpError{Op: "set metadata", Stream: stream, Err: err}
	}
	result, err := c.Append(ctx, metaPrefix+stream, expected, []EventData{{Type: typeMetadata, JSON: true, Data: data}}, opts...)
	return result, renamed(err, "set metadata", stream)
}

func checkMetadataOf(stream string) error {
	if stream == "" {
		return argument("the stream's name is empty")
	}
	if strings.HasPrefix(stream, metaPrefix) {
		return argument("%q holds metadata itself, and has none", stream)
	}
	return nil
}

// renamed has the error of a step tell of the operation that the caller asked for.
func renamed(err error, op, stream string) error {
	var failed *OpError
	if errors.As(err, &failed) {
		failed.Op, failed.Stream = op, stream
	}
	return err
}

// changeMetadata reads the metadata of a stream and writes what change makes of them, from the start again when somebody else
// was faster. A change that returns false is none.
func (c *Client) changeMetadata(ctx context.Context, op, stream string, opts []CallOption, change func(*StreamMetadata) (bool, error)) (StreamMetadata, error) {
	for {
		m, err := c.Metadata(ctx, stream, opts...)
		if err != nil {
			return m, renamed(err, op, stream)
		}
		wanted, err := change(&m)
		if err != nil {
			return m, &OpError{Op: op, Stream: stream, Err: err}
		}
		if !wanted {
			return m, nil
		}
		result, err := c.SetMetadata(ctx, stream, m.Version, m, opts...)
		m.Version = result.Last
		if errors.Is(err, ErrWrongVersion) && !MaybeApplied(err) && ctx.Err() == nil {
			continue // every round somebody made a step
		}
		return m, renamed(err, op, stream)
	}
}

// TruncateBefore hides the events of a stream with numbers below this one, and keeps everything else that its metadata say. A
// stream that is truncated further already is left alone, so that of several that truncate the furthest counts. A scavenge
// removes hidden events for good. A soft-deleted stream is ErrStreamNotFound.
func (c *Client) TruncateBefore(ctx context.Context, stream string, number int64, opts ...CallOption) error {
	if number < 0 || number == softDeleted || number == softDeleted32 {
		return &OpError{Op: "truncate", Stream: stream, Err: argument("before number %d: want 0 to %d, and not %d; Delete hides a whole stream", number, int64(softDeleted-1), softDeleted32)}
	}
	_, err := c.changeMetadata(ctx, "truncate", stream, opts, func(m *StreamMetadata) (bool, error) {
		if m.SoftDeleted() {
			return false, ErrStreamNotFound
		}
		further := number > m.TruncateBefore
		m.TruncateBefore = max(m.TruncateBefore, number)
		return further, nil
	})
	return err
}

// Undelete brings a soft-deleted stream back with the events that it had, as far as no scavenge has removed them, and without
// the metadata that it had before it was deleted, which are lost. A stream that is not soft-deleted is left alone.
//
// It takes two writes: the first alone would leave the old events hidden, as a write to the stream does.
func (c *Client) Undelete(ctx context.Context, stream string, opts ...CallOption) error {
	deleted := false
	m, err := c.changeMetadata(ctx, "undelete", stream, opts, func(m *StreamMetadata) (bool, error) {
		deleted = m.SoftDeleted()
		m.TruncateBefore = 0
		return deleted, nil
	})
	if err != nil || !deleted {
		return err
	}
	// The server wrote them once more, with the number behind the last event as $tb.
	_, err = c.SetMetadata(ctx, stream, m.Version+1, m, opts...)
	if errors.Is(err, ErrWrongVersion) && !MaybeApplied(err) {
		return nil // what somebody else has said since counts
	}
	return renamed(err, "undelete", stream)
}

// SystemSettings returns the rights on streams whose metadata say nothing about them; nil lists where there are none.
func (c *Client) SystemSettings(ctx context.Context, opts ...CallOption) (SystemSettings, error) {
	var s SystemSettings
	e, err := c.ReadEvent(ctx, typeSettings, End, append(ReadOptions(opts), RawLinks())...)
	switch {
	case errors.Is(err, ErrStreamNotFound), errors.Is(err, ErrEventNotFound):
		return s, nil
	case err != nil:
		return s, renamed(err, "read settings", typeSettings)
	}
	if err := json.Unmarshal(e.Original().Data, &s); err != nil {
		err = fmt.Errorf("%w: they are not what a server reads, and count as empty: %w", ErrMetadata, err)
		return SystemSettings{}, &OpError{Op: "read settings", Stream: typeSettings, Err: err}
	}
	return s, nil
}

// SetSystemSettings replaces the rights on streams whose metadata say nothing about them. It is for administrators.
func (c *Client) SetSystemSettings(ctx context.Context, s SystemSettings, opts ...CallOption) error {
	data, err := json.Marshal(s)
	if err != nil {
		return &OpError{Op: "set settings", Stream: typeSettings, Err: err}
	}
	_, err = c.Append(ctx, typeSettings, Any, []EventData{{Type: typeSettings, JSON: true, Data: data}}, opts...)
	return renamed(err, "set settings", typeSettings)
}

// LastEvent returns the last event of a stream. A stream whose last event is hidden by its metadata is ErrEventNotFound, one that
// does not exist ErrStreamNotFound.
func (c *Client) LastEvent(ctx context.Context, stream string, opts ...ReadOption) (ResolvedEvent, error) {
	return c.ReadEvent(ctx, stream, End, opts...)
}

// StreamExists reports whether a stream can be read, if only as empty: it has been written to and is not deleted, softly or
// for ever.
func (c *Client) StreamExists(ctx context.Context, stream string, opts ...ReadOption) (bool, error) {
	// Not by ReadEvent: for some names that take the form of metadata it is a success without a stream (4.7).
	_, err := c.ReadSlice(ctx, stream, End, 1, append(opts[:len(opts):len(opts)], Backward(), RawLinks())...)
	if errors.Is(err, ErrStreamNotFound) || errors.Is(err, ErrStreamDeleted) {
		return false, nil
	}
	return err == nil, err
}
