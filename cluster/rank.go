package cluster

import (
	"math/rand/v2"
	"slices"
)

// ranks orders the states for one who wants the leader; the lowest is best. The full tens are the order that EventStore
// clients have always had; what servers from 20.6 added stands between them. A state that is not here ranks behind all of
// them. A resigning leader takes no writes any more, the read-only ones never do.
var ranks = map[string]int{
	"Leader":             10,
	"PreLeader":          20,
	"Follower":           30,
	"Clone":              40,
	"ReadOnlyReplica":    41,
	"ResigningLeader":    42,
	"CatchingUp":         50,
	"PreReplica":         60,
	"PreReadOnlyReplica": 61,
	"ReadOnlyLeaderless": 62,
	"Unknown":            70,
	"DiscoverLeader":     71,
	"Initializing":       80,
}

const rankOfOthers = 90

// rank is the place of a state under a preference. Those that are first under any but Leader are of one rank, so that the
// shuffle decides among them.
func (p Preference) rank(state string) int {
	state = kind(state)
	first := false
	switch p {
	case Leader:
	case Follower:
		first = state == "Follower"
	case ReadOnlyReplica:
		if state == "Follower" {
			return 1
		}
		first = state == "ReadOnlyReplica"
	case Random:
		first = state == "Leader" || state == "Follower" || state == "ReadOnlyReplica"
	}
	if first {
		return 0
	}
	if r, known := ranks[state]; known {
		return r
	}
	return rankOfOthers
}

// unfit says why a member cannot be dialled, "" when it can.
func (m Member) unfit(secure bool) string {
	switch {
	case !m.Alive:
		return "dead"
	case m.State == "Manager", m.State == "ShuttingDown", m.State == "Shutdown":
		return "takes no clients"
	case secure && m.Secure == "" && m.TCP != "":
		return "offers no TLS over TCP, only plain at " + m.TCP
	case !secure && m.TCP == "" && m.Secure != "":
		return "offers no plain TCP, only TLS at " + m.Secure
	case m.TCP == "" && m.Secure == "":
		return "offers no TCP (from 20.6 on it is off until EnableExternalTcp is set)"
	}
	return ""
}

// pick returns the address of the best member, or a NoNodeError.
func pick(members []Member, p Preference, secure bool) (string, error) {
	members = slices.Clone(members)
	rand.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	var best *Member
	for i := range members {
		m := &members[i]
		if m.unfit(secure) == "" && (best == nil || p.rank(m.State) < p.rank(best.State)) {
			best = m
		}
	}
	switch {
	case best == nil:
		return "", &NoNodeError{Members: members, secure: secure}
	case secure:
		return best.Secure, nil
	}
	return best.TCP, nil
}
