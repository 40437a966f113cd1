package conformance_test

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/server"
)

// TestEntriesMustBeTrue: what is left out although it could be played, or listed although there is no difference, fails.
func TestEntriesMustBeTrue(t *testing.T) {
	problems := func(path string, change func(*recording)) []string {
		rec, lines := recorded(t, path)
		change(rec)
		p := newPlayer(t, eventstoretest.Run(t, eventstoretest.ForceEmbedded()), rec, lines)
		p.wait = 3 * time.Second
		p.play()
		return append(p.problems, rec.unlisted(nil)...)
	}
	out := func(from, to int) func(*recording) {
		return func(r *recording) {
			r.outs, r.diffs = append(r.outs, leftOut{lineRange{from, to}, 3, "no reason"}), nil
		}
	}
	require.Equal(t, []string{
		"frames 36-41, left out until step 3 (no reason): the server answers frame 37 (ReadEvent) now, with ReadEventCompleted: delete the entry",
		"frames 36-41, left out until step 3 (no reason): the server answers frame 40 (ReadEvent) now, with ReadEventCompleted: delete the entry",
	}, problems(basic, out(36, 41)))
	require.Equal(t, []string{"frames 1-2, left out until step 3 (no reason): there is no request"}, problems(basic, out(1, 2)))
	require.Equal(t, []string{"listed, and no difference any more: frame 14: message: recorded absent, ours \"\""},
		problems("cluster-4.1.4/identify.jsonl", func(r *recording) {
			r.diffs = append(r.diffs, expected{difference{14, "message", absent, `""`}, "no reason"})
		}))
}

// TestEntryOfACommandWithoutAnAnswer: that the server takes it now shows in that nothing is refused.
func TestEntryOfACommandWithoutAnAnswer(t *testing.T) {
	lines, err := parseVectors([]byte("connection\n> 12000000c30000000000000000000000000000000004\n" +
		"> 170000000300000102030405060708090a0b0c0d0e0f68656c6c6f\n< 170000000400000102030405060708090a0b0c0d0e0f68656c6c6f\n"))
	require.NoError(t, err)
	rec := &recording{outs: []leftOut{{lineRange{2, 2}, 5, "no reason"}}}
	p := newPlayer(t, eventstoretest.Run(t, eventstoretest.ForceEmbedded()), rec, lines)
	p.play()
	require.Empty(t, p.found)
	require.Equal(t, []string{
		"frames 2-2, left out until step 5 (no reason): the server takes frame 2 (UnsubscribeFromStream) now, delete the entry",
	}, p.problems)
}

// TestAServersOwn: what is a server's own is answered and not compared, and an entry that leaves nothing out fails.
func TestAServersOwn(t *testing.T) {
	play := func(owns ...own) *player {
		rec, lines := recorded(t, basic)
		rec.owns = owns
		at(t, lines, 38).body = at(t, lines, 44).body // another answer to ReadEvent
		p := newPlayer(t, eventstoretest.Run(t, eventstoretest.ForceEmbedded()), rec, lines)
		p.play()
		return p
	}
	at38 := func(p *player) (found []difference) {
		for _, d := range p.found {
			if d.n == 38 {
				found = append(found, d)
			}
		}
		return found
	}
	p := play(own{lineRange{64, 64}, "w"})
	require.NotEmpty(t, at38(p))
	require.Empty(t, p.problems)
	p = play(own{lineRange{37, 37}, "w"}, own{lineRange{40, 40}, "same"}, own{lineRange{64, 64}, "w"})
	require.Empty(t, at38(p))
	require.Equal(t, []string{"frames 40-40, a server's own (same): nothing differs, delete the entry"}, p.problems)
}

