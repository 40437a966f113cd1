package eventstore_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/scripted"
	"github.com/goeventstore/eventstore/messages"
)

// FuzzHostileServer has a server answer a write, a read and a subscription with whatever the input says: any command and body
// to any of the three, or bytes that are no frame. Every call must return, with a result or one of our errors, and the
// client must close. The input is a list of answers: one byte for whom it is (a fourth choice is raw bytes), one for the
// command, one for the length of the body, and the body.
func FuzzHostileServer(f *testing.F) {
	f.Add([]byte{0, byte(messages.WriteEventsCompleted), 2, 8, 0})
	f.Add([]byte{1, byte(messages.ReadStreamEventsForwardCompleted), 6, 0x0a, 0, 0x10, 0, 0x28, 1})
	f.Add([]byte{2, byte(messages.SubscriptionConfirmation), 0, 2, byte(messages.StreamEventAppeared), 2, 0x0a, 0, 2, byte(messages.SubscriptionDropped), 0})
	f.Add([]byte{0, byte(messages.NotHandled), 2, 8, 2, 1, byte(messages.BadRequest), 1, 'x', 2, byte(messages.NotAuthenticated), 0})
	f.Add([]byte{3, 0xff, 4, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{3, 1, 4, 1, 0, 0, 4})
	f.Fuzz(func(t *testing.T, input []byte) {
		synctest.Test(t, func(t *testing.T) {
			network := scripted.Listen(t, scripted.Identified(func(p *scripted.Peer) { answer(p, input) }))
			c, err := eventstore.Connect(t.Context(), "tcp://"+scripted.Addr, eventstore.WithDialer(network.Dial), eventstore.WithMaxAttempts(2))
			require.NoError(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			var group sync.WaitGroup
			group.Go(func() {
				_, err := c.Append(ctx, "s", eventstore.NoStream, numbered(1))
				ours(t, err)
			})
			group.Go(func() {
				_, err := c.ReadSlice(ctx, "s", eventstore.Start, 10)
				ours(t, err)
			})
			group.Go(func() {
				x, err := c.Open(ctx, messages.Raw(messages.SubscribeToStream, nil), eventstore.Window{Frames: 2, Bytes: 100})
				for err == nil {
					_, err = x.Recv(ctx)
				}
			})
			group.Wait()
			require.NoError(t, c.Close())
		})
	})
}

func answer(p *scripted.Peer, input []byte) {
	var ids [3]messages.ID
	for range ids {
		f, err := p.Reader.Next()
		if err != nil {
			return
		}
		switch f.Command {
		case messages.WriteEvents:
			ids[0] = f.ID
		case messages.ReadStreamEventsForward:
			ids[1] = f.ID
		default:
			ids[2] = f.ID
		}
	}
	for len(input) >= 3 {
		whom, command := input[0]%4, messages.Command(input[1])
		n := min(int(input[2]), len(input)-3)
		body := input[3 : 3+n]
		input = input[3+n:]
		wire := body
		if whom < 3 {
			wire, _ = messages.AppendFrame(nil, ids[whom], nil, messages.Raw(command, body))
		}
		if _, err := p.Conn.Write(wire); err != nil {
			return
		}
	}
}

// ours says that an error is one that a caller can tell from others.
func ours(t *testing.T, err error) {
	t.Helper()
	var op *eventstore.OpError
	if err != nil && !errors.As(err, &op) {
		t.Errorf("%v is no OpError", err)
	}
}

// A server that always has one more empty page: the loop goes on, as such pages are legal, and ends with its context.
func TestEndlessPagesEndWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	pages := 0
	play(t, func(p *scripted.Peer) {
		alive(p, func(f messages.Frame) bool {
			var read messages.StreamRead
			require.NoError(t, read.Decode(f.Body, nil))
			if pages++; pages == 5000 {
				cancel()
				return true
			}
			page := messages.StreamPage{Next: read.From + 1, Last: read.From + 1000}
			p.SendRequest(f.ID, messages.Raw(messages.ReadStreamEventsForwardCompleted, page.AppendTo(nil)))
			return true
		})
	}, func(t *testing.T, c *eventstore.Client) {
		for e, err := range c.ReadStream(ctx, "s", eventstore.Start) {
			require.ErrorIs(t, err, context.Canceled, "%v", e)
		}
		require.Equal(t, 5000, pages)
	})
}

// FuzzHostileAnswers has a server answer each operation with the command that it wants and any body: pages of the log, plain and
// filtered, steps of a transaction, a scavenge, metadata. Each must return, with a result or one of our errors. The first byte
// says which operation, the rest is the body.
func FuzzHostileAnswers(f *testing.F) {
	position := []byte{8, 0, 16, 0, 32, 5, 40, 5} // of the page and of the next
	operations := []struct {
		run   func(ctx context.Context, c *eventstore.Client) error
		seeds [][]byte
	}{
		{func(ctx context.Context, c *eventstore.Client) error {
			_, err := c.ReadAllSlice(ctx, eventstore.Start, 10)
			return err
		}, [][]byte{position, append(position, 0x1a, 4, 0x0a, 0, 24, 1), append(position, 48, 2, 58, 1, 'x'), append(position, 48, 255, 255, 3)}},
		{func(ctx context.Context, c *eventstore.Client) error {
			_, err := c.ReadAllSlice(ctx, eventstore.Start, 10, eventstore.StreamPrefix("s"))
			return err
		}, [][]byte{append(position, 48, 1), append(position, 56, 2, 66, 1, 'x'), append(position, 48, 1, 0x1a, 2, 0x12, 0)}},
		{func(ctx context.Context, c *eventstore.Client) error {
			for _, err := range c.ReadAll(ctx, eventstore.AfterPosition(eventstore.Position{Commit: 9, Prepare: 3}), eventstore.Backward(), eventstore.Limit(3)) {
				return err
			}
			return nil
		}, [][]byte{position}},
		{func(ctx context.Context, c *eventstore.Client) error {
			_, err := c.StartTransaction(ctx, "s", eventstore.Any)
			return err
		}, [][]byte{{8, 1, 16, 0}, {8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 16, 5}}},
		{func(ctx context.Context, c *eventstore.Client) error {
			return c.ContinueTransaction(1).Write(ctx, numbered(1))
		}, [][]byte{{8, 1, 16, 0}, {8, 1, 16, 99}}},
		{func(ctx context.Context, c *eventstore.Client) error {
			_, err := c.ContinueTransaction(1).Commit(ctx)
			return err
		}, [][]byte{{8, 1, 16, 0, 32, 0, 40, 0, 48, 7, 56, 7}, {8, 1, 16, 1, 26, 1, 'x'}, {16, 4}}},
		{
			func(ctx context.Context, c *eventstore.Client) error { _, err := c.Scavenge(ctx); return err },
			[][]byte{{8, 0, 18, 0, 24, 5, 32, 9}, {8, 2, 18, 14, 'A', 'c', 'c', 'e', 's', 's', ' ', 'd', 'e', 'n', 'i', 'e', 'd', '.'}, {8, 1}, {8, 77}},
		},
		{func(ctx context.Context, c *eventstore.Client) error {
			m, err := c.Metadata(ctx, "s")
			if err == nil {
				_, err = m.MarshalJSON()
				if errors.Is(err, eventstore.ErrArgument) {
					err = nil // what a server reads need not be what it is given to write
				}
			}
			return err
		}, [][]byte{{8, 0}, messages.AppendEventRead(nil, messages.ReadEventSuccess, (&messages.EventRecord{
			Stream: "$$s", Type: "$metadata", Data: []byte(`{"$maxAge":9223372036854775807,"$acl":{"$r":["a",null]},"x":{}}`),
		}).AppendTo(nil), nil, "")}},
		{
			func(ctx context.Context, c *eventstore.Client) error { return c.TruncateBefore(ctx, "s", 5) },
			[][]byte{messages.AppendEventRead(nil, messages.ReadEventSuccess, (&messages.EventRecord{
				Stream: "$$s", Type: "$metadata", Data: []byte(`{"$tb":-1,"$maxCount":1e3}`),
			}).AppendTo(nil), nil, "")},
		},
	}
	for i, op := range operations {
		f.Add([]byte{byte(i)})
		for _, seed := range op.seeds {
			f.Add(append([]byte{byte(i)}, seed...))
		}
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		if len(input) == 0 {
			return
		}
		op, body := operations[int(input[0])%len(operations)], input[1:]
		play(t, func(p *scripted.Peer) {
			alive(p, func(f messages.Frame) bool {
				answer := f.Command + 1
				if f.Command == messages.FilteredReadAllEventsBackward {
					answer = messages.FilteredReadAllEventsBackwardCompleted
				}
				b, _ := messages.AppendFrame(nil, f.ID, nil, messages.Raw(answer, body))
				_, err := p.Conn.Write(b)
				return err == nil
			})
		}, func(t *testing.T, c *eventstore.Client) {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			ours(t, op.run(ctx, c))
		}, eventstore.WithMaxAttempts(2))
	})
}
