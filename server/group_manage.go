package server

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/server/internal/groups"
)

// groupResult is how a request about a group ends, by its name in HTTP (6.6).
type groupResult string

const (
	groupSuccess       groupResult = "Success"
	groupAlreadyExists groupResult = "AlreadyExists"
	groupDoesNotExist  groupResult = "DoesNotExist"
	groupFail          groupResult = "Fail"
	groupAccessDenied  groupResult = "AccessDenied"
)

// wire is the result's number (3.1).
func (r groupResult) wire() byte {
	switch r {
	case groupAlreadyExists, groupDoesNotExist:
		return 1
	case groupFail:
		return 2
	case groupAccessDenied:
		return 3
	default:
		return 0
	}
}

// groupDone is called once with the result: at once when it is a refusal, else by the writer when the change is committed.
// It must not block.
type groupDone func(result groupResult, reason string)

// What a refusal says (4.14).
const (
	textCreateDenied = "You do not have permissions to create streams" // a delete says it too
	textUpdateDenied = "You do not have permissions to update the subscription"
	textReplayDenied = "You do not have permissions to replay messages"
	textBadStream    = "Bad stream name."
	textTooMany      = "There are too many groups."
	textNotKept      = "The groups could not be stored: "
)

// The stream that keeps the groups, and what is in it (5.1).
const (
	groupsStream        = "$persistentSubscriptionConfig"
	groupsMetadata      = `{"$maxCount":2}`
	typeGroups          = "PersistentConfig1"
	typeGroupCheckpoint = "SubscriptionCheckpoint"
	groupsVersion       = "2"
	parkedMetadata      = `{"$tb":%,"$acl":{"$r":"$admins","$w":"$admins","$d":"$admins","$mr":"$admins","$mw":"$admins"}}`
)

func noSuchGroup(name string) string { return "Group '" + name + "' does not exist." }

// mayManage reports whether u may create, update, delete and replay.
func (s *groupService) mayManage(u *user) bool {
	if s.server.dialect.generation >= generation50 {
		return u.operates()
	}
	return s.server.allowed(u, settingsStream, rightWrite)
}

