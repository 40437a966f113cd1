package conformance_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/admin"
	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/persistent"
)

// quick are settings for tests: a message is tried again after about two seconds.
func quick() persistent.Settings {
	s := persistent.DefaultSettings()
	s.MessageTimeout = time.Second
	return s
}

// patient are settings with which nothing is tried again by time.
func patient() persistent.Settings { return persistent.DefaultSettings() }

// newGroup makes a group on a stream, and deletes it with the test.
func newGroup(t *testing.T, client *eventstore.Client, stream string, s persistent.Settings) string {
	t.Helper()
	group := "g-" + uuid.NewString()
	err := persistent.Create(within(t), client, stream, group, s)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), hang)
		defer cancel()
		if err := persistent.Delete(ctx, client, stream, group); !errors.Is(err, persistent.ErrGroupNotFound) {
			require.NoError(t, err)
		}
	})
	return group
}

// joinGroup joins, and leaves with the test.
func joinGroup(t *testing.T, client *eventstore.Client, cfg persistent.Config) *persistent.Group {
	t.Helper()
	g, err := persistent.Join(within(t), client, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, g.Close()) })
	return g
}

// takes receives messages with these numbers, in this order.
func takes(t *testing.T, g *persistent.Group, numbers ...int64) []*persistent.Message {
	t.Helper()
	var all []*persistent.Message
	for _, n := range numbers {
		m, err := g.Recv(within(t))
		require.NoError(t, err)
		require.Equal(t, n, m.Original().Number)
		all = append(all, m)
	}
	return all
}

// nothing says that no message comes for a while.
func nothing(t *testing.T, g *persistent.Group) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	m, err := g.Recv(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded, "%+v", m)
}

// parked waits for the entries of a group's parked stream, links resolved.
func parked(t *testing.T, client *eventstore.Client, stream, group string, n int) []eventstore.ResolvedEvent {
	t.Helper()
	var slice eventstore.Slice
	require.Eventually(t, func() bool {
		var err error
		slice, err = client.ReadSlice(within(t), "$persistentsubscription-"+stream+"::"+group+"-parked", eventstore.Start, 100)
		return err == nil && len(slice.Events) >= n
	}, hang, 5*time.Millisecond)
	require.Len(t, slice.Events, n)
	return slice.Events
}

// withEvents is a client and a stream of n events.
func withEvents(t *testing.T, n int) (*eventstoretest.Server, *eventstore.Client, string) {
	t.Helper()
	srv := serve(t)
	client := srv.Client(t)
	stream := newStream("persistent")
	if n > 0 {
		_, err := client.Append(within(t), stream, eventstore.NoStream, numbered(0, n))
		require.NoError(t, err)
	}
	return srv, client, stream
}

func TestPersistentManagement(t *testing.T) {
	srv, client, stream := withEvents(t, 0)
	ctx := within(t)
	group := newGroup(t, client, stream, patient())
	require.ErrorIs(t, persistent.Create(ctx, client, stream, group, patient()), persistent.ErrGroupExists)
	require.NoError(t, persistent.Update(ctx, client, stream, group, quick()))
	require.ErrorIs(t, persistent.Update(ctx, client, stream, "other", quick()), persistent.ErrGroupNotFound)
	require.ErrorIs(t, persistent.Delete(ctx, client, stream, "other"), persistent.ErrGroupNotFound)
	require.ErrorIs(t, persistent.Delete(ctx, client, newStream("other"), group), persistent.ErrGroupNotFound)
	p := dialPeer(t, srv)
	t.Run("rights", func(t *testing.T) {
		somebody := eventstore.As(p.newUser(""), "password")
		for _, err := range []error{
			persistent.Create(ctx, client, stream, "other", patient(), somebody),
			persistent.Update(ctx, client, stream, group, patient(), somebody),
			persistent.Delete(ctx, client, stream, group, somebody),
		} {
			require.ErrorIs(t, err, eventstore.ErrAccessDenied)
			require.ErrorContains(t, err, "You do not have permissions to")
		}
		require.ErrorIs(t, persistent.Delete(ctx, client, stream, group, eventstore.As("admin", "no")), eventstore.ErrNotAuthenticated)
	})
	t.Run("a strategy that the server does not know", func(t *testing.T) {
		s := patient()
		s.Strategy = persistent.PinnedByCorrelation
		err := persistent.Create(ctx, client, stream, "other", s)
		if err == nil { // 21.10 and later
			require.NoError(t, persistent.Delete(ctx, client, stream, "other"))
			return
		}
		require.ErrorContains(t, err, "Consumer strategy PinnedByCorrelation does not exist.")
	})
	require.NoError(t, persistent.Delete(ctx, client, stream, group))
	require.ErrorIs(t, persistent.Delete(ctx, client, stream, group), persistent.ErrGroupNotFound)
}

