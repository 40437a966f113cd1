package server

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/goeventstore/eventstore/internal/memnet"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
	"github.com/goeventstore/eventstore/server/internal/groups"
)

// speaking starts a server that speaks a dialect, but for TLS, and ends with the test.
func speaking(tb testing.TB, d Dialect) *node {
	tb.Helper()
	d.TLS = false
	network := memnet.New()
	s, err := Start(Config{Listen: network.Listen, Dialect: d})
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, s.Close()) })
	return &node{Server: s, network: network}
}

// of is the generation of a preset, without its switches.
func of(g generation) Dialect { return Dialect{generation: g} }

var admin = []string{"admin", "changeit"}

func TestDialectsHaveNames(t *testing.T) {
	seen := map[Dialect]bool{}
	for _, name := range DialectNames() {
		d, err := ParseDialect(name)
		require.NoError(t, err)
		require.False(t, seen[d], "%s is another one's twin", name)
		seen[d] = true
		require.True(t, strings.HasPrefix(d.version(), strings.Split(name, ".")[0]+"."), d.version())
	}
	require.Len(t, seen, 7)
	require.True(t, seen[Dialect{}], "the zero value is 4.1")
	_, err := ParseDialect("6")
	require.ErrorContains(t, err, `no dialect is called "6": there are 3.9.3, 3.9.4, 4.1, 5.0, 20.10, 22.6, 23.10`)
}

// refusal requires that a request is a BadRequest which calls the command this.
func (p *peer) refusal(r messages.Request, name string, credentials ...string) {
	p.t.Helper()
	a := p.call(r, credentials...)
	require.Equal(p.t, messages.BadRequest, a.command, "%s: %x", name, a.body)
	require.Equal(p.t, "Could not unwrap network package for command "+name+".\n", string(a.body))
}

// TestNumbersOf32Bits: a number that does not fit is no number, and a deleted stream ends with 2147483647.
func TestNumbersOf32Bits(t *testing.T) {
	const large = 1 << 31
	wide, narrow := run(t).peer(t), speaking(t, Dialect{Numbers32: true}).peer(t)
	group := func(start int64) *pb.CreatePersistentSubscription {
		return &pb.CreatePersistentSubscription{SubscriptionGroupName: proto.String("g"), EventStreamId: proto.String("s"), StartFrom: &start}
	}
	requests := func(number int64) []messages.Request {
		return []messages.Request{
			&messages.Append{Stream: "s", Expected: number, Events: events("a")},
			messages.Of(messages.DeleteStream, &pb.DeleteStream{EventStreamId: proto.String("s"), ExpectedVersion: &number}),
			messages.Of(messages.TransactionStart, &pb.TransactionStart{EventStreamId: proto.String("s"), ExpectedVersion: &number}),
			&messages.EventRead{Stream: "s", Number: number},
			&messages.StreamRead{Stream: "s", From: number, Count: 1},
			&messages.StreamRead{Stream: "s", From: number, Count: 1, Backward: true},
			messages.Of(messages.CreatePersistentSubscription, group(number)),
			messages.Of(messages.UpdatePersistentSubscription, group(number)),
			messages.Of(messages.DeletePersistentSubscription, group(number)),
		}
	}
	for _, r := range requests(large) {
		require.NotEqual(t, messages.BadRequest, wide.call(r).command, "%s", r.Command())
		narrow.refusal(r, r.Command().String())
	}
	for _, number := range []int64{large - 1, -1} { // negative ones have ten bytes
		for _, r := range requests(number) {
			require.NotEqual(t, messages.BadRequest, narrow.call(r).command, "%s", r.Command())
		}
	}

	narrow.appended("deleted", expectNoStream, "ab")
	require.Equal(t, pb.OperationResult_Success, narrow.delete("deleted", 1, false).GetResult())
	_, json := narrow.lastMetadata("deleted")
	require.JSONEq(t, `{"$tb":2147483647}`, json)
	require.Equal(t, page{result: messages.ReadStreamNoStream, next: -1, last: 1, end: true}, narrow.forward("deleted", 0, 10))
	require.EqualValues(t, 2, narrow.appended("deleted", expectAny, "c").First)
	require.Equal(t, []int64{2}, narrow.forward("deleted", 0, 10).numbers)
	narrow.metadata("deleted", `{"$tb":9223372036854775807}`)
	require.Equal(t, messages.ReadStreamSuccess, narrow.forward("deleted", 0, 10).result, "that is no number here")

	id, _ := narrow.subscribe("hard")
	require.Equal(t, pb.OperationResult_Success, narrow.delete("hard", expectAny, true).GetResult())
	require.Equal(t, messages.DeletedNumber32, narrow.event(id).Event.Number)
	require.Equal(t, messages.DeletedNumber32, narrow.forward("hard", 0, 1).last)
	_, confirmation := narrow.subscribe("hard")
	require.Equal(t, messages.DeletedNumber32, confirmation.GetLastEventNumber())
}

