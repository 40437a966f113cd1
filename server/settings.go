package server

import (
	"strings"

	"github.com/goeventstore/eventstore/messages"
)

// settingsStream has the default access lists in its last event (5.4).
const settingsStream = "$settings"

// settings are the access lists of streams that have none of their own, complete. They never change.
type settings struct {
	user, system accessList
}

// builtInSettings hold until there are others, and for what those leave out.
var builtInSettings = &settings{user: forAll(roleAll), system: forAll(roleAdmins)}

// forAll gives every right to one role.
func forAll(role string) (a accessList) {
	for r := range a {
		a[r] = []string{role}
	}
	return a
}

// of returns the list for a stream of this name.
func (d *settings) of(stream string) *accessList {
	if strings.HasPrefix(stream, "$") {
		return &d.system
	}
	return &d.user
}

// parseSettings reads the data of a settings event. As with metadata a single value of a wrong kind makes all of it void.
// Whether the event says that it is JSON does not matter here.
func parseSettings(data []byte) *settings {
	var given settings
	if !given.parse(newJSONReader(data)) {
		return builtInSettings
	}
	given.user.complete(&builtInSettings.user)
	given.system.complete(&builtInSettings.system)
	return &given
}

func (d *settings) parse(r *jsonReader) bool {
	if !r.is(jsonObject) {
		return false
	}
	for r.is(jsonMember) {
		var ok bool
		switch r.text {
		case "$userStreamAcl":
			ok = d.user.parse(r)
		case "$systemStreamAcl":
			ok = d.system.parse(r)
		default:
			ok = r.skipValue()
		}
		if !ok {
			return false
		}
	}
	return r.kind == jsonObjectEnd
}

// complete takes from another list what this one says nothing about.
func (a *accessList) complete(from *accessList) {
	for r := range a {
		if a[r] == nil {
			a[r] = from[r]
		}
	}
}

// loadSettings takes up the last event of $settings. For the writer.
func (s *Server) loadSettings() error {
	v := s.view()
	head, err := v.store.Head(settingsStream, v.at)
	if err != nil {
		return err
	}
	loaded := builtInSettings
	if head.Last >= 0 && !head.Tombstoned {
		var e messages.EventRecord
		if e, err = v.eventRecord(settingsStream, head.Last); err != nil {
			return err
		}
		loaded = parseSettings(e.Data)
	}
	s.settings.Store(loaded)
	return nil
}
