package cluster

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// wanted is the rank of the states that a preference is for.
const wanted = 1

// orders has the states from best to worst for each preference, those of one line separated by blanks being of one rank. Of the
// states up to 5.x the order for one who writes and that for one who reads are those that EventStore clients have always had;
// what servers from 20.6 added takes no writes, or not any more, and follows behind. A state that is not here ranks behind all.
var orders = [...][]string{
	Leader: {
		"Leader", "PreLeader", "Follower", "Clone", "CatchingUp", "PreReplica", "Unknown DiscoverLeader", "Initializing",
		"ReadOnlyReplica", "PreReadOnlyReplica ReadOnlyLeaderless ResigningLeader",
	},
	Follower: {
		"Follower", "Leader", "ReadOnlyReplica", "PreLeader", "Clone", "CatchingUp", "PreReplica", "Unknown DiscoverLeader", "Initializing",
		"PreReadOnlyReplica ReadOnlyLeaderless ResigningLeader",
	},
	ReadOnlyReplica: {
		"ReadOnlyReplica", "Follower", "Leader", "PreLeader", "Clone", "CatchingUp", "PreReplica", "Unknown DiscoverLeader", "Initializing",
		"PreReadOnlyReplica ReadOnlyLeaderless ResigningLeader",
	},
	Random: {
		"Leader Follower ReadOnlyReplica", "PreLeader", "Clone", "CatchingUp", "PreReplica", "Unknown DiscoverLeader", "Initializing",
		"PreReadOnlyReplica ReadOnlyLeaderless ResigningLeader",
	},
}

// ranks are orders by preference and state.
var ranks = func() (ranks [len(orders)]map[string]int) {
	for p, order := range orders {
		ranks[p] = make(map[string]int)
		for i, states := range order {
			for state := range strings.FieldsSeq(states) {
				ranks[p][state] = i + 1
			}
		}
	}
	return ranks
}()

// rank is the place of a state under a preference, from 1 on.
func (p Preference) rank(state string) int {
	if rank, known := ranks[p][kind(state)]; known {
		return rank
	}
	return p.unknown()
}

// unknown is the rank of a state that has none of its own.
func (p Preference) unknown() int { return len(orders[p]) + 1 }

// never are the states of who serves no clients.
var never = map[string]bool{"Manager": true, "ShuttingDown": true, "Shutdown": true}

// unfit says why a member cannot be dialled, "" when it can.
func (m Member) unfit(secure bool) string {
	switch {
	case !m.Alive:
		return "dead"
	case never[m.State]:
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

// choice is what one answer comes to.
type choice struct {
	addr    string // "" when no member fits
	rank    int
	past    past
	members []Member
	why     []string // of each that does not fit
}

// past is what became of the connection to an address.
type past int

const (
	fine past = iota
	lost      // after it was connected
	unreachable
)

// before reports whether c is better than d: whom one can reach comes before all others, then the state decides, and among
// equals who was not lost.
func (c *choice) before(d *choice) bool {
	if c.addr == "" || d.addr == "" {
		return c.addr != ""
	}
	return cmp.Or(cmp.Compare(c.past/unreachable, d.past/unreachable), cmp.Compare(c.rank, d.rank), cmp.Compare(c.past, d.past)) < 0
}

// choose picks the best member of an answer. Unless it is nil a function says why it cannot be one that would do, "" when it can.
func (g *Gossip) choose(members []Member, p Preference, unwanted func(m Member, addr string) (why string)) choice {
	best := choice{members: members}
	shuffled := slices.Clone(members)
	rand.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	for _, m := range shuffled {
		why := m.unfit(g.cfg.Secure)
		addr := m.TCP
		if g.cfg.Secure {
			addr = m.Secure
		}
		if why == "" && unwanted != nil {
			why = unwanted(m, addr)
		}
		if why == "" {
			if _, err := g.translate(addr); err != nil {
				why = fmt.Sprintf("is refused by the translation of addresses: %v", err)
			}
		}
		if why != "" {
			best.why = append(best.why, m.String()+" "+why)
			continue
		}
		c := choice{addr: addr, rank: p.rank(m.State)}
		if c.rank == p.unknown() {
			g.warn(m.State)
		}
		var last bool
		c.past, last = g.history(addr)
		if c.before(&best) || last && !best.before(&c) {
			best.addr, best.rank, best.past = c.addr, c.rank, c.past
		}
	}
	slices.Sort(best.why)
	return best
}

// history is what became of an address, and whether it was the last one that was returned.
func (g *Gossip) history(addr string) (past, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	m, found := g.marks[addr]
	if !found || !time.Now().Before(m.until) {
		return fine, addr == g.last
	}
	return m.past, addr == g.last
}