// TestWithoutIdentify: IdentifyClient is like any command that is not known.
func TestWithoutIdentify(t *testing.T) {
	n := speaking(t, Dialect{NoIdentify: true})
	p := n.raw(t)
	for _, version := range []int32{0, 1, 2} {
		identify := messages.Of(messages.IdentifyClient, &pb.IdentifyClient{Version: &version})
		p.refusal(identify, "245")
		require.Equal(t, messages.NotAuthenticated, p.call(identify, "admin", "wrong").command)
	}
	p.refusal(messages.Raw(messages.ClientIdentified, nil), "246")
	p.appended("s", expectNoStream, "a")
	require.Equal(t, pb.OperationResult_Success, p.delete("s", expectAny, true).GetResult())
	require.Equal(t, messages.DeletedNumber32, p.forward("s", 0, 1).last, "nobody has numbers of 64 bits")
}

// TestSmallPrint: what the generations answer otherwise, switches aside.
func TestSmallPrint(t *testing.T) {
	for _, c := range []struct {
		generation              generation
		current, retries, v1    bool
		tb                      int64
		next                    bool // behind a page of all streams the prepare position is that of the commit
		denied                  string
		again                   bool // the answer to a write that was there has its position
		deleteTells, deletes4   bool
		scavenge                string
		opsManage, plain, known bool
	}{
		{generation: generation393, v1: true, tb: messages.DeletedNumber32, next: true, denied: "Access denied."},
		{generation: generation394, v1: true, tb: messages.DeletedNumber32, denied: "Access denied."},
		{generation: generation41, current: true, retries: true, v1: true, tb: messages.DeletedNumber, denied: "Access denied."},
		{
			generation: generation50, current: true, retries: true, v1: true, tb: messages.DeletedNumber, denied: "Access denied.",
			opsManage: true, plain: true,
		},
		{
			generation: generation20, current: true, retries: true, v1: true, tb: messages.DeletedNumber, denied: "Access Denied",
			opsManage: true, plain: true, again: true, known: true,
		},
		{
			generation: generation226, current: true, retries: true, tb: messages.DeletedNumber, denied: "Access Denied",
			opsManage: true, plain: true, again: true, known: true, deleteTells: true, deletes4: true,
		},
		{
			generation: generation2310, current: true, retries: true, tb: messages.DeletedNumber, denied: "Access Denied",
			opsManage: true, plain: true, again: true, known: true, deleteTells: true, deletes4: true,
		},
	} {
		t.Run(fmt.Sprint(c.generation), func(t *testing.T) {
			n := speaking(t, of(c.generation))
			p := n.peer(t)
			first := p.appended("s", expectNoStream, "a")
			require.Equal(t, c.current, first.HasCurrent)
			again := p.appended("s", expectNoStream, "a")
			if require.EqualValues(t, 0, again.Last); c.again {
				require.Equal(t, first.Commit, again.Commit)
				require.Equal(t, first.Prepare, again.Prepare)
			} else {
				require.EqualValues(t, -1, again.Commit)
			}
			wrong := p.append("s", 5, "b")
			require.Equal(t, messages.WrongExpectedVersion, wrong.Result)
			require.Equal(t, c.current, wrong.HasCurrent)
			denied := p.append("$s", expectAny, "b")
			require.Equal(t, messages.AccessDenied, denied.Result)
			require.Equal(t, c.denied, denied.Message)
			require.Equal(t, c.denied, p.delete("$s", expectAny, false).GetMessage())

			refused := p.delete("s", 5, false)
			require.Equal(t, pb.OperationResult_WrongExpectedVersion, refused.GetResult())
			require.Equal(t, c.deleteTells, refused.CurrentVersion != nil)
			require.EqualValues(t, 0, refused.GetCurrentVersion())
			exists := expectStreamExists
			a := p.call(messages.Of(messages.DeleteStream, &pb.DeleteStream{EventStreamId: proto.String("4"), ExpectedVersion: &exists}))
			want := messages.BadRequest
			if c.deletes4 {
				want = messages.DeleteStreamCompleted
			}
			require.Equal(t, want, a.command)

			p.appended("soft", expectNoStream, "s")
			p.delete("soft", expectAny, false)
			_, metadata := p.lastMetadata("soft")
			require.Equal(t, fmt.Sprintf(`{"$tb":%d}`, c.tb), metadata)
			require.Equal(t, messages.ReadStreamNoStream, p.forward("soft", 0, 1).result)
			p.delete("hard", expectAny, true)
			old := n.raw(t)
			last := messages.DeletedNumber32
			if !c.v1 {
				last = messages.DeletedNumber
			}
			require.Equal(t, last, old.forward("hard", 0, 1).last)

			var all messages.AllPage
			require.NoError(t, all.Decode(p.call(&messages.AllRead{Count: 1}, admin...).body))
			require.Equal(t, c.next, all.NextPrepare == all.NextCommit)
			require.Equal(t, c.next, all.NextPrepare != 0)

			p.links("links", "x@s")
			var link pb.ReadEventCompleted
			p.call(&messages.EventRead{Stream: "links", Number: 0, ResolveLinks: true}).into(t, &link)
			require.Equal(t, c.plain, link.GetEvent().GetEvent() != nil)
			require.Equal(t, c.plain, link.GetEvent().GetLink() == nil)

			n.smallPrintOfGroups(t, c.retries, c.opsManage, c.known)
			n.smallPrintOfScavenges(t, c.generation >= generation50)
		})
	}
}

