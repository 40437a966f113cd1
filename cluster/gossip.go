package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// Config says whom to ask and what to pick. Seeds or DNS is required.
type Config struct {
	// Seeds are the HTTP addresses, host:port, of some nodes.
	Seeds []string
	// DNS is a name with the HTTP port, host:port. It is resolved anew each time, and every address it has is asked; so are
	// the hosts and ports that SRV records of _eventstore._tcp.NAME have. A name that begins with an underscore is that of SRV
	// records itself.
	DNS string
	// Preference is the kind of node to pick; default Leader.
	Preference Preference
	// Secure picks the port for TLS of the node.
	Secure bool
	// TLS makes the questions go over HTTPS; nil: over HTTP. The name that a certificate must be for is the host of the seed, or
	// of the member as it is advertised, or the one in DNS, unless the configuration has a ServerName.
	TLS *tls.Config
	// Timeout is how long one node may take to answer; default 1 s. Who is asked beside it does not wait for it.
	Timeout time.Duration
	// Translate says where an address that a node advertises is reached, for members behind NAT or in containers, or refuses it
	// with an error: credentials go where gossip says. Members are asked there, and who is refused is never picked. Resolve
	// returns the address as it is advertised, whose host a certificate is for: who dials it translates it too. Default: as
	// advertised.
	Translate func(advertised string) (addr string, err error)
	// Dial opens the socket of a question; default a net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Lookup resolves DNS; default net.DefaultResolver.
	Lookup func(ctx context.Context, host string) (addrs []string, err error)
	// LookupSRV resolves SRV records; default net.DefaultResolver, or none when Lookup is given.
	LookupSRV func(ctx context.Context, name string) ([]*net.SRV, error)
	// Logger is told of a state that is not known, once. Default: no log.
	Logger *slog.Logger
}

// Gossip is the Resolver of a cluster. It is safe for concurrent use.
type Gossip struct {
	cfg  Config
	dns  string // the name in DNS, and its port
	port string

	mu     sync.Mutex
	known  []seed              // the members of the last good answer
	last   string              // what Resolve returned last
	marks  map[string]mark     // of addresses whose connection failed
	warned map[string]struct{} // of states
}

// mark is what became of a connection, and how long that tells.
type mark struct {
	past  past
	until time.Time
}

// markTime is how long a failure tells against a node.
const markTime = 10 * time.Second

