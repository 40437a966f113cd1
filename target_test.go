package eventstore_test

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
)

func TestParseTarget(t *testing.T) {
	for s, want := range map[string]string{
		"tcp://127.0.0.1:1113":                             "tcp://127.0.0.1:1113",
		"tcp://node":                                       "tcp://node:1113",
		"tcp://[::1]:1200":                                 "tcp://[::1]:1200",
		"tcp://[fe80::1%25en0]":                            "tcp://[fe80::1%25en0]:1113",
		"tcp://admin:s3cret@node:1/":                       "tcp://admin:xxxxx@node:1",
		"tls://admin:p%40ss@node.example":                  "tls://admin:xxxxx@node.example:1113",
		"discover://nodes.example":                         "discover://nodes.example:2113",
		"discover://u:p@nodes:1?tls=true":                  "discover://u:xxxxx@nodes:1?tls=true",
		"gossip://a":                                       "gossip://a:2113",
		"gossip://u:p@a:1,[::1],c/":                        "gossip://u:xxxxx@a:1,[::1]:2113,c:2113",
		"gossip://a?preference=Slave&gossip=http&TLS=true": "gossip://a:2113?gossip=http&preference=Slave&tls=true",
		"tcp://a?tls=true&tlsServerName=b":                 "tls://a:1113?tlsServerName=b",
		"tcp://a?tls=false":                                "tcp://a:1113",
		"tcp://a?name=two+words%26more&timeout=1.5s":       "tcp://a:1113?name=two+words%26more&timeout=1.5s",
		"gossip://a?gossip=https&tlsCA=ca.pem":             "gossip://a:2113?gossip=https&tlsCA=ca.pem",

		"ConnectTo=tcp://u:p@a:1":                       "tcp://u:xxxxx@a:1",
		" connect to = discover://a ; Gossip Port = 7;": "discover://a:7",
		"ConnectTo=discover://u:p@a:1;UseSslConnection=True;TargetHost=b;ValidateServer=false":                                                                "discover://u:xxxxx@a:1?tls=true&tlsInsecureSkipVerify=true&tlsServerName=b",
		"ConnectTo=tcp://a;ValidateServer=true;TargetHost=b":                                                                                                  "tcp://a:1113",
		"GossipSeeds=1.2.3.4:5, b:6;DefaultUserCredentials=u:p:q;NodePreference=Slave":                                                                        "gossip://u:xxxxx@1.2.3.4:5,b:6?preference=follower",
		"GossipSeeds=https://a:1,https://b:2;UseSslConnection=true":                                                                                           "gossip://a:1,b:2?gossip=https&tls=true",
		"ClusterDns=a;ExternalGossipPort=30778;GossipTimeout=500":                                                                                             "discover://a:30778?gossipTimeout=500ms",
		"ConnectTo=tcp://a;MaxRetries=-1;MaxConcurrentItems=9;RequireMaster=FALSE":                                                                            "tcp://a:1113?maxAttempts=0&maxInFlight=9&requireLeader=false",
		"ConnectTo=tcp://a;MaxRetries=10;ReconnectionDelay=1000;OperationTimeout=2000":                                                                        "tcp://a:1113?maxAttempts=11&reconnectDelay=1s&timeout=2s",
		"ConnectTo=tcp://a;HeartBeatTimeout=500;HEARTBEAT INTERVAL=750":                                                                                       "tcp://a:1113?heartbeatInterval=750ms&heartbeatTimeout=500ms",
		"ConnectTo=tcp://a;VerboseLogging=true;MaxQueueSize=1;MaxReconnections=-1;QueueTimeout=0":                                                             "tcp://a:1113",
		"ConnectTo=tcp://a;CompatibilityMode=auto;FailOnNoServerResponse=false;ClientConnectionTimeout=1;OperationTimeoutCheckPeriod=1;MaxDiscoverAttempts=1": "tcp://a:1113",
	} {
		target, err := eventstore.ParseTarget(s)
		require.NoError(t, err, s)
		require.Equal(t, want, target.String())
	}
}