// links writes a link for each of the names.
func (p *peer) links(stream string, names ...string) {
	p.t.Helper()
	for _, name := range names {
		event := messages.NewEvent{ID: uuid.New(), Type: typeLink, Data: []byte(name)}
		require.Equal(p.t, messages.WriteEventsCompleted, p.call(&messages.Append{Stream: stream, Expected: expectAny, Events: []messages.NewEvent{event}}).command)
	}
}

func (n *node) smallPrintOfGroups(t *testing.T, retries, opsManage, known bool) {
	t.Helper()
	p := n.peer(t)
	create := messages.Of(messages.CreatePersistentSubscription, &pb.CreatePersistentSubscription{
		SubscriptionGroupName: proto.String("g"), EventStreamId: proto.String("s"), BufferSize: proto.Int32(500),
		ReadBatchSize: proto.Int32(20), LiveBufferSize: proto.Int32(500),
	})
	var created pb.CreatePersistentSubscriptionCompleted
	p.call(create, "ops", "changeit").into(t, &created)
	want := pb.CreatePersistentSubscriptionCompleted_AccessDenied
	if opsManage {
		want = pb.CreatePersistentSubscriptionCompleted_Success
	} else {
		p.call(create, admin...)
	}
	require.Equal(t, want, created.GetResult())
	connect := messages.Of(messages.ConnectToPersistentSubscription, &pb.ConnectToPersistentSubscription{
		SubscriptionId: proto.String("g"), EventStreamId: proto.String("s"), AllowedInFlightMessages: proto.Int32(1),
	})
	if known {
		a := p.call(connect)
		require.Equal(t, messages.SubscriptionDropped, a.command, "anonymous")
		require.Equal(t, []byte{1 << 3, 1}, a.body)
	}
	id := p.send(connect, admin...)
	require.Equal(t, messages.PersistentSubscriptionConfirmation, p.reply(id).command)
	var e pb.PersistentSubscriptionStreamEventAppeared
	p.reply(id).into(t, &e)
	require.Equal(t, retries, e.RetryCount != nil)
}