// TestPlacesInsideOfRecords: a position that is inside of a record is one in ours, in requests and in texts.
func TestPlacesInsideOfRecords(t *testing.T) {
	k := newLearned()
	x := exchange{}
	require.True(t, k.position(x, 1000, 300))
	ours, ok := k.inside(1001)
	require.True(t, ok)
	require.EqualValues(t, 301, ours)
	require.True(t, k.position(x, 1001, 301))
	_, ok = k.inside(1000 + insideOf + 1)
	require.False(t, ok)
	require.True(t, k.placedText(x, []byte("at actual pos 1001 of 7"), []byte("at actual pos 301 of 7")))
	require.False(t, k.placedText(x, []byte("at actual pos 1001 of 7"), []byte("at actual pos 302 of 7")))
	require.False(t, k.placedText(x, []byte("at actual pos 1001 of 7"), []byte("at actual pos 301 of 8")))
	require.False(t, k.placedText(x, []byte("at actual pos 1001"), []byte("at actual place 301")))
}

// TestCutFrames are made whole if the hash says that they are right.
func TestCutFrames(t *testing.T) {
	const line = `{"n": 1, "conn": "a", "dir": "c2s", "cmd": 130, "name": "WriteEvents", "flags": 0, ` +
		`"corr": "546981117bad09518ba015d6de3970f1", "auth": null, "payload": "0a0178", "payload_cut": true, "payload_len": 9, "payload_sha256": "`
	sum := sha256.Sum256([]byte("\x0a\x01xxx\x32\x00\x20\x01"))
	lines, err := parseJSONL([]byte(line + hex.EncodeToString(sum[:]) + `"}`))
	require.NoError(t, err)
	require.Equal(t, "\x0a\x01xxx\x32\x00\x20\x01", string(lines[0].body))
	_, err = parseJSONL([]byte(line + `00"}`))
	require.EqualError(t, err, "line 1: the rest of 9 bytes is not known")
}