func TestPersistentJoinRefusals(t *testing.T) {
	srv, client, stream := withEvents(t, 1)
	ctx := within(t)
	s := patient()
	s.MaxSubscribers = 1
	group := newGroup(t, client, stream, s)
	_, err := persistent.Join(ctx, client, persistent.Config{Stream: stream, Group: "other"})
	require.ErrorIs(t, err, persistent.ErrGroupNotFound)
	_, err = persistent.Join(ctx, client, persistent.Config{Stream: newStream("other"), Group: group})
	require.ErrorIs(t, err, persistent.ErrGroupNotFound)
	g := joinGroup(t, client, persistent.Config{Stream: stream, Group: group})
	_, err = persistent.Join(ctx, client, persistent.Config{Stream: stream, Group: group})
	require.ErrorIs(t, err, persistent.ErrTooManySubscribers)
	_, err = persistent.Join(ctx, srv.Client(t), persistent.Config{Stream: stream, Group: group})
	require.ErrorIs(t, err, persistent.ErrTooManySubscribers)
	require.NoError(t, g.Close())
	g = joinGroup(t, client, persistent.Config{Stream: stream, Group: group})
	takes(t, g, 0)

	p := dialPeer(t, srv)
	p.metadata(stream, `{"$acl":{"$r":"$admins"}}`)
	_, err = persistent.Join(ctx, client, persistent.Config{
		Stream: stream, Group: group, Call: []eventstore.CallOption{eventstore.As(p.newUser(""), "password")},
	})
	require.ErrorIs(t, err, eventstore.ErrAccessDenied)
}

func TestPersistentFromEachPlace(t *testing.T) {
	_, client, stream := withEvents(t, 5)
	var members []*persistent.Group
	for _, tt := range []struct {
		from eventstore.From
		want []int64
	}{
		{eventstore.Start, []int64{0, 1, 2, 3, 4}},
		{eventstore.At(3), []int64{3, 4}},
		{eventstore.After(3), []int64{4}},
		{eventstore.End, nil},
	} {
		s := patient()
		s.From = tt.from
		group := newGroup(t, client, stream, s)
		g := joinGroup(t, client, persistent.Config{Stream: stream, Group: group})
		require.NoError(t, g.Ack(t.Context(), takes(t, g, tt.want...)...))
		nothing(t, g)
		members = append(members, g)
	}
	_, err := client.Append(within(t), stream, eventstore.ExpectedVersion(4), numbered(5, 1))
	require.NoError(t, err)
	for _, g := range members {
		takes(t, g, 5)
	}
}

// TestPersistentWindow: no more than the window is in flight, and each ack lets the next one in.
func TestPersistentWindow(t *testing.T) {
	_, client, stream := withEvents(t, 50)
	group := newGroup(t, client, stream, patient())
	g := joinGroup(t, client, persistent.Config{Stream: stream, Group: group, Window: 3})
	all := takes(t, g, 0, 1, 2)
	nothing(t, g)
	for n := int64(3); n < 50; n++ {
		m := all[0]
		require.Equal(t, fmt.Sprint(m.Original().Number), string(m.Event.Data))
		require.Zero(t, m.Retries)
		require.NoError(t, g.Ack(t.Context(), m))
		all = append(all[1:], takes(t, g, n)...)
	}
	require.ErrorIs(t, g.Ack(t.Context(), all[0], all[1], all[0]), persistent.ErrStale, "one of them twice")
	require.NoError(t, g.Ack(t.Context(), all[2]))
	nothing(t, g)
}