func TestABadTargetIsRefusedInWords(t *testing.T) {
	for s, says := range map[string]string{
		"":                            "want tcp://",
		"node:1113":                   "want tcp",
		"localhost":                   "want tcp://host",
		"http://node:2113":            "this client speaks the TCP protocol, want tcp://node:1113",
		"ftp://node":                  `unknown scheme "ftp"`,
		"tcp://:1113":                 "the host is missing",
		"tcp://::":                    "an IPv6 address stands in brackets",
		"tcp://node:0":                `port "0"`,
		"tcp://node:99999":            `port "99999"`,
		"tcp://node/path":             "a path has no meaning",
		"tcp://node?namee=x":          `unknown key "namee", did you mean "name"?`,
		"tcp://admin:s3cret@node:bad": "no URL",
		"tcp://admin:s3cret@node?x=y": "unknown key",

		"tcp://admin:s3cret@node?password=s3cret": `unknown key "password"`,
		"tcp://node?timeout=5":                    `key timeout=5: want a time such as "1.5s"`,
		"tcp://node?maxInFlight=0":                "want a number from 1 on",
		"tcp://node?readOnly=yes":                 "want true or false",
		"tcp://node?preference=king":              `preference "king"`,
		"tcp://node?name=a&Name=b":                "key name is given twice",
		"tcp://node?name=%zz":                     "not well escaped",
		"tls://node?tls=false":                    "tls=false contradicts tls://",
		"tcp://node?tlsCA=x":                      "key tlsCA has no effect without TLS",
		"tcp://node?gossip=http":                  "has no effect for one node",
		"gossip://a?gossip=ftp":                   "want http or https",
		"gossip://":                               "the host is missing",
		"gossip://a,,b":                           "the host is missing",
		"gossip://a:1,b:0":                        `port "0"`,
		"gossip://admin:s3cret@a:1,b/c":           "a path has no meaning",
		"tls://node?tlsCA=/no/such/file":          "key tlsCA: open /no/such/file",
		"tls://node?tlsCA=go.mod":                 "has no certificate in PEM",
		"discover://a:1:2":                        "is no host",

		"ConnectTo=tcp://admin:s3cret@a;Colour=red":               `unknown key "Colour", did you mean "`,
		"ConnectTo=tcp://admin:s3cret@a;HeartbeatTimout=5":        `did you mean "HeartbeatTimeout"?`,
		"ConnectTo=tcp://a;ConnectTo=tcp://b":                     "key ConnectTo is given twice",
		"ConnectTo=tcp://admin:s3;cret@a":                         "in a password, write %3B",
		"ConnectTo=tcp://a;GossipSeeds=b:1":                       "want one of ConnectTo, ClusterDns and GossipSeeds",
		"MaxRetries=1":                                            "want one of ConnectTo, ClusterDns and GossipSeeds",
		"ConnectTo=http://admin:s3cret@a":                         "want tcp:// or discover://",
		"ConnectTo=tcp://admin:s3cret@a?x=y":                      "nothing may stand behind the port",
		"ConnectTo=tcp://admin:s3cret@a:b":                        "ConnectTo: no URL",
		"ConnectTo=tcp://a;DefaultUserCredentials=s3cret":         "want user:password",
		"ConnectTo=tcp://a;OperationTimeout=7s":                   "key OperationTimeout: want milliseconds",
		"ConnectTo=tcp://a;MaxRetries=-2":                         "want a number from -1 on",
		"ConnectTo=tcp://a;QueueTimeout=100":                      "give each call a context with a deadline",
		"ConnectTo=tcp://a;FailOnNoServerResponse=true":           "bound the attempts by maxAttempts",
		"ConnectTo=tcp://a;VerboseLogging=1":                      "want true or false",
		"ConnectTo=tcp://a;CompatibilityMode=21":                  "want disabled, auto, 5 or 20",
		"ConnectTo=tcp://a;MaxQueueSize=x":                        "want a number",
		"ConnectTo=discover://a;GossipPort=0":                     "GossipPort: want 1 to 65535",
		"GossipSeeds=http://a:1,b:2":                              "GossipSeeds: want all with http://",
		"GossipSeeds=ftp://a:1":                                   "GossipSeeds: want all with http://",
		"ConnectTo=tcp://a;RequireMaster=true;RequireLeader=true": "key requireLeader is given twice",
	} {
		_, err := eventstore.Connect(t.Context(), s)
		require.ErrorIs(t, err, eventstore.ErrArgument, s)
		require.ErrorContains(t, err, says, s)
		require.NotContains(t, err.Error(), "s3cret")
	}
}

func TestBadOptionsAreRefusedInWords(t *testing.T) {
	for says, o := range map[string]eventstore.Option{
		"WithTimeout(0s)":           eventstore.WithTimeout(0),
		"WithHeartbeat(0s, 1s)":     eventstore.WithHeartbeat(0, time.Second),
		"WithMaxAttempts(-1)":       eventstore.WithMaxAttempts(-1),
		"WithMaxInFlight(0)":        eventstore.WithMaxInFlight(0),
		"WithBackoff(nil)":          eventstore.WithBackoff(nil),
		"WithLogger(nil)":           eventstore.WithLogger(nil),
		"a nil Option":              nil,
		"the password is empty":     eventstore.WithCredentials("admin", ""),
		"the login has 300 bytes":   eventstore.WithCredentials(string(make([]byte, 300)), "x"),
		"the login is empty":        eventstore.WithCredentials("", "x"),
		"the wire carries 127":      eventstore.WithCredentials("ä", string(make([]byte, 128))),
		"the password has 256 byte": eventstore.WithCredentials("a", string(make([]byte, 256))),
	} {
		_, err := eventstore.Connect(t.Context(), "tcp://127.0.0.1:1", o)
		require.ErrorIs(t, err, eventstore.ErrArgument, says)
		require.ErrorContains(t, err, says)
	}
}

func TestAnotherKindOfPortEndsConnectAtOnce(t *testing.T) {
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // it finds our client as odd as we find it
	secure.StartTLS()
	defer secure.Close()
	for name, tt := range map[string]struct{ target, says string }{
		"HTTP":              {"tcp://" + web.Listener.Addr().String(), "is this the HTTP port?"},
		"TLS":               {"tcp://" + secure.Listener.Addr().String(), "TLS"},
		"plain, not TLS":    {"tls://" + web.Listener.Addr().String(), "does not speak it on this port"},
		"a bad certificate": {"tls://" + secure.Listener.Addr().String(), "certificate is not accepted"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			_, err := eventstore.Connect(ctx, tt.target, eventstore.WithTimeout(time.Minute))
			require.ErrorIs(t, err, eventstore.ErrRefused)
			require.ErrorContains(t, err, tt.says)
			var op *eventstore.OpError
			require.ErrorAs(t, err, &op)
			require.Equal(t, 1, op.Attempts)
			require.NotEmpty(t, op.Addr)
		})
	}
}

func TestConnectToNobodySaysWhereAndWhy(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := l.Addr().String()
	require.NoError(t, l.Close())
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err = eventstore.Connect(ctx, "tcp://"+addr)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, addr)
	require.ErrorContains(t, err, "refused")
	var op *eventstore.OpError
	require.ErrorAs(t, err, &op)
	require.Greater(t, op.Attempts, 1, "it tries until the context ends")
}
