package eventstore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/cluster"
	"github.com/goeventstore/eventstore/internal/faultnet"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/persistent"
	"github.com/goeventstore/eventstore/server"
	"github.com/goeventstore/eventstore/subscription"
)

// A way for a leader to go.
type farewell struct {
	name   string
	goes   func(n1 *playedNode)
	silent bool // nobody is told, so that only heartbeats notice
	known  bool // the others know at once that it is dead
}

var farewells = []farewell{
	{name: "killed", known: true, goes: nil},
	{name: "paused", goes: func(n *playedNode) { n.paused = true }, silent: true},
	{name: "partitioned away", goes: func(n *playedNode) { n.paused, n.away = true, true }, silent: true},
	{name: "steps down", goes: func(n *playedNode) { n.state, n.gossip = "Unknown", "Unknown n1, Slave n2 dead, Slave n3 dead" }},
	{name: "follows", goes: func(n *playedNode) { n.state, n.hint, n.gossip = "Follower", "n1", "Slave n1, Slave n2, Slave n3" }},
}

// noticing is how long a silent server goes unnoticed: the heartbeat's interval and time-out.
const noticing = 3500 * time.Millisecond

// outage is what came of one leader's end: times from the moment when the new leader tells of itself, and the loss is noticed.
type outage struct {
	first     time.Duration // to the first call that is served
	slowest   time.Duration // to the last of those that were under way
	followed  time.Duration // to the first event of a subscription, of the client that makes the calls
	delivered time.Duration // to the first message of a group's member, whose client does nothing else
	dials     int           // of gossip too
}

// serving notes when somebody was served.
type serving struct{ times []time.Time }

func (s *serving) served() { s.times = append(s.times, time.Now()) }

// after is how long it took from a moment on, where what was served until the loss does not count.
func (s *serving) after(t *testing.T, lost, from time.Time) time.Duration {
	t.Helper()
	i := slices.IndexFunc(s.times, func(at time.Time) bool { return at.After(lost) && !at.Before(from) })
	require.GreaterOrEqual(t, i, 0, "nothing was served any more")
	return s.times[i].Sub(from)
}

// lose has n1 go and n2 lead after a while, while calls are made and others follow. What the others believe is late in every way: they
// name the old leader, tell of it as alive when nobody told them otherwise, and one has not heard of the new one a second after the fact.
func lose(t *testing.T, rng *rand.Rand, way farewell, opts ...eventstore.Option) (o outage) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := playNodes(t, "n1", "n2", "n3")
		p.settled("n1")
		p.write()
		c, other := p.connect(opts...), p.connect(opts...)
		require.Equal(t, "n1:1113", c.State().Addr)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		var calls sync.WaitGroup
		callers, subscriber, member := make([]serving, 3), serving{}, serving{}
		calls.Go(func() { subscriber.follow(ctx, t, c) })
		calls.Go(func() { member.join(ctx, t, other) })
		for i := range callers {
			calls.Go(func() {
				for ctx.Err() == nil {
					if _, err := c.Append(ctx, "s", eventstore.Any, numbered(1)); err == nil {
						callers[i].served()
					} else if !errors.Is(err, context.Canceled) {
						t.Error(err)
						return
					}
					time.Sleep(50 * time.Millisecond)
				}
			})
		}
		time.Sleep(15 * time.Second)

		lost, dials := time.Now(), p.dials()
		if way.goes == nil {
			p.kill("n1")
		} else {
			p.set(func(n map[string]*playedNode) { way.goes(n["n1"]) })
		}
		if way.known {
			time.Sleep(time.Duration(rng.Int64N(int64(300 * time.Millisecond))))
			p.set(func(n map[string]*playedNode) {
				n["n2"].gossip, n["n3"].gossip = "Slave n3, Slave n2, Master n1 dead", "Slave n3, Slave n2, Master n1 dead"
			})
		}
		time.Sleep(time.Duration(float64(100*time.Millisecond) * rng.ExpFloat64() * float64(int(1)<<rng.IntN(10)))) // up to minutes
		from := time.Now()
		p.set(func(n map[string]*playedNode) {
			n["n2"].state, n["n2"].gossip = "Leader", "Slave n3, Master n2, Master n1 dead"
		})
		time.Sleep(time.Duration(rng.Int64N(int64(1100 * time.Millisecond))))
		p.set(func(n map[string]*playedNode) {
			n["n3"].hint, n["n3"].gossip = "n2", "Slave n3, Master n2, Master n1 dead"
		})
		time.Sleep(15 * time.Second)
		stop()
		calls.Wait()
		require.Equal(t, "n2:1113", c.State().Addr)
		require.Equal(t, "n2:1113", other.State().Addr)

		if noticed := lost.Add(noticing); way.silent && noticed.After(from) {
			from = noticed
		}
		o = outage{
			first: time.Hour, followed: subscriber.after(t, lost, from), delivered: member.after(t, lost, from), dials: p.dials() - dials,
		}
		for i := range callers {
			d := callers[i].after(t, lost, from)
			o.first, o.slowest = min(o.first, d), max(o.slowest, d)
		}
	})
	return o
}