// TestPersistentCloseSendsAcks: what was acknowledged before Close does not come again, the rest does.
func TestPersistentCloseSendsAcks(t *testing.T) {
	srv, client, stream := withEvents(t, 10)
	group := newGroup(t, client, stream, patient())
	other := srv.Client(t)
	g := joinGroup(t, other, persistent.Config{Stream: stream, Group: group, AckAfter: 10 * time.Second})
	all := takes(t, g, 0, 1, 2, 3)
	require.NoError(t, g.Ack(t.Context(), all[0], all[1], all[3]))
	require.NoError(t, g.Close())
	require.NoError(t, other.Close())
	g = joinGroup(t, client, persistent.Config{Stream: stream, Group: group})
	again := takes(t, g, 2, 4, 5, 6, 7, 8, 9)
	tried(t, srv, 1, again[0]) // a lost consumer counts
	nothing(t, g)
}

func TestPersistentActions(t *testing.T) {
	srv, client, stream := withEvents(t, 5)
	s := patient()
	s.MaxRetries = 2
	group := newGroup(t, client, stream, s)
	g := joinGroup(t, client, persistent.Config{Stream: stream, Group: group})
	all := takes(t, g, 0, 1, 2, 3, 4)
	ctx := within(t)
	require.NoError(t, g.Nack(ctx, persistent.Park, "broken", all[0]))
	require.NoError(t, g.Nack(ctx, persistent.Skip, "", all[1]))
	require.NoError(t, g.Nack(ctx, persistent.Stop, "", all[2]))
	require.NoError(t, g.Ack(ctx, all[4]))
	m := all[3]
	for retries := range 2 {
		tried(t, srv, retries, m)
		require.NoError(t, g.Nack(ctx, persistent.Retry, "again", m))
		m = takes(t, g, 3)[0]
	}
	tried(t, srv, 2, m)
	require.NoError(t, g.Nack(ctx, persistent.Retry, "again", m))
	nothing(t, g)
	entries := parked(t, client, stream, group, 2)
	require.Equal(t, all[0].Event.ID, entries[0].Event.ID)
	require.Contains(t, string(entries[0].Link.Metadata), `Client explicitly NAK'ed message.\nbroken`)
	require.Equal(t, m.Event.ID, entries[1].Event.ID)
	require.Contains(t, string(entries[1].Link.Metadata), "Reached retry count of 2")
}

func TestPersistentRetryAfter(t *testing.T) {
	srv, client, stream := withEvents(t, 2)
	group := newGroup(t, client, stream, patient())
	g := joinGroup(t, client, persistent.Config{Stream: stream, Group: group})
	all := takes(t, g, 0, 1)
	start := time.Now()
	require.NoError(t, g.RetryAfter(within(t), 700*time.Millisecond, "later", all[0]))
	require.ErrorIs(t, g.Ack(within(t), all[0]), persistent.ErrStale)
	m := takes(t, g, 0)[0]
	tried(t, srv, 1, m)
	require.GreaterOrEqual(t, time.Since(start), 700*time.Millisecond)
	require.NoError(t, g.Ack(within(t), m, all[1]))
}

// TestPersistentTimeout: what is not answered in time comes again, and is parked in the end.
func TestPersistentTimeout(t *testing.T) {
	srv, client, stream := withEvents(t, 1)
	s := quick()
	s.MaxRetries = 1
	group := newGroup(t, client, stream, s)
	g := joinGroup(t, client, persistent.Config{Stream: stream, Group: group, MessageTimeout: s.MessageTimeout})
	tried(t, srv, 0, takes(t, g, 0)[0])
	tried(t, srv, 1, takes(t, g, 0)[0])
	require.Len(t, parked(t, client, stream, group, 1), 1)
}

