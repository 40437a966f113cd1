package eventstore_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/memnet"
	"github.com/goeventstore/eventstore/internal/scripted"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
	"github.com/goeventstore/eventstore/server"
)

func sized(n int) []eventstore.EventData {
	return []eventstore.EventData{{Type: "t", Data: make([]byte, n-1)}}
}

// Appends wait for room in bytes, in their order, and no read waits behind them.
func TestAppendsWaitForRoomAndReadsDoNot(t *testing.T) {
	var held []messages.ID
	serve := func(p *scripted.Peer) {
		alive(p, func(f messages.Frame) bool {
			if f.Command == messages.WriteEvents {
				held = append(held, f.ID)
				return true
			}
			if string(f.Body) == "release" {
				for _, id := range held {
					stored(p, id)
				}
				held = nil
			}
			p.Send(messages.Pong, f.ID, "")
			return true
		})
	}
	play(t, serve, func(t *testing.T, c *eventstore.Client) {
		done := make(chan int, 4)
		write := func(n int) {
			go func() {
				_, err := c.Append(t.Context(), "s", eventstore.Any, sized(n))
				if err != nil {
					t.Error(err)
				}
				done <- n
			}()
			synctest.Wait()
		}
		write(600)
		write(500) // no room beside the first
		write(10)  // in line behind the second
		require.Empty(t, done)
		s := c.Stats()
		require.EqualValues(t, 1, s.InFlight)
		require.EqualValues(t, 600, s.InFlightBytes)
		require.EqualValues(t, 2, s.Queued)
		require.NoError(t, c.Ping(t.Context()), "a reader is in nobody's way")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := c.Append(ctx, "s", eventstore.Any, sized(20))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.EqualValues(t, 2, c.Stats().Queued)
		release := func() {
			require.NoError(t, ignore(c.Call(t.Context(), messages.Raw(messages.Ping, []byte("release")))))
			synctest.Wait()
		}
		release()
		require.Equal(t, 600, <-done)
		require.EqualValues(t, 510, c.Stats().InFlightBytes)
		release()
		require.Len(t, done, 2)
		require.Zero(t, c.Stats().InFlightBytes)
	}, eventstore.WithMaxInFlightBytes(1000))
}

// One that is larger than the limit goes alone.
func TestALargeAppendGoesAlone(t *testing.T) {
	c := embedded(t, eventstore.WithMaxInFlightBytes(1000))
	p := c.AppendAsync(t.Context(), "s", eventstore.Any, sized(100))
	_, err := c.Append(t.Context(), "s", eventstore.Any, sized(5000))
	require.NoError(t, err)
	_, err = p.Wait(t.Context())
	require.NoError(t, err)
	require.Zero(t, c.Stats().InFlightBytes)
	require.Zero(t, c.Stats().InFlight)
}

func TestAFullQueueIsAnError(t *testing.T) {
	play(t, scripted.Drain, func(t *testing.T, c *eventstore.Client) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for range 3 { // one in flight, two in line
			go func() { _ = c.Ping(ctx) }()
		}
		synctest.Wait()
		require.EqualValues(t, 2, c.Stats().Queued)
		for _, err := range []error{
			c.Ping(ctx),
			func() error { _, err := c.Append(ctx, "s", eventstore.Any, numbered(1)); return err }(),
			func() error {
				_, err := c.AppendAsync(ctx, "s", eventstore.Any, numbered(1)).Wait(ctx)
				return err
			}(),
		} {
			require.ErrorIs(t, err, eventstore.ErrQueueFull)
			require.True(t, eventstore.Retryable(err))
			require.False(t, eventstore.MaybeApplied(err))
		}
		<-ctx.Done()
		synctest.Wait()
		require.Zero(t, c.Stats().Queued)
		require.Zero(t, c.Stats().InFlightBytes)
	}, eventstore.WithMaxInFlight(1), eventstore.WithQueue(2))
}

// While there is no connection the queue is that of calls which were never sent; those that were always find room.
func TestTheQueueForAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &line{Network: memnet.New()}
		srv, err := server.Start(server.Config{Listen: l.Listen})
		require.NoError(t, err)
		c, err := eventstore.Connect(t.Context(), srv.URL(), eventstore.WithDialer(l.Dial), eventstore.WithQueue(1))
		require.NoError(t, err)
		l.refuse = errors.New("nobody is there")
		l.cut()
		synctest.Wait()
		first := make(chan error, 1)
		go func() { first <- c.Ping(t.Context()) }()
		synctest.Wait()
		require.ErrorIs(t, c.Ping(t.Context()), eventstore.ErrQueueFull)
		l.mu.Lock()
		l.refuse = nil
		l.mu.Unlock()
		require.NoError(t, <-first)
		require.NoError(t, c.Ping(t.Context()))
		require.Zero(t, c.Stats().Queued)
		require.NoError(t, c.Close())
		require.NoError(t, srv.Close())
	})
}