// follow follows the stream, which has to come whole.
func (s *serving) follow(ctx context.Context, t *testing.T, c *eventstore.Client) {
	sub, err := subscription.Open(ctx, c, subscription.Config{Stream: "s"})
	if err != nil {
		t.Error(err)
		return
	}
	defer sub.Close() //nolint:errcheck // it has ended
	for next := int64(0); ; next++ {
		e, err := sub.Recv(ctx)
		switch {
		case errors.Is(err, context.Canceled):
			return
		case err != nil:
			t.Error(err)
			return
		case e.Event.Number != next:
			t.Errorf("event %d came where %d is next", e.Event.Number, next)
			return
		}
		s.served()
	}
}

// join is a member of the group of the stream.
func (s *serving) join(ctx context.Context, t *testing.T, c *eventstore.Client) {
	g, err := persistent.Join(ctx, c, persistent.Config{Stream: "s", Group: "g"})
	if err != nil {
		t.Error(err)
		return
	}
	defer g.Close() //nolint:errcheck,contextcheck // it has ended
	for {
		m, err := g.Recv(ctx)
		if err == nil {
			err = g.Ack(ctx, m)
		}
		switch {
		case errors.Is(err, context.Canceled):
			return
		case errors.Is(err, persistent.ErrStale):
			continue
		case err != nil:
			t.Error(err)
			return
		}
		s.served()
	}
}

// The time to serve again after the leader has gone, whichever way: from the moment when the new one tells of itself, and a silent
// end was noticed, at most one gossip time-out plus the longest wait of the backoff. That holds for calls, for who follows and for
// members of groups, which may have no calls beside them that look for the leader.
func TestTimeToServeAgain(t *testing.T) {
	for name, tt := range map[string]struct {
		opts    []eventstore.Option
		longest time.Duration
	}{
		"by default": {longest: 7500 * time.Millisecond}, // 5 s, and a half of it as jitter
		"with short waits": {longest: 500 * time.Millisecond, opts: []eventstore.Option{
			eventstore.WithBackoff(func() backoff.BackOff { return backoff.NewConstantBackOff(500 * time.Millisecond) }),
		}},
	} {
		for _, way := range farewells {
			t.Run(name+", "+way.name, func(t *testing.T) {
				var worst outage
				for seed := range faultnet.Seeds(t, 5) {
					o := lose(t, rand.New(rand.NewPCG(seed, 1)), way, tt.opts...)
					bound := time.Second + tt.longest
					require.LessOrEqual(t, o.slowest, bound, "a call, seed %d", seed)
					require.LessOrEqual(t, o.followed, bound, "the subscription, seed %d", seed)
					require.LessOrEqual(t, o.delivered, bound, "the member, seed %d", seed)
					worst = outage{
						first: max(worst.first, o.first), slowest: max(worst.slowest, o.slowest), dials: max(worst.dials, o.dials),
						followed: max(worst.followed, o.followed), delivered: max(worst.delivered, o.delivered),
					}
				}
				t.Logf("at worst %v to the first call, %v to the slowest, %v to the subscription's event, %v to the member's message, %d dials",
					worst.first, worst.slowest, worst.followed, worst.delivered, worst.dials)
			})
		}
	}
}

// A member that takes connections and hangs, or takes none and says nothing, is left for the one that gossip names after it, while its
// dial is still under way.
func TestAMemberThatHangsIsLeft(t *testing.T) {
	for name, hang := range map[string]func(n *playedNode){
		"paused": func(n *playedNode) { n.paused = true },
		"away":   func(n *playedNode) { n.away = true },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := playNodes(t, "n1", "n2", "n3")
				p.settled("n1")
				p.set(func(n map[string]*playedNode) { hang(n["n1"]) })
				begun := time.Now()
				time.AfterFunc(1500*time.Millisecond, func() {
					p.set(func(n map[string]*playedNode) { // n3 has not heard of it
						n["n2"].state, n["n2"].gossip = "Leader", "Slave n3, Master n2, Master n1 dead"
					})
				})
				c := p.connect()
				require.Equal(t, "n2:1113", c.State().Addr)
				require.LessOrEqual(t, time.Since(begun), 3500*time.Millisecond)
				require.Equal(t, 1, p.dials("n1:1113"), "it was dialled for as long as there was nobody else")
			})
		})
	}
}

