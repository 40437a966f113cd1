package eventstore_test

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/scripted"
	"github.com/goeventstore/eventstore/messages"
)

// throttled is a line of so many bytes a second, towards the server.
type throttled struct {
	net.Conn
	rate int
}

func (c throttled) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b[:min(len(b), 64<<10)])
	time.Sleep(time.Duration(n) * time.Second / time.Duration(c.rate))
	return n, err
}

// slow has a scripted server read no faster than that, and count the appends that come, which it stores.
func slow(rate int, appends *atomic.Int64) func(p *scripted.Peer) {
	return func(p *scripted.Peer) {
		p.Conn = throttled{p.Conn, rate}
		p.Reader = messages.NewReader(p.Conn, 0)
		alive(p, func(f messages.Frame) bool {
			answer := messages.Raw(messages.Pong, nil)
			switch f.Command {
			case messages.WriteEvents:
				appends.Add(1)
				answer = &messages.AppendCompleted{}
			case messages.ReadEvent:
				answer = messages.Raw(messages.ReadEventCompleted, messages.AppendEventRead(nil, messages.ReadEventNoStream, nil, nil, ""))
			default:
			}
			b, _ := messages.AppendFrame(nil, f.ID, nil, answer)
			_, err := p.Conn.Write(b) // the client may have gone
			return err == nil
		})
	}
}

func large(size int) []eventstore.EventData {
	return []eventstore.EventData{{Type: "large", Data: make([]byte, size)}}
}

// 15 MB go over a line of 1 MB a second. They take longer than an attempt, and than any heartbeat, and get through all the same:
// what is not written yet is not sent again, and its server is not silent but busy. So does what stands behind it.
func TestALargeAppendOverASlowLineGetsThrough(t *testing.T) {
	var appends atomic.Int64
	play(t, slow(1<<20, &appends), func(t *testing.T, c *eventstore.Client) {
		begun := time.Now()
		var group sync.WaitGroup
		group.Go(func() {
			_, err := c.Append(t.Context(), "s", eventstore.Any, large(15<<20))
			require.NoError(t, err)
			require.InDelta(t, 15, time.Since(begun).Seconds(), 0.5)
		})
		time.Sleep(time.Second)
		_, err := c.Append(t.Context(), "another", eventstore.Any, numbered(1))
		require.NoError(t, err)
		group.Wait()
		require.EqualValues(t, 2, appends.Load())
		require.Equal(t, eventstore.Connected, c.State().Phase)
	})
}

// The caller's time, or the attempts, end before it got through: the error says how much was still to be written, of how much.
func TestALargeAppendThatDoesNotGetThroughSaysWhy(t *testing.T) {
	for name, test := range map[string]struct {
		opts   []eventstore.Option
		is     error
		after  time.Duration
		behind string
	}{
		"the context ends":    {nil, context.DeadlineExceeded, 10 * time.Second, ""},
		"a single attempt":    {[]eventstore.Option{eventstore.WithMaxAttempts(1)}, eventstore.ErrRetriesExhausted, 7 * time.Second, ""},
		"behind another":      {nil, context.DeadlineExceeded, 10 * time.Second, "behind"},
		"a slower line still": {[]eventstore.Option{eventstore.WithTimeout(time.Second)}, context.DeadlineExceeded, 10 * time.Second, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var appends atomic.Int64
			play(t, slow(1<<20, &appends), func(t *testing.T, c *eventstore.Client) {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				if test.behind != "" {
					c.AppendAsync(ctx, "s", eventstore.Any, large(15<<20))
				}
				begun := time.Now()
				_, err := c.Append(ctx, "s", eventstore.Any, large(15<<20))
				require.Equal(t, test.after, time.Since(begun))
				require.ErrorIs(t, err, test.is)
				require.ErrorIs(t, err, eventstore.ErrTimeout)
				require.ErrorContains(t, err, "of the request's 15728")
				require.ErrorContains(t, err, "bytes were still to be written")
				require.ErrorContains(t, err, test.behind)
				require.True(t, eventstore.MaybeApplied(err))
			}, test.opts...)
		})
	}
}

