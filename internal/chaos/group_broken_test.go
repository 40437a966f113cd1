package chaos_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
	"github.com/goeventstore/eventstore/persistent"
)

// brokenMember is a member that is sound but for what embeds it.
type brokenMember struct {
	membership
	n int
}

func (m *brokenMember) every(n int) bool {
	m.n++
	return m.n%n == 0
}

// forgetful does not send an ack now and then.
type forgetful struct {
	brokenMember
	mu        sync.Mutex // guards what follows, and the count
	forgotten map[*persistent.Message]bool
}

func (m *forgetful) Ack(ctx context.Context, all ...*persistent.Message) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.forgotten[all[0]] {
		return persistent.ErrStale
	}
	if m.every(9) {
		m.forgotten[all[0]] = true
		return nil
	}
	return m.membership.Ack(ctx, all...)
}

// eager acks before anybody has worked.
type eager struct{ brokenMember }

func (m *eager) Recv(ctx context.Context) (*persistent.Message, error) {
	got, err := m.membership.Recv(ctx)
	if err == nil && m.every(9) {
		_ = m.Ack(ctx, got)
	}
	return got, err
}

// lossy passes over a message now and then.
type lossy struct{ brokenMember }

func (m *lossy) Recv(ctx context.Context) (*persistent.Message, error) {
	if m.every(9) {
		if _, err := m.membership.Recv(ctx); err != nil {
			return nil, err
		}
	}
	return m.membership.Recv(ctx)
}

// generous answers with another action than it was told.
type generous struct{ brokenMember }

func (m *generous) Nack(ctx context.Context, a persistent.Action, reason string, all ...*persistent.Message) error {
	if a == persistent.Park {
		a = persistent.Skip
	}
	return m.membership.Nack(ctx, a, reason, all...)
}

func joinBroken(wrap func(brokenMember) membership) joiner {
	return func(ctx context.Context, c *eventstore.Client, cfg persistent.Config) (membership, error) {
		g, err := persistent.Join(ctx, c, cfg)
		if err != nil {
			return nil, err
		}
		return wrap(brokenMember{membership: g}), nil
	}
}

// The same plans that the real client passes tell that these do not work.
func TestABrokenMemberIsCaught(t *testing.T) {
	for name, tt := range map[string]struct {
		join joiner
		want string
	}{
		"forgets acks": {joinBroken(func(m brokenMember) membership {
			return &forgetful{brokenMember: m, forgotten: make(map[*persistent.Message]bool)}
		}), "which is never sent"},
		"acks before the work":      {joinBroken(func(m brokenMember) membership { return &eager{m} }), "nobody gave this answer"},
		"loses messages":            {joinBroken(func(m brokenMember) membership { return &lossy{m} }), "instead of"},
		"skips what it was to park": {joinBroken(func(m brokenMember) membership { return &generous{m} }), "nobody gave this answer"},
	} {
		t.Run(name, func(t *testing.T) {
			requireCaught(t, tt.want, func() mangle { return nil }, tt.join)
		})
	}
}

// The same plans that the embedded server passes tell that these do not work.
func TestABrokenGroupIsCaught(t *testing.T) {
	for name, tt := range map[string]struct {
		mangle func() mangle
		want   string
	}{
		"forgets acks": {toServer(messages.PersistentSubscriptionAckEvents, 5, func([]byte) []byte { return nil }), "it comes"},
		"takes a retry for done": {toServer(messages.PersistentSubscriptionNakEvents, 1, func(b []byte) []byte {
			return rewrite(b, func(m *pb.PersistentSubscriptionNakEvents) {
				if m.GetAction() == pb.PersistentSubscriptionNakEvents_Retry {
					m.Action = pb.PersistentSubscriptionNakEvents_Skip.Enum()
				}
			})
		}), "event"},
		"does not park": {toServer(messages.PersistentSubscriptionNakEvents, 1, func(b []byte) []byte {
			return rewrite(b, func(m *pb.PersistentSubscriptionNakEvents) {
				if m.GetAction() == pb.PersistentSubscriptionNakEvents_Park {
					m.Action = pb.PersistentSubscriptionNakEvents_Skip.Enum()
				}
			})
		}), "it was to be parked"},
		"sends more than the window": {toServer(messages.ConnectToPersistentSubscription, 1, func(b []byte) []byte {
			return rewrite(b, func(m *pb.ConnectToPersistentSubscription) {
				m.AllowedInFlightMessages = proto.Int32(m.GetAllowedInFlightMessages() + 1)
			})
		}), "in a window of"},
		"sends a message twice":      {fromServer(20, func(b []byte) [][]byte { return [][]byte{b, b} }), "it comes with"},
		"loses a message on its way": {fromServer(20, func([]byte) [][]byte { return nil }), ""},
		"does not count retries": {fromServer(1, func(b []byte) [][]byte {
			return [][]byte{rewriteFrame(b, func(m *pb.PersistentSubscriptionStreamEventAppeared) { m.RetryCount = proto.Int32(0) })}
		}), "it comes with 0 retries"},
		"counts retries twice": {fromServer(1, func(b []byte) [][]byte {
			return [][]byte{rewriteFrame(b, func(m *pb.PersistentSubscriptionStreamEventAppeared) {
				m.RetryCount = proto.Int32(2 * m.GetRetryCount())
			})}
		}), "it comes with 2 retries"},
		"RoundRobin stays with one":         {strategyInstead(persistent.RoundRobin, persistent.DispatchToSingle), "both have room"},
		"DispatchToSingle takes turns":      {strategyInstead(persistent.DispatchToSingle, persistent.RoundRobin), "room"},
		"Pinned takes turns":                {strategyInstead(persistent.Pinned, persistent.RoundRobin), "goes from"},
		"PinnedByCorrelation is by streams": {strategyInstead(persistent.PinnedByCorrelation, persistent.Pinned), "goes from"},
	} {
		t.Run(name, func(t *testing.T) { requireCaught(t, tt.want, tt.mangle, joinReal) })
	}
}

