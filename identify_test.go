package eventstore_test

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/scripted"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// The first frame of every connection says who calls, and that event numbers have 64 bits. It carries no password.
func TestTheFirstFrameSaysWhoCalls(t *testing.T) {
	for name, opts := range map[string][]eventstore.Option{
		"billing":          {eventstore.WithName("billing")},
		"eventstore.test":  nil, // the program's
		"of the target, ä": {},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				connections := 0
				l := &line{Network: scripted.Listen(t, func(p *scripted.Peer) {
					connections++
					f := p.Want(messages.IdentifyClient)
					var m pb.IdentifyClient
					require.NoError(t, (messages.Reply{Body: f.Body}).Unmarshal(&m))
					require.EqualValues(t, 1, m.GetVersion())
					require.Equal(t, name, m.GetConnectionName())
					require.Empty(t, f.Password)
					p.Send(messages.ClientIdentified, f.ID, "")
					alive(p, func(f messages.Frame) bool { p.Send(messages.Pong, f.ID, ""); return true })
				})}
				target := "tcp://admin:secret@" + scripted.Addr
				if opts != nil && len(opts) == 0 {
					target += "?name=of+the+target,+%C3%A4"
				}
				c, err := eventstore.Connect(t.Context(), target, append(opts, eventstore.WithDialer(l.Dial))...)
				require.NoError(t, err)
				require.NoError(t, c.Ping(t.Context()))
				l.cut()
				require.NoError(t, c.Ping(t.Context()))
				require.NoError(t, c.Close())
				synctest.Wait()
				require.Equal(t, 2, connections)
			})
		})
	}
}