func (n *node) smallPrintOfScavenges(t *testing.T, atOnce bool) {
	t.Helper()
	p := n.peer(t)
	var denied, done pb.ScavengeDatabaseResponse
	p.call(scavengeRequest).into(t, &denied)
	p.call(scavengeRequest, admin...).into(t, &done)
	require.EqualValues(t, 2, denied.GetResult())
	require.EqualValues(t, 0, done.GetResult())
	require.Equal(t, atOnce, denied.ScavengeId == nil)
	if !atOnce {
		return
	}
	require.Empty(t, done.ProtoReflect().GetUnknown())
	// It runs to its end, behind which the next one can begin.
	stream := scavengesStream + "-" + done.GetScavengeId()
	id, confirmation := p.subscribe(stream, admin...)
	for last := confirmation.GetLastEventNumber(); last < 1; last++ {
		last = p.event(id).Event.Number - 1
	}
	var next pb.ScavengeDatabaseResponse
	p.call(scavengeRequest, admin...).into(t, &next)
	require.Equal(t, pb.ScavengeDatabaseResponse_Started, next.GetResult())
	require.NotEqual(t, done.GetScavengeId(), next.GetScavengeId())
}

// TestGroupRules: each generation has its own.
func TestGroupRules(t *testing.T) {
	for g, want := range map[generation]groups.Rules{
		generation41: {}, generation50: {FreeSlots: true}, generation20: {FreeSlots: true, KeepCounts: true},
	} {
		d := of(g)
		require.Equal(t, want, d.groupRules())
	}
}

