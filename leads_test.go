package eventstore_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/cluster"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// follow opens a subscription, which every node serves, and returns the end of its connection, or of ctx.
func follow(ctx context.Context, c *eventstore.Client) error {
	x, err := c.Open(ctx, messages.Of(messages.SubscribeToStream, &pb.SubscribeToStream{EventStreamId: new(string), ResolveLinkTos: new(bool)}),
		eventstore.Window{Frames: 1, Bytes: 1})
	if err == nil {
		_, err = x.Recv(ctx) // the confirmation
	}
	if err == nil {
		_, err = x.Recv(ctx)
	}
	return err
}

// asked is how often a node was asked whether it leads.
func (p *nodes) asked(name string) (count int) {
	p.set(func(n map[string]*playedNode) { count = n[name].asked })
	return count
}

// A node that has stopped leading serves subscriptions as before, and tells nobody. A client that only subscribed stayed there for ever.
func TestWhoOnlySubscribesGoesToTheNewLeader(t *testing.T) {
	for _, way := range farewells {
		if way.goes == nil {
			continue // its connections end
		}
		for _, election := range []time.Duration{0, time.Second, 20 * time.Second, 3 * time.Minute} {
			t.Run(way.name+", "+election.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					p := playNodes(t, "n1", "n2", "n3")
					p.settled("n1")
					c := p.connect()
					time.Sleep(11 * time.Second)
					following, stop := context.WithTimeout(t.Context(), 5*time.Minute)
					defer stop()
					var at time.Time
					ended := make(chan error, 1)
					go func() {
						err := follow(following, c)
						at = time.Now()
						ended <- err
					}()
					synctest.Wait()
					lost := time.Now()
					p.set(func(n map[string]*playedNode) { way.goes(n["n1"]) })
					time.Sleep(election)
					elected := time.Now()
					p.set(func(n map[string]*playedNode) {
						n["n2"].state, n["n3"].hint = "Leader", "n2"
						for _, other := range []string{"n2", "n3"} {
							n[other].gossip = "Slave n3, Master n2, Master n1 dead"
						}
						if way.name == "follows" { // and hears of the new one
							n["n1"].hint, n["n1"].gossip = "n2", "Slave n3, Master n2, Slave n1"
						}
					})
					require.ErrorIs(t, <-ended, eventstore.ErrConnectionLost)
					for c.State().Addr != "n2:1113" {
						require.Less(t, time.Since(elected), time.Minute)
						time.Sleep(time.Millisecond)
					}
					from := elected
					if noticed := lost.Add(noticing); noticed.After(from) {
						from = noticed
					}
					require.LessOrEqual(t, time.Since(from), 8500*time.Millisecond+time.Millisecond, "as for calls")
					if !way.silent {
						require.LessOrEqual(t, at.Sub(from), 8500*time.Millisecond+20*time.Millisecond, "the old connection ends when it has nothing to do")
						require.EqualValues(t, 1, c.Stats().Reconnects)
					}
				})
			})
		}
	}
}

// Gossip was late, or lied, when the client connected.
func TestAWrongLeaderIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := playNodes(t, "n1", "n2", "n3")
		p.settled("n1")
		p.set(func(n map[string]*playedNode) {
			for _, n := range n {
				n.gossip = "Slave n1, Master n2, Slave n3"
			}
		})
		c := p.connect()
		require.Equal(t, "n2:1113", c.State().Addr)
		time.Sleep(noticing + 10*time.Millisecond)
		require.Equal(t, "n1:1113", c.State().Addr, "the node says who leads")
	})
}

