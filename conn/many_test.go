package conn_test

import (
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/conn"
	"github.com/goeventstore/eventstore/internal/scripted"
	"github.com/goeventstore/eventstore/messages"
)

// runs collects what comes together. It has room for all that a test expects.
type runs chan []string

func (w runs) Reply(_ messages.Command, body []byte) { w <- []string{"alone: " + string(body)} }
func (w runs) End(err error)                         { w <- []string{err.Error()} }

func (w runs) Replies(frames []messages.Frame) {
	var bodies []string
	for i := range frames {
		bodies = append(bodies, string(frames[i].Body))
	}
	w <- bodies
}

// What comes with one read is told together, up to a frame that is for somebody else; nobody's order changes.
func TestWhatComesTogetherIsToldTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const many = 300 // more than are told at once
		beats := 0
		cfg := dialer(scripted.Listen(t, scripted.Identified(func(p *scripted.Peer) {
			first, second, called := p.Want(messages.SubscribeToStream).ID, p.Want(messages.SubscribeToStream).ID, p.Want(messages.Ping).ID
			var out []byte
			send := func(c messages.Command, id messages.ID, body string) {
				out, _ = messages.AppendFrame(out, id, nil, messages.Raw(c, []byte(body)))
			}
			send(messages.StreamEventAppeared, first, "1")
			send(messages.StreamEventAppeared, first, "2")
			send(messages.HeartbeatRequest, first, "") // the id is the server's choice
			send(messages.StreamEventAppeared, first, "3")
			send(messages.Pong, called, "")
			send(messages.StreamEventAppeared, second, "4")
			send(messages.StreamEventAppeared, first, "5")
			for n := range many {
				send(messages.StreamEventAppeared, second, fmt.Sprint(n))
			}
			_, _ = p.Conn.Write(out)
			if p.Want(messages.HeartbeatResponse).ID == first {
				beats++
			}
			scripted.Drain(p)
		})))
		c, err := conn.Dial(t.Context(), cfg)
		require.NoError(t, err)
		first, second := make(runs, 10), make(runs, many)
		for _, w := range []runs{first, second} {
			require.NoError(t, c.Open(c.NextTicket(), messages.Raw(messages.SubscribeToStream, nil), nil, w))
		}
		answer, _, err := call(c, "")
		require.NoError(t, err)
		require.NoError(t, (<-answer).err)
		for _, want := range [][]string{{"1", "2"}, {"3"}, {"5"}} {
			require.Equal(t, want, <-first)
		}
		require.Equal(t, []string{"4"}, <-second)
		synctest.Wait()
		require.Equal(t, 1, beats)
		var all []string
		for len(all) < many {
			run := <-second
			require.Greater(t, len(run), 1, "behind %d", len(all))
			all = append(all, run...)
		}
		for n := range many {
			require.Equal(t, fmt.Sprint(n), all[n])
		}
		require.Empty(t, second)
		require.Zero(t, c.LateFrames())
		c.Close()
		require.Equal(t, []string{conn.ErrClosed.Error()}, <-first)
	})
}