// TestZerosAreLeftOut: also of what the protocol requires, and everything else is as ever.
func TestZerosAreLeftOut(t *testing.T) {
	start := func(d Dialect) *peer {
		network := memnet.New()
		last := byte(0)
		s, err := Start(Config{
			Listen: network.Listen, Dialect: d, Now: func() time.Time { return time.Unix(1e9, 0) },
			NewID: func() uuid.UUID { last++; return uuid.UUID{last} },
		})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, s.Close()) })
		return (&node{Server: s, network: network}).peer(t)
	}
	plain, bare := start(Dialect{}), start(Dialect{OmitZeros: true})
	met := map[messages.Command]bool{}
	same := func(r messages.Request, count int, credentials ...string) messages.ID {
		t.Helper()
		id := plain.send(r, credentials...)
		require.Equal(t, id, bare.send(r, credentials...))
		for range count {
			a, b := plain.reply(id), bare.reply(id)
			require.Equal(t, a.command, b.command)
			kind := answerKinds[a.command]
			require.NotNil(t, kind, "%s", a.command)
			want, got := proto.Clone(kind), proto.Clone(kind)
			require.NoError(t, proto.UnmarshalOptions{AllowPartial: true}.Unmarshal(a.body, want))
			require.NoError(t, proto.UnmarshalOptions{AllowPartial: true}.Unmarshal(b.body, got))
			collapsed(t, want.ProtoReflect(), got.ProtoReflect())
			met[a.command] = met[a.command] || len(b.body) < len(a.body)
		}
		return id
	}
	golden := func(r messages.Request, want string, credentials ...string) {
		t.Helper()
		require.Equal(t, want, fmt.Sprintf("%x", bare.call(r, credentials...).body))
		plain.call(r, credentials...)
	}
	const minusOne = "ffffffffffffffffff01"
	golden(&messages.EventRead{Stream: "s", Number: 0}, "08021200") // the event is there, and empty
	golden(messages.Raw(messages.Ping, []byte{0, 0}), "0000")
	golden(messages.Of(messages.DeleteStream, &pb.DeleteStream{EventStreamId: proto.String("$x"), ExpectedVersion: proto.Int64(-2)}),
		fmt.Sprintf("0807120e%x18%s20%s", textAccessDenied, minusOne, minusOne))
	golden(&messages.AllRead{Count: 1}, fmt.Sprintf("20%s28%s3003", minusOne, minusOne))
	golden(messages.Of(messages.TransactionWrite, &pb.TransactionWrite{TransactionId: proto.Int64(1)}), "0801")

	live := same(messages.Of(messages.SubscribeToStream, &pb.SubscribeToStream{EventStreamId: proto.String("s")}), 1)
	same(&messages.Append{Stream: "s", Expected: expectNoStream, Events: []messages.NewEvent{{ID: eventID("a"), Type: "t"}}}, 1)
	for _, p := range []*peer{plain, bare} {
		require.Equal(t, messages.ResolvedEvent{
			Event:    messages.EventRecord{Stream: "s", ID: eventID("a"), Type: "t"},
			HasEvent: true, HasPosition: true,
		}, undated(p.event(live)))
	}
	same(&messages.Append{Stream: "s", Expected: 5}, 1)
	same(&messages.StreamRead{Stream: "s", Count: 10}, 1)
	same(&messages.StreamRead{Stream: "s", From: -1, Count: 10, Backward: true}, 1)
	same(&messages.EventRead{Stream: "s"}, 1)
	same(&messages.AllRead{Count: 10}, 1, admin...)
	same(&messages.AllRead{Commit: -1, Prepare: -1, Count: 10, Backward: true}, 1, admin...)
	same(messages.Of(messages.TransactionStart, &pb.TransactionStart{EventStreamId: proto.String("t"), ExpectedVersion: proto.Int64(-2)}), 1)
	same(messages.Of(messages.CreatePersistentSubscription, &pb.CreatePersistentSubscription{
		SubscriptionGroupName: proto.String("g"), EventStreamId: proto.String("s"), BufferSize: proto.Int32(500),
		ReadBatchSize: proto.Int32(20), LiveBufferSize: proto.Int32(500),
	}), 1, admin...)
	same(messages.Of(messages.ConnectToPersistentSubscription, &pb.ConnectToPersistentSubscription{
		SubscriptionId: proto.String("g"), EventStreamId: proto.String("s"), AllowedInFlightMessages: proto.Int32(10),
	}), 2, admin...)
	for _, command := range []messages.Command{
		messages.SubscriptionConfirmation, messages.WriteEventsCompleted, messages.ReadStreamEventsForwardCompleted,
		messages.ReadStreamEventsBackwardCompleted, messages.ReadEventCompleted, messages.ReadAllEventsForwardCompleted,
		messages.ReadAllEventsBackwardCompleted, messages.TransactionStartCompleted, messages.CreatePersistentSubscriptionCompleted,
		messages.PersistentSubscriptionConfirmation, messages.PersistentSubscriptionStreamEventAppeared,
	} {
		require.Contains(t, met, command)
	}
	require.False(t, met[messages.SubscriptionConfirmation], "-1 is no zero")
	require.True(t, met[messages.PersistentSubscriptionConfirmation], "0 is one")
}

// undated is an event without what is of its moment and its place.
func undated(e messages.ResolvedEvent) messages.ResolvedEvent {
	e.Event.Created, e.Event.CreatedEpoch, e.Commit, e.Prepare = 0, 0, 0, 0
	if len(e.Event.Data)+len(e.Event.Metadata) == 0 {
		e.Event.Data, e.Event.Metadata = nil, nil // there or not
	}
	return e
}

// collapsed requires that two messages mean the same, and that the second has no field with the value of an absent one.
func collapsed(t *testing.T, want, got protoreflect.Message) {
	t.Helper()
	fields := want.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		a, b := want.Get(f), got.Get(f)
		switch {
		case f.IsList():
			require.Equal(t, a.List().Len(), b.List().Len(), "%s", f.FullName())
			for k := range a.List().Len() {
				collapsed(t, a.List().Get(k).Message(), b.List().Get(k).Message())
			}
		case f.Message() != nil:
			require.Equal(t, want.Has(f), got.Has(f), "%s", f.FullName())
			collapsed(t, a.Message(), b.Message())
		default:
			require.True(t, a.Equal(b), "%s: %v, not %v", f.FullName(), b, a)
			require.False(t, got.Has(f) && b.Equal(f.Default()), "%s is there with %v", f.FullName(), b)
		}
	}
}

