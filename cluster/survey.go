package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"time"
)

// seed is a node that can be asked.
type seed struct {
	addr string // of its HTTP port, as it is called
	dial string // where that is
	name string // that its certificate must be for; "": the host of addr
}

// answer is what came of asking one node, or of a look-up.
type answer struct {
	members []Member
	seeds   []seed
	looked  bool // seeds were looked up
	err     error
}

// maxSeeds bounds whom one name in DNS can have asked.
const maxSeeds = 256

// survey asks one node after the other, and the next already when one fails, or takes longer than its share of the time-out: who
// does not answer holds nobody up. It calls hear with each good answer, until that is enough, until nobody is left, or for the
// time-out if there was a good answer by then.
func (g *Gossip) survey(ctx context.Context, hear func([]Member) (enough bool)) error {
	asking, cancel := context.WithCancel(ctx)
	answers, under := make(chan answer), 0 // everybody under way sends one answer
	defer func() {
		cancel()
		for ; under > 0; under-- {
			<-answers
		}
	}()
	seeds := g.seeds()
	asked := make(map[string]struct{})
	lookUps := g.lookUps()
	for _, lookUp := range lookUps {
		under++
		go func() { answers <- lookUp(asking) }()
	}
	next, overall := time.NewTimer(0), time.NewTimer(g.cfg.Timeout)
	defer next.Stop()
	defer overall.Stop()
	var failures []error
	good, late, refused := false, false, true
	for under > 0 || len(seeds) > 0 {
		var step <-chan time.Time
		if len(seeds) > 0 {
			step = next.C
		}
		select {
		case <-step:
			s := seeds[0]
			seeds = seeds[1:]
			next.Reset(g.cfg.Timeout / time.Duration(max(10, len(asked)+len(seeds)+1)))
			if _, twice := asked[s.dial]; twice {
				next.Reset(0)
				continue
			}
			asked[s.dial] = struct{}{}
			under++
			go func() { answers <- g.ask(asking, s) }()
			continue
		case <-overall.C:
			if late = true; good {
				return nil
			}
			continue
		case a := <-answers:
			under--
			switch {
			case a.err != nil:
				refused = refused && errors.Is(a.err, ErrRefused)
				failures = append(failures, a.err)
			case a.looked:
				seeds = append(seeds, shuffled(a.seeds)...)
			default:
				if good = true; hear(a.members) || late {
					return nil
				}
			}
			next.Reset(0)
		}
		if ctx.Err() != nil {
			break
		}
	}
	if good && ctx.Err() == nil {
		return nil
	}
	err := errors.Join(failures...)
	if ctx.Err() != nil && !errors.Is(err, ctx.Err()) {
		err = errors.Join(ctx.Err(), err)
	}
	if !refused || len(asked) == 0 || ctx.Err() != nil { // one that only did not answer may be better next time
		err = unrefused{err}
	}
	return fmt.Errorf("%w: %w", ErrNoGossip, err)
}

// unrefused hides ErrRefused of some nodes where it does not hold for all.
type unrefused struct{ error }

func (u unrefused) Is(target error) bool { return target != ErrRefused && errors.Is(u.error, target) }

// seeds are those that need no look-up, shuffled.
func (g *Gossip) seeds() []seed {
	var all []seed
	for _, addr := range g.cfg.Seeds {
		all = append(all, seed{addr: addr, dial: addr})
	}
	g.mu.Lock()
	all = append(all, g.known...)
	g.mu.Unlock()
	return shuffled(all)
}

func shuffled(s []seed) []seed {
	rand.Shuffle(len(s), func(i, j int) { s[i], s[j] = s[j], s[i] })
	return s[:min(len(s), maxSeeds)]
}

// lookUps are what DNS is to be asked. A certificate must be for the name that was looked up: what DNS answers proves nothing.
func (g *Gossip) lookUps() (all []func(context.Context) answer) {
	if g.dns == "" {
		return nil
	}
	records, name, isService := "_eventstore._tcp."+g.dns, g.dns, strings.HasPrefix(g.dns, "_")
	if isService {
		records = g.dns
		for strings.HasPrefix(name, "_") {
			_, name, _ = strings.Cut(name, ".")
		}
	}
	if !isService {
		all = append(all, func(ctx context.Context) answer {
			ctx, cancel := context.WithTimeout(ctx, g.cfg.Timeout)
			defer cancel()
			addrs, err := g.cfg.Lookup(ctx, g.dns)
			if err != nil {
				return answer{looked: true, err: fmt.Errorf("resolve %s: %w", g.dns, err)}
			}
			a := answer{looked: true}
			for _, addr := range addrs {
				addr = net.JoinHostPort(addr, g.port)
				a.seeds = append(a.seeds, seed{addr: addr, dial: addr, name: name})
			}
			return a
		})
	}
	if g.cfg.LookupSRV != nil {
		all = append(all, func(ctx context.Context) answer {
			ctx, cancel := context.WithTimeout(ctx, g.cfg.Timeout)
			defer cancel()
			found, err := g.cfg.LookupSRV(ctx, records)
			if err != nil && !isService {
				return answer{looked: true} // most names have none
			} else if err != nil {
				return answer{looked: true, err: fmt.Errorf("resolve %s: %w", records, err)}
			}
			a := answer{looked: true}
			for _, r := range found {
				addr := net.JoinHostPort(strings.TrimSuffix(r.Target, "."), strconv.Itoa(int(r.Port)))
				a.seeds = append(a.seeds, seed{addr: addr, dial: addr, name: name})
			}
			return a
		})
	}
	return all
}