// TestPersistentLinks: acks go by the link, also when its target is gone.
func TestPersistentLinks(t *testing.T) {
	_, client, stream := withEvents(t, 3)
	links := newStream("persistent-links")
	var events []eventstore.EventData
	for _, to := range []string{"0@" + stream, "7@" + stream, "2@" + stream} {
		events = append(events, eventstore.EventData{Type: "$>", Data: []byte(to)})
	}
	_, err := client.Append(within(t), links, eventstore.NoStream, events)
	require.NoError(t, err)
	for raw, targets := range map[bool][]int64{false: {0, -1, 2}, true: {0, 1, 2}} {
		s := quick()
		s.RawLinks = raw
		group := newGroup(t, client, links, s)
		g := joinGroup(t, client, persistent.Config{Stream: links, Group: group, MessageTimeout: s.MessageTimeout})
		all := takes(t, g, 0, 1, 2)
		for i, m := range all {
			if targets[i] < 0 {
				require.Nil(t, m.Event)
			} else {
				require.Equal(t, targets[i], m.Event.Number)
			}
			require.Equal(t, raw, m.Link == nil)
		}
		require.NoError(t, g.Ack(within(t), all...))
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second) // longer than the time-out
		_, err = g.Recv(ctx)
		cancel()
		require.ErrorIs(t, err, context.DeadlineExceeded)
	}
}

// TestPersistentUpdateAndDelete: members of an updated group join again, those of a deleted one end.
func TestPersistentUpdateAndDelete(t *testing.T) {
	_, client, stream := withEvents(t, 3)
	group := newGroup(t, client, stream, patient())
	var told []persistent.Kind
	g := joinGroup(t, client, persistent.Config{Stream: stream, Group: group, OnNotice: func(n persistent.Notice) { told = append(told, n.Kind) }})
	old := takes(t, g, 0, 1, 2)
	require.NoError(t, persistent.Update(within(t), client, stream, group, quick()))
	all := takes(t, g, 0, 1, 2)
	require.ErrorIs(t, g.Ack(within(t), old...), persistent.ErrStale)
	require.NoError(t, g.Ack(within(t), all...))
	require.Equal(t, []persistent.Kind{persistent.Joined, persistent.Lost, persistent.Rejoined}, told)
	require.NoError(t, persistent.Delete(within(t), client, stream, group))
	_, err := g.Recv(within(t))
	require.ErrorIs(t, err, persistent.ErrGroupNotFound)
}

// TestPersistentCuts: the connection goes again and again; every message is handled. The last cut leaves more to do than the
// member can have: it has to join again for that. Else the work could be done before the cut is noticed, and Close would say, and
// be right, that the last acks may be lost.
func TestPersistentCuts(t *testing.T) {
	const events, window = 200, 20
	srv, client, stream := withEvents(t, events)
	group := newGroup(t, client, stream, patient())
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	var mu sync.Mutex
	handled := map[int64]int{}
	count := 0
	g := joinGroup(t, srv.Client(t), persistent.Config{Stream: stream, Group: group, Window: window, AckAfter: time.Millisecond})
	require.NoError(t, g.Run(ctx, 4, func(_ context.Context, m *persistent.Message) error {
		mu.Lock()
		defer mu.Unlock()
		handled[m.Original().Number]++
		if count++; count%60 == 0 && len(handled) < events-window {
			srv.Cut()
		}
		if len(handled) == events {
			cancel()
		}
		return nil
	}))
	require.Len(t, handled, events)
	require.GreaterOrEqual(t, g.Stats().Rejoins, int64(2))
}

