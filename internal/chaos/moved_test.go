package chaos_test

import (
	"net"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/internal/memnet"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
	"github.com/goeventstore/eventstore/persistent"
	"github.com/goeventstore/eventstore/subscription"
)

// A node loses the lead to another that has the same events, and keeps its connections, as a real one does: nobody is told. The first
// call takes the client along, the calls under way with it, its subscription goes on where it was, and its member joins its group
// there.
func TestALostLeadTakesEverythingAlong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		network := memnet.New()
		onNetwork := eventstoretest.OnNetwork(network)
		first := eventstoretest.Run(t, onNetwork, eventstoretest.ForceEmbedded())
		second := eventstoretest.Run(t, onNetwork, eventstoretest.ForceEmbedded())
		event := func(n int) []eventstore.EventData {
			return []eventstore.EventData{{ID: uuid.NewSHA1(uuid.Nil, []byte(strconv.Itoa(n))), Type: "t", Data: []byte(strconv.Itoa(n))}}
		}
		const before, behind = 10, 50
		settings := persistent.DefaultSettings()
		settings.From = eventstore.Start
		for _, node := range []*eventstoretest.Server{first, second} {
			c := node.Client(t)
			for n := range before {
				_, err := c.Append(ctx, "s", eventstore.ExpectedVersion(n-1), event(n))
				require.NoError(t, err)
			}
			require.NoError(t, persistent.Create(ctx, c, "s", "g", settings))
			require.NoError(t, c.Close())
		}

		target, err := eventstore.ParseTarget(second.URL())
		require.NoError(t, err)
		host, port, err := net.SplitHostPort(target.Addr)
		require.NoError(t, err)
		number, err := strconv.ParseInt(port, 10, 32)
		require.NoError(t, err)
		info, err := proto.Marshal(&pb.LeaderInfo{
			ExternalTcpAddress: &host, ExternalTcpPort: proto.Int32(int32(number)), HttpAddress: &host, HttpPort: proto.Int32(1),
		})
		require.NoError(t, err)
		refusal, err := proto.Marshal(&pb.NotHandled{Reason: pb.NotHandled_NotLeader.Enum(), AdditionalInfo: info})
		require.NoError(t, err)
		var lost atomic.Bool
		first.Intercept(func(f *eventstoretest.Frame) eventstoretest.Fault {
			switch f.Command {
			case messages.WriteEvents, messages.ConnectToPersistentSubscription, messages.ReadStreamEventsForward:
				if lost.Load() {
					return eventstoretest.Answer(messages.NotHandled, refusal)
				}
			}
			return eventstoretest.Pass
		})

		c := first.Client(t)
		sub, err := subscription.Open(ctx, c, subscription.Config{Stream: "s"})
		require.NoError(t, err)
		group, err := persistent.Join(ctx, c, persistent.Config{Stream: "s", Group: "g"})
		require.NoError(t, err)
		of := func(e eventstore.ResolvedEvent, n int) {
			t.Helper()
			require.EqualValues(t, n, e.Event.Number)
			require.Equal(t, strconv.Itoa(n), string(e.Event.Data))
		}
		for n := range before {
			e, err := sub.Recv(ctx)
			require.NoError(t, err)
			of(e, n)
		}
		m, err := group.Recv(ctx)
		require.NoError(t, err)
		of(m.ResolvedEvent, 0)

		lost.Store(true)
		pending := make([]*eventstore.PendingWrite, behind)
		for n := range pending {
			pending[n] = c.AppendAsync(ctx, "s", eventstore.Any, event(before+n))
		}
		stored := make(map[int64]bool)
		for _, p := range pending {
			result, err := p.Wait(ctx)
			require.NoError(t, err)
			stored[int64(result.Last)] = true
		}
		require.Len(t, stored, behind, "each once")
		require.Equal(t, target.Addr, c.State().Addr)
		slice, err := c.ReadSlice(ctx, "s", eventstore.Start, 100)
		require.NoError(t, err)
		require.Len(t, slice.Events, before+behind)
		for n := before; n < before+behind; n++ {
			e, err := sub.Recv(ctx)
			require.NoError(t, err)
			require.Equal(t, slice.Events[n].Event.ID, e.Event.ID)
		}
		// Until the old connection has ended, the member takes what it has of the old group.
		synctest.Wait()
		for n := range before + behind { // of the group of this node, which nobody has been a member of
			m, err := group.Recv(ctx)
			require.NoError(t, err)
			require.EqualValues(t, n, m.Event.Number)
			require.NoError(t, group.Ack(ctx, m))
		}
		require.NoError(t, sub.Close())
		require.NoError(t, group.Close())
	})
}
