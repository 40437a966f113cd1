package server

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/internal/memnet"
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

// slowLog takes its time over one line.
type slowLog struct {
	slog.Handler
	line string
	time time.Duration
}

func (slowLog) Enabled(context.Context, slog.Level) bool { return true }

func (l slowLog) WithAttrs([]slog.Attr) slog.Handler { return l }

func (l slowLog) Handle(_ context.Context, r slog.Record) error {
	if r.Message == l.line {
		time.Sleep(l.time) // virtual
	}
	return nil
}

// TestWhoIsServedIsNotSilent: however long a server takes over a request, what comes behind that lies in the socket. No time is
// short enough or long enough for the peer to be blamed, or to be asked at the wrong moment.
func TestWhoIsServedIsNotSilent(t *testing.T) {
	for _, ms := range []int{1900, 2000, 2100, 3000, 3900, 4000, 4100, 5000, 6500, 9000} {
		takes := time.Duration(ms) * time.Millisecond
		synctest.Test(t, func(t *testing.T) {
			network := memnet.New()
			log := slog.New(slowLog{slog.DiscardHandler, "bad request", takes})
			s, err := Start(Config{Listen: network.Listen, DB: folder(t), Logger: log})
			require.NoError(t, err)
			defer func() { require.NoError(t, s.Close()) }()
			p := (&node{s, network}).peer(t)
			p.send(messages.Raw(messages.Command(0x77), nil))
			time.Sleep(time.Millisecond)
			ping := p.send(messages.Raw(messages.Ping, nil))
			var commands []messages.Command
			for len(commands) == 0 || commands[len(commands)-1] != messages.Pong {
				f, _, ok := p.listen(time.Now())
				require.True(t, ok, "%v: %v", takes, commands)
				commands = append(commands, f.Command)
				require.Equal(t, f.Command == messages.Pong, f.ID == ping)
			}
			require.Equal(t, []messages.Command{messages.BadRequest, messages.Pong}, commands, "%v", takes)
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
