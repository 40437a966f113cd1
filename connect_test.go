package eventstore_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/cluster"
	"github.com/goeventstore/eventstore/internal/memnet"
	"github.com/goeventstore/eventstore/internal/scripted"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
	"github.com/goeventstore/eventstore/server"
)

// certificate is one for example.com and 127.0.0.1, with a configuration and a file that trust it.
func certificate(t *testing.T) (keys, trust *tls.Config, file string) {
	t.Helper()
	web := httptest.NewUnstartedServer(http.NotFoundHandler())
	web.StartTLS()
	defer web.Close()
	pool := x509.NewCertPool()
	pool.AddCert(web.Certificate())
	file = filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw}), 0o600))
	return &tls.Config{Certificates: web.TLS.Certificates}, &tls.Config{RootCAs: pool}, file
}

// The ways to say which certificate is accepted, and what is said of one that is not.
func TestTLS(t *testing.T) {
	keys, trust, file := certificate(t)
	srv, err := server.Start(server.Config{Secure: "127.0.0.1:0", TLS: keys})
	require.NoError(t, err)
	defer func() { require.NoError(t, srv.Close()) }()
	secure := strings.TrimPrefix(srv.SecureURL(), "tls://")
	plain := strings.TrimPrefix(srv.URL(), "tcp://")
	other := trust.Clone()
	other.ServerName = "node.other"
	tests := []struct {
		name, target string
		opts         []eventstore.Option
		says         []string // nil: it connects
	}{
		{name: "a configuration", target: "tcp://" + secure, opts: []eventstore.Option{eventstore.WithTLS(trust)}},
		{name: "a CA file", target: "tls://" + secure + "?tlsCA=" + file},
		{name: "a server name", target: "tls://" + secure + "?tlsServerName=example.com&tlsCA=" + file},
		{name: "a connection string", target: "ConnectTo=tcp://" + secure + ";UseSslConnection=true;ValidateServer=false"},
		{name: "no verification", target: "tcp://" + secure + "?tls=true&tlsInsecureSkipVerify=true"},
		{name: "a CA that is not trusted", target: "tls://" + secure, says: []string{secure, "not accepted for 127.0.0.1 (the certificate is for [example.com *.example.com 127.0.0.1", "is its CA given?"}},
		{name: "another name", target: "tls://" + secure, opts: []eventstore.Option{eventstore.WithTLS(other)}, says: []string{secure, "not accepted for node.other", "example.com", "connect by one of its names"}},
		{name: "TLS meets plain", target: "tls://" + plain, says: []string{plain, "does not speak it on this port"}},
		{name: "plain meets TLS", target: "tcp://" + secure, says: []string{secure, "the server speaks TLS on this port"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := eventstore.Connect(t.Context(), tt.target, tt.opts...)
			if tt.says == nil {
				require.NoError(t, err)
				require.NoError(t, c.Ping(t.Context()))
				require.NoError(t, c.Close())
				return
			}
			require.ErrorIs(t, err, eventstore.ErrRefused)
			for _, says := range tt.says {
				require.ErrorContains(t, err, says)
			}
		})
	}
}

// gossipOf serves a document over HTTP.
func gossipOf(t *testing.T, document func() string) (addr string) {
	t.Helper()
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Error("the password was sent")
		}
		_, _ = io.WriteString(w, document())
	}))
	t.Cleanup(web.Close)
	return web.Listener.Addr().String()
}

func member(state string, alive bool, addr string) string {
	host, port, _ := strings.Cut(addr, ":")
	return fmt.Sprintf(`{"state":%q,"isAlive":%v,"externalTcpIp":%q,"externalTcpPort":%s,"externalSecureTcpPort":0}`, state, alive, host, port)
}

func TestAClusterByGossip(t *testing.T) {
	leader, err := server.Start(server.Config{})
	require.NoError(t, err)
	defer func() { require.NoError(t, leader.Close()) }()
	follower, err := server.Start(server.Config{})
	require.NoError(t, err)
	defer func() { require.NoError(t, follower.Close()) }()
	at := func(s *server.Server) string { return strings.TrimPrefix(s.URL(), "tcp://") }
	document := `{"members":[` + member("Slave", true, at(follower)) + `,` + member("Master", true, at(leader)) + `,` + member("Master", false, "127.0.0.1:1") + `]}`
	seed := gossipOf(t, func() string { return document })
	for target, want := range map[string]string{
		"gossip://admin:changeit@127.0.0.1:1," + seed:       at(leader),
		"gossip://" + seed + "?preference=follower":         at(follower),
		"discover://" + seed:                                at(leader),
		"GossipSeeds=" + seed + ";NodePreference=Slave":     at(follower),
		"ConnectTo=discover://admin:changeit@" + seed + ";": at(leader),
	} {
		c, err := eventstore.Connect(t.Context(), target)
		require.NoError(t, err, target)
		require.Equal(t, eventstore.State{Phase: eventstore.Connected, Addr: want}, c.State())
		require.NoError(t, c.Ping(t.Context()))
		require.NoError(t, c.Close())
	}
	// With TLS nobody is asked in plain, unless it is said in as many words.
	_, err = eventstore.Connect(t.Context(), "gossip://"+seed+"?tls=true")
	require.ErrorIs(t, err, eventstore.ErrRefused)
	require.ErrorContains(t, err, "the node speaks plain HTTP on this port")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err = eventstore.Connect(ctx, "gossip://"+seed+"?tls=true&gossip=http")
	require.ErrorIs(t, err, cluster.ErrNoNode)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, `("Master") offers no TLS over TCP`)
	require.ErrorContains(t, err, `127.0.0.1:1 ("Master") dead`)
}

