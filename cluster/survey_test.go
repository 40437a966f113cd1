package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/internal/memnet"
)

// town is nodes that serve HTTP in virtual time, and who was asked when.
type town struct {
	*memnet.Network

	t     *testing.T
	begun time.Time
	mu    sync.Mutex
	asked []string
}

// inTown runs a test in a bubble.
func inTown(t *testing.T, run func(t *testing.T, town *town)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		run(t, &town{Network: memnet.New(), t: t, begun: time.Now()})
	})
}

func (w *town) serve(addr string, h http.HandlerFunc) {
	w.t.Helper()
	l, err := w.Listen("tcp", addr)
	require.NoError(w.t, err)
	var answering sync.WaitGroup
	srv := &http.Server{ReadHeaderTimeout: time.Hour, Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		answering.Add(1)
		defer answering.Done()
		w.mu.Lock()
		w.asked = append(w.asked, addr)
		w.mu.Unlock()
		h(rw, r)
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l)
	}()
	w.t.Cleanup(func() { _ = srv.Close(); <-done; answering.Wait() })
}

// silent accepts and says nothing.
func (w *town) silent(addr string) {
	w.t.Helper()
	l, err := w.Listen("tcp", addr)
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = l.Close() })
}

// tells serves members, as in "Leader a:1, Slave b:1 dead".
func tells(members string) http.HandlerFunc {
	var all []string
	for m := range strings.SplitSeq(members, ", ") {
		f := strings.Fields(m)
		host, port, _ := net.SplitHostPort(f[1])
		all = append(all, fmt.Sprintf(`{"state":%q,"isAlive":%v,"externalTcpIp":%q,"externalTcpPort":%s,"externalHttpIp":%q,"externalHttpPort":2113}`,
			f[0], len(f) == 2, host, port, host))
	}
	return func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"members":[`+strings.Join(all, ",")+`]}`)
	}
}

func (w *town) gossip(cfg Config) *Gossip {
	w.t.Helper()
	cfg.Dial = w.Dial
	return gossip(w.t, cfg)
}

// Nodes that are silent, dead, drip or answer without end hold up nobody: the one that knows is heard within the time-out, wherever
// it stands in the line.
func TestSlowSeedsHoldNobodyUp(t *testing.T) {
	for range 20 { // as they are shuffled
		inTown(t, func(t *testing.T, w *town) {
			w.silent("silent:1")
			w.silent("silent:2")
			drips := func(rw http.ResponseWriter, r *http.Request) {
				for r.Context().Err() == nil {
					_, _ = io.WriteString(rw, " ")
					_ = http.NewResponseController(rw).Flush()
					time.Sleep(100 * time.Millisecond)
				}
			}
			w.serve("drips:1", drips)
			w.serve("endless:1", func(rw http.ResponseWriter, _ *http.Request) {
				for {
					if _, err := rw.Write(bytes.Repeat([]byte(" "), 1<<16)); err != nil {
						return
					}
				}
			})
			w.serve("good:1", tells("Slave a:1, Master b:1"))
			g := w.gossip(Config{Seeds: []string{"silent:1", "silent:2", "drips:1", "endless:1", "dead:1", "good:1"}})
			begun := time.Now()
			addr, err := g.Resolve(t.Context())
			require.NoError(t, err)
			require.Equal(t, "b:1", addr)
			require.LessOrEqual(t, time.Since(begun), 500*time.Millisecond)

			begun = time.Now()
			_, err = w.gossip(Config{Seeds: []string{"drips:1", "silent:1", "endless:1"}}).Resolve(t.Context())
			require.ErrorIs(t, err, ErrNoGossip)
			require.ErrorContains(t, err, "more than 1048576 bytes")
			require.LessOrEqual(t, time.Since(begun), 1200*time.Millisecond)
		})
	}
}

// A healthy cluster is not asked by all of its clients at all of its nodes.
func TestOneGoodAnswerIsEnough(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		for _, seed := range []string{"a:2113", "b:2113", "c:2113"} {
			w.serve(seed, tells("Slave a:1, Master b:1, Slave c:1"))
		}
		g := w.gossip(Config{Seeds: []string{"a:2113", "b:2113", "c:2113"}})
		first := make(map[string]bool)
		for n := range 50 {
			_, err := g.Resolve(t.Context())
			require.NoError(t, err)
			require.Len(t, w.asked, n+1)
			first[w.asked[n]] = true
		}
		require.Len(t, first, 3, "they are shuffled")
	})
}

// While nobody of those who answer knows of a leader, the others are asked too: the new leader is the first to know itself.
func TestWhoKnowsTheLeaderIsLookedFor(t *testing.T) {
	for range 20 {
		inTown(t, func(t *testing.T, w *town) {
			late := "Master a:1 dead, Slave b:1, Slave c:1"
			w.serve("b:2113", tells(late))
			w.serve("d:2113", tells(late))
			w.silent("a:2113")
			w.serve("c:2113", tells("Master a:1 dead, Slave b:1, Master c:1"))
			g := w.gossip(Config{Seeds: []string{"a:2113", "b:2113", "c:2113", "d:2113"}})
			addr, err := g.Resolve(t.Context())
			require.NoError(t, err)
			require.Equal(t, "c:1", addr)
			require.LessOrEqual(t, time.Since(w.begun), 100*time.Millisecond)
			for range 10 {
				addr, err = g.Leader(t.Context())
				require.NoError(t, err)
				require.Equal(t, "c:1", addr)
				_, err = g.Leader(t.Context(), "x:1", "c:1")
				require.ErrorIs(t, err, ErrNoNode)
				require.ErrorContains(t, err, ") is known not to lead")
			}
		})
	}
	inTown(t, func(t *testing.T, w *town) { // nobody does: the time-out, and then the best there is
		w.serve("b:2113", tells("Master a:1 dead, Slave b:1, PreReplica c:1"))
		w.silent("a:2113")
		g := w.gossip(Config{Seeds: []string{"a:2113", "b:2113"}})
		addr, err := g.Resolve(t.Context())
		require.NoError(t, err)
		require.Equal(t, "b:1", addr)
		require.Equal(t, time.Second, time.Since(w.begun))
		_, err = g.Leader(t.Context())
		require.ErrorIs(t, err, ErrNoNode)
		require.ErrorContains(t, err, `a:1 ("Master") dead; b:1 ("Slave") does not lead`)
	})
}

// A node that lies, or has not heard, is believed until the node that it names fails.
func TestALiarIsNotBelievedForLong(t *testing.T) {
	for _, connected := range []bool{false, true} {
		inTown(t, func(t *testing.T, w *town) {
			w.serve("liar:1", tells("Master gone:1, Slave b:1"))
			w.serve("b:2113", tells("Master gone:1 dead, Master b:1"))
			g := w.gossip(Config{Seeds: []string{"liar:1", "b:2113"}})
			for range 20 {
				addr, err := g.Resolve(t.Context())
				require.NoError(t, err)
				if addr == "gone:1" {
					g.Failed(addr, connected)
					break
				}
			}
			for range 20 {
				addr, err := g.Resolve(t.Context())
				require.NoError(t, err)
				require.Equal(t, "b:1", addr)
			}
			require.Contains(t, w.asked, "liar:1")
			time.Sleep(10 * time.Second)
			got := make(map[string]bool)
			for range 50 {
				addr, err := g.Resolve(t.Context())
				require.NoError(t, err)
				got[addr] = true
			}
			require.Len(t, got, 2, "it is forgotten: the node may be back")
		})
	}
}

// Who could not be reached comes behind all that can be, who was lost only behind its equals; nobody is ruled out.
func TestFailuresTellAgainstANode(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		w.serve("a:2113", tells("Master a:1, Slave b:1, Slave c:1"))
		seeds := []string{"a:2113"}
		pick := func(g *Gossip) string {
			t.Helper()
			addr, err := g.Resolve(t.Context())
			require.NoError(t, err)
			return addr
		}
		g := w.gossip(Config{Seeds: seeds})
		g.Failed("a:1", true)
		require.Equal(t, "a:1", pick(g), "a cut does not make a follower better than the leader")
		g.Failed("a:1", false)
		require.Contains(t, "b:1 c:1", pick(g))
		g.Failed("b:1", false)
		require.Equal(t, "c:1", pick(g))
		g.Failed("c:1", false)
		require.Equal(t, "a:1", pick(g), "all have failed")
		time.Sleep(10*time.Second - 1)
		require.Len(t, g.marks, 3)
		time.Sleep(time.Nanosecond)
		g.Failed("x:1", true)
		require.Len(t, g.marks, 1, "nothing is kept for ever")

		g = w.gossip(Config{Seeds: seeds, Preference: Follower})
		first := pick(g)
		for range 50 {
			require.Equal(t, first, pick(g), "it stays with one of its equals")
		}
		g.Failed(first, true)
		second := pick(g)
		require.NotEqual(t, first, second)
		time.Sleep(time.Minute)
		for range 50 {
			require.Equal(t, second, pick(g))
		}
		require.Equal(t, "a:1", func() string { addr, _ := g.Leader(t.Context()); return addr }())
		require.Equal(t, second, pick(g))
	})
}

// A node that was killed, started again and elected leads, though it could not be dialled some seconds ago. For 10 s it was none: who
// looked for the leader found nobody, and stayed where it was.
func TestALeaderThatCouldNotBeReachedIsTheLeader(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		seeds := []string{"a:2113", "b:2113"}
		for _, seed := range seeds {
			w.serve(seed, tells("Slave a:1, Master b:1"))
		}
		g := w.gossip(Config{Seeds: seeds})
		for _, connected := range []bool{true, false} {
			g.Failed("b:1", connected)
			addr, err := g.Leader(t.Context(), "a:1")
			require.NoError(t, err)
			require.Equal(t, "b:1", addr)
		}
		addr, err := g.Resolve(t.Context())
		require.NoError(t, err)
		require.Equal(t, "a:1", addr, "who only needs a node takes one that can be reached")
	})
}

// What nodes advertise is translated, for questions too; seeds are not, and a refused member is neither picked nor asked.
func TestAddressesAreTranslatedOrRefused(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		told := tells("Master 10.0.0.1:1113, Slave 10.0.0.2:1113, Slave 192.0.2.7:1113, Slave 10.0.0.9:1113")
		w.serve("seed:1", told)
		w.serve("outside:1", told)
		var translated []string
		g := w.gossip(Config{Seeds: []string{"seed:1"}, Preference: Follower, Translate: func(addr string) (string, error) {
			translated = append(translated, addr)
			switch addr {
			case "10.0.0.1:2113":
				return "outside:1", nil
			case "10.0.0.2:1113":
				return "outside:1113", nil
			case "10.0.0.9:1113":
				return "nowhere", nil
			}
			return "", errors.New("not one of ours")
		}})
		addr, err := g.Resolve(t.Context())
		require.NoError(t, err)
		require.Equal(t, "10.0.0.2:1113", addr, "as it is advertised")
		require.Equal(t, []seed{{addr: "10.0.0.1:2113", dial: "outside:1"}}, g.known)
		require.NotContains(t, translated, "seed:1")
		g.cfg.Seeds = nil
		_, err = g.Members(t.Context())
		require.NoError(t, err)
		require.Equal(t, []string{"seed:1", "outside:1"}, w.asked)

		g = w.gossip(Config{Seeds: []string{"seed:1"}, Translate: func(string) (string, error) { return "", errors.New("not one of ours") }})
		_, err = g.Resolve(t.Context())
		require.ErrorIs(t, err, ErrNoNode)
		require.ErrorContains(t, err, `192.0.2.7:1113 ("Slave") is refused by the translation of addresses: not one of ours`)
	})
}

// A translated member over HTTPS has to show a certificate for the host that is advertised.
func TestTheCertificateIsForTheAdvertisedHost(t *testing.T) {
	addr, trust := secureNode(t, serving(t, "cluster-4.1.4/secure-n1.json"))
	for host, fits := range map[string]bool{"example.com:1": true, "example.org:1": false} {
		g := gossip(t, Config{Seeds: []string{"unused:1"}, TLS: trust})
		a := g.ask(t.Context(), seed{addr: host, dial: addr})
		if fits {
			require.NoError(t, a.err)
			continue
		}
		require.ErrorIs(t, a.err, ErrRefused)
		require.ErrorContains(t, a.err, "example.org")
	}
}

// All that DNS has is asked: addresses of both kinds, and SRV records with their own ports.
func TestEverythingInDNSIsAsked(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		w.serve("10.0.0.1:2113", http.NotFound)
		w.serve("[2001:db8::1]:2113", http.NotFound)
		w.serve("n1.example:30778", http.NotFound)
		var lookedUp []string
		var mu sync.Mutex
		note := func(name string) {
			mu.Lock()
			defer mu.Unlock()
			lookedUp = append(lookedUp, name)
		}
		cfg := Config{
			Lookup: func(_ context.Context, host string) ([]string, error) {
				note(host)
				return []string{"10.0.0.1", "2001:db8::1"}, nil
			},
			LookupSRV: func(_ context.Context, name string) ([]*net.SRV, error) {
				note(name)
				return []*net.SRV{{Target: "n1.example.", Port: 30778}}, nil
			},
		}
		ask := func(dns string) (asked, names []string, err error) {
			w.asked, lookedUp = nil, nil
			cfg.DNS = dns
			_, err = w.gossip(cfg).Resolve(t.Context())
			slices.Sort(w.asked)
			slices.Sort(lookedUp)
			return w.asked, lookedUp, err
		}
		asked, names, err := ask("cluster.example:2113")
		require.ErrorIs(t, err, ErrNoGossip)
		require.Equal(t, []string{"10.0.0.1:2113", "[2001:db8::1]:2113", "n1.example:30778"}, asked)
		require.Equal(t, []string{"_eventstore._tcp.cluster.example", "cluster.example"}, names)

		asked, names, _ = ask("_gossip._tcp.cluster.example:1")
		require.Equal(t, []string{"n1.example:30778"}, asked)
		require.Equal(t, []string{"_gossip._tcp.cluster.example"}, names)

		asked, _, _ = ask("10.0.0.1:2113")
		require.NotContains(t, asked, "n1.example:30778", "an address has no records")

		cfg.LookupSRV = nil
		asked, names, _ = ask("cluster.example:2113")
		require.Len(t, asked, 2)
		require.Len(t, names, 1, "whoever gives a function for addresses is not surprised by questions to the real DNS")

		cfg.LookupSRV = func(context.Context, string) ([]*net.SRV, error) { return nil, errors.New("no such records") }
		_, _, err = ask("cluster.example:2113")
		require.NotContains(t, err.Error(), "no such records", "most names have none")
		_, _, err = ask("_gossip._tcp.cluster.example:1")
		require.ErrorContains(t, err, "resolve _gossip._tcp.cluster.example: no such records")
	})
}

// A name server that hangs holds up nobody who is known without it, and for the time-out those who are not.
func TestASlowNameServer(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		hangs := true
		w.serve("a:2113", tells("Master a:1"))
		w.serve("10.0.0.1:2113", tells("Master a:1"))
		g := w.gossip(Config{DNS: "cluster.example:2113", Lookup: func(ctx context.Context, _ string) ([]string, error) {
			if hangs {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return []string{"10.0.0.1"}, nil
		}})
		_, err := g.Resolve(t.Context())
		require.ErrorIs(t, err, ErrNoGossip)
		require.ErrorContains(t, err, "resolve cluster.example")
		require.Equal(t, time.Second, time.Since(w.begun))
		hangs = false
		_, err = g.Resolve(t.Context())
		require.NoError(t, err)
		hangs = true
		begun := time.Now()
		_, err = g.Resolve(t.Context())
		require.NoError(t, err)
		require.Zero(t, time.Since(begun), "a member that was seen is asked meanwhile")
	})
}

// DNS cannot have any number of hosts asked.
func TestWhatANameCanHaveAskedIsBounded(t *testing.T) {
	inTown(t, func(t *testing.T, _ *town) {
		var addrs []string
		for i := range 1000 {
			addrs = append(addrs, fmt.Sprintf("10.0.%d.%d", i/250, i%250))
		}
		dials := 0
		g := gossip(t, Config{
			DNS:    "cluster.example:2113",
			Lookup: func(context.Context, string) ([]string, error) { return addrs, nil },
			Dial: func(context.Context, string, string) (net.Conn, error) {
				dials++
				return nil, errors.New("nobody")
			},
		})
		_, err := g.Resolve(t.Context())
		require.ErrorIs(t, err, ErrNoGossip)
		require.Equal(t, maxSeeds, dials)
	})
}

// A state that is not known is told once, and so is each other, but not any number of them.
func TestAnUnknownStateIsToldOnce(t *testing.T) {
	var log bytes.Buffer
	g := picker(t, Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	for range 10 {
		g.choose([]Member{{State: "Dreaming", Alive: true, TCP: "a:1"}, {State: "Leader", Alive: true, TCP: "b:1"}, {State: "Mad", TCP: "c:1"}}, Leader, nil)
	}
	require.Equal(t, 1, strings.Count(log.String(), "state=Dreaming"))
	require.Equal(t, 1, strings.Count(log.String(), "level=WARN"))
	for i := range 100 {
		g.choose([]Member{{State: fmt.Sprint(i, strings.Repeat("x", 1000)), Alive: true, TCP: "a:1"}}, Leader, nil)
	}
	require.Equal(t, maxWarned, strings.Count(log.String(), "level=WARN"))
	require.Less(t, log.Len(), 300*maxWarned)
}

// Whoever leaves early leaves nobody behind who still asks.
func TestAnEndedContextEndsAllQuestions(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		w.silent("a:1")
		w.silent("b:1")
		ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
		defer cancel()
		_, err := w.gossip(Config{Seeds: []string{"a:1", "b:1", "c:1"}}).Resolve(ctx)
		require.ErrorIs(t, err, ErrNoGossip)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 150*time.Millisecond, time.Since(w.begun))
	})
}

// A dial that hangs ends with its question. It once went on for as long as the network let it, in the transport's hands.
func TestADialEndsWithItsQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dialing := 0
		g := gossip(t, Config{Seeds: []string{"a:1"}, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			dialing++
			<-ctx.Done()
			dialing--
			return nil, ctx.Err()
		}})
		_, err := g.Resolve(t.Context())
		require.ErrorIs(t, err, ErrNoGossip)
		synctest.Wait()
		require.Zero(t, dialing)
	})
}