// NewGossip returns a Resolver. Nobody is asked yet.
func NewGossip(cfg Config) (*Gossip, error) {
	g := &Gossip{cfg: cfg, marks: make(map[string]mark), warned: make(map[string]struct{})}
	if len(cfg.Seeds) == 0 && cfg.DNS == "" {
		return nil, errors.New("neither seeds nor a name in DNS")
	}
	if cfg.DNS != "" {
		var err error
		if g.dns, g.port, err = net.SplitHostPort(cfg.DNS); err != nil {
			return nil, fmt.Errorf("the name in DNS: %w", err)
		}
	}
	for _, s := range cfg.Seeds {
		if _, _, err := net.SplitHostPort(s); err != nil {
			return nil, fmt.Errorf("a seed: %w", err)
		}
	}
	if cfg.Preference < Leader || cfg.Preference > Random {
		return nil, fmt.Errorf("unknown %v", cfg.Preference)
	}
	if g.cfg.Timeout == 0 {
		g.cfg.Timeout = time.Second
	}
	if g.cfg.Lookup == nil {
		g.cfg.Lookup = net.DefaultResolver.LookupHost
		if g.cfg.LookupSRV == nil {
			g.cfg.LookupSRV = lookupSRV
		}
	}
	if _, err := netip.ParseAddr(g.dns); err == nil {
		g.cfg.LookupSRV = nil // an address has none
	}
	if g.cfg.Dial == nil {
		g.cfg.Dial = new(net.Dialer).DialContext
	}
	if g.cfg.Logger == nil {
		g.cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.TLS != nil {
		g.cfg.TLS = cfg.TLS.Clone()
		if g.cfg.TLS.MinVersion == 0 {
			g.cfg.TLS.MinVersion = tls.VersionTLS12
		}
	}
	return g, nil
}

func lookupSRV(ctx context.Context, name string) ([]*net.SRV, error) {
	_, records, err := net.DefaultResolver.LookupSRV(ctx, "", "", name)
	return records, err
}

// Resolve asks, ranks and returns the address of the best member: of the first answer that has one of the preferred kind,
// else of all that come within the time-out. Among equals it stays with what it returned before, unless that has Failed. The
// error of no good answer has what each node said; that of no member that fits, a *NoNodeError, has each with its state and why
// it was passed over.
func (g *Gossip) Resolve(ctx context.Context) (string, error) {
	found, err := g.find(ctx, g.cfg.Preference, nil)
	if err != nil {
		return "", err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.last = found.addr
	return found.addr, nil
}

// Leader asks and returns the address of the leader, whatever the preference. Who says that it is one of those that the caller knows
// not to lead, is not believed. Without one the error is a *NoNodeError.
func (g *Gossip) Leader(ctx context.Context, not ...string) (string, error) {
	found, err := g.find(ctx, Leader, func(m Member, addr string) string {
		switch {
		case slices.Contains(not, addr):
			return "is known not to lead"
		case Leader.rank(m.State) != wanted:
			return "does not lead"
		}
		return ""
	})
	return found.addr, err
}

// Failed tells that the connection to an address that was returned could not be made, or was lost when it was connected. For 10 s
// others are then preferred: one that could not be reached to all that can be, one that was lost to those that are as good by their state.
func (g *Gossip) Failed(addr string, connected bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	for a, m := range g.marks {
		if !now.Before(m.until) {
			delete(g.marks, a)
		}
	}
	m := mark{past: unreachable, until: now.Add(markTime)}
	if connected {
		m.past = lost
	}
	g.marks[addr] = m
}

// Members returns what the first node that answers knows of the cluster, dead members included.
func (g *Gossip) Members(ctx context.Context) (members []Member, err error) {
	err = g.survey(ctx, func(m []Member) bool {
		members = m
		return true
	})
	if err == nil {
		g.remember(members)
	}
	return members, err
}

// find asks until somebody knows a node of the kind that is wanted, or nobody is left, and returns the best of what was told.
func (g *Gossip) find(ctx context.Context, p Preference, unwanted func(m Member, addr string) (why string)) (choice, error) {
	var best choice
	err := g.survey(ctx, func(members []Member) bool {
		if c := g.choose(members, p, unwanted); best.members == nil || c.before(&best) {
			best = c
		}
		return best.addr != "" && best.rank == wanted && best.past == fine
	})
	if err != nil {
		return choice{}, err
	}
	g.remember(best.members)
	if best.addr == "" {
		return choice{}, &NoNodeError{Members: best.members, why: best.why}
	}
	return best, nil
}

// remember keeps where the members can be asked the next time. A manager may be a mere placeholder, whose address is made up.
func (g *Gossip) remember(members []Member) {
	var known []seed
	for _, m := range members {
		if m.HTTP == "" || m.State == "Manager" {
			continue
		}
		if addr, err := g.translate(m.HTTP); err == nil {
			known = append(known, seed{addr: m.HTTP, dial: addr})
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.known = known
}

// translate is where an advertised address is dialled, or why it is not.
func (g *Gossip) translate(advertised string) (string, error) {
	if g.cfg.Translate == nil {
		return advertised, nil
	}
	addr, err := g.cfg.Translate(advertised)
	if err == nil {
		_, _, err = net.SplitHostPort(addr)
	}
	return addr, err
}

// maxWarned bounds of how many unknown states there is a warning: their names come from the network.
const maxWarned = 16

// warn tells once of a state that has no place in the ranks.
func (g *Gossip) warn(state string) {
	g.mu.Lock()
	_, told := g.warned[state]
	told = told || len(g.warned) == maxWarned
	if !told {
		g.warned[state] = struct{}{}
	}
	g.mu.Unlock()
	if !told {
		g.cfg.Logger.Warn("a member of the cluster is in a state that is not known: it is the last resort",
			slog.String("state", state[:min(len(state), 100)]))
	}
}

// NoNodeError is ErrNoNode with the members of the cluster.
type NoNodeError struct {
	Members []Member
	why     []string
}

// Error tells of each member why it was passed over.
func (e *NoNodeError) Error() string {
	return fmt.Sprintf("%v: %s", ErrNoNode, strings.Join(e.why, "; "))
}

// Is makes errors.Is(err, ErrNoNode) hold.
func (e *NoNodeError) Is(target error) bool { return target == ErrNoNode }
