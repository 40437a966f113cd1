package store_test

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/server/internal/store"
)

// look is what one method told, and how it ended.
type look struct {
	what string
	told []string
	err  error
}

// looks asks a store everything as of a position, one method after the other.
func looks(s store.Store, names []string, at int64) (all []look) {
	add := func(what string, read func(take func(*store.Record) bool) error) {
		l := look{what: what}
		l.err = read(func(r *store.Record) bool { l.told = append(l.told, told(r)); return true })
		all = append(all, l)
	}
	for _, name := range names {
		h, err := s.Head(name, at)
		l := look{"the head of " + name, []string{fmt.Sprintf("%+v", h)}, err}
		if err != nil {
			l.told = nil
		}
		all = append(all, l)
		add(name, func(take func(*store.Record) bool) error { return s.Events(name, 0, store.DeletedNumber, at, take) })
		add(name+" backward", func(take func(*store.Record) bool) error {
			return s.EventsBackward(name, 0, store.DeletedNumber, at, take)
		})
	}
	add("the log", func(take func(*store.Record) bool) error { return s.Log(store.Position{}, at, take) })
	add("the log backward", func(take func(*store.Record) bool) error {
		return s.LogBackward(store.Position{Commit: math.MaxInt64}, at, take)
	})
	return all
}

// image is a file with many commits, events larger than a page, what a scavenge leaves, and pages that are free; and what it
// tells as of its last commit and as of the one before.
type image struct {
	file     []byte
	pageSize int
	names    []string
	told     map[store.Tip][]look
}

func newImage(t *testing.T) image {
	t.Helper()
	folder := t.TempDir()
	d := openDisk(t, folder)
	l := &log{t: t, Store: d, end: 100}
	m := image{told: make(map[store.Tip][]look)}
	for i := range 12 {
		m.names = append(m.names, fmt.Sprint("s", i))
	}
	for n := range int64(8) {
		for i, name := range m.names {
			position := l.end
			l.end += 10
			require.NoError(t, l.Stage(l.end, store.Record{
				Stream: name, Number: n, ID: id(name, n), Type: "t", Commit: position, Prepare: position,
				Encoded: slices.Repeat([]byte{byte(i + 1)}, 1+i*int(n)*120),
			}))
		}
		l.commit()
	}
	l.scavenge(func(r *store.Record) bool { return r.Stream < "s2" && r.Number < 5 })
	m.told[d.Tip()] = looks(d, m.names, d.Tip().Commit)
	l.stage("s1", 8)
	l.commit()
	m.told[d.Tip()] = looks(d, m.names, d.Tip().Commit)
	m.pageSize = d.PageSize()
	require.NoError(t, d.Close())
	var err error
	m.file, err = os.ReadFile(filepath.Join(folder, store.DiskFile))
	require.NoError(t, err)
	return m
}

// TestDamagedFilesAreNeverReadHalf zeroes each page of a file, and cuts it before each. It is refused in words, or it is what it
// was as of its last commit, or the one before, but for what ends with an error: nothing is left out in silence, nothing
// panics, and writing to it does not make it worse.
func TestDamagedFilesAreNeverReadHalf(t *testing.T) {
	m := newImage(t)
	pages := len(m.file) / m.pageSize
	require.Greater(t, pages, 50)
	outcomes := make(map[string]int)
	for page := range pages {
		zeroed := slices.Clone(m.file)
		clear(zeroed[page*m.pageSize : (page+1)*m.pageSize])
		outcomes["zeroed: "+m.open(t, zeroed)]++
		outcomes["cut: "+m.open(t, m.file[:page*m.pageSize])]++
		require.False(t, t.Failed(), "page %d", page)
	}
	t.Logf("%d pages of %d bytes, %v", pages, m.pageSize, outcomes)
	require.Positive(t, outcomes["zeroed: whole"], "pages that are free")
	require.Positive(t, outcomes["zeroed: errors"])
	require.Positive(t, outcomes["zeroed: refused"])
	require.Positive(t, outcomes["cut: refused"])
	require.Zero(t, outcomes["cut: errors"])
}

// open says what became of a damaged image.
func (m *image) open(t *testing.T, file []byte) string {
	t.Helper()
	folder := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(folder, store.DiskFile), file, 0o600))
	d, err := store.OpenDisk(folder, 100)
	if err != nil {
		require.ErrorIs(t, err, store.ErrDamaged)
		require.ErrorContains(t, err, folder)
		return "refused"
	}
	defer func() { require.NoError(t, d.Close()) }()
	tip := d.Tip()
	is := m.compare(t, d, tip)
	for _, name := range []string{"s5", "s0", "new"} {
		if err := write(d, name); err != nil {
			require.ErrorIs(t, err, store.ErrDamaged)
			require.NoError(t, d.Rollback())
		}
	}
	require.Equal(t, is, m.compare(t, d, tip), "behind a write")
	return is
}

// write adds an event to a stream.
func write(d *store.Disk, name string) error {
	h, err := d.Head(name, store.Staged)
	if err != nil {
		return err
	}
	end := d.Tip().End
	if err := d.Stage(end+10, store.Record{Stream: name, Number: h.Last + 1, Commit: end, Prepare: end}); err != nil {
		return err
	}
	return d.Commit()
}

// compare holds what a damaged image tells against what the whole one did.
func (m *image) compare(t *testing.T, d *store.Disk, tip store.Tip) string {
	t.Helper()
	want := m.told[tip]
	require.NotNil(t, want, "of another moment: %v", tip)
	is := "whole"
	for i, got := range looks(d, m.names, tip.Commit) {
		if got.err == nil {
			require.Equal(t, want[i], got)
			continue
		}
		is = "errors"
		require.ErrorIs(t, got.err, store.ErrDamaged)
		if len(got.told) > 0 { // what came before the error is right
			require.LessOrEqual(t, len(got.told), len(want[i].told))
			require.Equal(t, want[i].told[:len(got.told)], got.told)
		}
	}
	return is
}
