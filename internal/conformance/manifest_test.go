package conformance_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	capturesDir  = "../../testdata/captures"
	manifestName = "manifest.tsv"
	readmeName   = "README.md"
)

// A mode is what is done with a recording.
type mode string

const (
	modeReplay mode = "replay" // its requests are sent to the embedded server, whose answers are compared
	// modeProjections is as replay, with a server whose system projections run: each request is sent when what was written
	// before it is indexed, as the probe waited for it.
	modeProjections mode = "projections"
	modeTimed       mode = "timed"     // as replay, in virtual time: when it was sent, and the answers must come when they did
	modeParse       mode = "parse"     // every answer in it is decoded, and no more
	modeCluster     mode = "cluster"   // as replay, to the nodes of an embedded cluster
	modeTimeline    mode = "timeline"  // the courses of what became of its requests are compared, of the nodes of an embedded cluster over time
	modeFailovers   mode = "failovers" // times of an embedded cluster's failovers are compared
	modeBursts      mode = "bursts"    // what became of writes that were under way when the leader was killed has to be something recorded
	modeGossip      mode = "gossip"    // what the nodes of an embedded cluster say of each other over time is compared
	modeHTTP        mode = "http"      // as replay, of requests and answers of HTTP, with a server whose projections run
)

// manifest is what testdata/captures/manifest.tsv says, whose comment describes its form.
type manifest struct {
	files []*recording
}

// recording is what the manifest says of one file.
type recording struct {
	path   string // below the folder of the manifest
	mode   mode
	outs   []leftOut
	words  []inWords
	races  []race
	owns   []own
	before []earlier
	bytes  []inBytes
	loose  time.Duration // how much earlier or later than recorded the server may be, beside the usual
	diffs  []expected

	chances []chance
}

// lineRange is a range of lines.
type lineRange struct{ from, to int }

func (r lineRange) has(n int) bool { return r.from <= n && n <= r.to }

// leftOut is a range of lines that the embedded server cannot play yet.
type leftOut struct {
	lineRange
	step int // of the work, that brings it
	why  string
}

func (o leftOut) String() string {
	return fmt.Sprintf("frames %d-%d, left out until step %d (%s)", o.from, o.to, o.step, o.why)
}

// inWords is a range of lines that can never be played, since the recording tells only in words what was sent, or that is
// set apart: it could be played.
type inWords struct {
	lineRange
	why   string
	apart bool
}

func (w inWords) String() string {
	if w.apart {
		return fmt.Sprintf("frames %d-%d, set apart (%s)", w.from, w.to, w.why)
	}
	return fmt.Sprintf("frames %d-%d, told in words (%s)", w.from, w.to, w.why)
}

// race is a range of answers to requests that were under way together: chance made what is in them, and their order.
type race struct {
	lineRange
	why string
}

func (r race) String() string { return fmt.Sprintf("frames %d-%d, a race (%s)", r.from, r.to, r.why) }

// own is a range of requests whose answers show what the recorded server itself has in its log, and this one has not.
type own struct {
	lineRange
	why string
}

func (o own) String() string {
	return fmt.Sprintf("frames %d-%d, a server's own (%s)", o.from, o.to, o.why)
}

// inBytes is what the recording tells only in words: bytes that the client sent behind a line, on its connection, one at
// a time.
type inBytes struct {
	n     int
	every float64 // ms
	bytes []byte
	why   string
}

// chance is an outcome of requests of one kind, in a recording of a cluster over time, that may be met or not.
type chance struct{ lane, outcome, why string }

// expected is a difference that is there for a reason.
type expected struct {
	difference // ours "*": whatever it is
	why        string
}

func (e expected) is(d difference) bool {
	return e.n == d.n && e.field == d.field && e.recorded == d.recorded && (e.ours == "*" || e.ours == d.ours)
}

func readManifest(dir string) (*manifest, error) {
	b, err := os.ReadFile(filepath.Join(dir, manifestName))
	if err != nil {
		return nil, err
	}
	m := &manifest{}
	at := 0
	for text := range strings.Lines(string(b)) {
		at++
		text = strings.TrimRight(text, "\r\n")
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		if err := m.entry(strings.Split(text, "\t")); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", manifestName, at, err)
		}
	}
	return m, m.complete(dir)
}