// TestManifestIsComplete: a file without an entry, an entry without a file, and an entry that says nothing fail.
func TestManifestIsComplete(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"good": {"# said\n\nfile\ta/b.jsonl\treplay\nout\ta/b.jsonl\t1-2\t3\twhy\ndiff\ta/b.jsonl\t1\tresult\tx\t*\twhy\n" +
			"words\ta/b.jsonl\t3\twhy\nbytes\ta/b.jsonl\t4\t0.5\t00ff\twhy\n", ""},
		"no entry":            {"# nothing\n", "a/b.jsonl is not in the manifest"},
		"no file":             {"file\ta/b.jsonl\tparse\nfile\tc.jsonl\tparse\n", "c.jsonl is in the manifest, and there is no such file"},
		"twice":               {"file\ta/b.jsonl\tparse\nfile\ta/b.jsonl\tparse\n", "manifest.tsv:2: a/b.jsonl is there twice"},
		"no mode":             {"file\ta/b.jsonl\tplay\n", `manifest.tsv:1: "play" is no mode`},
		"mode missing":        {"file\ta/b.jsonl\n", "manifest.tsv:1: file has 3 columns, not 2"},
		"no reason":           {"file\ta/b.jsonl\treplay\nout\ta/b.jsonl\t1-2\t3\t\n", "manifest.tsv:2: an empty column"},
		"no such kind":        {"fil\ta/b.jsonl\tparse\n", `manifest.tsv:1: "fil" is neither file nor out nor words nor apart nor loose nor race nor own nor before nor bytes nor diff nor chance`},
		"not replayed":        {"file\ta/b.jsonl\tparse\nout\ta/b.jsonl\t1-2\t3\twhy\n", "manifest.tsv:2: a/b.jsonl is not replayed"},
		"out without a file":  {"out\ta/b.jsonl\t1-2\t3\twhy\n", "manifest.tsv:1: a/b.jsonl has no line of its own yet"},
		"overlap":             {"file\ta/b.jsonl\treplay\nout\ta/b.jsonl\t1-5\t3\tw\nout\ta/b.jsonl\t2-3\t3\tw\n", "manifest.tsv:3: 2-3 overlaps another range"},
		"backward":            {"file\ta/b.jsonl\treplay\nout\ta/b.jsonl\t5-2\t3\twhy\n", "manifest.tsv:2: 5-2: no such range"},
		"no range":            {"file\ta/b.jsonl\treplay\nout\ta/b.jsonl\tall\t3\twhy\n", `manifest.tsv:2: "all": not a range of lines`},
		"no step":             {"file\ta/b.jsonl\treplay\nout\ta/b.jsonl\t5\tx\twhy\n", `manifest.tsv:2: "x": not a step`},
		"no range of words":   {"file\ta/b.jsonl\ttimed\nwords\ta/b.jsonl\tall\twhy\n", `manifest.tsv:2: "all": not a range of lines`},
		"own overlaps":        {"file\ta/b.jsonl\ttimed\nown\ta/b.jsonl\t2-3\tw\nrace\ta/b.jsonl\t1-5\tw\n", "manifest.tsv:3: 1-5 overlaps another range"},
		"words overlap":       {"file\ta/b.jsonl\ttimed\nout\ta/b.jsonl\t2-3\t3\tw\nwords\ta/b.jsonl\t1-5\tw\n", "manifest.tsv:3: 1-5 overlaps another range"},
		"a race of words":     {"file\ta/b.jsonl\ttimed\nwords\ta/b.jsonl\t2-3\tw\nrace\ta/b.jsonl\t3-4\tw\n", "manifest.tsv:3: 3-4 overlaps another range"},
		"before it":           {"file\ta/b.jsonl\tprojections\nbefore\ta/b.jsonl\ta-1 $$a-2\tt\t{}\t-\twhy\n", ""},
		"before the time":     {"file\ta/b.jsonl\ttimed\nbefore\ta/b.jsonl\ta\tt\t-\t-\twhy\n", "manifest.tsv:2: nothing can be stored before a/b.jsonl is played"},
		"bytes that are none": {"file\ta/b.jsonl\treplay\nbytes\ta/b.jsonl\t1\t5\t0\twhy\n", "manifest.tsv:2: encoding/hex: odd length hex string"},
		"chance by frames":    {"file\ta/b.jsonl\treplay\nchance\ta/b.jsonl\ta\tb\tw\n", "manifest.tsv:2: a/b.jsonl has mode replay, where chance has no meaning"},
		"a race over time":    {"file\ta/b.jsonl\ttimeline\nrace\ta/b.jsonl\t1-2\tw\n", "manifest.tsv:2: a/b.jsonl has mode timeline, where race has no meaning"},
		"chance over time":    {"file\ta/b.jsonl\tgossip\nchance\ta/b.jsonl\ta\tb\tw\n", ""},
		"the same difference": {"file\ta/b.jsonl\treplay\ndiff\ta/b.jsonl\t1\tf\tx\ty\tw\ndiff\ta/b.jsonl\t1\tf\tx\ty\tw\n", "manifest.tsv:3: frame 1, f: there twice"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			require.NoError(t, os.Mkdir(filepath.Join(dir, "a"), 0o700))
			for file, text := range map[string]string{"a/b.jsonl": "", "a/README.md": "|---|---|\n| b.jsonl | what |\n", "README.md": ""} {
				require.NoError(t, os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600))
			}
			require.NoError(t, os.WriteFile(filepath.Join(dir, manifestName), []byte(c.text), 0o600))
			_, err := readManifest(dir)
			if c.want == "" {
				require.NoError(t, err)
			} else {
				require.EqualError(t, err, c.want)
			}
		})
	}
}

// TestReadmesTell: a recording that the README.md beside it does not have in its table fails.
func TestReadmesTell(t *testing.T) {
	for name, text := range map[string]string{"not a word": "", "another": "\n| ab.jsonl | what |\n", "by the way": "b.jsonl is there"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, text := range map[string]string{"b.jsonl": "", readmeName: text, manifestName: "file\tb.jsonl\tparse\n"} {
				require.NoError(t, os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600))
			}
			_, err := readManifest(dir)
			require.EqualError(t, err, "b.jsonl is not in the table of README.md")
		})
	}
	m, err := readManifest(capturesDir)
	require.NoError(t, err)
	for path, want := range map[string]mode{
		"cluster-4.1.4/bad-frames.jsonl": modeReplay, "cluster-4.1.4/heartbeat.jsonl": modeTimed, "eventstore-4.1.4/idle-and-bad.jsonl": modeTimed,
	} {
		i := slices.IndexFunc(m.files, func(r *recording) bool { return r.path == path })
		require.NotEqual(t, -1, i, path)
		require.Equal(t, want, m.files[i].mode, path)
	}
}

