package server

import "strings"

// right is one of the things that an access control list governs (5.4).
type right uint8

const (
	rightRead right = iota
	rightWrite
	rightDelete
)

// allStreams is the name that the log as a whole has for the rights.
const allStreams = "$all"

// allowed reports whether u, nil for anonymous, has a right on a stream. For now it goes by the names alone: the
// built-in default of 5.4. The lists of streams' metadata and of $settings belong here.
func (s *Server) allowed(u *user, stream string, r right) bool {
	if of, ok := strings.CutPrefix(stream, metaPrefix); ok {
		// A metastream is governed by its stream's $mr and $mw and cannot be deleted. It has no metadata of its own: a
		// metastream's metastream is nobody's.
		if r == rightDelete || strings.HasPrefix(of, metaPrefix) {
			return false
		}
		stream = of
	}
	if stream == allStreams && r != rightRead {
		return false
	}
	return !strings.HasPrefix(stream, "$") || u.admin()
}