// A server that is alive, asks for heartbeats, and never reads: the write stands for the time of an attempt, then the connection is
// replaced, and the error says so.
func TestAServerThatNeverReadsIsReplaced(t *testing.T) {
	play(t, func(p *scripted.Peer) {
		if p.Number > 1 {
			alive(p, func(f messages.Frame) bool {
				stored(p, f.ID)
				return true
			})
			return
		}
		for {
			time.Sleep(time.Second)
			b, _ := messages.AppendFrame(nil, messages.ID{1}, nil, messages.Raw(messages.HeartbeatRequest, nil))
			if _, err := p.Conn.Write(b); err != nil {
				return
			}
		}
	}, func(t *testing.T, c *eventstore.Client) {
		begun := time.Now()
		_, err := c.Append(t.Context(), "s", eventstore.Any, large(1<<20))
		require.NoError(t, err)
		require.Less(t, time.Since(begun), 9*time.Second)
	})
	var cause error
	play(t, func(p *scripted.Peer) {
		for {
			time.Sleep(time.Second)
			b, _ := messages.AppendFrame(nil, messages.ID{1}, nil, messages.Raw(messages.HeartbeatRequest, nil))
			if _, err := p.Conn.Write(b); err != nil {
				return
			}
		}
	}, func(t *testing.T, c *eventstore.Client) {
		_, cause = c.Append(t.Context(), "s", eventstore.Any, large(1<<20))
	}, eventstore.WithMaxAttempts(1))
	require.ErrorIs(t, cause, eventstore.ErrConnectionLost)
	require.ErrorContains(t, cause, "the server does not read what is sent to it: nothing for 7s, and ")
}

// Thousands of appends of 64 KiB wait to be written to a slow server. A read does not stand behind them: it changes nothing, and
// goes out with the next part.
func TestABulkWriterDoesNotStarveAReader(t *testing.T) {
	const rate, bulk = 10 << 20, 2000 // 12.5 s of writing
	var appends atomic.Int64
	play(t, slow(rate, &appends), func(t *testing.T, c *eventstore.Client) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var group sync.WaitGroup
		group.Go(func() {
			for range bulk { // as far as the limits of what is in flight let it
				c.AppendAsync(ctx, "bulk", eventstore.Any, large(64<<10))
			}
		})
		for range 5 {
			time.Sleep(time.Second)
			begun := time.Now()
			_, err := c.ReadEvent(t.Context(), "s", eventstore.End)
			require.ErrorIs(t, err, eventstore.ErrStreamNotFound)
			require.Less(t, time.Since(begun), 100*time.Millisecond, "with %d appends of %d done", appends.Load(), bulk)
		}
		require.Less(t, appends.Load(), int64(bulk/2))
		require.Greater(t, appends.Load(), int64(bulk/4), "and readers do not hold writers up")
		cancel()
		group.Wait()
	})
}

// 200 callers append 64 KiB again and again, 20 at a time. Another one appends something small: it waits for its turn like
// everybody, and no longer.
func TestBulkWritersDoNotStarveASmallAppend(t *testing.T) {
	const callers, inFlight = 200, 20
	var appends atomic.Int64
	play(t, slow(20<<20, &appends), func(t *testing.T, c *eventstore.Client) {
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		for range callers {
			group.Go(func() {
				for ctx.Err() == nil {
					_, _ = c.Append(ctx, "bulk", eventstore.Any, large(64<<10))
				}
			})
		}
		for range 3 {
			time.Sleep(time.Second)
			before := appends.Load()
			_, err := c.Append(t.Context(), "small", eventstore.Any, numbered(1))
			require.NoError(t, err)
			require.LessOrEqual(t, appends.Load()-before, int64(callers+inFlight+1))
		}
		cancel()
		group.Wait()
	}, eventstore.WithMaxInFlight(inFlight))
}

// Half of the line is gone: nothing that is sent arrives, and nothing tells so. Heartbeats do, and calls go out again elsewhere.
func TestAHalfOpenLineIsReplaced(t *testing.T) {
	play(t, func(p *scripted.Peer) {
		if p.Number == 1 {
			_, _ = io.Copy(io.Discard, p.Conn)
			return
		}
		stored(p, p.Want(messages.WriteEvents).ID)
		scripted.Drain(p)
	}, func(t *testing.T, c *eventstore.Client) {
		begun := time.Now()
		_, err := c.Append(t.Context(), "s", eventstore.Any, numbered(1))
		require.NoError(t, err)
		require.Equal(t, 3500*time.Millisecond, time.Since(begun))
	})
}