// TestRawFramesCanBeLeftOut: bytes that are one frame are asked for like any request, and nothing is asked for the others.
func TestRawFramesCanBeLeftOut(t *testing.T) {
	lines, err := parseJSONL([]byte(`{"n": 1, "event": "connected", "conn": "a"}
{"n": 2, "conn": "a", "dir": "c2s", "raw": "120000000300546981117bad09518ba015d6de3970f1", "rawlen": 22, "note": "a ping"}
{"n": 3, "conn": "a", "dir": "s2c", "cmd": 4, "name": "Pong", "flags": 0, "corr": "546981117bad09518ba015d6de3970f1", "auth": null, "payload": ""}
{"n": 4, "conn": "a", "dir": "c2s", "raw": "1200000003", "rawlen": 5, "note": "no frame"}
{"n": 5, "conn": "a", "dir": "c2s", "raw": "12000000d200c766c804b33869c20e1ed1173cae8dc5", "rawlen": 22, "note": "FilteredSubscribeToStream, empty payload"}
`))
	require.NoError(t, err)
	rec := &recording{outs: []leftOut{{lineRange{2, 2}, 3, "a"}, {lineRange{4, 5}, 3, "b"}}}
	p := newPlayer(t, eventstoretest.Run(t, eventstoretest.ForceEmbedded()), rec, lines)
	p.play()
	require.Empty(t, p.found)
	require.Equal(t, []string{"frames 2-2, left out until step 3 (a): the server answers frame 2 (Ping) now, with Pong: delete the entry"}, p.problems)

	_, err = parseJSONL([]byte(`{"n": 1, "conn": "a", "dir": "c2s", "raw": "1200", "rawlen": 22, "note": "not all of it"}`))
	require.EqualError(t, err, "line 1: 2 bytes, and rawlen is 22")
}

// TestToldInWords: what is told in words is left out or sent in bytes, and an entry that does neither fails.
func TestToldInWords(t *testing.T) {
	t.Parallel() // it waits for what does not come
	lines, err := parseJSONL([]byte(`{"n": 1, "ms": 0, "event": "connected", "conn": "a"}
{"n": 2, "ms": 1, "event": "step", "what": "a ping, byte by byte"}
{"n": 3, "ms": 90, "conn": "a", "dir": "s2c", "cmd": 4, "name": "Pong", "flags": 0, "corr": "546981117bad09518ba015d6de3970f1", "auth": null, "payload": ""}
{"n": 4, "ms": 91, "event": "write of one event with 1 MiB of data"}
{"n": 5, "ms": 92, "event": "connection ended", "conn": "a", "how": "client closed", "rest": ""}
`))
	require.NoError(t, err)
	play := func(rec *recording) *player {
		p := newPlayer(t, eventstoretest.Run(t, eventstoretest.ForceEmbedded()), rec, lines)
		p.wait = 3 * time.Second
		p.play()
		return p
	}
	b, err := hex.DecodeString("120000000300546981117bad09518ba015d6de3970f1")
	require.NoError(t, err)
	p := play(&recording{words: []inWords{{lineRange{4, 4}, "w", false}}, bytes: []inBytes{{1, 1, b, "w"}}})
	require.Empty(t, p.problems)
	require.Empty(t, p.found)
	require.Equal(t, 1, p.compared)

	p = play(&recording{words: []inWords{{lineRange{2, 2}, "w", false}}, bytes: []inBytes{{2, 1, b, "w"}}})
	require.Equal(t, []string{
		"bytes behind line 2: it has no connection", "line 4 is nothing that can be played, and not left out",
		"frames 2-2, told in words (w): there is nothing to leave out",
	}, p.problems)
	require.Equal(t, []difference{{3, "frame", "Pong", none}}, p.found)
}