// Two nodes deny that they lead and name each other, and gossip says of the one where the client is not that it leads. It once went to
// and fro, and each time every subscription began anew.
func TestNobodyIsSentToAndFro(t *testing.T) {
	for name, gossip := range map[string]string{
		"gossip names the other": "Master n2, Slave n1",
		"gossip names nobody":    "Slave n2, Slave n1",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := playNodes(t, "n1", "n2")
				p.settled("n1")
				c := p.connect()
				time.Sleep(time.Minute)
				p.set(func(n map[string]*playedNode) {
					n["n1"].state, n["n1"].hint, n["n1"].gossip = "Follower", "n2", gossip
					n["n2"].state, n["n2"].hint, n["n2"].gossip = "Follower", "n1", gossip
				})
				time.Sleep(time.Minute)
				require.Zero(t, c.Stats().Reconnects)
				require.Equal(t, "n1:1113", c.State().Addr)
				before := p.dials("n2:1113")
				time.Sleep(time.Minute)
				dials := p.dials("n2:1113") - before
				require.Greater(t, dials, 5, "it goes on looking")
				require.LessOrEqual(t, dials, 2*30, "where the hint says and where gossip does, never faster than the backoff")

				p.set(func(n map[string]*playedNode) { n["n2"].state = "Leader" })
				time.Sleep(8500 * time.Millisecond)
				require.Equal(t, "n2:1113", c.State().Addr)
				require.EqualValues(t, 1, c.Stats().Reconnects)
			})
		})
	}
}

// Who is quick to tell of the wrong leader is not believed again, once that has denied it.
func TestWhoTellsOfAWrongLeaderIsNotBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := playNodes(t, "n1", "n2", "n3")
		p.settled("n1")
		c := p.connect()
		p.settled("n2")
		p.set(func(n map[string]*playedNode) {
			n["n1"].state, n["n1"].gossip = "Unknown", "Unknown n1, Slave n2, Master n3"
			n["n2"].slow, n["n3"].slow = 700*time.Millisecond, 700*time.Millisecond
		})
		time.Sleep(noticing + 8500*time.Millisecond)
		require.Equal(t, "n2:1113", c.State().Addr)
		require.EqualValues(t, 1, c.Stats().Reconnects)
	})
}

// The new leader names itself before it takes anything: it is not gone to before it does, and then at once.
func TestALeaderThatIsNotReadyIsNotGoneTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := playNodes(t, "n1", "n2", "n3")
		p.settled("n1")
		c := p.connect()
		p.settled("n2")
		p.set(func(n map[string]*playedNode) { n["n2"].state = "Unknown" })
		time.Sleep(20 * time.Second)
		require.Equal(t, "n1:1113", c.State().Addr)
		p.set(func(n map[string]*playedNode) { n["n2"].state = "Leader" })
		time.Sleep(8500 * time.Millisecond)
		require.Equal(t, "n2:1113", c.State().Addr)
	})
}

// One that takes its time over the answer is not denying anything, and is waited for no longer than gossip.
func TestABusyLeaderIsGoneTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := playNodes(t, "n1", "n2", "n3")
		p.settled("n1")
		c := p.connect()
		p.settled("n2")
		p.set(func(n map[string]*playedNode) { n["n2"].says = silence })
		time.Sleep(noticing + time.Second + 10*time.Millisecond)
		require.Equal(t, "n2:1113", c.State().Addr)
	})
}

// The question is no call: nothing shows that it is asked, and it takes no place of one.
func TestTheQuestionIsNoCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := playNodes(t, "n1", "n2", "n3")
		p.settled("n1")
		told := new(witness)
		c := p.connect(eventstore.WithHooks(told), eventstore.WithMaxInFlight(1), eventstore.WithQueue(1), eventstore.WithFailFast(), eventstore.WithReadOnly())
		told.take()
		time.Sleep(time.Minute)
		for _, said := range told.take() {
			require.True(t, strings.HasPrefix(said, "heartbeat "), "%s", said)
		}
		stats := c.Stats()
		require.Zero(t, stats.LateFrames)
		require.Zero(t, stats.InFlight)
		require.Equal(t, 17, p.asked("n1"), "once in 3.5 s")
		p.set(func(n map[string]*playedNode) {
			require.Equal(t, "admin", n["n1"].login, "servers from 23.6 on deny everything to who has no credentials")
		})

		var states []eventstore.State
		watching, stop := context.WithCancel(t.Context())
		go func() {
			for state := range c.Watch(watching) {
				states = append(states, state)
			}
		}()
		time.Sleep(time.Minute)
		stop()
		synctest.Wait()
		require.Len(t, states, 1)
	})
}