func TestLeaderNames(t *testing.T) {
	for _, leader := range []bool{false, true} {
		n := speaking(t, Dialect{LeaderNames: leader})
		gossip, info := n.get(t, "/gossip"), n.get(t, "/info")
		m := gossip["members"].([]any)[0].(map[string]any)
		if leader {
			require.Equal(t, "leader", info["state"])
			require.Equal(t, "Leader", m["state"])
			require.Equal(t, false, m["isReadOnlyReplica"])
			require.Equal(t, m["externalTcpIp"], m["httpEndPointIp"])
			require.NotZero(t, m["httpEndPointPort"])
			require.NotContains(t, m, "externalHttpPort")
		} else {
			require.Equal(t, "master", info["state"])
			require.Equal(t, "Master", m["state"])
			require.NotContains(t, m, "isReadOnlyReplica")
			require.NotContains(t, m, "httpEndPointPort")
			require.NotZero(t, m["externalHttpPort"])
		}
		require.NotContains(t, m, "esVersion")
	}
	d := of(generation2310)
	n := speaking(t, d)
	require.Equal(t, "23.10.6.0", n.get(t, "/info")["esVersion"])
	require.Equal(t, "23.10.6.0", n.get(t, "/gossip")["members"].([]any)[0].(map[string]any)["esVersion"])
}

// get returns the JSON of a resource of the HTTP side.
func (n *node) get(t *testing.T, path string) map[string]any {
	t.Helper()
	status, body := n.ask(t, path)
	require.Equal(t, http.StatusOK, status, "%s", body)
	var m map[string]any
	require.NoError(t, json.Unmarshal(body, &m))
	return m
}

func (n *node) ask(t *testing.T, path string) (status int, body []byte) {
	t.Helper()
	transport := &http.Transport{DialContext: n.network.Dial, DisableKeepAlives: true}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, n.HTTPURL()+path, nil)
	require.NoError(t, err)
	answer, err := transport.RoundTrip(r)
	require.NoError(t, err)
	defer answer.Body.Close() //nolint:errcheck // it was read
	body, err = io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer.StatusCode, body
}

// TestNobodyAnonymous: no list lets in who does not say who it is, and whoever does is as ever.
func TestNobodyAnonymous(t *testing.T) {
	n := speaking(t, Dialect{NoAnonymous: true})
	p := n.peer(t)
	writeAs := func(stream string, credentials ...string) messages.AppendCompleted {
		var m messages.AppendCompleted
		require.NoError(t, m.Decode(p.call(&messages.Append{Stream: stream, Expected: expectAny, Events: events("a")}, credentials...).body))
		return m
	}
	require.Equal(t, messages.AccessDenied, writeAs("s").Result)
	require.Equal(t, messages.Success, writeAs("s", "ops", "changeit").Result)
	open := &messages.Append{Stream: "$$s", Expected: expectAny, Events: []messages.NewEvent{
		{ID: uuid.New(), Type: typeMetadata, ContentType: 1, Data: []byte(`{"$acl":{"$r":"$all","$w":"$all","$d":"$all"}}`)},
	}}
	require.Equal(t, messages.WriteEventsCompleted, p.call(open, admin...).command)
	require.Equal(t, messages.AccessDenied, writeAs("s").Result, "although the list says $all")
	require.Equal(t, messages.ReadStreamAccessDenied, p.forward("s", 0, 1).result)
	require.Equal(t, messages.ReadStreamSuccess, p.page(messages.StreamRead{Stream: "s", Count: 1}, "ops", "changeit").result)
	require.Equal(t, messages.ReadEventAccessDenied, p.readEvent("s", 0).Result)
	require.Equal(t, pb.OperationResult_AccessDenied, p.delete("s", expectAny, false).GetResult())
	a := p.call(messages.Of(messages.SubscribeToStream, &pb.SubscribeToStream{EventStreamId: proto.String("s")}))
	require.Equal(t, messages.SubscriptionDropped, a.command)
	var all messages.AllPage
	require.NoError(t, all.Decode(p.call(&messages.AllRead{Count: 1}).body))
	require.Equal(t, messages.ReadAllAccessDenied, all.Result)
	var start pb.TransactionStartCompleted
	p.call(messages.Of(messages.TransactionStart, &pb.TransactionStart{EventStreamId: proto.String("s"), ExpectedVersion: proto.Int64(-2)})).into(t, &start)
	require.Equal(t, pb.OperationResult_AccessDenied, start.GetResult())

	require.Equal(t, messages.Pong, p.call(messages.Raw(messages.Ping, nil)).command)
	for _, path := range []string{"/ping", "/info", "/gossip", "/stats"} {
		status, _ := n.ask(t, path)
		require.Equal(t, http.StatusOK, status, path)
	}
	status, _ := n.ask(t, "/streams/s?format=json")
	require.Equal(t, http.StatusUnauthorized, status)
	require.Equal(t, messages.Authenticated, p.call(messages.Raw(messages.Authenticate, nil), "ops", "changeit").command)
	require.Equal(t, messages.ReadStreamSuccess, p.forward("s", 0, 1).result)
}

