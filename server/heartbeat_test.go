package server

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/messages"
)

// listen returns the next frame and when it came after started; ok is false at the end of the connection.
func (p *peer) listen(started time.Time) (f messages.Frame, at time.Duration, ok bool) {
	f, err := p.reader.Next()
	return f, time.Since(started), err == nil
}

// TestHeartbeatTimes has the times of 4.16: the checks run on a grid of 2 s that begins with the connection.
func TestHeartbeatTimes(t *testing.T) {
	const s = time.Second
	tests := []struct {
		what   string
		silent bool // from the first byte on
		answer func(p *peer, f messages.Frame)
		asked  []time.Duration
		closed time.Duration
	}{
		{what: "nothing is ever sent", silent: true, asked: []time.Duration{2 * s}, closed: 3 * s},
		{what: "identify, then silence", asked: []time.Duration{4 * s}, closed: 5 * s},
		{
			what: "idle and answering", silent: true, asked: []time.Duration{2 * s, 5 * s, 8 * s, 11 * s},
			answer: func(p *peer, f messages.Frame) {
				p.write(frame(p.t, f.ID, messages.Raw(messages.HeartbeatResponse, nil)))
			},
		},
		{
			what: "answered with another id", silent: true, asked: []time.Duration{2 * s, 5 * s, 8 * s, 11 * s},
			answer: func(p *peer, _ messages.Frame) {
				p.write(frame(p.t, p.id(), messages.Raw(messages.HeartbeatResponse, nil)))
			},
		},
		{
			what: "answered late with half a frame", silent: true, asked: []time.Duration{2 * s, 5 * s, 8 * s, 11 * s},
			answer: func(p *peer, _ messages.Frame) {
				time.Sleep(800 * time.Millisecond) // virtual
				p.write([]byte{100})
			},
		},
	}
	for _, test := range tests {
		t.Run(test.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := run(t)
				started := time.Now()
				p := n.raw(t)
				if !test.silent {
					p.identify(1)
				}
				for _, at := range test.asked {
					f, when, ok := p.listen(started)
					require.True(t, ok)
					require.Equal(t, messages.HeartbeatRequest, f.Command)
					require.NotEqual(t, messages.ID{}, f.ID)
					require.Equal(t, at, when)
					if test.answer != nil {
						test.answer(p, f)
					}
				}
				if test.answer == nil {
					_, when, ok := p.listen(started)
					require.False(t, ok)
					require.Equal(t, test.closed, when)
				}
			})
		})
	}
}

// TestDrippingKeepsAConnectionAlive: any byte is a sign of life, so nothing is ever asked.
func TestDrippingKeepsAConnectionAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := run(t).peer(t)
		p.write([]byte{200, 0, 0, 0})
		for range 100 {
			time.Sleep(500 * time.Millisecond) // virtual
			p.write([]byte{3})
		}
		require.Zero(t, p.conn.Buffered())
	})
}

// TestAnHourOfHeartbeats: an idle client that answers stays for as long as it likes.
func TestAnHourOfHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := run(t).peer(t)
		started := time.Now()
		count := 0
		for time.Since(started) < time.Hour {
			f, _, ok := p.listen(started)
			require.True(t, ok)
			require.Equal(t, messages.HeartbeatRequest, f.Command)
			p.write(frame(t, f.ID, messages.Raw(messages.HeartbeatResponse, nil)))
			count++
		}
		require.Equal(t, 1200, count) // at 4, 7, 10 s and so on
	})
}

// TestClientHeartbeats: the answer has the same id and never a body.
func TestClientHeartbeats(t *testing.T) {
	p := run(t).peer(t)
	for _, body := range []string{"", "body"} {
		a := p.call(messages.Raw(messages.HeartbeatRequest, []byte(body)))
		require.Equal(t, messages.HeartbeatResponse, a.command)
		require.Empty(t, a.body)
	}
}
