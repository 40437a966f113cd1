package conformance_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const (
	capturesDir  = "../../testdata/captures"
	manifestName = "manifest.tsv"
)

// A mode is what is done with a recording.
type mode string

const (
	modeReplay  mode = "replay"  // its requests are sent to the embedded server, whose answers are compared
	modeParse   mode = "parse"   // every answer in it is decoded, and no more
	modeCluster mode = "cluster" // as parse, until there is a cluster to play it to
)

// manifest is what testdata/captures/manifest.tsv says, whose comment describes its form.
type manifest struct {
	files []*recording
}

// recording is what the manifest says of one file.
type recording struct {
	path  string // below the folder of the manifest
	mode  mode
	outs  []leftOut
	diffs []expected
}

// leftOut is a range of lines that the embedded server cannot play yet.
type leftOut struct {
	from, to int
	step     int // of the work, that brings it
	why      string
}

func (o leftOut) String() string {
	return fmt.Sprintf("frames %d-%d, left out until step %d (%s)", o.from, o.to, o.step, o.why)
}

func (o leftOut) has(n int) bool { return o.from <= n && n <= o.to }

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

func (m *manifest) entry(columns []string) error {
	kind, path := columns[0], ""
	if len(columns) > 1 {
		path = columns[1]
	}
	i := slices.IndexFunc(m.files, func(r *recording) bool { return r.path == path })
	switch want := map[string]int{"file": 3, "out": 5, "diff": 7}[kind]; {
	case want == 0:
		return fmt.Errorf("%q is neither file nor out nor diff", kind)
	case len(columns) != want:
		return fmt.Errorf("%s has %d columns, not %d", kind, want, len(columns))
	case slices.Contains(columns, ""):
		return fmt.Errorf("an empty column")
	case kind == "file" && i >= 0:
		return fmt.Errorf("%s is there twice", path)
	case kind == "file":
		r := &recording{path: path, mode: mode(columns[2])}
		m.files = append(m.files, r)
		if r.mode != modeReplay && r.mode != modeParse && r.mode != modeCluster {
			return fmt.Errorf("%q is no mode", r.mode)
		}
		return nil
	case i < 0:
		return fmt.Errorf("%s has no line of its own yet", path)
	case m.files[i].mode != modeReplay:
		return fmt.Errorf("%s is not replayed", path)
	case kind == "out":
		return m.files[i].leaveOut(columns[2:])
	default:
		return m.files[i].expect(columns[2:])
	}
}

func (r *recording) leaveOut(columns []string) error {
	from, to, isRange := strings.Cut(columns[0], "-")
	if !isRange {
		to = from
	}
	out := leftOut{why: columns[2]}
	var errs [3]error
	out.from, errs[0] = strconv.Atoi(from)
	out.to, errs[1] = strconv.Atoi(to)
	out.step, errs[2] = strconv.Atoi(columns[1])
	switch {
	case errs != [3]error{}:
		return fmt.Errorf("%q, %q: not a range of lines and a step", columns[0], columns[1])
	case out.from > out.to:
		return fmt.Errorf("%s: no such range", columns[0])
	case slices.ContainsFunc(r.outs, func(o leftOut) bool { return o.has(out.from) || o.has(out.to) || out.has(o.from) }):
		return fmt.Errorf("%s overlaps another range", columns[0])
	}
	r.outs = append(r.outs, out)
	return nil
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

// complete checks that every file has an entry, and every entry a file.
func (m *manifest) complete(dir string) error {
	var files []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == manifestName || d.Name() == "README.md" {
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