// TestRaces: what chance made is not compared, but that there is an answer is, and of which kind. An entry that leaves
// nothing to chance fails.
func TestRaces(t *testing.T) {
	t.Parallel() // it waits for what does not come
	lines, err := parseJSONL([]byte(`{"n": 1, "event": "connected", "conn": "a"}
{"n": 2, "conn": "a", "dir": "c2s", "cmd": 3, "name": "Ping", "flags": 0, "corr": "546981117bad09518ba015d6de3970f1", "auth": null, "payload": "01"}
{"n": 3, "conn": "a", "dir": "s2c", "cmd": 4, "name": "Pong", "flags": 0, "corr": "546981117bad09518ba015d6de3970f1", "auth": null, "payload": "02"}
{"n": 4, "conn": "a", "dir": "s2c", "cmd": 4, "name": "Pong", "flags": 0, "corr": "546981117bad09518ba015d6de3970f1", "auth": null, "payload": "01"}
{"n": 5, "conn": "a", "dir": "c2s", "cmd": 3, "name": "Ping", "flags": 0, "corr": "00006981117bad09518ba015d6de3970", "auth": null, "payload": "01"}
{"n": 6, "conn": "a", "dir": "s2c", "cmd": 131, "name": "WriteEventsCompleted", "flags": 0, "corr": "00006981117bad09518ba015d6de3970", "auth": null, "payload": "01"}
`))
	require.NoError(t, err)
	rec := &recording{races: []race{{lineRange{3, 6}, "w"}, {lineRange{1, 2}, "none"}}}
	p := newPlayer(t, eventstoretest.Run(t, eventstoretest.ForceEmbedded()), rec, lines)
	p.wait = 3 * time.Second
	p.play()
	require.Equal(t, []string{"frames 1-2, a race (none): there is no answer"}, p.problems)
	require.Equal(t, []difference{{4, "frame", "Pong", none}, {6, "command", "WriteEventsCompleted", "Pong 01"}}, p.found)
}

// TestHTTPInARecording: its answers are compared, and what came of it may stand before it.
func TestHTTPInARecording(t *testing.T) {
	lines, err := parseJSONL([]byte(`{"n": 1, "event": "connected", "conn": "a"}
{"n": 2, "event": "http", "request": "POST /users/", "auth": ["admin", "changeit"], "body_sent": "{\"loginName\": \"x\", \"password\": \"y\"}", "status": 201, "reason": "Created", "headers": {"Location": "http://127.0.0.1:2123/users/x", "Content-Type": "application/json; charset=utf-8"}, "body": "{\"loginName\": \"x\", \"success\": true, \"error\": \"Success\", \"msgTypeId\": 0}"}
{"n": 3, "conn": "a", "dir": "c2s", "cmd": 3, "name": "Ping", "flags": 1, "corr": "546981117bad09518ba015d6de3970f1", "auth": ["x", "y"], "payload": ""}
{"n": 4, "conn": "a", "dir": "s2c", "cmd": 4, "name": "Pong", "flags": 0, "corr": "546981117bad09518ba015d6de3970f1", "auth": null, "payload": ""}
`))
	require.NoError(t, err)
	p := newPlayer(t, newServed(t, server.Config{}), &recording{}, lines)
	p.play()
	require.Empty(t, p.problems)
	require.Len(t, p.found, 1)
	require.Equal(t, "body.msgTypeId", p.found[0].field)

	p = newPlayer(t, newServed(t, server.Config{HTTP: server.Off}), &recording{}, lines[:2])
	p.play()
	require.Equal(t, []string{"line 2 is of HTTP, which the server has not"}, p.problems)
}