// TestPersistentCompeting: several members share the work, with each strategy; each event is handled once when nothing fails.
func TestPersistentCompeting(t *testing.T) {
	for _, strategy := range []persistent.Strategy{persistent.RoundRobin, persistent.DispatchToSingle, persistent.Pinned} {
		t.Run(string(strategy), func(t *testing.T) {
			const events, members = 300, 3
			srv, client, stream := withEvents(t, 0)
			s := patient()
			s.Strategy = strategy
			group := newGroup(t, client, stream, s)
			ctx, cancel := context.WithCancel(within(t))
			defer cancel()
			var mu sync.Mutex
			var handled []int64
			by := make([]int, members)
			var crew sync.WaitGroup
			for i := range members {
				g := joinGroup(t, srv.Client(t), persistent.Config{Stream: stream, Group: group, Window: 16})
				crew.Go(func() {
					err := g.Run(ctx, 2, func(_ context.Context, m *persistent.Message) error {
						mu.Lock()
						defer mu.Unlock()
						handled = append(handled, m.Original().Number)
						if by[i]++; len(handled) == events {
							cancel()
						}
						return nil
					})
					if err != nil {
						t.Error(err)
					}
				})
			}
			for i := 0; i < events; i += 100 {
				_, err := client.Append(within(t), stream, eventstore.ExpectedVersion(i-1), numbered(i, 100)) // ctx may end before its answer comes
				require.NoError(t, err)
			}
			crew.Wait()
			slices.Sort(handled)
			for i, n := range handled {
				require.EqualValues(t, i, n)
			}
			require.Len(t, handled, events)
			switch strategy {
			case persistent.RoundRobin:
				require.NotContains(t, by, 0)
			case persistent.Pinned:
				require.Contains(t, by, events, "one stream stays with one member: %v", by)
			default:
			}
		})
	}
}

// TestPersistentReplay: a parked message that is replayed is acknowledged by its parked link, and told of over HTTP.
func TestPersistentReplay(t *testing.T) {
	srv, client, stream := withEvents(t, 2)
	if srv.HTTPURL() == "" {
		cannot(t, "parked messages are replayed by HTTP; EVENTSTORE_TEST_HTTP names that of the server of EVENTSTORE_TEST_TCP")
	}
	ctx := within(t)
	a := adminOf(t, srv.HTTPURL(), "admin", "changeit")
	s := quick()
	group := newGroup(t, client, stream, s)
	require.ErrorIs(t, a.ReplayParked(ctx, stream, "nope"), admin.ErrNotFound)
	require.ErrorIs(t, adminOf(t, srv.HTTPURL(), "", "").ReplayParked(ctx, stream, group), eventstore.ErrAccessDenied)
	g := joinGroup(t, client, persistent.Config{Stream: stream, Group: group, MessageTimeout: s.MessageTimeout})
	all := takes(t, g, 0, 1)
	require.NoError(t, g.Ack(t.Context(), all[0]))
	require.NoError(t, g.Nack(t.Context(), persistent.Park, "later", all[1]))
	entry := parked(t, client, stream, group, 1)[0]

	n, err := a.ParkedCount(ctx, stream, group)
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
	messages, err := a.Parked(ctx, stream, group, 10)
	require.NoError(t, err)
	require.Len(t, messages, 1)
	require.Equal(t, stream, messages[0].Stream)
	require.EqualValues(t, 1, messages[0].EventNumber)
	require.Contains(t, messages[0].Reason, "later")
	info, err := a.Group(ctx, stream, group)
	require.NoError(t, err)
	require.Equal(t, 1, info.Connections)
	require.EqualValues(t, 1, info.LastKnown)
	require.Equal(t, s.MessageTimeout, info.Settings.MessageTimeout)

	require.NoError(t, a.ReplayParked(ctx, stream, group))
	m, err := g.Recv(ctx)
	require.NoError(t, err)
	require.Equal(t, all[1].Event.ID, m.Event.ID)
	require.Equal(t, entry.Link.ID, m.Link.ID)
	require.NoError(t, g.Ack(t.Context(), m))
	quiet, cancel := context.WithTimeout(t.Context(), 3*time.Second) // longer than the time-out
	defer cancel()
	_, err = g.Recv(quiet)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

// TestPersistentHardDelete: the tombstone is a message like others.
func TestPersistentHardDelete(t *testing.T) {
	_, client, stream := withEvents(t, 1)
	group := newGroup(t, client, stream, patient())
	g := joinGroup(t, client, persistent.Config{Stream: stream, Group: group})
	all := takes(t, g, 0)
	_, err := client.HardDelete(within(t), stream, eventstore.Any)
	require.NoError(t, err)
	m, err := g.Recv(within(t))
	require.NoError(t, err)
	require.Equal(t, "$streamDeleted", m.Event.Type)
	require.NoError(t, g.Ack(within(t), append(all, m)...))
}