// A leader that only this client cannot reach: followers serve what they can meanwhile, and it is gone to as soon as it can be.
func TestAnUnreachableLeaderIsReplacedByAFollower(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := playNodes(t, "n1", "n2", "n3")
		p.settled("n1")
		p.set(func(n map[string]*playedNode) { n["n1"].away = true })
		c := p.connect()
		require.Contains(t, []string{"n2:1113", "n3:1113"}, c.State().Addr)
		require.NoError(t, c.Ping(t.Context()))
		time.AfterFunc(time.Minute, func() { p.set(func(n map[string]*playedNode) { n["n1"].away = false }) })
		_, err := c.Append(t.Context(), "s", eventstore.Any, numbered(1))
		require.NoError(t, err)
		require.Equal(t, "n1:1113", c.State().Addr)
	})
}

// A cluster that was just made knows no users until its first leader has written them: until then a refusal of good credentials is
// none, however long that takes, and neither is NotReady.
func TestAFreshClusterIsWaitedFor(t *testing.T) {
	for _, elected := range []time.Duration{time.Second, 8 * time.Second, time.Minute} {
		for _, authenticate := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				p := playNodes(t, "n1", "n2", "n3")
				p.set(func(nodes map[string]*playedNode) {
					for _, n := range nodes {
						n.state, n.unknown, n.gossip = "Unknown", true, "Unknown n1, Unknown n2, Unknown n3"
					}
				})
				time.AfterFunc(elected, func() {
					p.settled("n2")
					time.AfterFunc(240*time.Millisecond, func() { // as recorded
						p.set(func(nodes map[string]*playedNode) {
							for _, n := range nodes {
								n.unknown = false
							}
						})
					})
				})
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
				defer cancel()
				opts := []eventstore.Option{eventstore.WithDialer(p.Dial)}
				if authenticate {
					opts = append(opts, eventstore.WithAuthenticate())
				}
				begun := time.Now()
				c, err := eventstore.Connect(ctx, p.target(), opts...)
				require.NoError(t, err)
				_, err = c.Append(ctx, "s", eventstore.Any, numbered(1))
				require.NoError(t, err)
				require.LessOrEqual(t, time.Since(begun), elected+10*time.Second)
				require.Equal(t, "n2:1113", c.State().Addr)
				require.NoError(t, c.Close())
			})
		}
	}
}

// A single node that is not ready is waited for in the same way after a reconnect, for longer than a refusal counts.
func TestANodeThatStartsSlowlyIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := playNodes(t, "n1")
		p.settled("n1")
		c, err := eventstore.Connect(t.Context(), "tcp://admin:changeit@n1:1113", eventstore.WithDialer(p.Dial))
		require.NoError(t, err)
		time.Sleep(time.Minute)
		p.set(func(n map[string]*playedNode) { n["n1"].state, n["n1"].unknown = "Unknown", true })
		p.cut("n1")
		time.AfterFunc(30*time.Second, func() {
			p.set(func(n map[string]*playedNode) { n["n1"].state, n["n1"].unknown = "Leader", false })
		})
		begun := time.Now()
		_, err = c.Append(t.Context(), "s", eventstore.Any, numbered(1))
		require.NoError(t, err)
		require.LessOrEqual(t, time.Since(begun), 40*time.Second)
		require.NoError(t, c.Close())
	})
}

// Wrong credentials are told all the same, and cost 3 s once.
func TestWrongCredentialsForACluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := playNodes(t, "n1", "n2", "n3")
		p.settled("n1")
		p.set(func(nodes map[string]*playedNode) {
			for _, n := range nodes {
				n.unknown = true // whoever asks
			}
		})
		begun := time.Now()
		_, err := eventstore.Connect(t.Context(), p.target(), eventstore.WithDialer(p.Dial), eventstore.WithAuthenticate())
		require.ErrorIs(t, err, eventstore.ErrNotAuthenticated)
		require.Equal(t, 3*time.Second, time.Since(begun))
		c := p.connect()
		require.ErrorIs(t, c.Ping(t.Context()), eventstore.ErrNotAuthenticated)
	})
}