// A node that was not ready is elected: the search for another is over, and the leader of before, which was paused and goes on, is not
// gone to although it says that it leads.
func TestWhoIsElectedIsNotLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := playNodes(t, "n1", "n2")
		p.settled("n1")
		c := p.connect()
		p.set(func(n map[string]*playedNode) {
			n["n1"].state, n["n1"].gossip, n["n2"].gossip = "Unknown", "Unknown n1, Master n2 dead", ""
		})
		time.Sleep(noticing + time.Second) // it looks for the leader
		p.set(func(n map[string]*playedNode) { n["n1"].state, n["n1"].gossip = "Leader", "Master n1, Master n2 dead" })
		time.Sleep(noticing)
		p.set(func(n map[string]*playedNode) {
			n["n1"].gossip, n["n2"].gossip, n["n2"].state = "Master n1, Master n2", "Master n1, Master n2", "Leader"
		})
		before := p.dials()
		time.Sleep(time.Minute)
		require.Equal(t, "n1:1113", c.State().Addr)
		require.Equal(t, before, p.dials())
	})
}

// silence has a node say nothing to the question.
func silence() messages.Request { return nil }

// saying has it say the same each time.
func saying(r messages.Request) func() messages.Request {
	return func() messages.Request { return r }
}

// Whatever is no refusal for want of leading leaves the client where it is.
func TestOtherAnswersToTheQuestion(t *testing.T) {
	denied := pb.ReadEventCompleted_AccessDenied
	for name, says := range map[string]func() messages.Request{
		"access denied":     saying(messages.Of(messages.ReadEventCompleted, &pb.ReadEventCompleted{Result: &denied, Event: &pb.ResolvedIndexedEvent{}})),
		"not authenticated": saying(messages.Raw(messages.NotAuthenticated, []byte("Not Authenticated"))),
		"a bad request":     saying(messages.Raw(messages.BadRequest, []byte("what?"))),
		"busy":              saying(messages.Of(messages.NotHandled, &pb.NotHandled{Reason: pb.NotHandled_TooBusy.Enum()})),
		"nonsense":          saying(messages.Raw(messages.NotHandled, []byte{0xff})),
		"nothing":           silence,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := playNodes(t, "n1", "n2", "n3")
				p.settled("n1")
				c := p.connect()
				p.set(func(n map[string]*playedNode) { n["n1"].says = says })
				before := p.dials()
				time.Sleep(time.Minute)
				require.Equal(t, before, p.dials())
				require.Equal(t, "n1:1113", c.State().Addr)
				require.NoError(t, c.Ping(t.Context()))
				require.GreaterOrEqual(t, p.asked("n1"), 16)
			})
		})
	}
}

// Who does not prefer the leader of a cluster does not ask, and the rhythm is that of heartbeats.
func TestWhoAsksWhetherANodeLeads(t *testing.T) {
	for name, tt := range map[string]struct {
		target string // "": the cluster
		opts   []eventstore.Option
		asks   int
	}{
		"by default":              {asks: 17},
		"with slower heartbeats":  {opts: []eventstore.Option{eventstore.WithHeartbeat(8*time.Second, 3*time.Second)}, asks: 5},
		"calls anywhere":          {opts: []eventstore.Option{eventstore.WithRequireLeader(false)}, asks: 17},
		"follower":                {opts: []eventstore.Option{eventstore.WithPreference(cluster.Follower)}},
		"random":                  {opts: []eventstore.Option{eventstore.WithPreference(cluster.Random)}},
		"one node":                {target: "tcp://n1"},
		"a resolver of one's own": {target: "tcp://n1", opts: []eventstore.Option{eventstore.WithResolver(cluster.Static("n1:1113"))}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				names := []string{"n1", "n2", "n3"}
				p := playNodes(t, names...)
				p.settled("n1")
				if tt.target == "" {
					tt.target = p.target()
				}
				c, err := eventstore.Connect(t.Context(), tt.target, append(slices.Clone(tt.opts), eventstore.WithDialer(p.Dial))...)
				require.NoError(t, err)
				time.Sleep(time.Minute)
				asks := 0
				for _, name := range names {
					asks += p.asked(name)
				}
				require.Equal(t, tt.asks, asks)
				require.NoError(t, c.Close())
			})
		})
	}
}
