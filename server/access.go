package server

import (
	"context"
	"log/slog"
	"slices"
	"strings"
)

// right is one of the things that an access control list governs (5.4).
type right uint8

const (
	rightRead right = iota
	rightWrite
	rightDelete
	rightMetaRead
	rightMetaWrite
	rights // how many there are
)

// allStreams is the name that the log as a whole has for the rights.
const allStreams = "$all"

// The roles with a meaning of their own (5.4).
const (
	roleAll    = "$all" // in a list: everybody, anonymous too
	roleAdmins = "$admins"
	roleOps    = "$ops"
)

// accessList is who has each right. A nil list says nothing about it; an empty one leaves it to the administrators.
type accessList [rights][]string

// aclKeys are the keys of $acl, by the right that they are about.
var aclKeys = [rights]string{"$r", "$w", "$d", "$mr", "$mw"}

// parse reads the value of $acl. Of double ones the last counts, and it says nothing of what it does not name; a key that
// is none of these is a mistake.
func (a *accessList) parse(r *jsonReader) bool {
	*a = accessList{}
	if !r.is(jsonObject) {
		return false
	}
	for r.is(jsonMember) {
		of := slices.Index(aclKeys[:], r.text)
		if of < 0 || !r.roles(&a[of]) {
			return false
		}
	}
	return r.kind == jsonObjectEnd
}

// roles reads a role or an array of them.
func (r *jsonReader) roles(list *[]string) bool {
	if !r.next() {
		return false
	}
	switch r.kind {
	case jsonText:
		*list = []string{r.text}
		return true
	case jsonArray:
		*list = []string{}
		for r.is(jsonText) {
			*list = append(*list, r.text)
		}
		return r.kind == jsonArrayEnd
	default:
		return false
	}
}

// allowed reports whether u, nil for anonymous, has a right on a stream (5.4), as the committed log has it: by the
// stream's $acl, else by $settings, else by the built-in default.
func (s *Server) allowed(u *user, stream string, r right) bool {
	if u == nil && s.dialect.NoAnonymous {
		return false
	}
	if of, ok := strings.CutPrefix(stream, metaPrefix); ok {
		// A metastream is governed by its stream's $mr and $mw and cannot be deleted. It has no metadata of its own: a
		// metastream's metastream is nobody's.
		if r == rightDelete || strings.HasPrefix(of, metaPrefix) {
			return false
		}
		stream, r = of, metaRight(r)
	}
	if stream == allStreams && (r == rightWrite || r == rightDelete) {
		return false
	}
	v := s.view()
	head, err := v.store.Head(stream, v.at)
	m := noMetadata
	if err == nil {
		m, err = v.metadata(stream, head.Meta)
	}
	if err != nil { // what cannot be asked grants nothing
		s.log.LogAttrs(context.Background(), slog.LevelError, "the store could not be read", slog.Any("err", err))
		return false
	}
	list := m.acl[r]
	if list == nil {
		list = s.settings.Load().of(stream)[r]
	}
	return u.hasOneOf(list)
}

// grant is what a session was let in for last: mostly it asks for the same again.
type grant struct {
	user    *user
	stream  string // "" when there is none
	changes uint64 // of the lists, when it was looked for
}

// mayWrite is allowed for the writes of a session. A refusal is looked for each time.
func (c *session) mayWrite(u *user, stream string) bool {
	g := grant{u, stream, c.server.accessChanges.Load()}
	if g == c.granted {
		return true
	}
	if !c.server.allowed(u, stream, rightWrite) {
		return false
	}
	c.granted = g
	return true
}

// metaRight is the right on a stream that is needed for r on its metastream.
func metaRight(r right) right {
	if r == rightRead {
		return rightMetaRead
	}
	return rightMetaWrite
}

// user is somebody who has signed in. A nil user is anonymous.
type user struct {
	login string
	roles []string // the groups, and the login
}

// admin reports whether the user has every right that is not denied to everybody.
func (u *user) admin() bool { return u.in(roleAdmins) }

// in reports whether the user has a role. Its case does not matter.
func (u *user) in(role string) bool {
	if u == nil {
		return false
	}
	for _, own := range u.roles {
		if strings.EqualFold(own, role) {
			return true
		}
	}
	return false
}

// hasOneOf reports whether a list of roles lets the user in.
func (u *user) hasOneOf(list []string) bool {
	return slices.Contains(list, roleAll) || u.admin() || slices.ContainsFunc(list, u.in)
}