// resolving is a resolver made of a function.
type resolving func(ctx context.Context) (string, error)

func (r resolving) Resolve(ctx context.Context) (string, error) { return r(ctx) }

// The resolver is asked before each attempt; Connect tells the last failure of each address.
func TestTheResolverIsAskedEachTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memnet.New()
		srv, err := server.Start(server.Config{Listen: network.Listen})
		require.NoError(t, err)
		answers := []string{"a:1", "b:2", "", "a:1", strings.TrimPrefix(srv.URL(), "tcp://")}
		asked := 0
		r := resolving(func(context.Context) (string, error) {
			asked++
			if asked == 3 {
				return "", errors.New("nobody knows")
			}
			return answers[min(asked, len(answers))-1], nil
		})
		c, err := eventstore.Connect(t.Context(), "tcp://unused", eventstore.WithDialer(network.Dial), eventstore.WithResolver(r))
		require.NoError(t, err)
		require.Equal(t, 5, asked)
		require.NoError(t, c.Close())

		asked = 0
		answers = answers[:2]
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, err = eventstore.Connect(ctx, "tcp://unused", eventstore.WithDialer(network.Dial), eventstore.WithResolver(r))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		for _, says := range []string{"connect to a:1: ", "connect to b:2: ", "nobody knows"} {
			require.Equal(t, 1, strings.Count(err.Error(), says), "%v", err)
		}
		require.NoError(t, srv.Close())
	})
}

// The attempt that is under way when the time is up does not hide what was wrong until then.
func TestTheEndOfTheTimeHidesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dials := 0
		dial := func(ctx context.Context, _, addr string) (net.Conn, error) {
			if dials++; dials < 3 {
				return nil, fmt.Errorf("refused for the %d. time", dials)
			}
			until, _ := ctx.Deadline()
			time.Sleep(time.Until(until)) // a socket's own deadline may come before the context's timer
			return nil, fmt.Errorf("dial %s: %w", addr, os.ErrDeadlineExceeded)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, err := eventstore.Connect(ctx, "tcp://a:1", eventstore.WithDialer(dial))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.EqualError(t, err, "connect at a:1, attempt 3: context deadline exceeded: connect to a:1: refused for the 2. time\n"+
			"connect to a:1: dial a:1: i/o timeout")
	})
}

// notLeading plays a node that names another, and counts how often it was asked. Pings are answered.
func notLeading(leader string, asked *atomic.Int32) func(p *scripted.Peer) {
	info := &pb.LeaderInfo{HttpAddress: proto.String("x"), HttpPort: proto.Int32(1)}
	if host, port, found := strings.Cut(leader, ":"); found {
		var n int32
		_, _ = fmt.Sscan(port, &n)
		info.ExternalTcpAddress, info.ExternalTcpPort = &host, &n
	}
	b, _ := proto.MarshalOptions{AllowPartial: true}.Marshal(info)
	return scripted.Identified(func(p *scripted.Peer) {
		for {
			f, err := p.Reader.Next()
			switch {
			case err != nil:
				return
			case f.Command == messages.Ping:
				p.Send(messages.Pong, f.ID, "")
			case f.Command == messages.HeartbeatRequest:
				p.Send(messages.HeartbeatResponse, f.ID, "")
			case f.Command == messages.WriteEvents || f.Command == messages.SubscribeToStream:
				asked.Add(1)
				reason := pb.NotHandled_NotLeader
				p.SendRequest(f.ID, messages.Of(messages.NotHandled, &pb.NotHandled{Reason: &reason, AdditionalInfo: b}))
			}
		}
	})
}

