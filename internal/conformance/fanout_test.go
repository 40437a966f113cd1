package conformance_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/listener"
)

// runFanout runs f, and returns when the server has confirmed.
func runFanout(ctx context.Context, t *testing.T, f *listener.Fanout) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	ran := make(chan error, 1) // one run
	first := f.Attach(listener.AttachOptions{})
	go func() { ran <- f.Run(ctx) }()
	require.NoError(t, first.Ready(ctx))
	require.NoError(t, first.Close())
	return func() {
		t.Helper()
		cancel()
		require.NoError(t, <-ran)
	}
}

// TestFanout: what was written before does not come, what is written then does, once and in order, to everybody who is attached,
// over a cut and in a second run.
func TestFanout(t *testing.T) {
	ctx := within(t)
	srv := serve(t)
	client, writer := srv.Client(t), srv.Client(t)
	stream := newStream("fanout")
	f, err := listener.NewFanout(client, listener.FanoutConfig{Stream: stream})
	require.NoError(t, err)
	written := 0
	write := func(n int) {
		t.Helper()
		_, err := writer.Append(ctx, stream, eventstore.ExpectedVersion(written-1), numbered(written, n))
		require.NoError(t, err)
		written += n
	}
	gets := func(c *listener.Consumer, first, n int) {
		t.Helper()
		for i := first; i < first+n; i++ {
			e, err := c.Recv(ctx)
			require.NoError(t, err)
			isNumbered(t, i, e)
		}
	}
	for range 2 {
		write(5)
		first := written
		stop := runFanout(ctx, t, f)
		small, large := f.Attach(listener.AttachOptions{Buffer: 1}), f.Attach(listener.AttachOptions{Buffer: 100})
		write(5)
		gets(small, first, 5)
		srv.Cut()
		write(5)
		gets(small, first+5, 5)
		late := f.Attach(listener.AttachOptions{})
		write(5)
		gets(small, first+10, 5)
		gets(large, first, 15)
		gets(late, first+10, 5)
		stop()
		for _, c := range []*listener.Consumer{small, large, late} {
			_, err := c.Recv(ctx)
			require.ErrorIs(t, err, listener.ErrStopped)
		}
	}
}

// TestFanoutOfNothing: a stream that is not there yet, and its end.
func TestFanoutOfNothing(t *testing.T) {
	ctx := within(t)
	srv := serve(t)
	client := srv.Client(t)
	stream := newStream("fanout")
	f, err := listener.NewFanout(client, listener.FanoutConfig{Stream: stream})
	require.NoError(t, err)
	ran := make(chan error, 1) // one run
	c := f.Attach(listener.AttachOptions{})
	go func() { ran <- f.Run(ctx) }()
	require.NoError(t, c.Ready(ctx))
	require.Equal(t, eventstore.Start, c.Checkpoint())
	_, err = client.Append(ctx, stream, eventstore.NoStream, numbered(0, 2))
	require.NoError(t, err)
	_, err = client.HardDelete(ctx, stream, 1)
	require.NoError(t, err)
	for i := range 2 {
		e, err := c.Recv(ctx)
		require.NoError(t, err)
		isNumbered(t, i, e)
	}
	_, err = c.Recv(ctx)
	require.ErrorIs(t, err, eventstore.ErrStreamDeleted)
	require.ErrorIs(t, <-ran, eventstore.ErrStreamDeleted)
}

// TestFanoutOfEverything: the events of one category, picked by a filter, over a cut.
func TestFanoutOfEverything(t *testing.T) {
	ctx := within(t)
	srv := serve(t)
	client, writer := srv.Client(t), srv.Client(t)
	prefix := newStream("fanout")
	filter := eventstore.StreamPrefix(prefix)
	f, err := listener.NewFanout(client, listener.FanoutConfig{Stream: eventstore.All, Filter: &filter})
	require.NoError(t, err)
	write := func(stream string, version eventstore.ExpectedVersion) {
		t.Helper()
		_, err := writer.Append(ctx, prefix+stream, version, numbered(int(version)+1, 1))
		require.NoError(t, err)
	}
	write("-a", eventstore.NoStream)
	stop := runFanout(ctx, t, f)
	defer stop()
	all, b := f.Attach(listener.AttachOptions{}), f.Attach(listener.AttachOptions{Stream: prefix + "-b"})
	const rounds = 6
	for round := range eventstore.ExpectedVersion(rounds) {
		if round == 3 {
			srv.Cut()
		}
		write("-a", round)
		write("-b", round-1)
	}
	next := func(c *listener.Consumer, stream string, number int) {
		t.Helper()
		e, err := c.Recv(ctx)
		require.NoError(t, err)
		require.Equal(t, prefix+stream, e.Event.Stream)
		isNumbered(t, number, e)
	}
	for round := range rounds {
		next(all, "-a", round+1)
		next(all, "-b", round)
		next(b, "-b", round)
	}
}
