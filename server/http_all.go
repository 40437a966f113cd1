package server

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/server/internal/store"
)

// allPage tells of some events of the whole log.
func (c *httpCall) allPage(p pageRequest) httpAnswer {
	if c.media == mediaDescription {
		return c.description(allStreams)
	}
	m := messages.AllRead{Commit: -1, Prepare: -1, Backward: p.backward, ResolveLinks: true}
	if p.from != "" && (p.from != "head" || !p.backward) {
		at, ok := parsePosition(p.from)
		if !ok {
			return badRequest("Invalid position argument: %s", p.from)
		}
		m.Commit, m.Prepare = at.Commit, at.Prepare
	}
	var ok bool
	if m.Count, ok = p.size(); !ok {
		return badRequest("Invalid count argument: %s", p.count)
	}
	if _, refusal := c.flag(headerRequireMaster, false); refusal != nil {
		return *refusal
	}
	page, events, err := c.readAllPage(&m)
	last := c.view().at
	switch {
	case errors.Is(err, errDenied), errors.Is(err, errTargetDenied):
		return denied
	case err != nil:
		return failed(c.reader().errorText(err))
	case c.unchanged(last):
		return httpAnswer{status: http.StatusNotModified, media: mediaPlain}
	}
	header := changing(last, c.media)
	if full := len(events) == int(m.Count); full && !p.backward || p.backward && m.Commit >= 0 && m.Commit <= last {
		header = c.fixed(allStreams)
	}
	return httpAnswer{status: http.StatusOK, media: c.media, header: header, body: encodeIndented(c.allFeed(&m, page, events))}
}

// maxPageTail is more than what follows the events of a page.
const maxPageTail = 64

// readAllPage reads as ReadAllEvents does.
func (c *httpCall) readAllPage(m *messages.AllRead) (p *messages.AllPage, events []messages.ResolvedEvent, err error) {
	s := c.reader()
	r := allReader{view: c.view(), left: m.Count, may: s.readableBy(c.user)}
	at := *m
	if at.Commit == -1 {
		at.Commit, at.Prepare = r.end, r.end
	}
	if err := s.refusedAll(&at, c.user); err != nil {
		return nil, nil, err
	}
	r.page = messages.AllPage{Commit: at.Commit, Prepare: at.Prepare, NextCommit: at.Commit, NextPrepare: at.Prepare}
	r.b = r.page.AppendHead(nil)
	if err := r.read(&at); err != nil {
		return nil, nil, err
	}
	if len(r.b) > messages.MaxFrame-maxPageTail {
		return nil, nil, readError(textPageTooLarge)
	}
	p = &messages.AllPage{}
	if err := p.Decode(r.page.AppendTo(r.b)); err != nil {
		return nil, nil, err
	}
	var names messages.Names
	err = p.Each(&names, func(e *messages.ResolvedEvent) bool {
		events = append(events, *e)
		return true
	})
	return p, events, err
}

func (c *httpCall) allFeed(m *messages.AllRead, p *messages.AllPage, events []messages.ResolvedEvent) *feed {
	self := c.link("/streams/%24all")
	count := strconv.FormatInt(int64(m.Count), 10)
	at := func(commit, prepare int64, way string) string {
		return self + "/" + hexPosition(store.Position{Commit: commit, Prepare: prepare}) + "/" + way + "/" + count
	}
	f := &feed{
		Title: "All events", ID: self, Author: theAuthor, Updated: updated(events, 0), Entries: c.entries(events, !m.Backward),
		Links: []feedLink{{self, "self"}, {self + "/head/backward/" + count, "first"}},
	}
	full := len(events) == int(m.Count)
	older, newer := full, true
	olderFrom, newerFrom := at(p.NextCommit, p.NextPrepare, "backward"), at(p.Commit, p.Prepare, "forward")
	if !m.Backward {
		f.Updated = updated(events, len(events)-1)
		older, newer = p.Commit != 0, full || len(events) > 0
		olderFrom, newerFrom = at(p.Commit, p.Prepare, "backward"), at(p.NextCommit, p.NextPrepare, "forward")
	}
	if older {
		f.Links = append(f.Links, feedLink{at(0, 0, "forward"), "last"}, feedLink{olderFrom, "next"})
	}
	if newer {
		f.Links = append(f.Links, feedLink{newerFrom, "previous"})
	}
	f.Links = append(f.Links, feedLink{self + "/metadata", "metadata"})
	return f
}

// hexPosition is a place in the log as a path has it.
func hexPosition(p store.Position) string { return fmt.Sprintf("%016X%016X", p.Commit, p.Prepare) }

func parsePosition(text string) (p store.Position, ok bool) {
	const half = 16
	if len(text) != 2*half {
		return p, false
	}
	var errs [2]error
	p.Commit, errs[0] = strconv.ParseInt(text[:half], 16, 64)
	p.Prepare, errs[1] = strconv.ParseInt(text[half:], 16, 64)
	return p, errs == [2]error{} && p.Commit >= 0 && p.Prepare >= 0
}