// A node that does not lead says who does: the client goes there, with calls and subscriptions.
func TestAHintIsFollowed(t *testing.T) {
	for name, ask := range map[string]func(ctx context.Context, c *eventstore.Client) error{
		"append": func(ctx context.Context, c *eventstore.Client) error {
			_, err := c.Append(ctx, "s", eventstore.Any, numbered(1))
			return err
		},
		"subscription": func(ctx context.Context, c *eventstore.Client) error {
			x, err := c.Open(ctx, subscribe, window)
			if err == nil {
				err = x.Close()
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				network := memnet.New()
				srv, err := server.Start(server.Config{Listen: network.Listen})
				require.NoError(t, err)
				leader := strings.TrimPrefix(srv.URL(), "tcp://")
				var asked atomic.Int32
				scripted.ListenOn(t, network, "follower:1", notLeading(leader, &asked))
				c, err := eventstore.Connect(t.Context(), "tcp://admin:changeit@follower:1", eventstore.WithDialer(network.Dial))
				require.NoError(t, err)
				require.NoError(t, ask(t.Context(), c))
				require.Equal(t, leader, c.State().Addr)
				require.EqualValues(t, 1, asked.Load())
				time.Sleep(time.Second)
				require.EqualValues(t, 1, c.Stats().Reconnects)
				require.NoError(t, c.Close())
				require.NoError(t, srv.Close())
			})
		})
	}
}

// Hints that lead nowhere, or back, cost no more attempts than the backoff allows, and the connection is kept meanwhile.
func TestAWrongHintIsNoLoop(t *testing.T) {
	for name, leader := range map[string]string{"a dead node": "dead:1", "itself": "follower:1", "nobody": "", "the other follower": "second:1"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				network := memnet.New()
				var asked atomic.Int32
				var dialed []string
				var mu sync.Mutex
				scripted.ListenOn(t, network, "follower:1", notLeading(leader, &asked))
				scripted.ListenOn(t, network, "second:1", notLeading("follower:1", &asked))
				l := &line{Network: network}
				c, err := eventstore.Connect(t.Context(), "tcp://follower:1", eventstore.WithDialer(l.Dial), eventstore.WithHooks(dials(func(d eventstore.DialInfo) {
					mu.Lock()
					defer mu.Unlock()
					dialed = append(dialed, d.Addr)
				})))
				require.NoError(t, err)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				var wait sync.WaitGroup
				for range 20 {
					wait.Go(func() {
						_, err := c.Append(ctx, "s", eventstore.Any, numbered(1))
						if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, eventstore.ErrNotLeader) {
							t.Error(err)
						}
					})
				}
				wait.Wait()
				mu.Lock()
				defer mu.Unlock()
				t.Logf("%d dials in a minute", len(dialed))
				require.LessOrEqual(t, len(dialed), 40)
				require.Equal(t, eventstore.Connected, c.State().Phase)
				require.NoError(t, c.Ping(t.Context()))
				require.NoError(t, c.Close())
			})
		})
	}
}

type dials func(eventstore.DialInfo)

func (d dials) OnDial(info eventstore.DialInfo) { d(info) }

// A call that is under way when the client moves on is answered where it was sent.
func TestCallsUnderWayAreAnsweredWhereTheyWereSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memnet.New()
		srv, err := server.Start(server.Config{Listen: network.Listen})
		require.NoError(t, err)
		leader := strings.TrimPrefix(srv.URL(), "tcp://")
		host, port, _ := strings.Cut(leader, ":")
		var n int32
		_, _ = fmt.Sscan(port, &n)
		info, err := proto.Marshal(&pb.LeaderInfo{ExternalTcpAddress: &host, ExternalTcpPort: &n, HttpAddress: &host, HttpPort: &n})
		require.NoError(t, err)
		scripted.ListenOn(t, network, "follower:1", scripted.Identified(func(p *scripted.Peer) {
			slow := p.Want(messages.DeleteStream).ID
			reason := pb.NotHandled_NotLeader
			p.SendRequest(p.Want(messages.WriteEvents).ID, messages.Of(messages.NotHandled, &pb.NotHandled{Reason: &reason, AdditionalInfo: info}))
			time.Sleep(2 * time.Second)
			p.SendRequest(slow, messages.Of(messages.DeleteStreamCompleted, &pb.DeleteStreamCompleted{Result: pb.OperationResult_Success.Enum()}))
			scripted.Drain(p)
		}))
		c, err := eventstore.Connect(t.Context(), "tcp://follower:1", eventstore.WithDialer(network.Dial))
		require.NoError(t, err)
		deleted := make(chan error, 1)
		go func() {
			_, err := c.Delete(t.Context(), "other", eventstore.Any)
			deleted <- err
		}()
		synctest.Wait()
		_, err = c.Append(t.Context(), "s", eventstore.Any, numbered(1))
		require.NoError(t, err)
		require.Equal(t, leader, c.State().Addr)
		require.NoError(t, <-deleted)
		require.NoError(t, c.Close())
		require.NoError(t, srv.Close())
	})
}
