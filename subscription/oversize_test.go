package subscription_test

import (
	"encoding/binary"
	"testing"
	"testing/synctest"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/scripted"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
	"github.com/goeventstore/eventstore/subscription"
)

// The stream begins with events of which more than 70 make a page larger than a frame. Each such page costs a connection: the size
// that worked is kept, until pages are small again.
func TestPagesLargerThanAFrame(t *testing.T) {
	const events, heavy, most = 3000, 200, 70
	synctest.Test(t, func(t *testing.T) {
		var asked []int32
		network := scripted.Listen(t, scripted.Identified(func(p *scripted.Peer) {
			for {
				f, err := p.Reader.Next()
				if err != nil {
					return
				}
				var m messages.StreamRead
				if f.Command == messages.SubscribeToStream {
					p.SendRequest(f.ID, messages.Of(messages.SubscriptionConfirmation, &pb.SubscriptionConfirmation{
						LastCommitPosition: proto.Int64(0), LastEventNumber: proto.Int64(events - 1),
					}))
				}
				if f.Command != messages.ReadStreamEventsForward || m.Decode(f.Body, nil) != nil {
					continue
				}
				asked = append(asked, m.Count)
				if m.From < heavy && m.Count > most {
					b, _ := messages.AppendFrame(nil, f.ID, nil, messages.Raw(messages.ReadStreamEventsForwardCompleted, nil))
					binary.LittleEndian.PutUint32(b, messages.MaxFrame+1)
					_, _ = p.Conn.Write(b)
					return
				}
				next := min(m.From+int64(m.Count), events)
				record := messages.EventRecord{Stream: "s", ID: uuid.New(), Type: "t", Data: make([]byte, 100)}
				if m.From < heavy {
					record.Data = make([]byte, messages.MaxFrame/most/3)
				}
				var page []byte
				for record.Number = m.From; record.Number < next; record.Number++ {
					page = messages.AppendIndexed(page, 1, record.AppendTo(nil), nil)
				}
				end := messages.StreamPage{Next: next, Last: events - 1, EndOfStream: next == events}
				p.SendRequest(f.ID, messages.Raw(messages.ReadStreamEventsForwardCompleted, end.AppendTo(page)))
			}
		}))
		c, err := eventstore.Connect(t.Context(), "tcp://"+scripted.Addr, eventstore.WithDialer(network.Dial))
		require.NoError(t, err)
		defer func() { require.NoError(t, c.Close()) }()
		s, err := subscription.Open(t.Context(), c, subscription.Config{Stream: "s"})
		require.NoError(t, err)
		for i := range events {
			e, err := s.Recv(t.Context())
			require.NoError(t, err)
			require.EqualValues(t, i, e.Event.Number)
		}
		require.NoError(t, s.Close())
		// A page of 62 has a third of a frame, and twice as much would be a risk.
		require.Equal(t, []int32{500, 250, 125, 62, 62, 62, 62, 62, 124, 248, 496, 500}, asked[:12])
	})
}
