package server

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/server/internal/store"
)

// link writes a link with these data.
func (p *peer) link(stream, data string) int64 {
	p.t.Helper()
	a := p.call(&messages.Append{Stream: stream, Expected: expectAny, Events: []messages.NewEvent{
		{ID: uuid.New(), Type: typeLink, Data: []byte(data)},
	}})
	var m messages.AppendCompleted
	require.NoError(p.t, m.Decode(a.body))
	require.Equal(p.t, messages.Success, m.Result)
	return m.First
}

// TestLinkData: what a real server makes of the data of a link.
func TestLinkData(t *testing.T) {
	for data, want := range map[string]struct {
		number int64
		stream string
	}{
		"1@s":                    {1, "s"},
		"0001@s":                 {1, "s"},
		" 1@s":                   {1, "s"},
		"1 @s":                   {1, "s"},
		"\t\n\v\f\r1 @s":         {1, "s"},
		"+1@s":                   {1, "s"},
		"-1@s":                   {-1, "s"},
		"-0@s":                   {0, "s"},
		"-2@s":                   {-2, "s"},
		"1\x00@s":                {1, "s"},
		"1 \x00\x00@s":           {1, "s"},
		"1@s ":                   {1, "s "},
		"1@s@x":                  {1, "s@x"},
		"1@\xff":                 {1, "\ufffd"},
		"1\x00 @s":               {},
		"\x00@s":                 {},
		"\u00a01@s":              {},
		"\u20031@s":              {},
		"\ufeff1@s":              {},
		"\u0661@s":               {},
		"\x1f1@s":                {},
		"\xff1@s":                {},
		"1.0@s":                  {},
		"1e0@s":                  {},
		"0x1@s":                  {},
		"1_0@s":                  {},
		"1,000@s":                {},
		"(1)@s":                  {},
		"- 1@s":                  {},
		"+-1@s":                  {},
		"1-@s":                   {},
		"99999999999999999999@s": {},
		"1@":                     {},
		"1":                      {},
		"@":                      {},
		"@s":                     {},
		"":                       {},
	} {
		number, stream, ok := parseLink([]byte(data))
		require.Equal(t, want.stream != "", ok, "%q", data)
		if ok {
			require.Equal(t, want.number, number, "%q", data)
			require.Equal(t, want.stream, stream, "%q", data)
		}
	}
}

// TestResolve: what cannot be read is a link without its target.
func TestResolve(t *testing.T) {
	n := run(t)
	p := n.peer(t)
	p.appended("s", expectNoStream, "abc")
	p.appended("soft", expectNoStream, "abc")
	p.delete("soft", expectAny, false)
	p.appended("hard", expectNoStream, "abc")
	p.delete("hard", expectAny, true)
	p.appended("truncated", expectNoStream, "abc")
	p.metadata("truncated", `{"$tb":1}`)
	p.appended("counted", expectNoStream, "abc")
	p.metadata("counted", `{"$maxCount":1}`)
	p.metadata("counted", `{"$maxCount":1 }`)
	p.link("linked", "0@s")
	for data, want := range map[string]struct {
		target string
		number int64
	}{
		"0@s":                      {"s", 0},
		"-1@s":                     {"s", 2},
		"-2@s":                     {"s", -1},
		"3@s":                      {"s", -1},
		"0@none":                   {"none", -1},
		"0@soft":                   {"soft", -1},
		"0@hard":                   {"hard", -1},
		"9223372036854775807@hard": {"hard", -1},
		"0@truncated":              {"truncated", -1},
		"1@truncated":              {"truncated", 1},
		"1@counted":                {"counted", -1},
		"2@counted":                {"counted", 2},
		"0@$$counted":              {"$$counted", -1},
		"1@$$counted":              {"$$counted", 1},
		"0@linked":                 {"linked", 0}, // one step only
		"0@$$":                     {"$$", -1},
		"0@$x":                     {"$x", -1},
		"x@s":                      {"", -1},
	} {
		stream := "to " + data
		p.link(stream, data)
		v := n.view()
		var r *store.Record
		require.NoError(t, v.store.Events(stream, 0, 0, v.at, func(found *store.Record) bool { r = found; return true }))
		got, err := v.resolve(r)
		require.NoError(t, err)
		require.Equal(t, want.target, got.target, data)
		require.Equal(t, r.Encoded, got.link, data)
		require.Equal(t, want.number >= 0, got.event != nil, data)
		if got.event != nil {
			var e messages.EventRecord
			require.NoError(t, e.Decode(got.event, nil))
			require.Equal(t, want.target, e.Stream, data)
			require.Equal(t, want.number, e.Number, data)
		}
	}
	v := n.view()
	require.NoError(t, v.store.Events("s", 0, 0, v.at, func(r *store.Record) bool {
		got, err := v.resolve(r)
		require.NoError(t, err)
		require.Equal(t, resolved{event: r.Encoded}, got)
		return true
	}))
}