// create makes a new group.
func (s *groupService) create(u *user, settings *groups.Settings, done groupDone) {
	if !s.mayManage(u) {
		done(groupAccessDenied, textCreateDenied)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch wrong := settings.Check(); {
	case s.byKey[groupKey(settings.Stream, settings.Group)] != nil:
		done(groupAlreadyExists, "Group '"+settings.Group+"' already exists.")
	case settings.Stream == "" || settings.Stream == allStreams:
		done(groupFail, textBadStream)
	case !groups.KnownStrategy(settings.Strategy):
		done(groupFail, "Consumer strategy "+settings.Strategy+" does not exist.")
	case wrong != "":
		done(groupFail, wrong)
	case len(s.entries) >= maxGroups:
		done(groupFail, textTooMany)
	default:
		s.replace(u, nil, settings, done)
	}
}

// update makes a group anew with other settings; it goes on behind its checkpoint.
func (s *groupService) update(u *user, settings *groups.Settings, done groupDone) {
	if !s.mayManage(u) {
		done(groupAccessDenied, textUpdateDenied)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.find(settings.Stream, settings.Group)
	switch wrong := settings.Check(); {
	case g == nil:
		done(groupDoesNotExist, noSuchGroup(settings.Group))
	case !groups.KnownStrategy(settings.Strategy):
		done(groupFail, "Consumer strategy "+settings.Strategy+" does not exist.")
	case wrong != "":
		done(groupFail, wrong)
	default:
		s.replace(u, g, settings, done)
	}
}

// replace puts a group in the place of another, or of none.
func (s *groupService) replace(u *user, old *group, settings *groups.Settings, done groupDone) {
	var unfinished []groups.Event
	if old != nil {
		unfinished = old.Unfinished()
		s.remove(old)
	}
	g, err := s.add(settings)
	if !s.check(err) {
		done(groupFail, textReadFailed)
		return
	}
	g.Resume(unfinished)
	s.serve(g)
	s.keep(u, done)
}

// delete ends a group, its checkpoint and its parked messages.
func (s *groupService) delete(u *user, stream, name string, done groupDone) {
	if !s.mayManage(u) {
		done(groupAccessDenied, textCreateDenied)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.find(stream, name)
	if g == nil {
		done(groupDoesNotExist, noSuchGroup(name))
		return
	}
	s.remove(g)
	s.deleting[g.key]++
	s.server.deleteSoon(g.checkpoint, expectAny, func(*messages.AppendCompleted) {
		s.later(func() {
			if s.deleting[g.key]--; s.deleting[g.key] == 0 {
				delete(s.deleting, g.key)
			}
		})
	})
	s.server.deleteSoon(g.parked, expectAny, func(*messages.AppendCompleted) {})
	s.keep(u, done)
}

// keptGroups is the data of the event that keeps the groups.
type keptGroups struct {
	Version   string            `json:"version"`
	Updated   string            `json:"updated"`
	UpdatedBy string            `json:"updatedBy,omitempty"`
	Entries   []groups.Settings `json:"entries"`
}

// keep writes which groups there are.
func (s *groupService) keep(u *user, done groupDone) {
	kept := keptGroups{Version: groupsVersion, Updated: jsonTime(s.server.now()), Entries: []groups.Settings{}}
	if u != nil {
		kept.UpdatedBy = u.login
	}
	for _, g := range s.entries {
		kept.Entries = append(kept.Entries, *g.Settings())
	}
	bounded := s.server.dialect.generation > generation394 // an older server keeps all of them
	if bounded && !s.kept && !s.exists(groupsStream) {
		metadata := jsonEvent(typeMetadata, []byte(groupsMetadata))
		s.server.writeSoon(metaPrefix+groupsStream, expectAny, metadata, func(*messages.AppendCompleted) {})
	}
	s.kept = true
	s.server.writeSoon(groupsStream, expectAny, jsonEvent(typeGroups, encodeIndented(&kept)), func(a *messages.AppendCompleted) {
		if a.Result != messages.Success {
			done(groupFail, textNotKept+a.Message)
			return
		}
		done(groupSuccess, "")
	})
}

// exists reports whether a stream has events to read.
func (s *groupService) exists(stream string) bool {
	info, err := s.server.view().info(stream)
	return s.check(err) && info.exists()
}

// jsonTime is a time as a real server writes it.
func jsonTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.9999999+00:00") }

// load makes the groups that the log keeps. Nobody uses the service yet.
func (s *groupService) load() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, event, err := s.server.view().event(groupsStream, -1)
	if err != nil || event == nil {
		return err
	}
	s.kept = true
	var kept keptGroups
	if err := json.Unmarshal(dataOf(event.Encoded), &kept); err != nil {
		return err
	}
	for i := range kept.Entries {
		settings := &kept.Entries[i]
		if settings.Strategy == "" { // of version 1
			settings.Strategy = groups.DispatchToSingle
			if settings.RoundRobin {
				settings.Strategy = groups.RoundRobin
			}
		}
		if !groups.KnownStrategy(settings.Strategy) || settings.Check() != "" || s.byKey[groupKey(settings.Stream, settings.Group)] != nil {
			continue
		}
		g, err := s.add(settings)
		if err != nil {
			return err
		}
		s.serve(g)
	}
	return nil
}

// lastCheckpoint reads a group's checkpoint, nil when it has none.
func (s *groupService) lastCheckpoint(g *group) (*int64, error) {
	if s.deleting[g.key] > 0 {
		return nil, nil
	}
	_, event, err := s.server.view().event(g.checkpoint, -1)
	if err != nil || event == nil || event.Type != typeGroupCheckpoint {
		return nil, err
	}
	return parseCheckpoint(dataOf(event.Encoded)), nil
}

// parseCheckpoint reads a checkpoint, nil for what is none: a real server's group stays without a beginning then.
func parseCheckpoint(data []byte) *int64 {
	number, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
	if err != nil || number < 0 {
		return nil
	}
	return &number
}

// Checkpoint implements groups.Outputs.
func (g *group) Checkpoint(number int64) {
	e := jsonEvent(typeGroupCheckpoint, strconv.AppendInt(nil, number, 10))
	g.service.server.writeSoon(g.checkpoint, expectAny, e, func(*messages.AppendCompleted) {
		g.service.later(g.CheckpointWritten)
	})
}

// parkedMessage is the metadata of a parked message.
type parkedMessage struct {
	Added  string `json:"added"`
	Reason string `json:"reason"`
	Number int64  `json:"subscriptionEventNumber,omitempty"`
}

// Park implements groups.Outputs. The entry is a link to what the message is about, or a copy of the link that led nowhere.
func (g *group) Park(m *groups.Message) {
	s := g.service
	e := messages.NewEvent{Type: typeLink}
	if subject := m.Subject(); m.Followed && m.Target == nil {
		e.Data = dataOf(subject.Encoded)
	} else {
		e.Data = []byte(strconv.FormatInt(subject.Number, 10) + "@" + subject.Stream)
	}
	e.Metadata = encodeIndented(&parkedMessage{Added: jsonTime(s.server.now()), Reason: m.Reason(), Number: m.Number()})
	s.server.writeSoon(g.parked, expectAny, e, func(a *messages.AppendCompleted) {
		written := a.Result == messages.Success
		s.later(func() {
			g.Parked(m, written)
			s.serve(g)
		})
	})
}

// Replayed implements groups.Outputs.
func (g *group) Replayed(before int64) {
	data := strings.Replace(parkedMetadata, "%", strconv.FormatInt(before, 10), 1)
	g.service.server.writeSoon(metaPrefix+g.parked, expectAny, jsonEvent(typeMetadata, []byte(data)), func(*messages.AppendCompleted) {})
}

// replay sends the parked messages of a group again, those before a number in the parked stream, or all for a negative one.
func (s *groupService) replay(u *user, stream, name string, stopAt int64) (groupResult, string) {
	if !s.mayManage(u) {
		return groupAccessDenied, textReplayDenied
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.find(stream, name)
	if g == nil {
		return groupDoesNotExist, "Unable to locate '" + groupKey(stream, name) + "'"
	}
	v := s.server.view()
	info, err := v.info(g.parked)
	if !s.check(err) {
		return groupFail, textReadFailed
	}
	if info.exists() {
		before := info.last + 1
		if stopAt >= 0 {
			before = min(before, stopAt)
		}
		g.Replay(before)
		s.serve(g)
	}
	return groupSuccess, ""
}