// kinds are those of the entries, and how many columns each has.
var kinds = []struct {
	name    string
	columns int
}{
	{"file", 3},
	{"out", 5},
	{"words", 4},
	{"apart", 4},
	{"loose", 4},
	{"race", 4},
	{"own", 4},
	{"before", 7},
	{"bytes", 6},
	{"diff", 7},
	{"chance", 5},
}

// columnsOf is how many columns entries of a kind have.
func columnsOf(kind string) (int, error) {
	var names []string
	for _, k := range kinds {
		if k.name == kind {
			return k.columns, nil
		}
		names = append(names, k.name)
	}
	return 0, fmt.Errorf("%q is neither %s", kind, strings.Join(names, " nor "))
}

// takes reports whether entries of a kind mean something for recordings of clusters over time, and in other modes.
func (m mode) takes(kind string) bool {
	switch m {
	case modeTimeline:
		return slices.Contains([]string{"words", "apart", "loose", "chance", "diff"}, kind)
	case modeGossip:
		return slices.Contains([]string{"loose", "chance", "diff"}, kind)
	case modeFailovers, modeBursts:
		return kind == "diff"
	default:
		return kind != "chance"
	}
}

func (m *manifest) entry(columns []string) error {
	kind, path := columns[0], ""
	if len(columns) > 1 {
		path = columns[1]
	}
	i := slices.IndexFunc(m.files, func(r *recording) bool { return r.path == path })
	switch want, err := columnsOf(kind); {
	case err != nil:
		return err
	case len(columns) != want:
		return fmt.Errorf("%s has %d columns, not %d", kind, want, len(columns))
	case slices.Contains(columns, ""):
		return fmt.Errorf("an empty column")
	case kind == "file" && i >= 0:
		return fmt.Errorf("%s is there twice", path)
	case kind == "file":
		r := &recording{path: path, mode: mode(columns[2])}
		m.files = append(m.files, r)
		if !slices.Contains([]mode{modeReplay, modeProjections, modeTimed, modeParse, modeCluster, modeTimeline, modeGossip, modeFailovers, modeBursts, modeHTTP}, r.mode) {
			return fmt.Errorf("%q is no mode", r.mode)
		}
		return nil
	case i < 0:
		return fmt.Errorf("%s has no line of its own yet", path)
	case m.files[i].mode == modeHTTP && !slices.Contains([]string{"out", "apart", "own", "before", "diff"}, kind):
		return fmt.Errorf("%s is of HTTP, where %s has no meaning", path, kind)
	case !m.files[i].mode.takes(kind):
		return fmt.Errorf("%s has mode %s, where %s has no meaning", path, m.files[i].mode, kind)
	case !slices.Contains([]mode{modeReplay, modeProjections, modeTimed, modeCluster, modeTimeline, modeGossip, modeFailovers, modeBursts, modeHTTP}, m.files[i].mode):
		return fmt.Errorf("%s is not replayed", path)
	}
	r := m.files[i]
	switch kind {
	case "out":
		return r.leaveOut(columns[2:])
	case "words":
		return r.tellInWords(columns[2:], false)
	case "apart":
		return r.tellInWords(columns[2:], true)
	case "loose":
		return r.loosen(columns[2:])
	case "race":
		return r.leaveToChance(columns[2:])
	case "own":
		return r.leaveToServer(columns[2:])
	case "before":
		return r.storeBefore(columns[2:])
	case "chance":
		r.chances = append(r.chances, chance{columns[2], columns[3], columns[4]})
		return nil
	case "bytes":
		return r.tellInBytes(columns[2:])
	default:
		return r.expect(columns[2:])
	}
}

