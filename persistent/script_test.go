package persistent_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/scripted"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
	"github.com/goeventstore/eventstore/persistent"
)

const (
	stream = "orders"
	group  = "billing"
	both   = "orders::billing"
)

// eventID is the id of event n.
func eventID(n int) uuid.UUID { return uuid.UUID{0: 1, 14: byte(n >> 8), 15: byte(n)} }

func record(n int) []byte {
	r := messages.EventRecord{Stream: stream, Number: int64(n), ID: eventID(n), Type: "t", Data: []byte("data")}
	return r.AppendTo(nil)
}

// asked takes the request to join. A member that was dropped leaves all the same.
func asked(tb testing.TB, p *scripted.Peer) messages.ID {
	tb.Helper()
	f := p.Next()
	for f.Command == messages.UnsubscribeFromStream {
		f = p.Next()
	}
	if f.Command != messages.ConnectToPersistentSubscription {
		tb.Errorf("the client sent %s, want to join", f.Command)
	}
	return f.ID
}

// joining takes the request to join and confirms it.
func joining(tb testing.TB, p *scripted.Peer) messages.ID {
	tb.Helper()
	id := asked(tb, p)
	confirm(p, id)
	return id
}

func confirm(p *scripted.Peer, id messages.ID) {
	p.SendRequest(id, messages.Of(messages.PersistentSubscriptionConfirmation, &pb.PersistentSubscriptionConfirmation{
		LastCommitPosition: proto.Int64(1), SubscriptionId: proto.String(both), LastEventNumber: proto.Int64(9),
	}))
}

func deliver(p *scripted.Peer, id messages.ID, retries int32, numbers ...int) {
	for _, n := range numbers {
		p.SendRequest(id, messages.Raw(messages.PersistentSubscriptionStreamEventAppeared,
			messages.AppendPersistentEvent(nil, record(n), nil, retries)))
	}
}

func drop(p *scripted.Peer, id messages.ID, reason byte) {
	body := ""
	if reason != 0 {
		body = string([]byte{0x08, reason})
	}
	p.Send(messages.SubscriptionDropped, id, body)
}

// wantAcks takes a frame of acks of these events.
func wantAcks(t *testing.T, p *scripted.Peer, id messages.ID, numbers ...int) {
	t.Helper()
	f := p.Want(messages.PersistentSubscriptionAckEvents)
	var m messages.PersistentAck
	if err := m.Decode(f.Body, nil); err != nil || f.ID != id || m.Subscription != both {
		t.Errorf("acks for %q, id %x, %v", m.Subscription, f.ID, err)
	}
	sameIDs(t, m.IDs, numbers)
}

// wantNaks takes a frame that gives these events back.
func wantNaks(t *testing.T, p *scripted.Peer, id messages.ID, action messages.NakAction, reason string, numbers ...int) {
	t.Helper()
	f := p.Want(messages.PersistentSubscriptionNakEvents)
	var m messages.PersistentNak
	if err := m.Decode(f.Body, nil); err != nil || f.ID != id || m.Subscription != both || m.Action != action || m.Message != reason {
		t.Errorf("naks for %q, id %x: %v %q, %v", m.Subscription, f.ID, m.Action, m.Message, err)
	}
	sameIDs(t, m.IDs, numbers)
}

func sameIDs(t *testing.T, ids []uuid.UUID, numbers []int) {
	t.Helper()
	if len(ids) != len(numbers) {
		t.Errorf("%d ids, want %d", len(ids), len(numbers))
		return
	}
	for i, n := range numbers {
		if ids[i] != eventID(n) {
			t.Errorf("id %d is %v, want that of %d", i, ids[i], n)
		}
	}
}

// attend answers pings until the client leaves.
func attend(p *scripted.Peer) {
	for {
		f, err := p.Reader.Next()
		if err != nil {
			return
		}
		if f.Command == messages.Ping {
			p.Send(messages.Pong, f.ID, string(f.Body))
		}
	}
}

// notices collects what a member tells, in words.
type notices []string

func (n *notices) add(notice persistent.Notice) { *n = append(*n, notice.Kind.String()) }

// played runs a test in virtual time with a client whose server plays; the connections are counted from 1.
func played(t *testing.T, play func(p *scripted.Peer), test func(t *testing.T, c *eventstore.Client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		network := scripted.Listen(t, scripted.Identified(play))
		c, err := eventstore.Connect(t.Context(), "tcp://"+scripted.Addr, eventstore.WithDialer(network.Dial),
			eventstore.WithHeartbeat(24*time.Hour, time.Hour)) // the script has none
		require.NoError(t, err)
		defer func() { require.NoError(t, c.Close()) }()
		test(t, c)
	})
}

func join(t *testing.T, c *eventstore.Client, cfg persistent.Config) *persistent.Group {
	t.Helper()
	cfg.Stream, cfg.Group = stream, group
	g, err := persistent.Join(t.Context(), c, cfg)
	require.NoError(t, err)
	return g
}

// take receives events with these numbers.
func take(t *testing.T, g *persistent.Group, numbers ...int) []*persistent.Message {
	t.Helper()
	var all []*persistent.Message
	for _, n := range numbers {
		m, err := g.Recv(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, n, m.Original().Number)
		all = append(all, m)
	}
	return all
}

// silent says that nothing comes for this long.
func silent(t *testing.T, g *persistent.Group, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	m, err := g.Recv(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded, "%+v", m)
}

func closed(t *testing.T, g *persistent.Group) {
	t.Helper()
	require.NoError(t, g.Close())
	require.NoError(t, g.Close(), "twice is fine")
}