// A client that prefers followers stays with its follower while the leader goes, and does not follow NotReady elsewhere; it goes to
// the leader for a call that only the leader can answer.
func TestAFollowerIsStayedWith(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := playNodes(t, "n1", "n2", "n3")
		p.settled("n1")
		c := p.connect(eventstore.WithPreference(cluster.Follower))
		at := c.State().Addr
		require.NotEqual(t, "n1:1113", at)
		host, _, _ := strings.Cut(at, ":")
		p.set(func(n map[string]*playedNode) { n[host].state = "Unknown" }) // but gossip calls it a follower
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		_, err := c.Append(ctx, "s", eventstore.Any, numbered(1))
		require.ErrorIs(t, err, eventstore.ErrNotReady)
		require.Equal(t, at, c.State().Addr)

		p.set(func(n map[string]*playedNode) {
			for _, n := range n {
				n.gossip = strings.Replace(n.gossip, "Slave "+host, "Unknown "+host, 1)
			}
		})
		_, err = c.Append(t.Context(), "s", eventstore.Any, numbered(1))
		require.NoError(t, err)
		require.NotEqual(t, at, c.State().Addr, "another follower, which does not lead either, and then the leader")
		require.Equal(t, "n1:1113", c.State().Addr)
	})
}

// What nodes advertise is dialled where the function says: by gossip and by hints. What it refuses is not dialled at all.
func TestAdvertisedAddressesAreTranslated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := playNodes(t, "n1", "n2", "n3")
		p.settled("n1")
		inside := func(n map[string]*playedNode) { // they know each other by other names
			for _, n := range n {
				n.gossip, n.hint = "Master in1, Slave in2, Slave in3", "in1"
			}
		}
		p.set(inside)
		var refused atomic.Value
		refused.Store("")
		translate := eventstore.WithAddressTranslation(func(addr string) (string, error) {
			if addr == refused.Load() || !strings.HasPrefix(addr, "in") {
				return "", errors.New("not one of ours")
			}
			return strings.TrimPrefix(addr, "i"), nil
		})
		c := p.connect(translate)
		require.Equal(t, "in1:1113", c.State().Addr, "as it is advertised")
		require.NoError(t, c.Ping(t.Context()))
		require.Equal(t, 1, p.dials("n1:1113"))

		// A single node, which is dialled as it was given, names the leader.
		d, err := eventstore.Connect(t.Context(), "tcp://n2:1113", eventstore.WithDialer(p.Dial), translate)
		require.NoError(t, err)
		_, err = d.Append(t.Context(), "s", eventstore.Any, numbered(1))
		require.NoError(t, err)
		require.Equal(t, "in1:1113", d.State().Addr)
		require.NoError(t, d.Close())

		refused.Store("in1:1113")
		before := p.dials("n1:1113", "in1:1113")
		e := p.connect(translate)
		require.Contains(t, []string{"in2:1113", "in3:1113"}, e.State().Addr)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		_, err = e.Append(ctx, "s", eventstore.Any, numbered(1))
		require.ErrorIs(t, err, eventstore.ErrNotLeader)
		require.Equal(t, before, p.dials("n1:1113", "in1:1113"), "credentials do not go there")

		refused.Store("")
		p.set(func(n map[string]*playedNode) { n["n3"].dead = true })
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = eventstore.Connect(ctx, "gossip://n1", eventstore.WithDialer(p.Dial),
			eventstore.WithAddressTranslation(func(string) (string, error) { return "n3:1113", nil }))
		require.ErrorContains(t, err, "connect to in1:1113")
		require.ErrorContains(t, err, "(it was dialled at n3:1113)")
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = eventstore.Connect(ctx, "gossip://n1", eventstore.WithDialer(p.Dial), eventstore.WithAddressTranslation(nil))
		require.ErrorContains(t, err, "WithAddressTranslation(nil)")
	})
}

// The name of a cluster is looked up by the functions that are given, at each attempt.
func TestALookupOfOnesOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := playNodes(t, "n1", "n2", "n3")
		p.settled("n2")
		asked := 0
		c, err := eventstore.Connect(t.Context(), "discover://admin:changeit@cluster.example", eventstore.WithDialer(p.Dial), eventstore.WithLookup(
			func(_ context.Context, host string) ([]string, error) {
				require.Equal(t, "cluster.example", host)
				if asked++; asked < 4 {
					return nil, errors.New("not yet")
				}
				return []string{"n1", "n3"}, nil
			}, nil))
		require.NoError(t, err)
		require.Equal(t, 4, asked)
		require.Equal(t, "n2:1113", c.State().Addr)
		require.NoError(t, c.Close())
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = eventstore.Connect(ctx, "discover://cluster.example", eventstore.WithDialer(p.Dial), eventstore.WithLookup(nil, nil))
		require.ErrorContains(t, err, "WithLookup(nil)")
	})
}

