package server

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/server/internal/groups"
	"github.com/goeventstore/eventstore/server/internal/store"
)

// groupService runs the groups of persistent subscriptions (4.14): it brings to each what happens, reads for it and
// writes for it. What is decided is decided by the state machines of package groups.
//
// Whoever has something for a group, such as the ack of a session, comes with it under the lock, which is held for what a
// group works out and for the pages that it reads, never for a peer and never for the writer. What the writer commits, and
// the time, is brought by a goroutine.
type groupService struct {
	server *Server
	count  atomic.Int64 // groups: without any nobody looks further

	// wake tells the goroutine that there is news. Anyone sends without blocking, nobody closes it.
	wake chan struct{}
	news groupNews

	mu        sync.Mutex
	byKey     map[string]*group
	topics    map[string]*groupTopic
	byID      map[messages.ID][]*groupConsumer
	bySession map[*session][]*groupConsumer
	entries   []*group       // in the order of the event that keeps them
	deleting  map[string]int // deletions of the checkpoint of a group that are not committed yet
	kept      bool           // the event that keeps the groups is written, or on its way
	hungry    []*group       // have more pages to read than one turn has
}

// groupNews is what the writer tells. It is locked for a moment only.
type groupNews struct {
	mu      sync.Mutex
	watched map[string]*groupTopic
	written []*groupTopic // that have something to read
	done    []func()      // what to do under the service's lock for own writes that were answered
}

// groupTopic is a stream with groups.
type groupTopic struct {
	stream string
	groups []*group
	next   int64 // the number of the first event that the groups were not given, noNumber behind a tombstone
	marked bool  // it is among the written ones; the lock of the news guards it
}

// group is a group with its streams.
type group struct {
	*groups.Group
	service            *groupService
	topic              *groupTopic
	key                string
	parked, checkpoint string // the streams
}

const (
	maxGroups = 1000
	// groupTurn is how many pages are read for a group before others get their turn.
	groupTurn = 16
	groupTick = time.Second
)

func newGroupService(s *Server) *groupService {
	return &groupService{
		server: s, wake: make(chan struct{}, 1),
		news:  groupNews{watched: make(map[string]*groupTopic)},
		byKey: make(map[string]*group), topics: make(map[string]*groupTopic),
		byID: make(map[messages.ID][]*groupConsumer), bySession: make(map[*session][]*groupConsumer),
		deleting: make(map[string]int),
	}
}

// run brings the news and the time to the groups until the server is closed.
func (s *groupService) run() {
	var ticker *time.Ticker
	var tick <-chan time.Time
	for {
		switch some := s.count.Load() > 0; {
		case some && ticker == nil:
			ticker = time.NewTicker(groupTick)
			tick = ticker.C
		case !some && ticker != nil:
			ticker.Stop()
			ticker, tick = nil, nil
		}
		select {
		case <-s.wake:
			s.catchUp()
		case <-tick:
			s.tick()
		case <-s.server.stop:
			if ticker != nil {
				ticker.Stop()
			}
			return
		}
	}
}

// committed tells which streams have new events. For the writer.
func (s *groupService) committed(streams []string) {
	if s.count.Load() == 0 {
		return
	}
	s.news.mu.Lock()
	some := false
	for _, stream := range streams {
		if t := s.news.watched[stream]; t != nil && !t.marked {
			t.marked, some = true, true
			s.news.written = append(s.news.written, t)
		}
	}
	s.news.mu.Unlock()
	if some {
		signal(s.wake)
	}
}

// later has something done under the service's lock. For the writer, who does not wait for it.
func (s *groupService) later(do func()) {
	s.news.mu.Lock()
	s.news.done = append(s.news.done, do)
	s.news.mu.Unlock()
	signal(s.wake)
}

// catchUp does what the news are about.
func (s *groupService) catchUp() {
	s.news.mu.Lock()
	written, done := s.news.written, s.news.done
	s.news.written, s.news.done = nil, nil
	for _, t := range written {
		t.marked = false
	}
	s.news.mu.Unlock()

	s.mu.Lock()
	defer s.mu.Unlock()
	for _, do := range done {
		do()
	}
	v := s.server.view()
	for _, t := range written {
		s.feed(t, v)
	}
	hungry := s.hungry
	s.hungry = nil
	for _, g := range hungry {
		s.serve(g)
	}
}

func (s *groupService) tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.entries {
		g.Tick()
		s.serve(g)
	}
}

// feed gives the groups of a stream the events that were committed since they got the last ones.
func (s *groupService) feed(t *groupTopic, v view) {
	if t.next == noNumber {
		return
	}
	err := v.store.Events(t.stream, t.next, store.DeletedNumber, v.at, func(r *store.Record) bool {
		plain := groups.Event{Record: r}
		followed, known := plain, false
		for _, g := range t.groups {
			if !g.Settings().ResolveLinks {
				g.Live(plain)
				continue
			}
			if !known {
				followed, known = v.groupEvent(r, true), true
			}
			g.Live(followed)
		}
		t.next = r.Number + 1
		if r.Number == store.DeletedNumber {
			t.next = noNumber
		}
		return true
	})
	s.check(err)
}

// serve reads what a group wants.
func (s *groupService) serve(g *group) {
	for range groupTurn {
		r, ok := g.Wants()
		if !ok {
			return
		}
		v := s.server.view()
		// What is live for a group is what it was not given before the page was read, so that no event comes twice.
		s.feed(g.topic, v)
		stream, follow := g.topic.stream, g.Settings().ResolveLinks
		if r.Parked {
			stream, follow = g.parked, true
		}
		events, next, end, err := v.groupPage(stream, r, follow)
		if !s.check(err) {
			return
		}
		if r.Parked {
			g.ParkedPage(events, next, end)
		} else {
			g.Page(events, next, end)
		}
	}
	s.hungry = append(s.hungry, g)
	signal(s.wake)
}

