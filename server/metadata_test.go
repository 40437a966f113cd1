package server

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/messages"
)

func parsed(json string) metadata {
	return *parseMetadata(&messages.EventRecord{ContentType: 1, Data: []byte(json)})
}

// TestParseMetadata: what a real server reads in metadata. A single value of a wrong kind makes all of them void.
func TestParseMetadata(t *testing.T) {
	tb2 := metadata{truncateBefore: 2}
	for json, want := range map[string]metadata{
		`{}`: {},
		`{"$maxCount":3,"$maxAge":60,"$tb":2,"$tmp":false,"$cacheControl":5,"x":[1,{"$tb":9}]}`: {maxCount: 3, maxAge: 60, truncateBefore: 2},
		`{"$maxCount":9223372036854775807}`:                                                     {maxCount: math.MaxInt64},
		`{"$tb":9223372036854775807}`:                                                           {truncateBefore: math.MaxInt64},
		`{"$maxAge":922337203685}`:                                                              {maxAge: maxSeconds},
		`{"$maxCount":0,"$maxAge":0,"$tb":2}`:                                                   tb2,
		`{"$maxCount":-9223372036854775808,"$maxAge":-1,"$tb":2}`:                               tb2,
		`{"$tb":-1,"$maxCount":1}`:                                                              {maxCount: 1},
		`{"$tb":-0,"$maxCount":1}`:                                                              {maxCount: 1},
		`{"$tb":1,"$tb":2}`:                                                                     tb2,
		`{"$tb":1,"\u0024tb":2}`:                                                                tb2,
		`{"$TB":5,"$tb":2}`:                                                                     tb2,
		"\ufeff \t\r\n\u00a0{\"$tb\":2}":                                                        tb2,
		`{"$tb":2} trailing`:                                                                    tb2,
		`{"$tb":2}}`:                                                                            tb2,
		"\x00{\x00\"$tb\"\x00:\x002\x00}":                                                       tb2,
		`{"$tb":2,"a":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `}`: tb2,

		// What is hardly JSON any more.
		`{"$tb":2,}`:          tb2,
		`{$tb:2,a_1$:0,1:1}`:  tb2,
		`{'$tb':2,"a":'x"y'}`: tb2,
		`{"$tb":0x2}`:         tb2,
		`{"$tb":0002}`:        tb2,
		`{"$tb":010}`:         {truncateBefore: 8},
		`{"$tb":0xFFFFFFFFFFFFFFFF,"$maxCount":1}`:                  {maxCount: 1},
		`{"$tb":2,"a":[1,,2,],"b":,"c":[,NaN,-Infinity,undefined]}`: tb2,
		`{"$tb":2,"a":[/* c */1,// c` + "\n" + `2/**/]}// end`:      tb2,
		`{"$tb":2,"a":[-.5,2.,1e5,1E-400,99999999999999999999]}`:    tb2,
		"{\"$tb\":2,\"a\":\"\\'\\/\\b\\u0000\t\n\x00\xff\\ud800\"}": tb2,

		// Void.
		``: {}, ` `: {}, `null`: {}, `[{"$tb":2}]`: {}, `"{"`: {}, `{`: {}, `{"$tb":2`: {}, `{"$tb":2]`: {},
		"\ufeff\ufeff{\"$tb\":2}": {}, "{\"$tb\":2\x1f}": {},
		`{"$tb":2,,}`: {}, `{,"$tb":2}`: {}, `{"a":1 "$tb":2}`: {}, `{"a":1;"$tb":2}`: {}, `{"$tb" 2}`: {}, `{"$tb"::2}`: {},
		`/* c */{"$tb":2}`: {}, `{/* c */"$tb":2}`: {}, `{"$tb":/* c */2}`: {}, `{"$tb":2/* c */}`: {}, `{"$tb"/* c */:2}`: {},
		`{"$tb":2,"a":/* c */1}`: {}, `{"$tb":2,"a":[/* c]}`: {}, `{"$tb":2,"a":[/]}`: {},
		`{"$tb":"2"}`: {}, `{"$tb":"x","$tb":2}`: {}, `{"$tb":2.0}`: {}, `{"$tb":2e0}`: {}, `{"$tb":null}`: {}, `{"$tb":true}`: {}, `{"$tb":[2]}`: {},
		`{"$tb":{"a":2}}`: {}, `{"$tb":9223372036854775808}`: {}, `{"$tb":+2}`: {}, `{"$tb":08}`: {}, `{"$tb":0x}`: {}, `{"$tb":0x10000000000000000}`: {},
		`{"$tb":2,"$maxCount":2.5}`: {}, `{"$tb":2,"$maxCount":-9223372036854775809}`: {}, `{"$tb":2,"$maxAge":922337203686}`: {},
		`{"$tb":2,"$maxAge":-922337203686}`: {}, `{"$tb":2,"$maxAge":-9223372036854775808}`: {}, `{"$tb":2,"$cacheControl":"1"}`: {},
		`{"$tb":2,"$cacheControl":922337203686}`: {}, `{"$tb":2,"$tmp":1}`: {}, `{"$tb":2,"$tmp":null}`: {}, `{"$tb":2,"$tmp":"true"}`: {},
		`{"$tb":2,"a":tru}`: {}, `{"$tb":2,"a":True}`: {}, `{"$tb":2,"a":NaNx}`: {}, `{"$tb":2,"a":1e400}`: {}, `{"$tb":2,"a":1-2}`: {},
		`{"$tb":2,"a":0x1g}`: {}, `{"$tb":2,"a":1e}`: {}, `{"$tb":2,"a":.}`: {}, `{"$tb":2,"a":-}`: {}, `{"$tb":2,"a":1_0}`: {}, `{"$tb":2,"a":²}`: {},
		`{"$tb":2,"a":[1 2]}`: {}, `{"$tb":2,"a":{"b":}}`: {}, `{"$tb":2,"a":}`: {}, `{"$tb":2,"a"}`: {}, `{"$tb":2,"a":[}`: {}, `{"$tb":2,"a":{]}`: {},
		`{"$tb":2,"a":"\x"}`: {}, `{"$tb":2,"a":"\u12"}`: {}, `{"$tb":2,"a":"\`: {}, `{"$tb":2,"a":"x`: {}, `{"$tb":2,:1}`: {}, `{"$tb":2,a b:1}`: {}, `{"$tb":2,a-b:1}`: {},

		// Access lists.
		`{"$tb":2,"$acl":{}}`: tb2,
		`{"$acl":{"$r":"a","$w":["b","c"],"$d":[],"$mr":"","$mw":['d',],}}`: {
			acl: accessList{{"a"}, {"b", "c"}, {}, {""}, {"d"}},
		},
		`{"$acl":{"$r":"x","$r":"a"}}`:          {acl: accessList{rightRead: {"a"}}},
		`{"$acl":{"$r":"x"},"$acl":{"$w":"b"}}`: {acl: accessList{rightWrite: {"b"}}},
		`{"$tb":2,"$acl":null}`:                 {},
		`{"$tb":2,"$acl":"a"}`:                  {},
		`{"$tb":2,"$acl":[]}`:                   {},
		`{"$tb":2,"$acl":{"x":1}}`:              {},
		`{"$tb":2,"$acl":{"x":"a"}}`:            {},
		`{"$tb":2,"$acl":{"x":{}}}`:             {},
		`{"$tb":2,"$acl":{"$r":null}}`:          {},
		`{"$tb":2,"$acl":{"$r":1,"$r":"a"}}`:    {},
		`{"$tb":2,"$acl":{"$r":["a",1]}}`:       {},
		`{"$tb":2,"$acl":{"$r":["a",null]}}`:    {},
		`{"$tb":2,"$acl":{"$r":[["a"]]}}`:       {},
		`{"$tb":2,"$acl":{"$r":[/* c */"a"]}}`:  {},
		`{"$tb":2,"$acl":{"$r":["a"`:            {},
		`{"$tb":2,"$acl":{"$r":["a"]`:           {},
	} {
		require.Equal(t, want, parsed(json), "%.80q", json)
	}
	require.Equal(t, noMetadata, parseMetadata(&messages.EventRecord{Data: []byte(`{"$tb":2}`)}), "not JSON by its own word")
}

// TestRewrittenMetadata: what a real server makes of metadata that it rewrites to bring a stream back.
func TestRewrittenMetadata(t *testing.T) {
	for json, want := range map[string]string{
		`{}`:                           `{"$tb":3}`,
		`{"a":1}`:                      `{"a":1,"$tb":3}`,
		`{"a":1,"$tb":5,"b":2}`:        `{"a":1,"$tb":3,"b":2}`,
		`{"\u0024tb":7}`:               `{"$tb":3}`,
		`{"a":1,"b":3,"a":2}`:          `{"a":2,"b":3,"$tb":3}`,
		"\t{ \"a\" : [ 1 , { } ] } \n": `{"a":[1,{}],"$tb":3}`,
		`{"a":[1,{"b":null,"c":[]}],"d":true,"e":""}`:           `{"a":[1,{"b":null,"c":[]}],"d":true,"e":"","$tb":3}`,
		`{"$maxCount":"x","$acl":{"x":1}}`:                      `{"$maxCount":"x","$acl":{"x":1},"$tb":3}`,
		`{a:1,'b':'c',}`:                                        `{"a":1,"b":"c","$tb":3}`,
		`{"a":[1,,2],"b":NaN,"c":undefined}`:                    `{"a":[1,undefined,2],"b":"NaN","c":undefined,"$tb":3}`,
		`{"a":0x10,"b":010,"c":-0}`:                             `{"a":16,"b":8,"c":0,"$tb":3}`,
		`/*x*/{/*x*/"a":1} /*x*/`:                               `{"a":1,"$tb":3}`,
		"{\"a\":\"\xff\"}":                                      "{\"a\":\"\ufffd\",\"$tb\":3}",
		`{"a":"x\u00e9\u2028<>&/\/\u007f\u0085\u00a0"}`:         "{\"a\":\"x\u00e9\\u2028<>&//\x7f\\u0085\u00a0\",\"$tb\":3}",
		`{"a":"\u0001\u001f\t\n\b\f\r\\\"'"}`:                   `{"a":"\u0001\u001f\t\n\b\f\r\\\"'","$tb":3}`,
		`{"a":"\ud83d\ude00\ud800\ud800x"}`:                     "{\"a\":\"\U0001f600\ufffd\ufffdx\",\"$tb\":3}",
		`{"a":[1.0,1.10,1e0,1e5,-0.0,.5,2.]}`:                   `{"a":[1.0,1.1,1.0,100000.0,0.0,0.5,2.0],"$tb":3}`,
		`{"a":[1e14,1e15,1e20,1.5e300,1e-4,1e-5,1E-7,1.25e-5]}`: `{"a":[100000000000000.0,1E+15,1E+20,1.5E+300,0.0001,1E-05,1E-07,1.25E-05],"$tb":3}`,
		`{"a":[1234567.891234567891,12345678901234567.0,-1.5]}`: `{"a":[1234567.8912345679,12345678901234568.0,-1.5],"$tb":3}`,
		`{"a":123456789012345678901234567890}`:                  `{"a":123456789012345678901234567890,"$tb":3}`,
		// Not rewritten.
		``: "", `x`: "", `[1]`: "", `{"a":1} x`: "", `{"a":1}{`: "", `{"a":1`: "", `{"a":}`: "", "\ufeff{\"a\":1}": "", `{"a":1]`: "", `/*`: "",
	} {
		got, ok := withTruncateBefore([]byte(json), 3)
		require.Equal(t, want, string(got), "%q", json)
		require.Equal(t, want != "", ok, "%q", json)
	}
}

// FuzzMetadata: nothing that is written as metadata may do more than not count, and what is rewritten can be read.
func FuzzMetadata(f *testing.F) {
	for _, seed := range []string{
		`{"$tb":2,"$acl":{"$r":["a"]},"a":[1.5,'x',{"b":null}]}`, "\ufeff{}", `{a:0x1,/*c*/"b":"\ud83d\ude00"}`, `[`, `{"a":,}`, `{"a":"\`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		_ = parsed(string(data))
		out, ok := withTruncateBefore(data, 7)
		if !ok {
			return
		}
		again, ok := withTruncateBefore(out, 7)
		require.True(t, ok, "%q", out)
		require.Equal(t, string(out), string(again))
	})
}