// TestTLSOnEveryPort: there is nothing but TLS, and gossip says so.
func TestTLSOnEveryPort(t *testing.T) {
	keys, trust := certificate(t)
	network := memnet.New()
	start := func(change func(*Config)) (*Server, error) {
		cfg := Config{Listen: network.Listen, Dialect: Dialect{TLS: true}, TLS: keys}
		if change != nil {
			change(&cfg)
		}
		return Start(cfg)
	}
	_, err := start(func(cfg *Config) { cfg.TLS = nil })
	require.EqualError(t, err, "Config.Dialect has TLS, which needs Config.TLS")
	_, err = start(func(cfg *Config) { cfg.Secure = "127.0.0.1:0" })
	require.EqualError(t, err, "Config.Secure: with TLS in Config.Dialect Config.TCP is secure already")
	s, err := start(nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()

	address, ok := strings.CutPrefix(s.URL(), "tls://")
	require.True(t, ok, s.URL())
	require.Empty(t, s.SecureURL())
	require.True(t, strings.HasPrefix(s.HTTPURL(), "https://"), s.HTTPURL())
	nc, err := network.Dial(t.Context(), "tcp", address)
	require.NoError(t, err)
	secure := tls.Client(nc, trust)
	defer secure.Close() //nolint:errcheck // the server has gone first, or not
	p := &peer{t: t, reader: messages.NewReader(secure, 4096)}
	_, err = secure.Write(frame(t, p.id(), messages.Raw(messages.Ping, nil)))
	require.NoError(t, err)
	require.Equal(t, messages.Pong, p.next().command)

	transport := &http.Transport{DialContext: network.Dial, TLSClientConfig: trust, DisableKeepAlives: true}
	get := func(path, origin string) (int, []byte) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.HTTPURL()+path, nil)
		require.NoError(t, err)
		if origin != "" {
			r.Header.Set("Origin", origin)
		}
		answer, err := transport.RoundTrip(r)
		require.NoError(t, err)
		defer answer.Body.Close() //nolint:errcheck // it was read
		body, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		return answer.StatusCode, body
	}
	status, body := get("/gossip", s.HTTPURL())
	require.Equal(t, http.StatusOK, status)
	var gossip struct{ Members []map[string]any }
	require.NoError(t, json.Unmarshal(body, &gossip))
	_, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	require.EqualValues(t, 0, gossip.Members[0]["externalTcpPort"])
	require.Equal(t, port, fmt.Sprint(gossip.Members[0]["externalSecureTcpPort"]))
	status, _ = get("/gossip", strings.Replace(s.HTTPURL(), "https", "http", 1))
	require.Equal(t, http.StatusForbidden, status, "that is another origin")
	_, body = get("/users/$nobody", "")
	require.NotContains(t, string(body), "http://")
}