// check logs that the store failed, and reports whether it did not. The writer will find out for itself.
func (s *groupService) check(err error) bool {
	if err != nil {
		s.server.log.LogAttrs(context.Background(), slog.LevelError, "a group could not read", slog.Any("err", err))
	}
	return err == nil
}

// groupPage reads a page for a group: as a read of the stream would have it, without any rights.
func (v view) groupPage(stream string, r groups.Read, follow bool) (events []groups.Event, next int64, end bool, err error) {
	if r.Count <= 0 {
		return nil, -1, true, nil
	}
	m := messages.StreamRead{Stream: stream, From: r.From, Count: int32(r.Count)}
	p, err := v.collect(&m, func(record *store.Record) {
		e := v.groupEvent(record, follow)
		e.Replayed = r.Parked
		events = append(events, e)
	})
	if text := readError(""); errors.As(err, &text) {
		return nil, -1, true, nil
	}
	return events, p.Next, p.EndOfStream, err
}

// groupEvent is an event as a group gets it.
func (v view) groupEvent(r *store.Record, follow bool) groups.Event {
	e := groups.Event{Record: r}
	if follow && r.Type == typeLink {
		e.Followed = true
		e.Target, _, _ = v.follow(r) // what cannot be read is delivered without it
	}
	return e
}

// find returns the group of a stream with a name, nil when there is none.
func (s *groupService) find(stream, name string) *group {
	g := s.byKey[groupKey(stream, name)]
	if g == nil || g.Settings().Stream != stream {
		return nil
	}
	return g
}

// groupKey is what a group is known by to its consumers.
func groupKey(stream, name string) string { return stream + "::" + name }

// add makes a group. Those of its stream that are there have all that it will find in the stream's history.
func (s *groupService) add(settings *groups.Settings) (*group, error) {
	key := groupKey(settings.Stream, settings.Group)
	g := &group{
		service: s, key: key,
		parked: "$persistentsubscription-" + key + "-parked", checkpoint: "$persistentsubscription-" + key + "-checkpoint",
	}
	t := s.topics[settings.Stream]
	if t == nil {
		// It is watched before the stream is looked at: what is committed in between is found by its number.
		t = &groupTopic{stream: settings.Stream, next: noNumber}
		s.watch(t)
		v := s.server.view()
		head, err := v.store.Head(t.stream, v.at)
		if err != nil {
			s.forget(t)
			return nil, err
		}
		if !head.Tombstoned {
			t.next = head.Last + 1
		}
	} else {
		s.feed(t, s.server.view())
	}
	checkpoint, err := s.lastCheckpoint(g)
	if err != nil {
		return nil, err
	}
	g.topic = t
	g.Group = groups.New(*settings, checkpoint, g, time.Now)
	g.Rules = s.server.dialect.groupRules()
	t.groups = append(t.groups, g)
	s.byKey[key] = g
	s.entries = append(s.entries, g)
	s.count.Store(int64(len(s.entries)))
	signal(s.wake) // for the ticks
	return g, nil
}

// remove ends a group.
func (s *groupService) remove(g *group) {
	g.Close()
	is := func(other *group) bool { return other == g }
	delete(s.byKey, g.key)
	s.entries = slices.DeleteFunc(s.entries, is)
	s.hungry = slices.DeleteFunc(s.hungry, is)
	s.count.Store(int64(len(s.entries)))
	if g.topic.groups = slices.DeleteFunc(g.topic.groups, is); len(g.topic.groups) == 0 {
		s.forget(g.topic)
	}
}

func (s *groupService) watch(t *groupTopic) {
	s.topics[t.stream] = t
	s.count.Add(1) // the writer looks from now on
	s.news.mu.Lock()
	s.news.watched[t.stream] = t
	s.news.mu.Unlock()
}

func (s *groupService) forget(t *groupTopic) {
	delete(s.topics, t.stream)
	s.count.Store(int64(len(s.entries)))
	s.news.mu.Lock()
	delete(s.news.watched, t.stream)
	s.news.mu.Unlock()
}

// take has messages of a group sent to somebody who is no consumer, and reports whether there is such a group.
func (s *groupService) take(stream, name string, n, bytes int) (taken []groups.Event, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.find(stream, name)
	if g == nil {
		return nil, false
	}
	return g.Take(n, bytes), true
}

// ack ends messages of a consumer.
func (s *groupService) ack(key []byte, of messages.ID, ids []uuid.UUID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.byKey[string(key)]; g != nil {
		g.Ack(groups.ID(of), ids)
		s.serve(g)
	}
}

// nak does with messages of a consumer what it wants.
func (s *groupService) nak(key []byte, of messages.ID, ids []uuid.UUID, action groups.Action, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.byKey[string(key)]; g != nil {
		g.Nak(groups.ID(of), ids, action, text)
		s.serve(g)
	}
}

// stats returns the statistics of a group.
func (s *groupService) stats(stream, name string) (groups.Stats, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.find(stream, name)
	if g == nil {
		return groups.Stats{}, false
	}
	return g.Stats(), true
}

// allStats returns the statistics of all groups of a stream, or of all streams for "", one stream after the other.
func (s *groupService) allStats(stream string) []groups.Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []groups.Stats
	seen := make(map[*groupTopic]bool)
	for _, g := range s.entries {
		if seen[g.topic] || (stream != "" && g.topic.stream != stream) {
			continue
		}
		seen[g.topic] = true
		for _, same := range g.topic.groups {
			all = append(all, same.Stats())
		}
	}
	return all
}