// newRange reads a range that overlaps none that there is.
func (r *recording) newRange(column string) (lineRange, error) {
	from, to, isRange := strings.Cut(column, "-")
	if !isRange {
		to = from
	}
	var in lineRange
	var errs [2]error
	in.from, errs[0] = strconv.Atoi(from)
	in.to, errs[1] = strconv.Atoi(to)
	overlaps := func(other lineRange) bool { return in.from <= other.to && other.from <= in.to }
	switch {
	case errs != [2]error{}:
		return in, fmt.Errorf("%q: not a range of lines", column)
	case in.from > in.to:
		return in, fmt.Errorf("%s: no such range", column)
	case slices.ContainsFunc(r.outs, func(o leftOut) bool { return overlaps(o.lineRange) }),
		slices.ContainsFunc(r.words, func(w inWords) bool { return overlaps(w.lineRange) }),
		slices.ContainsFunc(r.races, func(c race) bool { return overlaps(c.lineRange) }),
		slices.ContainsFunc(r.owns, func(o own) bool { return overlaps(o.lineRange) }):
		return in, fmt.Errorf("%s overlaps another range", column)
	}
	return in, nil
}

func (r *recording) leaveOut(columns []string) error {
	in, err := r.newRange(columns[0])
	if err != nil {
		return err
	}
	step, err := strconv.Atoi(columns[1])
	if err != nil {
		return fmt.Errorf("%q: not a step", columns[1])
	}
	r.outs = append(r.outs, leftOut{in, step, columns[2]})
	return nil
}

func (r *recording) tellInWords(columns []string, apart bool) error {
	in, err := r.newRange(columns[0])
	r.words = append(r.words, inWords{in, columns[1], apart})
	return err
}

func (r *recording) loosen(columns []string) error {
	ms, err := strconv.Atoi(columns[0])
	r.loose = time.Duration(ms) * time.Millisecond
	return err
}

func (r *recording) leaveToChance(columns []string) error {
	in, err := r.newRange(columns[0])
	r.races = append(r.races, race{in, columns[1]})
	return err
}

func (r *recording) leaveToServer(columns []string) error {
	in, err := r.newRange(columns[0])
	r.owns = append(r.owns, own{in, columns[1]})
	return err
}

func (r *recording) tellInBytes(columns []string) error {
	said := inBytes{why: columns[3]}
	var errs [3]error
	said.n, errs[0] = strconv.Atoi(columns[0])
	said.every, errs[1] = strconv.ParseFloat(columns[1], 64)
	said.bytes, errs[2] = hex.DecodeString(columns[2])
	r.bytes = append(r.bytes, said)
	return errors.Join(errs[:]...)
}

func (r *recording) expect(columns []string) error {
	n, err := strconv.Atoi(columns[0])
	if err != nil {
		return err
	}
	e := expected{difference{n, columns[1], columns[2], columns[3]}, columns[4]}
	if slices.ContainsFunc(r.diffs, func(other expected) bool { return other.is(e.difference) }) {
		return fmt.Errorf("frame %d, %s: there twice", e.n, e.field)
	}
	r.diffs = append(r.diffs, e)
	return nil
}

// complete checks that every file has an entry and is told of in the README.md beside it, and that every entry has a file.
func (m *manifest) complete(dir string) error {
	var files []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == manifestName || d.Name() == readmeName {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		files = append(files, filepath.ToSlash(rel))
		return err
	})
	if err != nil {
		return err
	}
	for _, file := range files {
		if !slices.ContainsFunc(m.files, func(r *recording) bool { return r.path == file }) {
			return fmt.Errorf("%s is not in the manifest", file)
		}
	}
	for _, r := range m.files {
		if !slices.Contains(files, r.path) {
			return fmt.Errorf("%s is in the manifest, and there is no such file", r.path)
		}
		folder, name := path.Split(r.path)
		readme, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(folder), readmeName))
		if err != nil {
			return err
		}
		// A line of its table begins with the name.
		if !strings.Contains(string(readme), "\n| "+name+" |") {
			return fmt.Errorf("%s is not in the table of %s%s", name, folder, readmeName)
		}
	}
	return nil
}

// unlisted compares the differences that were found with those in the manifest.
func (r *recording) unlisted(found []difference) []string {
	var problems []string
	used := make([]bool, len(r.diffs))
	for _, d := range found {
		i := slices.IndexFunc(r.diffs, func(e expected) bool { return e.is(d) })
		if i < 0 {
			problems = append(problems, d.String())
			continue
		}
		used[i] = true
	}
	for i, e := range r.diffs {
		if !used[i] {
			problems = append(problems, "listed, and no difference any more: "+e.String())
		}
	}
	return problems
}