// requireCaught runs plans until one is failed, as it should be.
func requireCaught(t *testing.T, want string, mangle func() mangle, join joiner) {
	t.Helper()
	const plans = 40
	for seed := uint64(1); seed <= plans; seed++ {
		if wrong := newGroupPlan(seed).run(t, mangle(), join).check(); wrong != "" {
			require.Contains(t, wrong, want)
			first, _, _ := bytes.Cut([]byte(wrong), []byte("\n"))
			t.Logf("caught by plan %d: %s", seed, first)
			return
		}
	}
	t.Fatalf("%d plans passed", plans)
}

const frameHeader = 4 + 18 // of a frame without credentials

// toServer changes the body of each n-th frame of a command behind where the wire is listened to; nil loses it.
func toServer(command messages.Command, n int, change func(body []byte) []byte) func() mangle {
	return func() mangle {
		count := 0
		return func(f messages.Frame, raw []byte, fromServer bool) [][]byte {
			if fromServer || f.Command != command {
				return [][]byte{raw}
			}
			if count++; count%n != 0 {
				return [][]byte{raw}
			}
			body := change(f.Body)
			if body == nil {
				return nil
			}
			return [][]byte{withBody(raw, len(raw)-len(f.Body), body)}
		}
	}
}

// fromServer changes each n-th delivery before the wire is listened to.
func fromServer(n int, change func(raw []byte) [][]byte) func() mangle {
	return func() mangle {
		count := 0
		return func(f messages.Frame, raw []byte, fromServer bool) [][]byte {
			if !fromServer || f.Command != messages.PersistentSubscriptionStreamEventAppeared {
				return [][]byte{raw}
			}
			if count++; count%n != 0 {
				return [][]byte{raw}
			}
			return change(raw)
		}
	}
}

// strategyInstead makes groups with another strategy than the one that was asked for.
func strategyInstead(of, other persistent.Strategy) func() mangle {
	create := toServer(messages.CreatePersistentSubscription, 1, func(b []byte) []byte {
		return rewrite(b, func(m *pb.CreatePersistentSubscription) {
			if m.GetNamedConsumerStrategy() == string(of) {
				m.NamedConsumerStrategy = proto.String(string(other))
			}
		})
	})
	update := toServer(messages.UpdatePersistentSubscription, 1, func(b []byte) []byte {
		return rewrite(b, func(m *pb.UpdatePersistentSubscription) {
			if m.GetNamedConsumerStrategy() == string(of) {
				m.NamedConsumerStrategy = proto.String(string(other))
			}
		})
	})
	return func() mangle {
		creating, updating := create(), update()
		return func(f messages.Frame, raw []byte, fromServer bool) [][]byte {
			if f.Command == messages.UpdatePersistentSubscription {
				return updating(f, raw, fromServer)
			}
			return creating(f, raw, fromServer)
		}
	}
}

func rewrite[M any, P interface {
	*M
	proto.Message
}](body []byte, change func(P)) []byte {
	m := P(new(M))
	if err := proto.Unmarshal(body, m); err != nil {
		panic(err) // of what a sound peer sent
	}
	change(m)
	b, err := proto.Marshal(m)
	if err != nil {
		panic(err)
	}
	return b
}

func rewriteFrame[M any, P interface {
	*M
	proto.Message
}](raw []byte, change func(P)) []byte {
	return withBody(raw, frameHeader, rewrite[M, P](raw[frameHeader:], change))
}

// withBody is the frame with another body.
func withBody(raw []byte, header int, body []byte) []byte {
	b := append(bytes.Clone(raw[:header]), body...)
	binary.LittleEndian.PutUint32(b, uint32(len(b)-4))
	return b
}
