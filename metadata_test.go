package eventstore_test

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
)

func TestMetadataAsJSON(t *testing.T) {
	for text, m := range map[string]eventstore.StreamMetadata{
		`{}`: {},
		`{"$cacheControl":60,"$maxAge":3600,"$maxCount":7,"$tb":9223372036854775807}`: {
			MaxCount: 7, MaxAge: time.Hour, TruncateBefore: math.MaxInt64, CacheControl: time.Minute,
		},
		`{"$acl":{}}`: {ACL: &eventstore.ACL{}},
		`{"$acl":{"$d":[],"$mr":["a","b"],"$mw":"c","$r":"$all","$w":"$admins"}}`: {ACL: &eventstore.ACL{
			Read: []string{eventstore.RoleAll}, Write: []string{eventstore.RoleAdmins}, Delete: []string{},
			MetaRead: []string{"a", "b"}, MetaWrite: []string{"c"},
		}},
		`{"$mine":null,"n":1.50}`: {Custom: map[string]json.RawMessage{"$mine": json.RawMessage("null"), "n": json.RawMessage("1.50")}},
	} {
		b, err := json.Marshal(m)
		require.NoError(t, err)
		require.Equal(t, text, string(b))
		var back eventstore.StreamMetadata
		require.NoError(t, json.Unmarshal(b, &back))
		require.Equal(t, m, back)
	}
}

func TestMetadataThatAServerReads(t *testing.T) {
	for text, want := range map[string]eventstore.StreamMetadata{
		`{"$maxCount":0,"$maxAge":-5,"$tb":-1}`: {},
		`{"$maxCount":1,"$maxCount":2}`:         {MaxCount: 2},
		`{"$tmp":true}`:                         {},
		`{"$acl":{"$r":["a"]}}`:                 {ACL: &eventstore.ACL{Read: []string{"a"}}},
		`{"$maxAge":9223372036854775807}`:       {MaxAge: 9223372036 * time.Second},
	} {
		var m eventstore.StreamMetadata
		require.NoError(t, json.Unmarshal([]byte(text), &m), text)
		require.Equal(t, want, m, text)
	}
}

// A single value of a wrong kind makes all of the metadata void for a server: whoever reads them must hear of it.
func TestMetadataThatAreVoid(t *testing.T) {
	for _, text := range []string{
		``, `[]`, `null`, `7`, `{"$maxCount":"3"}`, `{"$maxCount":2.5}`, `{"$maxCount":1e0}`, `{"$maxCount":null}`, `{"$tb":null}`,
		`{"$maxAge":true}`, `{"$tmp":1}`, `{"$acl":null}`, `{"$acl":"a"}`, `{"$acl":{"$r":["a"],"other":1}}`, `{"$acl":{"$r":null}}`, `{"$acl":{"$r":7}}`,
		`{"$acl":{"$w":["a",null]}}`, `{"$acl":{"$w":["a",1]}}`, `{"$maxCount":99999999999999999999}`,
	} {
		var m eventstore.StreamMetadata
		require.Error(t, json.Unmarshal([]byte(text), &m), text)
	}
}

// TestSoftDeletedByAnOlderServer: one before 4.0 writes another number as $tb, and such streams used to count as there.
func TestSoftDeletedByAnOlderServer(t *testing.T) {
	c := embedded(t)
	ctx := t.Context()
	_, err := c.Append(ctx, "s", eventstore.NoStream, []eventstore.EventData{{Type: "t"}, {Type: "t"}})
	require.NoError(t, err)
	_, err = c.SetRawMetadata(ctx, "s", eventstore.NoStream, []byte(`{"$tb":2147483647}`))
	require.NoError(t, err)
	m, err := c.Metadata(ctx, "s")
	require.NoError(t, err)
	require.True(t, m.SoftDeleted())
	require.ErrorIs(t, c.TruncateBefore(ctx, "s", 1), eventstore.ErrStreamNotFound)
	require.NoError(t, c.Undelete(ctx, "s"))
	slice, err := c.ReadSlice(ctx, "s", eventstore.Start, 10)
	require.NoError(t, err)
	require.Len(t, slice.Events, 2)
	require.ErrorIs(t, c.TruncateBefore(ctx, "s", math.MaxInt32), eventstore.ErrArgument, "that would be a delete there")
}

func TestMetadataThatAreRefused(t *testing.T) {
	c := embedded(t)
	ctx := t.Context()
	for want, m := range map[string]eventstore.StreamMetadata{
		"MaxCount -1":           {MaxCount: -1},
		"TruncateBefore -1":     {TruncateBefore: -1},
		"MaxAge 1.5s":           {MaxAge: 1500 * time.Millisecond},
		"CacheControl -1s":      {CacheControl: -time.Second},
		`"$maxCount" has`:       {Custom: map[string]json.RawMessage{"$maxCount": json.RawMessage("1")}},
		`for "mine" is no JSON`: {Custom: map[string]json.RawMessage{"mine": json.RawMessage("{")}},
	} {
		_, err := c.SetMetadata(ctx, "s", eventstore.Any, m)
		require.ErrorContains(t, err, want)
	}
	for _, stream := range []string{"", "$$s", "$$$$s"} {
		_, err := c.Metadata(ctx, stream)
		require.ErrorIs(t, err, eventstore.ErrArgument, stream)
		_, err = c.SetRawMetadata(ctx, stream, eventstore.Any, []byte("{}"))
		require.ErrorIs(t, err, eventstore.ErrArgument, stream)
	}
}