// Nobody waits for a connection: not a new call, nor one whose connection goes, which may have been applied.
func TestFailFast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &line{Network: scripted.Listen(t, scripted.Identified(func(p *scripted.Peer) {
			alive(p, func(f messages.Frame) bool {
				if f.Command == messages.Ping {
					p.Send(messages.Pong, f.ID, "")
				}
				return true
			})
		}))}
		c, err := eventstore.Connect(t.Context(), "tcp://"+scripted.Addr+"?failFast=true", eventstore.WithDialer(l.Dial))
		require.NoError(t, err)
		lost := make(chan error, 1)
		go func() {
			_, err := c.Append(t.Context(), "s", eventstore.Any, numbered(1))
			lost <- err
		}()
		time.Sleep(time.Second)
		l.mu.Lock()
		l.refuse = errors.New("nobody is there")
		l.mu.Unlock()
		begun := time.Now()
		l.cut()
		err = <-lost
		require.ErrorIs(t, err, eventstore.ErrConnectionLost)
		require.ErrorIs(t, err, eventstore.ErrDisconnected)
		require.True(t, eventstore.MaybeApplied(err))
		synctest.Wait()
		for _, err := range []error{
			c.Ping(t.Context()),
			func() error { _, err := c.Append(t.Context(), "s", eventstore.Any, numbered(1)); return err }(),
			func() error {
				_, err := c.AppendAsync(t.Context(), "s", eventstore.Any, numbered(1)).Wait(t.Context())
				return err
			}(),
		} {
			require.ErrorIs(t, err, eventstore.ErrDisconnected)
			require.ErrorContains(t, err, "not connected: connect to server:1113: nobody is there")
			require.True(t, eventstore.Retryable(err))
			require.False(t, eventstore.MaybeApplied(err))
		}
		require.Equal(t, begun, time.Now())
		l.mu.Lock()
		l.refuse = nil
		l.mu.Unlock()
		for s := range c.Watch(t.Context()) {
			if s.Phase == eventstore.Connected {
				break
			}
		}
		require.NoError(t, c.Ping(t.Context()))
		require.NoError(t, c.Close())
	})
}

// A read-only client sends nothing that changes anything; every command of the protocol is one or the other.
func TestReadOnly(t *testing.T) {
	writer := embedded(t)
	_, err := writer.Append(t.Context(), "s", eventstore.NoStream, numbered(3))
	require.NoError(t, err)
	c := embedded(t, eventstore.WithReadOnly())
	for name, change := range map[string]func() error{
		"append": func() error { _, err := c.Append(t.Context(), "s", eventstore.Any, numbered(1)); return err },
		"async": func() error {
			_, err := c.AppendAsync(t.Context(), "s", eventstore.Any, numbered(1)).Wait(t.Context())
			return err
		},
		"delete":      func() error { _, err := c.Delete(t.Context(), "s", eventstore.Any); return err },
		"hard delete": func() error { _, err := c.HardDelete(t.Context(), "s", eventstore.Any); return err },
		"transaction": func() error { _, err := c.StartTransaction(t.Context(), "s", eventstore.Any); return err },
		"metadata": func() error {
			_, err := c.SetMetadata(t.Context(), "s", eventstore.Any, eventstore.StreamMetadata{})
			return err
		},
		"write":  func() error { return ignore(c.Call(t.Context(), messages.Raw(messages.WriteEvents, nil))) },
		"commit": func() error { return ignore(c.Call(t.Context(), messages.Raw(messages.TransactionCommit, nil))) },
		"create": func() error {
			return ignore(c.Call(t.Context(), messages.Raw(messages.CreatePersistentSubscription, nil)))
		},
		"scavenge": func() error { return ignore(c.Call(t.Context(), messages.Raw(messages.ScavengeDatabase, nil))) },
		"unknown":  func() error { return ignore(c.Call(t.Context(), messages.Raw(0x7F, nil))) },
		"open": func() error {
			_, err := c.Open(t.Context(), messages.Raw(messages.UpdatePersistentSubscription, nil), window)
			return err
		},
	} {
		err := change()
		require.ErrorIs(t, err, eventstore.ErrReadOnly, name)
		require.False(t, eventstore.MaybeApplied(err), name)
		require.Zero(t, c.Stats().InFlight, name)
	}
	require.NoError(t, c.Ping(t.Context()))
	_, err = c.ReadEvent(t.Context(), "s", eventstore.End)
	require.ErrorIs(t, err, eventstore.ErrStreamNotFound)
	x, err := c.Open(t.Context(), messages.Of(messages.SubscribeToStream, &pb.SubscribeToStream{EventStreamId: new(string), ResolveLinkTos: new(bool)}), window)
	require.NoError(t, err)
	require.NoError(t, x.Close())
}

func ignore(_ messages.Reply, err error) error { return err }