// minute is a backoff that nobody waits for.
func minute() backoff.BackOff { return backoff.NewConstantBackOff(time.Minute) }

// A call that was to give a server time goes out at once on the next connection: that is another server, or one that has started
// anew. It once waited for as long as it would have waited for the old one.
func TestAPauseEndsWithTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := playNodes(t, "n1")
		p.settled("n1")
		c := p.connect(eventstore.WithBackoff(minute))
		time.Sleep(time.Minute)
		p.set(func(n map[string]*playedNode) { n["n1"].state = "Unknown" })
		begun := time.Now()
		time.AfterFunc(time.Second, func() {
			p.set(func(n map[string]*playedNode) { n["n1"].state = "Leader" })
			p.cut("n1")
		})
		var opening sync.WaitGroup
		opening.Go(func() {
			_, err := c.Open(t.Context(), messages.Raw(messages.ConnectToPersistentSubscription, nil), window)
			if err != nil {
				t.Error(err)
			}
			if waited := time.Since(begun); waited != time.Second {
				t.Errorf("the exchange was opened after %v", waited)
			}
		})
		pending := c.AppendAsync(t.Context(), "s", eventstore.Any, numbered(1))
		_, err := c.Append(t.Context(), "s", eventstore.Any, numbered(1))
		require.NoError(t, err)
		_, err = pending.Wait(t.Context())
		require.NoError(t, err)
		require.Equal(t, time.Second, time.Since(begun))
		opening.Wait()
	})
}

// Who opens an exchange and gives a server time does not wait for that either when the client is closed.
func TestAPauseEndsWithTheClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := playNodes(t, "n1")
		p.settled("n1")
		c := p.connect(eventstore.WithBackoff(minute))
		p.set(func(n map[string]*playedNode) { n["n1"].state = "Unknown" })
		begun := time.Now()
		time.AfterFunc(time.Second, func() { _ = c.Close() })
		_, err := c.Open(t.Context(), messages.Raw(messages.ConnectToPersistentSubscription, nil), window)
		require.ErrorIs(t, err, eventstore.ErrClosed)
		require.Equal(t, time.Second, time.Since(begun))
	})
}

// Two calls are refused by a node that does not lead: the first answer moves the client, the second comes after that, on the old
// connection. Its call does not wait either.
func TestALateRefusalIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := playNodes(t, "n1", "n2")
		p.settled("n1")
		p.set(func(n map[string]*playedNode) { n["n2"].late = 50 * time.Millisecond })
		c, err := eventstore.Connect(t.Context(), "tcp://n2", eventstore.WithDialer(p.Dial), eventstore.WithBackoff(minute))
		require.NoError(t, err)
		begun := time.Now()
		var calls sync.WaitGroup
		for range 5 {
			calls.Go(func() {
				_, err := c.Append(t.Context(), "s", eventstore.Any, numbered(1))
				if err != nil {
					t.Error(err)
				}
			})
		}
		calls.Wait()
		require.LessOrEqual(t, time.Since(begun), 300*time.Millisecond)
		require.Equal(t, "n1:1113", c.State().Addr)
		require.NoError(t, c.Close())
	})
}

// The port for TLS of a translated member shows a certificate for the host that it advertises.
func TestTLSToATranslatedMember(t *testing.T) {
	keys, trust, _ := certificate(t)
	srv, err := server.Start(server.Config{Secure: "127.0.0.1:0", TLS: keys})
	require.NoError(t, err)
	defer func() { require.NoError(t, srv.Close()) }()
	where := strings.TrimPrefix(srv.SecureURL(), "tls://")
	_, port, _ := strings.Cut(where, ":")
	for host, fits := range map[string]bool{"example.com": true, "example.org": false} {
		seed := gossipOf(t, func() string {
			return fmt.Sprintf(`{"members":[{"state":"Leader","isAlive":true,"externalTcpIp":%q,"externalSecureTcpPort":%s}]}`, host, port)
		})
		c, err := eventstore.Connect(t.Context(), "gossip://"+seed+"?gossip=http", eventstore.WithTLS(trust),
			eventstore.WithAddressTranslation(func(string) (string, error) { return where, nil }))
		if !fits {
			require.ErrorIs(t, err, eventstore.ErrRefused)
			require.ErrorContains(t, err, "not accepted for example.org")
			continue
		}
		require.NoError(t, err)
		require.Equal(t, "example.com:"+port, c.State().Addr)
		require.NoError(t, c.Ping(t.Context()))
		require.NoError(t, c.Close())
	}
}
